"""The classes that the user registered: their names on the wire, and how they get there and back."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final

from mpccomm.codec import plugins, records
from mpccomm.codec.abc import Decoder, Encoder, Refusal
from mpccomm.codec.columns import columns_of, lower_columns
from mpccomm.codec.records import Form
from mpccomm.codec.scan import ELEMENTS, Holds
from mpccomm.codec.wire import ARGUMENT, HEADS, Tag
from mpccomm.errors import DecodingError, RepetitionError
from mpccomm.interrupts import is_interrupt

_INSTANCE: Final = 224
"""Bytes of memory that an instance takes, with its place in a list, as far as it can be told from here."""
NODES: Final = 2
"""Nodes of an envelope before what stands for an instance: the tag, and the name of the class."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered class. *kind* is None where only the name of the class is known.

    *form* is there where the class needs no methods: then no code of the user's takes part.
    """

    name: str
    kind: type | None
    serialize: Callable[..., object]
    deserialize: Callable[..., object]
    form: Form | None = None

    def lower(self, encoder: Encoder, value: object) -> object:
        """Return the node of an instance."""
        if self.form is not None:
            return encoder.once(value, partial(self._lower, encoder), value)
        encoder.keep_order()
        encoder.enter()
        payload = self.payload(encoder, value)
        encoder.became((value,), [payload], NODES)
        node = _lower_named(encoder, self.name, payload)
        encoder.depth -= 1
        return node

    def _lower(self, encoder: Encoder, value: object) -> object:
        return _lower_named(encoder, self.name, self.payload(encoder, value))

    def payload(self, encoder: Encoder, value: object) -> object:
        """Return what stands for an instance, which is asked once for each time that it occurs."""
        if id(value) in encoder.asked:
            return encoder.asked.pop(id(value))
        try:
            return self.serialize(value, **encoder.context)
        except Exception as error:
            if isinstance(error, Refusal) or is_interrupt(error):
                raise
            raise Refusal(f"cannot be sent: serialize of {self.name} raised {type(error).__name__}") from error

    def lower_all(self, encoder: Encoder, values: list[Any]) -> object | None:
        """Return the node of a long list of instances: a column for each field of a dataclass, one of what others become.

        None where dataclasses are not that simple.
        """
        if self.form is None:
            encoder.keep_order()
        fields = self.form.fields if self.form is not None else ()
        if not fields:
            return self._lower_each(encoder, values)
        found = records.columns(values, fields)
        if found is None:
            return None
        encoder.count(len(values), records.memory(fields))
        encoder.charge(ARGUMENT * (2 + len(fields)))
        nodes = lower_columns(encoder, found, [f".{name}" for name in fields])
        return [HEADS[Tag.INSTANCES], self.name, list(fields), *nodes]

    def _lower_each(self, encoder: Encoder, values: list[Any]) -> object:
        encoder.count(len(values), _INSTANCE)
        payloads: list[object] = []
        try:
            for value in values:
                payloads.append(self.payload(encoder, value))
        except Refusal as refusal:
            refusal.steps.append(f"[{len(payloads)}]")
            raise
        encoder.became(values, payloads, NODES)
        encoder.enter()
        try:
            node = encoder.sequence(payloads)
        except Refusal as refusal:
            _name_field(refusal, -2)
            raise
        encoder.depth -= 1
        return [HEADS[Tag.EACH], self.name, node]


@dataclass(frozen=True, slots=True)
class Serialized:
    """What a registered class made of an instance, on its way: `Serialization.serialize` returns this."""

    name: str
    payload: object


ELEMENTS[Serialized] = Holds(lambda value: (value.payload,), NODES)


def lower_serialized(encoder: Encoder, value: Serialized) -> object:
    """Return the node of an instance that has been serialised already."""
    encoder.keep_order()
    encoder.enter()
    node = _lower_named(encoder, value.name, value.payload)
    encoder.depth -= 1
    return node


def _lower_named(encoder: Encoder, name: str, payload: object) -> object:
    """Return the node of an instance, one level down from its own."""
    try:
        node = encoder.lower(payload)
    except Refusal as refusal:
        _name_field(refusal, -1)
        raise
    return [HEADS[Tag.OBJECT], name, node]


def _name_field(refusal: Refusal, place: int) -> None:
    """Make a step of the path, where it is a key of what stands for an instance, that of an attribute."""
    if len(refusal.steps) >= -place:
        field = refusal.steps[place][2:-2]
        refusal.steps[place] = f".{field}" if field.isidentifier() else refusal.steps[place]


def _entry(name: object) -> Entry:
    entry: Entry | None = _BY_NAME.get(name)  # type: ignore[call-overload]
    if entry is None:
        raise DecodingError(
            f"the message holds an instance of a class {_printable(name)} that is not registered here; register it "
            "with Serialization.register_class before the message is received"
        )
    return entry


def _object(decoder: Decoder, name: object, node: object) -> object:
    entry = _entry(name)
    payload = decoder.value(node)
    return entry_deserialize(entry, payload, decoder.context)


def _each(decoder: Decoder, name: object, node: object) -> list[object]:
    entry = _entry(name)
    payloads = decoder.typed(node, list)
    decoder.count(len(payloads), _INSTANCE)
    context = decoder.context
    return [entry_deserialize(entry, payload, context) for payload in payloads]


def _instances(decoder: Decoder, name: object, field_node: object, *nodes: object) -> list[object]:
    entry = _entry(name)
    fields = decoder.typed(field_node, list)
    if entry.kind is None or entry.form is None or sorted(entry.form.fields) != sorted(fields) or not nodes:
        raise DecodingError(f"the fields of {entry.name} are others at the sender; the class has to be the same there")
    return records.instances(entry.kind, fields, columns_of(decoder, nodes, records.memory(fields)))


def _printable(name: object) -> str:
    return name if type(name) is str and len(name) < 100 and name.isidentifier() else "without a name"


def entry_deserialize(entry: Entry, payload: object, context: Any) -> object:
    """Return the instance that *payload* stands for; what the user's code raises becomes the cause."""
    try:
        return entry.deserialize(payload, **context)
    except Exception as error:
        if is_interrupt(error):
            raise
        raise DecodingError(f"deserialize of {entry.name} raised {type(error).__name__}") from error


_CARRIED: Final = plugins.ATOMS | {list, dict}
"""The types that every other consists of."""

_BY_NAME: Final[dict[str, Entry]] = {}
_NAMED: Final[dict[str, Entry]] = {}

CALLS: Final[dict[int, Callable[..., object]]] = {Tag.OBJECT: _object, Tag.EACH: _each, Tag.INSTANCES: _instances}


def by_type_name(kind: type) -> Callable[[Encoder, Any], object] | None:
    """Return how to lower a class that was registered by its name alone."""
    entry = _NAMED.get(kind.__name__)
    return None if entry is None else entry.lower


def of(value: object) -> Entry | None:
    """Return the entry for the class of *value*."""
    kind = type(value)
    return _BY_TYPE.get(kind) or _NAMED.get(kind.__name__)


def named(name: str) -> Entry | None:
    """Return the entry with that name on the wire."""
    return _BY_NAME.get(name)


def entries() -> list[Entry]:
    """Return all that is registered, in the order in which it was."""
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
    if entry.kind in _CARRIED:
        raise TypeError(f"{entry.kind.__qualname__} is carried as it is, which cannot be changed")
    _BY_NAME[entry.name] = entry
    if entry.kind is None:
        _NAMED[entry.name] = entry
    else:
        _forget_elements(entry.kind)
        if entry.form is not None and entry.form.elements is not None:
            # A dict, or a list, is between these and the fields.
            ELEMENTS[entry.kind] = Holds(entry.form.elements, NODES + 1 + len(entry.form.fields))
        _BY_TYPE[entry.kind] = entry
        plugins.REGISTERED[entry.kind] = entry.lower
        plugins.REGISTERED_COLUMNS[entry.kind] = entry.lower_all


def _forget_elements(kind: type) -> None:
    entry = _BY_TYPE.get(kind)
    if entry is not None and entry.form is not None:
        ELEMENTS.pop(kind, None)


def _same_notebook_class(present: Entry, entry: Entry) -> bool:
    """Return whether a cell was run again, which makes another class of the same definition.

    In a script, two classes of one name are two classes: a function may have made them.
    """
    old, new = present.kind, entry.kind
    return (
        old is not None
        and new is not None
        and old.__module__ == new.__module__ == "__main__"
        and old.__qualname__ == new.__qualname__
        and is_interactive()
        and _definition(old) == _definition(new)
    )


def is_interactive() -> bool:
    """Return whether the program is typed in as it runs: in a notebook, or at a prompt."""
    return hasattr(sys, "ps1") or "get_ipython" in vars(sys.modules["__main__"])


def _definition(kind: type) -> object:
    """Return what a class statement says, to be compared with that of another."""
    bases = [f"{base.__module__}.{base.__qualname__}" for base in kind.__bases__]
    return bases, {name: _meaning(item) for name, item in vars(kind).items() if name not in _NOT_SAID}


_NOT_SAID: Final = {"__dict__", "__weakref__", "__doc__", "__firstlineno__"}


def _meaning(item: Any) -> object:
    function = getattr(item, "__func__", item)
    if isinstance(function, FunctionType):
        said = (function.__defaults__, function.__kwdefaults__, function.__annotations__)
        return type(item).__name__, _instructions(function.__code__), _without_addresses(said)
    if isinstance(item, property):
        return [_meaning(part) for part in (item.fget, item.fset, item.fdel)]
    return type(item).__qualname__, _without_addresses(item)


def _without_addresses(item: object) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(item))


def _instructions(code: CodeType) -> object:
    constants = [_instructions(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, constants


def _describe(entry: Entry) -> str:
    return "a class of that name" if entry.kind is None else f"{entry.kind.__module__}.{entry.kind.__qualname__}"


def clear() -> None:
    """Forget all registered classes."""
    for kind in _BY_TYPE:
        _forget_elements(kind)
    tables: tuple[dict[Any, Any], ...] = (_BY_NAME, _NAMED, _BY_TYPE, plugins.REGISTERED, plugins.REGISTERED_COLUMNS)
    for table in tables:
        table.clear()
