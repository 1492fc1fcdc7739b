"""One connection of a party, as its stream sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.link import Link


class LinkOwner(Protocol):
    """The party that the link belongs to."""

    name: str
    link: Link
    loop_owner: LoopOwner

    @property
    def clock(self) -> Callable[[], float]:
        """A monotonic clock."""

    def flush(self, most: float = ...) -> None:
        """Handle the events of the link."""


class StreamPeer:
    """Passes batches between the stream and the party's link. What one batch brings ends at most ``at_once`` calls in a turn."""

    __slots__ = ("_at_once", "_clock", "_connection", "_flush", "_link", "_loop_owner", "more")

    def __init__(self, party: LinkOwner, connection: Connection, at_once: int) -> None:
        self._link = party.link
        self._clock = party.clock
        self._flush = party.flush
        self._loop_owner = party.loop_owner
        self._connection = connection
        self._at_once = at_once
        self.more = False
        """There is more to send than the last batch had room for."""

    def batch_received(self, batch: bytes | memoryview) -> None:
        """Take a batch that has arrived."""
        clock, flush = self._clock, self._flush
        try:
            self._link.received(self._connection, batch, clock())
            flush(self._at_once)
        except BaseException as error:
            self._loop_owner.suspect = error
            self._struck()
            raise

    def heard(self) -> None:
        """Note a sign of life: a part of a batch has arrived."""
        self._link.heard(self._connection, self._clock())

    def closed(self) -> None:
        """Note that the other side has closed the connection: what is not confirmed goes over another one, if there is one."""
        try:
            self._link.closed_by_them(self._connection)
            self._flush(self._at_once)
        except BaseException as error:
            self._loop_owner.suspect = error
            self._struck()
            raise

    def batch_to_send(self, budget: int) -> bytes:
        """Return the next batch to send, of about ``budget`` bytes; empty: nothing now."""
        clock, link = self._clock, self._link
        try:
            connection = self._connection
            batch = link.to_send(connection, clock(), budget)
            self.more = connection.more
            if link.events or link.closing:
                self._flush()
        except BaseException as error:
            self._loop_owner.suspect = error
            self._struck()
            raise
        return batch

    def _struck(self) -> None:
        # The exception is about to end the stream. The link must know that before the pool ends, or its last words would go there.
        self._link.lost(self._connection)
        self._loop_owner.judge()
