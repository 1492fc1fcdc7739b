"""What a party may say from its HELLO to its GOODBYE, in any order, on any of its connections, while our program goes on.

Each pair of bytes is a step, so that a fuzzer can make sequences, too. A frame is well-formed; when it comes, and what it says
of the ones before it, is arbitrary.
"""

from __future__ import annotations

from collections import Counter

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import MAX_BATCH, Blocked, Bounds, Goodbye, Hello, Kind, Resume
from mpccomm.protocol.link import Link
from mpccomm.protocol.states import CloseCode, PartyState
from mpccomm.settings import Limits, Timing
from tests.protocol.frames_mutation import part, start
from tests.protocol.links import message, receive

LIMITS = Limits(box_bytes=4000, box_messages=6, max_message_size=2000, max_segments=4, max_id_size=16)
KEYS: list[frames.Key] = ["id", ("", 0), ("", 1), ("p", 0)]
INCARNATIONS = (b"f" * 16, b"g" * 16)
CONNECTIONS = 3
LONGEST = 400
"""The largest number of steps."""


class Course:
    """One link of ours, and what the other side makes it go through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nonces = 0
        self.link = Link(
            incarnation=b"w" * 16, nonce=self._nonce, limits=LIMITS, timing=Timing(deadlock_after=5.0), now=0.0
        )
        self.link.port = 1
        self.connections: list[Connection] = []
        self.batch = b""
        self.taken: Counter[tuple[object, int]] = Counter()
        self.codes: Counter[str] = Counter()
        self.kinds: set[Kind] = set()
        self.sent = 0

    def _nonce(self) -> bytes:
        self.nonces += 1
        return self.nonces.to_bytes(16, "big")

    # -- what they do --------------------------------------------------------------------------------------------------

    def say(self, kind: Kind, what: int) -> bytes:
        """Return a frame of that kind."""
        self.kinds.add(kind)
        key = KEYS[what // 6 % 4]
        # The next one, or any.
        seq = self.link.receiver.received + 1 if what % 8 else 1 + what // 8 % 6
        match kind:
            case Kind.HELLO:
                bounds = Bounds(2**20, 100, 2**20 >> (what % 3 * 9), 64, 64)
                version = frames.PROTOCOL_VERSION + (what % 16 == 15)
                features = what // 32 & (frames.ANNOTATIONS | frames.SUCCESSORS) | frames.VISIT * (what % 7 == 6)
                return frames.hello(Hello(version, INCARNATIONS[what % 5 == 4], b"o" * 16, 1, features, bounds))
            case Kind.RESUME:
                # Most often of a connection that there is.
                nonce = max(self.nonces - (what % 4 == 3), 0)
                return frames.resume(Resume(nonce.to_bytes(16, "big"), what % 8 != 7, what // 8 % 3, 0, 0))
            case Kind.MESSAGE:
                return start(seq, key, bytes([what]) * (what % 50))
            case Kind.START:
                return start(seq, key, b"s" * (what % 7), total=what * 9 % 2500)
            case Kind.PART:
                return part(seq, what // 6 % 3, b"p" * (what * 5 % 900))
            case Kind.PING:
                return frames.ping(what)
            case Kind.PONG:
                return frames.pong(what % 3)
            case Kind.BLOCKED:
                return frames.blocked(
                    Blocked(what % 5, what * 7, what % 3, what % 4, what % 2 > 0, what % 3 > 1, (key,))
                )
            case Kind.DEADLOCK:
                return frames.deadlock(what % 2 > 0, what % 3 > 1)
            case Kind.GOODBYE:
                return frames.goodbye(Goodbye(what % 3, what % 5, what % 7, (key,), what % 11 > 5))
            case Kind.FAREWELL:
                return frames.farewell()
            case Kind.ABORT:
                return frames.abort("enough")
            case Kind.ADMIT:
                return frames.admit(what % 5)

    def deliver(self, what: int) -> None:
        """Have what was said arrive, on one of the connections."""
        if not self.connections:
            return
        head = frames.POSITIONS.pack(*((what % 3, what % 5, what % 4) if what % 8 == 7 else (0, 0, 0)))
        connection = self.connections[what % len(self.connections)]
        batch, self.batch = head + self.batch, b""
        self.link.received(connection, batch, self.now)

    # -- what we do ----------------------------------------------------------------------------------------------------

    def take(self, what: int) -> None:
        """Receive; each message is there once, and is what it said it is."""
        key = KEYS[what % 4]
        found = self.link.take(key, self.now)
        if found is None:
            if what % 3 == 0 and self.link.ending is None:
                self.link.receive(receive(key, self.now))
            return
        assert found.key == key
        assert sum(map(len, found.segments)) == found.total <= LIMITS.max_message_size
        if what % 5 == 4:
            self.link.put_back(found, self.now)
        else:
            # A number begins anew with another incarnation, and after a start from nothing.
            self.taken[found.receiver, found.seq] += 1
            assert self.taken[found.receiver, found.seq] == 1

    def step(self, action: int, what: int) -> None:
        """Do one thing."""
        link = self.link
        if action < 150:
            rare = action < 40 or what % 16 == 0
            kind = Kind(1 + action % 13) if rare else (Kind.MESSAGE, Kind.START, Kind.PART, Kind.PING)[action % 4]
            self.batch = (self.batch + self.say(kind, what))[-MAX_BATCH // 2 :]
            if what % 4:
                self.deliver(what)
        elif action < 165 or (not self.link.connected and action % 2):
            if len(self.connections) == CONNECTIONS:
                self.connections.pop(0)
            self.connections.append(link.open(dialled=what % 2 > 0, now=self.now))
            if what % 3:  # a greeting as it should be, so that not all ends at once
                self.batch = self.say(Kind.HELLO, 0) + self.say(Kind.RESUME, 0)
                self.deliver(len(self.connections) - 1)
        elif action < 190:
            self.take(what)
        elif action < 205:
            if link.ending is None and not link.leaving:
                link.send(message(KEYS[what % 4], b"x" * what))
        elif action < 230:
            self.now += (0.01, 0.3, 3.0, 40.0)[what % 4]
            link.tick(self.now)
        elif action < 240:
            if self.connections:
                link.lost(self.connections.pop(what % len(self.connections)))
        elif action < 250:
            link.accept_restart(self.now)
        elif what < 8:
            link.leave()
            link.say_goodbye()
        elif what < 12:
            link.abort("ours")

    def check(self) -> None:
        """Check what must hold after each step."""
        link = self.link
        for connection in self.connections:
            batch = link.to_send(connection, self.now)
            assert len(batch) <= MAX_BATCH
            if batch:
                list(frames.parse(batch, max_id_size=1024))
        for closing in link.closing:
            assert isinstance(closing.code, CloseCode)
            assert closing.reason.isprintable()
            self.codes[closing.code.name] += 1
        link.closing.clear()
        link.events.clear()
        link.finished.clear()
        box = link.receiver.box
        assert box.messages <= LIMITS.box_messages + 1
        assert isinstance(link.state, PartyState)


def run(data: bytes) -> Course:
    """Go through the steps in *data*; AssertionError, or whatever else is raised, tells of a fault."""
    course = Course()
    for action, what in zip(data[: 2 * LONGEST : 2], data[1 : 2 * LONGEST : 2], strict=False):
        course.step(action, what)
        course.check()
    return course
