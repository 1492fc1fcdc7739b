"""All pools of a process: the list of them, those that wait for a loop, and what a fork or SIGTERM does to them."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from mpccomm.engine.lifecycle import Lifecycle


class _Engine(Protocol):
    """As much of an engine as has to do with the others."""

    lifecycle: Lifecycle

    def write(self) -> None:
        """Write what is to be written at the end."""

    def process_ends(self) -> None:
        """Log it where the program did not shut the pool down, and its loop does not run any more."""

    def close_inherited(self) -> None:
        """Leave everything to the parent process. Called after a fork, in the child."""


E = TypeVar("E", bound=_Engine)


class Engines(Generic[E]):
    """The engines of this process. The list keeps none of them alive."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[E] = weakref.WeakSet()
        self._awaiting_loop: weakref.WeakKeyDictionary[threading.Thread, weakref.WeakSet[E]]
        self._awaiting_loop = weakref.WeakKeyDictionary()
        """The engines that were set up before a loop ran in their thread, by thread. Each thread looks only at its own."""
        atexit.register(self._process_ends)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close_inherited)

    def add(self, engine: E) -> None:
        """Add an engine that was just made."""
        self._all.add(engine)

    def all(self) -> list[E]:
        """Return all of them."""
        return list(self._all)

    def usable(self) -> list[E]:
        """Return those that were not shut down."""
        return [engine for engine in self.all() if engine.lifecycle.usable]

    def await_loop(self, engine: E) -> None:
        """Have an engine start together with the next one that settles on a loop of this thread, where none runs yet."""
        self._awaiting_loop.setdefault(threading.current_thread(), weakref.WeakSet()).add(engine)

    def awaiting_loop(self) -> Iterable[E]:
        """Return the engines of this thread that wait for a loop; they wait no longer."""
        return self._awaiting_loop.pop(threading.current_thread(), ())

    def write_at_sigterm(self) -> None:
        """Have SIGTERM end the process only after all engines have written their traces and reports.

        A `Pool` has no thread to say goodbye in then.
        """
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self.write_and_end)

    def write_and_end(self, number: int, frame: object) -> None:
        """Handle SIGTERM where the program does not."""
        signal.signal(number, signal.SIG_DFL)
        for engine in self.usable():
            engine.write()
        signal.raise_signal(number)

    def _process_ends(self) -> None:
        for engine in self.usable():
            engine.process_ends()

    def _close_inherited(self) -> None:
        for engine in self.all():
            engine.close_inherited()
