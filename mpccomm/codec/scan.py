"""Counting the elements of a msgpack value without building it."""

from __future__ import annotations

from typing import Final


def _steps() -> list[tuple[int, int, bool]]:
    """For each first byte: bytes to skip, width of the length that follows, and whether that many bytes follow."""
    steps = [(1, 0, False)] * 256
    for size in range(32):
        steps[0xA0 + size] = (1 + size, 0, False)
    for first, extra in ((0xC4, 0), (0xC7, 1), (0xD9, 0)):
        for exponent in range(3):
            steps[first + exponent] = (1 + extra, 1 << exponent, True)
    for first in (0xDC, 0xDE):
        for exponent in (1, 2):
            steps[first + exponent - 1] = (1, 1 << exponent, False)
    sizes = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
    sizes |= {0xD4 + exponent: 1 + (1 << exponent) for exponent in range(5)}
    for first, size in sizes.items():
        steps[first] = (1 + size, 0, False)
    return steps


_STEPS: Final = _steps()


def count_elements(data: bytes | bytearray | memoryview, limit: int) -> int:
    """How many elements *data* has, counted until there are more than *limit*; nothing else is checked.

    Every element takes at least a byte, so that this is needed only for what has more bytes than elements allowed.
    """
    count = 0
    position = 0
    end = len(data)
    steps = _STEPS
    while position < end and count <= limit:
        skip, width, counts_bytes = steps[data[position]]
        count += 1
        if counts_bytes:
            skip += int.from_bytes(data[position + 1 : position + 1 + width], "big")
        position += skip + width
    return count
