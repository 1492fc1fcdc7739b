"""The numbering of tno.mpc.communication: one counter for all messages of a direction, also for those with ids of their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush

from mpccomm.protocol.frames import Key
from mpccomm.protocol.mailbox import Mailbox
from mpccomm.protocol.receiver import Incoming

_REMEMBERED = 10_000
"""Receives whose place can still be given back."""


class CountingMailbox(Mailbox):
    """Claims ids as a receiver there does; ``automatic`` makes one of prefix and number."""

    grabbing = False

    def __init__(self, automatic: Callable[[str, int], Key]) -> None:
        super().__init__()
        self._automatic = automatic
        self._next_place = 0
        self._free_places: list[int] = []
        self._places: OrderedDict[Key, list[int]] = OrderedDict()

    def claim(self, prefix: str, msg_id: str | None = None) -> Key:
        """The id to wait for. Any receive takes a place in the count, the lowest that is free."""
        if self._free_places:
            place = heappop(self._free_places)
        else:
            place = self._next_place
            self._next_place += 1
        key = self._automatic(prefix, place) if msg_id is None else prefix + msg_id
        self._places.setdefault(key, []).append(place)
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
        return key

    def take_next(self, prefix: str, msg_id: str | None) -> Incoming | None:
        """Nothing: each receive has to claim its place."""
        return None

    def next_key(self, prefix: str, msg_id: str | None) -> Key:
        """The id that `claim` would give out now."""
        place = self._free_places[0] if self._free_places else self._next_place
        return self._automatic(prefix, place) if msg_id is None else prefix + msg_id

    def release(self, key: Key) -> None:
        """A receive ended without its message: its place is for the next one."""
        if places := self._places.get(key):
            heappush(self._free_places, places.pop())
            if not places:
                del self._places[key]
