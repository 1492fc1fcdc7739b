"""Segments in one string of bytes."""

import pytest

from mpccomm.codec.archive import MAGIC, join, split
from mpccomm.errors import DecodingError


@pytest.mark.parametrize("segments", [[b""], [b"abc"], [b"a", b"", b"c" * 5000]])
def test_joins_and_splits(segments: list[bytes]) -> None:
    joined = join(segments)
    assert [bytes(segment) for segment in split(joined)] == segments
    assert all(segment.readonly for segment in split(bytearray(joined)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        MAGIC,
        MAGIC + bytes(3),
        MAGIC + bytes(4),
        MAGIC[:-1] + b"\x02" + join([b"abc"])[5:],
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + b"\x01\0\0\0" + b"\xff" * 8,
        MAGIC + b"\x02\0\0\0" + b"\xff" * 16,
        join([b"abc"])[:-1],
        join([b"abc"]) + b"x",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(DecodingError):
        split(data)


def test_is_never_taken_for_msgpack() -> None:
    # 0xc1 is the one first byte that msgpack does not use.
    assert join([b"\x01"])[0] == 0xC1
