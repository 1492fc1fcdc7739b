"""What is not part of a value does not leave: it is looked for in the bytes that do, type by type."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mpccomm.codec import encode
from tests.codec.exactness import assert_same
from tests.codec.raw import round_trip

SECRET = 0x5EC2E75EC2E7
"""As a number it has 6 bytes, which nothing else here has; and as text, twelve digits."""
TEXT = f"{SECRET:x}"
TRACES = [TEXT.encode(), SECRET.to_bytes(6, "little"), SECRET.to_bytes(6, "big"), TEXT.encode("utf-32-le")]
TRACES += [np.float64(SECRET).tobytes(), np.float64(SECRET).tobytes()[::-1]]


def leaves(value: Any) -> bool:
    """Whether the secret is among the bytes that leave."""
    data = b"".join(map(bytes, encode(value).segments))
    return any(trace in data for trace in TRACES)


Make = Callable[[list[Any]], Any]


def columns() -> Iterator[tuple[str, Make, Any, Any]]:
    """Kinds of columns: how one is made of values, the secret as one of them, and another value."""

    def of(dtype: Any) -> Make:
        return lambda values: pd.Series(values, dtype=dtype)

    def arrow(kind: Any) -> tuple[str, Make]:
        return str(kind), of(pd.ArrowDtype(kind))

    for dtype in ("int64", "uint64", "float64", "complex128", ">i8", "Int64", "UInt64", "Float64"):
        yield dtype, of(dtype), SECRET, 7
    for dtype in ("str", "object", "string[python]", "string[pyarrow]"):
        yield dtype, of(dtype), TEXT, "x"
    for kind in (pa.int64(), pa.uint64(), pa.float64()):
        yield *arrow(kind), SECRET, 7
    for kind in (pa.string(), pa.large_string()):
        yield *arrow(kind), TEXT, "x"
    for kind in (pa.binary(), pa.large_binary(), pa.binary(len(TEXT))):
        yield *arrow(kind), TEXT.encode(), b"x" * len(TEXT)
    yield *arrow(pa.timestamp("ns", "UTC")), pd.Timestamp(SECRET, tz="UTC"), pd.Timestamp(0, tz="UTC")
    yield *arrow(pa.duration("ns")), pd.Timedelta(SECRET), pd.Timedelta(0)
    yield *arrow(pa.decimal128(30)), Decimal(SECRET), Decimal(0)
    yield *arrow(pa.list_(pa.int64())), [SECRET, 1], [1]
    yield *arrow(pa.large_list(pa.string())), [TEXT, "x"], []
    yield *arrow(pa.list_(pa.int64(), 2)), [SECRET, 1], [1, 2]
    yield *arrow(pa.list_(pa.list_(pa.string(), 1), 2)), [[TEXT], None], None
    yield *arrow(pa.struct([("a", pa.int64()), ("b", pa.string())])), {"a": SECRET, "b": TEXT}, {"a": 1, "b": ""}
    yield *arrow(pa.struct([("a", pa.list_(pa.struct([("b", pa.string())])))])), {"a": [{"b": TEXT}]}, {"a": None}
    yield "datetime", of("M8[ns]"), pd.Timestamp(SECRET), pd.Timestamp(0)
    yield "zone", of("datetime64[ns, UTC]"), pd.Timestamp(SECRET, tz="UTC"), pd.Timestamp(0, tz="UTC")
    yield "timedelta", of("m8[ns]"), pd.Timedelta(SECRET), pd.Timedelta(0)
    yield "period", of("period[ns]"), pd.Period(ordinal=SECRET, freq="ns"), pd.Period(ordinal=0, freq="ns")
    yield "interval", lambda values: pd.Series(pd.arrays.IntervalArray.from_arrays(values, values)), SECRET, 1
    yield "sparse", lambda values: pd.Series(pd.arrays.SparseArray(values)), SECRET, 0


COLUMNS = list(columns())
by_name = pytest.mark.parametrize(("name", "make", "secret", "other"), COLUMNS, ids=[name for name, *_ in COLUMNS])


@by_name
def test_it_is_found_where_it_is(name: str, make: Make, secret: Any, other: Any) -> None:
    assert leaves(make([other, secret, other]))
    assert leaves(make([other, secret, other]).to_frame())


@by_name
def test_rows_that_are_not_selected_do_not_leave(name: str, make: Make, secret: Any, other: Any) -> None:
    column = make([other, *[secret] * 8, other, *[secret] * 20])
    frame = column.to_frame("a").assign(b=1)
    indexed = [] if name.startswith(("list", "large_list", "fixed", "struct")) else [frame.set_index("a").iloc[:1]]
    for selected in (column.head(1), column.iloc[9:10], column.iloc[:0], frame.head(1), frame.iloc[9:10], *indexed):
        assert not leaves(selected)
        assert_same(selected, round_trip(selected))


@by_name
def test_columns_that_are_not_selected_do_not_leave(name: str, make: Make, secret: Any, other: Any) -> None:
    column = make([secret] * 20)
    frame = pd.DataFrame({"a": column, "b": column, "c": 1})
    for selected in (frame[["c"]], frame.drop(columns=["a", "b"]), frame.iloc[:, 2:]):
        assert not leaves(selected)


@by_name
def test_values_that_are_made_missing_do_not_leave(name: str, make: Make, secret: Any, other: Any) -> None:
    if name in ("int64", "uint64", ">i8", "interval", "sparse"):
        pytest.skip("has no missing values of its own, or cannot be changed")
    gone = make([secret] * 20)
    gone.iloc[:] = None
    assert not leaves(gone)
    assert not leaves(gone.iloc[3:15])
    assert not leaves(gone.to_frame())
    assert_same(gone, round_trip(gone))
    array = under_a_mask(make([secret] * 20).array)
    if array is not None:
        for value in (array, array[2:9], pd.Series(array)):
            assert not leaves(value)
            assert_same(value, round_trip(value))


def under_a_mask(array: Any) -> Any:
    """*array*, all missing, with what it held still in its memory; None for what can't be like that."""
    if hasattr(array, "_mask"):
        return type(array)(array._data, np.ones(len(array), bool))
    if not hasattr(array, "_pa_array"):
        return None
    whole = array._pa_array.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    bitmap = pa.py_buffer(bytes((len(whole) + 7) >> 3))
    own = [bitmap, *whole.buffers()[1:]]
    if whole.type.num_fields:
        children = (
            [whole.field(i) for i in range(whole.type.num_fields)] if pa.types.is_struct(whole.type) else [whole.values]
        )
        own = [bitmap] if pa.types.is_struct(whole.type) or pa.types.is_fixed_size_list(whole.type) else own[:2]
        hidden = pa.Array.from_buffers(whole.type, len(whole), own, -1, 0, children)
    else:
        hidden = pa.Array.from_buffers(whole.type, len(whole), own)
    if isinstance(array.dtype, pd.StringDtype) and pd.__version__ >= "3":
        return type(array)(hidden, dtype=array.dtype)
    return type(array)(hidden)


def test_labels_that_no_row_has_any_more_do_not_leave() -> None:
    index = pd.MultiIndex.from_product([["a", TEXT], [1, SECRET]])
    for selected in (index[:1], index[index.get_level_values(0) == "a"][:1]):
        assert not leaves(selected)
        assert_same(selected, round_trip(selected))
    frame = pd.DataFrame({"x": range(4)}, index).iloc[:1]
    assert not leaves(frame)
    assert not leaves(frame.T)


def test_categories_are_part_of_the_type_until_they_are_removed() -> None:
    column = pd.Series(["a", TEXT], dtype="category").head(1)
    assert leaves(column)
    assert not leaves(column.cat.remove_unused_categories())


def test_no_bits_beyond_the_last_value_leave() -> None:
    bits = np.unpackbits(np.frombuffer(b"\xff" * 40, np.uint8)).view(bool)
    whole = pd.Series(bits, dtype="bool[pyarrow]")
    first = bytes(encode(whole.head(1)).segments[0])
    assert first.count(b"\xff") == 0
    masked = pd.Series([True] * 200, dtype="boolean")
    masked.iloc[:] = None
    assert not round_trip(masked).array._data.any()


def test_memory_is_copied_only_where_a_mask_has_a_hole() -> None:
    values, mask = np.arange(5000), np.zeros(5000, bool)
    array = pd.arrays.IntegerArray(values, mask)
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), values) for part in encode(array).segments[1:])
    mask[7] = True
    parts = encode(array).segments[1:]
    assert not any(np.shares_memory(np.frombuffer(part, np.uint8), values) for part in parts)
    assert values[7] == 7
