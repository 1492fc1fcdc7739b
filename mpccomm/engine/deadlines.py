"""One time limit for several calls: what `Pool.deadline` gives out, and what is left of it at each call inside."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from types import TracebackType

from mpccomm.engine.options import SendLimits, seconds
from mpccomm.errors import CommunicationTimeoutError


class PoolDeadline:
    """Bounds all calls of one pool that wait, made inside of its ``with`` (or ``async with``), by what is left of it.

    Such deadlines nest.
    """

    __slots__ = ("_at", "_outer", "_owner", "_token", "seconds")

    def __init__(self, owner: object, limit: float) -> None:
        found = seconds(limit)
        if found is None or not found >= 0:
            raise ValueError(f"a deadline can't be {limit!r} seconds away")
        self.seconds = found
        self._owner = owner
        self._at = time.monotonic() + found
        self._outer: PoolDeadline | None = None
        self._token: Token[PoolDeadline | None] | None = None

    def __enter__(self) -> PoolDeadline:
        self._outer = current.get()
        self._at = time.monotonic() + self.seconds
        self._token = current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            current.reset(self._token)
            self._token = None

    async def __aenter__(self) -> PoolDeadline:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(self._at - time.monotonic(), 0.0)

    def tighten(self, owner: object, limit: float | None) -> float | None:
        """The limit of a call, or what is left of the deadline for that pool, whichever is less."""
        deadline: PoolDeadline | None = self
        while deadline is not None:
            if deadline._owner is owner and (limit is None or deadline.left < limit):
                limit = RemainingTime(deadline.left)
                limit.of = deadline.seconds
            deadline = deadline._outer
        return limit


class RemainingTime(float):
    """What is left of a deadline, in seconds."""

    of: float
    """How long it was."""

    def now(self, left: float) -> RemainingTime:
        """Return the same deadline, with what is left of it now."""
        found = RemainingTime(left)
        found.of = self.of
        return found


current: ContextVar[PoolDeadline | None] = ContextVar("mpccomm.deadline", default=None)


def tightened(owner: object, limit: float | None) -> float | None:
    """The limit of a call inside of whatever deadlines there are for that pool."""
    deadline = current.get()
    return limit if deadline is None else deadline.tighten(owner, limit)


def limits_within(owner: object, limits: SendLimits) -> SendLimits:
    """The limits of a send inside of whatever deadlines there are.

    :raises CommunicationTimeoutError: nothing is left
    """
    limit = tightened(owner, limits.seconds)
    if limit is limits.seconds:
        return limits
    if isinstance(limit, RemainingTime) and limit <= 0:
        raise CommunicationTimeoutError(f"nothing is left of the deadline of {limit.of:g} s; nothing was sent")
    return SendLimits(limit, limits.retries)


class CallRemainder(float):
    """What is left of the limit of a call that waits several times, in seconds."""

    of: float
    """How long it was."""


def describe_limit(limit: float | None) -> str:
    """A time limit as errors name it."""
    if isinstance(limit, RemainingTime):
        return f"the {float(limit):.3g} s that were left of the deadline of {limit.of:g} s"
    if isinstance(limit, CallRemainder):
        limit = limit.of
    return f"{limit:.3g} s"
