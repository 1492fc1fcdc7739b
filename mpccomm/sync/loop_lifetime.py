"""The lifetime of a blocking pool: its engine and its thread live together to the end, even if the program drops the pool."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import signal
import sys
import threading
import time
import warnings
from _thread import start_new_thread
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from mpccomm.display import some
from mpccomm.engine.engine import Engine
from mpccomm.engine.several import TaskCall
from mpccomm.errors import PoolClosedError
from mpccomm.interrupts import is_strike
from mpccomm.logs import LogEvent
from mpccomm.sync.blocking import wait_for
from mpccomm.sync.loop_thread import LoopThread
from mpccomm.sync.signals import handle_signals, keep_notebook_awake, leave, on_end, on_told

_lifetimes: set[LoopLifetime] = set()
"""The lifetimes whose threads were started. The references are strong: each thread must be ended in order, also of lost pools."""

_RARELY = 600.0
"""Seconds after which, at the latest, it is said again for whom the main program may wait."""


class LoopLifetime:
    """An engine that starts a thread of its own at its first use."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = LoopThread()
        engine.loop_provider = self

    def start(self) -> None:
        """Start the thread, and the engine on its loop."""
        # Added first: if the start is interrupted, what was started is found at exit.
        _lifetimes.add(self)
        _know_how_this_process_ends()
        if not self._thread.alive:
            handle_signals()
        try:
            self._thread.start(self._engine.title, self._engine.start)
        except RuntimeError as error:
            raise PoolClosedError(
                f"a pool can't begin any more where the program is at its end (use it, or make it, before): {error}"
            ) from error
        keep_notebook_awake(lambda: self.alive)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.alive

    @property
    def grace(self) -> float:
        """Seconds that an end without lingering may take."""
        return self._engine.settings.interrupt_grace

    @property
    def linger(self) -> float:
        """Seconds in which messages may still be delivered at the end."""
        return self._engine.settings.linger

    def tell_of_threads(self, names: Sequence[str]) -> None:
        """Log for which threads the main program may wait, though a signal has told it to end. Any thread may call."""
        engine = self._engine
        engine.log(
            LogEvent.TOLD_TO_END,
            "this program was told to end, and has not: it may wait for %s, where a call may wait for a message (pool.explain() "
            "says which). Give such calls a time limit, or put the executor around the `with` of the pool. A second signal ends it "
            "at once",
            some(names),
        )

    @property
    def here(self) -> bool:
        """Whether this is the thread."""
        return self._thread.here

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function on the loop, and block until it is done. An exception here, like Ctrl-C, cancels it."""
        wait_for(TaskCall(self._engine.loop_owner, function), self._engine, lambda: None)

    def close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what ends the pool, and wait for the end of its thread; idempotent.

        Any number of threads may call it. An exception here, like Ctrl-C, takes back what this call asked for, and is raised again
        when the pool has ended, or a moment later. So is the `SystemExit` of SIGTERM, which takes nothing back.
        """
        if self._thread.alive:
            # The engine may be about to start, after a first use that was interrupted.
            with suppress(PoolClosedError):
                self.start()
        if not self._thread.alive:
            self._engine.close_unused()
            _lifetimes.discard(self)
            # An earlier call that was interrupted may have left it a moment before its end.
            self._thread.join()
            return
        tasks: list[asyncio.Task[None]] = []
        loop = self._engine.loop_owner.loop
        try:
            try:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._begin, tasks, function)
                self._thread.ended.wait()
            except SystemExit:
                with suppress(RuntimeError):
                    # It may have come before that was done.
                    loop.call_soon_threadsafe(self._begin, tasks, function)
                self._thread.ended.wait()
                raise
        except BaseException:
            with suppress(RuntimeError):
                # Also where the call was interrupted that begins it.
                loop.call_soon_threadsafe(self._withdraw, tasks, function)
            self._thread.join(self._engine.settings.interrupt_grace)
            raise
        self._thread.join()
        self._engine.callbacks.join(self.grace)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def make_up_for(self, error: BaseException, reason: str | None = None) -> None:
        """End the pool where a signal has kept a call that was to end it from its first steps.

        Without lingering, but where the signal ends the program as ``sys.exit`` does. ``reason``: as of `wind_up`.
        """
        if not is_strike(error) or self._engine.ending.asked_for:
            return
        if self._thread.alive:
            self._engine.ending.begin_in_background(reason)
            if isinstance(error, SystemExit):
                self._thread.join()
                return
            self._engine.ending.hurry()
            self._thread.join(self.grace)
        else:
            self._engine.close_unused()
            _lifetimes.discard(self)

    def _begin(self, tasks: list[asyncio.Task[None]], function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # If the pool has just ended, nothing is left to do, and a task would never end.
        if not (tasks or self._thread.stopping):
            tasks.append(self._engine.loop_owner.loop.create_task(function()))

    def _withdraw(self, tasks: list[asyncio.Task[None]], function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin(tasks, function)
        for task in tasks:
            # It begins in the next turn of the loop.
            self._engine.loop_owner.loop.call_soon(task.cancel)

    def wind_up(self, reason: str | None = None, *, forgotten: bool = False) -> None:
        """Deliver, say goodbye, or with a reason that we give up, and close, all of it in the background.

        ``forgotten``: the program has no name for it any more, and perhaps makes another one at the same port this very moment.

        Takes no lock: a finalizer may call it.
        """
        if self._thread.alive and not self._engine.ending.asked_for:
            self._engine.ending.begin_in_background(reason, forgotten=forgotten)
            # Done last: it raises where warnings are errors.
            warnings.warn(
                f"the pool of thread {self._thread.name!r} was never shut down", ResourceWarning, stacklevel=2
            )

    def hurry(self) -> None:
        """End the lingering."""
        self._engine.ending.hurry()

    def ended(self) -> None:
        """Let the thread end, as nothing of the engine is left."""
        _lifetimes.discard(self)
        self._thread.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout)
        self._engine.callbacks.join(self.grace)


# -- the end of the program --------------------------------------------------------------------------------------------


def _at_exit() -> None:
    """End every pool within its own ``linger``, all at the same time.

    After the program's own threads and executors, which have ended when this is called, in whatever order things were imported;
    and after the handlers that the program has given to `atexit`.
    """
    # As Python itself tells it to what runs it; a session where errors are seen and lived with has no such end.
    died = None if hasattr(sys, "ps1") else getattr(sys, "last_type", None)
    lifetimes = list(_lifetimes)
    try:
        _wind_up(lifetimes, died and died.__name__)
    finally:
        _wait_for(lifetimes)
        if _told_code is not None:
            leave(_told_code)


def _wind_up(lifetimes: Sequence[LoopLifetime], reason: str | None = None) -> None:
    errors = []
    for loop_lifetime in lifetimes:
        try:
            loop_lifetime.wind_up(reason)
        except Warning as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _wait_for(lifetimes: Sequence[LoopLifetime]) -> None:
    """Wait until all have ended. After Ctrl-C they do not linger, and the process ends."""
    try:
        for loop_lifetime in lifetimes:
            loop_lifetime.join()
    except KeyboardInterrupt:
        for loop_lifetime in lifetimes:
            loop_lifetime.hurry()
        for loop_lifetime in lifetimes:
            loop_lifetime.join(loop_lifetime.grace)
        leave(128 + signal.SIGINT)


def _told_to_end(code: int) -> None:
    """End the process, told by a signal when the main program is over, though other threads may go on for ever."""
    global _told_code
    _told_code = code
    lifetimes = list(_lifetimes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        _wind_up(lifetimes)

    def wait() -> None:
        _wait_for(lifetimes)
        leave(code)

    try:
        # The interrupted code goes on meanwhile: it may hold a lock that the pools need to end.
        start_new_thread(wait, ())
    except RuntimeError:  # the interpreter starts no threads any more
        wait()


_main_is_over = threading.Event()
"""Python is about to wait for all other threads."""


def _told_while_main_runs() -> None:
    """Look after what is left when the main program is over, in a thread that begins now: Python 3.12 starts none by then."""
    with suppress(RuntimeError):  # the system has no room for one
        start_new_thread(_end_other_threads, ())


def _others() -> list[str]:
    """Return the names of the threads that keep the process from its end."""
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main]


def _end_other_threads() -> None:
    """End the pools that other threads still use after SIGTERM: one that waits for a message would keep the process for ever.

    Where the main program itself waits for such a thread, as the ``with`` of an executor does, it is told of.
    """
    pause = max((lifetime.linger for lifetime in list(_lifetimes)), default=0.0) + 1
    while not _main_is_over.wait(min(pause, _RARELY)):
        pause *= 2
        if others := _others():
            for lifetime in list(_lifetimes):
                lifetime.tell_of_threads(others)
    lifetimes = list(_lifetimes)
    if not lifetimes or not _others():
        return
    time.sleep(max(lifetime.linger for lifetime in lifetimes))
    if _others():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            _wind_up(lifetimes)


def _in_the_child_of_a_fork() -> None:
    # Kept for ever: freeing a loop of uvloop in another process than its own crashes.
    _inherited.extend(_lifetimes)
    _lifetimes.clear()


_told_code: int | None = None
"""The exit status, where a signal ended the program when it was over."""
_inherited: list[LoopLifetime] = []
_known: set[int] = set()
"""The ids of processes that this was done in."""


def _know_how_this_process_ends() -> None:
    """Have the pools end with a process that multiprocessing has forked, and which ends without `atexit`."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or os.getpid() in _known:
        return
    _known.add(os.getpid())
    getattr(threading, "_register_atexit", atexit.register)(_at_exit_of_child)


def _at_exit_of_child() -> None:
    # Threads of executors are told to end first: otherwise they would never end.
    getattr(sys.modules.get("concurrent.futures.thread"), "_python_exit", lambda: None)()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    _at_exit()


atexit.register(_at_exit)
with suppress(AttributeError, RuntimeError):  # a later Python has no such function; or the program is over already
    # After it was imported there, so that this is called first: executors wait for their threads.
    importlib.import_module("concurrent.futures.thread")
    threading._register_atexit(_main_is_over.set)  # type: ignore[attr-defined]
on_end(_told_to_end)
on_told(_told_while_main_runs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child_of_a_fork)
