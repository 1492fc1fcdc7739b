"""From an envelope and its segments to the value.

The input is chosen by the sender, who may mean harm. Every constructor checks what it was given before it allocates, and what
it allocates beyond its input is accounted for, so that any input gives a value or a `DecodingError`, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import countOf
from typing import Any, Final

from ormsgpack import unpackb

from mpccomm.codec import builtin, calendar, classes, columns, plugins
from mpccomm.codec.abc import T
from mpccomm.codec.scan import ESTIMATES, count_elements
from mpccomm.codec.wire import (
    ARGUMENT,
    DENSE,
    EXPANSION,
    FEW_ARGUMENTS,
    MAX_ELEMENTS,
    MAX_WIRE_DEPTH,
    MAX_WIRE_LEVELS,
    SIZES,
    TWO_MORE,
    Extension,
    Tag,
    allowance,
    unpack_envelope,
)
from mpccomm.errors import DecodingError
from mpccomm.interrupts import is_interrupt
from mpccomm.memory import Buffer, Segment, buffer_of

_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
"""What msgpack builds by itself, and is a value already."""

CALLS: Final[dict[int, Callable[..., object]]] = {
    **columns.CALLS,
    **builtin.CALLS,
    **calendar.CALLS,
    **classes.CALLS,
}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {**builtin.LEAVES}
"""The constructors of tagged calls and leaves; plug-ins add theirs when a tag of theirs is first met."""


class MessageDecoder:
    """What one call of `decode` knows while it builds its value; see `mpccomm.codec.abc.Decoder`."""

    __slots__ = (
        "_envelope",
        "_estimates",
        "_height",
        "_nodes",
        "_parts",
        "context",
        "depth",
        "elements",
        "memory",
        "segments",
    )

    def __init__(self, segments: Sequence[Segment], context: Mapping[str, object], max_elements: int) -> None:
        self.segments: list[Segment | None] = list(segments)
        self.context = context
        self.depth = 0
        self.elements = max_elements
        self._envelope = buffer_of(segments[0])
        # What the nodes take is found out as exactly as what else there is asks for: here by the first estimate.
        self._estimates = 1
        size = len(self._envelope)
        self._nodes = EXPANSION * size
        self.memory = allowance(size if len(segments) == 1 else sum(map(len, segments))) - self._nodes
        self._parts: list[tuple[object, int] | None] = []
        self._height = 0

    def message(self, node: object) -> Any:
        """Return the value of the whole message, of which *node* is the envelope."""
        if type(node) is list and len(node) == 3 and type(node[0]) is Extension and node[0].start == Tag.PADDED:
            _, ballast, node = node
            self.buffer(ballast)
        if type(node) is not list or not node or type(node[0]) is not Extension or node[0].start != Tag.PARTS:
            return self.value(node)
        self._parts = [None] * len(node)
        # Each is referred to by one of a smaller number: it is there by then, and nothing can contain itself.
        for index in range(len(node) - 1, 0, -1):
            self.depth, self._height = 0, MAX_WIRE_DEPTH
            self._parts[index] = (self.value(node[index]), self._height)
        value, _ = self._part(1)
        if any(part is not None for part in self._parts):
            raise DecodingError("the message has a part that no other refers to")
        return value

    def _part(self, index: int) -> tuple[object, int]:
        part = self._parts[index] if 0 < index < len(self._parts) else None
        if part is None:
            raise DecodingError("the message refers to a part that does not exist, or twice to one")
        self._parts[index] = None
        return part

    def count(self, elements: int, memory: int) -> None:
        """Account for objects that are about to be built, each of *memory* bytes."""
        self.elements -= elements
        if self.elements < 0:
            raise DecodingError("the message has more elements than the limit; send bulk data as arrays")
        self.charge(elements * memory)

    def charge(self, memory: int) -> None:
        """Account for memory, in bytes, that is about to be taken."""
        self.memory -= memory
        while self.memory < 0:
            if self._estimates == len(ESTIMATES):
                raise DecodingError(_TOO_LARGE)
            nodes = min(self._nodes, ESTIMATES[self._estimates](self._envelope))
            self._estimates += 1
            self.memory += self._nodes - nodes
            self._nodes = nodes

    def value(self, node: object) -> Any:
        """Return the value of *node*. Lists and dicts are changed in place."""
        kind = type(node)
        if kind in _PLAIN:
            return node
        if kind is Extension:
            return self._leaf(node.start, node.stop)  # type: ignore[attr-defined]
        self.depth += 1
        if self.depth > MAX_WIRE_DEPTH:
            raise DecodingError("the message is nested too deeply")
        if kind is dict:
            self._items(node, node.items(), node.values())  # type: ignore[attr-defined]
        elif node and type(node[0]) is Extension and not node[0].stop:  # type: ignore[index]
            node = self._call(node[0].start, node[1:])  # type: ignore[index]
        else:
            self._items(node, enumerate(node), node)  # type: ignore[arg-type]
        self.depth -= 1
        return node

    def _items(self, node: Any, items: Iterable[tuple[Any, object]], values: Iterable[object]) -> None:
        if not _PLAIN.issuperset(map(type, values)) and not _are_plain(node):
            for key, item in items:
                if type(item) not in _PLAIN:
                    node[key] = self.value(item)

    def typed(self, node: object, kind: type[T]) -> T:
        """Return the value of *node*, which has to be exactly of type *kind*."""
        value = self.value(node)
        if type(value) is not kind:
            raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
        return value

    def buffer(self, node: object) -> Buffer:
        """Return the buffer of *node*: of the envelope (bytes), or a segment, which may be writable and then is ours."""
        if type(node) is bytes:
            return node
        if type(node) is not Extension or node.start != Tag.SEGMENT:
            raise TypeError(f"{type(node).__name__} in place of a buffer")
        return buffer_of(self._segment(node.stop))

    def _segment(self, number: bytes) -> Segment:
        index = int.from_bytes(number, "little")
        if not 0 < index < len(self.segments):
            raise ValueError("a segment that does not exist")
        segment = self.segments[index]
        if segment is None:
            raise ValueError("a segment used twice")
        self.segments[index] = None
        return segment

    def _leaf(self, tag: int, data: bytes) -> object:
        if tag == Tag.PART:
            value, height = self._part(int.from_bytes(data, "little"))
            self._height = max(self._height, self.depth + height)
            if self._height > MAX_WIRE_LEVELS:
                raise DecodingError("the message is nested too deeply")
            return value
        if tag == Tag.SEGMENT:
            segment = self._segment(data)
            return segment if type(segment) is bytes else bytes(segment)
        build = LEAVES.get(tag) or _find(LEAVES, "LEAVES", tag)
        try:
            return build(data)
        except Exception as error:
            if _passes(error):
                raise
            raise _malformed(error, _name(tag)) from None

    def _call(self, tag: int, nodes: list[object]) -> object:
        if len(nodes) > FEW_ARGUMENTS:
            self.charge(ARGUMENT * len(nodes))
        build = CALLS.get(tag) or _find(CALLS, "CALLS", tag)
        try:
            return build(self, *nodes)
        except Exception as error:
            if _passes(error):
                raise
            raise _malformed(error, _name(tag)) from None


def _are_plain(nodes: Any) -> bool:
    """Return whether *nodes* are many lists, or many dicts, and no element of any needs a look: found out for all at once."""
    if len(nodes) < columns.BULK or type(nodes) is not list:
        return False
    kind = type(nodes[0])
    if kind not in (list, dict) or countOf(map(type, nodes), kind) != len(nodes):
        return False
    elements = chain.from_iterable(nodes if kind is list else map(dict.values, nodes))
    return _PLAIN.issuperset(map(type, elements))


def _passes(error: Exception) -> bool:
    """Return whether *error* says nothing about the message, or has been turned into a `DecodingError` already."""
    return isinstance(error, DecodingError | RecursionError) or is_interrupt(error)


def _malformed(error: Exception, what: str = "value") -> DecodingError:
    if isinstance(error, MemoryError):
        return DecodingError("there is not enough memory for the message")
    # Without the text of the error, which often quotes the value: nothing of it may end up in a log.
    return DecodingError(f"the message holds a malformed {what} ({type(error).__name__})")


def _name(tag: int) -> str:
    return Tag(tag).name.lower().replace("_", " ")


def _find(table: dict[int, Callable[..., object]], name: str, tag: int) -> Callable[..., object]:
    plugin = plugins.of_tag(tag)
    if plugin is not None:
        table.update(getattr(plugin, name))
    try:
        return table[tag]
    except KeyError:
        raise DecodingError(
            f"the message holds a value of an unknown kind ({tag}); the sender may run a later version"
        ) from None


_TOO_LARGE: Final = (
    f"the message would take more memory than its size allows: {EXPANSION} times that, or less in a large one"
)

NOT_PLAIN: Final = object()
"""No value: what `decode_plain` returns for all but the plainest."""


def decode_plain(segments: Sequence[Segment]) -> Any:
    """Return the value if it is one small thing that msgpack knows, as most are; `NOT_PLAIN`: `decode` has to see it."""
    if len(segments) == 1:
        envelope: Any = segments[0]
        size = len(envelope)
        # The head shows that nothing is tagged in it, and that nothing follows.
        if size and (
            size == (SIZES[envelope[0]] or (size > 1 and envelope[1] + 2))
            or (size > 0xFF and envelope[0] in TWO_MORE and size == (envelope[1] << 8 | envelope[2]) + 3)
        ):
            try:
                return unpackb(envelope)
            except ValueError:
                pass  # it is not what its head says
    return NOT_PLAIN


def decode(
    segments: Sequence[Segment],
    *,
    context: Mapping[str, object] | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> object:
    """Return the value that `encode` made *segments* of.

    A segment that is writable (a bytearray, a writable memoryview, or a `Memory`) is handed over: it may become the memory of
    an array. Others are copied where the value has to be writable. *context* is what the ``deserialize`` methods of the
    user's classes get as keyword arguments.

    Takes memory of at most 128 times the input, plus 1 MB: 20 times, plus 50 MB, where the input is no more than a megabyte,
    and 2 times for buffers and arrays.
    Raises `DecodingError` for anything else than a value, and its subclass `MissingExtraError` for one that needs an
    optional library. What a ``deserialize`` method of the user raised is its ``__cause__``.
    """
    try:
        envelope = buffer_of(segments[0])
        if len(segments) == 1 and (plain := decode_plain((envelope,))) is not NOT_PLAIN:
            return plain
        size = len(envelope)
        if size > max_elements and count_elements(envelope, max_elements) > max_elements:
            raise DecodingError("the message has more elements than the limit; send bulk data as arrays")
        decoder = MessageDecoder(segments, context or {}, max_elements) if size >= DENSE else None
        if decoder is not None:
            decoder.charge(0)
        node, tagged = unpack_envelope(envelope)
        if not tagged and len(segments) == 1:
            return node
        if decoder is None:
            decoder = MessageDecoder(segments, context or {}, max_elements)
        decoder.segments[0] = None
        value = decoder.message(node)
        if any(segment is not None for segment in decoder.segments):
            raise DecodingError("the message has a buffer that no part of the value uses")
    except Exception as error:
        if _passes(error):
            raise
        raise _malformed(error) from None
    return value
