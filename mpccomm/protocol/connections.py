"""The connections to one party, and the one of them that we send on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Kind

MOST_UNVERIFIED = 16
"""Connections whose greeting is not complete; whoever opens more loses the oldest."""


class Connections:
    """In the order in which they were opened. Whoever changes something calls `choose` afterwards."""

    def __init__(self) -> None:
        self.current: Connection | None = None
        """The one that we send on."""
        self.opened = 0
        self._all: list[Connection] = []

    def __iter__(self) -> Iterator[Connection]:
        """A copy: connections may be dropped on the way."""
        return iter(self._all.copy())

    def verified(self) -> list[Connection]:
        """Those whose other end has proved that it is there now."""
        return [connection for connection in self._all if connection.verified]

    def open(self, *, dialled: bool, nonce: bytes, now: float) -> Connection:
        """A new connection."""
        self.opened += 1
        connection = Connection(self.opened, dialled=dialled, nonce=nonce, now=now)
        self._all.append(connection)
        return connection

    def superfluous(self) -> Connection | None:
        """The connection to close because there are too many that were never verified."""
        unverified = [connection for connection in self._all if not connection.verified]
        return unverified[0] if len(unverified) > MOST_UNVERIFIED else None

    def drop(self, connection: Connection) -> None:
        """It is gone, or shall not count any more."""
        connection.closed = True
        self._all.remove(connection)

    def choose(self, adopted: Callable[[Connection], bool], *, prefer_dialled: bool) -> list[Connection]:
        """Settle on the current one: one that lives, dialled by the preferred side, the newest of those.

        Each side decides for itself: the other one listens on all of them. Returns those to close: whoever dialled a
        superfluous connection closes it, and one that shows no sign of life either side may.
        """
        flowing = [connection for connection in self._all if connection.flowing and adopted(connection)]
        best = max(flowing, key=lambda c: (not c.suspect, c.dialled is prefer_dialled, c.number), default=None)
        if best is not self.current:
            self.current = best
            if best is not None:
                best.again = None
        return [other for other in flowing if other is not best and (other.dialled or other.suspect)]

    def say(self, kind: Kind, frame: bytes) -> None:
        """Put a frame on every verified connection."""
        for connection in self.verified():
            connection.control[kind] = frame
