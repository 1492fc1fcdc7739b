"""One time limit for several calls: what `Pool.deadline` returns, and how much of it is left for each call inside."""

from __future__ import annotations

import math
from typing import Self

from mpccomm.display import number_text
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.options import SendLimits, seconds
from mpccomm.engine.scopes import Block, Stay, Stays
from mpccomm.errors import CommunicationTimeoutError


class PoolDeadline(Block["_Stay"]):
    """Bounds all calls of one pool that wait, made inside of its ``with`` (or ``async with``), by what is left of it.

    Such deadlines nest.
    """

    def __init__(self, owner: LoopOwner, limit: float | None) -> None:
        given = seconds(limit)
        found = math.inf if given is None else given
        if not found >= 0:
            raise ValueError(f"a deadline can't be {limit!r} seconds away")
        super().__init__(entered, f"<a deadline of {number_text(found, 6)} s>")
        self.seconds = found
        self._owner = owner
        self._at = owner.clock() + found

    def _begin(self, outer: _Stay | None) -> _Stay:
        """Begin to count the time."""
        stay = _Stay(self, outer)
        self._at = stay.at
        return stay

    @property
    def left(self) -> float:
        """Seconds that are left, since it was entered last."""
        return max(self._at - self._owner.clock(), 0.0)


class _Stay(Stay):
    """One stay in the block of a deadline: it bounds the calls that are made meanwhile."""

    __slots__ = ("at", "owner", "seconds")

    def __init__(self, block: PoolDeadline, outer: _Stay | None) -> None:
        self.owner = block._owner
        super().__init__(block, outer, self.owner.clock)
        self.seconds = block.seconds
        self.at = self.owner.clock() + block.seconds


entered: Stays[_Stay] = Stays("mpccomm.deadline")
"""All deadlines that calls may be bounded by."""


class _Remainder(float):
    """What is left of a time limit, in seconds."""

    of: float
    """The whole limit, in seconds."""

    def __new__(cls, left: float, of: float) -> Self:
        found = super().__new__(cls, left)
        found.of = of
        return found


class RemainingTime(_Remainder):
    """What is left of a `PoolDeadline`."""


class CallRemainder(_Remainder):
    """What is left of the limit of a call that waits several times."""


def tightened(owner: LoopOwner, limit: float | None) -> float | None:
    """Return the limit of a call, or what is left of the pool's deadlines around it, whichever is less."""
    for stay in entered:
        if stay.owner is owner:
            left = max(stay.at - owner.clock(), 0.0)
            if left < (math.inf if limit is None else limit):
                limit = RemainingTime(left, stay.seconds)
    return limit


def limits_within(owner: LoopOwner, limits: SendLimits) -> SendLimits:
    """Return the limits of a send, tightened by the deadlines around it.

    :raises CommunicationTimeoutError: nothing is left
    """
    limit = tightened(owner, limits.seconds)
    if limit is limits.seconds:
        return limits
    if isinstance(limit, RemainingTime) and limit <= 0:
        raise CommunicationTimeoutError(
            f"nothing is left of the deadline of {number_text(limit.of, 6)} s; nothing was sent"
        )
    return SendLimits(limit, limits.retries)


class Deadline:
    """One time limit for all of a call that waits several times."""

    def __init__(self, timeout: float | None, owner: LoopOwner) -> None:
        self.timeout = timeout = tightened(owner, timeout)
        self._clock = owner.clock
        self._at = None if timeout is None else self._clock() + timeout

    @property
    def left(self) -> float | None:
        """Seconds; None without limit."""
        if self._at is None:
            return None
        left = max(self._at - self._clock(), 0.0)
        if isinstance(self.timeout, RemainingTime):
            return RemainingTime(left, self.timeout.of)
        assert self.timeout is not None
        return CallRemainder(left, self.timeout)


def describe_limit(limit: float | None) -> str:
    """Return a time limit as errors name it; one that is over is not None."""
    assert limit is not None
    if isinstance(limit, RemainingTime):
        return f"the {number_text(limit)} s that were left of the deadline of {number_text(limit.of, 6)} s"
    if isinstance(limit, CallRemainder):
        limit = limit.of
    return f"{number_text(limit)} s"
