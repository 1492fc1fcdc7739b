"""Keys of dicts and members of sets: distinct when they leave, and when they arrive."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import countOf
from types import WrapperDescriptorType
from typing import Any, Final

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
_IN_C: Final = 4
"""What a comparison takes at most, in such units, that is not written in Python: of dates, of numbers of other libraries."""
_IN_PYTHON: Final = 30
"""Likewise where it is: of fractions, paths, addresses, and classes of the program."""


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
    if not any(map(_arrives_as_value, set(map(type, members)))):
        return members
    plain = [member.value if _arrives_as_value(type(member)) else member for member in members]
    try:
        distinct = len(set(plain)) == len(plain)
    except TypeError as error:
        if is_interrupt(error):
            raise
        raise Refusal("has an Enum member as a key whose value cannot be one; register its class") from None
    if not distinct:
        raise Refusal("would have a key twice, since an Enum member arrives as its value; register its class")
    return plain


def _arrives_as_value(kind: type) -> bool:
    return issubclass(kind, Enum) and kind not in plugins.REGISTERED


def received(values: list[Any]) -> list[Hashable]:
    """*values*, if they can be hashed without costing quadratic time."""
    if _collide(values):
        raise ValueError("too many keys with equal hashes")
    return values


def _collide(values: list[Any]) -> bool:
    """Whether so many have equal hashes that a dict of them would cost quadratic time. (The hash of text is secret anyway.)"""
    if countOf(map(type, values), str) == len(values):
        return False
    kinds = set(map(type, values))
    if kinds <= {str, bytes} or (kinds == {int} and min(values) > -_MODULUS and max(values) < _MODULUS):
        return False
    hashes = list(map(hash, values))
    if len(hashes) - len(set(hashes)) <= _FEW:
        return False
    numbers = Counter(hashes)
    if max(numbers.values()) <= _FEW + 1:
        return False
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


def _weight(key: object, most: float) -> float:
    """Return what it takes to compare a key with one of the same hash, counted until there is more than *most*."""
    weight: float = 0
    rest: list[tuple[object, float]] = [(key, 1)]
    while rest and weight <= most:
        item, times = rest.pop()
        kind = type(item)
        in_c = isinstance(kind.__eq__, WrapperDescriptorType)
        weight += times * (1 if kind in _PLAIN else _IN_C if in_c else _IN_PYTHON)
        if isinstance(item, tuple):
            rest += [(element, times) for element in item]
        elif isinstance(item, frozenset):
            # Each element of one is looked up in the other, where all may have equal hashes.
            rest += [(element, times * len(item)) for element in item]
        elif is_dataclass(kind) and not in_c:
            rest += [(getattr(item, field.name, None), times) for field in fields(kind) if field.compare]
    return weight
