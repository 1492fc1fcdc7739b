"""Values of every kind that can be sent, by the module that carries them. Nothing optional is imported before its turn."""

import functools
import random
import warnings
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


EDGES = [0, 1, -1, 127, 128, -128, -129, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**4000]
FLOATS = [0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan"), -float("nan"), 5e-324, 1.7976931348623157e308]


def builtin() -> list[Any]:
    return [*_scalars(), *_containers(), *_names(), *_calendar()]


def _scalars() -> list[Any]:
    return [
        None,
        True,
        False,
        *EDGES,
        *(-edge for edge in EDGES),
        *FLOATS,
        *(complex(real, imaginary) for real in FLOATS for imaginary in FLOATS),
        "",
        "text",
        "\N{SNOWMAN}\N{GRINNING FACE}\0",
        "\ud800",
        ["fine", {"\udfff": "\ud800"}],
        "x" * 10_000,
        b"",
        b"bytes",
        b"x" * 4095,
        b"x" * 4096,
        bytearray(),
        bytearray(b"bytes"),
        bytearray(b"x" * 5000),
        *map(Decimal, ("0", "-0", "1.10", "1E+5", "-1.23E-400", "Infinity", "-Infinity", "NaN", "-NaN12", "0E-20")),
        [Decimal("1." + "3" * 500)],
        Fraction(-7, 3),
        Fraction(2**500, 3**300),
        UUID(int=5),
        uuid1(),
        range(10),
        range(5, -5, -3),
        range(2**100),
    ]


def _containers() -> list[Any]:
    nested: Any = None
    for level in range(30):
        nested = [nested, (level,), {"level": level}]
    return [
        [b"x" * 5000, bytearray(b"y" * 5000), b"z" * 6000],
        [],
        (),
        {},
        set(),
        frozenset(),
        [[], [[]], ((),), {}],
        (1, "two", 3.0, None, b"five", (6,)),
        {"type": "tuple", "data": [1, 2]},
        {1: "a", "1": "b", 1.5: "c", None: "d", b"1": "e", (1, (2,)): "f", 2**70: "g", frozenset({1}): "h"},
        {True: 1, 2: 2},
        {"b": 1, "a": 2, "c": {"z": 1, "y": 2}},
        {1, 2.5, "three", None, b"four", (5,), frozenset({6}), 2**80},
        frozenset(range(100)),
        nested,
        _deep(130),
        OrderedDict([("b", 1), ("a", 2)]),
        OrderedDict([((1, 2), [3])]),
        Counter("abracadabra"),
        deque([1, "a", None]),
        deque([1, 2], maxlen=5),
        defaultdict(list, {1: [2]}),
        defaultdict(None, {"a": 1}),
        *(array(code, [0, 1, 100]) for code in "bBhHiIlLqQfd"),
        array("d", [1.5, -0.0, float("nan")] * 1000),
        array("q"),
    ]


def _names() -> list[Any]:
    return [
        PurePosixPath(),
        PurePosixPath("/usr/../lib/\udc80"),
        PureWindowsPath("C:\\a/b", "c"),
        Path("a") / "b",
        {PurePosixPath("a"): 1, "a": 2},
        ip_address("127.0.0.1"),
        ip_address("fe80::1%eth0"),
        ip_network("10.0.0.0/8"),
        ip_network("2001:db8::/32"),
        ip_interface("10.1.2.3/8"),
        ip_interface("::1/64"),
    ]


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value, (level, b"x")] if level % 2 else {"level": value}
    return value


def _calendar() -> list[Any]:
    return [
        datetime(2024, 2, 29, 23, 59, 59, 999_999),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=AMSTERDAM),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=5), "name")),
        date(9999, 12, 31),
        time(1, 2, 3, 4),
        time(23, 59, fold=1, tzinfo=timezone(timedelta(hours=1))),
        timedelta(days=-1, seconds=5, microseconds=7),
        timedelta.max,
        UTC,
        timezone(timedelta(hours=2)),
        AMSTERDAM,
    ]


def columns() -> list[Any]:
    source = random.Random(1)
    wide = [source.getrandbits(2048) | 1 << 2047 for _ in range(100)]
    mixed = [source.getrandbits(source.randrange(1, 3000)) * source.choice((1, -1)) for _ in range(100)]
    floats = [source.uniform(-1e9, 1e9) for _ in range(100)]
    return [
        wide,
        [-number for number in wide],
        [wide[0], -wide[1]] * 50,
        mixed,
        [0] * 100,
        [0, 2**64] * 50,
        list(range(-64, 64)),
        list(range(-5, 300)),
        list(range(-5, 70_000)),
        list(range(2**40, 2**40 + 1000)),
        [2**63 - 1, -(2**63)] * 40,
        [2**64 - 1] * 40,
        [*floats, float("nan"), -0.0, float("inf")],
        floats * 100,
        tuple(floats),
        set(mixed),
        {number: number for number in mixed},
        {"column": floats, "other": [mixed, wide]},
        *_lists(),
        *_columns_of_others(),
    ]


def _lists() -> list[Any]:
    return [
        [True, False] * 40,
        [1, True] * 40,
        [1, 2.0] * 40,
        [1.0, 2] * 40,
        ["text"] * 40,
        ["text", "\ud800"] * 40,
        [b"short"] * 40,
        [b"long" * 2000] * 40,
        [None] * 40,
        [(1, 2.0)] * 40,
        [[1, 2.0]] * 40,
        [[1, 2.0], (1, 2.0)] * 40,
        [(index, str(index), [index, None]) for index in range(50)],
        [[float(row * column) for column in range(8)] for row in range(50)],
        [[[1, 2], [3, 4]]] * 40,
        [()] * 40,
        [(1,)] * 40,
        [list(range(40))] * 40,
        [tuple(range(100))] * 40,
        [{"a": 1}] * 40,
        [[set(), {1: [2**70] * 40}]] * 40,
        [{"a": index, "b": (index, str(index))} for index in range(50)],
        [{"a": index, "b": {"c": [index]}} if index % 2 else {"a": index} for index in range(50)],
        [tuple(range(index % 4)) for index in range(50)],
        [tuple(map(str, range(index % 4))) for index in range(50)],
        [[index] * (index % 3) for index in range(50)],
        {str(index): (index, 1.5) for index in range(50)},
        *_groups(),
    ]


def _groups() -> list[Any]:
    return [
        [(index, str(index)) if index % 2 else (index, str(index), 0.5) for index in range(100)],
        [(index, (index,)) if index % 3 else (index,) for index in range(100)],
        [[(index,)] * (index % 3) for index in range(100)],
        [{"a": (index,)} if index % 2 else {"b": [], "a": (1.5,)} for index in range(100)],
        [{"a": (index,)} if index % 2 else {1: (), "a": index} for index in range(100)],
        [(None, (index,), {"a": index}, 2**70, b"x", [index])[index % 6] for index in range(300)],
        [[(0,), 1][index > 1] for index in range(64)],
        {str(index): (index,) if index % 2 else b"x" * 5000 for index in range(64)},
        {(index,) if index % 2 else str(index): [(index,), {1}][index % 3 > 1] for index in range(70)},
        {(index,) if index % 2 else index for index in range(5000)},
        tuple(((index,), (1, index), None)[index % 3] for index in range(9000)),
    ]


def _columns_of_others() -> list[Any]:
    moment = datetime(2024, 2, 28, 23, 59, 58, 999_999)
    return [
        [moment + timedelta(hours=index, microseconds=index) for index in range(50)],
        [moment.replace(tzinfo=UTC)] * 40,
        [moment.replace(tzinfo=AMSTERDAM, fold=index % 2) for index in range(50)],
        [moment.replace(tzinfo=timezone(timedelta(hours=index % 3))) for index in range(50)],
        [date(2024, 1, 1) + timedelta(days=index) for index in range(50)],
        [timedelta(index, index, -index) for index in range(-25, 25)],
        [Decimal(index).scaleb(-index) for index in range(50)],
        [*map(Decimal, ("NaN", "-sNaN5", "-0E+5", "Infinity"))] * 10,
        [complex(index, -0.0) for index in range(50)],
    ]


def numpy() -> list[Any]:
    import numpy as np

    values: list[Any] = []
    for char in "?bBhHiIlLqQefdgFDG":
        plain = np.arange(24).astype(char)
        matrix = plain.reshape(4, 6)
        values += [plain, matrix, np.asfortranarray(matrix), plain[::3], matrix[:, 1:3], plain[3:3], plain[5]]
        values += [plain.astype(plain.dtype.newbyteorder(order)) for order in ("little", "big")]
        values += [np.zeros((2, 0, 3), char), np.array(1).astype(char), np.arange(6000).astype(char), list(plain) * 3]
    return [*values, *_unusual_arrays(), *_structures(), *_numpy_scalars()]


def _unusual_arrays() -> list[Any]:
    import numpy as np

    read_only = np.arange(5)
    read_only.flags.writeable = False
    return [
        np.array([-0.0, np.nan, np.inf, -np.inf]),
        np.array(["a", "bcd", "\N{GRINNING FACE}"]),
        np.array(["a", "b"], ">U5"),
        np.array([b"a", b"b\0c"]),
        np.array(["2020-01-01", "NaT"], "M8[s]"),
        np.array([1, 2], ">M8[25us]"),
        np.array([1, 2], "m8"),
        np.array(["NaT"], "M8"),
        np.array([1, "a", None, [1, 2], 2**70, (3, {"x": 4})], object),
        np.array([[2**100, None], [1.5, "x"]], object, order="F"),
        np.array([[None]], object)[:0],
        np.zeros(3, "V5"),
        np.zeros(3, "S0"),
        np.zeros(10**7, "S0"),
        np.zeros(2, np.dtype({"names": ["a"], "formats": ["i1"], "offsets": [0], "itemsize": 10**6})),
        np.array(["a", "longer than what fits inside"], np.dtypes.StringDType()),
        np.array(["a", None], np.dtypes.StringDType(na_object=None)),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.broadcast_to(np.arange(3), (4, 3)),
        np.arange(10)[::-1],
        read_only,
    ]


def _structures() -> list[Any]:
    import numpy as np

    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    inner = np.dtype([("x", "O"), ("y", "<i2")])
    return [
        np.zeros(5, [("a", ">i4"), ("b", "f8", (2,)), ("c", "S3")]),
        np.ones((2, 3), padded),
        np.array([(1, "x"), ([2], None)], [("a", "O"), ("b", "O")]),
        np.zeros((3, 2), np.dtype([("a", inner, (2,))])),
        np.zeros(3, np.dtype([(("title", "name"), "i4")])),
        np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [8, 0], "itemsize": 20})),
        np.zeros(2, np.dtype([])),
        padded,
    ]


def _numpy_scalars() -> list[Any]:
    import numpy as np

    return [
        np.void(b"abc"),
        np.array((1, 2.0), [("a", "i4"), ("b", "f8")])[()],
        np.datetime64("2020-01-01T00:00:00.123456789"),
        np.datetime64("NaT"),
        np.timedelta64(5, "D"),
        np.str_("text"),
        np.bytes_(b"bytes"),
        np.longdouble(1) / 3,
        np.dtype("f4"),
        {"nested": [np.float64(1.5), (np.arange(3),)]},
        [np.datetime64("2020"), np.datetime64("2020-01-01")] * 40,
    ]


def gmpy() -> list[Any]:
    import gmpy2
    from gmpy2 import mpc, mpfr, mpq, mpz, xmpz

    source = random.Random(1)
    wide = [mpz(source.getrandbits(2048) | 1 << 2047) for _ in range(50)]
    mixed = [mpz(source.getrandbits(source.randrange(1, 3000)) * source.choice((1, -1))) for _ in range(50)]
    with gmpy2.context(precision=300):
        third, root = mpfr(1) / 3, mpc(-1, mpfr("0.1"))
    special = [mpfr(text) for text in ("nan", "inf", "-inf", "0", "-0", "1e-300000000", "-1.5e300000000")]
    return [
        *(mpz(number) for number in (0, 1, -1, 127, 128, -128, -129, 2**64, -(2**5000))),
        *(xmpz(number) for number in (0, 1, -1, 2**70)),
        *(mpq(*pair) for pair in ((0, 1), (1, 3), (-7, 2), (2**500, 3**500))),
        third,
        -third,
        mpfr("1.5", 2),
        mpfr(7, 1000),
        root,
        mpc(1, 2, (50, 60)),
        *special,
        *(mpc(real, imaginary) for real in special[:5] for imaginary in special[:5]),
        wide,
        [-number for number in wide],
        mixed,
        tuple(mixed),
        [mpz(0)] * 40,
        [mpz(1), 1] * 40,
        [(number, number) for number in wide],
        {number: number for number in mixed},
        set(mixed),
        [third + number for number in range(40)],
        [third + number for number in range(39)] + [special[0]],
        [-special[0], mpc(-special[0], special[0])],
        [mpz(0)],
        [third, mpq(1, 2)],
    ]


def bitarray() -> list[Any]:
    from bitarray import bitarray, frozenbitarray

    values: list[Any] = []
    for endian in ("little", "big"):
        for text in ("", "1", "0110101", "01101010", "1" * 50_001):
            values += [bitarray(text, endian=endian), frozenbitarray(text, endian=endian)]
    return [*values, {frozenbitarray("01"): bitarray("10")}]


def pandas() -> list[Any]:
    from tests.codec.pandas_samples import samples

    return samples()


def tables() -> list[Any]:
    import pyarrow as pa

    arrays: list[Any] = [
        pa.array([1, None, 3]),
        pa.array(["text", None, ""])[1:],
        pa.array([[1], None, []], pa.large_list(pa.int8())),
        pa.nulls(3),
        pa.array([{"a": 1}, None], pa.struct([("a", pa.int16())])),
        pa.array([1, None], pa.timestamp("us", "Europe/Amsterdam")),
        pa.array([b"x" * 16], pa.binary(16)).cast(pa.uuid()),
    ]
    fields = [
        pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"}),
        pa.field("a", pa.string()),
        pa.field("", pa.list_(pa.float64())),
    ]
    columns = [pa.array([1, 2]), pa.array(["x", None]), pa.array([[0.5, None], None])]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields, {"key": "value"}))
    long = pa.table({"a": list(range(2000)), "b": [str(number) for number in range(2000)]})
    return [
        *arrays,
        *map(pa.chunked_array, ([[1], [2, 3]], [["x"]])),
        pa.chunked_array([], pa.int8()),
        table,
        table[1:],
        table.to_batches()[0],
        pa.concat_tables([table, table]),
        pa.table({}),
        pa.record_batch({}),
        pa.table({"empty": pa.array([], pa.int8())}),
        long,
        long[1000:],
        {"tables": [table, (table.to_batches()[0],)]},
    ]


def torch() -> list[Any]:
    import torch

    names = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex64"
    names += " float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2"
    raw = torch.ones(4, 8, dtype=torch.uint8)
    tensors = [raw.view(getattr(torch, name)) for name in names.split() if hasattr(torch, name)]
    return [
        *tensors,
        torch.tensor(1.5),
        torch.tensor([float("nan"), -0.0]),
        torch.zeros(0, 3),
        torch.arange(12).reshape(3, 4).T,
        torch.arange(12)[::3],
        torch.ones(3).expand(4, 3),
        torch.ones(2, requires_grad=True),
        torch.ones(2, requires_grad=True) * 2,
        torch.arange(5000, dtype=torch.float64),
        torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64).conj(),
        {"weights": [torch.ones(2), (torch.zeros(1),)]},
    ]


def _without_warnings(make: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    """Values that a newer release of a library deprecates are still sent: only what we do with them must not warn."""

    @functools.wraps(make)
    def making() -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return making


SAMPLES: dict[str, Callable[[], list[Any]]] = {
    make.__name__: _without_warnings(make) for make in (builtin, columns, numpy, gmpy, bitarray, pandas, tables, torch)
}
LIBRARIES = {
    "numpy": ["numpy"],
    "gmpy": ["gmpy2"],
    "bitarray": ["bitarray"],
    "pandas": ["numpy", "pandas", "pyarrow", "gmpy2"],
    "tables": ["numpy", "pyarrow"],
    "torch": ["torch", "safetensors"],
    "tno": ["numpy", "gmpy2", "bitarray"],
}
EXTRAS = {"tables": "pandas"}
"""The extra that brings the libraries of a module, where it has another name."""
