"""The types of the standard library beyond those that msgpack has."""

from __future__ import annotations

import math
import numbers
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, available_timezones

from mpccomm.codec import keys
from mpccomm.codec.abc import Decoder, Encoder, Lower
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, Tag

FRACTION_BITS: Final = 1 << 16
"""Largest numerator and denominator of a Fraction; checking that larger ones are coprime takes too long."""
_DECIMAL: Final = re.compile(r"-?(\d+(\.\d+)?(E[+-]?\d{1,20})?|Infinity|s?NaN\d*)", re.ASCII)
_DEQUE_SIZE: Final = 1024


# Containers


def _lower_set(tag: Tag) -> Lower:
    def lower(encoder: Encoder, value: set[object] | frozenset[object]) -> object:
        try:
            node = encoder.sequence(keys.distinct(list(value)))
        except Refusal as refusal:
            if refusal.steps:
                # The elements of a set have no index.
                refusal.steps[-1] = ".pop()"
            raise
        return [HEADS[tag], node]

    return lower


def _received_set(decoder: Decoder, node: object) -> set[object]:
    values = decoder.typed(node, list)
    result: set[object] = set(keys.received(values))
    if len(result) != len(values):
        raise ValueError("an element twice")
    return result


def _frozenset(decoder: Decoder, node: object) -> frozenset[object]:
    return frozenset(_received_set(decoder, node))


def _dict(decoder: Decoder, key_node: object, value_node: object) -> dict[object, object]:
    received = keys.received(decoder.typed(key_node, list))
    result: dict[object, object] = dict(zip(received, decoder.typed(value_node, list), strict=True))
    if len(result) != len(received):
        raise ValueError("a key twice")
    return result


def _lower_mapping(tag: Tag) -> Lower:
    def lower(encoder: Encoder, value: dict[object, object]) -> object:
        return [HEADS[tag], *encoder.pairs(value)]

    return lower


def _ordered_dict(decoder: Decoder, key_node: object, value_node: object) -> OrderedDict[object, object]:
    plain = _dict(decoder, key_node, value_node)
    decoder.charge(256 + 128 * len(plain))
    return OrderedDict(plain)


def _counter(decoder: Decoder, key_node: object, value_node: object) -> Counter[object]:
    return Counter(_dict(decoder, key_node, value_node))


def _lower_deque(encoder: Encoder, value: deque[object]) -> object:
    return [HEADS[Tag.DEQUE], encoder.sequence(list(value)), value.maxlen, encoder.ballast(_DEQUE_SIZE)]


def _deque(decoder: Decoder, node: object, maxlen: object, ballast: object) -> deque[object]:
    values = decoder.typed(node, list)
    if maxlen is not None and (type(maxlen) is not int or maxlen < len(values)):
        raise ValueError("a deque longer than its maximum")
    decoder.ballasted(_DEQUE_SIZE, ballast)
    return deque(values, maxlen)


def _tuple(decoder: Decoder, node: object) -> tuple[object, ...]:
    return tuple(decoder.typed(node, list))


# Buffers and numbers


def _lower_bytearray(encoder: Encoder, value: bytearray) -> object:
    return [HEADS[Tag.BYTEARRAY], encoder.buffer(memoryview(value), mutable=True)]


def _bytearray(decoder: Decoder, node: object) -> bytearray:
    data = decoder.buffer(node)
    return data if type(data) is bytearray else bytearray(data)


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _lower_complex(encoder: Encoder, value: complex) -> object:
    return [HEADS[Tag.COMPLEX], value.real, value.imag]


def _complex(decoder: Decoder, real: object, imag: object) -> complex:
    return complex(decoder.typed(real, float), decoder.typed(imag, float))


def _lower_decimal(encoder: Encoder, value: Decimal) -> object:
    return [HEADS[Tag.DECIMAL], str(value)]


def _decimal(decoder: Decoder, text: object) -> Decimal:
    if type(text) is not str or not _DECIMAL.fullmatch(text):
        raise ValueError("not a decimal")
    return Decimal(text)


class _Coprime:
    """A rational in lowest terms, of which Fraction takes the parts as they are."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator = numerator
        self.denominator = denominator


numbers.Rational.register(_Coprime)


def _lower_fraction(encoder: Encoder, value: Fraction) -> object:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > FRACTION_BITS:
        raise Refusal(f"is a Fraction of more than {FRACTION_BITS} bits; send numerator and denominator")
    return [HEADS[Tag.FRACTION], value.numerator, value.denominator]


def coprime(decoder: Decoder, numerator_node: object, denominator_node: object) -> tuple[int, int]:
    """Numerator and denominator of a rational number in lowest terms."""
    numerator = decoder.typed(numerator_node, int)
    denominator = decoder.typed(denominator_node, int)
    if denominator < 1 or max(numerator.bit_length(), denominator.bit_length()) > FRACTION_BITS:
        raise ValueError("a denominator that is not positive, or too large a rational number")
    if math.gcd(numerator, denominator) != 1:
        raise ValueError("not in lowest terms")
    return numerator, denominator


def _fraction(decoder: Decoder, numerator: object, denominator: object) -> Fraction:
    rational: Any = _Coprime(*coprime(decoder, numerator, denominator))
    return Fraction(rational)


def _lower_range(encoder: Encoder, value: range) -> object:
    return [HEADS[Tag.RANGE], value.start, value.stop, value.step]


def _range(decoder: Decoder, *nodes: object) -> range:
    start, stop, step = _integers(decoder, nodes, 3)
    return range(start, stop, step)


def _integers(decoder: Decoder, nodes: tuple[object, ...], count: int) -> list[int]:
    if len(nodes) != count:
        raise TypeError(f"{len(nodes)} integers in place of {count}")
    return [decoder.typed(node, int) for node in nodes]


def _lower_uuid(encoder: Encoder, value: UUID) -> object:
    return [HEADS[Tag.UUID], value.bytes, value.is_safe.value]


def _uuid(decoder: Decoder, data: object, is_safe: object) -> UUID:
    return UUID(bytes=decoder.typed(data, bytes), is_safe=SafeUUID(is_safe))


# Dates and times


def _lower_datetime(encoder: Encoder, value: datetime) -> object:
    clock = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return [HEADS[Tag.DATETIME], value.year, value.month, value.day, *clock, _lower_zone(encoder, value)]


def _datetime(decoder: Decoder, *nodes: object) -> datetime:
    *parts, fold = _integers(decoder, nodes[:-1], 8)
    return datetime(*parts, fold=fold, tzinfo=zone(decoder.value(nodes[-1])))  # type: ignore[arg-type,misc]


def _lower_date(encoder: Encoder, value: date) -> object:
    return [HEADS[Tag.DATE], value.year, value.month, value.day]


def _date(decoder: Decoder, *nodes: object) -> date:
    return date(*_integers(decoder, nodes, 3))


def _lower_time(encoder: Encoder, value: time) -> object:
    clock = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return [HEADS[Tag.TIME], *clock, _lower_zone(encoder, value)]


def _time(decoder: Decoder, *nodes: object) -> time:
    *parts, fold = _integers(decoder, nodes[:-1], 5)
    return time(*parts, fold=fold, tzinfo=zone(decoder.value(nodes[-1])))  # type: ignore[misc,arg-type]


def _lower_timedelta(encoder: Encoder, value: timedelta) -> object:
    return [HEADS[Tag.TIMEDELTA], value.days, value.seconds, value.microseconds]


def _timedelta(decoder: Decoder, *nodes: object) -> timedelta:
    return timedelta(*_integers(decoder, nodes, 3))


def _lower_zone(encoder: Encoder, value: datetime | time) -> object:
    try:
        return encoder.lower(value.tzinfo)
    except Refusal as refusal:
        refusal.steps.append(".tzinfo")
        raise


def zone(value: Any) -> tzinfo | None:
    """*value*, if it is a time zone or None. (A name would do for some, who then look for a file of that name.)"""
    if value is not None and type(value) not in (timezone, ZoneInfo):
        raise TypeError("not a time zone")
    return value  # type: ignore[no-any-return]


def _lower_timezone(encoder: Encoder, value: timezone) -> object:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return [HEADS[Tag.TIMEZONE], encoder.lower(offset), name[0] if name else None]


def _timezone(decoder: Decoder, offset_node: object, name: object) -> timezone:
    offset = decoder.typed(offset_node, timedelta)
    return timezone(offset) if name is None else timezone(offset, decoder.typed(name, str))


def _lower_zoneinfo(encoder: Encoder, value: ZoneInfo) -> object:
    if value.key not in _zones():
        raise Refusal("is a ZoneInfo without the name of a known time zone; use a datetime.timezone")
    return [HEADS[Tag.ZONEINFO], value.key]


def _zoneinfo(decoder: Decoder, name: object) -> ZoneInfo:
    # ZoneInfo would look for a file, and even a module, of that name.
    if name not in _zones():
        raise ValueError("no time zone of that name is known here")
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    bytearray: _lower_bytearray,
    complex: _lower_complex,
    set: _lower_set(Tag.SET),
    frozenset: _lower_set(Tag.FROZENSET),
    OrderedDict: _lower_mapping(Tag.ORDERED_DICT),
    Counter: _lower_mapping(Tag.COUNTER),
    deque: _lower_deque,
    datetime: _lower_datetime,
    date: _lower_date,
    time: _lower_time,
    timedelta: _lower_timedelta,
    timezone: _lower_timezone,
    ZoneInfo: _lower_zoneinfo,
    Decimal: _lower_decimal,
    Fraction: _lower_fraction,
    UUID: _lower_uuid,
    range: _lower_range,
}

CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.TUPLE: _tuple,
    Tag.DICT: _dict,
    Tag.SET: _received_set,
    Tag.FROZENSET: _frozenset,
    Tag.BYTEARRAY: _bytearray,
    Tag.COMPLEX: _complex,
    Tag.DATETIME: _datetime,
    Tag.DATE: _date,
    Tag.TIME: _time,
    Tag.TIMEDELTA: _timedelta,
    Tag.DECIMAL: _decimal,
    Tag.FRACTION: _fraction,
    Tag.UUID: _uuid,
    Tag.RANGE: _range,
    Tag.ORDERED_DICT: _ordered_dict,
    Tag.DEQUE: _deque,
    Tag.COUNTER: _counter,
    Tag.TIMEZONE: _timezone,
    Tag.ZONEINFO: _zoneinfo,
}

LEAVES: Final[dict[int, Callable[[bytes], object]]] = {Tag.INT: _int, Tag.TEXT: _text}
