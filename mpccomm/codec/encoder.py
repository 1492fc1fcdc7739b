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
from typing import Any, Final, NamedTuple, NoReturn

import ormsgpack

from mpccomm.codec import builtin, calendar, classes, columns, keys, plugins
from mpccomm.codec.abc import Encoder, Lower, Refusal
from mpccomm.codec.columns import BULK
from mpccomm.codec.plugins import ATOMS, LOWER
from mpccomm.codec.scan import ELEMENTS, ESTIMATES, count_elements, count_written_out
from mpccomm.codec.wire import (
    DENSE,
    HEADS,
    INLINE,
    MAX_DEPTH,
    MAX_ELEMENTS,
    PART_DEPTH,
    ROOM,
    Tag,
    allowance,
    pack_envelope,
    shortest,
)
from mpccomm.errors import EncodingError, MissingExtraError
from mpccomm.interrupts import is_interrupt

_STRINGS: Final = frozenset({str})

_MANY_KEYS: Final = 1000
"""Keys of one dict, of which msgpack's parser would know hardly any again, and hash each twice."""
_MANY: Final = 1 << 16
"""Containers that are lowered one by one, or elements in the same ones over again, before all are counted."""
_AGAIN: Final = 16
"""How many of these the lowering of something for a second time counts as."""

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

    __slots__ = (
        "_again",
        "_begin",
        "_deepest",
        "_due",
        "_known",
        "_level",
        "_limit",
        "_lowered",
        "_parts",
        "_payloads",
        "_room",
        "_shared",
        "_unique",
        "_whole",
        "asked",
        "context",
        "depth",
        "elements",
        "memory",
        "nodes",
        "ordered",
        "segments",
        "snapshot",
    )

    def __init__(
        self, snapshot: bool, context: Mapping[str, object], begin: Callable[[], None] | None, max_elements: int
    ) -> None:
        self._begin = begin
        self.snapshot = snapshot
        self.context = context
        self.segments: list[bytes | memoryview] = []
        self.ordered = False
        self.depth = 0
        self._deepest = 0
        self.elements = max_elements
        self.nodes = max_elements
        self.memory = 0
        self._level = 0
        self._limit = max_elements
        self._parts: list[tuple[object, int]] = []
        self._room = ROOM
        self._whole: object = None
        self._payloads: dict[int, tuple[object, object, int]] = {}
        self._unique = 0
        self._known: dict[int, _Known | None] = {}
        self.asked: dict[int, object] = {}
        self._lowered = 0
        self._shared = 0
        self._again = 0
        self._due = _MANY

    def message(self, value: object) -> object:
        """Return the node of the whole message."""
        self._whole = value
        node = self.lower(value)
        if not self._parts:
            return node
        nodes = [HEADS[Tag.PARTS], node]
        # Those that are too deep within a part become parts as well, while this goes on.
        for part, level in self._parts:
            self.depth, self._deepest, self._level = 0, 0, level
            try:
                nodes.append(self.lower(part))
            except Refusal as refusal:
                refusal.steps.append(" ... ")
                raise
        return nodes

    def is_counted(self, node: object) -> bool:
        """Return whether the elements of *node* have been counted: where the same nodes over again are most of it.

        That is done before it is packed, and takes a step for each node that is there once.
        """
        if self._shared <= (self._limit - self.nodes) * 7 >> 3:
            return False
        elements = 1 + (count_written_out(node, self._limit) or 0)
        if elements > self._limit:
            raise Refusal(TOO_MANY)
        return elements + _BALLAST <= self._limit

    def lower(self, value: object) -> object:
        """Return the node of *value*."""
        kind = type(value)
        if kind in ATOMS:
            return value
        if self.depth >= PART_DEPTH:
            return self._part(value)
        return (plugins.REGISTERED.get(kind) or LOWER.get(kind) or _find(kind))(self, value)

    def _part(self, value: object) -> object:
        level = self._level + self.depth
        if level >= MAX_DEPTH:
            raise Refusal(
                f"is nested more than {MAX_DEPTH} levels deep (an instance of a class is two), or contains itself; "
                "send it in parts"
            )
        self._account_again(_AGAIN)
        self._unique += 1
        self._parts.append((value, level))
        # The first is the one that all others are parts of.
        return ormsgpack.Ext(Tag.PART, (len(self._parts) + 1).to_bytes(4, "little"))

    def _account(self, work: int) -> None:
        """Note *work*, in containers that are lowered one by one, or over again. Once that is much, all is counted.

        What is far larger than it looks is refused then. Objects of the user tell only bit by bit what is in them: all is
        counted again when more has been done than was to be expected, and more than twice what had been done then.
        """
        self._lowered += work
        if self._lowered < self._due:
            return
        ask = (self._ask,) if self._again > self._lowered >> 1 else ()
        elements = count_written_out(self._whole, self._limit, self._payloads, 2 * self._lowered, *ask)
        if elements is None:
            raise Refusal("contains itself, which cannot be sent")
        if elements > self._limit:
            raise Refusal(TOO_MANY)
        self._due = max(elements, 4 * self._lowered)

    def _account_again(self, work: int) -> None:
        """The same for what has been lowered before."""
        self._again += work
        self._account(work)

    def _account_repeated(self, values: list[Any]) -> None:
        """The same for columns, each of which is a list of its own: one of them that repeats itself is what tells."""
        again = len(values) - len(set(map(id, values)))
        if again:
            self._account_again(_AGAIN + again)

    def _ask(self, item: object) -> bool:
        """What *item* becomes, in advance, where the same things are lowered over and over again; return whether it tells."""
        entry = classes.of(item)
        if entry is None or entry.form is not None:
            return False
        self.keep_order()
        try:
            payload = entry.payload(self, item)
        except Refusal:
            # It will say so once more where there is a path to it.
            return False
        self.asked[id(item)] = payload
        self._payloads[id(item)] = item, payload, classes.NODES
        return True

    def became(self, instances: Iterable[object], payloads: list[Any], nodes: int) -> None:
        """Some objects became *payloads*, which are to be lowered, each with *nodes* of an envelope around it.

        They may become something else each time they occur. What they hold is known for all that leads to them by now.
        """
        if ATOMS.issuperset(map(type, payloads)):
            return
        again = 0
        for instance, payload in zip(instances, payloads, strict=True):
            again += id(instance) in self._payloads
            self._payloads[id(instance)] = instance, payload, nodes
        if again:
            self._account_again(_AGAIN * again)

    def call(self, tag: Tag, *arguments: object) -> list[object]:
        """Return a call, with arguments that are values (not nodes)."""
        self.enter()
        node: list[object] = [HEADS[tag]]
        node.extend(map(self.lower, arguments))
        self.depth -= 1
        return node

    def buffer(self, data: bytes | memoryview, *, mutable: bool) -> object:
        """Return the node of a buffer of one dimension in bytes; *mutable* if the program may still write to it."""
        size = len(data)
        if size < INLINE:
            return bytes(data)
        if size <= self._room:
            self._room -= size
            return bytes(data)
        if mutable and self.snapshot:
            data = bytes(data)
        self._unique += 1
        # Read-only, lest a decoder in the same process takes the sender's memory for its own.
        self.segments.append(data if type(data) is bytes else memoryview(data).toreadonly())
        return ormsgpack.Ext(Tag.SEGMENT, len(self.segments).to_bytes(4, "little"))

    def charge(self, memory: int) -> None:
        """Account for memory, in bytes, that the decoder will charge."""
        self.memory += memory

    def count(self, elements: int, memory: int) -> None:
        """Account for elements of a column, each of *memory* bytes, as the decoder will."""
        self.elements -= elements
        self.memory += elements * memory
        if self.elements < 0:
            raise Refusal(TOO_MANY)

    def count_nodes(self, nodes: int) -> None:
        """Account for nodes of the envelope, long before they are packed."""
        self.nodes -= nodes
        if self.nodes < 0:
            raise Refusal(TOO_MANY)

    def enter(self) -> None:
        """One level down; the caller takes one off `depth` when it is done."""
        self.depth += 1
        if self.depth > self._deepest:
            self._deepest = self.depth
            if self.depth > 2 * PART_DEPTH:
                raise Refusal("is nested too deeply; send it in parts")

    def keep_order(self) -> None:
        """A class of the user takes part; to be called before it does."""
        self._unique += 1
        if not self.ordered:
            self.ordered = True
            if self._begin is not None:
                self._begin()

    def once(self, owner: object, lower: Callable[[Any], object], argument: object) -> object:
        """Return what *lower* makes of *argument*, one level down, worked out once however often *owner* occurs.

        A list of two references to a list of two references, and so on, has more elements at each level than the one
        above: what they come to is known before they are all lowered.
        """
        known = self._known.get(id(owner), _NEW)
        if known is None:
            raise Refusal("contains itself, which cannot be sent")
        if known is not _NEW:
            if known.nodes > self.nodes or known.elements > self.elements:
                raise Refusal(TOO_MANY)
            if known.shared and self.depth + known.height <= PART_DEPTH:
                self.nodes -= known.nodes
                self._shared += known.nodes
                self.elements -= known.elements
                self.memory += known.memory
                self._deepest = max(self._deepest, self.depth + known.height)
                return known.node
            self._account_again(_AGAIN + known.nodes + known.elements)
        self._account(1)
        self._known[id(owner)] = None
        nodes, elements, memory = self.nodes, self.elements, self.memory
        unique, deepest = self._unique, self._deepest
        self.enter()
        self._deepest = self.depth
        node = lower(argument)
        self.depth -= 1
        height = self._deepest - self.depth
        self._deepest = max(self._deepest, deepest)
        # Of what may occur only once in a message, another has to be made each time.
        shared = unique == self._unique
        used = nodes - self.nodes, elements - self.elements, self.memory - memory
        self._known[id(owner)] = _Known(owner, *used, height, node, shared)
        return node

    def items(self, values: Iterable[object]) -> list[object]:
        """Return the nodes of *values*, an index at fault named in the path."""
        nodes: list[object] = []
        add = nodes.append
        lower = self.lower
        try:
            for value in values:
                add(lower(value))
        except Refusal as refusal:
            refusal.steps.append(f"[{len(nodes)}]")
            raise
        self.count_nodes(len(nodes))
        return nodes

    def sequence(self, value: list[Any], owner: object = None) -> object:
        """Return the node of a list (or of the elements of *owner*, another container)."""
        size = len(value)
        # Counting compares by identity, which is faster than a set where the list is long.
        if size >= BULK and countOf(map(type, value), type(value[0])) == size:
            kind = type(value[0])
            column = plugins.column(kind)
            if column is not None:
                if self.depth > 1 and kind in ELEMENTS:
                    self._account_repeated(value)
                node = column(self, value)
                if node is not None:
                    return node
            if kind in ATOMS:
                self.count_nodes(size)
                return value
        elif ATOMS.issuperset(map(type, value)):
            self.count_nodes(size)
            return value
        elif size >= BULK:
            node = columns.lower_groups(self, value, map(type, value))
            if node is not None:
                return node
        return self.once(value if owner is None else owner, self.items, value)

    def mapping(self, value: dict[Any, Any]) -> object:
        """Return the node of a dict. Only keys that are all plain text may stay: others msgpack would change."""
        size = len(value)
        if countOf(map(type, value), str) != size:
            return self.once(value, self._dict, value)
        if ATOMS.issuperset(map(type, value.values())):
            if size >= _MANY_KEYS:
                return self._dict(value)
            self.count_nodes(size)
            return value
        if size >= BULK and any(map(plugins.column, set(map(type, value.values())))):
            return self.once(value, self._dict, value)
        return self.once(value, self.fields, value)

    def _dict(self, value: dict[object, object]) -> object:
        return [HEADS[Tag.DICT], *self.pairs(value)]

    def fields(self, value: Mapping[object, object]) -> dict[object, object]:
        """Return the node of a dict with text as its keys."""
        key: object = None
        node = {}
        lower = self.lower
        try:
            for key, item in value.items():
                node[key] = lower(item)
        except Refusal as refusal:
            refusal.steps.append(_step(key))
            raise
        self.count_nodes(len(node))
        return node

    def pairs(self, value: Mapping[Any, Any]) -> tuple[object, object]:
        """Keys and values of a mapping, as two lists."""
        names = list(value)
        self.charge(keys.MEMORY * len(names))
        try:
            key_node = self.sequence(keys.distinct(names))
        except Refusal as refusal:
            refusal.steps.append(".keys()")
            raise
        try:
            value_node = self.sequence(list(value.values()))
        except Refusal as refusal:
            _index_to_key(refusal, names)
            raise
        return key_node, value_node


class _Known(NamedTuple):
    """A container that has been lowered; referred to, so that no other gets its place in memory meanwhile."""

    owner: object
    nodes: int
    elements: int
    memory: int
    height: int
    node: object
    shared: bool


_NEW: Final = _Known(None, 0, 0, 0, 0, None, False)


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
    return [HEADS[Tag.TUPLE], encoder.sequence(list(value), value)]


def _enum(encoder: Encoder, value: Enum) -> object:
    payload = value.value
    encoder.became((value,), [payload], -1)
    return encoder.lower(payload)


LOWER.update(
    {
        bytes: _bytes,
        list: _list,
        tuple: _tuple,
        dict: _dict,
        classes.Serialized: classes.lower_serialized,
        **builtin.LOWER,
        **calendar.LOWER,
    }
)
plugins.COLUMNS.update({**columns.COLUMNS, **builtin.COLUMNS, **calendar.COLUMNS})


def _find(kind: type) -> Lower:
    """Return the way to lower *kind* that is not in the table yet."""
    try:
        found = plugins.lowering(kind) or classes.by_type_name(kind)
    except MissingExtraError as error:
        raise Refusal(f"cannot be sent: {error}") from error
    if found is None:
        found = _enum if issubclass(kind, Enum) else _refuse
    return found


_ADVICE: Final = {
    **dict.fromkeys(("dateutil.tz", "pytz"), "use the zoneinfo.ZoneInfo of that name, or a datetime.timezone"),
    "polars": "send value.to_arrow(), of a LazyFrame that of value.collect(), and give what arrives to polars.from_arrow",
    "scipy.sparse": "send (m.data, m.indices, m.indptr, m.shape), where m is value.tocsr()",
}
"""What to do instead with the types of some libraries, by their modules."""


def _refuse(encoder: Encoder, value: object) -> NoReturn:
    kind = type(value)
    base = next((base for base in kind.__mro__[1:] if base in LOWER or base in ATOMS), None)
    remedy = "register the class with Serialization.register_class"
    advice = next((text for module, text in _ADVICE.items() if f"{kind.__module__}.".startswith(f"{module}.")), None)
    if advice is not None:
        remedy = advice
    elif base is None:
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
    if option is None and (plain := encode_plain(value)) is not None:
        return _new(Encoded, ((plain,), False))
    segments: list[bytes | memoryview] = []
    ordered = counted = False
    memory = 0
    try:
        if _is_small(value, 2):
            node = value
        else:
            encoder = MessageEncoder(snapshot, context or {}, begin, max_elements)
            node = encoder.message(value)
            counted = encoder.is_counted(node)
            segments, ordered, memory = encoder.segments, encoder.ordered, encoder.memory
        try:
            envelope = pack_envelope(node, option)
        except TypeError as error:
            if is_interrupt(error):
                raise
            envelope, more = _second_attempt(node, option, error)
            memory += more
            counted = False
        if memory or len(envelope) >= DENSE:
            envelope = _ballasted(envelope, segments, memory)
        if len(envelope) > max_elements and not counted and count_elements(envelope, max_elements) > max_elements:
            raise Refusal(TOO_MANY)
    except Refusal as refusal:
        raise EncodingError(str(refusal)) from refusal.__cause__
    except MissingExtraError as error:
        raise EncodingError(f"message cannot be sent: {error}") from error
    except MemoryError as error:
        raise EncodingError("there is not enough memory to encode the message; send it in parts") from error
    except RecursionError as error:
        raise EncodingError("message is nested too deeply for the interpreter's stack at this point") from error
    return _new(Encoded, ((envelope, *segments), ordered))


def encode_plain(value: object, _packb: Callable[..., bytes] = ormsgpack.packb) -> bytes | None:
    """Return the envelope of *value* if that is one small thing that msgpack knows: bytes, a number, a short text.

    It is all there is then, and not ordered. None: `encode` has to see the value.
    """
    kind = type(value)
    if kind is bytes:
        if len(value) > ROOM:  # type: ignore[arg-type]
            return None
    elif kind not in ATOMS or (kind is str and len(value) >= INLINE):  # type: ignore[arg-type]
        return None
    try:
        return _packb(value)
    except TypeError as error:
        if is_interrupt(error):
            raise
        return None


_new: Final = tuple.__new__
"""Makes an `Encoded` of its fields, without the call of Python that the class makes for that."""


_BALLAST: Final = 3
"""Elements that ballast adds to an envelope."""
_CALL_OF_BALLAST: Final = 1 << 10
"""Memory that ballast takes itself, beside its bytes."""


def _ballasted(envelope: bytes, segments: list[bytes | memoryview], memory: int) -> bytes:
    """Return *envelope* with ballast among the *segments*, if its value takes more than its size allows.

    *memory* is what is charged beyond the nodes.
    """
    size = len(envelope)
    for segment in segments:
        size += len(segment)
    allowed = allowance(size)
    total = 0
    for estimate in ESTIMATES:
        total = memory + estimate(envelope)
        if total <= allowed:
            return envelope
    segments.append(bytes(max(INLINE, shortest(total + _CALL_OF_BALLAST) - size)))
    ballast = ormsgpack.Ext(Tag.SEGMENT, len(segments).to_bytes(4, "little"))
    # The array of these two and of what the envelope is.
    return b"".join((b"\x93", pack_envelope(HEADS[Tag.PADDED]), pack_envelope(ballast), envelope))


def _is_small(value: Any, levels: int) -> bool:
    """Return whether *value* is its own node and short, as most messages are: then nothing has to be remembered on the way."""
    kind = type(value)
    items: Iterable[object]
    if kind is dict:
        if len(value) >= BULK or not _STRINGS.issuperset(map(type, value)):
            return False
        items = value.values()
    elif kind is list and len(value) < BULK:
        items = value
    else:
        return kind in ATOMS or (kind is bytes and len(value) < INLINE)
    if ATOMS.issuperset(map(type, items)):
        return True
    for item in items:  # noqa: SIM110 -- a generator costs more
        if type(item) not in ATOMS and not (levels and _is_small(item, levels - 1)):
            return False
    return True


def _second_attempt(node: object, option: int | None, error: TypeError) -> tuple[bytes, int]:
    """Return *node* as msgpack, and the memory that is to be charged for what was changed in it."""
    if "Recursion" in str(error):
        raise Refusal("is nested too deeply; send it in parts") from None
    escape = _Escape()
    return pack_envelope(escape.node(node), option), escape.memory


class _Escape:
    """Nodes with integers of more than 64 bits, and text that UTF-8 cannot express, as leaves.

    They are rare, and so not looked for before they are found.
    """

    def __init__(self) -> None:
        self.memory = 0
        self._done: dict[int, tuple[object, int]] = {}

    def node(self, node: object) -> object:
        """*node* itself, or what takes its place."""
        kind = type(node)
        if kind is int:
            return node if -(1 << 63) <= node < 1 << 64 else _big_int(node)  # type: ignore[operator,arg-type]
        if kind is str:
            return _text(node)  # type: ignore[arg-type]
        if kind is not list and kind is not dict:
            return node
        known = self._done.get(id(node))
        if known is None:
            before = self.memory
            escaped = self._list(node) if kind is list else self._dict(node)  # type: ignore[arg-type]
            self._done[id(node)] = escaped, self.memory - before
            return escaped
        self.memory += known[1]
        return known[0]

    def _list(self, node: list[object]) -> list[object]:
        return list(map(self.node, node))

    def _dict(self, node: dict[str, object]) -> object:
        names = list(map(_text, node))
        values = self._list(list(node.values()))
        if set(map(type, names)) <= _STRINGS:
            return dict(zip(names, values, strict=True))
        self.memory += keys.MEMORY * len(names)
        return [HEADS[Tag.DICT], names, values]


def _big_int(value: int) -> object:
    return ormsgpack.Ext(Tag.INT, value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True))


def _text(value: str) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        return ormsgpack.Ext(Tag.TEXT, value.encode("utf-8", "surrogatepass"))
    return value
