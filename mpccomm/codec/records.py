"""Classes that say by themselves what they consist of, and need no methods to be sent: Enums, namedtuples, dataclasses.

An instance of a dataclass arrives with the values of its fields, and nothing of the class's own code runs when it is built.
What the fields do not tell is refused: when the class is registered, or with the instance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, Flag
from functools import cached_property
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple

from mpccomm.codec.abc import Refusal
from mpccomm.codec.columns import exhaust

_HEAP_TYPE: Final = 1 << 9
"""The flag of types that a class statement made."""


class Form(NamedTuple):
    """How instances of such a class travel. *fields* are those of a dataclass, which can travel as columns.

    *elements* are what an instance holds, if it holds anything.
    """

    serialize: Callable[..., object]
    deserialize: Callable[..., object]
    fields: tuple[str, ...] = ()
    elements: Callable[[Any], Iterator[object]] | None = None


def form(kind: type) -> Form | None:
    """Return how instances of *kind* travel; None where that can't be told from the class."""
    if issubclass(kind, Flag):
        return Form(lambda member, **_: member.value, lambda value, **_: kind(value))
    if issubclass(kind, Enum):
        return Form(lambda member, **_: member.name, lambda name, **_: kind[name])
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return _of_namedtuple(kind)
    # What a dict, or an exception, holds is in none of the fields.
    if dataclasses.is_dataclass(kind) and all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__[:-1]):
        return _of_dataclass(kind)
    return None


def _of_namedtuple(kind: Any) -> Form:
    def serialize(value: Any, **_: object) -> list[object]:
        _refuse_others(kind, getattr(value, "__dict__", {}).keys())
        return list(value)

    return Form(serialize, lambda items, **_: kind._make(items), elements=tuple.__iter__)


def _of_dataclass(kind: Any) -> Form:
    fields = tuple(field.name for field in dataclasses.fields(kind))
    names = set(fields)
    # A cached property is worked out again.
    known = names | {
        name for base in kind.__mro__ for name, it in vars(base).items() if isinstance(it, cached_property)
    }
    slots = _slots(kind) - names

    def serialize(value: object, **_: object) -> dict[str, object]:
        others = {name for name in slots if hasattr(value, name)}
        _refuse_others(kind, others | (getattr(value, "__dict__", {}).keys() - known))
        try:
            return {name: getattr(value, name) for name in fields}
        except AttributeError as error:
            raise Refusal(f"has no value for its field {error.name!r}") from None

    def deserialize(values: dict[str, object], **_: object) -> object:
        if values.keys() != names:
            raise TypeError(f"the fields of {kind.__qualname__} are others at the sender")
        instance = object.__new__(kind)
        for name, value in values.items():
            object.__setattr__(instance, name, value)
        return instance

    def elements(value: object) -> Iterator[object]:
        return (getattr(value, name, None) for name in fields)

    return Form(serialize, deserialize, fields, elements)


def _slots(kind: type) -> set[str]:
    found = set()
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            found.add(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return found - {"__dict__", "__weakref__"}


def _refuse_others(kind: type, names: Any) -> None:
    if names:
        raise Refusal(
            f"has an attribute {min(names)!r} that is no field of {kind.__qualname__}, and would be lost; make it a "
            "field, or give the class the methods serialize and deserialize"
        )


def columns(values: list[Any], fields: tuple[str, ...]) -> list[list[object]] | None:
    """Return the values of each field of instances of a dataclass; None where one has more or less than the fields."""
    try:
        found = [list(map(attrgetter(name), values)) for name in fields]
        if any(len(vars(value)) != len(fields) for value in values):
            return None
    except (AttributeError, TypeError):
        return None
    return found


def memory(fields: Sequence[str]) -> int:
    """Return the bytes that an instance with such *fields* takes, of which Python reserves more than there are."""
    return 320 + 32 * len(fields)


def instances(kind: type, fields: list[str], columns: list[list[object]]) -> list[object]:
    """Return the instances of a dataclass whose fields have the values in *columns*."""
    built: list[object] = list(map(object.__new__, repeat(kind, len(columns[0]))))
    for name, column in zip(fields, columns, strict=True):
        exhaust(map(object.__setattr__, built, repeat(name), column))
    return built
