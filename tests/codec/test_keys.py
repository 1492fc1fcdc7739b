"""Keys that stay distinct, and keys that were chosen to collide."""

import enum

import pytest

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
