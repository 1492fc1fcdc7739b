"""pandas: frames, series, indexes and scalars.

A frame travels as its columns, index and labels; one whose values are one block of numbers travels as that block. What
columns and indexes consist of is the subject of `mpccomm.codec.pandas_arrays`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray
from pandas.tseries.frequencies import to_offset

from mpccomm.codec.abc import Decoder, Encoder, Lower
from mpccomm.codec.builtin import zone
from mpccomm.codec.numpy import lower_array
from mpccomm.codec.pandas_arrays import (
    EXTENSIONS,
    UNITS,
    check_keys,
    extension_array,
    frequency_name,
    lower_values,
    period_frequency,
    range_size,
)
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, Tag


def _values(decoder: Decoder, node: object) -> Any:
    """Values for a column or index: an array of one dimension."""
    return _column(decoder.value(node))


def _column(values: Any) -> Any:
    if not isinstance(values, np.ndarray | ExtensionArray) or values.ndim != 1:
        raise TypeError("not a column")
    return values


def _frequency(offset: Any) -> str | None:
    if offset is None:
        return None
    if to_offset(offset.freqstr) != offset:
        raise Refusal(f"has the frequency {offset!r}, which cannot be sent; remove it with freq = None")
    return offset.freqstr  # type: ignore[no-any-return]


# Indexes, series, frames


def _lower_index(encoder: Encoder, index: Any) -> object:
    frequency = _frequency(getattr(index, "freq", None)) if index.dtype.kind in "mM" else None
    try:
        check_keys(index)
    except (TypeError, ValueError) as error:
        raise Refusal("is an Index with elements that cannot be hashed, or with equal hashes; convert them") from error
    encoder.enter()
    node = [HEADS[Tag.INDEX], lower_values(encoder, index.array), frequency, encoder.lower(index.name)]
    encoder.depth -= 1
    return node


def _index(decoder: Decoder, values_node: object, frequency: object, name_node: object) -> pd.Index:
    values = _values(decoder, values_node)
    check_keys(values)
    name = decoder.value(name_node)
    index: Any = pd.Index(values, dtype=values.dtype, name=name, copy=False, tupleize_cols=False)
    if frequency is not None:
        if type(index) not in (pd.DatetimeIndex, pd.TimedeltaIndex):
            raise TypeError("an index without a frequency")
        index.freq = frequency_name(frequency)
    return index  # type: ignore[no-any-return]


def _lower_range_index(encoder: Encoder, index: pd.RangeIndex) -> object:
    return [HEADS[Tag.RANGE_INDEX], index.start, index.stop, index.step, encoder.lower(index.name)]


def _range_index(decoder: Decoder, start: object, stop: object, step: object, name: object) -> pd.RangeIndex:
    bounds = range(*(decoder.typed(number, int) for number in (start, stop, step)))
    return pd.RangeIndex(bounds, name=decoder.value(name))


def _lower_multi_index(encoder: Encoder, index: pd.MultiIndex) -> object:
    encoder.enter()
    levels = [encoder.lower(level.rename(None)) for level in index.levels]
    codes = [lower_array(encoder, np.asarray(code), writable=True) for code in index.codes]
    names = [encoder.lower(name) for name in index.names]
    encoder.depth -= 1
    return [HEADS[Tag.MULTI_INDEX], levels, codes, names, encoder.ballast(sum(map(range_size, index.levels)))]


def _multi_index(decoder: Decoder, levels: object, codes: object, names: object, ballast: object) -> pd.MultiIndex:
    received = decoder.typed(levels, list)
    for level in received:
        if not isinstance(level, pd.Index):
            raise TypeError("not a level")
    decoder.ballasted(sum(map(range_size, received)), ballast)
    return pd.MultiIndex(received, decoder.typed(codes, list), names=decoder.typed(names, list), verify_integrity=True)


def _received_index(decoder: Decoder, node: object, length: int | None = None) -> pd.Index:
    index = decoder.value(node)
    if not isinstance(index, pd.Index) or (length is not None and len(index) != length):
        raise TypeError("not an index for the values")
    return index


def _lower_extras(encoder: Encoder, value: Any) -> list[object]:
    return [encoder.lower(value.attrs), value.flags.allows_duplicate_labels]


def _set_extras(decoder: Decoder, value: Any, attrs: object, duplicates: object) -> None:
    value.attrs = decoder.typed(attrs, dict)
    value.flags.allows_duplicate_labels = decoder.typed(duplicates, bool)


def _lower_series(encoder: Encoder, series: Any) -> object:
    encoder.enter()
    nodes = [lower_values(encoder, series.array), encoder.lower(series.index), encoder.lower(series.name)]
    node = [HEADS[Tag.SERIES], *nodes, *_lower_extras(encoder, series)]
    encoder.depth -= 1
    return node


def _series(decoder: Decoder, values_node: object, index_node: object, name: object, *extras: object) -> Any:
    values = _values(decoder, values_node)
    index = _received_index(decoder, index_node, len(values))
    series = _exact(values, index, name=decoder.value(name))
    _set_extras(decoder, series, *extras)
    return series


def _exact(values: Any, index: pd.Index, name: Any = None) -> pd.Series[Any]:
    series = pd.Series(values, index, dtype=values.dtype, name=name, copy=False)
    if series.dtype != values.dtype:
        raise TypeError("values of a type that pandas does not have")
    return series  # type: ignore[no-any-return]


def _lower_frame(encoder: Encoder, frame: Any) -> object:
    encoder.enter()
    if _is_one_block(frame):
        values: object = lower_array(encoder, frame.to_numpy(copy=False), writable=True)
    else:
        values = _lower_columns(encoder, frame)
    nodes = [values, encoder.lower(frame.index), encoder.lower(frame.columns)]
    node = [HEADS[Tag.DATAFRAME], *nodes, *_lower_extras(encoder, frame)]
    encoder.depth -= 1
    return node


def _is_one_block(frame: Any) -> bool:
    """Whether the values lie in memory as one numpy array, of numbers."""
    if not frame.shape[1] or not isinstance(frame.dtypes.iloc[0], np.dtype) or frame.dtypes.iloc[0].kind not in "biufc":
        return False
    return bool(getattr(frame._mgr, "is_single_block", False))


def _lower_columns(encoder: Encoder, frame: Any) -> list[object]:
    columns: list[object] = []
    try:
        for position in range(frame.shape[1]):
            columns.append(lower_values(encoder, frame.iloc[:, position].array))
    except Refusal as refusal:
        refusal.steps.append(f".iloc[:, {len(columns)}]")
        raise
    return columns


def _frame(decoder: Decoder, node: object, index_node: object, columns_node: object, *extras: object) -> pd.DataFrame:
    frame: Any
    values = decoder.value(node)
    index = _received_index(decoder, index_node)
    if type(values) is list:
        columns = {position: _exact(column, index) for position, column in enumerate(map(_column, values))}
        frame = pd.DataFrame(columns, index=index, copy=False)
    elif type(values) is np.ndarray and values.ndim == 2:
        frame = pd.DataFrame(values, index=index, copy=False)
    else:
        raise TypeError("not the values of a frame")
    frame.columns = _received_index(decoder, columns_node, frame.shape[1])
    _set_extras(decoder, frame, *extras)
    return frame  # type: ignore[no-any-return]


# Scalars


def _lower_timestamp(encoder: Encoder, value: Any) -> object:
    number = int(value.asm8.view("i8"))
    return [HEADS[Tag.TIMESTAMP], number, value.unit, encoder.lower(value.tzinfo), value.fold]


def _timestamp(decoder: Decoder, number: object, unit: object, zone_node: object, fold: object) -> object:
    tz = zone(decoder.value(zone_node))
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
    return [HEADS[Tag.PANDAS_TIMEDELTA], int(value.asm8.view("i8")), value.unit]


def _timedelta(decoder: Decoder, number: object, unit: object) -> object:
    return pd.Timedelta(_moment("m", number, unit))


def _lower_period(encoder: Encoder, value: Any) -> object:
    return [HEADS[Tag.PERIOD], value.ordinal, period_frequency(pd.PeriodDtype(value.freq))]


def _period(decoder: Decoder, ordinal: object, frequency: object) -> object:
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
