"""What `encode` accepts arrives as it was: over values made of each other by pandas' own operations."""

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpccomm.codec import decode, encode
from mpccomm.errors import EncodingError
from tests.codec.exactness import assert_same
from tests.codec.pandas_samples import samples
from tests.codec.samples import AMSTERDAM

LARGEST = 300
"""Rows and columns; the operations make values longer."""

Operation = Callable[[random.Random, Any], Any]


def _chosen(source: random.Random, value: Any) -> Any:
    return value.iloc[[source.randrange(len(value)) for _ in range(source.randrange(6))]]


def _slice(source: random.Random, value: Any) -> Any:
    begin, end = sorted(source.randrange(len(value) + 1) for _ in range(2))
    return value.iloc[begin : end : source.choice((1, 1, 2))] if end else value.iloc[:: source.choice((1, -1))]


def _column(source: random.Random, value: Any) -> Any:
    return value.iloc[:, source.randrange(value.shape[1])]


def _cast(source: random.Random, value: Any) -> Any:
    dtypes: list[Any] = ["category", "string", "string[pyarrow]", "object", "Int64", "float32", "complex128", "boolean"]
    dtypes += [
        "datetime64[s]",
        pd.DatetimeTZDtype("ns", AMSTERDAM),
        "timedelta64[ms]",
        "period[W-SUN]",
        "Sparse[float]",
    ]
    dtypes += ["int64[pyarrow]", "timestamp[us][pyarrow]", "bool[pyarrow]", ">i4", "S3", "U4", "uint8", "f2"]
    return value.astype(source.choice(dtypes))


def _with_missing(source: random.Random, value: Any) -> Any:
    return value.mask(np.array([source.random() < 0.4 for _ in range(len(value))]))


OPERATIONS: dict[str, Operation] = {
    "choose": _chosen,
    "slice": _slice,
    "column": _column,
    "cast": _cast,
    "missing": _with_missing,
    "frame": lambda _, value: value.to_frame(),
    "transpose": lambda _, value: value.T,
    "index": lambda _, value: value.index,
    "columns": lambda _, value: value.columns,
    "series": lambda _, value: value.to_series(),
    "values": lambda _, value: value.array,
    "array": lambda _, value: value.to_numpy(),
    "categories": lambda _, value: value.cat.categories,
    "codes": lambda _, value: value.cat.codes,
    "levels": lambda source, value: source.choice(value.levels),
    "level": lambda source, value: value.get_level_values(source.randrange(value.nlevels)),
    "drop level": lambda _, value: value.droplevel(0),
    "describe": lambda _, value: value.describe(),
    "describe groups": lambda _, value: value.groupby(value.iloc[:, 0]).describe(),
    "group": lambda _, value: value.groupby(list(range(len(value)))).agg(["min", "count"]),
    "count": lambda _, value: value.value_counts(dropna=False),
    "bins": lambda _, value: pd.cut(value, 3),
    "dummies": lambda source, value: pd.get_dummies(value, sparse=source.random() < 0.5),
    "stack": lambda _, value: value.stack(),
    "unstack": lambda _, value: value.unstack(),
    "melt": lambda _, value: value.melt(),
    "reset": lambda _, value: value.reset_index(),
    "set index": lambda source, value: value.set_index([value.columns[source.randrange(value.shape[1])]], append=True),
    "twice": lambda _, value: pd.concat([value, value]),
    "side by side": lambda _, value: pd.concat([value, value], axis=1),
    "keys": lambda _, value: pd.concat({"a": value, 2: value}),
    "reindex": lambda source, value: value.reset_index(drop=True).reindex([0, "new", source.random()]),
    "sort": lambda _, value: value.sort_index(),
    "reverse": lambda _, value: value[::-1],
    "shift": lambda _, value: value.shift(),
    "difference": lambda _, value: value.diff(),
    "resample": lambda source, value: value.resample(source.choice(("ME", "2h", "W"))).count(),
    "zone": lambda _, value: value.tz_localize(AMSTERDAM),
    "utc": lambda _, value: value.tz_convert("UTC"),
    "period": lambda source, value: value.to_period(source.choice(("M", "Q-NOV", "W-WED"))),
    "explode": lambda _, value: value.explode(),
    "flag": lambda _, value: value.set_flags(allows_duplicate_labels=False),
    "convert": lambda source, value: value.convert_dtypes(dtype_backend=source.choice(("pyarrow", "numpy_nullable"))),
    "memory": lambda _, value: value.infer_objects(),
    "mode": lambda _, value: value.mode(),
    "quantile": lambda _, value: value.quantile([0.1, 0.5]),
    "correlation": lambda _, value: value.corr(),
    "remove": lambda _, value: value.cat.remove_unused_categories(),
    "union": lambda _, value: value.union(value[:1]),
    "isin": lambda _, value: value.isna(),
    "name": lambda source, value: value.rename(source.choice((None, "n", ("a", 1), 2.5))),
    "interval": lambda _, value: pd.IntervalIndex.from_breaks(pd.Index(value.array, dtype="float64")),
}


def made(seed: int) -> Iterator[tuple[str, Any]]:
    """Values, without end, and the operations that made them."""
    source = random.Random(seed)
    pool: list[tuple[str, Any]] = [("sample", value) for value in samples() if hasattr(value, "shape")]
    while True:
        path, value = source.choice(pool)
        name = source.choice(list(OPERATIONS))
        try:
            result = OPERATIONS[name](source, value)
            small = max(result.shape, default=0) <= LARGEST
        except Exception:  # most of them fit only some values
            continue
        if small:
            path = f"{path}, {name}"
            yield path, result
            pool[source.randrange(len(pool))] = path, result


def _has_nan_in_a_label(value: Any) -> bool:
    """Whether a tuple with NaN is among the labels: it is not equal to any other, for pandas too."""
    labels = [*getattr(value, "columns", []), getattr(value, "name", None)]
    return any(type(label) is tuple and any(part != part for part in label if part is not pd.NA) for label in labels)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_arrives(seed: int) -> None:
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, (path, value) in zip(range(400), made(seed), strict=False):
            if _has_nan_in_a_label(value):
                continue
            try:
                segments = encode(value).segments
            except EncodingError:
                refused += 1
                continue
            try:
                received = decode(segments)
                assert_same(value, received)
                if hasattr(value, "dtype"):
                    assert received.dtype == value.dtype  # type: ignore[attr-defined]
                again = encode(received).segments
            except Exception as error:
                raise AssertionError(f"{type(value).__name__} made by: {path}") from error
            assert sum(map(len, again)) == sum(map(len, segments)), path
    assert refused < 40
