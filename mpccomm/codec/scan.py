"""Counting the elements of a msgpack value without building it, and those of a value without packing it."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final


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


_SEQUENCES: Final = frozenset({list, tuple, set, frozenset, deque})
_MAPPINGS: Final = frozenset({dict, OrderedDict, Counter, defaultdict})


def count_written_out(value: object, limit: int) -> int | None:
    """Return how many elements the containers in *value* have, one that occurs several times counted each time.

    Counted until there are more than *limit*; None if one contains itself. Takes a step for each that is there once.
    """
    counts: dict[int, int | None] = {}
    stack = [(value, _elements(value))]
    while stack:
        container, elements = stack[-1]
        counts.setdefault(id(container), None)
        inner = next((item for item in elements if type(item) in _CONTAINERS and id(item) not in counts), None)
        if inner is not None:
            stack.append((inner, _elements(inner)))
            continue
        stack.pop()
        total = 0
        for item in _elements(container):
            count = counts[id(item)] if type(item) in _CONTAINERS else 0
            if count is None:
                return None
            total += 1 + count
        if total > limit:
            return total
        counts[id(container)] = total
    return counts[id(value)]


_CONTAINERS: Final = _SEQUENCES | _MAPPINGS


def _elements(container: Any) -> Iterator[object]:
    if type(container) in _MAPPINGS:
        return chain(container, container.values())
    return iter(container if type(container) in _SEQUENCES else ())
