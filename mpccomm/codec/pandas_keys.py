"""Whether the elements of an index are distinct, in a time that the sender can't choose.

pandas answers that with hash tables whose hashes are the same everywhere, so that a message could hold nothing but
elements with equal ones. Here they are sorted; those that cannot be sorted go through Python's own hashes, which
`mpccomm.codec.keys` has looked at before.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from mpccomm.codec import keys
from mpccomm.codec.abc import Refusal

_NAN: Final = object()


def lazy_size(index: pd.Index) -> int:
    """Return the bytes that an index takes only when it is made an array, whatever its length; 0 for most."""
    if type(index) is pd.RangeIndex or isinstance(index.dtype, pd.SparseDtype):
        return 8 * len(index)
    return 0


def hashing_memory(values: Any) -> int:
    """Return the bytes that it takes to tell whether the elements of an index can be hashed."""
    return keys.MEMORY * len(values) if values.dtype == object else 0


def check_hashable(values: Any) -> None:
    """Raise unless the elements of an index can be hashed when they arrive, without costing quadratic time."""
    if values.dtype == object:
        keys.received(keys.arriving(list(values)), repeated=True)


def check_name(name: Any) -> None:
    """Raise Refusal unless a name of labels can be hashed when it arrives."""
    try:
        hash(keys.arriving([name])[0])
    except Exception as error:
        if keys.is_passing(error):
            raise
        raise Refusal("has an Enum member in a name whose value cannot be in one; register its class") from error


def arriving(index: Any) -> Any:
    """Return *index* as it arrives, with the values of Enum members; itself if all labels stay."""
    if index.dtype != object or isinstance(index, pd.MultiIndex):
        return index
    labels = list(index)
    arrived = keys.arriving(labels)
    return index if arrived is labels else pd.Index(arrived, dtype=object, tupleize_cols=False)


def are_distinct(index: Any) -> bool:
    """Return whether no element of *index* is there twice; False also where that can't be told: they refuse to be compared."""
    if type(index) is pd.RangeIndex or len(index) < 2:
        return True
    if isinstance(index.dtype, pd.ArrowDtype) and len(index) > 2 << 8 * (getattr(index.dtype, "itemsize", 0) or 8):
        # More than there are values; as objects they would take far more memory than they do now.
        return False
    try:
        columns: list[Any] = list(index.codes) if isinstance(index, pd.MultiIndex) else _sortable(index.array)
    except Exception as error:
        if keys.is_passing(error):
            raise
        return False
    order = np.lexsort(columns)
    equal = np.ones(len(index) - 1, bool)
    for column in columns:
        in_order = column[order]
        equal &= in_order[1:] == in_order[:-1]
    return not equal.any()


def _sortable(values: Any) -> list[Any]:
    """Return arrays of numbers that tell the elements of *values* apart, taken together."""
    if type(values) is pd.arrays.NumpyExtensionArray:
        values = values.to_numpy(copy=False)
    if isinstance(values, np.ndarray):
        return _sortable_array(values)
    if isinstance(values, pd.Categorical):
        return [values.codes]
    if isinstance(values, pd.arrays.IntervalArray):
        return _sortable(values.left.array) + _sortable(values.right.array)
    if hasattr(values, "asi8"):
        return [values.asi8]
    if hasattr(values, "_mask"):
        return [values._mask, *_sortable_array(np.where(values._mask, values._data.dtype.type(0), values._data))]
    if isinstance(values, pd.arrays.SparseArray):
        return _sortable_array(np.asarray(values))
    return [_numbered(list(values))]


def _sortable_array(values: Any) -> list[Any]:
    kind = values.dtype.kind
    if kind == "O":
        return [_numbered(values.tolist())]
    if kind == "c":
        return _sortable_array(values.real) + _sortable_array(values.imag)
    if kind == "f":
        missing = np.isnan(values)
        return [missing, np.where(missing, values.dtype.type(0), values)]
    return [values.view(np.int64) if kind in "mM" else values]


def _numbered(elements: list[Any]) -> Any:
    """Return a number for each element, the same for equal ones."""
    keys.received(elements, repeated=True)
    elements = [_NAN if _is_nan(key) else key for key in elements]
    places: dict[Any, int] = {}
    keys.filled(places, elements, zip(elements, range(len(elements)), strict=True))
    return np.array(list(map(places.__getitem__, elements)), np.intp)


def _is_nan(key: object) -> bool:
    return isinstance(key, float) and key != key
