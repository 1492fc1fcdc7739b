"""Values, and messages that no encoder made, by a grammar: each rule draws on the others, to any shape.

`python -m tests.codec.grammar COUNT [SEED]` is the long form of what the tests run.
"""

import argparse
import random
import string
import sys
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import bitarray
import gmpy2
import numpy as np
import ormsgpack

from mpccomm.codec import Serialization, decode, encode
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.errors import EncodingError
from tests.codec.exactness import assert_same
from tests.codec.mutation import attempt, import_plugins

LENGTHS = (0, 1, 1, 2, 2, 3, 5, 31, 32, 33, 50)
MOST = 100_000
"""Elements of a value: one that holds the same part over and over may come to any number."""
ZONES = (
    None,
    None,
    UTC,
    timezone(timedelta(hours=2), "there"),
    timezone(timedelta(minutes=-90)),
    ZoneInfo("Asia/Kabul"),
)


@dataclass
class Reading:
    sensor: Any
    value: Any = None


@dataclass(frozen=True, slots=True)
class Key:
    number: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Colour(Enum):
    RED = 1
    GREEN = "green"


REGISTERED = (Reading, Key, Pair, Colour)


def register() -> None:
    for kind in REGISTERED:
        Serialization.register_class(kind, overwrite=True)


class Grammar:
    """A source of values and nodes, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.leaves: list[Callable[[], Any]] = [
            lambda: None,
            lambda: self.random.random() < 0.5,
            self.integer,
            self.integer,
            self.real,
            lambda: complex(self.real(), self.real()),
            self.text,
            self.text,
            self.blob,
            lambda: bytearray(self.blob()),
            lambda: Decimal(self.random.choice(("1.50", "-0E+7", "NaN", "-sNaN3", "Infinity", str(self.integer())))),
            lambda: Fraction(self.integer(), abs(self.integer()) or 1),
            lambda: UUID(int=self.random.getrandbits(128)),
            lambda: range(self.integer(), self.integer(), self.random.choice((1, -3, 2**70))),
            self.moment,
            lambda: self.moment().date(),
            lambda: self.moment().timetz(),
            lambda: timedelta(
                self.random.randrange(-(10**8), 10**8), self.random.randrange(10**5), self.random.randrange(10**6)
            ),
            lambda: self.random.choice(ZONES[2:]),
            lambda: PurePosixPath(self.text().replace("\0", "/")),
            lambda: PureWindowsPath(self.text().replace("\0", "\\")),
            lambda: IPv4Address(self.random.getrandbits(32)),
            lambda: IPv6Address(self.random.getrandbits(128)),
            lambda: IPv6Network((self.random.getrandbits(64) << 64, 64)),
            lambda: array("d", [self.real() for _ in range(self.length())]),
            lambda: self.random.choice(tuple(Colour)),
            *self._libraries(),
        ]

    def _libraries(self) -> list[Callable[[], Any]]:
        def column(kind: str) -> Callable[[], Any]:
            return lambda: np.frombuffer(self.random.randbytes(16 * self.length()), "u1").view(kind).copy()

        return [
            lambda: gmpy2.mpz(self.integer()),
            lambda: gmpy2.xmpz(self.integer()),
            lambda: gmpy2.mpq(self.integer(), abs(self.integer()) or 1),
            self.gmpy_real,
            lambda: gmpy2.mpc(self.gmpy_real(), self.gmpy_real()),
            lambda: bitarray.bitarray(
                self.random.choices((0, 1), k=self.length()), self.random.choice(("little", "big"))
            ),
            *map(column, ("<i4", ">u2", "f8", "c16", "M8[us]", "S4", "V8")),
            lambda: np.bytes_(self.blob()[:20]),
            lambda: np.str_(self.random.choice(("", "text", "zero\0", "\0"))),
            lambda: np.float32(self.random.random()),
            lambda: np.fromiter([self.random.choice(self.leaves[:20])() for _ in range(5)], object),
        ]

    def length(self) -> int:
        return self.random.choice(LENGTHS)

    def integer(self) -> int:
        number = self.random.getrandbits(self.random.choice((1, 4, 8, 16, 31, 32, 63, 64, 65, 200, 3000)))
        return self.random.choice((number, -number, number & -2, ~number))

    def real(self) -> float:
        return self.random.choice((0.0, -0.0, 1.5, float("nan"), float("-inf"), 5e-324, self.random.gauss(0, 1e9)))

    def text(self) -> str:
        letters = self.random.choice(
            (string.ascii_letters, "\0\x7f\xe9", "\u01c0\u0530", "\U0001f600\ufffd", "ab\udc80")
        )
        return "".join(self.random.choices(letters, k=self.random.choice((0, 1, 5, 40))))

    def blob(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 16, 300, 5000)))

    def moment(self) -> datetime:
        days = self.random.choice((0, 3_652_058, self.random.randrange(3_652_059)))
        clock = time(self.random.choice((0, 23)), self.random.choice((0, 59)), 30, self.random.choice((0, 999_999, 5)))
        moment = datetime.combine(date.min + timedelta(days), clock)
        return moment.replace(fold=self.random.choice((0, 0, 1)), tzinfo=self.random.choice(ZONES))

    def gmpy_real(self) -> Any:
        precision = self.random.choice((2, 53, 53, 53, 64, 65, 300))
        with gmpy2.context(precision=precision):
            number = gmpy2.mul_2exp(gmpy2.mpfr(self.integer()), self.random.choice((0, 5, 10**6)))
            return self.random.choice((number, number, number / 3, -number, gmpy2.mpfr("nan"), gmpy2.mpfr("-inf")))

    def leaf(self) -> Any:
        return self.random.choice(self.leaves)()

    def value(self, depth: int = 4) -> Any:
        """A value of at most *depth* levels, mostly."""
        if depth <= 0 or self.random.random() < 0.2:
            return self.leaf()
        rules = (self._list, self._list, self._uniform, self._uniform, self._grouped, self._other, self._shared)
        return self.random.choice(rules)(depth - 1)

    def _list(self, depth: int) -> Any:
        return [self.value(depth) for _ in range(self.random.choice(LENGTHS[:7]))]

    def _uniform(self, depth: int) -> Any:
        """A list of one kind, in which now and then one is of another."""
        values = [rule() for rule in [self._rule(depth)] * self.length()]
        if values and self.random.random() < 0.2:
            values[self.random.randrange(len(values))] = self.value(depth)
        return self.random.choice((list, list, tuple, deque))(values)

    def _grouped(self, depth: int) -> Any:
        """A list, or the values of a dict, of a few shapes in any order."""
        rules = [self._rule(min(depth, 2)) for _ in range(self.random.choice((1, 2, 3)))]
        values = [self.random.choice(rules)() for _ in range(32 * len(rules) + self.random.randrange(2))]
        return dict(zip(map(str, range(len(values))), values, strict=True)) if self.random.random() < 0.2 else values

    def _rule(self, depth: int) -> Callable[[], Any]:
        """A rule for values of one shape."""
        choice = self.random.randrange(8)
        if depth <= 0 or choice < 3:
            return self.random.choice(self.leaves)
        parts = [self._rule(depth - 2) for _ in range(self.random.choice((1, 1, 2, 3, 17)))]
        if choice == 3:
            return lambda: tuple(part() for part in parts)
        if choice == 4:
            return lambda: [part() for part in parts]
        if choice == 5:
            keys = [self.text() for _ in parts]
            return lambda: {key: part() for key, part in zip(keys, parts, strict=True)}
        if choice == 6:
            return lambda: Reading(parts[0](), parts[-1]())
        return lambda: tuple(parts[0]() for _ in range(self.random.randrange(4)))

    def _other(self, depth: int) -> Any:
        values = [self.value(depth) for _ in range(self.random.choice(LENGTHS[:8]))]
        keys = [self._key() for _ in values]
        kind = self.random.randrange(8)
        if kind == 0:
            return dict(zip(map(str, range(len(values))), values, strict=True))
        if kind == 1:
            return self.random.choice((set, frozenset))(keys)
        if kind == 2:
            return self.random.choice((Counter, OrderedDict))(dict(zip(keys, values, strict=True)))
        if kind == 3:
            return defaultdict(self.random.choice((list, None)), dict(zip(keys, values, strict=True)))
        if kind == 4:
            return Pair(values, Key(keys))
        if kind == 5:
            return Reading(values)
        return dict(zip(keys, values, strict=True))

    def _key(self) -> Any:
        key = self.random.choice(
            (self.integer, self.text, self.blob, self.leaf, lambda: (self.integer(), self.text()))
        )()
        try:
            hash(key)
        except TypeError:
            return repr(type(key))
        # One that does not equal itself is looked for by its identity.
        return key if key == key and not isinstance(key, Enum) else None

    def _shared(self, depth: int) -> Any:
        value = self.value(depth)
        for _ in range(self.random.choice((1, 3, 60))):
            value = [value, self.leaf()] if self.random.random() < 0.9 else (value, value)
        return value

    def node(self, depth: int = 3) -> Any:
        """A node of a message, of which hardly any is that of a value."""
        choice = self.random.random()
        if depth <= 0 or choice < 0.25:
            return self._plain()
        nodes = [self.node(depth - 1) for _ in range(self.random.choice((0, 1, 1, 2, 2, 3, 4, 8)))]
        if choice < 0.4:
            return nodes
        if choice < 0.45:
            return {self.text().encode(errors="replace").decode(): node for node in nodes}
        return [HEADS[self.random.choice(tuple(Tag))], *nodes]

    def _plain(self) -> Any:
        number = self.random.choice((0, 1, 2, 8, 53, 255, 2**31, 2**63 - 1, -1, -(2**63)))
        text = self.random.choice(
            ("", "a", "O", "<f8", ">M8[ns]", "Reading", "sensor", "int", "UTC", "1.5", "nan", "::1", "q", "ns")
        )
        leaf = ormsgpack.Ext(self.random.choice(tuple(Tag)), self.random.randbytes(self.random.choice((0, 1, 4, 8))))
        data = self.random.choice((b"", b"\0" * 8, self.random.randbytes(20), self.random.randbytes(40)))
        few: list[Any] = [self.random.choice((number, text, None, 1.5)) for _ in range(self.random.randrange(4))]
        return self.random.choice((None, True, False, number, number, 1.5, text, text, data, data, leaf, few, few))


def check_value(seed: int) -> bool:
    """Fail unless the value of *seed* arrives as it is, or is refused by the sender; return whether it arrived."""
    grammar = Grammar(seed)
    value = grammar.value()
    try:
        encoded = encode(value, snapshot=seed % 2 == 0, max_elements=MOST)
    except EncodingError:
        return False
    received = decode([bytearray(segment) for segment in encoded.segments])
    sys.setrecursionlimit(10_000)
    try:
        assert_same(value, received)
    finally:
        sys.setrecursionlimit(1000)
    return True


def check_message(seed: int) -> bool:
    """Fail unless the message of *seed* is a value or a `DecodingError`, in bounded time and memory."""
    grammar = Grammar(seed)
    envelope = ormsgpack.packb(grammar.node())
    segments = [grammar.random.randbytes(5000) for _ in range(grammar.random.choice((0, 0, 1, 2)))]
    return attempt([envelope, *segments], thorough=seed % 16 == 0) is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    arguments = parser.parse_args()
    register()
    # What a message may ask for is imported before: torch alone takes seconds, and counts for that message otherwise.
    import_plugins("torch")
    for check in (check_value, check_message):
        passed = 0
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            try:
                passed += check(seed)
            except BaseException:
                sys.stderr.write(f"{check.__name__}, seed {seed}\n")
                raise
        sys.stdout.write(f"{check.__name__}: {passed} of {arguments.count} were values\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
