"""Long lists of one kind as columns: no Python call per element where the standard library has a better way.

A list of floats or of small integers is an array of machine numbers; a list of big integers is one block of bytes, of
one width or with a width for each; a list of equally long tuples or lists is a column for each position, and a list of
dicts with the same keys is a column for each key. Where there are a few kinds or shapes in a list, each is a list of
its own.
"""

from __future__ import annotations

import json
import sys
from array import array
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from io import BytesIO
from itertools import accumulate, chain, count, cycle, islice, repeat
from operator import countOf, is_, itemgetter, rshift
from struct import iter_unpack
from typing import Any, Final

from mpccomm.codec import plugins
from mpccomm.codec.abc import Column, Decoder, Encoder, Refusal
from mpccomm.codec.wire import HEADS, INLINE, Tag
from mpccomm.memory import Buffer

BULK: Final = 32
"""Shorter lists are not worth a column."""
_MOST_COLUMNS: Final = 16
_MOST_GROUPS: Final = 16
_SLOT: Final = 10
"""Memory, in bytes, that an element takes in a list whose length is not known before, beyond the element itself."""
_NUMBER: Final = 48
"""The same for a machine number, the element included."""
_BIG: Final = 128
"""The same for an integer of any size, beyond its bytes."""
_MIXED: Final = 96
"""The same for what is needed meanwhile, where each has a width of its own."""
_TUPLE: Final = 56 + _SLOT
_LIST: Final = 80 + _SLOT
_INT_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_MACHINE_BITS: Final = 6
"""Integers of fewer bits than two to the power of this are machine numbers."""
_SWAP: Final = sys.byteorder == "big"


def _little_endian(numbers: array[Any]) -> array[Any]:
    if _SWAP:
        numbers.byteswap()
    return numbers


def _lower_floats(encoder: Encoder, values: list[float]) -> object:
    encoder.count(len(values), _NUMBER)
    data = memoryview(_little_endian(array("d", values))).cast("B")
    return [HEADS[Tag.FLOATS], encoder.buffer(data, mutable=False)]


def _floats(decoder: Decoder, node: object) -> list[float]:
    return _machine_numbers(decoder, node, "d")


def _machine_numbers(decoder: Decoder, node: object, code: str) -> list[Any]:
    data = decoder.buffer(node)
    numbers = array(code)
    count, rest = divmod(len(data), numbers.itemsize)
    if rest:
        raise ValueError("a column of broken length")
    decoder.count(count, _NUMBER)
    numbers.frombytes(data)
    return _little_endian(numbers).tolist()


def _lower_ints(encoder: Encoder, values: list[int]) -> object:
    # A number that is too large is met early as a rule, so trying costs less than looking for the largest; late in what rises.
    last = values[-1]
    least = (~last if last < 0 else last).bit_length()
    for width, code in _INT_CODES.items():
        if least >= 8 * width:
            continue
        try:
            data = memoryview(_little_endian(array(code, values))).cast("B")
        except OverflowError:
            continue
        encoder.count(len(values), _NUMBER)
        return [HEADS[Tag.INTS], width, encoder.buffer(data, mutable=False)]
    return lower_big(encoder, values, Tag.BIG_INTS, Tag.MIXED_INTS)


def _ints(decoder: Decoder, width: object, node: object) -> list[int]:
    return _machine_numbers(decoder, node, _INT_CODES[width])  # type: ignore[index]


def in_a_row(chunks: Iterable[Buffer], size: int) -> bytes:
    """Return *chunks*, of *size* bytes in all, as one string of bytes.

    ``bytes.join`` would first have all of them in memory, each on its own.
    """
    buffer = BytesIO()
    # All of its memory at once: as it grows, it would move from place to place.
    buffer.seek(size - 1)
    buffer.write(b"\0")
    buffer.seek(0)
    buffer.writelines(chunks)
    return buffer.getvalue()


def join_unsigned(values: list[Any], width: int, kind: Any = int) -> bytes:
    """Return the bytes of integers that are not negative, *width* for each."""
    return in_a_row(map(kind.to_bytes, values, repeat(width), repeat("little")), width * len(values))


def split_unsigned(data: Buffer, width: int, kind: Any = int) -> list[Any]:
    """Return the integers in *data*, of *width* bytes each."""
    chunks = chain.from_iterable(iter_unpack(f"{width}s", data))
    return list(map(kind.from_bytes, chunks, repeat("little")))


def lower_big(
    encoder: Encoder,
    values: list[Any],
    uniform: Tag,
    mixed: Tag,
    kind: Any = int,
    join: Callable[[list[Any], int], bytes] = join_unsigned,
) -> object:
    """A column of integers of any size. *kind* is int, or something with the same methods; *join* as `join_unsigned`."""
    number = len(values)
    least, greatest = min(values), max(values)
    signed = least < 0
    widest = greatest.bit_length()
    if signed:
        widest = max(widest, least.bit_length())
    width = (widest >> 3) + 1 if signed else max(1, (widest + 7) >> 3)
    # Where the least of them has nearly as many bits as the greatest, there is no need to look at each.
    uniform_enough = not signed and width * number <= _with_padding(number * least.bit_length())
    if not uniform_enough:
        bits = list(map(kind.bit_length, values))
        uniform_enough = width * number <= _with_padding(sum(bits))
        if not uniform_enough:
            # Where some are much larger than others, those of about one size are worth a column of their own.
            groups = lower_groups(encoder, values, map(rshift, bits, repeat(_MACHINE_BITS)))
            if groups is not None:
                return groups
    encoder.count(number, _BIG)
    to_signed = partial(kind.to_bytes, byteorder="little", signed=True)
    if uniform_enough:
        data = in_a_row(map(to_signed, values, repeat(width)), width * number) if signed else join(values, width)
        return [HEADS[uniform], width, signed, encoder.buffer(data, mutable=False)]
    widths = [(size >> 3) + 1 for size in bits]
    encoder.charge(_MIXED * number)
    data = in_a_row(map(to_signed, values, widths), sum(widths))
    return [HEADS[mixed], _lower_ints(encoder, widths), encoder.buffer(data, mutable=False)]


def _with_padding(bits: int) -> int:
    """Return how many bytes integers of *bits* in all may take in a column of one width."""
    total = bits >> 3
    return total + (total >> 2) + INLINE


def big(
    decoder: Decoder,
    width: object,
    signed: object,
    node: object,
    kind: Any = int,
    split: Callable[[Buffer, int], list[Any]] = split_unsigned,
) -> list[Any]:
    """The integers of a column of one width."""
    data = decoder.buffer(node)
    if type(width) is not int or width < 1 or type(signed) is not bool:
        raise TypeError("a column without a width")
    if len(data) % width:
        raise ValueError("a column of broken length")
    decoder.count(len(data) // width, _BIG)
    if not signed:
        return split(data, width)
    chunks = chain.from_iterable(iter_unpack(f"{width}s", data))
    return list(map(partial(kind.from_bytes, byteorder="little", signed=True), chunks))


def mixed(decoder: Decoder, widths: object, node: object, kind: Any = int) -> list[Any]:
    """The integers of a column with a width for each."""
    sizes = decoder.typed(widths, list)
    data = bytes(decoder.buffer(node))
    decoder.count(len(sizes), _BIG + _MIXED)
    if not set(map(type, sizes)) <= {int} or min(sizes, default=1) < 1 or sum(sizes) != len(data):
        raise ValueError("widths that do not add up")
    convert = partial(kind.from_bytes, byteorder="little", signed=True)
    ends = list(accumulate(sizes))
    return [convert(data[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


# Rows


def _lower_tuples(encoder: Encoder, values: list[tuple[Any, ...]]) -> object | None:
    return lower_rows(encoder, values, True)


def _lower_lists(encoder: Encoder, values: list[list[Any]]) -> object | None:
    return lower_rows(encoder, values, False)


def lower_rows(encoder: Encoder, values: list[Any], tuples: bool) -> object | None:
    """A column for each position of equally long rows; None if they differ in length too much, or are too long."""
    length = len(values[0])
    if countOf(map(len, values), length) != len(values):
        if tuples:
            return lower_groups(encoder, values, map(len, values)) or _lower_ragged(encoder, values)
        return _plain_lists(encoder, values) or lower_groups(encoder, values, map(len, values))
    if not 1 <= length <= _MOST_COLUMNS:
        return None if tuples else _plain_lists(encoder, values)
    encoder.count(len(values), _row_memory(tuples, length))
    columns = (list(map(itemgetter(position), values)) for position in range(length))
    nodes = lower_columns(encoder, columns, [f"[{position}]" for position in range(length)])
    return [HEADS[Tag.ROWS], tuples, *nodes]


def _row_memory(tuples: bool, columns: int) -> int:
    return (_TUPLE if tuples else _LIST) + 8 * columns


def _record_memory(columns: int) -> int:
    """Memory that a dict of so many entries takes, which grows in steps; its keys belong to all."""
    slots = 8
    while slots * 2 // 3 < columns:
        slots *= 2
    return 112 + _SLOT + slots + 16 * (slots * 2 // 3)


def lower_columns(encoder: Encoder, columns: Iterable[list[Any]], steps: list[str]) -> list[object]:
    """The nodes of *columns*; *steps* lead to them from an element, in the path of a refusal."""
    return _lower_parts(encoder, columns, lambda refusal, number: refusal.steps.insert(-1, steps[number]))


def _lower_parts(
    encoder: Encoder, parts: Iterable[list[Any]], locate: Callable[[Refusal, int], object]
) -> list[object]:
    """The nodes of the lists that a list is taken apart into; *locate* makes a path in one of them that of the whole."""
    encoder.enter()
    nodes: list[object] = []
    try:
        for part in parts:
            nodes.append(encoder.sequence(part))
    except Refusal as refusal:
        locate(refusal, len(nodes))
        raise
    encoder.depth -= 1
    return nodes


def columns_of(decoder: Decoder, nodes: tuple[object, ...], memory: int) -> list[list[Any]]:
    """The equally long columns of *nodes*, each of whose rows becomes an object of *memory* bytes."""
    columns = [decoder.typed(node, list) for node in nodes]
    size = len(columns[0])
    if countOf(map(len, columns), size) != len(columns):
        raise ValueError("columns of different lengths")
    decoder.count(size, memory)
    return columns


def _rows(decoder: Decoder, tuples: object, *nodes: object) -> list[Any]:
    if type(tuples) is not bool:
        raise TypeError("rows of no kind")
    rows = zip(*columns_of(decoder, nodes, _row_memory(tuples, len(nodes))), strict=True)
    return list(rows) if tuples else list(map(list, rows))


def _lower_ragged(encoder: Encoder, values: list[tuple[Any, ...]]) -> object | None:
    """All elements of tuples of different lengths in one list, if they are of one type."""
    flat = list(chain.from_iterable(values))
    if countOf(map(type, flat), type(flat[0])) != len(flat) and not plugins.ATOMS.issuperset(map(type, flat)):
        return None
    lengths = list(map(len, values))
    encoder.count(len(values), _row_memory(True, 0))
    encoder.charge(8 * len(flat))
    nodes = _lower_parts(encoder, (lengths, flat), lambda refusal, _: _index_to_row(refusal, lengths))
    return [HEADS[Tag.RAGGED], *nodes]


def _index(refusal: Refusal) -> int | None:
    """The index in a list that the path of *refusal* begins with."""
    step = refusal.steps[-1][1:-1] if refusal.steps else ""
    return int(step) if step.isdigit() else None


def _index_to_row(refusal: Refusal, lengths: list[int]) -> None:
    index = _index(refusal)
    if index is not None:
        ends = list(accumulate(lengths))
        row = bisect_right(ends, index)
        refusal.steps[-1:] = [f"[{index - ends[row] + lengths[row]}]", f"[{row}]"]


def _ragged(decoder: Decoder, length_node: object, node: object) -> list[Any]:
    lengths = decoder.typed(length_node, list)
    flat = decoder.typed(node, list)
    decoder.count(len(lengths), _row_memory(True, 0))
    decoder.charge(8 * len(flat))
    if countOf(map(type, lengths), int) != len(lengths) or min(lengths, default=0) < 0 or sum(lengths) != len(flat):
        raise ValueError("lengths that do not add up")
    elements = iter(flat)
    return [tuple(islice(elements, length)) for length in lengths]


def lower_groups(encoder: Encoder, values: list[Any], keys: Iterable[Hashable]) -> object | None:
    """A list for each of *keys*, of the elements that have it, and from which list to take each; None if that is no gain.

    Elements with equal keys are only likely to have one shape: how their list travels is seen when it is lowered.
    """
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    order = list(map(numbers.__getitem__, keys))
    if not 1 < len(numbers) <= min(_MOST_GROUPS, len(values) // BULK):
        return None
    groups: list[list[Any]] = [[] for _ in numbers]
    exhaust(map(list.append, map(groups.__getitem__, order), values))
    encoder.count(len(values), _SLOT)
    nodes = _lower_parts(encoder, groups, lambda refusal, number: _index_to_element(refusal, order, number))
    return [HEADS[Tag.GROUPS], encoder.buffer(bytes(order), mutable=False), *nodes]


def _index_to_element(refusal: Refusal, order: list[int], number: int) -> None:
    index = _index(refusal)
    if index is not None:
        places = (place for place, group in enumerate(order) if group == number)
        refusal.steps[-1] = f"[{next(islice(places, index, None))}]"


def _groups(decoder: Decoder, order_node: object, *nodes: object) -> list[Any]:
    order = bytes(decoder.buffer(order_node))
    decoder.count(len(order), _SLOT)
    if len(nodes) > _MOST_GROUPS:
        raise ValueError("too many groups")
    groups = [decoder.typed(node, list) for node in nodes]
    if sum(map(len, groups)) != len(order) or list(map(order.count, range(len(groups)))) != list(map(len, groups)):
        raise ValueError("groups that do not add up")
    elements = list(map(iter, groups))
    return list(map(next, map(elements.__getitem__, order)))


def _lower_dicts(encoder: Encoder, values: list[dict[Any, Any]]) -> object | None:
    """A column for each key of dicts with the same keys in the same order; groups of such; None if they are neither."""
    keys = list(values[0])
    if not 1 <= len(keys) <= _MOST_COLUMNS:
        return _unlike_dicts(encoder, values)
    if {*map(type, keys)} != {str} or not all(map(is_, chain.from_iterable(values), cycle(keys))):
        every = list(chain.from_iterable(values))
        if countOf(map(type, every), str) != len(every) or every != keys * len(values):
            return _unlike_dicts(encoder, values)
    # Their keys are these, over and over. Where each has all of them, no dict ends between two of these.
    try:
        columns = [list(map(itemgetter(key), values)) for key in keys]
    except KeyError:
        return _unlike_dicts(encoder, values)
    encoder.count(len(values), _record_memory(len(keys)))
    nodes = lower_columns(encoder, columns, [f"[{json.dumps(key, ensure_ascii=False)}]" for key in keys])
    return [HEADS[Tag.RECORDS], keys, *nodes]


def _unlike_dicts(encoder: Encoder, values: list[dict[Any, Any]]) -> object | None:
    """*values* themselves, if they are all their own nodes: looked at all at once; groups of those with the same keys."""
    sizes = list(map(len, values))
    if countOf(map(type, chain.from_iterable(values)), str) != sum(sizes):
        return None
    plain = _plain(encoder, values, sizes, chain.from_iterable(map(dict.values, values)))
    return plain or lower_groups(encoder, values, map(tuple, values))


def _plain_lists(encoder: Encoder, values: list[list[Any]]) -> object | None:
    return _plain(encoder, values, list(map(len, values)), chain.from_iterable(values))


def _plain(encoder: Encoder, values: list[Any], sizes: list[int], elements: Iterable[object]) -> object | None:
    # A long list may be a column.
    if max(sizes) >= BULK or not plugins.ATOMS.issuperset(map(type, elements)):
        return None
    encoder.count_nodes(len(values) + sum(sizes))
    return values


def _dicts(decoder: Decoder, key_node: object, *nodes: object) -> list[dict[Any, Any]]:
    keys = decoder.typed(key_node, list)
    columns = columns_of(decoder, nodes, _record_memory(len(keys)))
    template = dict.fromkeys(keys)
    if len(template) != len(columns) or countOf(map(type, keys), str) != len(keys) or len(keys) > _MOST_COLUMNS:
        raise ValueError("columns that do not fit their keys")
    dicts = list(map(dict.copy, repeat(template, len(columns[0]))))
    for key, column in zip(keys, columns, strict=True):
        exhaust(map(dict.__setitem__, dicts, repeat(key), column))
    return dicts


exhaust: Final = deque[object](maxlen=0).extend
"""Take all of an iterator, and keep nothing."""


def _lower_bytes(encoder: Encoder, values: list[bytes]) -> object | None:
    return values if max(map(len, values)) < INLINE else None


COLUMNS: Final[dict[type, Column]] = {
    float: _lower_floats,
    int: _lower_ints,
    bytes: _lower_bytes,
    tuple: _lower_tuples,
    list: _lower_lists,
    dict: _lower_dicts,
}

CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.FLOATS: _floats,
    Tag.INTS: _ints,
    Tag.BIG_INTS: big,
    Tag.MIXED_INTS: mixed,
    Tag.ROWS: _rows,
    Tag.RAGGED: _ragged,
    Tag.RECORDS: _dicts,
    Tag.GROUPS: _groups,
}
