"""The classes that the user registered: their names on the wire, and how they get there and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag
from typing import Any, Final

from mpccomm.codec import plugins
from mpccomm.codec.abc import Decoder, Encoder
from mpccomm.codec.interrupts import is_interrupt
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.errors import DecodingError, RepetitionError


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered class. *kind* is None where only the name of the class is known."""

    name: str
    kind: type | None
    serialize: Callable[..., object]
    deserialize: Callable[..., object]

    def lower(self, encoder: Encoder, value: object) -> object:
        """The node of an instance."""
        encoder.keep_order()
        try:
            payload = self.serialize(value, **encoder.context)
        except Exception as error:
            if is_interrupt(error):
                raise
            raise Refusal(f"cannot be sent: serialize of {self.name} raised {type(error).__name__}") from error
        return _lower_named(encoder, self.name, payload)


@dataclass(frozen=True, slots=True)
class Serialized:
    """What a registered class made of an instance, on its way: `Serialization.serialize` returns this."""

    name: str
    payload: object


def lower_serialized(encoder: Encoder, value: Serialized) -> object:
    """The node of an instance that has been serialised already."""
    encoder.keep_order()
    return _lower_named(encoder, value.name, value.payload)


def _lower_named(encoder: Encoder, name: str, payload: object) -> object:
    encoder.enter()
    try:
        node = encoder.lower(payload)
    except Refusal as refusal:
        if refusal.steps:
            field = refusal.steps[-1][2:-2]
            refusal.steps[-1] = f".{field}" if field.isidentifier() else refusal.steps[-1]
        raise
    encoder.depth -= 1
    return [HEADS[Tag.OBJECT], name, node]


def _object(decoder: Decoder, name: object, node: object) -> object:
    entry = _BY_NAME.get(name)  # type: ignore[call-overload]
    if entry is None:
        raise DecodingError(
            f"the message holds an instance of a class {_printable(name)} that is not registered here; register it "
            "with Serialization.register_class before the message is received"
        )
    payload = decoder.value(node)
    return entry_deserialize(entry, payload, decoder.context)


def _printable(name: object) -> str:
    return name if type(name) is str and len(name) < 100 and name.isidentifier() else "without a name"


def entry_deserialize(entry: Entry, payload: object, context: Any) -> object:
    """The instance that *payload* stands for; what the user's code raises becomes the cause."""
    try:
        return entry.deserialize(payload, **context)
    except Exception as error:
        if is_interrupt(error):
            raise
        raise DecodingError(f"deserialize of {entry.name} raised {type(error).__name__}") from error


_BY_NAME: Final[dict[str, Entry]] = {}
_NAMED: Final[dict[str, Entry]] = {}

CALLS: Final[dict[int, Callable[..., object]]] = {Tag.OBJECT: _object}


def by_type_name(kind: type) -> Callable[[Encoder, Any], object] | None:
    """How to lower a class that was registered by its name alone."""
    entry = _NAMED.get(kind.__name__)
    return None if entry is None else entry.lower


def of(value: object) -> Entry | None:
    """The entry for the class of *value*."""
    kind = type(value)
    return _BY_TYPE.get(kind) or _NAMED.get(kind.__name__)


def named(name: str) -> Entry | None:
    """The entry with that name on the wire."""
    return _BY_NAME.get(name)


def entries() -> list[Entry]:
    """All that is registered, in the order in which it was."""
    return list(_BY_NAME.values())


_BY_TYPE: Final[dict[type, Entry]] = {}


def add(entry: Entry, overwrite: bool) -> None:
    """Register; raises `RepetitionError` if the class or its name is taken, and *overwrite* does not allow that."""
    present = _BY_NAME.get(entry.name)
    if not overwrite:
        if present is not None and not _same_notebook_class(present, entry):
            raise RepetitionError(
                f"the name {entry.name!r} is registered already, for {_describe(present)}; pass name= to register "
                "another class under a name of its own (the same at all parties), or overwrite=True to replace it"
            )
        if entry.kind is not None and (entry.kind in plugins.ATOMS or plugins.lowering(entry.kind) is not None):
            raise RepetitionError(f"{entry.kind.__qualname__} can be sent already; overwrite=True does it your way")
    if entry.kind in plugins.ATOMS:
        raise TypeError(f"{entry.kind.__qualname__} is carried as it is, which cannot be changed")
    _BY_NAME[entry.name] = entry
    if entry.kind is None:
        _NAMED[entry.name] = entry
    else:
        _BY_TYPE[entry.kind] = entry
        plugins.REGISTERED[entry.kind] = entry.lower


def _same_notebook_class(present: Entry, entry: Entry) -> bool:
    """Whether a notebook cell was run again, which makes another class of the same name."""
    old, new = present.kind, entry.kind
    return (
        old is not None
        and new is not None
        and old.__module__ == new.__module__ == "__main__"
        and old.__qualname__ == new.__qualname__
    )


def _describe(entry: Entry) -> str:
    return "a class of that name" if entry.kind is None else f"{entry.kind.__module__}.{entry.kind.__qualname__}"


def clear() -> None:
    """Forget all registered classes."""
    for table in (_BY_NAME, _NAMED, _BY_TYPE, plugins.REGISTERED):
        table.clear()


# Classes that say by themselves what they consist of need no methods.


def automatic(kind: type) -> tuple[Callable[..., object], Callable[..., object]] | None:
    """`serialize` and `deserialize` for an Enum, a namedtuple, or a dataclass; None for any other class."""
    if issubclass(kind, Flag):
        return lambda member, **_: member.value, lambda value, **_: kind(value)
    if issubclass(kind, Enum):
        return lambda member, **_: member.name, lambda name, **_: kind[name]
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return lambda value, **_: list(value), lambda items, **_: kind._make(items)
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    return None


def _of_dataclass(kind: Any) -> tuple[Callable[..., object], Callable[..., object]]:
    fields = dataclasses.fields(kind)
    given = {field.name for field in fields if field.init}
    derived = {field.name for field in fields if not field.init}

    def serialize(value: object, **_: object) -> dict[str, object]:
        return {field.name: getattr(value, field.name) for field in fields}

    def deserialize(values: dict[str, object], **_: object) -> object:
        if set(values) != given | derived:
            raise TypeError(f"the fields of {kind.__qualname__} are others at the sender")
        instance = kind(**{name: values[name] for name in given})
        for name in derived:
            object.__setattr__(instance, name, values[name])
        return instance

    return serialize, deserialize
