"""Values to bytes and back as somebody would write it by hand who knows what is in them: for contenders that carry bytes."""

from __future__ import annotations

from array import array
from typing import Any

WIDTH = 256
"""Bytes of an integer of 2048 bits."""


def pack(value: Any) -> tuple[bytes, Any]:
    """One byte that names the kind, and the buffer."""
    if isinstance(value, bytes):
        return b"b", value
    if isinstance(value, list):
        if isinstance(value[0], float):
            return b"f", array("d", value).tobytes()
        kind = b"i" if isinstance(value[0], int) else b"z"
        return kind, b"".join([int(number).to_bytes(WIDTH, "big") for number in value])
    return b"n", memoryview(value).cast("B")


def unpack(kind: bytes, body: Any) -> Any:
    """The value; an array is a view of the buffer."""
    if kind == b"b":
        return body
    if kind == b"f":
        return array("d", bytes(body)).tolist()
    if kind == b"n":
        import numpy

        return numpy.frombuffer(body, dtype=numpy.float64)
    view = memoryview(body)
    numbers = [int.from_bytes(view[at : at + WIDTH], "big") for at in range(0, len(view), WIDTH)]
    if kind == b"i":
        return numbers
    import gmpy2

    return list(map(gmpy2.mpz, numbers))
