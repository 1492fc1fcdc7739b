"""Keys that stay distinct, and keys that were chosen to collide."""

import dataclasses
import enum
import itertools
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pytest
from gmpy2 import mpc, mpfr, mpz

from mpccomm import DecodingError, EncodingError, Serialization
from mpccomm.codec import decode, encode
from mpccomm.codec.abc import Refusal
from mpccomm.codec.keys import arriving, distinct, filled, received
from mpccomm.codec.wire import Tag
from tests.codec.raw import call, decode_node


class Colour(enum.Enum):
    RED = 1
    LISTS = ((), [1])


def test_plain_keys_are_themselves() -> None:
    keys = [1, "a", (2,)]
    assert distinct(keys) is keys


def test_members_become_values() -> None:
    assert distinct([Colour.RED, 2]) == [1, 2]
    for keys in ([Colour.RED, 1], [Colour.RED, True], [Colour.LISTS]):
        with pytest.raises(Refusal):
            distinct(keys)


class Inner(enum.Enum):
    ONE = 1
    TWO = Colour.RED, 2
    LIST = ([1],)


@dataclasses.dataclass(frozen=True)
class Place:
    of: Any
    number: Any = 0


@dataclasses.dataclass(frozen=True)
class Named:
    of: Any

    def __hash__(self) -> int:
        return hash(self.of.name)


@pytest.fixture
def registered() -> Iterator[None]:
    Serialization.register_class(Place)
    Serialization.register_class(Named)
    yield
    Serialization.clear_serialization_logic()


Pair = NamedTuple("Pair", [("one", Any), ("other", Any)])  # noqa: UP014


@pytest.mark.parametrize(
    "keys",
    [
        [(Inner.ONE,), (1,)],
        [(Inner.ONE, 2), (True, 2)],
        [Inner.TWO, (1, 2)],
        [(0, (0, Inner.TWO)), (0, (0, (1, 2)))],
        [frozenset([Inner.ONE]), frozenset([1])],
        [(frozenset([Inner.ONE]),), (frozenset([1.0]),)],
        [(Inner.LIST,)],
        [frozenset([Inner.LIST])],
        [Inner.LIST],
    ],
)
def test_members_in_keys_become_values_too(keys: list[Any]) -> None:
    with pytest.raises(Refusal, match="Enum member"):
        distinct(keys)
    for value in (set(keys), dict.fromkeys(keys), frozenset(keys), [set(keys)] * 30, {(frozenset(keys),): 1}):
        with pytest.raises(EncodingError, match="Enum member"):
            encode(value)
    if len(keys) > 1:
        # One alone can be a key, and arrives as what the other is.
        assert decode(encode({keys[0]: 5}).segments) == {keys[1]: 5}
    assert distinct(keys[1:]) == keys[1:]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "keys",
    [
        [Place(Inner.ONE), Place(1)],
        [(Place((0, Inner.TWO)),), (Place((0, (1, 2))),)],
        [Place(Inner.LIST)],
        [frozenset([Place(1, Place(Inner.LIST))])],
        [Named(Inner.ONE)],
        [(1, Named(Inner.ONE))],
    ],
)
def test_members_in_instances_become_values_too(keys: list[Any]) -> None:
    value: Any
    for value in (set(keys), dict.fromkeys(keys), [set(keys)] * 30):
        with pytest.raises(EncodingError, match="Enum member"):
            encode(value)
    if len(keys) == 1:
        for value in (pd.Series([1], name=keys[0]), pd.Index(keys, dtype=object, tupleize_cols=False)):
            with pytest.raises(EncodingError, match=r"Enum member|cannot be hashed"):
                encode(value)
    assert decode(encode({Place(Inner.ONE, 5): 1}).segments) == {Place(1, 5): 1}


def test_of_what_is_in_a_key_all_else_stays() -> None:
    keys = [(1, (2, frozenset([3]))), Pair(1, 2), ("a",), b"c"]
    assert arriving(keys) is keys
    assert arriving([*keys, Pair(Inner.ONE, (Colour.RED,))]) == [*keys, Pair(1, (1,))]
    nested: Any = frozenset()
    for number in range(200):
        nested = frozenset([(nested, number), (number, nested)])
    keys = [nested]
    assert arriving(keys) is keys
    assert len(arriving([nested, (Inner.ONE, nested)])) == 2


def test_hashes_that_collide() -> None:
    prime = 2**61 - 1
    assert received([prime * number for number in range(1000)])
    with pytest.raises(ValueError):
        received([prime * number for number in range(5000)])
    with pytest.raises(TypeError):
        received([[]])
    assert received(["a"] * 5000)


def grid(side: int, shift: int) -> list[int]:
    return [row << shift | column for row in range(side) for column in range(side)]


@pytest.mark.parametrize(("side", "shift"), [(48, 64), (64, 61), (90, 61), (200, 64), (250, 65)])
def test_numbers_that_hold_two_are_keys(side: int, shift: int) -> None:
    """They have many hashes in common, and few of each."""
    keys = grid(side, shift)
    assert len(keys) - len(set(map(hash, keys))) > 1000
    assert distinct(keys) is keys
    assert received(keys) is keys


PRIME = 2**61 - 1
COLLIDING: list[list[Any]] = [
    [PRIME * number for number in range(1500)],
    [-PRIME * number - 7 for number in range(1500)],
    [(PRIME * number, "a") for number in range(1500)],
    grid(600, 61),
]


@pytest.mark.parametrize("keys", COLLIDING, ids=range(len(COLLIDING)))
def test_what_the_other_side_would_refuse_is_not_sent(keys: list[Any]) -> None:
    with pytest.raises(Refusal, match=r"has [\d,]+ keys, of which too many have the same hash.*list of pairs"):
        distinct(keys)
    with pytest.raises(ValueError, match="equal hashes"):
        received(keys)


SLOW: dict[str, Callable[[int], Any]] = {
    "fractions": lambda number: Fraction(PRIME * number + 1),
    "tuples of fractions": lambda number: (*[Fraction(1, 3) for _ in range(40)], PRIME * number + 1),
    "tuples of numbers": lambda number: (*range(1000, 1040), PRIME * number + 1),
    "paths": lambda number: (*[PurePosixPath("a") for _ in range(10)], PRIME * number + 1),
    "addresses": lambda number: (*[IPv4Address(5) for _ in range(10)], PRIME * number + 1),
    "sets": lambda number: frozenset([PRIME * number, *[PRIME * (5000 + other) for other in range(8)]]),
    "decimals": lambda number: Decimal(PRIME * number + 1),
    "instances": lambda number: Place((*[Fraction(1, 3) for _ in range(10)],), PRIME * number + 1),
}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("number", [20, 60, 250, 999])
def test_keys_that_take_long_to_compare_may_be_fewer(kind: str, number: int) -> None:
    """What comes to a megabyte is decoded in about a second, whatever stands in it: it holds up all other parties."""
    value = set(map(SLOW[kind], range(number)))
    try:
        data = encode(value) if kind != "instances" else None
        assert distinct(list(value))
    except (EncodingError, Refusal):
        assert number > 20
        return
    assert number < 999
    if data is not None:
        began = time.process_time()
        decode(data.segments)
        assert time.process_time() - began < 0.02 + 4e-6 * sum(map(len, data.segments))


@pytest.mark.parametrize("kind", SLOW)
def test_others_among_them_do_not_make_them_more(kind: str) -> None:
    bad: list[Any] = list(map(SLOW[kind], range(2000)))
    others = list(range(5, 8005))
    for keys in (bad + others, others + bad, [key for pair in zip(bad, others, strict=False) for key in pair]):
        with pytest.raises(ValueError, match="equal hashes"):
            received(keys)
        with pytest.raises(Refusal):
            distinct(keys)


NUMBERS: dict[str, Callable[[int], Any]] = {
    "float": lambda number: 5.0 * 2.0 ** (61 * (number % 33 - 16)),
    "complex": lambda number: complex(5.0 * 2.0 ** (61 * (number % 33 - 16))),
    "numpy": lambda number: np.float64(5.0 * 2.0 ** (61 * (number % 33 - 16))),
    "integers": lambda number: 5 + number * PRIME,
    "decimals": lambda number: Decimal(5 + number * PRIME),
    "fractions": lambda number: Fraction(10 + (2 * number + 1) * PRIME, 2),
    "mpz": lambda number: mpz(5 + number * PRIME),
    "mpfr": lambda number: mpfr(5 + number * PRIME, 128),
    "mpc": lambda number: mpc(5 + number * PRIME, precision=(128, 128)),
}


@pytest.mark.filterwarnings(
    "ignore:overflow encountered:RuntimeWarning"
)  # where numpy compares with what is too large for it
@pytest.mark.parametrize("kinds", list(itertools.combinations(NUMBERS, 2)), ids="-".join)
def test_numbers_of_two_kinds_that_take_long_to_compare_may_be_fewer(kinds: tuple[str, str]) -> None:
    one, other = (NUMBERS[kind] for kind in kinds)
    assert hash(one(0)) == hash(other(1))
    if set(kinds) == {"decimals", "mpz"}:
        pytest.skip("gmpy2 refuses to compare them")
    sent = 0
    for number in (10, 15, 20, 30, 60, 130):
        value = {make(place) for place in range(0, 2 * number, 2) for make in (one, lambda place: other(place + 1))}
        try:
            several = 1 + 20_000 // sum(map(len, encode(value).segments))
        except EncodingError:
            break
        sent = number
        segments = encode([value] * several).segments
        began = time.process_time()
        decode(segments)
        assert time.process_time() - began < 0.02 + 4e-6 * sum(map(len, segments))
    assert sent >= 10


def along_one_way(number: int, bits: int = 17) -> list[int]:
    """Return integers of different hashes of which ``number`` pass nearly all others on the way to their places in a dict."""
    random = np.random.default_rng(1)
    size = np.uint64(1 << bits)
    place, way = 12345, []
    for _ in range((1 << bits - 1) * 2 // 3 + 1):
        way.append(place)
        place = (5 * place + 1) % int(size)
    taken = np.zeros(int(size), bool)
    taken[way] = True

    def passing(hashes: Any, steps: int) -> Any:
        """Return those whose first places are taken."""
        at, rest = hashes % size, hashes
        good = taken[at]
        for _ in range(steps):
            rest = rest >> np.uint64(5)
            at = (at * np.uint64(5) + rest + np.uint64(1)) % size
            good &= taken[at]
        return hashes[good]

    found: set[int] = set()
    while len(found) < number:
        hashes = np.array(way, np.uint64)[random.integers(0, len(way), 400_000)]
        for step in range(1, 10):
            chosen = random.integers(0, 32, 3 * len(hashes)).astype(np.uint64) << np.uint64(bits + 5 * (step - 1))
            hashes = passing((np.repeat(hashes, 3) | chosen) & np.uint64((1 << 60) - 1), step)[:400_000]
        found |= set(passing(hashes, 12).tolist())
    random.shuffle(way)
    return way + list(found - set(way))[:number]


def test_the_way_to_the_place_of_a_key_is_not_long() -> None:
    keys = along_one_way(40_000)
    values = [0] * len(keys)
    assert received(keys) is keys  # their hashes are all different
    began = time.process_time()
    with pytest.raises(ValueError, match="too far"):
        filled({}, keys, zip(keys, values, strict=True))
    with pytest.raises(DecodingError):
        decode_node(call(Tag.DICT, keys, values))
    assert time.process_time() - began < 3
    # Python would take far longer: a message of less than a megabyte holds up the pool for that time.
    began = time.process_time()
    dict.fromkeys(keys[:45_000])
    assert time.process_time() - began > 0.03


@pytest.mark.parametrize(
    "make", [int, float, lambda number: number << 20, lambda number: (number, number), Fraction, str]
)
def test_keys_that_nobody_has_chosen_are_put_in_their_places(make: Callable[[int], Any]) -> None:
    keys = list(map(make, range(0, 300_000, 7)))
    assert filled({}, keys, zip(keys, keys, strict=True)) == dict(zip(keys, keys, strict=True))
    assert filled(set(), keys, keys) == set(keys)


@pytest.mark.parametrize("number", [5, 1024, 2048, 2050])
def test_each_key_has_a_value_and_each_value_a_key(number: int) -> None:
    keys = list(range(number))
    for values in (number - 1, number + 1):
        with pytest.raises(DecodingError):
            decode_node(call(Tag.DICT, keys, [0] * values))
    assert decode_node(call(Tag.DICT, keys, [0] * number)) == dict.fromkeys(keys, 0)


@dataclasses.dataclass(frozen=True)
class Odd:
    number: int
    passed: dataclasses.InitVar[int]
    unset: ClassVar[int]
    kept: Any = dataclasses.field(default=None, compare=False)


def test_fields_that_no_instance_has_or_compares() -> None:
    many: list[Any] = [Fraction(1, 3)] * 10_000
    assert received([Odd(PRIME * number, 1, many) for number in range(50)])
    with pytest.raises(ValueError, match="equal hashes"):
        received([Odd(PRIME * number, 1) for number in range(200)])


def test_a_few_of_any_kind_are_keys() -> None:
    keys: list[Any] = list(itertools.product((-1, -2, 0, 1), repeat=4))
    assert received(keys) is keys
    assert len(set(map(hash, keys))) < len(keys) - 20


@pytest.mark.parametrize("container", [dict.fromkeys, set, frozenset], ids=["dict", "set", "frozenset"])
def test_what_is_sent_is_received(container: Callable[[list[Any]], Any]) -> None:
    """Columns of keys between few and too many equal hashes: either the sender says so, or it arrives."""
    refused = 0
    for side in (10, 100, 300, 500, 1000, 1100, 1300):
        value = container([PRIME * number for number in range(side)])
        try:
            data = encode(value)
        except EncodingError:
            refused += 1
        else:
            assert decode(data.segments) == value
    assert refused == 2
