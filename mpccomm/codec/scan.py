"""Counting the elements of a msgpack value without building it."""

from __future__ import annotations

from typing import Final

Step = tuple[int, int, int]


def _steps() -> list[Step]:
    """For each first byte: bytes to skip, width of the length that follows, elements per length (0: it counts bytes)."""
    steps: list[Step] = [(1, 0, 0)] * 256
    for byte in range(32):
        steps[0xA0 + byte] = (1 + byte, 0, 0)
    variable = {0xC4: (1, 0), 0xC7: (1, 0), 0xD9: (1, 0), 0xDC: (2, 1), 0xDE: (2, 2)}
    for first, (width, elements) in variable.items():
        for step in range(2 if elements else 3):
            extra = 1 if first == 0xC7 else 0
            steps[first + step] = (1 + extra, width << step, elements)
    fixed = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    fixed |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
    for byte, size in fixed.items():
        steps[byte] = (size, 0, 0)
    return steps


_STEPS: Final = _steps()


def count_elements(data: bytes | bytearray | memoryview) -> int:
    """How many elements *data* has (the bytes are not checked otherwise).

    Every element takes at least a byte, so that this is needed only for what has more bytes than elements allowed.
    """
    count = 0
    position = 0
    end = len(data)
    steps = _STEPS
    while position < end:
        skip, width, per_length = steps[data[position]]
        count += 1
        if width:
            length = int.from_bytes(data[position + 1 : position + 1 + width], "big")
            position += width
            if not per_length:
                position += length
        position += skip
    return count
