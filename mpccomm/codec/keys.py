"""Keys of dicts and members of sets: distinct when they leave, and when they arrive."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from itertools import chain, islice
from operator import countOf
from time import thread_time
from types import WrapperDescriptorType
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from mpccomm.codec import plugins
from mpccomm.codec.abc import Refusal
from mpccomm.interrupts import is_interrupt

MEMORY: Final = 192
"""Bytes that a key takes at most in a dict or set, or, before that, in the set of all hashes."""
_MODULUS: Final = sys.hash_info.modulus
"""Integers nearer to zero than that are their own hashes; -1 has that of -2."""
_EACH: Final = 10
"""For each key, what may be spent on comparing keys of equal hashes, in units of what comparing the key itself takes.

Numbers that hold two, such as ``row << 64 | column``, do have some hashes in common; hostile data could have nothing else."""
_FEW: Final = 2 * _EACH
"""So many others may have the hash of any key: each comparison is of two, and half of what it takes is counted at either."""
_EACH_PLAIN: Final = 500
"""For each key, the same in units of what comparing two numbers takes: so a thousand numbers may all have one hash."""
_MOST_PLAIN: Final = 500 * 1000
"""As much of the latter as there is in one dict or set."""
_PLAIN: Final = frozenset({int, bool, float, complex, str, bytes, type(None)})
_HOLD: Final = frozenset({tuple, frozenset})
"""What may hold further values where it is a key."""
_IN_C: Final = 4
"""What a comparison takes at most, in such units, that is not written in Python, as of dates."""
_IN_PYTHON: Final = 30
"""Likewise where it is: of paths, addresses, and classes of the program."""
_NUMBER: Final = 200
"""Of numbers of other kinds: to be compared with one of a third kind, both may have to become numbers of a fourth."""
_PORTION: Final = 1024
"""Keys that are put into a dict or set at a stroke."""
_KEY: Final = 5e-6
"""Seconds of processor time that the search for the place of a key takes at most, beside its hash. A fiftieth of it is enough."""
_PATIENCE: Final = 0.1
"""Seconds in one dict or set for what takes longer."""
_MOVE: Final = 0.5e-6
"""Seconds for each key beyond that: now and then all have to be moved to a larger table, at once."""


def distinct(members: list[Any]) -> list[Any]:
    """*members* (keys, or elements of a set), if the other side can take them, and they stay distinct there.

    Enum members arrive as their values.
    """
    plain = _plain(members)
    if len(plain) > _FEW and _collide(plain):
        raise Refusal(
            f"has {len(plain):,} keys, of which too many have the same hash, which would hold up the other side (that of a number "
            "is its remainder by 2**61 - 1); send them as a list of pairs, or in arrays"
        )
    return plain


def _plain(members: list[Any]) -> list[Any]:
    try:
        plain = arriving(members)
        distinct = plain is members or len(set(plain)) == len(plain)
    except (
        Exception
    ) as error:  # a class of the program may raise anything where it meets the value in place of the member
        if is_passing(error):
            raise
        raise Refusal("has an Enum member in a key whose value cannot be in one; register its class") from error
    if plain is members:
        return members
    if not distinct:
        raise Refusal("would have a key twice, since an Enum member arrives as its value; register its class")
    # Those in them are lowered with what they are in.
    return [value if _arrives_as_value(type(member)) else member for member, value in zip(members, plain, strict=True)]


def arriving(values: list[Any]) -> list[Any]:
    """*values* as they arrive, with the values of Enum members, which need not be hashable; the list itself if all stay."""
    level: Iterable[Any] = values
    kinds = set(map(type, values))
    while not any(map(_arrives_as_value, kinds)):
        if not any(map(_holds, kinds)):
            return values
        if _HOLD.issuperset(kinds) and not any(map(_may_change, set(map(type, chain.from_iterable(level))))):
            return values  # nearly always: looked at by C code alone
        # Each once: what is there twice, in something that is there twice, and so on, would be there without end.
        holders = {id(item): item for item in level if _holds(type(item))}.values()
        level = list(chain.from_iterable(map(_held, holders)))
        kinds = set(map(type, level))
    known: _Known = {}
    return [_arrived(value, known) for value in values]


_Known: TypeAlias = dict[int, tuple[object, Any]]
"""What values have arrived as, by their identity; referred to, so that no other gets the place of one in memory meanwhile."""


def _arrived(value: Any, known: _Known) -> Any:
    kind = type(value)
    if _arrives_as_value(kind):
        return _arrived(value.value, known)
    if not _holds(kind):
        return value
    _, found = known.get(id(value), (None, None))
    if found is None:
        items = [_arrived(item, known) for item in _held(value)]
        # Not by the constructor of a class of the program.
        if issubclass(kind, tuple):
            found = tuple.__new__(kind, items)
        elif issubclass(kind, frozenset):
            found = frozenset(items)
        else:
            found = object.__new__(kind)
            for field, item in zip(_fields(kind), items, strict=True):
                object.__setattr__(found, field.name, item)
        known[id(value)] = value, found
    return found


def _may_change(kind: type) -> bool:
    return _arrives_as_value(kind) or _holds(kind)


def _holds(kind: type) -> bool:
    return issubclass(kind, tuple | frozenset) or (is_dataclass(kind) and kind in plugins.REGISTERED)


def _held(value: Any) -> Iterable[Any]:
    """Return what is in a value that holds others."""
    if isinstance(value, tuple | frozenset):
        return value
    return [getattr(value, field.name, None) for field in _fields(type(value))]


def _fields(kind: Any) -> list[Field[Any]]:
    """Return the fields by which instances are compared."""
    return [field for field in fields(kind) if field.compare]


def is_passing(error: Exception) -> bool:
    """Whether what was raised says nothing of the keys that were hashed or compared."""
    return isinstance(error, RecursionError | MemoryError) or is_interrupt(error)


def _arrives_as_value(kind: type) -> bool:
    return issubclass(kind, Enum) and kind not in plugins.REGISTERED


def received(values: list[Any], *, repeated: bool = False) -> list[Hashable]:
    """*values*, if they can be hashed without costing quadratic time; with *repeated* one may be there any number of times."""
    if _collide(values, repeated):
        raise ValueError("too many keys with equal hashes")
    return values


class _Filled(Protocol):
    def update(self, items: Iterable[Any], /) -> None: ...


F = TypeVar("F", bound=_Filled)


def filled(made: F, keys: list[Any], items: Iterable[Any]) -> F:
    """Put *items*, one for each of the *keys*, into what was *made*, a dict or set; ValueError where that takes too long.

    Also keys of different hashes may all look for their places along the same way, which Python lays by the bits of the hash, and
    which hostile numbers make as long as they like. Nothing but the time tells. It is that of the processor for this thread, many
    times what it should be, and counts only in portions of which that is so: whatever else there is to do on the machine.
    """
    if len(keys) <= _PORTION or countOf(map(type, keys), str) == len(keys):
        made.update(items)
        return made
    begun = thread_time()
    deque(map(hash, keys), maxlen=0)
    most = _PORTION * _KEY + 4 * (thread_time() - begun) * _PORTION / len(keys)
    left, rest = _PATIENCE + _MOVE * len(keys), iter(items)
    for _ in range(0, len(keys), _PORTION):
        begun = thread_time()
        made.update(islice(rest, _PORTION))
        took = thread_time() - begun
        if took > most:
            left -= took
            if left < 0:
                raise ValueError("keys whose places are too far to seek")
    made.update(rest)  # there is nothing more, unless `zip` has something to say
    return made


def _collide(values: list[Any], repeated: bool = False) -> bool:
    """Whether so many have equal hashes that a dict of them would cost quadratic time. (The hash of text is secret anyway.)"""
    if countOf(map(type, values), str) == len(values):
        return False
    kinds = set(map(type, values))
    if kinds <= {str, bytes} or (kinds == {int} and min(values) > -_MODULUS and max(values) < _MODULUS):
        return False
    hashes = list(map(hash, values))
    try:
        if len(hashes) - len(filled(set(), hashes, hashes)) <= _FEW:
            return False
        numbers = filled(Counter[int](), hashes, hashes)
    except ValueError as error:
        if is_interrupt(error):
            raise
        return True
    if max(numbers.values()) <= _FEW + 1:
        return False
    if repeated:
        first: dict[int, Any] = {}
        values = [value for value, found in zip(values, hashes, strict=True) if not _is_known(value, found, first)]
        return _collide(values)
    excess = {found: (number - 1) / 2 - _EACH for found, number in numbers.items()}
    allowed: float = min(_EACH_PLAIN * len(hashes), _MOST_PLAIN)
    # What those leave of which few have the same hash comes first: so the answer is the same in any order.
    allowed -= sum(number * min(excess[found], 0) for found, number in numbers.items())
    for value, found in zip(values, hashes, strict=True):
        each = excess[found]
        if each > 0:
            allowed -= each if type(value) in _PLAIN else _weight(value, allowed / each) * each
            if allowed < 0:
                return True
    return False


def _is_known(value: Any, found: int, first: dict[int, Any]) -> bool:
    """Whether a value equals the first one that has its hash."""
    if found not in first:
        first[found] = value
        return False
    known = first[found]
    try:
        return known is value or bool(known == value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return False  # of a type that refuses to be compared with that of the other


def _weight(key: object, most: float) -> float:
    """Return what it takes to compare a key with one of the same hash, counted until there is more than *most*."""
    weight: float = 0
    rest: list[tuple[object, float]] = [(key, 1)]
    while rest and weight <= most:
        item, times = rest.pop()
        kind = type(item)
        in_c = isinstance(kind.__eq__, WrapperDescriptorType)
        if kind in _PLAIN:
            weight += times
        elif hasattr(kind, "__float__") or hasattr(kind, "__complex__"):
            weight += times * _NUMBER
        else:
            weight += times * (_IN_C if in_c else _IN_PYTHON)
        if isinstance(item, tuple):
            rest += [(element, times) for element in item]
        elif isinstance(item, frozenset):
            # Each element of one is looked up in the other, where all may have equal hashes.
            rest += [(element, times * len(item)) for element in item]
        elif is_dataclass(kind) and not in_c:
            rest += [(element, times) for element in _held(item)]
    return weight
