"""Arrow arrays: their type as an Arrow IPC schema, and their buffers as they are.

This is what Arrow IPC consists of, without its framing: that could hold compressed buffers, which claim any size.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from mpccomm.codec.abc import Decoder, Encoder
from mpccomm.codec.refusal import Refusal

_SLACK: Final = 4096
_DEEPEST: Final = 16
_ALIGNMENT: Final = 8


def lower(encoder: Encoder, data: Any) -> list[object]:
    """The type of an array or chunked array, and for each array of its tree the length and the buffers."""
    if isinstance(data, pa.ChunkedArray):
        data = data.chunk(0) if data.num_chunks == 1 else data.combine_chunks()
    if isinstance(data, pa.ChunkedArray):
        raise Refusal("holds too much text for one Arrow array; send it in parts")
    if not _is_supported(data.type):
        raise Refusal(f"is an Arrow array of {data.type}, which cannot be sent; convert it to another type")
    if data.offset or sum(buffer.size for buffer in data.buffers() if buffer) > data.nbytes + _SLACK:
        # A slice, which shares memory with what nobody meant to send.
        data = pa.concat_arrays([data, data[:0]])
    schema = pa.schema([pa.field("", data.type)]).serialize()
    return [encoder.buffer(memoryview(schema).cast("B"), mutable=False), _lower_tree(encoder, data)]


def _is_supported(kind: Any, depth: int = 0) -> bool:
    types = pa.types
    if depth > _DEEPEST:
        return False
    if types.is_struct(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return all(_is_supported(kind.field(index).type, depth + 1) for index in range(kind.num_fields))
    return kind.num_fields == 0 and not any(
        is_other(kind) for is_other in (types.is_dictionary, types.is_union, types.is_string_view, types.is_binary_view)
    )


def _lower_tree(encoder: Encoder, array: Any) -> list[object]:
    kind = array.type
    children = [array.field(index) for index in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if not children and kind.num_fields:
        children = [array.values]
    if pa.types.is_null(kind):
        encoder.count(len(array))
    buffers = array.buffers()
    own = buffers[: len(buffers) - sum(len(child.buffers()) for child in children)]
    nodes = [None if buffer is None else encoder.buffer(memoryview(buffer).cast("B"), mutable=False) for buffer in own]
    return [len(array), nodes, [_lower_tree(encoder, child) for child in children]]


def read(decoder: Decoder, schema_node: object, array_node: object) -> Any:
    """The array, after Arrow's own full validation, which is made for data that nobody vouches for."""
    schema = pa.ipc.read_schema(pa.py_buffer(bytes(decoder.buffer(schema_node))))
    if len(schema) != 1 or not _is_supported(schema.field(0).type):
        raise ValueError("not one type")
    array = _read_tree(decoder, schema.field(0).type, array_node)
    array.validate(full=True)
    return array


def _read_tree(decoder: Decoder, kind: Any, node: Any) -> Any:
    length, buffer_nodes, child_nodes = node
    if type(length) is not int or not 0 <= length < 1 << 48 or len(child_nodes) != kind.num_fields:
        raise ValueError("an array without its parts")
    decoder.charge(1024)
    if len(buffer_nodes) != kind.num_buffers:
        raise ValueError("an array without its buffers")
    # An array without nulls needs no bitmap of them, but Arrow takes for granted that the other buffers are there.
    bitmap, *others = (None if item is None else _aligned(decoder.buffer(item)) for item in buffer_nodes)
    buffers = [bitmap, *(pa.py_buffer(b"") if buffer is None else buffer for buffer in others)]
    if pa.types.is_null(kind):
        decoder.count(length)
    elif bitmap is not None and bitmap.size * 8 < length:
        raise ValueError("a buffer that is too short")
    children = [_read_tree(decoder, kind.field(index).type, child) for index, child in enumerate(child_nodes)]
    return pa.Array.from_buffers(kind, length, buffers, -1, 0, children or None)


def _aligned(data: Any) -> Any:
    buffer = pa.py_buffer(data)
    return pa.py_buffer(bytes(data)) if buffer.address % _ALIGNMENT else buffer
