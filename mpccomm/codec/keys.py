"""Keys of dicts and members of sets: distinct when they leave, and when they arrive."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from operator import countOf
from typing import Any, Final

from mpccomm.codec import plugins
from mpccomm.codec.abc import Refusal
from mpccomm.interrupts import is_interrupt

MEMORY: Final = 192
"""Bytes that a key takes at most in a dict or set, or, before that, in the set of all hashes."""
_COLLISIONS: Final = 1000
"""Keys with equal hashes in one dict or set; honest data has next to none, hostile data could have nothing else."""


def distinct(members: list[Any]) -> list[Any]:
    """*members* (keys, or elements of a set), if they stay distinct when Enum members arrive as their values."""
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
    """*values*, if they can be hashed without costing quadratic time. (The hash of text is secret anyway.)"""
    if countOf(map(type, values), str) == len(values):
        return values
    if not set(map(type, values)) <= {str, bytes} and len(values) - len(set(map(hash, values))) > _COLLISIONS:
        raise ValueError("too many keys with equal hashes")
    return values
