"""Dates, times and time zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, itemgetter
from struct import iter_unpack
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from mpccomm.codec.abc import Column, Decoder, Encoder, Refusal
from mpccomm.codec.builtin import integers
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.interrupts import is_interrupt

_DATETIME_SIZE: Final = 10
"""Bytes of a datetime: year (2, the higher first), month (128 more for the later of two equal times), day, hour, minute,
second, microsecond (3)."""
_MOMENT: Final = 80
_DAY: Final = 48
_DURATION: Final = 64
"""Bytes of memory that a datetime, a date or a timedelta takes, with its place in a list."""
_DOUBTFUL: Final = {
    position: bytes(byte not in trusted for byte in range(256))
    for position, trusted in {
        0: range(1, 0x27),
        3: range(1, 31),
        4: range(24),
        5: range(60),
        6: range(60),
        7: range(0x0F),
    }.items()
}
"""For a byte of a datetime: whether it is right only in company of some others, if at all."""
_FEBRUARY: Final = bytes(byte & 0x7F == 2 for byte in range(256))
_END_OF_FEBRUARY: Final = bytes(byte > 28 for byte in range(256))


def _lower_datetime(encoder: Encoder, value: datetime) -> object:
    clock = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return [HEADS[Tag.DATETIME], value.year, value.month, value.day, *clock, _lower_zone(encoder, value)]


def _datetime(decoder: Decoder, *nodes: object) -> datetime:
    *parts, fold = integers(decoder, nodes[:-1], 8)
    return datetime(*parts, fold=fold, tzinfo=zone(decoder.value(nodes[-1])))  # type: ignore[arg-type,misc]


def _lower_date(encoder: Encoder, value: date) -> object:
    return [HEADS[Tag.DATE], value.year, value.month, value.day]


def _date(decoder: Decoder, *nodes: object) -> date:
    return date(*integers(decoder, nodes, 3))


def _lower_time(encoder: Encoder, value: time) -> object:
    clock = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return [HEADS[Tag.TIME], *clock, _lower_zone(encoder, value)]


def _time(decoder: Decoder, *nodes: object) -> time:
    *parts, fold = integers(decoder, nodes[:-1], 5)
    return time(*parts, fold=fold, tzinfo=zone(decoder.value(nodes[-1])))  # type: ignore[misc,arg-type]


def _lower_timedelta(encoder: Encoder, value: timedelta) -> object:
    return [HEADS[Tag.TIMEDELTA], value.days, value.seconds, value.microseconds]


def _timedelta(decoder: Decoder, *nodes: object) -> timedelta:
    return timedelta(*integers(decoder, nodes, 3))


def _lower_datetimes(encoder: Encoder, values: list[datetime]) -> object:
    encoder.count(len(values), _MOMENT)
    states = map(itemgetter(1), map(datetime.__reduce_ex__, values, repeat(4)))
    blob = b"".join(map(itemgetter(0), states))
    zones = list(map(attrgetter("tzinfo"), values))
    number: dict[int, int] = {}
    distinct = []
    for index, value in enumerate(zones if len(set(map(id, zones))) > 1 else zones[:1]):
        if id(value) not in number:
            number[id(value)] = len(number)
            try:
                distinct.append(_lower_zone(encoder, values[index]))
            except Refusal as refusal:
                refusal.steps.append(f"[{index}]")
                raise
    numbers = [number[id(value)] for value in zones] if len(number) > 1 else []
    return [HEADS[Tag.DATETIMES], encoder.buffer(blob, mutable=False), distinct, encoder.sequence(numbers)]


def _datetimes(decoder: Decoder, node: object, zone_nodes: object, number_node: object) -> list[datetime]:
    blob = bytes(decoder.buffer(node))
    count, rest = divmod(len(blob), _DATETIME_SIZE)
    zones = list(map(zone, decoder.typed(zone_nodes, list)))
    numbers = decoder.typed(number_node, list)
    decoder.count(count, _MOMENT)
    if rest or not zones or len(numbers) != (count if len(zones) > 1 else 0):
        raise ValueError("a column of broken length")
    each: Any = map(zones.__getitem__, numbers) if numbers else repeat(zones[0])
    states: Any = chain.from_iterable(iter_unpack(f"{_DATETIME_SIZE}s", blob))
    values: list[datetime] = list(map(datetime, states, each))  # type: ignore[arg-type]
    # The constructor takes such bytes as they are, except the month. Where one is not beyond doubt, the fields are checked.
    doubtful = 0
    for position, table in _DOUBTFUL.items():
        doubtful |= _flags(blob, position, table)
    doubtful |= _flags(blob, 2, _FEBRUARY) & _flags(blob, 3, _END_OF_FEBRUARY)
    if doubtful:
        for index in compress(range(count), doubtful.to_bytes(count, "little")):
            values[index].replace()
    return values


def _flags(blob: bytes, position: int, table: bytes) -> int:
    """Return what *table* says of a byte of each datetime, a byte for each."""
    return int.from_bytes(blob[position::_DATETIME_SIZE].translate(table), "little")


def _lower_dates(encoder: Encoder, values: list[date]) -> object:
    encoder.count(len(values), _DAY)
    return [HEADS[Tag.DATES], encoder.sequence(list(map(date.toordinal, values)))]


def _dates(decoder: Decoder, node: object) -> list[date]:
    ordinals = decoder.typed(node, list)
    decoder.count(len(ordinals), _DAY)
    return list(map(date.fromordinal, ordinals))


def _lower_timedeltas(encoder: Encoder, values: list[timedelta]) -> object:
    encoder.count(len(values), _DURATION)
    parts = (list(map(attrgetter(name), values)) for name in ("days", "seconds", "microseconds"))
    return [HEADS[Tag.TIMEDELTAS], *map(encoder.sequence, parts)]


def _timedeltas(decoder: Decoder, *nodes: object) -> list[timedelta]:
    parts = [decoder.typed(node, list) for node in nodes]
    decoder.count(len(parts[0]), _DURATION)
    if {*map(len, parts)} != {len(parts[0])} or len(parts) != 3 or {*map(type, chain(*parts))} > {int}:
        raise ValueError("columns that do not fit")
    return list(map(timedelta, *parts))


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
    if value.key not in _zones() or not _is_of_its_name(value):
        raise Refusal("is a ZoneInfo without the name of a known time zone; use a datetime.timezone")
    return [HEADS[Tag.ZONEINFO], value.key]


def _is_of_its_name(value: ZoneInfo) -> bool:
    """Return whether *value* was made by its name: one that was read from a file has any name that it was given."""
    if ZoneInfo(value.key) is value:
        return True
    try:
        # One that was read from a file says here that it can't be made again.
        value.__reduce__()
    except Exception as error:
        if is_interrupt(error):
            raise
        return False
    return True


def _zoneinfo(decoder: Decoder, name: object) -> ZoneInfo:
    # ZoneInfo would look for a file, and even a module, of that name.
    if name not in _zones():
        raise ValueError("no time zone of that name is known here")
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    datetime: _lower_datetime,
    date: _lower_date,
    time: _lower_time,
    timedelta: _lower_timedelta,
    timezone: _lower_timezone,
    ZoneInfo: _lower_zoneinfo,
}

COLUMNS: Final[dict[type, Column]] = {
    datetime: _lower_datetimes,
    date: _lower_dates,
    timedelta: _lower_timedeltas,
}

CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.DATETIME: _datetime,
    Tag.DATE: _date,
    Tag.TIME: _time,
    Tag.TIMEDELTA: _timedelta,
    Tag.TIMEZONE: _timezone,
    Tag.ZONEINFO: _zoneinfo,
    Tag.DATETIMES: _datetimes,
    Tag.DATES: _dates,
    Tag.TIMEDELTAS: _timedeltas,
}
