"""Any value that can be sent arrives as it was sent; any bytes are a value or an error."""

import collections
import contextlib
import datetime as dt
import zoneinfo
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpccomm.codec import Serialization, decode, encode
from mpccomm.errors import DecodingError
from tests.codec.exactness import assert_same
from tests.needs import library

surrogates = st.text(st.characters(), max_size=20)
integers = st.one_of(st.integers(), st.integers(-(2**70), 2**70), st.integers(0, 300).map(lambda bits: 2**bits))
zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.sampled_from(["Europe/Amsterdam", "America/New_York", "Asia/Kathmandu"]).map(zoneinfo.ZoneInfo),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
)
folds = st.integers(0, 1)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(allow_nan=False),
    surrogates,
    st.binary(max_size=20),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.timedeltas(),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=zones), folds),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.times(timezones=st.just(None)), folds),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
)
unhashable = st.one_of(
    st.floats(),
    st.binary(max_size=20).map(bytearray),
    st.binary(min_size=4090, max_size=4100),
    st.just(Decimal("NaN")),
    st.complex_numbers(),
)
keys = st.recursive(
    hashable,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)),
    max_leaves=6,
)
BULKY = {
    "float": st.floats(),
    "int": st.integers(-(2**40), 2**40),
    "big": integers,
    "tuple": st.tuples(integers, st.floats()),
    "bytes": st.binary(max_size=3),
}


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.sets(keys, max_size=6),
        st.dictionaries(keys, inner, max_size=6),
        st.dictionaries(st.text(max_size=5), inner, max_size=6),
        st.dictionaries(keys, inner, max_size=4).map(collections.OrderedDict),
        st.dictionaries(keys, st.integers(), max_size=4).map(collections.Counter),
        st.lists(inner, max_size=6).map(lambda items: collections.deque(items, maxlen=len(items) or None)),
    )


values = st.recursive(hashable | unhashable, containers, max_leaves=20)


@settings(max_examples=300)
@given(values)
def test_builtin_values(value: Any) -> None:
    assert_same(value, decode(encode(value).segments))
    assert_same(value, Serialization.unpack(Serialization.pack(value)))


@given(st.data(), st.sampled_from(sorted(BULKY)), st.integers(30, 200))
def test_long_lists(data: st.DataObject, kind: str, length: int) -> None:
    few = data.draw(st.lists(BULKY[kind], min_size=1, max_size=10))
    value = (few * length)[:length] + data.draw(st.lists(hashable, max_size=1))
    assert_same(value, decode(encode(value).segments))
    assert_same([(value,)], decode([bytearray(part) for part in encode([(value,)]).segments]))


@given(values)
def test_what_is_encoded_twice_is_the_same(value: Any) -> None:
    first = encode(value)
    assert encode(value) == first
    assert encode(decode(first.segments)).segments[0] == first.segments[0] or _has_sets(value)


def _has_sets(value: Any) -> bool:
    # Their order depends on how they came to be.
    if isinstance(value, set | frozenset):
        return True
    if isinstance(value, dict):
        return any(map(_has_sets, [*value, *value.values()]))
    return isinstance(value, list | tuple | collections.deque) and any(map(_has_sets, value))


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes(segments: list[bytes]) -> None:
    with contextlib.suppress(DecodingError):
        decode(segments)


def test_numpy_arrays() -> None:
    pytest.importorskip("numpy")
    from hypothesis.extra import numpy as hnp

    dtypes = st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(), hnp.byte_string_dtypes(), hnp.array_dtypes())
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))

    @given(arrays, st.booleans(), st.integers(1, 3))
    def check(array: Any, fortran: bool, step: int) -> None:
        value = array[..., ::step] if array.ndim else array
        value = value.copy(order="F") if fortran else value
        assert_same(value, decode(encode(value).segments))
        assert_same([value[()]], decode(encode([value[()]]).segments))

    check()


def test_gmpy2_numbers() -> None:
    gmpy2 = pytest.importorskip("gmpy2")
    rationals = st.builds(lambda a, b: gmpy2.mpq(a, b), integers, integers.filter(bool))

    def real(precision: int, mantissa: int, exponent: int) -> Any:
        with gmpy2.context(precision=precision):
            return gmpy2.mul_2exp(gmpy2.mpfr(mantissa), exponent)

    reals = st.builds(real, st.integers(2, 500), integers, st.integers(0, 5000))
    numbers = st.one_of(integers.map(gmpy2.mpz), integers.map(gmpy2.xmpz), rationals, reals)

    @given(st.lists(numbers, max_size=5), st.lists(integers.map(gmpy2.mpz), min_size=1, max_size=5), st.integers(1, 80))
    def check(mixed: Any, plain: Any, length: int) -> None:
        value = [mixed, plain * length, tuple(plain)]
        assert_same(value, decode(encode(value).segments))

    check()


def test_bits() -> None:
    bitarray = pytest.importorskip("bitarray")

    @given(st.lists(st.booleans()), st.sampled_from(["little", "big"]), st.booleans())
    def check(bits: list[bool], endian: str, frozen: bool) -> None:
        value = (bitarray.frozenbitarray if frozen else bitarray.bitarray)(bits, endian=endian)
        assert_same([value], decode(encode([value]).segments))

    check()


def test_frames() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    from hypothesis.extra import pandas as hpd

    columns = [
        hpd.column("int", dtype=int),
        hpd.column("float", dtype=float),
        hpd.column("bool", dtype=bool),
        hpd.column("text", elements=st.text(st.characters(codec="utf-8"), max_size=5)),
        hpd.column("object", elements=integers, dtype=object),
        hpd.column("days", elements=st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)), dtype="M8[ns]"),
    ]
    frames = hpd.data_frames(columns, index=hpd.range_indexes(max_size=8))

    @settings(max_examples=50)
    @given(frames, st.data())
    def check(frame: Any, data: st.DataObject) -> None:
        frame = frame[data.draw(st.permutations(list(frame.columns)))]
        frame["category"] = frame["int"].astype("category")
        frame = frame.set_index(data.draw(st.sampled_from(["int", "float", "days", "text", "category"])))
        assert_same(frame, decode(encode(frame).segments))

    check()


def test_tensors() -> None:
    torch = library("torch", extra="torch")
    library("safetensors", extra="torch")

    names = ["bool", "uint8", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]

    @settings(max_examples=50)
    @given(st.sampled_from(names), st.lists(st.integers(0, 4), max_size=3), st.randoms(use_true_random=False))
    def check(name: str, shape: list[int], order: Any) -> None:
        tensor = (torch.arange(torch.Size(shape).numel()) % 7).reshape(shape).to(getattr(torch, name))
        axes = list(range(len(shape)))
        order.shuffle(axes)
        assert_same([tensor.permute(axes)], decode(encode([tensor.permute(axes)]).segments))

    check()
