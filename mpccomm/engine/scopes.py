"""Blocks of the program that something counts in: phases and deadlines, entered by ``with`` or ``async with``.

A stay in such a block belongs to the context that entered it, and to the tasks that are made inside. It may end in another
context: a generator is closed where it happens to be, an asynchronous one by a task of its own. And blocks of generators need
not end in the order in which they nest. So what counts is not where a context variable points but which stays are over: one
that is over is passed over by all who look, in whichever thread or task.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from itertools import pairwise
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

S = TypeVar("S", bound="Stay")


class Stay:
    """One stay in a block, from entering to leaving it."""

    __slots__ = ("block", "outer", "over")

    def __init__(self, block: object, outer: Any) -> None:
        self.block = block
        self.outer = outer
        self.over = math.inf
        """When it ended, by `time.perf_counter`."""


class Stays(Generic[S]):
    """All stays of one kind, each context with its own innermost one."""

    def __init__(self, name: str) -> None:
        self._innermost: ContextVar[S | None] = ContextVar(name, default=None)
        self.last = self._innermost.get
        """Return the stay that this context has entered last, over or not; None: there is none. Runs no Python code."""

    def of(self, block: object) -> S | None:
        """Return the innermost stay in that block that goes on in this context."""
        return next((stay for stay in self if stay.block is block), None)

    def __iter__(self) -> Iterator[S]:
        """Yield the stays that go on in this context, from the innermost outwards."""
        return self.at(math.inf)

    def at(self, time: float) -> Iterator[S]:
        """Yield the stays of this context that went on at a time."""
        stay = self._innermost.get()
        while stay is not None:
            if stay.over >= time:
                yield stay
            stay = stay.outer

    def enter(self, stay: S) -> None:
        """Make a stay the innermost one of this context."""
        # Blocks of generators may overlap again and again: those that are over must not stay linked.
        for inner, outer in pairwise([*self, None]):
            assert inner is not None
            inner.outer = outer
        self._innermost.set(stay)

    def leave(self, stay: S) -> None:
        """End a stay, in this context and in all others that know it."""
        stay.over = perf_counter()
        if self._innermost.get() is stay:
            self._innermost.set(next(iter(self), None))


class Block(Generic[S]):
    """Something to enter by ``with`` or ``async with``, as often as wanted, by several threads and tasks at a time too."""

    _idle = False
    """Whether nobody has tried to enter it yet."""

    def __init__(self, stays: Stays[S]) -> None:
        self._stays = stays
        self._entered: list[S] = []
        self._idle = True

    def __del__(self) -> None:
        if self._idle:
            # In most programs that forget it, nothing holds the block: it goes where it was made, and so that line is named.
            warnings.warn(
                f"{self} was never entered, so it counts for nothing: put `with` before it", RuntimeWarning, 2
            )

    def _begin(self, outer: S | None) -> S:
        """Return a new stay, inside of the innermost one that goes on."""
        raise NotImplementedError

    def _end(self, stay: S) -> None:
        """Take note of the end of a stay."""

    def __enter__(self) -> Self:
        self._idle = False
        stay = self._begin(next(iter(self._stays), None))
        self._entered.append(stay)
        self._stays.enter(stay)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The one that this context knows of: others may be in the same block. It may be left where it is not known, too.
        stay = self._stays.of(self) or next(reversed(self._entered), None)
        if stay is None:
            raise RuntimeError(
                f"{self} is left more often than it was entered: let a `with`, or an ExitStack, both enter and leave it"
            )
        self._entered.remove(stay)
        self._stays.leave(stay)
        self._end(stay)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
