"""One time limit for several calls."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from mpccomm.engine.deadlines import (
    CallRemainder,
    Deadline,
    PoolDeadline,
    RemainingTime,
    describe_limit,
    limits_within,
    tightened,
)
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.options import NO_LIMIT, SendLimits
from mpccomm.errors import CommunicationTimeoutError

ONE, OTHER = LoopOwner(), LoopOwner()


def test_what_is_left_bounds_what_is_inside() -> None:
    with PoolDeadline(ONE, 100):
        limit = tightened(ONE, None)
        assert isinstance(limit, RemainingTime)
        assert limit.of == 100
        assert 99 < limit <= 100
        assert tightened(ONE, 5) == 5
        assert 99 < (tightened(ONE, 200) or 0) <= 100
        assert tightened(OTHER, None) is None
    assert tightened(ONE, None) is None


def test_they_nest_and_the_nearest_counts() -> None:
    with PoolDeadline(ONE, 100), PoolDeadline(OTHER, 1), PoolDeadline(ONE, 50):
        assert (tightened(ONE, None) or 0) <= 50
        with PoolDeadline(ONE, 1000):
            assert (tightened(ONE, None) or 0) <= 50


def test_it_counts_from_when_it_is_entered() -> None:
    deadline = PoolDeadline(ONE, 100)
    deadline._at -= 50
    with deadline:
        assert deadline.left > 99


def test_nothing_is_sent_when_nothing_is_left() -> None:
    with PoolDeadline(ONE, 0), pytest.raises(CommunicationTimeoutError, match="nothing is left of the deadline of 0 s"):
        limits_within(ONE, SendLimits(None, -1))
    with PoolDeadline(ONE, 10):
        limits = SendLimits(1.0, 3)
        assert limits_within(ONE, limits) is limits
        assert limits_within(ONE, SendLimits(None, 3))[1] == 3


@pytest.mark.parametrize("none", [None, math.inf])
def test_no_deadline_bounds_nothing(none: float | None) -> None:
    """Seconds, or None for none, as everywhere."""
    with PoolDeadline(ONE, none) as deadline:
        assert deadline.left == math.inf
        assert tightened(ONE, None) is None
        assert tightened(ONE, 3) == 3
        assert limits_within(ONE, NO_LIMIT) is NO_LIMIT
        assert Deadline(None, ONE).left is None
        with PoolDeadline(ONE, 10):
            assert 9 < (tightened(ONE, None) or 0) <= 10


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_deadline_is_not_in_the_past(wrong: Any) -> None:
    with pytest.raises(ValueError, match="seconds away"):
        PoolDeadline(ONE, wrong)


def test_other_threads_have_their_own() -> None:
    found = []
    with PoolDeadline(ONE, 100):
        thread = threading.Thread(target=lambda: found.append(tightened(ONE, None)))
        thread.start()
        thread.join()
    assert found == [None]


async def test_tasks_that_are_made_inside_have_it_as_long_as_it_lasts() -> None:
    async def limit() -> float | None:
        return tightened(ONE, None)

    async with PoolDeadline(ONE, 100):
        assert await asyncio.create_task(limit()) is not None
        inside = asyncio.create_task(limit())
    assert await inside is None
    assert await asyncio.create_task(limit()) is None


def test_one_that_is_entered_again_counts_afresh() -> None:
    deadline = PoolDeadline(ONE, 100)
    with deadline, deadline:
        assert 99 < (tightened(ONE, None) or 0) <= 100
    assert tightened(ONE, None) is None


def test_how_it_is_said() -> None:
    assert describe_limit(RemainingTime(1.23456, 5.0)) == "the 1.23 s that were left of the deadline of 5 s"
    assert describe_limit(0.999875) == "1 s"
    assert describe_limit(7260.0) == "7,260 s"
    assert describe_limit(RemainingTime(3600.4, 7200.0)) == "the 3,600 s that were left of the deadline of 7,200 s"
    assert describe_limit(CallRemainder(0.5, 5.0)) == "5 s", "how long it was: the call has waited several times"


def test_one_limit_is_for_all_of_a_call() -> None:
    clock = [100.0]
    limit = Deadline(10, LoopOwner(clock=lambda: clock[0]))
    assert limit.left == 10
    clock[0] = 107
    assert limit.left == 3
    clock[0] = 120
    assert limit.left == 0
    assert Deadline(None, ONE).left is None
