"""Keys of dicts and members of sets: distinct when they leave, and when they arrive."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable
from enum import Enum
from operator import countOf
from typing import Any, Final

from mpccomm.codec import plugins
from mpccomm.codec.abc import Refusal
from mpccomm.interrupts import is_interrupt

MEMORY: Final = 192
"""Bytes that a key takes at most in a dict or set, or, before that, in the set of all hashes."""
_MODULUS: Final = sys.hash_info.modulus
"""Integers nearer to zero than that are their own hashes; -1 has that of -2."""
_FEW: Final = 1000
"""As many keys may all have the same hash."""
_COMPARISONS: Final = _FEW * (_FEW - 1) // 2
_COMPARISONS_PER_KEY: Final = 10
"""What comparing all keys of equal hashes may take, in one dict or set: that of a few which are all equal, and so much for each.
Numbers that hold two, such as ``row << 64 | column``, do have some in common; hostile data could have nothing else."""


def distinct(members: list[Any]) -> list[Any]:
    """*members* (keys, or elements of a set), if the other side can take them, and they stay distinct there.

    Enum members arrive as their values.
    """
    plain = _plain(members)
    if len(plain) > _FEW and _collide(plain):
        raise Refusal(
            f"has {len(plain):,} keys, of which too many have the same hash, which would hold up the other side (that of an "
            "integer is its remainder by 2**61 - 1); send them as a list of pairs, or in arrays"
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
    if len(hashes) - len(set(hashes)) < _FEW:
        return False
    comparisons = sum(number * (number - 1) // 2 for number in Counter(hashes).values())
    return comparisons > _COMPARISONS + _COMPARISONS_PER_KEY * len(hashes)
