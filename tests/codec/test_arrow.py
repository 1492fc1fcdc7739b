"""Arrow arrays from buffers that were filled elsewhere."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mpccomm.codec import encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, round_trip

INT8 = ["item", True, "int8"]


def arrow(kind: Any, *tree: Any) -> Any:
    return call(Tag.EXTENSION_ARRAY, "arrow", True, kind, list(tree))


def text(kind: Any, *tree: Any) -> Any:
    return call(Tag.EXTENSION_ARRAY, "text", True, kind, list(tree))


def offsets(*values: int, width: int = 4) -> bytes:
    return b"".join(value.to_bytes(width, "little", signed=True) for value in values)


@pytest.mark.parametrize(
    "node",
    [
        arrow("int64", 3, [None, bytes(16)], []),
        arrow("int64", 3, [None, bytes(32)], []),
        arrow("int64", 3, [None, None], []),
        arrow("int64", 3, [], []),
        arrow("int64", 3, [None], []),
        arrow("int64", 2**60, [None, bytes(16)], []),
        arrow("int64", -1, [None, bytes(16)], []),
        arrow("int64", True, [None, bytes(8)], []),
        arrow("int64", 2, [None, bytes(16), bytes(16)], []),
        arrow("int64", 100, [b"\xff", bytes(800)], []),
        arrow("int64", 2, [None, bytes(16)], [[0, [None, b""], []]]),
        arrow("bool_", 9, [None, b"x"], []),
        arrow("bool_", 8, [None, b"xy"], []),
        arrow("string", 2, [None, bytes(4), b"text"], []),
        arrow("string", 0, [None, b"", b""], []),
        arrow("string", 1, [None, offsets(0, 2**31 - 1), b"text"], []),
        arrow("string", 1, [None, offsets(4, 0), b"text"], []),
        arrow("string", 1, [None, offsets(4, 4), b"text"], []),
        arrow("string", 2, [None, offsets(0, 5, 4), b"text"], []),
        arrow("string", 2, [None, offsets(0, -1, 4), b"text"], []),
        arrow("string", 1, [None, offsets(0, 3), b"text"], []),
        arrow("string", 1, [None, offsets(0, 1), b"\xff"], []),
        arrow("large_string", 1, [None, offsets(0, 4), b"text"], []),
        arrow(["list", INT8], 1, [None, offsets(0, 9)], [[1, [None, b"x"], []]]),
        arrow(["list", INT8], 1, [None, offsets(0, 1)], [[2, [None, b"xx"], []]]),
        arrow(["list", INT8], 1, [None, offsets(0, 1)], []),
        arrow(["list", INT8], 1, [None, offsets(0, 1), b""], [[1, [None, b"x"], []]]),
        arrow(["list", INT8, INT8], 1, [None, offsets(0, 1)], [[1, [None, b"x"], []]]),
        arrow(["list"], 1, [None, offsets(0, 1)], [[1, [None, b"x"], []]]),
        arrow(["struct", INT8], 5, [None], [[1, [None, b"x"], []]]),
        arrow(["struct", INT8], 1, [None], [[1, [None, b"x"], []]] * 2),
        arrow(["fixed_size_list", 3, INT8], 2, [None], [[5, [None, b"xxxxx"], []]]),
        arrow(["fixed_size_list", -1, INT8], 0, [None], [[0, [None, b""], []]]),
        arrow("null", 2**40, [None], []),
        arrow("null", 8, [b"\0"], []),
        arrow("dictionary", 1, [None, b"x"], []),
        arrow("from_buffers", 1, [None, b"x"], []),
        arrow(["decimal128", 5, 2], 1, [None, b"\xff" * 15 + b"\x7f"], []),
        arrow(["decimal128", 99, 2], 0, [None, b""], []),
        arrow(["timestamp", "ns", "../../etc/passwd"], 0, [None, b""], []),
        arrow(["timestamp", "D", None], 0, [None, b""], []),
        arrow(["fixed_size_binary", 2**31], 0, [None, b""], []),
        arrow(["extension", "arrow.uuid", "string"], 0, [None, offsets(0), b""], []),
        arrow(["extension", "arrow.fixed_shape_tensor", ["list", INT8]], 0, [None, offsets(0)], []),
        arrow(["extension", "arrow.json", "int8"], 0, [None, b""], []),
        arrow([], 0, [None, b""], []),
        arrow([[]], 0, [None, b""], []),
        arrow(b"", 0, [None, b""], []),
        arrow("date64", 1, [None, b"\1" + bytes(7)], []),
        text("int64", 1, [None, bytes(8)], []),
        text("null", 1, [None], []),
        text(["fixed_size_binary", 0], 1, [None, b""], []),
        text("binary", 1, [None, bytes(8), b""], []),
    ],
    ids=lambda node: repr(node[4:])[:100],
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = ["list", ["item", True, inner]]
    return inner


def test_types_within_types_have_a_limit() -> None:
    deep: Any = pa.int8()
    for _ in range(20):
        deep = pa.list_(deep)
    with pytest.raises(EncodingError, match="cast"):
        encode(pd.Series(pd.arrays.ArrowExtensionArray(pa.array([None], deep))))
    with pytest.raises(DecodingError):
        decode_node(arrow(nested(20, "int8"), 0, [None, offsets(0)], []))


def series(kind: Any, values: list[Any]) -> "pd.Series[Any]":
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


def test_a_slice_does_not_carry_the_rest_along() -> None:
    whole = series(pa.string(), ["secret-" * 100 + str(number) for number in range(1000)])
    sent = b"".join(map(bytes, encode(whole.iloc[10:11]).segments))
    assert len(sent) < 2000
    assert b"999" not in sent
    assert_same(whole.iloc[10:11], round_trip(whole.iloc[10:11]))
    lists = series(pa.list_(pa.int64()), [list(range(100))] * 1000)
    assert sum(map(len, encode(lists.iloc[5:6]).segments)) < 2000
    assert_same(lists.iloc[5:6], round_trip(lists.iloc[5:6]))


def test_chunks_become_one() -> None:
    chunked = pd.concat([series(pa.int64(), [1, None]), series(pa.int64(), [3])], ignore_index=True)
    received = round_trip(chunked)
    assert received.tolist() == chunked.tolist()


@pytest.mark.parametrize(
    "kind",
    [
        pa.dictionary(pa.int8(), pa.string()),
        pa.map_(pa.string(), pa.int8()),
        pa.string_view(),
        pa.list_(pa.string_view()),
        pa.list_view(pa.int8()),
        pa.run_end_encoded(pa.int32(), pa.int8()),
        pa.opaque(pa.int8(), "type", "vendor"),
        pa.struct([("a", pa.opaque(pa.int8(), "type", "vendor"))]),
        pa.timestamp("ns", "nowhere/at all"),
    ],
    ids=str,
)
def test_types_without_a_form_of_their_own_are_refused(kind: Any) -> None:
    with pytest.raises(EncodingError, match="Arrow"):
        encode(pd.Series(pd.arrays.ArrowExtensionArray(pa.nulls(2, kind))))


def test_large_buffers_are_not_copied() -> None:
    numbers = series(pa.int64(), list(range(5000)))
    data = encode(numbers).segments[-1]
    buffer = pa.array(numbers.array).buffers()[1]
    assert np.frombuffer(data, np.uint8).ctypes.data == buffer.address


@pytest.mark.parametrize(
    "array",
    [
        pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets(0, 1)), pa.py_buffer(b"\xff")]),
        pa.Array.from_buffers(pa.date64(), 1, [None, pa.py_buffer(offsets(1, width=8))]),
        pa.Array.from_buffers(pa.time32("s"), 1, [None, pa.py_buffer(offsets(-1))]),
    ],
    ids=lambda array: str(array.type),
)
def test_values_that_the_receiver_would_refuse_are_refused_by_the_sender(array: Any) -> None:
    with pytest.raises(EncodingError, match="values that are none"):
        encode(pd.Series(pd.arrays.ArrowExtensionArray(array)))


KINDS: list[tuple[Any, list[Any]]] = [
    *((getattr(pa, f"{sign}int{bits}")(), [1, None, 3, 4] * 5) for sign in ("", "u") for bits in (8, 16, 32, 64)),
    (pa.null(), [None] * 20),
    (pa.bool_(), [True, None, False, True, True] * 4),
    *((kind, [1.5, None, float("nan"), -0.0] * 5) for kind in (pa.float32(), pa.float64())),
    (pa.float16(), [np.float16(1.5), None] * 10),
    *((pa.timestamp(unit, zone), [1, None, 3] * 7) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
    (pa.timestamp("us", "+05:30"), [1, None, 3] * 7),
    (pa.timestamp("us", "Europe/Amsterdam"), [1, None, 3] * 7),
    *((pa.duration(unit), [1, None, 3] * 7) for unit in ("s", "ms", "us", "ns")),
    *((kind, [1, None, 3] * 7) for kind in (pa.date32(), pa.time32("s"), pa.time32("ms"), pa.time64("us"))),
    (pa.time64("ns"), [1000, None, 3000] * 7),
    (pa.date64(), [None, 86_400_000] * 10),
    (pa.month_day_nano_interval(), [(1, 2, 3), None] * 10),
    (pa.decimal128(10, 2), [Decimal("1.50"), None] * 10),
    (pa.decimal256(50, 2), [Decimal("1.50"), None] * 10),
    *((kind, ["secret", None, "", "t\N{SNOWMAN}xt"] * 5) for kind in (pa.string(), pa.large_string())),
    *((kind, [b"secret", None, b"", b"\xff"] * 5) for kind in (pa.binary(), pa.large_binary())),
    (pa.binary(3), [b"abc", None] * 10),
    (pa.binary(0), [b"", None] * 10),
    (pa.list_(pa.int64()), [[1, None], None, [], [3]] * 5),
    (pa.large_list(pa.string()), [["a", None], None, [], ["bc"]] * 5),
    (pa.list_(pa.int16(), 2), [[1, None], None, [3, 4]] * 7),
    (pa.list_(pa.string(), 0), [[], None] * 10),
    (pa.list_(pa.list_(pa.string(), 2), 2), [[["a", "b"], None], None, [["c", None], ["d", "e"]]] * 7),
    (pa.list_(pa.list_(pa.bool_())), [[[True], None], None, [[False, None]]] * 7),
    (pa.struct([]), [{}, None] * 10),
    (
        pa.struct([("a", pa.int8()), pa.field("b", pa.list_(pa.string()), metadata={"key": "value"})]),
        [{"a": 1, "b": ["x", None]}, None, {"a": None, "b": None}, {"a": 2, "b": []}] * 5,
    ),
    (pa.struct([pa.field("a", pa.bool_(), nullable=False)]), [{"a": True}, {"a": False}] * 10),
    (pa.list_(pa.field("element", pa.int8(), metadata={"PARQUET:field_id": "1"})), [[1], None] * 10),
]


def arrays(kind: Any, values: list[Any]) -> Iterator[Any]:
    whole = pa.array(values, kind)
    yield from (whole, whole[3:], whole[:9], whole[5:14], whole[8:17], whole[4:4], whole[:1], whole[1:2])
    yield pa.chunked_array([whole[1:4], whole[:0], whole[3:]])
    yield pa.chunked_array([], kind)
    if kind.num_fields:
        yield pa.concat_arrays([whole[2:], whole])[9:]


@pytest.mark.parametrize(
    ("kind", "values"), KINDS, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_every_type_arrives_in_any_slice(kind: Any, values: list[Any]) -> None:
    for sent in arrays(kind, values):
        received = round_trip(pd.arrays.ArrowExtensionArray(sent)).__arrow_array__().combine_chunks()
        assert received.type.equals(sent.type, check_metadata=True)
        assert repr(received.to_pylist()) == repr(sent.to_pylist())
        received.validate(full=True)


@pytest.mark.parametrize(
    ("kind", "values"), KINDS, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_what_was_sent_does_not_depend_on_what_is_around_or_under_it(kind: Any, values: list[Any]) -> None:
    for sent in arrays(kind, values):
        alone = pa.array(sent.to_pylist(), kind) if kind != pa.float16() else None
        segments = encode(pd.arrays.ArrowExtensionArray(sent)).segments
        if alone is not None:
            assert list(map(bytes, segments)) == list(map(bytes, encode(pd.arrays.ArrowExtensionArray(alone)).segments))


@pytest.mark.parametrize("kind", [pa.uuid(), pa.bool8(), *([pa.json_()] if hasattr(pa, "json_") else [])], ids=str)
def test_extension_types_that_are_a_name_for_their_storage(kind: Any) -> None:
    values = {"arrow.uuid": [b"x" * 16, None], "arrow.bool8": [1, None], "arrow.json": ["{}", None]}
    storage = pa.array(values[kind.extension_name], kind.storage_type)
    sent = pa.ExtensionArray.from_storage(kind, storage)
    outer = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), sent)
    for array in (sent, sent[1:], outer, outer[1:]):
        received = round_trip(pd.arrays.ArrowExtensionArray(array)).__arrow_array__().combine_chunks()
        assert received.type == array.type
        assert received.to_pylist() == array.to_pylist()
