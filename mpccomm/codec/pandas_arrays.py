"""The values of pandas' columns and indexes.

They travel as the buffers they consist of: those of a numpy array, of an Arrow array, or of the few arrays that an
array of another type is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas._libs.sparse import IntIndex

from mpccomm.codec import keys
from mpccomm.codec.abc import Decoder, Encoder
from mpccomm.codec.builtin import zone
from mpccomm.codec.numpy import lower_array
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.errors import MissingExtraError

UNITS: Final = {(unit, 1) for unit in ("s", "ms", "us", "ns")}
"""The resolutions that pandas has."""
_LONGEST_FREQUENCY: Final = 50
_MASKED: Final = (pd.arrays.BooleanArray, pd.arrays.FloatingArray, pd.arrays.IntegerArray)


def lower_values(encoder: Encoder, array: Any) -> object:
    """The node of the values of a column or index."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy(copy=False)
    if isinstance(array, np.ndarray):
        return lower_array(encoder, array, writable=True)
    kind = type(array)
    if kind in EXTENSIONS:
        return EXTENSIONS[kind](encoder, array)
    raise Refusal(f"has values of type {kind.__module__}.{kind.__qualname__}, which cannot be sent; convert them")


def _array(encoder: Encoder, form: str, *arguments: object) -> list[object]:
    """A call for an extension array; arrays among the arguments go by their buffers."""
    encoder.enter()
    nodes = [
        lower_array(encoder, value, writable=True) if isinstance(value, np.ndarray) else encoder.lower(value)
        for value in arguments
    ]
    encoder.depth -= 1
    return [HEADS[Tag.EXTENSION_ARRAY], form, *nodes]


def _lower_datetimes(encoder: Encoder, array: Any) -> object:
    return _array(
        encoder, "datetimes", array.view("i8").view(f"{array.dtype.kind}8[{array.unit}]"), getattr(array, "tz", None)
    )


def _datetimes(decoder: Decoder, values: Any, tz: Any) -> Any:
    if not _is_vector(values, "mM") or np.datetime_data(values.dtype) not in UNITS:
        raise TypeError("points in time that are none")
    if values.dtype.kind == "m":
        return pd.TimedeltaIndex(values, copy=False).array
    index = pd.DatetimeIndex(values, copy=False)
    return (index if zone(tz) is None else index.tz_localize("UTC").tz_convert(tz)).array


def _lower_periods(encoder: Encoder, array: Any) -> object:
    return _array(encoder, "periods", array.asi8, period_frequency(array.dtype))


def period_frequency(dtype: pd.PeriodDtype) -> str:
    """The name of a frequency of periods, which have names of their own ("M", where other things have "ME")."""
    text = str(dtype)[len("period[") : -1]
    if pd.PeriodDtype(text) != dtype:
        raise Refusal(f"has the frequency {text!r}, which cannot be sent; convert it to another")
    return text


def frequency_name(text: object) -> str:
    """*text*, if it is short enough to be the name of a frequency; pandas takes its time to parse a long one."""
    if type(text) is not str or len(text) > _LONGEST_FREQUENCY:
        raise ValueError("a frequency that is none")
    return text


def _periods(decoder: Decoder, values: Any, frequency: object) -> Any:
    if not _is_vector(values, "i") or values.dtype != np.int64:
        raise TypeError("periods without numbers")
    return pd.arrays.PeriodArray(values, dtype=pd.PeriodDtype(frequency_name(frequency)))


def _lower_intervals(encoder: Encoder, array: Any) -> object:
    left, right = (
        pd.Index(side.to_numpy()) if type(side) is pd.RangeIndex else side for side in (array.left, array.right)
    )
    return _array(encoder, "intervals", left, right, array.closed)


def _intervals(decoder: Decoder, left: Any, right: Any, closed: Any) -> Any:
    for side in (left, right):
        # A RangeIndex may have any length at no cost, until it is taken for an array.
        if not isinstance(side, pd.Index) or type(side) is pd.RangeIndex:
            raise TypeError("sides that are none")
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=closed)


def _lower_categorical(encoder: Encoder, array: Any) -> object:
    node = _array(encoder, "categorical", array.codes, array.categories, array.ordered)
    return [*node, encoder.ballast(range_size(array.categories))]


def range_size(index: pd.Index) -> int:
    """Memory that a RangeIndex, whatever its length, takes only when it is taken for an array; 0 for any other."""
    return 8 * len(index) if type(index) is pd.RangeIndex else 0


def _categorical(decoder: Decoder, codes: Any, categories: Any, ordered: Any, ballast: Any) -> Any:
    if not isinstance(categories, pd.Index) or not _is_vector(codes, "i"):
        raise TypeError("categories that are none")
    decoder.ballasted(range_size(categories), ballast)
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered))


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
    if hasattr(sparse_array, "from_indices"):
        return sparse_array.from_indices(values, places, length, fill, kind, values.dtype)
    index: Any = IntIndex(length, places)  # type: ignore[call-arg]
    dtype = pd.SparseDtype(values.dtype, fill)
    return sparse_array(
        values, sparse_index=index if kind == "integer" else index.to_block_index(), fill_value=fill, dtype=dtype
    )


def _lower_text(encoder: Encoder, array: Any) -> object:
    dtype = array.dtype
    form = ["text", dtype.storage, dtype.na_value is pd.NA]
    if dtype.storage == "pyarrow":
        return _lower_arrow_parts(encoder, array, *form)
    values = array.to_numpy(object)
    return _array(
        encoder, *form, [None if missing else text for text, missing in zip(values, array.isna(), strict=True)]
    )


def _lower_arrow(encoder: Encoder, array: Any) -> object:
    return _lower_arrow_parts(encoder, array, "arrow", None, None)


def _lower_arrow_parts(encoder: Encoder, array: Any, *form: object) -> object:
    return [HEADS[Tag.EXTENSION_ARRAY], *form, *_arrow().lower(encoder, array.__arrow_array__())]


def _arrow() -> ModuleType:
    """The module for Arrow's arrays; pandas itself does without pyarrow."""
    try:
        from mpccomm.codec import arrow
    except ImportError as error:
        raise MissingExtraError(
            "text or another column of Arrow is in the message, for which pyarrow is missing here; install it with: "
            "pip install 'mpccomm[pandas]'"
        ) from error
    return arrow


def _read_arrow(decoder: Decoder, form: str, storage: Any, missing_is_na: Any, *nodes: object) -> Any:
    if len(nodes) == 1:
        values = decoder.typed(nodes[0], list)
        if storage != "python" or not set(map(type, values)) <= {str, type(None)}:
            raise TypeError("text that is none")
        return pd.array(values, dtype=_text_dtype(storage, missing_is_na))
    array = _arrow().read(decoder, *nodes)
    if form == "arrow":
        return pd.arrays.ArrowExtensionArray(array)
    return _text_dtype(storage, missing_is_na).__from_arrow__(array)


def _text_dtype(storage: Any, missing_is_na: Any) -> Any:
    return pd.StringDtype(storage, na_value=pd.NA if missing_is_na else np.nan)


def _is_vector(values: object, kinds: str) -> bool:
    """Whether *values* is a numpy array of one dimension, with a dtype of one of these kinds."""
    return type(values) is np.ndarray and values.ndim == 1 and values.dtype.kind in kinds


def _lower_masked(encoder: Encoder, array: Any) -> object:
    return _array(encoder, "masked", array._data, array._mask)


def _masked(decoder: Decoder, values: Any, mask: Any) -> Any:
    if not _is_vector(values, "biuf") or not _is_vector(mask, "b"):
        raise TypeError("masked values that are none")
    kinds = {"b": _MASKED[0], "f": _MASKED[1], "i": _MASKED[2], "u": _MASKED[2]}
    return kinds[values.dtype.kind](values, mask)


_ARRAYS: Final[dict[str, Callable[..., object]]] = {
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


def extension_array(decoder: Decoder, form: object, *nodes: object) -> object:
    """The array of a call that was made from it."""
    if form in ("text", "arrow"):
        return _read_arrow(decoder, form, *nodes)
    return _ARRAYS[form](decoder, *map(decoder.value, nodes))  # type: ignore[index]


def check_keys(values: Any) -> None:
    """pandas puts the elements of an index into a hash table: those whose hash others choose need a look."""
    if values.dtype == object:
        keys.received(list(values))
