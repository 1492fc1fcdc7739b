"""Series, frames, indexes and scalars of every kind that pandas has."""

from decimal import Decimal
from typing import Any

import gmpy2
import numpy as np
import pandas as pd
import pyarrow as pa

from tests.codec.samples import AMSTERDAM

PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
DAYS = pd.date_range("2020", periods=3)


def samples() -> list[Any]:
    series = {**_numbers_and_text(), **_days_and_pairs(), **_sparse_and_arrow()}
    indexes = _indexes()
    frame = pd.DataFrame(series)
    small = frame[["int", "str", "zone"]]
    return [
        frame,
        *series.values(),
        *(column.iloc[1:] for column in series.values()),
        *(column.iloc[:0] for column in series.values()),
        *(column.to_frame() for column in series.values()),
        *indexes,
        *(small.set_axis(index) for index in indexes),
        *(small.set_axis(index, axis="columns") for index in indexes if index.is_unique),
        *_frames(),
        *_scalars(),
    ]


def _numbers_and_text() -> dict[str, "pd.Series[Any]"]:
    series: dict[str, pd.Series[Any]] = {
        "int": pd.Series([1, 2, 3]),
        "float": pd.Series([1.5, np.nan, -0.0]),
        "float32": pd.Series([1, 2, 3], dtype="float32"),
        "complex": pd.Series([1j, 2, 3]),
        "bool": pd.Series([True, False, True]),
        "str": pd.Series(["a", None, "c"]),
        "object": pd.Series(["a", None, 3.5], dtype=object),
        "python": pd.Series(["a", None, "c"], dtype=pd.StringDtype("python")),
        "arrow": pd.Series(["a", None, "c"], dtype=pd.StringDtype("pyarrow")),
        "Int8": pd.Series([1, None, 3], dtype="Int8"),
        "UInt64": pd.Series([1, None, 2**64 - 1], dtype="UInt64"),
        "Float32": pd.Series([1, None, 3], dtype="Float32"),
        "boolean": pd.Series([True, None, False], dtype="boolean"),
        "category": pd.Series(["a", None, "c"], dtype="category"),
        "ordered": pd.Series(pd.Categorical(["a", "b", None], categories=["b", "a", "z"], ordered=True)),
    }
    if PANDAS >= (2, 3):
        series["python-nan"] = pd.Series(["a", None, "c"], dtype=pd.StringDtype("python", na_value=np.nan))
    return series


def _days_and_pairs() -> dict[str, "pd.Series[Any]"]:
    return {
        "category of days": pd.Series(pd.Categorical(DAYS.tz_localize("UTC"))),
        "days": pd.Series(DAYS),
        "zone": pd.Series(DAYS.tz_localize(AMSTERDAM)),
        "seconds": pd.Series(DAYS.as_unit("s")),
        "timedelta": pd.Series(pd.to_timedelta([1, 2, None], unit="s")),
        "period": pd.Series(pd.period_range("2020", periods=3, freq="M")),
        "interval": pd.Series(pd.interval_range(0, 3)),
        "interval of days": pd.Series(pd.interval_range(pd.Timestamp("2020"), periods=3, closed="left")),
    }


def _sparse_and_arrow() -> dict[str, "pd.Series[Any]"]:
    return {
        "sparse": pd.Series(pd.arrays.SparseArray([0, 1, 0])),
        "sparse-nan": pd.Series(pd.arrays.SparseArray([np.nan, 1.5, np.nan])),
        "sparse-block": pd.Series(pd.arrays.SparseArray([0, 1, 0], kind="block")),
        "big": pd.Series([2**70, 2**80, -1], dtype=object),
        "mpz": pd.Series([gmpy2.mpz(1), gmpy2.mpz(2) ** 100, None], dtype=object),
        "pa.int64": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
        "pa.bool": pd.Series([True, None, False], dtype=pd.ArrowDtype(pa.bool_())),
        "pa.decimal": pd.Series([Decimal("1.5"), None, None], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
        "pa.timestamp": pd.Series(DAYS, dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
        "pa.list": pd.Series([[1, 2], None, [3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        "pa.struct": pd.Series([{"a": 1}, None, {"a": 3}], dtype=pd.ArrowDtype(pa.struct([("a", pa.int8())]))),
    }


def _indexes() -> list[Any]:
    return [
        pd.Index(["x", "y", "z"], name="name"),
        pd.date_range("2020", periods=3, freq="B"),
        pd.date_range("2020", periods=3, freq="ME", tz="UTC"),
        pd.DatetimeIndex(["2020-01-01", None, "2020-01-02"], name=("a", 1)),
        pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["p", None]),
        pd.MultiIndex.from_product([DAYS, [1.5]]),
        pd.Index([1.5, 2, np.nan]),
        pd.RangeIndex(3, 9, 2, name=("a", 1)),
        pd.CategoricalIndex(["a", "b", "a"], ordered=True),
        pd.interval_range(0, 3),
        pd.period_range("2020", periods=3, freq="Q"),
        pd.timedelta_range("1s", periods=3),
        pd.Index([1, "a", None], dtype=object),
        pd.Index([True, False, True]),
        pd.Index([(1, 2), (3, 4), (5, 6)], tupleize_cols=False),
        pd.Index([1, 2, 3], dtype="Int64"),
    ]


def _frames() -> list[Any]:
    described = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    described.attrs = {"source": {"table": [1, (2, 3)]}}
    return [
        described,
        pd.Index([], dtype=object),
        pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "a"]),
        pd.DataFrame([[1, "x"], [2, "y"]], columns=["a", "a"]),
        pd.DataFrame({1: [1], 2.5: [2], (1, 2): ["x"], None: [4]}),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2, 3]),
        pd.DataFrame(columns=["a", "b"]),
        pd.DataFrame({"a": [1], "b": [2]}).set_flags(allows_duplicate_labels=False),
        pd.DataFrame(np.asfortranarray(np.arange(2000.0).reshape(200, 10))),
        pd.DataFrame({"a": np.arange(1000.0), "b": np.arange(1000), "c": ["text"] * 1000}),
        pd.Series([1], name=("a", 1)),
        pd.Series(dtype=object),
        pd.Categorical(["a"]),
        pd.array([1, None]),
    ]


def _scalars() -> list[Any]:
    return [
        pd.Timestamp("2020-01-01 00:00:00.123456789"),
        pd.Timestamp("2020").as_unit("s"),
        pd.Timestamp(year=2020, month=10, day=25, hour=2, minute=30, fold=1, tz=AMSTERDAM),
        pd.Timestamp("2020-06-01", tz="UTC"),
        pd.Timedelta("1s"),
        pd.Timedelta(5, unit="ns"),
        pd.NaT,
        pd.NA,
        pd.Period("2020-01", freq="M"),
        pd.Period("2020", freq="Y"),
        pd.Interval(1, 2, closed="both"),
        pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021")),
        {"nested": [pd.NaT, (pd.NA, pd.Timestamp("2020"))]},
    ]
