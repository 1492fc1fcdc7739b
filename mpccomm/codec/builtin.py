"""The types of the standard library beyond those that msgpack has."""

from __future__ import annotations

import math
import numbers
import re
import sys
from array import array, typecodes
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from operator import attrgetter, countOf
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID

from mpccomm.codec import keys
from mpccomm.codec.abc import Call, Column, Decoder, Encoder, Lower, Refusal
from mpccomm.codec.wire import HEADS, Tag

FRACTION_BITS: Final = 1 << 16
"""Largest numerator and denominator of a Fraction; checking that larger ones are coprime takes too long."""
_DECIMAL: Final = re.compile(r"-?(\d+(\.\d+)?(E[+-]?\d{1,20})?|Infinity|s?NaN\d*)", re.ASCII)
_DEQUE: Final = 1024
_DEQUE_ELEMENT: Final = 16
_COMPLEX: Final = 48
_DECIMAL_NUMBER: Final = 128
_PLATFORM_NUMBER: Final = 48
_NAME: Final = 1024
_COPY: Final = 256
_COPIED_ENTRY: Final = 160
"""Bytes of memory that such an object takes, with the place that it is in, beyond what it is made of."""
_PLATFORM_CODES: Final = "lL"
"""Of C's types, long has 4 bytes on one platform and 8 on another."""


# Containers


def _lower_set(tag: Tag) -> Lower:
    def lower(encoder: Encoder, value: set[object] | frozenset[object]) -> object:
        encoder.charge(keys.MEMORY * len(value))
        try:
            node = encoder.sequence(keys.distinct(list(value)), value)
        except Refusal as refusal:
            if refusal.steps:
                # The elements of a set have no index.
                refusal.steps[-1] = ".pop()"
            raise
        return [HEADS[tag], node]

    return lower


def _received_set(decoder: Decoder, node: object) -> set[object]:
    values = decoder.typed(node, list)
    decoder.charge(keys.MEMORY * len(values))
    result = keys.filled(set[object](), values, keys.received(values))
    if len(result) != len(values):
        raise ValueError("an element twice")
    return result


def _frozenset(decoder: Decoder, node: object) -> frozenset[object]:
    return frozenset(_received_set(decoder, node))


def _dict(decoder: Decoder, key_node: object, value_node: object) -> dict[object, object]:
    names = decoder.typed(key_node, list)
    decoder.charge(keys.MEMORY * len(names))
    received = keys.received(names)
    result: dict[object, object] = {}
    keys.filled(result, names, zip(received, decoder.typed(value_node, list), strict=True))
    if len(result) != len(received):
        raise ValueError("a key twice")
    return result


def _lower_mapping(tag: Tag) -> Lower:
    def lower(encoder: Encoder, value: dict[object, object]) -> object:
        encoder.charge(_COPY + _COPIED_ENTRY * len(value))
        return [HEADS[tag], *encoder.pairs(value)]

    return lower


def _ordered_dict(decoder: Decoder, key_node: object, value_node: object) -> OrderedDict[object, object]:
    return OrderedDict(_copied(decoder, key_node, value_node))


def _counter(decoder: Decoder, key_node: object, value_node: object) -> Counter[object]:
    return Counter(_copied(decoder, key_node, value_node))


def _copied(decoder: Decoder, key_node: object, value_node: object) -> Any:
    plain = _dict(decoder, key_node, value_node)
    decoder.charge(_COPY + _COPIED_ENTRY * len(plain))
    return plain


def _lower_default_dict(encoder: Encoder, value: defaultdict[object, object]) -> object:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", None)
    if factory is not None and (type(name) is not str or _FACTORIES.get(name) is not factory):
        raise Refusal("is a defaultdict whose factory is no builtin type; send dict(value)")
    encoder.charge(_COPY + _COPIED_ENTRY * len(value))
    return [HEADS[Tag.DEFAULT_DICT], name, *encoder.pairs(value)]


def _default_dict(decoder: Decoder, name: Any, *nodes: object) -> defaultdict[object, object]:
    return defaultdict(_FACTORIES[name], _copied(decoder, *nodes))


_FACTORIES: Final[dict[str | None, type[Any] | None]] = {None: None} | {
    kind.__name__: kind
    for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
"""What a defaultdict may make of what it does not have."""


def _lower_deque(encoder: Encoder, value: deque[object]) -> object:
    encoder.charge(_DEQUE + _DEQUE_ELEMENT * len(value))
    return [HEADS[Tag.DEQUE], encoder.sequence(list(value), value), value.maxlen]


def _deque(decoder: Decoder, node: object, maxlen: object) -> deque[object]:
    values = decoder.typed(node, list)
    if maxlen is not None and (type(maxlen) is not int or maxlen < len(values)):
        raise ValueError("a deque longer than its maximum")
    decoder.charge(_DEQUE + _DEQUE_ELEMENT * len(values))
    return deque(values, maxlen)


def _tuple(decoder: Decoder, node: object) -> tuple[object, ...]:
    return tuple(decoder.typed(node, list))


# Buffers and numbers


def _lower_bytearray(encoder: Encoder, value: bytearray) -> object:
    return [HEADS[Tag.BYTEARRAY], encoder.buffer(memoryview(value), mutable=True)]


def _bytearray(decoder: Decoder, node: object) -> bytearray:
    data = decoder.buffer(node)
    return data if type(data) is bytearray else bytearray(data)


def _lower_memoryview(encoder: Encoder, value: memoryview) -> object:
    if value.c_contiguous and value.nbytes:
        return encoder.buffer(value.cast("B"), mutable=True)
    return encoder.buffer(value.tobytes(), mutable=False)


def _lower_array(encoder: Encoder, value: array[Any]) -> object:
    if value.typecode in _TEXT_CODES:
        return [HEADS[Tag.ARRAY], value.typecode, 0, value.tounicode()]
    if value.typecode in _PLATFORM_CODES:
        encoder.count(len(value), _PLATFORM_NUMBER)
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    return [HEADS[Tag.ARRAY], value.typecode, value.itemsize, encoder.buffer(memoryview(value).cast("B"), mutable=True)]


def _array(decoder: Decoder, typecode: object, itemsize: object, node: object) -> array[Any]:
    if type(typecode) is not str or typecode not in typecodes:
        raise ValueError("not a typecode")
    if typecode in _TEXT_CODES:
        return array(typecode, decoder.typed(node, str))
    data = decoder.buffer(node)
    kind = "fd" if typecode in "fd" else "bhilq" if typecode.islower() else "BHILQ"
    sent: array[Any] = array(next(code for code in kind if array(code).itemsize == itemsize))
    sent.frombytes(data)
    if sys.byteorder == "big":
        sent.byteswap()
    if sent.itemsize == array(typecode).itemsize:
        return array(typecode, sent.tobytes())
    decoder.count(len(sent), _PLATFORM_NUMBER)
    return array(typecode, sent.tolist())


_TEXT_CODES: Final = "uw"


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _lower_complex(encoder: Encoder, value: complex) -> object:
    return [HEADS[Tag.COMPLEX], value.real, value.imag]


def _complex(decoder: Decoder, real: object, imag: object) -> complex:
    return complex(decoder.typed(real, float), decoder.typed(imag, float))


def _lower_complexes(encoder: Encoder, values: list[complex]) -> object:
    encoder.count(len(values), _COMPLEX)
    parts = (list(map(attrgetter(name), values)) for name in ("real", "imag"))
    return [HEADS[Tag.COMPLEXES], *map(encoder.sequence, parts)]


def _complexes(decoder: Decoder, real_node: object, imag_node: object) -> list[complex]:
    parts = [decoder.typed(node, list) for node in (real_node, imag_node)]
    decoder.count(len(parts[0]), _COMPLEX)
    if any(countOf(map(type, part), float) != len(parts[0]) for part in parts):
        raise TypeError("a part that is no float")
    return list(map(complex, *parts))


def _lower_decimals(encoder: Encoder, values: list[Decimal]) -> object:
    encoder.count(len(values), _DECIMAL_NUMBER)
    return [HEADS[Tag.DECIMALS], encoder.sequence(list(map(str, values)))]


def _decimals(decoder: Decoder, node: object) -> list[Decimal]:
    texts = decoder.typed(node, list)
    decoder.count(len(texts), _DECIMAL_NUMBER)
    if countOf(map(type, texts), str) != len(texts):
        raise TypeError("a decimal that is no text")
    values = list(map(Decimal, texts))
    # Where the user's context does not trap it, what is no number is a NaN.
    if any(map(Decimal.is_nan, values)) and not all(map(_DECIMAL.fullmatch, texts)):
        raise ValueError("not a decimal")
    return values


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
    start, stop, step = integers(decoder, nodes, 3)
    return range(start, stop, step)


def integers(decoder: Decoder, nodes: tuple[object, ...], count: int) -> list[int]:
    """Return the values of *nodes*, which have to be as many integers as asked for."""
    if len(nodes) != count:
        raise TypeError(f"{len(nodes)} integers in place of {count}")
    return [decoder.typed(node, int) for node in nodes]


def _lower_uuid(encoder: Encoder, value: UUID) -> object:
    return [HEADS[Tag.UUID], value.bytes, value.is_safe.value]


def _uuid(decoder: Decoder, data: object, is_safe: object) -> UUID:
    return UUID(bytes=decoder.typed(data, bytes), is_safe=SafeUUID(is_safe))


# Names of files and machines


def _lower_by_text(tag: Tag, kinds: tuple[type, ...]) -> Lower:
    numbers = {kind: number for number, kind in enumerate(kinds)}

    def lower(encoder: Encoder, value: object) -> object:
        encoder.charge(_NAME)
        kind: Any = type(value)
        text = str(value)
        # Some paths of Windows that name nothing are read as others.
        if kind(text) != value:
            raise Refusal(f"is a {kind.__name__} whose text is that of another; send str(value)")
        return [HEADS[tag], numbers[kind], text]

    return lower


def _by_text(kinds: tuple[type, ...]) -> Call:
    def build(decoder: Decoder, number: Any, node: object) -> object:
        kind: Any = dict(enumerate(kinds))[number]
        decoder.charge(_NAME)
        return kind(decoder.typed(node, str))

    return build


_PATHS: Final = (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
"""The last two arrive as they are where the other system is of the same kind, and are refused elsewhere."""
_IP: Final = (IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    bytearray: _lower_bytearray,
    complex: _lower_complex,
    set: _lower_set(Tag.SET),
    frozenset: _lower_set(Tag.FROZENSET),
    OrderedDict: _lower_mapping(Tag.ORDERED_DICT),
    Counter: _lower_mapping(Tag.COUNTER),
    deque: _lower_deque,
    Decimal: _lower_decimal,
    Fraction: _lower_fraction,
    UUID: _lower_uuid,
    range: _lower_range,
    defaultdict: _lower_default_dict,
    memoryview: _lower_memoryview,
    array: _lower_array,
    **dict.fromkeys(_PATHS, _lower_by_text(Tag.PATH, _PATHS)),
    **dict.fromkeys(_IP, _lower_by_text(Tag.IP_ADDRESS, _IP)),
}

COLUMNS: Final[dict[type, Column]] = {
    complex: _lower_complexes,
    Decimal: _lower_decimals,
}

CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.TUPLE: _tuple,
    Tag.DICT: _dict,
    Tag.SET: _received_set,
    Tag.FROZENSET: _frozenset,
    Tag.BYTEARRAY: _bytearray,
    Tag.COMPLEX: _complex,
    Tag.COMPLEXES: _complexes,
    Tag.DEFAULT_DICT: _default_dict,
    Tag.ARRAY: _array,
    Tag.PATH: _by_text(_PATHS),
    Tag.IP_ADDRESS: _by_text(_IP),
    Tag.DECIMALS: _decimals,
    Tag.DECIMAL: _decimal,
    Tag.FRACTION: _fraction,
    Tag.UUID: _uuid,
    Tag.RANGE: _range,
    Tag.ORDERED_DICT: _ordered_dict,
    Tag.DEQUE: _deque,
    Tag.COUNTER: _counter,
}

LEAVES: Final[dict[int, Callable[[bytes], object]]] = {Tag.INT: _int, Tag.TEXT: _text}
