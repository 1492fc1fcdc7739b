"""Bits, in either order."""

from typing import Any

import pytest
from bitarray import bitarray, decodetree

from mpccomm.codec import encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import endian_of
from tests.codec.raw import call, decode_node, round_trip


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.BITARRAY, True, 9, b"x"),
        call(Tag.BITARRAY, True, 0, b"x"),
        call(Tag.BITARRAY, True, -1, b""),
        call(Tag.BITARRAY, True, 2**62, b"x"),
        call(Tag.BITARRAY, 1, 8, b"x"),
        call(Tag.BITARRAY, True, 8.0, b"x"),
        call(Tag.BITARRAY, True, 8, "x"),
        call(Tag.FROZENBITARRAY, True, 9, b"x"),
    ],
    ids=lambda node: repr(node[1:]),
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_every_length() -> None:
    for endian in ("little", "big"):
        for length in range(70):
            bits = bitarray("10" * 35, endian=endian)[:length]
            received = round_trip(bits)
            assert (received, endian_of(received)) == (bits, endian)


def test_received_bits_can_be_changed() -> None:
    for length in (8, 50_000):
        received = round_trip(bitarray(length))
        received.append(1)
        received[0] = 1
        assert len(received) == length + 1


def test_bits_beyond_the_end_are_not_sent() -> None:
    bits = bitarray("11111111", endian="little")
    bits.pop()
    assert encode(bits).segments[0][-1:] == b"\x7f"


def test_other_types_of_the_library_are_refused() -> None:
    with pytest.raises(EncodingError):
        encode(decodetree({"a": bitarray("0"), "b": bitarray("1")}))
