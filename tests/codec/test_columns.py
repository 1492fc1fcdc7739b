"""Long lists of one kind: the columns they become, and what may not pass for one."""

import random
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mpccomm.codec import encode
from mpccomm.codec.columns import BULK
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, name_of, round_trip


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


@pytest.mark.parametrize("least", [0, 1, 2**1000, 2**1630, 2**1640, 2**2047, -1, -(2**2047)])
def test_the_least_number_says_little_of_the_others(least: int) -> None:
    values = [2**2047 + number for number in range(1000)]
    values[500] = least
    assert size(values) <= 257 * len(values) + 32
    assert_same(values, round_trip(values))


def test_the_numbers_of_a_column_are_not_in_memory_twice() -> None:
    values = [2**2047 + number for number in range(10_000)]
    tracemalloc.start()
    try:
        encode(values)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * 256 * len(values)
    finally:
        tracemalloc.stop()


def test_few_large_numbers_among_small_ones() -> None:
    values = [2**700 if number % 20 == 0 else (-1) ** number * number for number in range(1000)]
    segments = encode(values).segments
    assert_same(values, round_trip(values))
    assert sum(map(len, segments)) < 2 * 1000 + 50 * 88 + 1000 + 100
    tags = [tag for tag in (Tag.GROUPS, Tag.INTS, Tag.BIG_INTS, Tag.MIXED_INTS) if bytes([0xC7, 0, tag]) in segments[0]]
    assert tags == [Tag.GROUPS, Tag.INTS, Tag.BIG_INTS]


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


def _datetime(year: int, month: int = 1, day: int = 1, *clock: int) -> bytes:
    hour, minute, second, microsecond = (*clock, 0, 0, 0, 0)[:4]
    return year.to_bytes(2) + bytes([month, day, hour, minute, second]) + microsecond.to_bytes(3)


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
        call(Tag.ROWS, True, [1], [1, 2]),
        call(Tag.ROWS, 1, [1], [1]),
        call(Tag.ROWS, True, "ab", "cd"),
        call(Tag.RECORDS, []),
        call(Tag.RECORDS, ["a"]),
        call(Tag.RECORDS, ["a"], [1], [2]),
        call(Tag.RECORDS, ["a", "a"], [1], [2]),
        call(Tag.RECORDS, ["a", "b"], [1], [2, 3]),
        call(Tag.RECORDS, ["a", 1], [1], [2]),
        call(Tag.RAGGED, [1, 2], [1, 2]),
        call(Tag.RAGGED, [-1, 3], [1, 2]),
        call(Tag.RAGGED, [True, 1], [1, 2]),
        call(Tag.RAGGED, [1.0, 1], [1, 2]),
        call(Tag.RAGGED, [1, 1], "ab"),
        call(Tag.GROUPS),
        call(Tag.GROUPS, [0], [1]),
        call(Tag.GROUPS, b"\0"),
        call(Tag.GROUPS, b"\0\1", [1]),
        call(Tag.GROUPS, b"\0", [1], [2]),
        call(Tag.GROUPS, b"\0\1", [1, 2], []),
        call(Tag.GROUPS, b"\0\2", [1], [2]),
        call(Tag.GROUPS, b"\0\0\1", [1], [2]),
        call(Tag.GROUPS, b"\0", "a"),
        call(Tag.GROUPS, b"", *[[]] * 17),
        call(Tag.COMPLEXES, [1.0], [1.0, 2.0]),
        call(Tag.COMPLEXES, [1.0], [1]),
        call(Tag.COMPLEXES, ["1"], ["1"]),
        call(Tag.DECIMALS, ["x"]),
        call(Tag.DECIMALS, [1.5]),
        call(Tag.DATES, [0]),
        call(Tag.DATES, [10**9]),
        call(Tag.TIMEDELTAS, [1], [1]),
        call(Tag.TIMEDELTAS, [1], [1], [1], [1]),
        call(Tag.TIMEDELTAS, [1], [1.5], [1]),
        call(Tag.TIMEDELTAS, [10**9], [1], [1]),
        call(Tag.DATETIMES, b"123456789", [None], []),
        call(Tag.DATETIMES, _datetime(2024), [], []),
        call(Tag.DATETIMES, _datetime(2024), [None], [0]),
        call(Tag.DATETIMES, _datetime(2024), [None, None], []),
        call(Tag.DATETIMES, _datetime(2024), [None, None], [2]),
        call(Tag.DATETIMES, _datetime(2024), ["UTC"], []),
        *(
            call(Tag.DATETIMES, _datetime(*fields), [None], [])
            for fields in (
                (0,),
                (10_000,),
                (2024, 0),
                (2024, 13),
                (2024, 1, 0),
                (2024, 1, 32),
                (2024, 4, 31),
                (2023, 2, 29),
                (2024, 2, 30),
                (2024, 2 | 128, 30),
                (1900, 2, 29),
                (2024, 1, 1, 24),
                (2024, 1, 1, 0, 60),
                (2024, 1, 1, 0, 0, 60),
                (2024, 1, 1, 0, 0, 0, 10**6),
                (2024, 1, 1, 255, 255, 255, 2**24 - 1),
            )
        ),
    ],
    ids=name_of,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_every_day_and_every_last_moment() -> None:
    days = [datetime.min + timedelta(days=number) for number in range(0, 3_652_059, 97)]
    leap = [datetime(year, 2, 28, 23, 59, 59, 999_999) + timedelta(days=1) for year in range(1, 9999)]
    for values in (days, leap, [datetime.max] * 40, [datetime(2024, 2, 29, fold=1)] * 40):
        assert_same(values, round_trip(values))


def test_time_zones_of_a_column() -> None:
    zones = [None, UTC, timezone(timedelta(hours=2), "name"), ZoneInfo("Europe/Amsterdam")]
    values = [datetime(2024, 10, 27, 2, 30, number, fold=number % 2, tzinfo=zones[number % 4]) for number in range(50)]
    assert_same(values, round_trip(values))
    assert_same(values[1::4] * 4, round_trip(values[1::4] * 4))


Zone: Any = type("Zone", (tzinfo,), {})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([(1,)] * 40 + [(object(),)], "message[40][0] is"),
        ([(1, 2), (3,)] * 40 + [(1, 2, object())], "message[80][2] is"),
        ([{"a": 1, "b": (1, 2)}] * 40 + [{"a": 1, "b": (1, object())}], 'message[40]["b"][1] is'),
        ([datetime.min] * 40 + [datetime.min.replace(tzinfo=Zone())], "message[40].tzinfo is"),
        ({str(number): (number, object()) for number in range(40)}, 'message["0"][1] is'),
        ([(1, 2), ("a", (3,), 4)] * 40 + [(1, 2), ("a", (3, object()), 4)], "message[81][1][1] is"),
        ([(1,), [2], {"a": 3}] * 40 + [{"a": {object()}}], 'message[120]["a"].pop() is'),
        ([{"a": (1,)}, {"b": (1,)}] * 40 + [{"b": (object(),)}, {"a": ()}], 'message[80]["b"][0] is'),
        (
            {str(number): [(), [], object()][number and number % 2 + number // 79] for number in range(80)},
            'message["79"] is',
        ),
    ],
)
def test_the_path_to_what_cannot_be_sent(value: Any, path: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert str(caught.value).startswith(path)


def test_dicts_of_one_shape_become_columns() -> None:
    source = random.Random(1)
    values = [{"id": number, "share": source.getrandbits(512), "rate": source.random()} for number in range(1000)]
    assert size(values) < 1000 * (2 + 64 + 8 + 3) + 200
    assert_same(values, round_trip(values))


class Key(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "other",
    [{"b": 1, "a": 1}, {"a": 1}, {"a": 1, "c": 1}, {}, {"a": 1, "b": 1, "c": 1}, {1: 1, 2: 2}, {"a": None, "b": []}],
)
def test_one_dict_of_another_shape(other: dict[Any, Any]) -> None:
    values = [*({"a": number, "b": number} for number in range(50)), other, {"a": 0, "b": 0}]
    assert_same(values, round_trip(values))


def test_a_few_shapes_in_a_list_become_columns_of_each() -> None:
    source = random.Random(1)
    rows = [(source.getrandbits(512), (source.random(),), index)[index % 2 :] for index in range(1000)]
    assert size(rows) < 1000 * (64 / 2 + 8 + 2 + 1 + 1) + 200
    assert_same(rows, round_trip(rows))
    mixed = [*rows, *({"id": number, "rates": (source.random(),)} for number in range(1000))]
    source.shuffle(mixed)
    assert size(mixed) < size(rows) + 1000 * (8 + 2 + 2 + 4) + 200
    assert_same(mixed, round_trip(mixed))


@pytest.mark.parametrize("kinds", [2, 15, 16, 17, 50])
def test_either_side_of_the_number_of_shapes(kinds: int) -> None:
    for values in (
        [(index,) * (index % kinds) for index in range(BULK * kinds)],
        [{str(index % kinds): (index,)} for index in range(BULK * kinds - 1)],
        [[(index,)] * (index % kinds) for index in range(BULK * kinds)],
    ):
        assert_same(values, round_trip(values))


def test_a_key_that_only_equals_the_others() -> None:
    with pytest.raises(EncodingError, match="Key"):
        encode([*([{"a": 1, "b": 2}] * 50), {"a": 1, Key("b"): 2}])


def test_dicts_that_take_turns_with_the_keys_of_one() -> None:
    """The keys of all together are those of the first, over and over; each dict for itself has others."""
    values = [{"a": 1, "b": 2}, {"a": 3}, {"b": 4, "a": 5}, {"b": 6}] * BULK
    assert_same(round_trip(values), values)


@pytest.mark.parametrize("last", [0, -1, 127, -128, 128, -129, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**63])
def test_the_last_number_of_a_column_is_no_better_than_others(last: int) -> None:
    values = [0, 2**40, *range(BULK), last]
    assert_same(round_trip(values), values)
    rising = [*range(BULK), last]
    assert_same(round_trip(rising), rising)
