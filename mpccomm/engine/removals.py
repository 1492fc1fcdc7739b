"""Parties that were removed from a pool: what was sent to them is delivered, they are told of the end, and their place is free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from mpccomm.engine.authentication import Authentication
from mpccomm.engine.party import Party
from mpccomm.engine.party_log import tell_of_remains, tell_of_undelivered
from mpccomm.engine.states import GivenUp
from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog
from mpccomm.protocol.states import Cause


class Removals:
    """The parties that were removed from one pool, until they are gone.

    :param parties: returns the parties that the pool has now
    :param linger: the seconds that the delivery to one may take
    :param bound: returns until when it may last, of the time at which something got through last: the pool may be ending
    """

    def __init__(
        self,
        parties: Callable[[], Mapping[str, Party]],
        authentication: Authentication,
        linger: float,
        log: EventLog,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        bound: Callable[[float], float],
    ) -> None:
        self.pending: Sequence[Party] = ()
        """The parties that are not gone yet; a new sequence for each change, since any thread may look."""
        self.leaving: dict[Party, asyncio.Task[None]] = {}
        """The parties that are being told, with the tasks that tell them."""
        self._parties = parties
        self._authentication = authentication
        self._linger = linger
        self._log = log
        self._spawn = spawn
        self._bound = bound

    @property
    def untold(self) -> list[Party]:
        """Those that nothing tells: what was to do so was struck by a signal handler, and the end of the pool does it."""
        told = {*self._parties().values(), *(party for party, task in self.leaving.items() if not task.done())}
        return [party for party in self.pending if party not in told]

    def add(self, party: Party) -> None:
        """Add a party that was removed and has to be told: `start` follows, on the loop."""
        # A signal handler may have struck the call that removed it, which then came once more.
        if party not in self.pending:
            self.pending = (*self.pending, party)

    def take_place(self, party: Party, name: str, addr: str) -> None:
        """Have a new party wait for the one that was removed from its place, if that is not gone yet.

        Of several that were removed from the same place each waits for the one before it.
        """
        before = [other for other in self.pending if other.where == party.where and (addr or other.name == name)]
        if before:
            party.predecessor = before[-1]
            party.trouble = "what was sent to it before it was removed is still being delivered"

    def start(self, party: Party) -> None:
        """Deliver what was sent to a party, and tell it that it was removed."""
        self.leaving[party] = self._spawn(self._part(party))

    async def _part(self, party: Party) -> None:
        now = party.clock()

        def deadline(moved: float) -> float:
            return min(max(now, moved) + self._linger, self._bound(moved))

        try:
            party.fail_receives(Cause(GivenUp.REMOVED))
            left = await party.leave(deadline, ending=GivenUp.REMOVED)
            tell_of_undelivered(self._log, {party.name: tell_of_remains(party.log, party, left)})
            await party.disconnected()
        except BaseException as error:
            if not is_strike(error):  # else it is one of those that are `untold`
                self._part_with(party)
            raise
        self._part_with(party)

    def _part_with(self, party: Party) -> None:
        del self.leaving[party]
        self._authentication.correspondents.pop(party.name, None)
        if party.dialler is not None:
            party.dialler.cancel()
        self.end(party)

    def end(self, party: Party) -> None:
        """Note that a party is gone: its place is free for the party that was added after it."""
        self.pending = tuple(other for other in self.pending if other is not party)
        for other in (*self._parties().values(), *self.pending):
            if other.predecessor is party:
                other.predecessor = None
                other.trouble = Party.trouble
                other.place_is_free.set()
        self._authentication.know(self._parties(), self.pending)
