"""The connections to one party, as the link sees them: how far their handshakes have come, and which one we send on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from mpccomm.protocol.frames import Blocked, Hello, Kind, ViolationError
from mpccomm.protocol.sender import Sent
from mpccomm.protocol.states import CONNECTION, ConnectionState

IDLE_BURST = 2000
IDLE_RATE = 500
"""How many frames without progress are granted per second."""
REWOUND = 50
"""What it counts for when a run of frames that were here before begins once more."""
MOST_UNVERIFIED = 16
"""Connections whose handshake is not complete; with one more the oldest is closed."""
MOST_VERIFIED = 16
"""Connections whose handshake is complete, of which only one is needed; with one more the oldest is closed."""

_NEXT = {
    state: {kind: after for (before, kind), after in CONNECTION.items() if before is state} for state in ConnectionState
}


class Connection:
    """The link's notes on a connection. The transport keeps it as a handle and looks at nothing inside."""

    __slots__ = (
        "_blocked",
        "again",
        "ahead",
        "alone",
        "awaiting",
        "closed",
        "closed_there",
        "control",
        "dialled",
        "heard",
        "hello",
        "idle",
        "idle_at",
        "more",
        "nonce",
        "number",
        "opened",
        "pinged",
        "position",
        "relayed",
        "repeated",
        "state",
        "suspect",
        "told_accepted",
        "trickling",
        "verified",
        "visit",
    )

    def __init__(self, number: int, *, dialled: bool, nonce: bytes, now: float, relayed: bool = False) -> None:
        self.number = number
        self.dialled = dialled
        self.relayed = relayed
        self.nonce = nonce
        self.opened = now
        self.state = ConnectionState.OPEN
        self.hello: Hello | None = None
        self.verified = False
        """Whether their RESUME repeated our nonce, so that this is no recording."""
        self.visit = False
        """Whether the other end only looks, and takes no part in the conversation."""
        self.closed = False
        """Whether what still arrives here is ignored."""
        self.control: dict[Kind, bytes] = {}
        """Frames without a number, to go out before everything else. One of a kind: the latest says it all, and a party
        that asks without reading our answers does not fill our memory with them."""
        self.told_accepted = False
        """Whether our last RESUME here said that we accept their frames."""
        self.position = 0
        """What their last RESUME here said: all frames up to this one are there."""
        self.again: deque[Sent] | None = None
        """What is to be sent again here before anything new; None as long as nothing was sent here."""
        self.ahead = False
        """Whether the last batch went ahead of what is large."""
        self.alone = False
        """Whether the last batch was of what is said of the connection itself, though there was more to be sent."""
        self.more = False
        """Our last batch here had no room for all that is to be sent."""
        self.heard = now
        self.awaiting: float | None = None
        """Since when an answer of any kind is due."""
        self.pinged: tuple[int, float] | None = None
        self.suspect = False
        """Whether it shows no sign of life."""
        self.closed_there = False
        """Whether the other side has closed it: it takes nothing more."""
        self._blocked = (-1, -1)
        self.idle = 0.0
        """Frames without progress that arrived here, beyond what is granted for the time: see `charge`."""
        self.idle_at = now
        self.repeated = 0
        """The number of the last frame that arrived here although it had been here before."""
        self.trickling = False
        """Whether a piece of a batch arrived last: the rest is on its way, on a slow line."""

    @property
    def incarnation(self) -> bytes:
        """The process at the other end, which it has perhaps not proved; empty: its HELLO is not here yet."""
        return b"" if self.hello is None else self.hello.incarnation

    @property
    def flowing(self) -> bool:
        """Whether the handshake is complete, and the other side takes frames."""
        return self.state is ConnectionState.FLOWING

    def take_control(self) -> bytes:
        """Return the frames without a number that are to go out, and are on their way with that."""
        frames = b"".join(self.control.values())
        self.control.clear()
        return frames

    def step(self, kind: Kind) -> None:
        """Change the state by the arrival of a frame of this kind; raise `ViolationError` where it has no place."""
        state = _NEXT[self.state].get(kind)
        if state is None:
            raise ViolationError(f"{kind.name} on a connection where {self.state.value}")
        self.state = state

    def charge(self, frames: int, now: float) -> None:
        """Count frames that bring nothing forward. An honest side sends some, and a burst of them; more is a violation."""
        self.idle = max(self.idle - (now - self.idle_at) * IDLE_RATE, 0.0) + frames
        self.idle_at = now
        if self.idle > IDLE_BURST:
            raise ViolationError(f"more than {IDLE_BURST} frames, and {IDLE_RATE} a second, that bring nothing forward")

    def blocked_after(self, frame: Blocked) -> bool:
        """Return whether messages have begun or were taken since the last BLOCKED that arrived here."""
        begun, taken = self._blocked
        self._blocked = max(frame.begun, begun), max(frame.consumed_messages, taken)
        return frame.begun > begun or frame.consumed_messages > taken

    def repeats(self, seq: int, now: float) -> None:
        """Count a frame that was here before. A run of them is what a new connection brings; the same again is not."""
        self.charge(0 if seq > self.repeated else REWOUND, now)
        self.repeated = seq

    def shift(self, stalled: float) -> None:
        """Deduct the time for which our own process stood still: the other side was not silent then."""
        self.opened += stalled
        self.heard += stalled
        if self.awaiting is not None:
            self.awaiting += stalled
        if self.pinged is not None:
            token, since = self.pinged
            self.pinged = token, since + stalled


class Connections:
    """All connections to one party, in the order in which they were opened. Call `choose` after each change."""

    def __init__(self) -> None:
        self.current: Connection | None = None
        """The connection that we send on."""
        self.opened = 0
        self._all: list[Connection] = []

    def __iter__(self) -> Iterator[Connection]:
        """Go through a copy: connections may be dropped on the way."""
        return iter(self._all.copy())

    @property
    def only(self) -> Connection | None:
        """The connection that we send on, if there is no other connection."""
        return self.current if len(self._all) == 1 else None

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self._all) > 1

    def verified(self) -> list[Connection]:
        """Return those whose other end has proved that it is there now, and takes part."""
        return [connection for connection in self._all if connection.verified and not connection.visit]

    def visited(self, incarnation: bytes) -> bool:
        """Return whether that process is here on a visit."""
        visits = (connection for connection in self._all if connection.verified and connection.visit)
        return any(visit.hello is not None and visit.hello.incarnation == incarnation for visit in visits)

    def open(self, *, dialled: bool, nonce: bytes, now: float, relayed: bool = False) -> Connection:
        """Return a new connection."""
        self.opened += 1
        connection = Connection(self.opened, dialled=dialled, relayed=relayed, nonce=nonce, now=now)
        self._all.append(connection)
        return connection

    def superfluous(self) -> Connection | None:
        """Return the connection to close because there are too many that were never verified."""
        unverified = [connection for connection in self._all if not connection.verified]
        return unverified[0] if len(unverified) > MOST_UNVERIFIED else None

    def crowded(self, *, visit: bool = False) -> Connection | None:
        """Return the connection to close because there are too many that nothing is sent on; visits count by themselves."""
        others = [
            connection
            for connection in self._all
            if connection.verified and connection.visit is visit and connection is not self.current
        ]
        return others[0] if len(others) >= MOST_VERIFIED else None

    def drop(self, connection: Connection) -> None:
        """Remove a connection that is gone, or that shall not count any more."""
        connection.closed = True
        self._all.remove(connection)

    def choose(self, adopted: Callable[[Connection], bool], *, prefer_dialled: bool) -> list[Connection]:
        """Settle on the current one: one that lives, without a relay, dialled by the preferred side, the newest of those.

        Each side decides for itself: the other one listens on all of them. Returns those to close: the side that dialled a
        superfluous connection closes it, and one that shows no sign of life either side, once there was one on the other.
        """
        flowing = [connection for connection in self._all if connection.flowing and adopted(connection)]
        best = max(
            flowing,
            key=lambda c: (not c.closed_there, not c.suspect, not c.relayed, c.dialled is prefer_dialled, c.number),
            default=None,
        )
        if best is not self.current:
            self.current = best
            if best is not None:
                best.again = None
        return [other for other in flowing if best is not None and other is not best and _is_superfluous(other, best)]

    def say(self, kind: Kind, frame: bytes) -> None:
        """Put a frame on every verified connection."""
        for connection in self.verified():
            connection.control[kind] = frame


def _is_superfluous(connection: Connection, best: Connection) -> bool:
    """Return whether to close a connection where there is a better one."""
    if connection.suspect and not connection.closed_there:
        # On a crowded line, where news takes seconds, the other side may have closed the better one by now: were this one closed
        # at once, each side would close what the other one has settled on.
        return best.heard > connection.heard
    return connection.dialled or connection.closed_there
