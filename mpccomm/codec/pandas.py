"""pandas: frames, series, indexes and scalars.

A frame travels as its blocks (pandas keeps columns of numbers of one type together), index and labels. What columns and
indexes consist of is the subject of `mpccomm.codec.pandas_arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from mpccomm.codec.abc import Decoder, Encoder, Lower, Refusal
from mpccomm.codec.calendar import zone
from mpccomm.codec.keys import is_passing
from mpccomm.codec.numpy import lower_array
from mpccomm.codec.pandas_arrays import (
    EXTENSIONS,
    UNITS,
    extension_array,
    frequency_name,
    lower_frequency,
    lower_numpy,
    lower_values,
    period_frequency,
    read_frequency,
)
from mpccomm.codec.pandas_keys import (
    are_distinct,
    arriving,
    check_hashable,
    check_name,
    hashing_memory,
    lazy_size,
)
from mpccomm.codec.pandas_zones import standard
from mpccomm.codec.scan import ELEMENTS, Holds
from mpccomm.codec.wire import HEADS, Tag

try:
    from pandas.api.internals import create_dataframe_from_blocks as _from_blocks
except ImportError:  # before pandas 3
    from pandas.core.internals.api import make_block
    from pandas.core.internals.managers import BlockManager

    def _from_blocks(blocks: list[tuple[Any, Any]], index: pd.Index, columns: pd.Index) -> pd.DataFrame:
        make: Any = make_block
        manager: Any = BlockManager([make(values, placement=places) for values, places in blocks], [columns, index])
        frame: Any = pd.DataFrame
        return frame._from_mgr(manager, manager.axes)  # type: ignore[no-any-return]


_WITH_FREQUENCY: Final = (pd.DatetimeIndex, pd.TimedeltaIndex)
_INDEX_COST: Final = 4 << 10
_SERIES_COST: Final = 8 << 10
_FRAME_COST: Final = 12 << 10
_BLOCK_COST: Final = 2 << 10
_SCALAR_COST: Final = 500
"""What an object costs beside its parts, in bytes of memory, or in time: 100 MB a second."""


def _column(values: Any) -> Any:
    """Return *values*, if they are what a column or an index can be made of as they are: an array of one dimension."""
    if not isinstance(values, np.ndarray | ExtensionArray) or values.ndim != 1:
        raise TypeError("not a column")
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biufcOS":
        raise TypeError("values of a type that pandas does not have")
    return values


def _lower_part(encoder: Encoder, value: object, step: str) -> object:
    """Return the node of *value*, to which *step* leads."""
    try:
        return encoder.lower(value)
    except Refusal as refusal:
        refusal.steps.append(step)
        raise


# Indexes, series, frames


def _lower_index(encoder: Encoder, index: Any) -> object:
    frequency = lower_frequency(index.freq) if isinstance(index, _WITH_FREQUENCY) else None
    encoder.enter()
    # pandas cannot show intervals of other things than numbers and points in time, though it makes them.
    values: Any = getattr(index, "_data", None) if isinstance(index, pd.IntervalIndex) else index.array
    check_name(index.name)
    nodes = [lower_values(encoder, values), frequency, encoder.lower(index.name)]
    encoder.depth -= 1
    # Of elements that are not too many, each as often as it occurs: hashing one takes time for all that is in it.
    try:
        check_hashable(index)
    except Exception as error:
        if is_passing(error):
            raise
        raise Refusal("is an Index with elements that cannot be hashed, or with equal hashes; convert them") from error
    encoder.charge(_INDEX_COST + hashing_memory(index))
    return [HEADS[Tag.INDEX], *nodes]


def _index(decoder: Decoder, values_node: object, frequency: object, name_node: object) -> pd.Index:
    values = _column(decoder.value(values_node))
    decoder.charge(_INDEX_COST + hashing_memory(values))
    check_hashable(values)
    name = decoder.value(name_node)
    index: Any = pd.Index(values, dtype=values.dtype, name=name, copy=False, tupleize_cols=False)
    if index.dtype != values.dtype:
        raise TypeError("values of a type that pandas does not have in an index")
    if frequency is not None:
        if type(index) not in _WITH_FREQUENCY:
            raise TypeError("an index without a frequency")
        # The setter would generate the whole of it to compare, and refuse what pandas itself has made.
        holder = index if hasattr(index, "_freq") else index._data
        holder._freq = read_frequency(frequency)
    return index  # type: ignore[no-any-return]


def _lower_range_index(encoder: Encoder, index: pd.RangeIndex) -> object:
    bounds = index.start, index.stop, index.step
    encoder.charge(_INDEX_COST)
    check_name(index.name)
    return [HEADS[Tag.RANGE_INDEX], *bounds, encoder.lower(index.name)]


def _range_index(decoder: Decoder, *nodes: object) -> pd.RangeIndex:
    decoder.charge(_INDEX_COST)
    start, stop, step, name = nodes
    bounds = range(*(decoder.typed(number, int) for number in (start, stop, step)))
    return pd.RangeIndex(bounds, name=decoder.value(name))


def _lower_multi_index(encoder: Encoder, index: Any) -> object:
    if len(set(map(len, index.codes))) != 1:
        raise Refusal(
            "is a MultiIndex whose levels have different lengths, which pandas makes by mistake; build it anew"
        )
    used = [_used(level, np.asarray(code)) for level, code in zip(index.levels, index.codes, strict=True)]
    encoder.enter()
    levels = [_lower_part(encoder, level.rename(None), f".levels[{number}]") for number, (level, _) in enumerate(used)]
    codes = [lower_array(encoder, code, writable=True) for _, code in used]
    for name in index.names:
        check_name(name)
    names = [encoder.lower(name) for name in index.names]
    encoder.depth -= 1
    encoder.charge(_multi_index_cost([level for level, _ in used]))
    return [HEADS[Tag.MULTI_INDEX], levels, codes, names, index.sortorder]


def _used(level: Any, code: Any) -> tuple[Any, Any]:
    """Return a level without labels that nothing has (any more), which are not part of the value, and its codes."""
    if type(level) is pd.RangeIndex:
        return level, code
    there = np.zeros(len(level) + 1, bool)
    there[code] = True
    labels = np.flatnonzero(there[:-1])
    if len(labels) == len(level):
        return level, code
    places = np.full(len(level) + 1, -1, code.dtype)
    places[labels] = np.arange(len(labels))
    return level.take(labels), places[code]


def _multi_index_cost(levels: Any) -> int:
    return _INDEX_COST + sum(map(lazy_size, levels))


def _multi_index(
    decoder: Decoder, level_nodes: object, code_nodes: object, name_nodes: object, sortorder: object
) -> pd.MultiIndex:
    levels, codes, names = (decoder.typed(node, list) for node in (level_nodes, code_nodes, name_nodes))
    if not len(levels) == len(codes) == len(names) > 0:
        raise ValueError("levels without codes, or without names")
    for level, code in zip(levels, codes, strict=True):
        if not isinstance(level, pd.Index) or isinstance(level, pd.MultiIndex):
            raise TypeError("not a level")
        if type(code) is not np.ndarray or code.dtype.kind != "i" or code.shape != codes[0].shape or code.ndim != 1:
            raise TypeError("not the codes of a level")
        if code.size and not -1 <= code.min() <= code.max() < len(level):
            raise ValueError("codes beyond a level")
    decoder.charge(_multi_index_cost(levels))
    if sortorder is not None and (type(sortorder) is not int or not 0 <= sortorder <= _sorted_levels(codes)):
        raise ValueError("an order that is none")
    # pandas itself makes what it then finds without integrity: levels with a label twice, or with NaN.
    return pd.MultiIndex(levels, codes, sortorder=sortorder, names=names, verify_integrity=False)


def _sorted_levels(codes: list[Any]) -> int:
    """Return how many of the first levels the rows are sorted by."""
    undecided = np.ones(max(len(codes[0]) - 1, 0), bool)
    for number, code in enumerate(codes):
        if (code[1:] < code[:-1])[undecided].any():
            return number
        undecided &= code[1:] == code[:-1]
    return len(codes)


def _received_index(decoder: Decoder, node: object, length: int | None = None) -> pd.Index:
    index = decoder.value(node)
    if not isinstance(index, pd.Index) or (length is not None and len(index) != length):
        raise TypeError("not an index for the values")
    return index


def _lower_extras(encoder: Encoder, value: Any) -> list[object]:
    duplicates = value.flags.allows_duplicate_labels
    # Of other labels than objects pandas itself has seen to that.
    if not duplicates and not all(axis.dtype != object or are_distinct(arriving(axis)) for axis in value.axes):
        raise Refusal(
            "has two labels that would be one, or can't be compared: an Enum member arrives as its value; register its class"
        )
    return [_lower_part(encoder, value.attrs, ".attrs"), duplicates]


def _set_extras(decoder: Decoder, value: Any, attrs: object, duplicates: object) -> None:
    value.attrs = decoder.typed(attrs, dict)
    if not decoder.typed(duplicates, bool):
        if not all(map(are_distinct, value.axes)):
            raise ValueError("labels twice")
        # The setter would look for duplicates once more, in a time that depends on the hashes.
        flags: Any = type(value.flags)
        value._flags = flags(value, allows_duplicate_labels=False)


def _lower_series(encoder: Encoder, series: Any) -> object:
    check_name(series.name)
    encoder.enter()
    labels = [_lower_part(encoder, getattr(series, part), f".{part}") for part in ("index", "name")]
    nodes = [lower_values(encoder, series.array), *labels]
    node = [HEADS[Tag.SERIES], *nodes, *_lower_extras(encoder, series)]
    encoder.charge(_SERIES_COST)
    encoder.depth -= 1
    return node


def _series(decoder: Decoder, values_node: object, index_node: object, name: object, *extras: object) -> Any:
    decoder.charge(_SERIES_COST)
    values = _column(decoder.value(values_node))
    index = _received_index(decoder, index_node, len(values))
    series: Any = pd.Series(values, index, dtype=values.dtype, name=decoder.value(name), copy=False)
    if series.dtype != values.dtype:
        raise TypeError("values of a type that pandas does not have")
    _set_extras(decoder, series, *extras)
    return series


def _lower_frame(encoder: Encoder, frame: Any) -> object:
    encoder.enter()
    labels = [_lower_part(encoder, getattr(frame, part), f".{part}") for part in ("index", "columns")]
    nodes = [_lower_blocks(encoder, frame), *labels]
    node = [HEADS[Tag.DATAFRAME], *nodes, *_lower_extras(encoder, frame)]
    encoder.charge(_FRAME_COST)
    encoder.depth -= 1
    return node


def _lower_blocks(encoder: Encoder, frame: Any) -> list[object]:
    """Return for each block its values, and where its columns stand in the frame (the first if they are neighbours)."""
    nodes: list[object] = []
    columns: list[int] = []
    for block in frame._mgr.blocks:
        values, places = block.values, block.mgr_locs.as_array
        encoder.charge((_BLOCK_COST + 8) * len(places))
        if isinstance(block.dtype, np.dtype) and block.dtype.kind in "mM":
            values = values._ndarray
        if isinstance(values, np.ndarray) and _is_for_blocks(values.dtype):
            first = int(places[0])
            where: object = first
            if not np.array_equal(places, np.arange(first, first + len(places))):
                where = encoder.buffer(memoryview(places.astype("<i4")).cast("B"), mutable=False)
            nodes.append([where, lower_array(encoder, values, writable=True)])
        else:
            columns += places.tolist()
    column = 0
    try:
        for column in sorted(columns):
            nodes.append([column, lower_values(encoder, frame.iloc[:, column].array)])
    except Refusal as refusal:
        refusal.steps.append(f".iloc[:, {column}]")
        raise
    return nodes


def _is_for_blocks(dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "mM":
        return np.datetime_data(dtype) in UNITS and dtype.isnative
    return dtype.kind in "biufc"


def _frame(
    decoder: Decoder, blocks_node: Any, index_node: object, columns_node: object, *extras: object
) -> pd.DataFrame:
    decoder.charge(_FRAME_COST)
    blocks = [_block(decoder, *node) for node in blocks_node]
    index = _received_index(decoder, index_node)
    columns = _received_index(decoder, columns_node)
    if any(values.shape[-1] != len(index) for values, _ in blocks):
        raise ValueError("columns of another length")
    places = np.concatenate([np.zeros(0, np.int64), *(places for _, places in blocks)])
    if len(places) != len(columns) or not np.array_equal(np.sort(places), np.arange(len(columns))):
        raise ValueError("columns that do not make up a frame")
    frame: Any = _from_blocks(blocks, index, columns)
    _set_extras(decoder, frame, *extras)
    return frame  # type: ignore[no-any-return]


def _block(decoder: Decoder, places_node: object, values_node: object) -> tuple[Any, Any]:
    decoder.charge(_BLOCK_COST)
    values = decoder.value(values_node)
    if type(values) is not np.ndarray or values.ndim == 1:
        values = _column(values)
        size = 1
        if isinstance(values, np.ndarray):
            values = values.reshape(1, -1)
    elif values.ndim == 2 and len(values) and _is_for_blocks(values.dtype):
        size = len(values)
    else:
        raise TypeError("not a block of columns")
    if type(places_node) is int:
        decoder.charge(8 * size)
        places = np.arange(places_node, places_node + size)
    else:
        places = np.frombuffer(decoder.buffer(places_node), "<i4").astype(np.int64)
    if len(places) != size:
        raise ValueError("a block of more columns, or of fewer")
    return values, places


# Scalars


def _lower_timestamp(encoder: Encoder, value: Any) -> object:
    number = int(value.asm8.view("i8"))
    tz = value.tzinfo
    if tz is not None:
        tz = standard(tz, pd.DatetimeIndex([value]).tz_convert("UTC"))
    encoder.charge(_SCALAR_COST if tz is None else 3 * _SCALAR_COST)
    return [HEADS[Tag.TIMESTAMP], number, value.unit, encoder.lower(tz), value.fold]


def _timestamp(decoder: Decoder, number: object, unit: object, zone_node: object, fold: object) -> object:
    tz = zone(decoder.value(zone_node))
    decoder.charge(_SCALAR_COST if tz is None else 3 * _SCALAR_COST)
    value = pd.Timestamp(_moment("M", number, unit))
    if tz is not None:
        value = value.tz_localize("UTC").tz_convert(tz)
    if fold not in (0, 1):
        raise ValueError("an hour repeated more than once")
    return value if value.fold == fold else value.replace(fold=fold)


def _moment(kind: str, number: object, unit: object) -> Any:
    if (unit, 1) not in UNITS or type(number) is not int:
        raise ValueError("not a point in time, or a duration")
    return np.int64(number).view(f"{kind}8[{unit}]")


def _lower_timedelta(encoder: Encoder, value: Any) -> object:
    encoder.charge(_SCALAR_COST)
    return [HEADS[Tag.PANDAS_TIMEDELTA], int(value.asm8.view("i8")), value.unit]


def _timedelta(decoder: Decoder, number: object, unit: object) -> object:
    decoder.charge(_SCALAR_COST)
    return pd.Timedelta(_moment("m", number, unit))


def _lower_period(encoder: Encoder, value: Any) -> object:
    encoder.charge(_SCALAR_COST)
    return [HEADS[Tag.PERIOD], value.ordinal, period_frequency(pd.PeriodDtype(value.freq))]


def _period(decoder: Decoder, ordinal: object, frequency: object) -> object:
    decoder.charge(_SCALAR_COST)
    return pd.Period(ordinal=decoder.typed(ordinal, int), freq=frequency_name(frequency))


def _lower_interval(encoder: Encoder, value: Any) -> object:
    return encoder.call(Tag.INTERVAL, value.left, value.right, value.closed)


def _interval(decoder: Decoder, left: object, right: object, closed: Any) -> object:
    return pd.Interval(decoder.value(left), decoder.value(right), closed=closed)


_MISSING: Final = {"NaT": pd.NaT, "NA": pd.NA}


def _lower_missing(encoder: Encoder, value: object) -> object:
    return [HEADS[Tag.MISSING], "NaT" if value is pd.NaT else "NA"]


def _missing(decoder: Decoder, name: object) -> object:
    return _MISSING[name]  # type: ignore[index]


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    pd.DataFrame: _lower_frame,
    pd.Series: _lower_series,
    pd.RangeIndex: _lower_range_index,
    pd.MultiIndex: _lower_multi_index,
    pd.Timestamp: _lower_timestamp,
    pd.Timedelta: _lower_timedelta,
    pd.Period: _lower_period,
    pd.Interval: _lower_interval,
    type(pd.NaT): _lower_missing,
    type(pd.NA): _lower_missing,
}
_INDEXES: Final = (pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.IntervalIndex, pd.CategoricalIndex)
LOWER.update(dict.fromkeys((pd.Index, *_INDEXES), _lower_index))
LOWER.update(dict.fromkeys(EXTENSIONS, lower_values))
LOWER[pd.arrays.NumpyExtensionArray] = lower_numpy


def _of_values(values: Any) -> Iterable[object]:
    """The elements of an array of objects, or an array that may have such a one in it."""
    return values if values.dtype == object else (values,)


def _of_frame(frame: Any) -> Iterable[object]:
    blocks = (block.values.flat if block.dtype == object else (block.values,) for block in frame._mgr.blocks)
    return chain(*blocks, (frame.index, frame.columns, frame.attrs))


_NODES: Final = 3
"""Nodes of an envelope before what these hold, at least."""
ELEMENTS.update(
    {
        pd.DataFrame: Holds(_of_frame, _NODES),
        pd.Series: Holds(lambda it: chain(_of_values(it.array), (it.index, it.name, it.attrs)), _NODES),
        pd.MultiIndex: Holds(lambda it: chain(it.levels, it.names), _NODES),
        pd.Categorical: Holds(lambda it: (it.categories,), _NODES),
        pd.arrays.NumpyExtensionArray: Holds(lambda it: (it.to_numpy(copy=False),), _NODES),
        pd.arrays.SparseArray: Holds(lambda it: (it.sp_values,), _NODES),
        **dict.fromkeys((pd.Index, pd.CategoricalIndex), Holds(lambda it: (*_of_values(it.array), it.name), _NODES)),
    }
)
COLUMNS: Final[dict[type, Callable[[Encoder, Any], object | None]]] = {}
CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.DATAFRAME: _frame,
    Tag.SERIES: _series,
    Tag.INDEX: _index,
    Tag.RANGE_INDEX: _range_index,
    Tag.MULTI_INDEX: _multi_index,
    Tag.EXTENSION_ARRAY: extension_array,
    Tag.TIMESTAMP: _timestamp,
    Tag.PANDAS_TIMEDELTA: _timedelta,
    Tag.PERIOD: _period,
    Tag.INTERVAL: _interval,
    Tag.MISSING: _missing,
}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {}


def find(kind: type) -> Lower | None:
    """Nothing beyond the tables."""
    return None
