"""bitarray and frozenbitarray, in either bit order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bitarray import bitarray, frozenbitarray

from mpccomm.codec.abc import Decoder, Encoder, Lower
from mpccomm.codec.wire import HEADS, Tag


def _is_little(value: Any) -> bool:
    endian = value.endian
    # Before bitarray 3.4 it was a method.
    return bool((endian() if callable(endian) else endian) == "little")


def _lower(tag: Tag) -> Callable[[Encoder, Any], object]:
    def lower(encoder: Encoder, value: bitarray) -> object:
        data = memoryview(value.tobytes())
        return [HEADS[tag], _is_little(value), len(value), encoder.buffer(data, mutable=False)]

    return lower


def _bitarray(decoder: Decoder, little: object, length: object, node: object) -> bitarray:
    data: Any = decoder.buffer(node)
    if type(little) is not bool or type(length) is not int or length < 0 or (length + 7) >> 3 != len(data):
        raise ValueError("bits that do not fit their number")
    bits = bitarray(endian="little" if little else "big")
    bits.frombytes(data)
    del bits[length:]
    return bits


def _frozenbitarray(decoder: Decoder, little: object, length: object, node: object) -> frozenbitarray:
    return frozenbitarray(_bitarray(decoder, little, length, node))


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    bitarray: _lower(Tag.BITARRAY),
    frozenbitarray: _lower(Tag.FROZENBITARRAY),
}
COLUMNS: Final[dict[type, Callable[[Encoder, Any], object | None]]] = {}
CALLS: Final[dict[int, Callable[..., object]]] = {Tag.BITARRAY: _bitarray, Tag.FROZENBITARRAY: _frozenbitarray}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {}


def find(kind: type) -> Lower | None:
    """Nothing beyond the tables."""
    return None
