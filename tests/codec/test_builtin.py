"""The standard library's types, as somebody who means harm would send them."""

from collections import Counter, OrderedDict
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mpccomm.codec import encode
from mpccomm.codec.builtin import FRACTION_BITS
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, leaf, round_trip


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.TUPLE, 5),
        call(Tag.TUPLE, {"a": 1}),
        call(Tag.SET, [[]]),
        call(Tag.SET, [1, 1]),
        call(Tag.FROZENSET, [1, True]),
        call(Tag.DICT, [1, 1], [2, 3]),
        call(Tag.DICT, [1], [2, 3]),
        call(Tag.DICT, [[]], [2]),
        call(Tag.COUNTER, [1, 1.0], [2, 3]),
        call(Tag.DEQUE, [1, 2], 1, b""),
        call(Tag.DEQUE, [1, 2], -1, b""),
        call(Tag.COMPLEX, 1, 2.0),
        call(Tag.COMPLEX, "1", "2"),
        call(Tag.DECIMAL, 5),
        call(Tag.DECIMAL, ""),
        call(Tag.DECIMAL, " 1"),
        call(Tag.DECIMAL, "1_000"),
        call(Tag.DECIMAL, "\N{ARABIC-INDIC DIGIT ONE}"),
        call(Tag.DECIMAL, "1E+99999999999999999999"),
        call(Tag.FRACTION, 1, 0),
        call(Tag.FRACTION, 1, -2),
        call(Tag.FRACTION, 2, 4),
        call(Tag.FRACTION, 1.0, 2),
        call(Tag.FRACTION, leaf(Tag.INT, b"\x01" * 10_000), 3),
        call(Tag.RANGE, 0, 5, 0),
        call(Tag.RANGE, 0, 5),
        call(Tag.UUID, b"short", None),
        call(Tag.UUID, bytes(16), 7),
        call(Tag.DATE, 0, 1, 1),
        call(Tag.DATE, 2020, 2, 30),
        call(Tag.DATE, True, 1, 1),
        call(Tag.DATETIME, 2020, 1, 1, 0, 0, 0, 0, 2, None),
        call(Tag.DATETIME, 2020, 1, 1, 0, 0, 0, 0, 0, "UTC"),
        call(Tag.TIME, 24, 0, 0, 0, 0, None),
        call(Tag.TIMEDELTA, 10**9, 0, 0),
        call(Tag.TIMEZONE, call(Tag.TIMEDELTA, 1, 0, 0), None),
        call(Tag.TIMEZONE, 3600, None),
        call(Tag.ZONEINFO, "../../../etc/passwd"),
        call(Tag.ZONEINFO, "/etc/passwd"),
        call(Tag.ZONEINFO, "zones"),
        call(Tag.ZONEINFO, []),
        leaf(Tag.TEXT, b"\xff"),
    ],
    ids=repr,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_a_time_zone_does_not_cause_an_import() -> None:
    import sys

    before = set(sys.modules)
    with pytest.raises(DecodingError):
        decode_node(call(Tag.ZONEINFO, "antigravity"))
    assert not {name for name in set(sys.modules) - before if "antigravity" in name}


def test_a_fraction_too_large_to_be_checked_is_refused_by_the_sender() -> None:
    largest = Fraction(2**FRACTION_BITS - 1, 2 ** (FRACTION_BITS - 1))
    assert_same(largest, round_trip(largest))
    with pytest.raises(EncodingError, match="numerator and denominator"):
        encode([Fraction(2**FRACTION_BITS + 1, 2)])


def test_a_time_zone_of_a_foreign_class_is_refused() -> None:
    class Zone(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            return timedelta(0)

        def dst(self, _: datetime | None) -> timedelta:
            return timedelta(0)

        def tzname(self, _: datetime | None) -> str:
            return "zone"

    with pytest.raises(EncodingError, match=r"message\[0\]\.tzinfo"):
        encode([datetime(2020, 1, 1, tzinfo=Zone())])


def test_a_zone_without_a_name_is_refused() -> None:
    from importlib.resources import files

    with files("tzdata.zoneinfo").joinpath("UTC").open("rb") as file:
        zone = ZoneInfo.from_file(file)
    with pytest.raises(EncodingError, match="time zone"):
        encode(zone)


def test_order_of_keys_is_kept() -> None:
    keys = [5, "b", (1,), "a", 2**70, None]
    for kind in (dict, OrderedDict, Counter):
        received = round_trip(kind(dict.fromkeys(keys, 1)))
        assert type(received) is kind
        assert list(received) == keys


def test_an_integer_of_any_size() -> None:
    for bits in (62, 63, 64, 65, 71, 72, 73, 100_000):
        for number in (2**bits, 2**bits - 1, -(2**bits), -(2**bits) - 1):
            assert_same(number, round_trip(number))
            assert_same([number, "x"], round_trip([number, "x"]))
