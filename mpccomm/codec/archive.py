"""Segments as one string of bytes, for values that are stored rather than sent."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from mpccomm.errors import DecodingError

MAGIC: Final = b"\xc1mpc\x01"
"""0xc1 is the one byte that no msgpack value starts with; the last byte is the version."""
_COUNT: Final = struct.Struct("<I")


def join(segments: Sequence[bytes | memoryview]) -> bytes:
    """One string of bytes that holds *segments*."""
    sizes = struct.pack(f"<{len(segments)}Q", *map(len, segments))
    return b"".join((MAGIC, _COUNT.pack(len(segments)), sizes, *segments))


def is_archive(data: bytes | bytearray | memoryview) -> bool:
    """Return whether this was made by `join`, of this version or another."""
    return bytes(data[:1]) == MAGIC[:1]


def split(data: bytes | bytearray | memoryview) -> list[memoryview]:
    """Return the segments in *data*, without a copy, and read-only."""
    view = memoryview(data).cast("B").toreadonly()
    start = len(MAGIC) + _COUNT.size
    if bytes(view[: len(MAGIC)]) != MAGIC or len(view) < start:
        raise DecodingError("these bytes were not made by pack of this version")
    (count,) = _COUNT.unpack_from(view, len(MAGIC))
    first = start + 8 * count
    if not count or first > len(view):
        raise DecodingError("the packed bytes are incomplete")
    ends = list(accumulate(struct.unpack_from(f"<{count}Q", view, start), initial=first))
    if ends[-1] != len(view):
        raise DecodingError("the packed bytes are incomplete, or followed by something else")
    return [view[begin:end] for begin, end in pairwise(ends)]
