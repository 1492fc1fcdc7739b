"""What fits into a box, as both ends count it."""

from __future__ import annotations

import pytest

from mpccomm.protocol.box import WHOLE_COST, Box, cost, id_cost
from mpccomm.protocol.frames import ViolationError


def test_into_an_empty_box_everything_fits() -> None:
    box = Box(1, 10)
    assert box.fits(10**9)
    assert box.admit(10**9)
    assert (box.messages, box.bytes) == (1, 10**9)
    assert not box.overdrawn
    assert not box.fits(0)
    assert not box.admit(0)


def test_messages_and_bytes_are_bounded() -> None:
    box = Box(3, 10)
    assert box.admit(5)
    assert not box.fits(6)
    assert box.fits(5)
    assert box.admit(5)
    assert not box.admit(1)
    assert box.admit(0)
    assert not box.admit(0)
    box.take(5)
    assert box.admit(5)


def test_what_is_asked_for_begins_all_the_same() -> None:
    box = Box(2, 10)
    for size in (5, 6):
        assert not box.overdrawn
        box.begin(size)
    assert box.overdrawn
    box.take(6)
    assert not box.overdrawn
    for _ in range(2):
        box.begin(0)
    assert box.overdrawn


def test_what_is_heard_of_it_never_goes_back() -> None:
    box = Box(9, 100)
    for _ in range(3):
        box.begin(10)
    assert box.hear(20, 2)
    assert not box.hear(20, 2)
    assert not box.hear(10, 1)
    assert (box.taken, box.taken_bytes) == (2, 20)
    for taken_bytes, taken in ((0, 4), (31, 0)):
        with pytest.raises(ViolationError):
            box.hear(taken_bytes, taken)


def test_costs() -> None:
    assert cost(100, 1, 0) == WHOLE_COST + 100
    assert id_cost("abc", 3) == id_cost(("abc", 7), 3) == 3
    assert id_cost("ü", 2) == 8
