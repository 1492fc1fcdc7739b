"""Values and messages that take the most memory for each byte of theirs: of each type, and of each kind of node."""

import random
import sys
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial, reduce
from ipaddress import IPv6Interface
from itertools import cycle, islice
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import ormsgpack

from mpccomm.codec import encode
from mpccomm.codec.wire import Tag
from tests.codec.raw import call, leaf, message, segment

INT = -100
"""A number that takes one byte, and an object of its own in memory."""


def values() -> dict[str, Callable[[int], Any]]:
    """For each type a value with a given number of elements."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from bitarray import bitarray, frozenbitarray
    from gmpy2 import mpc, mpfr, mpq, mpz, xmpz

    elements: list[Any] = [
        *(None, True, 1, INT, 1000, 2**70, 1.5, 1j, "", "x", "\xff", "\U0001f40c" + 27 * "x", b"", b"x"),
        *((), (INT,), (1,), (INT, INT), (((INT,),),), ((((((INT,),),),),),), [], [INT], [-6] * 9, [[]], [(), []]),
        *({}, {"a": INT}, {"a": "b"}, {"a": {}}, dict.fromkeys("abcdef", INT), dict.fromkeys("abcdefghijk"), {1: INT}),
        *(set(), {1}, {1, 2, 3, 4, 5}, frozenset({1}), frozenset(range(20))),
        *(OrderedDict(), OrderedDict(dict.fromkeys(range(6))), defaultdict(None, a=1), Counter(a=1), deque()),
        *(Decimal(1), Decimal("1E9"), Decimal("NaN"), Fraction(1), UUID(int=1), range(1), bytearray(b"x")),
        *(datetime(2000, 1, 1), date(1, 1, 1), date(2000, 1, 1), time(1), timedelta(1), timezone(timedelta(hours=1))),
        *(PurePosixPath("a"), IPv6Interface("::1"), array("b")),
        *([array("u", "x")] if sys.version_info < (3, 13) else []),  # where it is not out of date
        *(mpz(1), xmpz(1), mpq(1, 2), mpfr(0), mpfr(1), mpfr(1, 1000), mpc(1), bitarray("1"), frozenbitarray()),
        *(np.int8(1), np.float64(1), np.str_("x"), np.bytes_(b"x"), np.zeros(0, "i1"), np.zeros(0, "i1,i1")),
        *(np.dtype("i1"), np.array([None]), np.zeros(1, {"names": ["a"], "formats": ["i1"], "itemsize": 9})),
        *(pd.Timestamp(1), pd.Timedelta(1), pd.Period("2000", "M"), pd.Interval(1, 2), pd.NA, pd.RangeIndex(1)),
        *(pd.Index([1]), pd.MultiIndex.from_arrays([[1]]), pd.Series([1]), pd.DataFrame({"a": [1]}), pd.array([1])),
        *(pa.array([1]), pa.table({"a": [1]})),
    ]
    found: dict[str, Callable[[int], Any]] = {}
    for element in elements:
        found[f"{type(element).__name__} {element!r}".partition(" object at ")[0][:60]] = partial(_in_turn, [element])
    turns: dict[str, Any] = {
        "few lengths": [(INT,) * length for length in range(5)],
        "many lengths": [(INT,) * length for length in range(40)],
        "shapes": [(INT,), None],
        "types": [INT, 1.5],
        "zones": [datetime(2000, 1, 1, tzinfo=tz) for tz in (None, UTC)],
        "sizes": [2**700, *[INT] * 99],
    }
    for name, some in turns.items():
        found[name] = partial(_in_turn, some)
    return found | {
        "one tuple": lambda size: (1,) * size,
        "one set": lambda size: set(range(size)),
        "one dict": lambda size: dict.fromkeys(range(size)),
        "one dict with text": lambda size: dict.fromkeys(map(str, range(size)), 1.5),
        "one OrderedDict": lambda size: OrderedDict.fromkeys(range(size)),
        "one Counter": lambda size: Counter(range(size)),
        "one deque": lambda size: deque([INT] * size),
        "one array": lambda size: array("l", [INT] * size),
        "one array of objects": lambda size: np.array([INT] * size, object),
        "one index of objects": lambda size: pd.Index(range(256, 256 + size), dtype=object),
        "one column of text": lambda size: pd.array(["x"] * size, dtype="string[python]"),
        "one categorical": lambda size: pd.Categorical(random.Random(size).sample(range(10**9), size)),
    }


def _in_turn(elements: list[Any], size: int) -> list[Any]:
    return list(islice(cycle(elements), size))


def longest(make: Callable[[int], Any], size: int) -> list[bytes]:
    """The message of a value of about as many elements as fit into *size* bytes."""
    elements = 1500
    while True:
        segments = encode(make(elements)).segments
        taken = sum(map(len, segments))
        if 0.7 * size < taken < 1.1 * size:
            return list(map(bytes, segments))
        elements = int(elements * 0.95 * size / taken)


def messages(size: int) -> dict[str, list[bytes]]:
    """Messages of about *size* bytes that no encoder makes."""
    low = b"\x80"
    ints = call(Tag.INTS, 1, segment(1))
    numbers = b"".join(number.to_bytes(4, "little") for number in range(size // 5))
    halves = b"\1" * (size // 2), low * (size // 2)
    return {
        **_of_one(size),
        "long maps": [_repeated(b"\xde\x00\x01\xa0\xc0", size)],
        "long heads": [_repeated(b"\x92\xc9\x00\x00\x00\x00\x08\x90", size)],
        "mpz": message(call(Tag.MPZS, 1, False, segment(1)), b"\xff" * size),
        "small numbers as large": message(call(Tag.BIG_INTS, 1, True, segment(1)), low * size),
        "widths": message(call(Tag.MIXED_INTS, ints, segment(2)), *halves),
        "widths of mpz": message(call(Tag.MIXED_MPZS, ints, segment(2)), *halves),
        "decimals": message(call(Tag.DECIMALS, ["1"] * (size // 2))),
        "no decimals": message(call(Tag.DECIMALS, [""] * size)),
        "dates": message(call(Tag.DATES, ints), b"d" * size),
        "durations": message(call(Tag.TIMEDELTAS, *[[1] * (size // 3)] * 3)),
        "tuples of one": message(call(Tag.ROWS, True, ints), low * size),
        "lists of one": message(call(Tag.ROWS, False, ints), low * size),
        "dicts of one": message(call(Tag.RECORDS, ["a"], ints), low * size),
        "wide dicts": message(call(Tag.RECORDS, list("abcdefghijk"), *[[-6] * (size // 11)] * 11)),
        "empty tuples": message(call(Tag.RAGGED, ints, []), bytes(size)),
        "lengths": message(call(Tag.RAGGED, ints, call(Tag.INTS, 1, segment(2))), *halves),
        "longer tuples": message(call(Tag.RAGGED, [30] * (size // 31), [-6] * (size // 31 * 30))),
        "groups": message(call(Tag.GROUPS, segment(1), [-6] * (size // 2)), bytes(size // 2)),
        "dict": message(
            call(Tag.DICT, call(Tag.INTS, 4, segment(1)), call(Tag.INTS, 1, segment(2))), numbers, low * (size // 5)
        ),
        "another platform": message(call(Tag.ARRAY, "l", 1, segment(1)), low * size),
        "scalars": message(call(Tag.SCALARS, call(Tag.NDARRAY, "|i1", [size], False, True, segment(1))), bytes(size)),
        "objects": message(call(Tag.OBJECTS, "O", [size], False, True, ints), low * size),
        "ballast": message(call(Tag.PADDED, segment(1), [{}] * (size // 2)), bytes(size // 2)),
        "arguments": message(call(Tag.SERIES, *[{}] * size)),
        "parts": message(
            call(
                Tag.PARTS,
                [leaf(Tag.PART, (number + 2).to_bytes(4, "little")) for number in range(size // 8)],
                *[[]] * (size // 8),
            )
        ),
    }


def _of_one(size: int) -> dict[str, list[bytes]]:
    deep: Any = reduce(lambda node, _: call(Tag.TUPLE, node), range(30), [])
    nodes = {
        "deep tuples": deep,
        "sets": call(Tag.SET, [-6]),
        "paths": call(Tag.PATH, 0, "a"),
        "no data": leaf(Tag.INT, b""),
        "leaves": leaf(Tag.MPZ, b"\1"),
        "text": leaf(Tag.TEXT, b"\xc4\x80"),
        "zones": call(Tag.ZONEINFO, "UTC"),
        "defaultdict": call(Tag.DEFAULT_DICT, None, [], []),
        "arrays of no width": call(Tag.NDARRAY, "|S0", [100], False, True, b""),
        "maps": {"": {}},
    }
    return {name: [_repeated(ormsgpack.packb(node), size)] for name, node in nodes.items()}


def _repeated(data: bytes, size: int) -> bytes:
    return b"\xdd" + (size // len(data)).to_bytes(4, "big") + data * (size // len(data))
