"""Batches as links really send them, damaged; and what a link has to make of whatever arrives.

Shared by the test suite and by the fuzz target `fuzz/frames.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from struct import Struct

from mpccomm.protocol import frames
from mpccomm.protocol.frames import MAX_BATCH, Bounds, Hello, Kind, Resume, ViolationError, parse
from mpccomm.protocol.link import Link
from mpccomm.protocol.states import CloseCode
from mpccomm.settings import Limits, Timing

LIMITS = Limits(box_bytes=1 << 20, box_messages=100, max_message_size=1 << 20, max_segments=64, max_id_size=64)
INCARNATION = b"f" * 16
NONCE = b"n" * 16
OURS = b"o" * 16
_HEADER = Struct("!BBHI")
_HEAD = bytes(frames.BATCH_HEAD)


def greeting(port: int = 1, features: int = 0) -> bytes:
    """Return what the other side sends first."""
    bounds = Bounds(2**20, 100, 2**20, 64, 64)
    return frames.hello(Hello(frames.PROTOCOL_VERSION, INCARNATION, OURS, port, features, bounds))


def resume(accepted: bool = True, received: int = 0) -> bytes:
    """Return its answer to our HELLO, whose nonce is always the same here."""
    return frames.resume(Resume(NONCE, accepted, received, 0, 0))


def start(seq: int, key: frames.Key, data: bytes, *, total: int | None = None, segments: int = 1) -> bytes:
    name = frames.encode_key(key)
    if total is None and segments == 1:
        return frames.message_head(seq, name, False, len(data)) + data
    return frames.start_head(seq, name, False, segments, len(data) if total is None else total, len(data)) + data


def part(seq: int, number: int, data: bytes) -> bytes:
    return frames.part_head(seq, number, len(data)) + data


def table(*lengths: int) -> bytes:
    return b"".join(length.to_bytes(8, "big") for length in lengths)


SEEDS: list[bytes] = [
    greeting() + resume(),
    greeting() + resume() + start(1, "id", b"x" * 10) + start(2, ("", 0), b"y"),
    greeting()
    + resume()
    + start(1, ("p", 0), b"abc", total=9)
    + part(2, 0, b"def")
    + start(3, "s", b"")
    + part(4, 0, b"ghi"),
    greeting() + resume() + start(1, "m", table(3, 0, 5) + b"abcdefgh", segments=3) + frames.ping(7),
    greeting() + resume() + frames.ping(1) + frames.blocked(frames.Blocked(3, 100, 0, 0, True, False, ("a", ("b", 2)))),
    greeting() + resume() + frames.deadlock(True, True) + frames.goodbye(frames.Goodbye(0, 1, 2, ("left", ("", 3)))),
    greeting() + resume() + frames.abort("enough of it") + frames.farewell(),
    greeting() + resume(accepted=False) + resume() + start(1, "id", b"x"),
    greeting(features=frames.VISIT) + resume() + frames.ping(1) + start(1, "id", b"x") + frames.farewell(),
    greeting(features=frames.SUCCESSORS) + resume() + frames.goodbye(frames.Goodbye(0, 0, 0, (), True)),
]
VISIT = len(SEEDS) - 2
"""The index of the seed that changes nothing."""


def attempt(data: bytes) -> str:
    """Let a link have it. Whatever it is: at worst the connection ends, with a code that says so; nothing else happens.

    :returns: what became of it, for those who count
    """
    try:
        for _ in parse(_HEAD + data, max_id_size=LIMITS.max_id_size):
            pass
    except ViolationError:
        pass
    link = Link(incarnation=b"w" * 16, nonce=lambda: NONCE, limits=LIMITS, timing=Timing(), now=0.0)
    connection = link.open(dialled=False, now=0.0)
    for number, batch in enumerate(cut(data)):
        now = 0.1 * number
        link.received(connection, batch, now)
        link.tick(now)
        assert len(link.to_send(connection, now)) <= MAX_BATCH
        for _, code, reason in link.closing:
            assert isinstance(code, CloseCode)
            assert reason.isprintable(), repr(reason)
        receiver = link.receiver
        assert receiver.box.messages <= LIMITS.box_messages
        assert receiver.box.messages <= 1 or receiver.box.bytes <= LIMITS.box_bytes
        if link.closing:
            return link.closing[0][1].name
        link.events.clear()
        link.finished.clear()
    for message in list(link.mailbox.unread()):
        assert sum(map(len, message.segments)) <= LIMITS.max_message_size
    return link.state.name


def cut(data: bytes) -> Iterator[bytes]:
    """The greeting comes by itself, what follows in batches."""
    for at in range(0, max(len(data), 1), MAX_BATCH):
        yield _HEAD + data[at : at + MAX_BATCH]


class Mutator:
    """Damages batches with a knowledge of what they are made of. Their heads are the business of `attempt`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutate(self, data: bytes) -> bytes:
        """One batch, a little different."""
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 8))):
            data = self.random.choice(self._ways)(self, data)
        return data

    def _byte(self, data: bytes) -> bytes:
        damaged = bytearray(data or b"\0")
        damaged[self.random.randrange(len(damaged))] = self.random.choice(
            (0, 1, 127, 128, 255, self.random.randrange(256))
        )
        return bytes(damaged)

    def _number(self, data: bytes) -> bytes:
        size = self.random.choice((1, 2, 4, 8))
        if len(data) < size:
            return data
        at = self.random.randrange(len(data) - size + 1)
        top = 1 << 8 * size
        found = int.from_bytes(data[at : at + size], "big")
        number = self.random.choice(
            (0, 1, top - 1, top // 2, found + 1, found - 1, found * 2, self.random.randrange(top))
        )
        return data[:at] + (number % top).to_bytes(size, "big") + data[at + size :]

    def _cut(self, data: bytes) -> bytes:
        at = self.random.randrange(len(data) + 1)
        return data[:at] + data[min(len(data), at + self.random.choice((1, 8, len(data)))) :]

    def _frames(self, data: bytes) -> bytes:
        pieces = list(split(data))
        if not pieces:
            return data
        one, other = self.random.randrange(len(pieces)), self.random.randrange(len(pieces))
        what = self.random.randrange(4)
        if what == 0:
            del pieces[one]
        elif what == 1:
            pieces[one], pieces[other] = pieces[other], pieces[one]
        elif what == 2:
            often = self.random.choice((1, 2, 3000))
            pieces[one:one] = [pieces[other]] * min(often, 1 + MAX_BATCH // (8 * len(pieces[other])))
        else:
            pieces[one:one] = [self.random.choice(list(split(self.random.choice(SEEDS))))]
        return b"".join(pieces)

    def _body(self, data: bytes) -> bytes:
        """Another body under a header that fits it."""
        pieces = list(split(data))
        if not pieces:
            return data
        at = self.random.randrange(len(pieces))
        body = self._number(pieces[at][_HEADER.size :]) + self.random.randbytes(self.random.choice((0, 0, 1, 30)))
        kind = self.random.choice((pieces[at][0], self.random.choice(list(Kind)), self.random.randrange(256)))
        flags = self.random.choice((pieces[at][1], 0, 1, 2, 3, self.random.randrange(256)))
        id_size = self.random.choice((int.from_bytes(pieces[at][2:4], "big"), 0, 1, self.random.randrange(65536)))
        pieces[at] = _HEADER.pack(kind, flags, id_size, len(body)) + body
        return b"".join(pieces)

    _ways: tuple[Callable[[Mutator, bytes], bytes], ...] = (_byte, _number, _cut, _frames, _body, _body)


def split(data: bytes) -> Iterator[bytes]:
    """The frames as their headers have them, as far as that goes."""
    at = 0
    while at + _HEADER.size <= len(data):
        end = at + _HEADER.size + _HEADER.unpack_from(data, at)[3]
        yield data[at:end]
        at = end
