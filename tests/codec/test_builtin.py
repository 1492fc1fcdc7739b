"""The standard library's types, as an attacker would send them."""

import os
from array import array, typecodes
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mpccomm.codec import decode, encode
from mpccomm.codec.builtin import FRACTION_BITS
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, leaf, name_of, round_trip


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
        call(Tag.DEQUE, [1, 2], 1),
        call(Tag.DEQUE, [1, 2], -1),
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
    ids=name_of,
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


def test_a_zone_of_a_file_is_refused_whatever_name_it_has() -> None:
    from importlib.resources import files

    with files("tzdata.zoneinfo").joinpath("Asia/Tokyo").open("rb") as file:
        zone = ZoneInfo.from_file(file, key="Europe/Paris")
    for value in (zone, datetime(2024, 7, 1, tzinfo=zone), [datetime(2024, 7, 1, tzinfo=zone)] * 40):
        with pytest.raises(EncodingError, match="time zone"):
            encode(value)
    named = ZoneInfo.no_cache("Europe/Paris")
    assert round_trip(named) is ZoneInfo("Europe/Paris")


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


@pytest.mark.parametrize("factory", [lambda: 1, Decimal, print, [].append, type("int", (int,), {})])
def test_a_defaultdict_with_a_factory_of_ones_own_is_refused(factory: Any) -> None:
    with pytest.raises(EncodingError, match=r"send dict\(value\)"):
        encode([defaultdict(factory)])


def test_what_a_received_defaultdict_lacks() -> None:
    received = round_trip(defaultdict(list, {1: [2]}))
    received[5].append(6)
    assert received == {1: [2], 5: [6]}


def test_a_memoryview_arrives_as_its_bytes() -> None:
    blob = bytearray(range(256)) * 40
    views: list[memoryview[Any]] = [memoryview(b"abc"), memoryview(b""), memoryview(blob), memoryview(blob)[::3]]
    views += [memoryview(blob).cast("I"), memoryview(blob).cast("B", [256, 40]), memoryview(blob).cast("d")[::-2]]
    views += [memoryview(array("d", [1.5, 2.5]))]
    for view in views:
        assert_same([view.tobytes()], round_trip([view]))
    snapshot = encode(memoryview(blob), snapshot=True).segments
    expected = bytes(blob)
    blob[:] = bytes(len(blob))
    assert decode(snapshot) == expected


def test_an_array_of_text() -> None:
    code = "w" if "w" in typecodes else "u"
    assert_same(array(code, "text \N{GRINNING FACE}"), round_trip(array(code, "text \N{GRINNING FACE}")))


def test_an_array_from_a_platform_with_another_long() -> None:
    here = array("l").itemsize
    there = 12 - here
    numbers = array("q" if there == 8 else "i", [-5, 7])
    assert_same(array("l", [-5, 7]), decode_node(call(Tag.ARRAY, "l", there, numbers.tobytes())))


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.ARRAY, "x", 8, b""),
        call(Tag.ARRAY, "", 8, b""),
        call(Tag.ARRAY, "qQ", 8, b""),
        call(Tag.ARRAY, "q", 3, b""),
        call(Tag.ARRAY, "q", 8, b"1234567"),
        call(Tag.ARRAY, "i", 8, b"\xff" * 8 + bytes(7) + b"\x01"),
        call(Tag.ARRAY, 5, 8, b""),
        call(Tag.DEFAULT_DICT, "print", [], []),
        call(Tag.DEFAULT_DICT, "object", [], []),
        call(Tag.DEFAULT_DICT, [], [], []),
        call(Tag.DEFAULT_DICT, "int", [1, 1], [1, 1]),
        call(Tag.PATH, 9, "a"),
        call(Tag.PATH, -1, "a"),
        call(Tag.PATH, 0, b"a"),
        call(Tag.PATH, 3 if os.name == "posix" else 2, "a"),
        call(Tag.IP_ADDRESS, 0, 5),
        call(Tag.IP_ADDRESS, 0, "1.2.3"),
        call(Tag.IP_ADDRESS, 2, "10.1.0.0/8"),
    ],
    ids=name_of,
)
def test_malformed_others(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)
