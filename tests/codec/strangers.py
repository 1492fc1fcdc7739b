"""Values as other programs and libraries make them: odd bases, odd layouts, odd names, in any container.

Each arrives exactly, or is refused at the sender. What a library of some version can't make is left out.
"""

import array
import ctypes
import datetime as dt
import decimal
import enum
import mmap
import sys
import time
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import gmpy2
import numpy as np
import pandas as pd
import pyarrow as pa

Make = Callable[[], Any]


class Pair(NamedTuple):
    a: int
    b: int


def made(*makers: Make) -> Iterator[Any]:
    """What *makers* make, of those that can here."""
    for make in makers:
        try:
            value = make()
        except Exception:
            continue  # this version of a library doesn't have it
        yield value


def derived() -> Iterator[Any]:
    """Instances of subclasses of what can be sent, which would arrive as their base."""
    bases: dict[type, Any] = {
        str: "a",
        bytes: b"a",
        bytearray: b"a",
        int: 5,
        float: 0.5,
        complex: 1j,
        list: [1],
        tuple: (1,),
    }
    bases |= {dict: {"a": 1}, set: {1}, frozenset: {1}, deque: [1], OrderedDict: {"a": 1}, Counter: "a", Decimal: "1"}
    bases |= {
        uuid.UUID: "0" * 32,
        PurePosixPath: "a",
        Fraction: 1,
        np.ndarray: (2,),
        pd.Series: [1],
        pd.DataFrame: [[1]],
    }
    for base, argument in bases.items():
        yield type("Derived", (base,), {})(argument)


def not_data() -> Iterator[Any]:
    """What no party could make anything of, or only something else."""
    yield from (
        ChainMap({}),
        UserDict(a=1),
        UserList([1]),
        types.MappingProxyType({"a": 1}),
        types.SimpleNamespace(a=1),
    )
    yield from (
        {}.keys(),
        {1: 2}.items(),
        ...,
        NotImplemented,
        slice(1),
        zip(),
        object(),
        time.gmtime(0),
        sys.version_info,
    )
    yield from (Pair(1, 2), defaultdict(lambda: 1), mmap.mmap(-1, 10), (ctypes.c_int * 3)(1, 2, 3))
    yield from made(
        lambda: np.matrix([[1]]),
        lambda: np.ma.array([1], mask=True),
        lambda: np.rec.array([(1, 2)]),
        lambda: np.zeros(2, np.dtype([("a", "i4")], metadata={"x": 1})),
        lambda: np.zeros(2, np.dtype([("a", np.dtype("i4", metadata={"x": 1}))])),
        lambda: np.zeros(2, np.dtype([((5, "a"), "i4")])),
        lambda: np.frombuffer(b"\xff\xff\xff\xff", "U1"),
        lambda: np.random.default_rng(1),
        lambda: pa.array(["a", "b"]).dictionary_encode(),
        lambda: pa.schema([("a", pa.int8())]),
        lambda: pa.scalar(5),
        lambda: pd.offsets.Day(),
        lambda: pd.DataFrame({"a": [1, 2]}).groupby([0, 0]),
        lambda: pd.date_range("2020", periods=3, freq=pd.offsets.CustomBusinessDay(holidays=["2020-01-01"])),
        gmpy2.context,
        lambda: gmpy2.random_state(1),
    )


def converted() -> Iterator[tuple[Any, Any]]:
    """What arrives as something else, as the documents say, and as what."""
    bases: dict[Any, Any] = {
        str: "a",
        bytes: b"ab",
        float: 1.5,
        tuple: (1, 2),
        frozenset: ({1, 2},),
        dt.date: (2000, 1, 1),
    }
    for base, value in bases.items():
        kind = enum.Enum("Member", {"A": value}, type=base)  # type: ignore[misc]
        yield kind.A, kind.A.value
    for other in (None, [1, 2], {"a": 1}, 2**70, np.float64(1.5)):
        member: Any = enum.Enum("member", {"A": other})
        yield member.A, other
    flags: Any = enum.IntFlag("Flags", "A B")  # type: ignore[misc]
    yield flags.A | flags.B, 3
    buffers: tuple[Any, ...] = (
        array.array("d", [1, 2, 3]),
        (ctypes.c_int * 3)(1, 2),
        np.arange(24).reshape(4, 6).T,
        np.zeros((0, 3)),
        np.float64(5),
    )
    for buffer in buffers:
        view = memoryview(buffer)
        yield view, view.tobytes()
        if view.ndim == 1:
            yield view[::-2], view[::-2].tobytes()


def builtin() -> Iterator[Any]:
    """Of the standard library."""
    yield from map(
        Decimal, ("-0", "0E+10", "-0E-400", "1E+999999999999999999", "sNaN", "-sNaN123", "NaN0012", "1E+5", "00012")
    )
    yield decimal.Context(prec=5).create_decimal("1.234567")
    yield from (Decimal((0, (1, 2, 3) * 2000, -3000)), Fraction(2**65535, 3), Fraction(3, 2**65535 - 1))
    yield from (deque(maxlen=0), deque([1], sys.maxsize), defaultdict(int, a=1), range(10**30, 0, -7))
    yield from (dt.datetime.max, dt.datetime.min, dt.timedelta.max, dt.timedelta.min)
    yield from made(*(lambda code=code: array.array(code, [1, 2]) for code in array.typecodes))
    yield {1: "a", "1": "b", 1.5: "c", None: 1, b"1": 2, (1, (2,)): 3, frozenset([1]): 4, Decimal("1.0"): 5}
    yield from (
        {-0.0: 1},
        {True: 1},
        {1.0: 1},
        {"\ud800": 1, "a": 2},
        {f"\ud800{index}": index for index in range(40)},
        {"": 0},
    )
    yield [True, 1, 1.0, 0, -0.0, False]
    yield [2**63, -(2**63), 2**64, -(2**63) - 1, 2**63 - 1]
    minutes = dt.timedelta(hours=5, seconds=1)
    for zone in (
        dt.UTC,
        dt.timezone(minutes),
        dt.timezone(dt.timedelta(0), "UTC"),
        dt.timezone(-minutes, "x\0"),
        ZoneInfo("GMT"),
    ):
        yield from (zone, dt.datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=1), dt.time(1, 2, 3, 4, zone, fold=1))


_UNITS = (
    "generic",
    *(f"[{unit}]" for unit in ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "25s", "7D")),
)


def of_numpy() -> Iterator[Any]:
    """Of numpy: structures with holes, titles and overlaps, units of time, views."""
    for unit in _UNITS:
        for kind in ("M8", "m8", ">M8"):
            times = np.array([0, 1, -5, np.iinfo(np.int64).min]).view(kind + unit.replace("generic", ""))
            yield from (times, times[1], times[::-1])
    layouts: list[Any] = [
        {"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [8, 0], "itemsize": 24},
        {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2], "itemsize": 8},
        {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 0]},
        [(("title", "a"), "i4"), ("b", "f8")],
        [("a", ("i4", (2, 3)))],
        [("a", [("b", "O"), ("c", "i1")]), ("d", "f8")],
        [],
    ]
    for layout in layouts:
        for make in (np.dtype, partial(np.zeros, 3), partial(np.zeros, ())):
            yield from made(partial(make, layout))
    yield from made(
        lambda: np.zeros((2, 0, 3), "f4"),
        lambda: np.zeros(3, "V0"),
        lambda: np.zeros(3, "V5"),
        lambda: np.zeros((), "O"),
        lambda: np.array(["a\0", "b"], "U3"),
        lambda: np.str_("a\0"),
        lambda: np.bytes_(b"a\0\0"),
        lambda: np.array(["x", None], np.dtypes.StringDType(na_object=None)),
        lambda: np.float16(1e-8),
        lambda: np.longdouble("1e4000"),
        lambda: np.array([np.nan], ">f8"),
        lambda: np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f", "f8"),
        lambda: np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        lambda: np.arange(10)[::-2],
        lambda: np.broadcast_to(np.arange(3), (4, 3)),
        lambda: np.lib.stride_tricks.as_strided(np.arange(10), (4, 4), (8, 8)),
        lambda: np.array([None, [1, [2]], {"a": 1}], object),
        lambda: np.array([[]], object),
        lambda: np.array([(1, "x")], [("a", "i4"), ("b", "O")])[0],
    )


def of_pandas() -> Iterator[Any]:
    """Of pandas and Arrow: odd names, flags, attributes, gaps and resolutions."""
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"u": {"x": [1, (2,)]}, 5: "y"}
    yield frame
    yield from made(
        lambda: pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
        lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
        lambda: pd.DataFrame({1: [1], "1": [2], None: [3], (1, 2): [4]}),
        lambda: pd.DataFrame({"a": [1]}, index=pd.Index([("x", 1)], tupleize_cols=False, name=("n", 1))),
        lambda: pd.DataFrame({"a": [1, 2]}, pd.Index([1, 2], name=5), pd.Index(["a"], name=("c",))),
        lambda: pd.DataFrame(index=range(3)),
        lambda: pd.DataFrame(columns=["a"]),
        lambda: pd.DataFrame(np.arange(6).reshape(2, 3)).T,
        lambda: pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
    )


def indexes() -> Iterator[Any]:
    """Indexes of pandas, and what stands in them."""
    yield from made(
        lambda: pd.Series([1, 2], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=[None, ("x",)])),
        lambda: pd.MultiIndex.from_product([[1, 2], ["a", "b"]])[[0]],
        lambda: pd.MultiIndex.from_arrays([[np.nan, 1], [None, "a"]]),
        lambda: pd.MultiIndex.from_arrays([[], []]),
        lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1.5], fill_value=0)),
        lambda: pd.Series(pd.arrays.SparseArray([np.nan, 1], kind="block")),
        lambda: pd.interval_range(0, 3, closed="both"),
        lambda: pd.interval_range(pd.Timestamp("2020"), periods=2, freq="D"),
        lambda: pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021"), "neither"),
        lambda: pd.Interval(0, 1.5),
        lambda: pd.Period("2020-01-01", "3D"),
        lambda: pd.Period("2020-01-01 05:00", "15min"),
        lambda: pd.period_range("2020", periods=3, freq="W-TUE"),
        lambda: pd.Series(pd.Categorical([1, 2], [2, 1, 3], ordered=True)),
        lambda: pd.Series(pd.Categorical(["a", None])),
        lambda: pd.cut(pd.Series([1, 2, 3]), 2),
        lambda: pd.Series([1, None], dtype="Int8"),
        lambda: pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, True])),
        lambda: pd.Index([1, 2], dtype="int8", name=float("nan")),
        lambda: pd.RangeIndex(5, 0, -2, name=("a",)),
        lambda: pd.Timestamp("0001-01-01").as_unit("s"),
        lambda: pd.Timedelta(5, "s").as_unit("s"),
        lambda: pd.date_range("2020", periods=5, freq="B")[::2],
        lambda: pd.timedelta_range(0, periods=3, freq="7h"),
    )


def of_arrow() -> Iterator[Any]:
    """Columns and tables of Arrow, and text of pandas."""
    yield from made(
        lambda: pd.Series(np.array([1], ">i4")),
        lambda: pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int8(), False, {"k": "v"})], {"m": "x"})),
        lambda: pa.table([[1], [2]], names=["a", "a"]),
        lambda: pa.array([{"a": 1, "b": None}, None]),
        lambda: pa.array([[1], [2, 3], [4]])[1:],
        lambda: pa.array([True, None, False] * 10)[3:17],
    )
    yield from made(
        *(lambda kind=kind: pd.Series(["a", None, "\0"], dtype=kind) for kind in ("string", "string[pyarrow]", "str"))
    )
    kinds: list[Any] = [
        pa.decimal128(20, 3),
        pa.timestamp("ns", "+05:30"),
        pa.date64(),
        pa.duration("ms"),
        pa.binary(3),
        pa.null(),
    ]
    kinds += [
        pa.list_(pa.int8(), 2),
        pa.large_list(pa.string()),
        pa.struct([("a", pa.list_(pa.float16()))]),
        pa.struct([]),
    ]
    yield from made(*(lambda kind=kind: pa.nulls(5, kind)[1:4] for kind in kinds))


def of_gmpy() -> Iterator[Any]:
    """Of gmpy2: signs, precisions and values that are no numbers."""
    yield from (
        gmpy2.xmpz(-7),
        gmpy2.mpfr("nan"),
        gmpy2.mpfr("-0"),
        gmpy2.mpfr("inf", 200),
        gmpy2.mpc("1+2j", (60, 70)),
    )
    yield from (gmpy2.mpc(float("nan"), -0.0), gmpy2.mpq(-1, 3), gmpy2.mpz(2) ** 20000)


SOURCES: dict[str, Callable[[], Iterator[Any]]] = {
    "builtin": builtin,
    "numpy": of_numpy,
    "pandas": of_pandas,
    "indexes": indexes,
    "arrow": of_arrow,
    "gmpy": of_gmpy,
}

CONTAINERS: dict[str, Callable[[Any, int], Any]] = {
    "list": lambda value, size: [value] * size,
    "records": lambda value, size: [{"a": value, "b": index} for index in range(size)],
    "rows": lambda value, size: [(value, index) for index in range(size)],
    "lists": lambda value, size: [[[value, 1]], [value]] * (size // 2),
    "keys": lambda value, size: [{value: 1}, {value}] * (size // 2),
    "dict": lambda value, size: dict.fromkeys(range(size), value),
    "names": lambda value, size: {str(index): value for index in range(size)},
    "ragged": lambda value, size: [(value,) * (index % 5) for index in range(size)],
    "groups": lambda value, size: [value, 1, "a", (value,), {"q": value}] * (size // 5),
    "others": lambda value, size: [deque([value]), OrderedDict(a=value), defaultdict(list, {1: value})] * (size // 3),
    "objects": lambda value, size: np.fromiter([value] * size, object),
}
