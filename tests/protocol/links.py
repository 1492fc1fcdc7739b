"""Two links and the connections between them, by hand: what the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.events import Event
from mpccomm.protocol.frames import Bounds, Frame, Hello, Key, Resume
from mpccomm.protocol.link import Link
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.sender import Outgoing
from mpccomm.settings import Limits, Timing

BOUNDS = Bounds(2**30, 1000, 2**30, 1000, 1000)
NONCES = iter(range(1, 2**60))


def new_link(
    name: str,
    limits: Limits | None = None,
    now: float = 0.0,
    *,
    timing: Timing | None = None,
    alone: Callable[[], bool] = lambda: False,
) -> Link:
    return Link(
        incarnation=name.encode().ljust(16, b"."),
        nonce=lambda: next(NONCES).to_bytes(16, "big"),
        limits=limits or Limits(),
        timing=timing or Timing(),
        now=now,
        alone=alone,
    )


def message(key: Key, *segments: bytes | bytearray, awaited: bool = True) -> Outgoing:
    made = Outgoing(segments or (b"contents",), ordered=False, awaited=awaited)
    made.address(key)
    return made


def receive(key: Key, now: float = 0.0) -> Receive:
    return Receive(key, now)


def told(link: Link) -> list[type[Event]]:
    """Return the kinds of the events since the last call."""
    events, link.events = link.events, []
    return [type(event) for event in events]


def finished(link: Link) -> list[Receive | Outgoing]:
    """Return the calls that have ended since the last call of this."""
    done = list(link.finished)
    link.finished.clear()
    return done


def ending(request: Receive | Outgoing) -> Enum | None:
    """Return why a call failed; None: it did not."""
    return None if request.failure is None else request.failure.ending


class Pair:
    """Two links, and one wire between them; ``first`` dialled it."""

    def __init__(self, first: Link, second: Link, now: float = 0.0) -> None:
        self.now = now
        self.links = (first, second)
        self.ends = (first.open(dialled=True, now=now), second.open(dialled=False, now=now))

    def move(self, sender: int) -> bytes:
        """Move one batch from one end to the other."""
        batch = self.links[sender].to_send(self.ends[sender], self.now)
        if batch:
            self.links[1 - sender].received(self.ends[1 - sender], batch, self.now)
        return batch

    def pump(self) -> None:
        """Carry batches until neither end has anything to send."""
        while self.move(0) or self.move(1):
            pass

    def lose(self) -> None:
        """Cut the wire."""
        for link, end in zip(self.links, self.ends, strict=True):
            link.lost(end)


def connected(first: Link, second: Link, now: float = 0.0) -> Pair:
    pair = Pair(first, second, now)
    pair.pump()
    assert first.connected
    assert second.connected
    return pair


def batch_of(*some_frames: bytes, positions: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    return b"".join((frames.POSITIONS.pack(*positions), *some_frames))


def parsed(batch: bytes) -> list[Frame]:
    return list(frames.parse(batch, max_id_size=1000)) if batch else []


class Stranger:
    """The other end of a connection, played by the test, which can send what no link would."""

    def __init__(self, link: Link, name: str = "stranger", now: float = 0.0, *, dialled: bool = False) -> None:
        self.link = link
        self.now = now
        self.incarnation = name.encode().ljust(16, b".")
        self.positions = (0, 0, 0)
        """What the head of our batches says."""
        self.heard: tuple[int, ...] | None = None
        """What the head of the last batch said that came from the link; None: there was none."""
        self.connection: Connection = link.open(dialled=dialled, now=now)
        (self.hello,) = (frame for frame in self.hear() if isinstance(frame, Hello))

    def say(self, *batch: bytes) -> None:
        self.link.received(self.connection, batch_of(*batch, positions=self.positions), self.now)

    def hear(self) -> list[Frame]:
        batch = self.link.to_send(self.connection, self.now)
        self.heard = frames.POSITIONS.unpack_from(batch) if batch else None
        return parsed(batch)

    def greet(
        self, bounds: Bounds = BOUNDS, version: int = frames.PROTOCOL_VERSION, features: int = 0
    ) -> Resume | None:
        """Say HELLO. Returns the answer, if there is one."""
        self.say(frames.hello(Hello(version, self.incarnation, b"n" * 16, 0, features, bounds)))
        return next((frame for frame in self.hear() if isinstance(frame, Resume)), None)

    def resume(self, *, accepted: bool = True, positions: tuple[int, int, int] = (0, 0, 0)) -> None:
        self.say(frames.resume(Resume(self.hello.nonce, accepted, *positions)))

    def meet(self, bounds: Bounds = BOUNDS, features: int = 0) -> Stranger:
        """The whole greeting."""
        self.greet(bounds, features=features)
        self.resume()
        return self

    def start(
        self, seq: int, key: Key = "k", data: bytes = b"", *, segments: int = 1, total: int | None = None
    ) -> None:
        name = frames.encode_key(key)
        if total is None and segments == 1:
            self.say(frames.message_head(seq, name, False, len(data)), data)
        else:
            total = len(data) if total is None else total
            self.say(frames.start_head(seq, name, False, segments, total, len(data)), data)

    def part(self, seq: int, number: int, data: bytes) -> None:
        self.say(frames.part_head(seq, number, len(data)), data)

    def closing_codes(self) -> Iterator[int]:
        closing, self.link.closing = self.link.closing, []
        return (code for connection, code, _ in closing if connection is self.connection)
