"""Connections whose caller is not known yet: few at a time, for a short time, and with little to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from mpccomm.address import IPAddress
from mpccomm.settings import Strangers


class PendingConnection:
    """One such connection, from being accepted until it is known who calls."""

    __slots__ = ("_admission", "_drop", "_timer", "address", "deadline", "dropped", "over", "transport", "unread")

    def __init__(self, room: Admission, address: IPAddress, drop: Callable[[str], None], time: float) -> None:
        loop = asyncio.get_running_loop()
        self.address = address
        self.dropped = False
        self.transport: asyncio.WriteTransport | None = None
        """What carries it, as soon as its protocol has been told."""
        self.deadline = loop.time() + time
        """The time, by the loop's clock, at which the caller must have said who it is."""
        self.unread = room.limits.bytes
        """The number of bytes that it may still send; with one more it is dropped."""
        self.over: asyncio.Future[None] = loop.create_future()
        """Done when it is known who calls, or the connection is gone."""
        self._admission = room
        self._drop = drop
        self._timer = loop.call_later(time + room.limits.courtesy, self.drop, "it did not say who it is")

    def count(self, size: int) -> bool:
        """Count bytes that have arrived. False: that was too much, and the connection has been dropped."""
        if self not in self._admission:
            # The caller is known, or has been told to go.
            return not self.dropped
        self.unread -= size
        if self.unread < 0:
            self.drop(f"more than {self._admission.limits.bytes:,} bytes before saying who it is")
        return self.unread >= 0

    def drop(self, reason: str) -> None:
        """End the connection."""
        if self.end():
            self.dropped = True
            self._drop(reason)

    def end(self) -> bool:
        """Note that the caller is known, or gone. False: that was known before."""
        self._timer.cancel()
        return self._admission.leave(self)


class Admission:
    """All such connections. Where there is no room for another one, the oldest is dropped.

    A caller that means to talk is known within a few round trips; a newcomer is more likely to be one than a connection that has
    been silent. An address at which parties of ours are has places of its own, which strangers elsewhere can't take.
    """

    def __init__(self, limits: Strangers, time: float, parties_at: Callable[[IPAddress], int]) -> None:
        self.limits = limits
        self._time = time
        self._parties_at = parties_at
        self._pending: dict[PendingConnection, None] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, pending: PendingConnection) -> bool:
        return pending in self._pending

    def enter(self, address: IPAddress, drop: Callable[[str], None]) -> PendingConnection:
        """Admit a connection; ``drop(reason)`` is called when it has to end before its caller is known."""
        limits = self.limits
        parties = self._parties_at(address)
        here = [pending for pending in self._pending if pending.address == address]
        if len(here) >= (parties * limits.per_party or limits.per_address):
            here[0].drop("too many callers at once from that address")
        elif not parties:
            strangers = [pending for pending in self._pending if not self._parties_at(pending.address)]
            if len(strangers) >= limits.pending:
                strangers[0].drop("too many callers at once who are no party that we know")
        pending = PendingConnection(self, address, drop, self._time)
        self._pending[pending] = None
        return pending

    def leave(self, pending: PendingConnection) -> bool:
        """Remove a connection, whose caller is known or gone. False: it was removed before."""
        present = pending in self._pending
        if present:
            del self._pending[pending]
            pending.over.set_result(None)
        return present

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Wait until none of the connections that there are now from these addresses is left here."""
        here = [pending.over for pending in self._pending if pending.address in addresses]
        if here:
            await asyncio.wait(here)

    def close(self) -> None:
        """Drop all."""
        for pending in list(self._pending):
            pending.drop("the pool is shut down")
