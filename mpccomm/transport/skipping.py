"""An event loop that does not wait: where nothing is to be done before some time, it is that time at once.

What the program computes takes as long as ever; the rest of the time passes in no time. That is right where everything that a
program waits for comes from timers of the same loop, as on a network in memory. It knows of executors, sockets and pipes, and waits
for these; of threads that the program has made itself it does not.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_MOMENT = 0.02
"""Seconds after which a loop looks again whether it may skip time."""
_BEGINS = 1.0
"""Seconds in which a new thread has begun."""
_beside: ContextVar[Sequence[asyncio.AbstractEventLoop]] = ContextVar("mpccomm.beside", default=())
"""The loop that a program is run beside, which stands still until that is over; then it is empty."""


class SkippingClock:
    """Tells the seconds of `time.perf_counter`, and all that were skipped; none are while a thread works for a pool."""

    def __init__(self) -> None:
        self._skipped = 0.0
        """Seconds that were not waited for."""
        self._elsewhere: set[object] = set()
        """What threads do now."""

    def __call__(self) -> float:
        """Return what time it is."""
        return time.perf_counter() + self._skipped

    def skip(self, seconds: float) -> bool:
        """Be so much later. Return whether that can be."""
        if self._elsewhere:
            return False
        self._skipped += seconds
        return True

    def elsewhere(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function for another thread, until the end of which no time is skipped. It tells the loop what came of it."""

        def run() -> None:
            try:
                function()
            finally:
                self._elsewhere.discard(run)

        self._elsewhere.add(run)
        return run


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its time goes on by itself, and leaps over what would be waiting; not for what comes from an executor or a file.

    :param clock: what time it is, for this loop and all who know the clock
    """

    def __init__(self, clock: SkippingClock) -> None:
        self.clock = clock
        self._elsewhere = 0
        """What executors do for this loop now."""
        super().__init__(_SkippingSelector(self._skip))

    def time(self) -> float:
        """Return what time it is."""
        return self.clock()

    def _skip(self, seconds: float) -> bool:
        return not self._elsewhere and self.clock.skip(seconds)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Have something done in a thread; time is real until it is."""
        future = super().run_in_executor(executor, func, *args)
        self._elsewhere += 1
        future.add_done_callback(self._returned)
        return future

    async def shutdown_default_executor(self, *limit: Any) -> None:
        """Wait for the threads of the executor; the time limit that there is from Python 3.12 on is one of real time."""
        self._elsewhere += 1
        try:
            await super().shutdown_default_executor(*limit)
        finally:
            self._elsewhere -= 1

    def _returned(self, future: asyncio.Future[Any]) -> None:
        self._elsewhere -= 1


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, skip: Callable[[float], bool]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where that is nothing, skip the time."""
        # Any other file than the loop's own is a socket, or a pipe of another process, where time is real.
        if timeout is None or timeout <= 0 or len(self.get_map()) > 1:
            return super().select(timeout)
        # Only for a moment: nothing wakes the loop when it may skip time again.
        return super().select(0) or ([] if self._skip(timeout) else super().select(min(timeout, _MOMENT)))


def running_clock() -> SkippingClock | None:
    """Return the clock of the `SkippingLoop` that runs here; None: there is none."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.clock if isinstance(loop, SkippingLoop) else None


def run(main: Coroutine[Any, Any, T], clock: SkippingClock) -> T:
    """Run a program as `asyncio.run` does, on a `SkippingLoop`; in another thread, if a loop runs in this one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _run(main, clock)
    beside = [loop]
    try:
        return _run_beside(main, clock, beside)
    finally:
        beside.clear()


def stands_still(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this loop does nothing until the program is over that calls."""
    return loop in _beside.get()


def _run(main: Coroutine[Any, Any, T], clock: SkippingClock) -> T:
    with asyncio.Runner(loop_factory=lambda: SkippingLoop(clock)) as runner:
        return runner.run(main)


def _run_beside(main: Coroutine[Any, Any, T], clock: SkippingClock, beside: Sequence[asyncio.AbstractEventLoop]) -> T:
    task: asyncio.Task[T] | None = None
    given_up = False
    outcome: Future[T] = Future()
    begun, ended = threading.Event(), threading.Event()

    async def whole() -> T:
        nonlocal task
        task = asyncio.current_task()
        if given_up:
            main.close()
            raise asyncio.CancelledError
        return await main

    def work() -> None:
        begun.set()
        _beside.set(beside)
        try:
            outcome.set_result(_run(whole(), clock))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            ended.set()

    thread = threading.Thread(target=copy_context().run, args=(work,), name="mpccomm, in skipped time", daemon=True)
    try:
        thread.start()
        # Not `join`: where an interrupt strikes in that, Python may take the thread for one that has ended.
        ended.wait()
    except BaseException:
        # An interrupt ends the program, as it would in this thread; it may have come before there was one.
        given_up = True
        if task is not None:
            with suppress(RuntimeError):  # it has ended
                task.get_loop().call_soon_threadsafe(task.cancel)
        if begun.wait(_BEGINS):
            thread.join()
        else:
            main.close()
        raise
    thread.join()
    return outcome.result()
