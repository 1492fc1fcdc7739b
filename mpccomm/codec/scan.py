"""Looking through a msgpack value without building it, and through a value without packing it."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from mpccomm.codec.columns import BULK
from mpccomm.codec.plugins import ATOMS
from mpccomm.codec.wire import EXPANSION


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
    """Return how many elements *data* has, counted until there are more than *limit*; nothing else is checked.

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


_MAPS: Final = bytes([*range(0x80, 0x90), 0xDE, 0xDF])
_ARRAYS: Final = bytes([*range(0x90, 0xA0), 0xDC, 0xDD])
_EXTENSIONS: Final = bytes([0xC7, *range(0xD4, 0xD9)])
_LONG_EXTENSIONS: Final = bytes([0xC8, 0xC9])
_TEXTS: Final = bytes([*range(0xA1, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB])
_NUMBERS: Final = bytes([0xCA, 0xCB, *range(0xCD, 0xD4), *range(0xE0, 0xFB)])
_CALL: Final = 224
"""Bytes of memory that a call takes at most beyond its nodes and what its constructor accounts for."""
_EMPTY: Final = b"\xc7\x00"
"""How the extension begins that heads a call."""
_COSTS: Final = {_MAPS: 208, _ARRAYS: 72, _EXTENSIONS: 144, _LONG_EXTENSIONS: 144 + _CALL, _TEXTS: 88, _NUMBERS: 32}
"""Bytes of memory that such an element takes, beyond those of its own data and of what it contains."""
_COST: Final = [next((cost for firsts, cost in _COSTS.items() if first in firsts), 0) for first in range(256)]
_POINTER: Final = 16
"""Bytes that a place in a container takes: in the list that msgpack makes, and in the container that is made of it."""
_ENTRY: Final = 56
_FEW: Final = 5
"""Entries of a dict that cost nothing beyond the dict."""
_AT_MOST: Final = {**_COSTS, bytes(range(0x81 + _FEW, 0x90)): _ENTRY * (0x8F - 0x80 - _FEW)}
_LONG_MAPS: Final = (0xDE, 0xDF)
_CONTAINERS: Final = _MAPS + _ARRAYS + _EXTENSIONS + _LONG_EXTENSIONS
_CONTAINER: Final = 640
_OTHERWISE: Final = 54
"""Bytes of memory that anything else takes at most for each of its own, the shortest text being what takes most."""
_CHARACTER: Final = 4
"""Bytes in memory that a byte of text becomes at most: one that is beyond the others makes all as wide as itself."""


def _at_most(data: bytes | bytearray | memoryview) -> int:
    return EXPANSION * len(data)


def _at_a_glance(data: bytes | bytearray | memoryview) -> int:
    every = bytes(data)
    containers = len(every) - len(every.translate(None, _CONTAINERS))
    return (_OTHERWISE + _entry(every)) * len(every) + _CONTAINER * containers


def _entry(every: bytes) -> int:
    """Bytes of memory for each byte that is part of an entry of a map, if it has more of them than its first byte says."""
    return _ENTRY // 2 if any(map(every.count, _LONG_MAPS)) else 0


def _roughly(data: bytes | bytearray | memoryview) -> int:
    every = bytes(data)
    size = len(every)
    most = sum(cost * (size - len(every.translate(None, firsts))) for firsts, cost in _AT_MOST.items())
    return most + (_POINTER + _entry(every)) * size + _CALL * every.count(_EMPTY)


def _exactly(data: bytes | bytearray | memoryview) -> int:
    every = bytes(data)
    memory = 0
    position = 0
    end = len(every)
    steps = _STEPS
    costs = _COST
    while position < end:
        first = every[position]
        skip, width, counts_bytes = steps[first]
        memory += costs[first] + _POINTER
        if width:
            size = int.from_bytes(every[position + 1 : position + 1 + width], "big")
            if counts_bytes:
                skip += size
                memory += _CHARACTER * size if size or first != 0xC7 else _CALL
            elif first >= 0xDE:
                memory += _ENTRY * (size - _FEW) if size > _FEW else 0 if size else _EMPTY_MAP
        elif 0x80 <= first < 0x90:
            if first > 0x80 + _FEW:
                memory += _ENTRY * (first - 0x80 - _FEW)
            elif first == 0x80:
                memory += _EMPTY_MAP
        elif 0xA0 <= first < 0xC0:
            memory += _CHARACTER * (skip - 1)
        position += skip + width
    return memory


_EMPTY_MAP: Final = 64 - _COST[0x80]

Estimate: TypeAlias = Callable[[bytes | bytearray | memoryview], int]
ESTIMATES: Final[tuple[Estimate, ...]] = (_at_most, _at_a_glance, _roughly, _exactly)
"""How many bytes of memory the objects in a msgpack value take at most, with what they stand for: each asks for more time
than the one before it, and mostly says less. The last looks at the elements one by one; the others, at all bytes at once."""


def count_array_keys(data: bytes | bytearray | memoryview, limit: int) -> int:
    """Return how many keys of maps are arrays, counted until there are more than *limit*; nothing else is checked.

    Others choose the hashes of arrays as they like, unlike those of all else that may be a key.
    """
    count = 0
    position = 0
    end = len(data)
    steps = _STEPS
    open_maps: list[bool] = []
    left: list[int] = []
    is_map, rest = False, 1
    while position < end and count <= limit:
        while not rest:
            if not left:
                return count
            is_map, rest = open_maps.pop(), left.pop()
        first = data[position]
        skip, width, counts_bytes = steps[first]
        size = int.from_bytes(data[position + 1 : position + 1 + width], "big") if width else 0
        is_key = is_map and not rest & 1
        rest -= 1
        position += skip + width + (size if counts_bytes else 0)
        if 0x80 <= first < 0xA0 or 0xDC <= first <= 0xDF:
            open_maps.append(is_map)
            left.append(rest)
            is_map = first < 0x90 or first >= 0xDE
            rest = (size or (first & 15 if first < 0xA0 else 0)) << is_map
            count += is_key and not is_map
    return count


def _of_mapping(mapping: Any) -> Iterator[object]:
    return chain(mapping, mapping.values())


class Holds(NamedTuple):
    """What a container of some type holds, and how many nodes of an envelope it takes beyond its own and theirs."""

    elements: Callable[[Any], Iterable[object]]
    nodes: int


ELEMENTS: Final[dict[type, Holds]] = {
    list: Holds(iter, 0),
    dict: Holds(_of_mapping, 0),
    **dict.fromkeys((tuple, set, frozenset), Holds(iter, 2)),
    **dict.fromkeys((OrderedDict, Counter, defaultdict), Holds(_of_mapping, 3)),
    deque: Holds(iter, 3),
}
"""The containers; `mpccomm.codec.classes` adds the dataclasses and namedtuples of the user, plug-ins what objects are in."""

Payloads: TypeAlias = Mapping[int, tuple[object, object, int]]
"""What objects have become, by their identity: the object, the value that it became, and the nodes around that."""
_NOTHING: Final[Payloads] = {}


def count_written_out(
    value: object,
    limit: int,
    payloads: Payloads = _NOTHING,
    steps: int | None = None,
    ask: Callable[[object], bool] = lambda item: False,
) -> int | None:
    """Return how many elements the containers in *value* have, one that occurs several times counted each time.

    Counted until there are more than *limit*; None if one contains itself. Takes a step for each that is there once;
    gives up after *steps* of them, and returns 0. *payloads* are what others than containers have become so far; *ask* is
    called for each that is not among them, and returns whether it is now.
    """
    visit = _Visit(payloads, ask)
    if not visit.holds(value):
        return 0
    left = limit + 1 if steps is None else min(steps, limit + 1)
    counts: dict[int, _Count | None] = {}
    stack = [visit.open(value)]
    while stack:
        container, size, extra, inner, rest = stack[-1]
        counts.setdefault(id(container), None)
        found = next((item for item in rest if id(item) not in counts), None)
        if found is not None:
            left -= 1 + len(inner)
            if left < 0:
                return 0
            stack.append(visit.open(found))
            continue
        stack.pop()
        known = list(map(counts.__getitem__, map(id, inner)))
        elements, nodes = size, size if size < BULK else 0
        for count in known:
            if count is None:
                return None
            elements += count.elements
            if size < BULK:
                nodes += count.nodes
        if elements > limit:
            return elements
        counts[id(container)] = _Count(container, elements, nodes + extra)
    count = counts[id(value)]
    return None if count is None else max(count.elements, count.nodes)


class _Count(NamedTuple):
    """What a container comes to; referred to, so that no other gets its place in memory meanwhile.

    *nodes* are those that it takes at least in an envelope: where a container is long enough for a column, none.
    """

    container: object
    elements: int
    nodes: int


class _Visit:
    """The containers among objects, and what is in them."""

    def __init__(self, payloads: Payloads, ask: Callable[[object], bool]) -> None:
        self._payloads = payloads
        self._ask = ask

    def holds(self, item: object) -> bool:
        kind = type(item)
        return kind not in ATOMS and (kind in ELEMENTS or id(item) in self._payloads or self._ask(item))

    def open(self, container: object) -> tuple[object, int, int, list[object], Iterator[object]]:
        """Return a container, how many elements it has, its nodes beyond these, and those that are containers, twice."""
        became = self._payloads.get(id(container))
        if became is not None:
            elements: Any = became[1:2]
            nodes = became[2]
        else:
            found, nodes = ELEMENTS[type(container)]
            # What a property makes anew each time is asked for once.
            elements = container if found is iter else list(found(container))
        plain = ATOMS.issuperset(map(type, elements))
        inner = [] if plain else [item for item in elements if self.holds(item)]
        return container, len(elements), nodes, inner, iter(inner)
