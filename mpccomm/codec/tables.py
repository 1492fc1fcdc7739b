"""Arrays, record batches and tables of pyarrow, as `mpccomm.codec.arrow` carries them in the columns of pandas."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from mpccomm.codec import arrow
from mpccomm.codec.abc import Column, Decoder, Encoder, Leaf, Lower, Refusal
from mpccomm.codec.arrow_types import MEMORY, lower_metadata, read_metadata
from mpccomm.codec.wire import HEADS, Tag


def _lower_array(encoder: Encoder, value: Any) -> object:
    return [HEADS[Tag.ARROW_ARRAY], False, *arrow.lower(encoder, value)]


def _lower_chunked(encoder: Encoder, value: Any) -> object:
    return [HEADS[Tag.ARROW_ARRAY], True, *arrow.lower(encoder, value)]


def _array(decoder: Decoder, chunked: object, kind: object, tree: object) -> Any:
    array = arrow.read(decoder, kind, tree)
    if type(chunked) is not bool:
        raise TypeError("neither one array nor several")
    return pa.chunked_array([array]) if chunked else array


def _lower_table(encoder: Encoder, value: Any) -> object:
    if value.num_rows and not value.num_columns:
        raise Refusal("has rows, and no column that could tell how many; send num_rows")
    columns = []
    for field, data in zip(value.schema, value.columns, strict=True):
        try:
            kind, tree = arrow.lower(encoder, data)
        except Refusal as refusal:
            refusal.steps.append(f"[{json.dumps(field.name, ensure_ascii=False)}]")
            raise
        columns.append([field.name, field.nullable, lower_metadata(field.metadata), kind, tree])
    is_batch = isinstance(value, pa.RecordBatch)
    encoder.charge(MEMORY * (1 + len(columns)))
    return [HEADS[Tag.ARROW_TABLE], is_batch, lower_metadata(value.schema.metadata), columns]


def _table(decoder: Decoder, is_batch: object, metadata: object, columns: Any) -> Any:
    decoder.charge(MEMORY * (1 + len(columns)))
    if type(is_batch) is not bool:
        raise TypeError("neither a batch nor a table")
    fields, arrays = [], []
    for name, nullable, described, kind, tree in columns:
        array = arrow.read(decoder, kind, tree)
        name, nullable = decoder.typed(name, str), decoder.typed(nullable, bool)
        fields.append(pa.field(name, array.type, nullable, read_metadata(described)))
        arrays.append(array)
    if len(set(map(len, arrays))) > 1:
        raise ValueError("columns of different lengths")
    schema = pa.schema(fields, read_metadata(metadata))
    return (pa.RecordBatch if is_batch else pa.Table).from_arrays(arrays, schema=schema)


LOWER: Final[dict[type, Lower]] = {
    pa.ChunkedArray: _lower_chunked,
    pa.RecordBatch: _lower_table,
    pa.Table: _lower_table,
}
COLUMNS: Final[dict[type, Column]] = {}
CALLS: Final[dict[int, Callable[..., object]]] = {Tag.ARROW_ARRAY: _array, Tag.ARROW_TABLE: _table}
LEAVES: Final[dict[int, Leaf]] = {}


def find(kind: type) -> Lower | None:
    """Return the way to lower an array, which has a class for each of Arrow's types."""
    if kind.__module__ != "pyarrow.lib":
        return None
    if issubclass(kind, pa.Array):
        return _lower_array
    return _refuse_scalar if issubclass(kind, pa.Scalar) else None


def _refuse_scalar(encoder: Encoder, value: Any) -> object:
    raise Refusal(f"is a scalar of pyarrow ({value.type}), which cannot be sent; send value.as_py()")
