"""Arrow arrays: a type (see `mpccomm.codec.arrow_types`), and for each array of the tree its length and its buffers.

Only what is part of the value leaves. A slice leaves as its own values, without those around it, and what an array holds
in the places of its nulls leaves as zeros, or not at all. What arrives has been compared with type and length, buffer by
buffer, before Arrow sees it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mpccomm.codec.abc import Decoder, Encoder, Refusal
from mpccomm.codec.arrow_types import MEMORY, lower_type, read_type

Bools = NDArray[np.bool_]
Ints = NDArray[Any]

_ALIGNMENT: Final = 8
_LONGEST: Final = 1 << 48
_POINTER: Final = 8
"""Bytes that an element takes when it is shown, even where it has no width in an Arrow array."""


def _offset_type(kind: Any) -> str | None:
    """Return the numpy type of the offsets in an array of *kind*, or None where it has none."""
    types = pa.types
    if types.is_string(kind) or types.is_binary(kind) or types.is_list(kind):
        return "<i4"
    if types.is_large_string(kind) or types.is_large_binary(kind) or types.is_large_list(kind):
        return "<i8"
    return None


# From an array to its node


def lower(encoder: Encoder, data: Any) -> list[object]:
    """Return type and tree of an array or chunked array."""
    if isinstance(data, pa.ChunkedArray):
        data = data.chunk(0) if data.num_chunks == 1 else data.combine_chunks()
    if isinstance(data, pa.ChunkedArray):
        raise Refusal("holds too much text for one Arrow array; send it in parts")
    kind = lower_type(encoder, data.type)
    try:
        data.validate(full=True)
    except pa.ArrowInvalid as error:
        raise Refusal(f"is an Arrow array of {data.type} with values that are none; repair or cast it") from error
    return [kind, _lower_tree(encoder, data, None)]


def _lower_tree(encoder: Encoder, array: Any, hidden: Bools | None) -> list[object]:
    """Return the node of one array of the tree; *hidden* tells which of its values are not part of the whole."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    kind = array.type
    types = pa.types
    bitmap: object = None
    if array.null_count and not types.is_null(kind):
        valid = _unpack_bits(array.buffers()[0], array.offset, len(array))
        if hidden is not None:
            valid |= hidden
        if not valid.all():
            bitmap = encoder.buffer(_pack_bits(valid), mutable=False)
            hidden = ~valid if hidden is None else hidden | ~valid
    buffers: list[object] = [bitmap]
    children: list[object] = []
    code = _offset_type(kind)
    if code is not None:
        offsets, data = _compact(array, code, hidden)
        buffers.append(encoder.buffer(_bytes(offsets), mutable=False))
        if isinstance(data, np.ndarray):
            buffers.append(encoder.buffer(_bytes(data), mutable=False))
        else:
            children.append(_lower_tree(encoder, data, None))
    elif types.is_struct(kind):
        children = [_lower_tree(encoder, array.field(index), hidden) for index in range(kind.num_fields)]
    elif types.is_fixed_size_list(kind):
        size = kind.list_size
        inner = array.values.slice(array.offset * size, len(array) * size)
        children = [_lower_tree(encoder, inner, None if hidden is None else np.repeat(hidden, size))]
    elif not types.is_null(kind):
        buffers.append(encoder.buffer(_fixed(array, hidden), mutable=False))
    encoder.charge(_hidden_memory(kind, len(array)))
    return [len(array), buffers, children]


def _hidden_memory(kind: Any, length: int) -> int:
    """Return the bytes that an array of *kind* may take, and whose size on the wire does not tell."""
    return MEMORY + (_POINTER * length if _is_without_width(kind) else 0)


def _is_without_width(kind: Any) -> bool:
    types = pa.types
    if types.is_fixed_size_list(kind):
        return not kind.list_size or _is_without_width(kind.value_type)
    if types.is_struct(kind):
        return all(map(_is_without_width, (field.type for field in kind)))
    return types.is_null(kind) or (types.is_fixed_size_binary(kind) and not kind.byte_width)


def _unpack_bits(buffer: Any, offset: int, length: int) -> Bools:
    first = offset >> 3
    data = np.frombuffer(buffer, np.uint8)[first : (offset + length + 7) >> 3]
    skipped = offset & 7
    return np.unpackbits(data, count=skipped + length, bitorder="little")[skipped:].view(bool)


def _pack_bits(bits: Bools) -> memoryview:
    return _bytes(np.packbits(bits, bitorder="little"))


def _bytes(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _compact(array: Any, code: str, hidden: Bools | None) -> tuple[Ints, Any]:
    """Return offsets that begin with 0, and the bytes or the array that they point into, cut to what is part of it."""
    length = len(array)
    is_list = array.type.num_fields > 0
    own = array.buffers()[:3]
    if own[1] is None or not own[1].size:
        offsets = np.zeros(1, code)
    else:
        offsets = np.frombuffer(own[1], code)[array.offset : array.offset + length + 1]
    begin, end = int(offsets[0]), int(offsets[-1])
    data: Any = array.values.slice(begin, end - begin) if is_list else np.frombuffer(own[2] or b"", np.uint8)[begin:end]
    if hidden is not None:
        sizes = np.diff(offsets)
        if sizes[hidden].any():
            kept = np.repeat(~hidden, sizes)
            data = data.filter(pa.array(kept)) if is_list else data[kept]
            sizes[hidden] = 0
            offsets = np.concatenate((np.zeros(1, code), np.cumsum(sizes, dtype=code)))
    if offsets[0]:
        offsets = offsets - offsets[0]
    return offsets, data


def _fixed(array: Any, hidden: Bools | None) -> memoryview:
    """Return the values of an array whose values have one width, zeros where they are hidden."""
    length, offset = len(array), array.offset
    buffer = array.buffers()[1] or b""
    if pa.types.is_boolean(array.type):
        bits = _unpack_bits(buffer, offset, length)
        return _pack_bits(bits if hidden is None else bits & ~hidden)
    width = array.type.bit_width >> 3
    data = memoryview(buffer).cast("B")[offset * width : (offset + length) * width]
    return data if hidden is None else without_hidden(data, width, hidden)


def without_hidden(data: memoryview, width: int, hidden: Bools) -> memoryview:
    """Return *data*, of values of *width* bytes, with zeros in the *hidden* places. It is copied only if there are any."""
    values = np.frombuffer(data, np.uint8).reshape(len(hidden), width)
    if values[hidden].any():
        values = values.copy()
        values[hidden] = 0
    return _bytes(values)


# From a node to an array


def read(decoder: Decoder, kind_node: object, tree: object) -> Any:
    """Return the array; its values have gone through Arrow's own validation, which is made for data of strangers."""
    array = _read_tree(decoder, read_type(decoder, kind_node), tree)
    array.validate(full=True)
    return array


def _read_tree(decoder: Decoder, kind: Any, node: Any) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _read_tree(decoder, kind.storage_type, node))
    length, nodes, child_nodes = node
    if type(length) is not int or not 0 <= length < _LONGEST:
        raise ValueError("an array without a length")
    decoder.charge(_hidden_memory(kind, length))
    bitmap_node, *others = nodes
    buffers = [None if bitmap_node is None else _buffer(decoder, bitmap_node, (length + 7) >> 3)]
    types = pa.types
    children: list[Any] = []
    code = _offset_type(kind)
    if code is not None:
        offset_node, *others = others
        offsets = _buffer(decoder, offset_node, (length + 1) * np.dtype(code).itemsize)
        buffers.append(offsets)
        end = _end(np.frombuffer(offsets, code))
        if kind.num_fields:
            children = [_read_child(decoder, kind.value_type, child_nodes, end)]
        else:
            (data_node,) = others
            others = []
            buffers.append(_buffer(decoder, data_node, end))
    elif types.is_struct(kind):
        fields = zip(kind, child_nodes, strict=True)
        children = [_read_child(decoder, field.type, [child], length) for field, child in fields]
    elif types.is_fixed_size_list(kind):
        children = [_read_child(decoder, kind.value_type, child_nodes, length * kind.list_size)]
    elif not types.is_null(kind):
        (data_node,) = others
        others = []
        buffers.append(_buffer(decoder, data_node, (length * kind.bit_width + 7) >> 3))
    elif bitmap_node is not None:
        raise ValueError("nulls with a bitmap")
    if others or len(child_nodes) != kind.num_fields:
        raise ValueError("an array with parts that it does not have")
    return pa.Array.from_buffers(kind, length, buffers, -1, 0, children or None)


def _read_child(decoder: Decoder, kind: Any, nodes: Any, length: int) -> Any:
    (node,) = nodes
    child = _read_tree(decoder, kind, node)
    if len(child) != length:
        raise ValueError("an inner array of another length")
    return child


def _buffer(decoder: Decoder, node: object, size: int) -> Any:
    data = decoder.buffer(node)
    if len(data) != size:
        raise ValueError("a buffer of another length")
    buffer = pa.py_buffer(data)
    return pa.py_buffer(bytes(data)) if buffer.address % _ALIGNMENT else buffer


def _end(offsets: Ints) -> int:
    """Return the last of *offsets*, which have to begin with 0 and never to fall."""
    if offsets[0] or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("offsets that are none")
    return int(offsets[-1])
