"""From a value to its envelope and segments.

*Lowering* turns a value into a node: what ormsgpack packs exactly, with tagged calls (see `mpccomm.codec.wire`) for
everything else. Most of what is sent needs no change at all, so the types in a container are looked at all at once, and
a container of plain values is its own node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from operator import countOf
from typing import Final, NamedTuple, NoReturn

import ormsgpack

from mpccomm.codec import builtin, classes, plugins
from mpccomm.codec.abc import Encoder, Lower
from mpccomm.codec.columns import BULK, bulk, lower_rows
from mpccomm.codec.interrupts import is_interrupt
from mpccomm.codec.keys import distinct
from mpccomm.codec.plugins import ATOMS, LOWER
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.scan import count_elements
from mpccomm.codec.wire import EXPANSION, HEADS, INLINE, MAX_DEPTH, MAX_ELEMENTS, Tag, pack_envelope
from mpccomm.errors import EncodingError, MissingExtraError

_STR: Final = {str}

TOO_MANY: Final = f"has more elements than a message may have ({MAX_ELEMENTS}); send bulk data as arrays, or in parts"


class Encoded(NamedTuple):
    """An encoded value.

    ``segments[0]`` is the envelope, the others are the large buffers beside it: contiguous, one dimension, bytes.
    ``ordered`` tells that classes of the user took part, which may keep state from message to message: such messages
    have to be decoded in the order in which they were encoded.
    """

    segments: tuple[bytes | memoryview, ...]
    ordered: bool


class MessageEncoder:
    """What one call of `encode` knows while it lowers its value; see `mpccomm.codec.abc.Encoder`."""

    __slots__ = ("_begin", "context", "depth", "elements", "ordered", "segments", "snapshot")

    def __init__(
        self, snapshot: bool, context: Mapping[str, object], begin: Callable[[], None] | None, max_elements: int
    ) -> None:
        self._begin = begin
        self.snapshot = snapshot
        self.context = context
        self.segments: list[bytes | memoryview] = []
        self.ordered = False
        self.depth = 0
        self.elements = max_elements

    def lower(self, value: object) -> object:
        """The node of *value*."""
        kind = type(value)
        if kind in ATOMS:
            return value
        return (plugins.REGISTERED.get(kind) or LOWER.get(kind) or _find(kind))(self, value)

    def call(self, tag: Tag, *arguments: object) -> list[object]:
        """A call, with arguments that are values (not nodes)."""
        self.enter()
        node: list[object] = [HEADS[tag]]
        node.extend(map(self.lower, arguments))
        self.depth -= 1
        return node

    def buffer(self, data: bytes | memoryview, *, mutable: bool) -> object:
        """The node of a buffer of one dimension in bytes; *mutable* if somebody may still write to it."""
        size = len(data)
        if size < INLINE:
            return bytes(data)
        if mutable and self.snapshot:
            data = bytes(data)
        # Read-only, lest a decoder in the same process takes the sender's memory for its own.
        self.segments.append(data if type(data) is bytes else memoryview(data).toreadonly())
        return ormsgpack.Ext(Tag.SEGMENT, len(self.segments).to_bytes(4, "little"))

    def ballast(self, memory: int) -> object:
        """Bytes that make up for *memory* that the decoder has to take, and that the rest of a value does not show.

        What a message may take is a multiple of its size, and an honest one must never reach that.
        """
        return self.buffer(bytes(memory // EXPANSION), mutable=False)

    def count(self, elements: int) -> None:
        """Account for elements of a column, as the decoder will."""
        self.elements -= elements
        if self.elements < 0:
            raise Refusal(TOO_MANY)

    def enter(self) -> None:
        """One level down; the caller takes one off `depth` when it is done."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refusal(f"is nested more than {MAX_DEPTH} levels deep, or contains itself; send it in parts")

    def keep_order(self) -> None:
        """A class of the user takes part; to be called before it does."""
        if not self.ordered:
            self.ordered = True
            if self._begin is not None:
                self._begin()

    def items(self, values: Iterable[object]) -> list[object]:
        """The nodes of *values*, an index at fault named in the path."""
        nodes: list[object] = []
        add = nodes.append
        lower = self.lower
        try:
            for value in values:
                add(lower(value))
        except Refusal as refusal:
            refusal.steps.append(f"[{len(nodes)}]")
            raise
        return nodes

    def sequence(self, value: list[object]) -> object:
        """The node of a list (or of the elements of another container)."""
        # Counting compares by identity, which is faster than a set where the list is long.
        if len(value) >= BULK and countOf(map(type, value), type(value[0])) == len(value):
            node = self._bulk(value, type(value[0]))
            if node is not None:
                return node
        elif set(map(type, value)) <= ATOMS:
            return value
        self.enter()
        nodes = self.items(value)
        self.depth -= 1
        return nodes

    def _bulk(self, value: list[object], kind: type) -> object | None:
        if kind is list or kind is tuple:
            return lower_rows(self, value, kind)
        column = bulk(kind)
        if column is not None:
            return column(self, value)
        return value if kind in ATOMS else None

    def mapping(self, value: dict[object, object]) -> object:
        """The node of a dict. Only keys that are all plain text may stay: others msgpack would change."""
        if set(map(type, value)) <= _STR:
            if set(map(type, value.values())) <= ATOMS:
                return value
            return self.fields(value)
        return [HEADS[Tag.DICT], *self.pairs(value)]

    def fields(self, value: Mapping[object, object]) -> dict[object, object]:
        """The node of a dict with text as its keys."""
        self.enter()
        key: object = None
        node = {}
        lower = self.lower
        try:
            for key, item in value.items():
                node[key] = lower(item)
        except Refusal as refusal:
            refusal.steps.append(_step(key))
            raise
        self.depth -= 1
        return node

    def pairs(self, value: Mapping[object, object]) -> tuple[object, object]:
        """Keys and values of a mapping, as two lists."""
        keys = list(value)
        try:
            key_node = self.sequence(distinct(keys))
        except Refusal as refusal:
            refusal.steps.append(".keys()")
            raise
        try:
            value_node = self.sequence(list(value.values()))
        except Refusal as refusal:
            _index_to_key(refusal, keys)
            raise
        return key_node, value_node


def _index_to_key(refusal: Refusal, keys: list[object]) -> None:
    step = refusal.steps[-1] if refusal.steps else ""
    if step.startswith("[") and step[1:-1].isdigit():
        key = keys[int(step[1:-1])]
        refusal.steps[-1] = _step(key)


def _step(key: object) -> str:
    if type(key) is str:
        return f"[{json.dumps(key, ensure_ascii=False)}]"
    return f"[{key!r}]" if type(key) in ATOMS else f"[<{type(key).__qualname__}>]"


def _bytes(encoder: Encoder, value: bytes) -> object:
    return value if len(value) < INLINE else encoder.buffer(value, mutable=False)


def _list(encoder: Encoder, value: list[object]) -> object:
    return encoder.sequence(value)


def _dict(encoder: Encoder, value: dict[object, object]) -> object:
    return encoder.mapping(value)


def _tuple(encoder: Encoder, value: tuple[object, ...]) -> object:
    return [HEADS[Tag.TUPLE], encoder.sequence(list(value))]


def _enum(encoder: Encoder, value: Enum) -> object:
    return encoder.lower(value.value)


LOWER.update(
    {
        bytes: _bytes,
        list: _list,
        tuple: _tuple,
        dict: _dict,
        classes.Serialized: classes.lower_serialized,
        **builtin.LOWER,
    }
)


def _find(kind: type) -> Lower:
    """The way to lower *kind* that is not in the table yet."""
    try:
        found = plugins.lowering(kind) or classes.by_type_name(kind)
    except MissingExtraError as error:
        raise Refusal(f"cannot be sent: {error}") from error
    if found is None:
        found = _enum if issubclass(kind, Enum) else _refuse
    return found


def _refuse(encoder: Encoder, value: object) -> NoReturn:
    kind = type(value)
    base = next((base for base in kind.__mro__[1:] if base in LOWER or base in ATOMS), None)
    remedy = "register the class with Serialization.register_class"
    if base is None:
        remedy += ", or convert the value to a type that can be sent"
    else:
        remedy += f", or convert the value to its base class {base.__qualname__}, as which it would arrive"
    raise Refusal(f"is of type {kind.__module__}.{kind.__qualname__}, which cannot be sent as it is; {remedy}")


def encode(
    value: object,
    *,
    snapshot: bool = False,
    option: int | None = None,
    context: Mapping[str, object] | None = None,
    begin: Callable[[], None] | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> Encoded:
    """Encode *value*.

    Large buffers are not copied but referred to, so that *value* must not be changed before they are on their way;
    with *snapshot*, those that can change are. *option* is a combination of ormsgpack's ``OPT_`` bits. *context* is
    what the ``serialize`` methods of the user's classes get as keyword arguments; before the first of them is called, and
    only then, *begin* is.

    Raises `EncodingError` (also a TypeError) for what cannot be carried exactly, with the path to it and a remedy.
    """
    encoder = MessageEncoder(snapshot, context or {}, begin, max_elements)
    try:
        node = encoder.lower(value)
        try:
            envelope = pack_envelope(node, option)
        except TypeError as error:
            if is_interrupt(error):
                raise
            envelope = _second_attempt(node, option, error)
        if len(envelope) > max_elements and count_elements(envelope, max_elements) > max_elements:
            raise Refusal(TOO_MANY)
    except Refusal as refusal:
        raise EncodingError(str(refusal)) from refusal.__cause__
    except MissingExtraError as error:
        raise EncodingError(f"message cannot be sent: {error}") from error
    except RecursionError as error:
        raise EncodingError("message is nested too deeply for the interpreter's stack at this point") from error
    return Encoded((envelope, *encoder.segments), encoder.ordered)


def _second_attempt(node: object, option: int | None, error: TypeError) -> bytes:
    if "Recursion" in str(error):
        raise Refusal("is nested too deeply; send it in parts") from None
    return pack_envelope(_escape(node, {}), option)


def _escape(node: object, done: dict[int, object]) -> object:
    """*node* with integers of more than 64 bits, and text that UTF-8 cannot express, as leaves.

    They are rare, and so not looked for before they are found.
    """
    kind = type(node)
    if kind is int:
        return node if -(1 << 63) <= node < 1 << 64 else _big_int(node)  # type: ignore[operator,arg-type]
    if kind is str:
        return _text(node)  # type: ignore[arg-type]
    if kind is not list and kind is not dict:
        return node
    if id(node) not in done:
        if kind is list:
            done[id(node)] = [_escape(item, done) for item in node]  # type: ignore[attr-defined]
        else:
            keys = [_text(key) for key in node]  # type: ignore[attr-defined]
            values = [_escape(item, done) for item in node.values()]  # type: ignore[attr-defined]
            plain = set(map(type, keys)) <= _STR
            done[id(node)] = dict(zip(keys, values, strict=True)) if plain else [HEADS[Tag.DICT], keys, values]
    return done[id(node)]


def _big_int(value: int) -> object:
    return ormsgpack.Ext(Tag.INT, value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True))


def _text(value: str) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        return ormsgpack.Ext(Tag.TEXT, value.encode("utf-8", "surrogatepass"))
    return value
