"""Long lists of one kind: the columns they become, and what may not pass for one."""

import random
from typing import Any

import pytest

from mpccomm.codec import encode
from mpccomm.codec.columns import BULK
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, round_trip


def size(value: object) -> int:
    return sum(map(len, encode(value).segments))


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ([0, 1, -128] * 1000, 1),
        ([0, 300] * 1000, 2),
        ([0, -70_000] * 1000, 4),
        ([2**40] * 1000, 8),
        ([2**64] * 1000, 9),
        ([2**2047] * 1000, 256),
        ([1.5] * 1000, 8),
    ],
)
def test_a_column_takes_the_width_of_its_widest_number(values: list[Any], width: int) -> None:
    assert width * len(values) <= size(values) <= width * len(values) + 32


def test_numbers_of_different_widths_are_not_padded_to_the_widest() -> None:
    values = [2**16_000] + [2**70] * 1000
    assert size(values) < 20_000
    assert_same(values, round_trip(values))


@pytest.mark.parametrize("length", [BULK - 1, BULK, BULK + 1])
@pytest.mark.parametrize("element", [1, 1.5, 2**70, b"x", "x", (1, 2), [1, 2], True, None])
def test_either_side_of_the_threshold(length: int, element: Any) -> None:
    assert_same([element] * length, round_trip([element] * length))


@pytest.mark.parametrize("bits", range(1, 140))
def test_widths_and_signs(bits: int) -> None:
    edges = [0, 1, -1, 2**bits, 2**bits - 1, -(2**bits), -(2**bits) - 1, -(2**bits) + 1]
    for edge in edges:
        assert_same([edge] * BULK, round_trip([edge] * BULK))
    assert_same(edges * 5, round_trip(edges * 5))


def test_one_foreign_element_among_many() -> None:
    for values in ([1.5] * 1000, [5] * 1000, [2**70] * 1000, [(1, 2)] * 1000):
        for other in (True, 1, 2.0, None, "x", (1, 2, 3), [1, 2]):
            mixed = [*values, other, *values]
            assert_same(mixed, round_trip(mixed))


def test_rows_become_columns() -> None:
    source = random.Random(1)
    rows = [(source.getrandbits(512), source.random(), index) for index in range(1000)]
    assert size(rows) < 1000 * (64 + 8 + 2) + 200
    assert_same(rows, round_trip(rows))


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.FLOATS, b"1234567"),
        call(Tag.FLOATS, [1.0]),
        call(Tag.INTS, 3, b"123"),
        call(Tag.INTS, [], b"123"),
        call(Tag.INTS, 8, b"1234"),
        call(Tag.BIG_INTS, 0, False, b"1234"),
        call(Tag.BIG_INTS, -1, False, b"1234"),
        call(Tag.BIG_INTS, 3, False, b"1234"),
        call(Tag.BIG_INTS, 2**63, False, b""),
        call(Tag.BIG_INTS, 10**19, False, b""),
        call(Tag.BIG_INTS, 1, 1, b"1234"),
        call(Tag.BIG_INTS, True, False, b"1234"),
        call(Tag.MIXED_INTS, [1, 2], b"1234"),
        call(Tag.MIXED_INTS, [-1, 5], b"1234"),
        call(Tag.MIXED_INTS, [0, 4], b"1234"),
        call(Tag.MIXED_INTS, [2.0, 2.0], b"1234"),
        call(Tag.MIXED_INTS, b"\x02\x02", b"1234"),
        call(Tag.ROWS, True),
        call(Tag.ROWS, True, [1]),
        call(Tag.ROWS, True, [1], [1, 2]),
        call(Tag.ROWS, 1, [1], [1]),
        call(Tag.ROWS, True, "ab", "cd"),
    ],
    ids=repr,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)
