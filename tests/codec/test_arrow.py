"""Arrow arrays from buffers that somebody else filled."""

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from mpccomm.codec import decode, encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, round_trip


def arrow(kind: Any, *tree: Any) -> Any:
    schema = pa.schema([pa.field("", kind)]).serialize().to_pybytes()
    return call(Tag.EXTENSION_ARRAY, "arrow", None, None, schema, list(tree))


@pytest.mark.parametrize(
    "node",
    [
        arrow(pa.int64(), 3, [None, bytes(16)], []),
        arrow(pa.int64(), 3, [None, None], []),
        arrow(pa.int64(), 2**60, [None, bytes(16)], []),
        arrow(pa.int64(), -1, [None, bytes(16)], []),
        arrow(pa.int64(), 2, [None], []),
        arrow(pa.int64(), 2, [None, bytes(16), bytes(16)], []),
        arrow(pa.int64(), 100, [b"\xff", bytes(800)], []),
        arrow(pa.int64(), 2, [None, bytes(16)], [[0, [None, b""], []]]),
        arrow(pa.string(), 2, [None, bytes(4), b"text"], []),
        arrow(pa.string(), 1, [None, b"\0\0\0\0\xff\xff\xff\x7f", b"text"], []),
        arrow(pa.string(), 1, [None, b"\x04\0\0\0\0\0\0\0", b"text"], []),
        arrow(pa.string(), 1, [None, b"\0\0\0\0\x01\0\0\0", b"\xff"], []),
        arrow(pa.list_(pa.int8()), 1, [None, b"\0\0\0\0\x09\0\0\0"], [[1, [None, b"x"], []]]),
        arrow(pa.struct([("a", pa.int8())]), 5, [None], [[1, [None, b"x"], []]]),
        arrow(pa.null(), 2**40, [None], []),
        arrow(pa.dictionary(pa.int8(), pa.string()), 1, [None, b"x"], []),
        arrow(pa.decimal128(5, 2), 1, [None, b"\xff" * 15 + b"\x7f"], []),
        call(Tag.EXTENSION_ARRAY, "arrow", None, None, b"", [0, [None, b""], []]),
        call(Tag.EXTENSION_ARRAY, "arrow", None, None, b"\xff\xff\xff\xff\xff\xff\xff\x7f", [0, [None, b""], []]),
        call(Tag.EXTENSION_ARRAY, "arrow", None, None, pa.schema([]).serialize().to_pybytes(), [0, [], []]),
    ],
    ids=lambda node: repr(node[5:])[:100],
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_a_missing_buffer_of_an_empty_array_is_an_empty_buffer() -> None:
    # Arrow's validation lets it pass, and the process ends when the array is used.
    received = decode_node(arrow(pa.struct([("a", pa.int8())]), 0, [b"\x05"], [[0, [b"\x01\x00", None], []]]))
    assert len(received) == 0
    assert_same(received, round_trip(received))


def series(kind: Any, values: list[Any]) -> "pd.Series[Any]":
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


def test_a_slice_does_not_carry_the_rest_along() -> None:
    whole = series(pa.string(), ["secret-" * 100 + str(number) for number in range(1000)])
    sent = b"".join(map(bytes, encode(whole.iloc[10:11]).segments))
    assert len(sent) < 6000
    assert b"999" not in sent
    assert_same(whole.iloc[10:11], round_trip(whole.iloc[10:11]))
    nested = series(pa.list_(pa.int64()), [list(range(100))] * 1000)
    assert sum(map(len, encode(nested.iloc[5:6]).segments)) < 5000
    assert_same(nested.iloc[5:6], round_trip(nested.iloc[5:6]))


def test_chunks_become_one() -> None:
    chunked = pd.concat([series(pa.int64(), [1, None]), series(pa.int64(), [3])], ignore_index=True)
    received = round_trip(chunked)
    assert received.tolist() == chunked.tolist()


@pytest.mark.parametrize(
    "kind",
    [pa.dictionary(pa.int8(), pa.string()), pa.map_(pa.string(), pa.int8()), pa.string_view()],
    ids=str,
)
def test_types_without_a_form_of_their_own_are_refused(kind: Any) -> None:
    with pytest.raises(EncodingError, match="Arrow"):
        encode(pd.Series(pd.arrays.ArrowExtensionArray(pa.array([None, None], kind))))


def test_large_buffers_are_not_copied() -> None:
    import numpy as np

    numbers = series(pa.int64(), list(range(5000)))
    data = encode(numbers).segments[-1]
    buffer = pa.array(numbers.array).buffers()[1]
    assert np.frombuffer(data, np.uint8).ctypes.data == buffer.address


def test_nulls_without_a_bitmap_count_as_elements_at_either_end() -> None:
    nulls = series(pa.null(), [None] * 1000)
    with pytest.raises(EncodingError, match="more elements"):
        encode(nulls, max_elements=900)
    with pytest.raises(DecodingError, match="more elements"):
        decode(encode(nulls).segments, max_elements=900)
