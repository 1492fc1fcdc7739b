"""The envelope: exactly one value, and room for all tags."""

import ormsgpack
import pytest

from mpccomm.codec.wire import HEADS, MAX_DEPTH, Tag, pack_envelope, unpack_envelope


def hook(tag: int, data: bytes) -> tuple[int, bytes]:
    return tag, data


@pytest.mark.parametrize("value", [None, 1, "text", b"bytes", [1, [2.5]], {"a": {"b": None}}])
def test_plain_values_are_plain_msgpack(value: object) -> None:
    assert pack_envelope(value) == ormsgpack.packb(value)
    assert unpack_envelope(ormsgpack.packb(value), hook) == value


def test_large_integers_are_leaves() -> None:
    assert pack_envelope(2**64 - 1) == ormsgpack.packb(2**64 - 1)
    assert unpack_envelope(pack_envelope(-(2**64)), hook) == (Tag.INT, (-(2**64)).to_bytes(9, "little", signed=True))


def test_nothing_else_is_left_to_ormsgpack() -> None:
    for value in ((1,), {1: 2}, {1, 2}, object(), [bytearray]):
        with pytest.raises(TypeError):
            pack_envelope(value)


@pytest.mark.parametrize("envelope", [b"", b"\x01\x02", b"\x92\x01", b"\x91", b"\xd9\x20abc", b"\xc4\x10" + bytes(15)])
def test_anything_but_one_value_is_refused(envelope: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_envelope(envelope, hook)


def test_any_buffer_is_an_envelope() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert unpack_envelope(kind(b"\x93\x01\x02\x03"), hook) == [1, 2, 3]


def test_tags_fit_msgpack_and_are_told_apart() -> None:
    assert set(HEADS) == set(Tag)
    assert len(set(map(int, Tag))) == len(Tag)
    assert all(0 <= tag < 128 for tag in Tag)


def test_depth_fits_what_ormsgpack_packs() -> None:
    node: object = 1
    for _ in range(MAX_DEPTH):
        node = [HEADS[Tag.TUPLE], [node]]
    assert unpack_envelope(pack_envelope(node), hook)
