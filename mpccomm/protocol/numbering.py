"""The numbers of receives that name no id. One that ends without its message gives its number back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from heapq import heappop, heappush
from operator import length_hint
from typing import Protocol, TypeAlias

from mpccomm.protocol.frames import AUTOMATIC_NUMBERS, Key

Counter: TypeAlias = tuple[Iterator[int], list[int]]
"""The numbers that were never claimed, and as a heap those that were given back: each is claimed by one call of C code."""

_REMEMBERED = 10_000
"""How many receives are remembered, so that their places can be given back."""


class Numbering(Protocol):
    """How the receives of one mailbox are numbered."""

    @property
    def counters(self) -> Mapping[str, Counter] | None:
        """The counters by prefix, which other threads may use as well. None: numbers are claimed by `claim` alone."""

    def claim(self, prefix: str, msg_id: str | None = None) -> Key:
        """Return the id to wait for. Where none is named: the lowest number that no receive holds."""

    def next_key(self, prefix: str, msg_id: str | None) -> Key:
        """Return the id that `claim` would give out now."""

    def release(self, key: Key) -> None:
        """Give the automatic number of a receive that ended without its message to the next one."""

    def forget(self) -> None:
        """Count anew, the other side doing the same."""


class _Counters(dict[str, Counter]):
    def __missing__(self, prefix: str) -> Counter:
        return self.setdefault(prefix, (iter(range(AUTOMATIC_NUMBERS)), []))


class PrefixNumbering:
    """A numbering with a counter for each prefix, which counts only the receives that name no id."""

    def __init__(self) -> None:
        self.counters = _Counters()

    def claim(self, prefix: str, msg_id: str | None = None) -> Key:
        """Return the id to wait for. Where none is named: the lowest number that no receive holds."""
        if msg_id is not None:
            return prefix + msg_id
        numbers, released = self.counters[prefix]
        if released:
            with suppress(IndexError):  # another thread was first
                return prefix, heappop(released)
        return prefix, next(numbers)

    def next_key(self, prefix: str, msg_id: str | None) -> Key:
        """Return the id that `claim` would give out now."""
        if msg_id is not None:
            return prefix + msg_id
        numbers, released = self.counters[prefix]
        return prefix, next(iter(released), AUTOMATIC_NUMBERS - length_hint(numbers))

    def release(self, key: Key) -> None:
        """Give the automatic number of a receive that ended without its message to the next one."""
        if not isinstance(key, str):
            prefix, number = key
            heappush(self.counters[prefix][1], number)

    def forget(self) -> None:
        """Count anew, the other side doing the same."""
        self.counters.clear()


class TnoNumbering:
    """The numbering of tno.mpc.communication: one counter for all receives, also for those that name an id.

    :param automatic: makes an id of prefix and number
    """

    counters = None

    def __init__(self, automatic: Callable[[str, int], Key]) -> None:
        self._automatic = automatic
        self._next_place = 0
        self._free_places: list[int] = []
        self._places: OrderedDict[Key, list[int]] = OrderedDict()

    def claim(self, prefix: str, msg_id: str | None = None) -> Key:
        """Return the id to wait for. Any receive takes a place in the count, the lowest that is free."""
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

    def next_key(self, prefix: str, msg_id: str | None) -> Key:
        """Return the id that `claim` would give out now."""
        place = self._free_places[0] if self._free_places else self._next_place
        return self._automatic(prefix, place) if msg_id is None else prefix + msg_id

    def release(self, key: Key) -> None:
        """Give the place of a receive that ended without its message to the next one."""
        if places := self._places.get(key):
            heappush(self._free_places, places.pop())
            if not places:
                del self._places[key]

    def forget(self) -> None:
        """Count anew, the other side doing the same."""
        self._next_place = 0
        self._free_places.clear()
        self._places.clear()
