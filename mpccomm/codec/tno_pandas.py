"""DataFrames, Series and Timestamps as tno.mpc.communication has them on the wire.

A frame is a Parquet file, in which a cell that Arrow has no type for is what stands for it elsewhere: a structure of "type" and
"data". Where that can't be, a frame is a dict of its index, columns and rows. A Series is a frame of one column.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from mpccomm.codec.abc import Refusal
from mpccomm.codec.pandas_keys import check_hashable
from mpccomm.interrupts import is_interrupt

_NAMELESS: Final = "TNO_MPC_COMMUNICATION_TEMPNAME"
"""What a Series without a name is called."""
_SPLIT: Final = ("index", "columns", "data")
_ATTRS: Final = b"PANDAS_ATTRS"
_PADDING: Final = 8
"""How many times their number the labels of an index may take, when shorter ones are filled up."""
_WORD: Final = 63
_ATOMS: Final = (bool, int, float, str, type(None))

Cell: TypeAlias = Callable[[Any], object]
"""From a cell to what stands for it, or back."""
Read: TypeAlias = Callable[[bytes], Any]
"""From a Parquet file to its table."""


def _is_tagged(cell: object) -> bool:
    return type(cell) is dict and "type" in cell and "data" in cell


def _of_objects(items: list[Any]) -> Any:
    # Filled rather than converted: numpy would look into lists that are elements.
    values = np.empty(len(items), dtype=object)
    for at, item in enumerate(items):
        values[at] = item
    return values


# There


def form(value: Any, lower: Cell) -> object:
    """Return what the other packages would make of a value, whatever is lost on the way; ``lower`` is for cells."""
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime(warn=False).isoformat()
    return next(_forms(_frame_of(value), lower))[0]


def exact_form(value: Any, lower: Cell) -> object:
    """Return the same in types of msgpack, if it arrives as it is; ``lower`` makes these of cells, or raises `Refusal`."""
    if isinstance(value, pd.Timestamp):
        text = value.to_pydatetime(warn=False).isoformat()
        back = pd.Timestamp(text)
        if back != value or str(back.tz) != str(value.tz):
            raise Refusal(
                "is a Timestamp with nanoseconds or a time zone, for which that format has no form; round it, or convert it to UTC"
            )
        return text
    frame = _frame_of(value)
    if any(_is_tagged(cell) for column in _objects(frame) for cell in frame.iloc[:, column]):
        raise Refusal('has a cell with the keys "type" and "data", which that format takes for its own; rename one')
    change = ""
    for made, arrives in _forms(frame, lower):
        try:
            change = _difference(*arrives())
        except Exception as error:
            if is_interrupt(error):
                raise
            change = type(error).__name__
        if not change:
            return made
    raise Refusal(f"would arrive changed in that format ({change}); convert it, or send value.to_dict('list')")


def _frame_of(value: Any) -> pd.DataFrame:
    if isinstance(value, pd.DataFrame):
        return value
    return value.to_frame(_NAMELESS if value.name is None else value.name)  # type: ignore[no-any-return]


def _objects(frame: pd.DataFrame) -> list[int]:
    """Return the columns that may hold anything."""
    return [number for number, dtype in enumerate(frame.dtypes) if dtype.kind == "O" and dtype.name == "object"]


_Ends: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]


def _forms(frame: pd.DataFrame, lower: Cell) -> Iterator[tuple[object, Callable[[], _Ends]]]:
    """Yield the possible forms, the best first, each with how to find out what goes in and what comes out of it."""
    if (data := _file(frame)) is not None:
        yield data, partial(_through_file, frame, data)
    # Once: what a class makes of an instance may depend on how often it was asked.
    lowered = frame.copy(deep=False)
    recognised = True
    for number in _objects(frame):
        cells = [_lowered_cell(cell, lower) for cell in frame.iloc[:, number]]
        recognised = recognised and all(isinstance(cell, _ATOMS) or _is_tagged(cell) for cell in cells)
        lowered.isetitem(number, _of_objects(cells))
    if recognised and (data := _file(lowered)) is not None:
        yield data, partial(_through_file, lowered, data)
    columns = [
        list(column) if column.dtype.name == "object" else [_lowered_cell(cell, lower) for cell in column.tolist()]
        for column in (lowered.iloc[:, number] for number in range(lowered.shape[1]))
    ]
    labels = [[_lowered_cell(label, lower) for label in axis.tolist()] for axis in (frame.index, frame.columns)]
    rows = list(map(list, zip(*columns, strict=True))) if columns else [[] for _ in range(len(frame))]
    yield dict(zip(_SPLIT, (*labels, rows), strict=True)), partial(_through_rows, frame)


def _file(frame: pd.DataFrame) -> bytes | None:
    try:
        return frame.to_parquet()
    except Exception as error:
        if is_interrupt(error):
            raise
        # pyarrow is not there, or has no form for some of it.
        return None


def _lowered_cell(cell: Any, lower: Cell) -> Any:
    plain = isinstance(cell, _ATOMS) and not (isinstance(cell, int) and cell.bit_length() > _WORD)
    return cell if plain else lower(cell)


def _through_file(frame: pd.DataFrame, data: bytes) -> _Ends:
    return frame, _as_they_do(pd.read_parquet(io.BytesIO(data)))


def _through_rows(frame: pd.DataFrame) -> _Ends:
    columns = [frame.iloc[:, number].tolist() for number in range(frame.shape[1])]
    rows = list(map(list, zip(*columns, strict=True))) if columns else [[] for _ in range(len(frame))]
    return frame, pd.DataFrame(rows, frame.index.tolist(), frame.columns.tolist())


def _as_they_do(frame: pd.DataFrame) -> pd.DataFrame:
    # They look into every cell, and pandas infers the dtypes anew.
    return frame.map(lambda cell: cell)


def _difference(sent: pd.DataFrame, back: pd.DataFrame) -> str:
    for what, one, other in (("index", sent.index, back.index), ("columns", sent.columns, back.columns)):
        # A range that arrives as its numbers is the same index for all that one does with it.
        alike = type(one) is type(other) or {type(one), type(other)} == {pd.Index, pd.RangeIndex}
        if not (alike and list(one.names) == list(other.names) and _same_values(one, other)):
            return f"its {what}"
    if sent.attrs != back.attrs:
        return "its attrs"
    for number in range(sent.shape[1]):
        if not _same_values(sent.iloc[:, number], back.iloc[:, number]):
            return f"column {sent.columns[number]!r}"
    return ""


def _same_values(one: Any, other: Any) -> bool:
    if isinstance(one, pd.MultiIndex):
        return one.equals(other) and list(one.dtypes) == list(other.dtypes)
    if len(one) != len(other) or one.dtype != other.dtype:
        return False
    if isinstance(one.dtype, pd.CategoricalDtype):
        return one.dtype.categories.equals(other.dtype.categories) and one.equals(other)
    if one.dtype.name == "object":
        return all(map(_same, one, other))
    return one.equals(other)  # type: ignore[no-any-return]


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if type(one) is float:
        return one == other or (one != one and other != other)
    return isinstance(one, (*_ATOMS, bytes, pd.Timestamp)) and bool(one == other)


# Back


def timestamp(payload: object) -> pd.Timestamp:
    """Return the timestamp; ValueError or TypeError for anything else."""
    if type(payload) is not str or len(payload) > 64:
        raise TypeError("no time")
    made = pd.Timestamp(payload)
    if not isinstance(made, pd.Timestamp):
        raise ValueError("no time")
    return made


def series(payload: Any, raise_cell: Cell, read: Read) -> Any:
    """Return the Series, as `frame`."""
    made = frame(payload, raise_cell, read)
    if made.shape[1] != 1:
        raise ValueError("not one column")
    column = made.iloc[:, 0]
    if type(column.name) is str and column.name == _NAMELESS:
        column.name = None
    return column


def frame(payload: Any, raise_cell: Cell, read: Read) -> pd.DataFrame:
    """Return the frame; ValueError or TypeError for anything else. ``raise_cell`` is for cells, ``read`` for files."""
    if type(payload) is not bytes:
        return _of_split(payload)
    table = read(payload)
    try:
        made: pd.DataFrame = table.to_pandas()
        attrs = (table.schema.metadata or {}).get(_ATTRS)
        if attrs is not None:
            made.attrs = json.loads(attrs)
    except Exception as error:
        if is_interrupt(error):
            raise
        raise ValueError("no frame") from error
    for number in _objects(made):
        column = made.iloc[:, number]
        if any(map(_is_tagged, column)):
            cells = [raise_cell(cell) if _is_tagged(cell) else cell for cell in column]
            made.isetitem(number, _of_objects(cells))
    return made


def _of_split(payload: Any) -> pd.DataFrame:
    if (
        type(payload) is not dict
        or payload.keys() != set(_SPLIT)
        or any(type(part) is not list for part in payload.values())
    ):
        raise TypeError("no frame")
    index, columns, rows = payload["index"], payload["columns"], payload["data"]
    for labels in (index, columns):
        widths = [len(label) for label in labels if type(label) is tuple]
        if max(widths, default=0) * len(labels) > _PADDING * (sum(widths) + len(labels)):
            raise ValueError("labels of many lengths")
        check_hashable(_of_objects(labels))
    if len(rows) != len(index) or any(type(row) is not list or len(row) != len(columns) for row in rows):
        raise ValueError("rows of another length")
    return pd.DataFrame(rows, index, columns)
