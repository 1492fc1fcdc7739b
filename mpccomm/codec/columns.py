"""Long lists of one kind as columns: no Python call per element where the standard library has a better way.

A list of floats or of small integers is an array of machine numbers; a list of big integers is one block of bytes, of
one width or with a width for each; a list of equally long tuples or lists is a column for each position.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from functools import partial
from itertools import accumulate, chain, repeat
from struct import iter_unpack
from typing import Any, Final

from mpccomm.codec import plugins
from mpccomm.codec.abc import Column, Decoder, Encoder
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, INLINE, Tag

BULK: Final = 32
"""Shorter lists are not worth a column."""
_MOST_COLUMNS: Final = 16
_INT_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_SWAP: Final = sys.byteorder == "big"

_signed_bytes: Final = partial(int.to_bytes, byteorder="little", signed=True)
_from_signed: Final = partial(int.from_bytes, byteorder="little", signed=True)


def bulk(kind: type) -> Column | None:
    """How to lower a long list of *kind*, if there is a better way than one by one."""
    column = _COLUMNS.get(kind)
    if column is None and kind not in plugins.REGISTERED:
        plugin = plugins.of_type(kind)
        if plugin is not None:
            column = plugin.COLUMNS.get(kind)
    return column


def _little_endian(numbers: array[Any]) -> array[Any]:
    if _SWAP:
        numbers.byteswap()
    return numbers


def _lower_floats(encoder: Encoder, values: list[float]) -> object:
    encoder.count(len(values))
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
    decoder.count(count)
    numbers.frombytes(data)
    return _little_endian(numbers).tolist()


def _lower_ints(encoder: Encoder, values: list[int]) -> object:
    for width, code in _INT_CODES.items():
        # A number that is too large is met early as a rule, so trying costs less than looking for the largest.
        try:
            data = memoryview(_little_endian(array(code, values))).cast("B")
        except OverflowError:
            continue
        encoder.count(len(values))
        return [HEADS[Tag.INTS], width, encoder.buffer(data, mutable=False)]
    return lower_big(encoder, values, int, Tag.BIG_INTS, Tag.MIXED_INTS)


def _ints(decoder: Decoder, width: object, node: object) -> list[int]:
    return _machine_numbers(decoder, node, _INT_CODES[width])  # type: ignore[index]


def lower_big(encoder: Encoder, values: list[Any], kind: Any, uniform: Tag, mixed: Tag) -> object:
    """A column of integers of any size. *kind* is int, or something with the same methods."""
    encoder.count(len(values))
    bits = list(map(kind.bit_length, values))
    widest = max(bits)
    signed = min(values) < 0
    width = (widest >> 3) + 1 if signed else max(1, (widest + 7) >> 3)
    total = sum(bits) >> 3
    if width * len(values) <= total + (total >> 2) + INLINE:
        if signed:
            chunks = map(partial(kind.to_bytes, byteorder="little", signed=True), values, repeat(width))
        else:
            chunks = map(kind.to_bytes, values, repeat(width), repeat("little"))
        return [HEADS[uniform], width, signed, encoder.buffer(b"".join(chunks), mutable=False)]
    widths = [(size >> 3) + 1 for size in bits]
    blob = b"".join(map(partial(kind.to_bytes, byteorder="little", signed=True), values, widths))
    return [HEADS[mixed], _lower_ints(encoder, widths), encoder.buffer(blob, mutable=False)]


def big(decoder: Decoder, width: object, signed: object, node: object, kind: Any = int) -> list[Any]:
    """The integers of a column of one width."""
    data = decoder.buffer(node)
    if type(width) is not int or width < 1 or type(signed) is not bool:
        raise TypeError("a column without a width")
    if len(data) % width:
        raise ValueError("a column of broken length")
    decoder.count(len(data) // width)
    chunks = chain.from_iterable(iter_unpack(f"{width}s", data))
    if signed:
        return list(map(partial(kind.from_bytes, byteorder="little", signed=True), chunks))
    return list(map(kind.from_bytes, chunks, repeat("little")))


def mixed(decoder: Decoder, widths: object, node: object, kind: Any = int) -> list[Any]:
    """The integers of a column with a width for each."""
    sizes = decoder.typed(widths, list)
    data = bytes(decoder.buffer(node))
    decoder.count(len(sizes))
    if not set(map(type, sizes)) <= {int} or min(sizes, default=1) < 1 or sum(sizes) != len(data):
        raise ValueError("widths that do not add up")
    convert = partial(kind.from_bytes, byteorder="little", signed=True)
    ends = list(accumulate(sizes))
    return [convert(data[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def lower_rows(encoder: Encoder, values: list[Any], kind: type) -> object | None:
    """A column for each position of equally long rows, or None if they are not."""
    lengths = set(map(len, values))
    if len(lengths) != 1 or not 2 <= (length := lengths.pop()) <= _MOST_COLUMNS:
        return None
    encoder.count(len(values))
    encoder.enter()
    columns: list[object] = []
    try:
        for column in zip(*values, strict=True):
            columns.append(encoder.sequence(list(column)))
    except Refusal as refusal:
        refusal.steps.insert(-1, f"[{len(columns)}]")
        raise
    encoder.depth -= 1
    assert len(columns) == length
    return [HEADS[Tag.ROWS], kind is tuple, *columns]


def _rows(decoder: Decoder, tuples: object, *nodes: object) -> list[Any]:
    columns = [decoder.typed(node, list) for node in nodes]
    if type(tuples) is not bool or len(columns) < 2:
        raise TypeError("rows without columns")
    decoder.count(len(columns[0]))
    rows = zip(*columns, strict=True)
    return list(rows) if tuples else list(map(list, rows))


def _lower_bytes(encoder: Encoder, values: list[bytes]) -> object | None:
    return values if max(map(len, values)) < INLINE else None


_COLUMNS: Final[dict[type, Column]] = {float: _lower_floats, int: _lower_ints, bytes: _lower_bytes}

CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.FLOATS: _floats,
    Tag.INTS: _ints,
    Tag.BIG_INTS: big,
    Tag.MIXED_INTS: mixed,
    Tag.ROWS: _rows,
}
