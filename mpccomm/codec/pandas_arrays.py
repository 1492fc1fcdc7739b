"""The values of pandas' columns and indexes.

They travel as the buffers they consist of: those of a numpy array, of an Arrow array, or of the few arrays that an
array of another type is made of. What is in the place of a missing value leaves as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas._libs.sparse import IntIndex
from pandas.tseries.frequencies import to_offset

from mpccomm.codec.abc import Decoder, Encoder, Refusal
from mpccomm.codec.calendar import zone
from mpccomm.codec.numpy import lower_array
from mpccomm.codec.pandas_keys import are_distinct, arriving, lazy_size
from mpccomm.codec.pandas_zones import standard
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.errors import DecodingError, MissingExtraError, missing_library
from mpccomm.interrupts import is_interrupt

UNITS: Final = {(unit, 1) for unit in ("s", "ms", "us", "ns")}
"""The resolutions that pandas has."""
_LONGEST_FREQUENCY: Final = 50
_MOST_FREQUENCIES: Final = 1000
_COSTS: Final = {
    "numpy": 1 << 10,
    "datetimes": 2 << 10,
    "periods": 2 << 10,
    "masked": 2 << 10,
    "text": 3 << 10,
    "arrow": 2 << 10,
    "categorical": 12 << 10,
    "sparse": 8 << 10,
    "intervals": 20 << 10,
}
"""What an array of each form costs beside its parts, in bytes of memory, or in time: 100 MB a second."""
_TEXT: Final = 32
"""Bytes that an element takes in the arrays that one of text is made by."""
_MASKED: Final = (pd.arrays.BooleanArray, pd.arrays.FloatingArray, pd.arrays.IntegerArray)


def lower_values(encoder: Encoder, array: Any) -> object:
    """Return the node of the values of a column or index."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy(copy=False)
    if isinstance(array, np.ndarray):
        return lower_array(encoder, array, writable=True)
    kind = type(array)
    if array.ndim != 1:
        raise Refusal("is an extension array of more than one dimension; send array.ravel(), and the shape")
    if kind in EXTENSIONS:
        return EXTENSIONS[kind](encoder, array)
    raise Refusal(f"has values of type {kind.__module__}.{kind.__qualname__}, which cannot be sent; convert them")


def _array(encoder: Encoder, form: str, *arguments: object) -> list[object]:
    """Return a call for an extension array; arrays among the arguments go by their buffers."""
    encoder.enter()
    nodes = [
        lower_array(encoder, value, writable=True) if isinstance(value, np.ndarray) else encoder.lower(value)
        for value in arguments
    ]
    encoder.depth -= 1
    encoder.charge(_COSTS[form])
    return [HEADS[Tag.EXTENSION_ARRAY], form, *nodes]


def lower_numpy(encoder: Encoder, array: Any) -> object:
    """Return the node of an extension array that is no more than an array of numpy."""
    return _array(encoder, "numpy", array.to_numpy(copy=False))


def _numpy(decoder: Decoder, values: Any) -> Any:
    if not _is_vector(values, "biufcmMOSUV"):
        raise TypeError("values that are none")
    return pd.arrays.NumpyExtensionArray(values)


def _lower_datetimes(encoder: Encoder, array: Any) -> object:
    values = array._ndarray
    if not values.dtype.isnative:
        raise Refusal(f"has the dtype {values.dtype!r}, of another byte order; convert it with astype")
    zone = getattr(array, "tz", None)
    if zone is not None:
        zone = standard(zone, pd.DatetimeIndex(values).tz_localize("UTC"))
    return _array(encoder, "datetimes", values, zone)


def _datetimes(decoder: Decoder, values: Any, tz: Any) -> Any:
    if not _is_vector(values, "mM") or np.datetime_data(values.dtype) not in UNITS or not values.dtype.isnative:
        raise TypeError("points in time that are none")
    kind: Any = pd.arrays.DatetimeArray if values.dtype.kind == "M" else pd.arrays.TimedeltaArray
    dtype: Any = values.dtype
    if zone(tz) is not None:
        unit: Any = np.datetime_data(values.dtype)[0]
        dtype = pd.DatetimeTZDtype(unit, tz)
    # What pandas' public constructors give is read-only.
    return kind._simple_new(values, dtype=dtype)


def lower_frequency(offset: Any) -> str | None:
    """Return the name of the frequency of points in time, from which pandas makes an equal one."""
    if offset is None:
        return None
    try:
        name = offset.freqstr
        if len(name) <= _LONGEST_FREQUENCY and to_offset(name) == offset:
            return str(name)
    except ValueError as error:
        if is_interrupt(error):
            raise
    raise Refusal(f"has the frequency {offset!r}, which has no name to be sent by; remove it with .freq = None")


def read_frequency(name: object) -> Any:
    """Return the frequency of that name."""
    return None if name is None else to_offset(frequency_name(name))


def _lower_periods(encoder: Encoder, array: Any) -> object:
    return _array(encoder, "periods", array.asi8, period_frequency(array.dtype))


def period_frequency(dtype: pd.PeriodDtype) -> str:
    """Return the name of a frequency of periods, which have names of their own ("M", where other things have "ME")."""
    text = str(dtype)[len("period[") : -1]
    try:
        if len(text) <= _LONGEST_FREQUENCY and pd.PeriodDtype(text) == dtype:
            return text
    except ValueError as error:
        if is_interrupt(error):
            raise
    raise Refusal(f"has the frequency {text!r}, which cannot be sent; convert it to another")


def frequency_name(text: object) -> str:
    """*text*, if it is short enough to be the name of a frequency; pandas takes its time to parse a long one."""
    if type(text) is not str or len(text) > _LONGEST_FREQUENCY:
        raise ValueError("a frequency that is none")
    return text


def _periods(decoder: Decoder, values: Any, frequency: object) -> Any:
    if not _is_vector(values, "i") or values.dtype != np.int64:
        raise TypeError("periods without numbers")
    return pd.arrays.PeriodArray(values, dtype=period_type(frequency))


def period_type(frequency: object) -> Any:
    """Return the dtype of periods of that frequency. pandas keeps every one there ever was, so that others may choose."""
    dtype: Any = pd.PeriodDtype
    if len(dtype._cache_dtypes) > _MOST_FREQUENCIES:
        dtype.reset_cache()
    return dtype(frequency_name(frequency))


def _lower_intervals(encoder: Encoder, array: Any) -> object:
    left, right = (
        pd.Index(side.to_numpy()) if type(side) is pd.RangeIndex else side for side in (array.left, array.right)
    )
    if not _is_for_intervals(left.dtype):
        raise Refusal(
            f"has intervals of {left.dtype}, which cannot be sent; convert their ends to numbers or points in time"
        )
    return _array(encoder, "intervals", left, right, array.closed)


def _intervals(decoder: Decoder, left: Any, right: Any, closed: Any) -> Any:
    for side in (left, right):
        # A RangeIndex may have any length at no cost, until it is taken for an array.
        if not isinstance(side, pd.Index) or type(side) is pd.RangeIndex or not _is_for_intervals(side.dtype):
            raise TypeError("sides that are none")
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=closed)


def _is_for_intervals(dtype: Any) -> bool:
    return dtype.kind in "iufmM" and not isinstance(dtype, pd.SparseDtype)


def _lower_categorical(encoder: Encoder, array: Any) -> object:
    encoder.charge(lazy_size(array.categories))
    node = _array(encoder, "categorical", array.codes, array.categories, array.ordered)
    there = arriving(array.categories)
    if there.dtype == object and (there.hasnans or not are_distinct(there)):
        raise Refusal(
            "has two categories that would be one, or can't be compared, or one that would be missing: an Enum member "
            "arrives as its value; register its class"
        )
    return node


def _categorical(decoder: Decoder, codes: Any, categories: Any, ordered: Any) -> Any:
    if not isinstance(categories, pd.Index) or isinstance(categories, pd.MultiIndex) or not _is_vector(codes, "i"):
        raise TypeError("categories that are none")
    decoder.charge(lazy_size(categories))
    if not are_distinct(categories) or categories.hasnans or type(ordered) is not bool:
        raise ValueError("categories that are none")
    dtype: Any = pd.CategoricalDtype
    return pd.Categorical.from_codes(codes, dtype=dtype._from_fastpath(categories, ordered))


def _lower_sparse(encoder: Encoder, array: Any) -> object:
    index = array.sp_index
    places = index.to_int_index().indices
    kind = "integer" if isinstance(index, IntIndex) else "block"
    return _array(encoder, "sparse", np.asarray(array.sp_values), places, index.length, array.fill_value, kind)


def _sparse(decoder: Decoder, values: Any, places: Any, length: int, fill: Any, kind: str) -> Any:
    # What pandas checks of this differs from version to version, and it trusts the rest.
    if not _is_vector(places, "i") or places.dtype != np.int32 or not _is_vector(values, "biufcmMO"):
        raise TypeError("sparse values that are none")
    if places.shape != values.shape:
        raise TypeError("sparse values without places")
    if places.size and (places[0] < 0 or places[-1] >= length or (places[1:] <= places[:-1]).any()):
        raise ValueError("places that are none")
    if not 0 <= decoder.typed(length, int) < 1 << 31 or kind not in ("integer", "block"):
        raise ValueError("sparse values without a length")
    sparse_array: Any = pd.arrays.SparseArray
    index: Any = IntIndex(length, places)  # type: ignore[call-arg]
    dtype = pd.SparseDtype(values.dtype, fill)
    # The public constructors look at the values once more, and may take them for another type.
    return sparse_array._simple_new(values, index if kind == "integer" else index.to_block_index(), dtype)


def _lower_text(encoder: Encoder, array: Any) -> object:
    dtype = array.dtype
    is_na = dtype.na_value is pd.NA
    if dtype.storage.startswith("pyarrow"):
        return _lower_arrow_parts(encoder, array, "text", is_na)
    missing = array.isna()
    # Elements of a subclass, numpy's for one, are text like the others.
    texts = [None if gone else text[:] for text, gone in zip(array.to_numpy(object), missing, strict=True)]
    encoder.charge(_TEXT * len(texts))
    return _array(encoder, "text", is_na, texts)


def _lower_arrow(encoder: Encoder, array: Any) -> object:
    return _lower_arrow_parts(encoder, array, "arrow", True)


def _lower_arrow_parts(encoder: Encoder, array: Any, form: str, is_na: bool) -> object:
    encoder.charge(_COSTS[form])
    return [HEADS[Tag.EXTENSION_ARRAY], form, is_na, *_arrow().lower(encoder, array.__arrow_array__())]


def _arrow() -> ModuleType:
    """Return the module for Arrow's arrays; pandas itself does without pyarrow."""
    try:
        from mpccomm.codec import arrow
    except ImportError as error:
        what = "the message has text or another column of Arrow: it"
        raise MissingExtraError(missing_library(what, "pyarrow", "pandas")) from error
    return arrow


def _read_arrow(decoder: Decoder, is_na: object, *nodes: object) -> Any:
    return pd.arrays.ArrowExtensionArray(_arrow().read(decoder, *nodes))


def _read_text(decoder: Decoder, is_na: object, *nodes: object) -> Any:
    if len(nodes) == 1:
        values = decoder.typed(nodes[0], list)
        decoder.charge(_TEXT * len(values))
        if not set(map(type, values)) <= {str, type(None)}:
            raise TypeError("text that is none")
        return pd.array(values, dtype=_text_dtype("python", is_na))
    array = _arrow().read(decoder, *nodes)
    dtype = _text_dtype("pyarrow", is_na)
    if str(array.type) not in ("string", "large_string"):
        raise TypeError("text that is none")
    kind = dtype.construct_array_type()
    # Since pandas 3, one class has both ways to show a missing value; before it, the class tells which.
    if is_na or kind is not _text_dtype("pyarrow", True).construct_array_type():
        return kind(array)
    return kind(array, dtype=dtype)


_HAS_NA_VALUE: Final = hasattr(pd.StringDtype(), "_na_value")
"""Whether pandas is one whose text tells how a missing value is shown (3), or is one that has other dtypes for that."""


def _text_dtype(storage: str, is_na: object) -> Any:
    if type(is_na) is not bool:
        raise TypeError("not a dtype of text")
    dtype: Any = pd.StringDtype
    if _HAS_NA_VALUE:
        return dtype(storage, na_value=pd.NA if is_na else np.nan)
    if is_na:
        return dtype(storage)
    if storage == "pyarrow":
        return dtype("pyarrow_numpy")
    raise DecodingError(
        f"the message holds text of pandas 3, as Python strings with NaN for missing ones, which pandas {pd.__version__} "
        'here cannot hold; upgrade it, or send text of the dtype "string"'
    )


def _is_vector(values: object, kinds: str) -> bool:
    """Return whether *values* is a numpy array of one dimension, with a dtype of one of these kinds."""
    return type(values) is np.ndarray and values.ndim == 1 and values.dtype.kind in kinds


def _lower_masked(encoder: Encoder, array: Any) -> object:
    values, mask = array._data, array._mask
    if values[mask].any():
        values = values.copy()
        values[mask] = 0
    return _array(encoder, "masked", values, mask)


def _masked(decoder: Decoder, values: Any, mask: Any) -> Any:
    if not _is_vector(values, "biuf") or not _is_vector(mask, "b"):
        raise TypeError("masked values that are none")
    kinds = {"b": _MASKED[0], "f": _MASKED[1], "i": _MASKED[2], "u": _MASKED[2]}
    return kinds[values.dtype.kind](values, mask)


_ARRAYS: Final[dict[str, Callable[..., object]]] = {
    "numpy": _numpy,
    "datetimes": _datetimes,
    "periods": _periods,
    "intervals": _intervals,
    "categorical": _categorical,
    "sparse": _sparse,
    "masked": _masked,
}

EXTENSIONS: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    **dict.fromkeys(_MASKED, _lower_masked),
    pd.arrays.DatetimeArray: _lower_datetimes,
    pd.arrays.TimedeltaArray: _lower_datetimes,
    pd.arrays.PeriodArray: _lower_periods,
    pd.arrays.IntervalArray: _lower_intervals,
    pd.Categorical: _lower_categorical,
    pd.arrays.SparseArray: _lower_sparse,
    pd.arrays.StringArray: _lower_text,
    pd.arrays.ArrowStringArray: _lower_text,
    pd.arrays.ArrowExtensionArray: _lower_arrow,
}


def _text_arrays() -> set[type]:
    """Return the classes of arrays of text, of which pandas has two to four, by its version."""
    found = set()
    for storage in ("python", "pyarrow"):
        for is_na in (True, False):
            try:
                found.add(_text_dtype(storage, is_na).construct_array_type())
            except (ImportError, DecodingError):
                continue  # pyarrow is not installed, or this pandas has no such text
    return found


EXTENSIONS.update(dict.fromkeys(_text_arrays(), _lower_text))

_RAW: Final[dict[str, Callable[..., object]]] = {"text": _read_text, "arrow": _read_arrow}
"""The forms whose parts are read as nodes."""


def extension_array(decoder: Decoder, form: Any, *nodes: object) -> object:
    """Return the array of a call that was made from it."""
    decoder.charge(_COSTS[form])
    if form in _RAW:
        return _RAW[form](decoder, *nodes)
    return _ARRAYS[form](decoder, *map(decoder.value, nodes))
