"""Counts that each thread keeps for itself, so that none waits for another; those of threads that have ended are added up.

A program may start a thread for every request: what is kept must not grow with the number of those that ever were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class PerThread(Generic[T]):
    """What ``make`` returns, once for each thread.

    ``merge`` adds the second to the first, and returns False, with nothing added, where that may still change.
    """

    def __init__(self, make: Callable[[], T], merge: Callable[[T, T], bool]) -> None:
        self._make = make
        self._merge = merge
        self.local = threading.local()
        """That of the calling thread, as ``own``, once it has one: so it is found without a call."""
        self._threads: list[tuple[threading.Thread, T]] = []
        self._ended: tuple[T, list[tuple[threading.Thread, T]]] = make(), []
        """The sum of those that have ended, and those of `_threads` that are in it."""
        self._folding = threading.Lock()
        """Never waited for: while one thread adds up, the others leave it to that."""

    def here(self) -> T:
        """Return that of the calling thread."""
        try:
            found: T = self.local.own
        except AttributeError:
            found = self._make()
            # In this order: what a thread counts is in the sum, whatever interrupts this.
            self._threads.append((threading.current_thread(), found))
            self.local.own = found
            self._fold()
        return found

    def all(self) -> list[T]:
        """Return all, and the sum of those of threads that have ended. Each is in there once, whatever other threads do."""
        while True:
            ended = self._ended
            threads = list(self._threads)
            if self._ended is ended:
                total, gone = ended
                return [total, *(one[1] for one in threads if one not in gone)]

    def _fold(self) -> None:
        if not self._folding.acquire(blocking=False):
            return
        try:
            # What an earlier one was interrupted in comes first.
            before, gone = self._ended
            self._remove(gone)
            self._ended = before, []
            ended = [one for one in self._threads if not one[0].is_alive()]
            if ended:
                total = self._make()
                self._merge(total, before)
                folded = [one for one in ended if self._merge(total, one[1])]
                self._ended = total, folded
                self._remove(folded)
                self._ended = total, []
        finally:
            self._folding.release()

    def _remove(self, gone: list[tuple[threading.Thread, T]]) -> None:
        for one in gone:
            with suppress(ValueError):
                self._threads.remove(one)
