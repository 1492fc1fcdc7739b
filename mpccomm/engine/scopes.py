"""Blocks of the program that something counts in: phases and deadlines, entered by ``with`` or ``async with``.

A stay in such a block belongs to the context that entered it, and to the tasks that are made inside. It may end in another
context: a generator is closed where it happens to be, an asynchronous one by a task of its own. And blocks of generators need
not end in the order in which they nest. So what counts is not where a context variable points but which stays are over: one
that is over is passed over by all who look, in whichever thread or task.

A signal handler may raise before the first step of leaving a block, which nothing in Python can prevent. But a ``with`` holds its
block: a stay whose block is gone is over as well.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from itertools import pairwise
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

S = TypeVar("S", bound="Stay")


class Stay:
    """One stay in a block, from entering to leaving it.

    :param clock: that of the pool
    """

    __slots__ = ("_block", "_clock", "outer", "over")

    def __init__(self, block: object, outer: Any, clock: Callable[[], float]) -> None:
        self._block = weakref.ref(block)
        self._clock = clock
        self.outer = outer
        self.over = math.inf
        """When it ended, by that clock."""

    @property
    def block(self) -> object:
        """The block; None: it is gone."""
        return self._block()

    def look(self) -> None:
        """End it if its block is gone, as no ``with`` stays there any more."""
        if self.over == math.inf and self._block() is None:
            self.end()

    def end(self) -> None:
        """Be over from now on; idempotent."""
        self.over = min(self.over, self._clock())


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
            stay.look()
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
        """End a stay, in this context and in all others that know it; idempotent."""
        stay.end()
        if self._innermost.get() is stay:
            self._innermost.set(next(iter(self), None))


class _Name(str):
    """What a block is called."""

    __slots__ = ()


class _NameOfForgotten(_Name):
    """Warns that the block was never entered, when that is gone: in most programs where it was made, so that line is named.

    A block that is entered makes it a mere `_Name`: what is raised in a finalizer, as by Ctrl-C, would be swallowed.
    """

    __slots__ = ()

    def __del__(self) -> None:
        text = f"{self} was never entered, so it counts for nothing: put `with` before it"
        warnings.warn(text, RuntimeWarning, 2)


class Block(Generic[S]):
    """Something to enter by ``with`` or ``async with``, as often as wanted, by several threads and tasks at a time too.

    :param what: names it for people
    """

    def __init__(self, stays: Stays[S], what: str) -> None:
        self._stays = stays
        self._entered: list[S] = []
        self._name: _Name = _NameOfForgotten(what)

    def _begin(self, outer: S | None) -> S:
        """Return a new stay, inside of the innermost one that goes on."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._name.__class__ = _Name
        stay = None
        try:
            stay = self._begin(next(iter(self._stays), None))
            self._entered.append(stay)
            self._stays.enter(stay)
            return self
        except BaseException:
            # A signal handler has raised: there will be no `__exit__`.
            self._leave(stay)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stay = None
        try:
            stay = self._last()
            self._leave(stay)
        except BaseException:
            # The same in the midst of this.
            self._leave(stay or self._last())
            raise
        if stay is None:
            raise RuntimeError(
                f"{self} is left more often than it was entered: let a `with`, or an ExitStack, both enter and leave it"
            )

    def _last(self) -> S | None:
        """Return the stay that this context knows: others may be in the same block. It may be left where it is not known, too."""
        return self._stays.of(self) or next(reversed(self._entered), None)

    def _leave(self, stay: S | None) -> None:
        """Leave it; idempotent."""
        if stay is not None:
            with suppress(ValueError):
                self._entered.remove(stay)
            self._stays.leave(stay)

    def __repr__(self) -> str:
        return self._name

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
