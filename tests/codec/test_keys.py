"""Keys that stay distinct, and keys that were chosen to collide."""

import dataclasses
import enum
import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, ClassVar

import pytest

from mpccomm import EncodingError
from mpccomm.codec import decode, encode
from mpccomm.codec.abc import Refusal
from mpccomm.codec.keys import distinct, received


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


@dataclasses.dataclass(frozen=True)
class Place:
    of: tuple[Fraction, ...]
    number: int


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
