"""Messages that no encoder makes: out of a grammar of Arrow types, pandas' forms and tno's, and bombs made by hand.

A generated message is nearly right: most of its parts fit each other, so that it gets past the first check.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import ormsgpack

from mpccomm.codec.wire import Tag
from tests.codec.raw import call, message, segment

_PLAIN = (
    *("null", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint64", "float16", "float32", "float64"),
    *("date32", "date64", "time32[s]", "time64[ns]", "duration[us]", "month_day_nano_interval"),
    *("string", "large_string", "binary", "large_binary"),
)
_WIDTHS = {"bool_": 1, "date32": 32, "date64": 64, "month_day_nano_interval": 128}
_UNKNOWN = ("dictionary", "union", "map", "list_view", "run_end_encoded", "opaque", "string_view", "field", "schema")
_DTYPES = ("<i8", "<i4", "|i1", "<f8", "|b1", "<M8[ns]", "<m8[s]", "<c16", "|u1", "<U1", "|S3", ">i4", "<f2", "O")


class Grammar:
    """A source of messages."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def messages(self) -> Iterator[list[bytes]]:
        """Messages, without end."""
        while True:
            yield message(self.random.choice((self.arrow, self.arrow, self.frame, self.series, self.index))())

    def _odd(self, value: Any) -> Any:
        """*value*, or now and then something else in its place."""
        if self.random.random() < 0.98:
            return value
        others: list[Any] = [None, -1, 0, 1, 2**31, 2**48, 2**63, True, "", "x", b"", b"\xff" * 9, [], [[]], {}, 0.5]
        return self.random.choice(others)

    # Arrow

    def arrow(self) -> Any:
        """An Arrow array as the values of a column."""
        kind = self._kind(0)
        form = self.random.choice(("arrow", "arrow", "text"))
        tree = self._tree(kind, self.random.choice((0, 1, 2, 7, 8, 9, 40)))
        return call(Tag.EXTENSION_ARRAY, form, self._odd(True), kind, tree)

    def _kind(self, depth: int) -> Any:
        choice = self.random.random()
        if depth > 3 or choice < 0.5:
            return self._odd(self.random.choice(_PLAIN))
        if choice < 0.55:
            return self.random.choice(_UNKNOWN)
        if choice < 0.65:
            return ["list", self._field(depth)]
        if choice < 0.7:
            return ["large_list", self._field(depth)]
        if choice < 0.78:
            return ["fixed_size_list", self._odd(self.random.choice((0, 1, 2, 3))), self._field(depth)]
        if choice < 0.86:
            return ["struct", *(self._field(depth) for _ in range(self.random.randrange(4)))]
        if choice < 0.9:
            return ["fixed_size_binary", self._odd(self.random.choice((0, 1, 5, 16)))]
        if choice < 0.93:
            return [self.random.choice(("decimal128", "decimal256", "decimal32")), self._odd(7), self._odd(2)]
        if choice < 0.96:
            zone = self.random.choice((None, "+01:00", "UTC", call(Tag.ZONEINFO, "Europe/Amsterdam")))
            return ["timestamp", self._odd("ns"), zone]
        name = self.random.choice(
            ("arrow.uuid", "arrow.bool8", "arrow.json", "arrow.fixed_shape_tensor", "arrow.opaque")
        )
        storage = self.random.choice((["fixed_size_binary", 16], "int8", "string", self._kind(depth + 1)))
        return ["extension", name, storage]

    def _field(self, depth: int) -> Any:
        metadata = [b"key", b"value"] if self.random.random() < 0.1 else []
        return [self._odd("name"), self._odd(self.random.random() < 0.9), self._kind(depth + 1), *metadata]

    def _tree(self, kind: Any, length: int) -> Any:
        """The node of an array of *kind* that is right, but for the odd part."""
        name, *rest = kind if type(kind) is list and kind else [kind]
        length = min(length, 1 << 40)
        bitmap = None if self.random.random() < 0.7 else self._bytes((length + 7) >> 3)
        buffers: list[Any] = [bitmap]
        children: list[Any] = []
        try:
            if name == "extension":
                return self._tree(rest[1], length)
            if name in ("string", "binary", "large_string", "large_binary", "list", "large_list"):
                offsets = sorted(self.random.randrange(12) for _ in range(length))
                width = 8 if name.startswith("large") else 4
                numbers = [0, *offsets]
                if self.random.random() < 0.1:
                    numbers[self.random.randrange(len(numbers))] = self._odd(self.random.randrange(-5, 50)) or 0
                buffers.append(b"".join(int(number).to_bytes(width, "little", signed=True) for number in numbers))
                end = numbers[-1]
                if rest:
                    children = [self._tree(rest[0][2], end)]
                else:
                    buffers.append(self.random.choice((b"x" * end, self._bytes(end))))
            elif name == "fixed_size_list":
                children = [self._tree(rest[1][2], length * rest[0])]
            elif name == "struct":
                children = [self._tree(field[2], length) for field in rest]
            elif name != "null":
                buffers.append(self._bytes((length * self._bits(name, rest) + 7) >> 3))
        except (TypeError, IndexError, ValueError, OverflowError, MemoryError):
            pass
        return [
            self._odd(length),
            self._odd([self._odd(item) for item in buffers]),
            self._odd(children),
        ]

    def _bits(self, name: Any, rest: list[Any]) -> int:
        if name == "fixed_size_binary":
            return int(rest[0]) * 8
        digits = "".join(filter(str.isdigit, str(name)))
        return _WIDTHS.get(name) or int(digits or 64)

    def _bytes(self, size: int) -> bytes:
        if self.random.random() < 0.03:
            size += self.random.choice((-1, 1, 8, -8))
        size = max(0, min(size, 4000))
        return self.random.choice((bytes(size), self.random.randbytes(size), b"\x01" * size, b"\xff" * size))

    # pandas

    def array(self, length: int) -> Any:
        """An array of numpy."""
        dtype = self.random.choice(_DTYPES)
        if dtype == "O":
            values: list[Any] = [self.random.choice((1, "a", None, 2.5, b"x", [])) for _ in range(length)]
            return call(Tag.OBJECTS, dtype, [length], False, True, values)
        width = int("".join(filter(str.isdigit, dtype.split("[")[0]))) * (4 if "U" in dtype else 1)
        return call(Tag.NDARRAY, dtype, [self._odd(length)], False, True, self._bytes(length * width))

    def _integers(self, length: int, dtype: str, most: int) -> Any:
        width = int(dtype[-1])
        numbers = [self.random.randrange(-1, most + 1) for _ in range(length)]
        data = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
        return call(Tag.NDARRAY, dtype, [length], False, True, data)

    def values(self, length: int) -> Any:
        """What a column or an index consists of."""
        choice = self.random.randrange(12)
        if choice < 4:
            return self.array(length)
        if choice < 6:
            kind = self._kind(1)
            form = self.random.choice(("arrow", "text"))
            return call(Tag.EXTENSION_ARRAY, form, True, kind, self._tree(kind, length))
        parts: dict[str, Callable[[], list[Any]]] = {
            "datetimes": lambda: [self.array(length), self.random.choice((None, call(Tag.ZONEINFO, "UTC")))],
            "periods": lambda: [self.array(length), self.random.choice(("M", "D", "W-SUN", "7h", "Q-DEC", "none"))],
            "masked": lambda: [self.array(length), self.array(length)],
            "text": lambda: [True, [self.random.choice(("a", "", None)) for _ in range(length)]],
            "categorical": lambda: [self._integers(length, "|i1", 3), self.index(), self._odd(False)],
            "sparse": lambda: [self.array(2), self._integers(2, "<i4", length), self._odd(length), 0, "integer"],
            "intervals": lambda: [self.index(length), self.index(length), self._odd("left")],
        }
        form = self.random.choice(list(parts))
        return call(Tag.EXTENSION_ARRAY, form, *map(self._odd, parts[form]()))

    def index(self, length: int | None = None) -> Any:
        """An index."""
        length = self.random.choice((0, 1, 3, 9)) if length is None else length
        choice = self.random.randrange(8)
        if choice < 3:
            return call(Tag.RANGE_INDEX, 0, self._odd(length), self._odd(1), self._odd(None))
        if choice < 7:
            frequency = self.random.choice((None, None, "D", "B", "bh", "99999999999D", "W-SUN"))
            return call(Tag.INDEX, self.values(length), frequency, self._odd("name"))
        levels = [
            call(Tag.INDEX, self.values(3), None, None),
            call(Tag.RANGE_INDEX, 0, self._odd(3), 1, None),
        ]
        codes = [self._integers(length, self.random.choice(("|i1", "<i8")), 2) for _ in levels]
        return call(Tag.MULTI_INDEX, levels, codes, [None, "b"], self.random.choice((None, 0, 1, 2, -1)))

    def series(self) -> Any:
        """A series."""
        length = self.random.choice((0, 1, 3, 9))
        flag = self._odd(self.random.random() < 0.8)
        return call(Tag.SERIES, self.values(length), self.index(length), self._odd("name"), self._odd({}), flag)

    def frame(self) -> Any:
        """A frame."""
        length, width = self.random.choice((0, 1, 3, 9)), self.random.randrange(5)
        blocks = [[self._odd(place), self.values(length)] for place in range(width)]
        if self.random.random() < 0.4:
            data = self._bytes(8 * length * 2)
            places = self.random.choice((width, self._bytes(8)))
            blocks.append([places, call(Tag.NDARRAY, "<f8", [2, length], False, True, data)])
            width += 2
        self.random.shuffle(blocks)
        flag = self._odd(self.random.random() < 0.8)
        return call(Tag.DATAFRAME, blocks, self.index(length), self.index(width), self._odd({}), flag)


# Bombs

SIZE = 1_000_000


_TWO = call(Tag.NDARRAY, "<i4", [2], False, True, bytes(8))
_NUMBERS = b"".join((number << 40).to_bytes(8, "little") for number in range(SIZE // 8))
_KEYS = call(Tag.INDEX, call(Tag.NDARRAY, "<i8", [SIZE // 8], False, True, segment(1)), None, None)


def bombs() -> dict[str, list[bytes]]:
    """Messages of up to a megabyte that ask for far more, by name."""
    made = {**_columns(), **_labels(), **_ranges()}
    return {**_trees(), **{name: message(*parts) for name, parts in made.items()}}


def _trees() -> dict[str, list[bytes]]:
    """Very many, very small objects; numbers of very many digits."""
    objects = {
        "empty dicts": b"\x80",
        "empty lists": b"\x90",
        "dicts of one": b"\x81\xa0\xc0",
        "dicts in dicts": b"\x81\xa0" * 50 + b"\xc0",
        "lists in lists": b"\x91" * 50 + b"\x90",
        "extensions in dicts": b"\x81\xa0" + ormsgpack.packb(ormsgpack.Ext(Tag.INT, b"x")),
        "letters": b"\xa1x",
    }
    trees = {
        name: [b"\xdd" + (SIZE // len(data)).to_bytes(4, "big") + data * (SIZE // len(data))]
        for name, data in objects.items()
    }
    rows = {}
    for name, tuples, levels in (("tuples", True, 50), ("lists", False, 50), ("few tuples", True, 3)):
        node = call(Tag.INTS, 1, segment(1))
        for _ in range(levels):
            node = call(Tag.ROWS, tuples, node)
        rows[f"{name} of one in {name} of one"] = message(node, b"\x80" * (SIZE // 5))
    zero = call(Tag.MPFR, 1 << 23, "0", 0)
    return {
        **trees,
        **rows,
        "zeros of many digits": message(call(Tag.PADDED, segment(1), [zero] * 90), bytes(SIZE)),
    }


def _columns() -> dict[str, Any]:
    column = call(Tag.NDARRAY, "|i1", [0], False, True, b"")
    empty = [0, [None, b""], []]
    no_width = [
        [10**9, [None], []],
        [10**9, [None, b""], []],
        [10**9, [None], [[0, [None, b""], []]]],
        [10**9, [None], []],
    ]
    kinds = ["null", ["fixed_size_binary", 0], ["fixed_size_list", 0, ["", True, "int8"]], ["struct"]]
    return {
        "very many dimensions": [call(Tag.NDARRAY, "|i1", [72] * (SIZE // 2), False, True, b"")],
        "very many dimensions of a part": [
            call(Tag.NDARRAY, ["subarray", "|i1", [72] * (SIZE // 2)], [0], False, True, b"")
        ],
        "empty columns": [_frame([[number, column] for number in range(SIZE // 20)])],
        "empty fields": [
            call(
                Tag.EXTENSION_ARRAY,
                "arrow",
                True,
                ["struct", *[["", True, "int8"]] * 50_000],
                [0, [None], [empty] * 50_000],
            )
        ],
        "fields": [call(Tag.EXTENSION_ARRAY, "arrow", True, ["struct", *[["", True, "int8"]] * 110_000], [0])],
        "frequencies": [[call(Tag.PERIOD, 1, f"{number}M") for number in range(1, 80_000)]],
        "objects": [call(Tag.INDEX, call(Tag.OBJECTS, "O", [200_000], False, True, [*range(200_000)]), None, None)],
        "empty text": [
            call(Tag.INDEX, call(Tag.EXTENSION_ARRAY, "text", True, [""] * SIZE), None, None),
        ],
        **{f"no width: {kind}": [_arrow_categories(kind, tree)] for kind, tree in zip(kinds, no_width, strict=True)},
        **{
            f"text of no width: {kind}": [call(Tag.EXTENSION_ARRAY, "text", True, kind, tree)]
            for kind, tree in zip(kinds, no_width, strict=True)
        },
    }


def _labels() -> dict[str, Any]:
    two, keys, numbers = _TWO, _KEYS, _NUMBERS
    return {
        "categories": [call(Tag.EXTENSION_ARRAY, "categorical", two, keys, False), numbers],
        "levels": [call(Tag.MULTI_INDEX, [keys], [two], [None], None), numbers],
        "no duplicates": [
            call(
                Tag.SERIES,
                call(Tag.EXTENSION_ARRAY, "sparse", two, _places(0, 1), SIZE // 8, 0, "integer"),
                keys,
                None,
                {},
                False,
            ),
            numbers,
        ],
        "many levels": [
            call(
                Tag.MULTI_INDEX,
                [call(Tag.RANGE_INDEX, 0, 1, 1, None)] * 30_000,
                [_no_codes()] * 30_000,
                [None] * 30_000,
                None,
            )
        ],
        "slow frequency": [
            call(Tag.INDEX, call(Tag.EXTENSION_ARRAY, "datetimes", _moments(SIZE // 8), None), "bh", None),
            numbers,
        ],
        "booleans as categories": [_arrow_categories("bool_", [8 * SIZE, [None, segment(1)], []]), bytes(SIZE)],
    }


def _ranges() -> dict[str, Any]:
    two = _TWO
    wide = call(Tag.EXTENSION_ARRAY, "sparse", two, _places(0, 1), 2**31 - 1, 0, "integer")
    return {
        "a sparse level": [call(Tag.MULTI_INDEX, [call(Tag.INDEX, wide, None, None)], [two], [None], None)],
        "sparse categories": [call(Tag.EXTENSION_ARRAY, "categorical", two, call(Tag.INDEX, wide, None, None), False)],
        "sparse sides": [call(Tag.EXTENSION_ARRAY, "intervals", *[call(Tag.INDEX, wide, None, None)] * 2, "left")],
        "sides": [call(Tag.EXTENSION_ARRAY, "intervals", *[call(Tag.RANGE_INDEX, 0, 2**40, 1, None)] * 2, "left")],
        "a long range": [call(Tag.MULTI_INDEX, [call(Tag.RANGE_INDEX, 0, 2**40, 1, None)], [two], [None], None)],
    }


def _frame(blocks: list[Any]) -> Any:
    index, columns = (call(Tag.RANGE_INDEX, 0, size, 1, None) for size in (0, len(blocks)))
    return call(Tag.DATAFRAME, blocks, index, columns, {}, True)


def _places(*places: int) -> Any:
    data = b"".join(place.to_bytes(4, "little") for place in places)
    return call(Tag.NDARRAY, "<i4", [len(places)], False, True, data)


def _no_codes() -> Any:
    return call(Tag.NDARRAY, "|i1", [0], False, True, b"")


def _moments(count: int) -> Any:
    return call(Tag.NDARRAY, "<M8[ns]", [count], False, True, segment(1))


def _arrow_categories(kind: Any, tree: Any) -> Any:
    values = call(Tag.EXTENSION_ARRAY, "arrow", True, kind, tree)
    codes = call(Tag.NDARRAY, "|i1", [1], False, True, b"\0")
    return call(Tag.EXTENSION_ARRAY, "categorical", codes, call(Tag.INDEX, values, None, None), False)


_MASK = (1 << 64) - 1
_PRIMES = 11400714785074694791, 14029467366897019727, 2870177450012600261


def equal_hashes(count: int) -> list[tuple[int, int]]:
    """Tuples that Python's hash does not tell apart: the last step of it is undone for the second number."""
    pairs: list[tuple[int, int]] = []
    first = 0
    inverse = pow(_PRIMES[1], -1, 1 << 64)
    while len(pairs) < count:
        first += 1
        lane = (_PRIMES[2] + first * _PRIMES[1]) & _MASK
        lane = (lane << 31 | lane >> 33) * _PRIMES[0] & _MASK
        second = (12345 - lane) * inverse & _MASK
        if second < 2**61 - 1:
            pairs.append((first, second))
    return pairs


def tno_bombs() -> dict[str, bytes]:
    """The same for the wire of tno.mpc.communication."""
    keys = b"".join(ormsgpack.packb([*pair]) + b"\xc0" for pair in equal_hashes(50_000))
    zero = {"type": "mpfr", "data": bytes([4, 0, 0, 0]) + (1 << 26).to_bytes(4, "little")}
    both = {"type": "mpc", "data": (bytes([5, 0, 0, 0]) + (1 << 26).to_bytes(4, "little")) * 2}
    ratio = bytes([3, 1]) + (SIZE // 2).to_bytes(4, "little") + random.Random(1).randbytes(SIZE // 2 - 1) + b"\1"
    made: dict[str, bytes] = {
        "tuples with equal hashes": b"\xdf" + (50_000).to_bytes(4, "big") + keys,
        "keys that are no text": ormsgpack.packb(dict.fromkeys(range(150_000)), option=ormsgpack.OPT_NON_STR_KEYS),
        "precision": ormsgpack.packb([zero] * 1000),
        "precision of both parts": ormsgpack.packb([both] * 1000),
        "a large ratio": ormsgpack.packb({"type": "mpq", "data": ratio + random.Random(2).randbytes(SIZE // 2)}),
        "arrays of nothing": ormsgpack.packb([{"type": "ndarray", "data": {"values": [], "shape": [0]}}] * 25_000),
    }
    return {name: b"\x82\xa6object" + data + b"\xa2id\x01" for name, data in made.items()}
