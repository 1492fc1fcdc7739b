"""The envelope: exactly one value, and room for all tags."""

import ormsgpack
import pytest

from mpccomm.codec.wire import HEADS, Extension, Tag, pack_envelope, unpack_envelope


@pytest.mark.parametrize("value", [None, 1, "text", b"bytes", [1, [2.5]], {"a": {"b": None}}, 2**64 - 1, -(2**63)])
def test_plain_values_are_plain_msgpack(value: object) -> None:
    assert pack_envelope(value) == ormsgpack.packb(value)
    assert unpack_envelope(ormsgpack.packb(value)) == (value, False)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 70_000])
def test_every_extension_is_noticed(size: int) -> None:
    extension = ormsgpack.Ext(5, bytes(size))
    assert unpack_envelope(pack_envelope([extension])) == ([Extension(5, bytes(size))], True)


def test_a_look_at_the_bytes_tells_where_there_is_no_extension() -> None:
    begin = {ormsgpack.packb(ormsgpack.Ext(5, bytes(size)))[0] for size in (*range(18), 256, 70_000)}
    assert len(begin) == 8
    for byte in range(256):
        for at in (0, 7, 99):
            value = [bytes(at) + bytes([byte]) + bytes(99 - at)]
            assert unpack_envelope(pack_envelope(value)) == (value, byte in begin)


@pytest.mark.parametrize("value", [1.5, "\u01c0\u0530", b"\xc7\xd8", [0xC8, -40]])
def test_what_looks_like_an_extension_is_none(value: object) -> None:
    assert unpack_envelope(pack_envelope(value))[0] == value


def test_nothing_is_left_to_a_hook() -> None:
    for value in ((1,), {1: 2}, {1, 2}, object(), [bytearray], 2**64, -(2**63) - 1, "\ud800"):
        with pytest.raises(TypeError):
            pack_envelope(value)


@pytest.mark.parametrize("envelope", [b"", b"\x01\x02", b"\x92\x01", b"\x91", b"\xd9\x20abc", b"\xc4\x10" + bytes(15)])
def test_anything_but_one_value_is_refused(envelope: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_envelope(envelope)


def test_any_buffer_is_an_envelope() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert unpack_envelope(kind(b"\x93\x01\x02\x03")) == ([1, 2, 3], False)


def test_tags_fit_msgpack_and_are_told_apart() -> None:
    assert set(HEADS) == set(Tag)
    assert len(set(map(int, Tag))) == len(Tag)
    assert all(0 <= tag < 128 for tag in Tag)
