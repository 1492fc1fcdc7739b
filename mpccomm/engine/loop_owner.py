"""The loop that a pool lives on, and how calls from elsewhere reach it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from time import perf_counter
from typing import TypeVar

from mpccomm.engine.lanes import lane, of_tasks, running
from mpccomm.engine.observer import Observer
from mpccomm.errors import PoolClosedError, WrongThreadError
from mpccomm.logs import EventLog, LogEvent

_WORKERS = 2
"""Threads that decode large messages for futures."""
_ATTEMPTS = 5
T = TypeVar("T")
_owners: weakref.WeakSet[LoopOwner] = weakref.WeakSet()


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs here.

    :raises WrongThreadError: none does
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise WrongThreadError(
            "no event loop of asyncio runs here, and a Pool lives on one: use it inside of asyncio.run(...). Without asyncio take "
            "SyncPool; in a program of trio call that in a thread: await trio.to_thread.run_sync(pool.recv, name)"
        ) from None


def tell_of_blocked_loop() -> None:
    """Log that this thread, which waits in a blocking call, should run the loop of a pool meanwhile, if that is so."""
    loop = asyncio._get_running_loop()
    held_up = [] if loop is None else [owner.title for owner in _owners if owner.home is loop]
    if held_up:
        text = (
            "a blocking call holds up the event loop of thread %r, on which %s lives: that can't answer anybody before the call "
            "returns; await the coroutines of SyncPool.pool instead, or make the call in another thread (asyncio.to_thread)"
        )
        EventLog()(LogEvent.LOOP_HELD_UP, text, threading.current_thread().name, ", ".join(held_up))


def copied(items: Callable[[], Iterable[T]]) -> list[T]:
    """Return what the loop of a pool may be changing now, as it was at some moment; nothing if it never stands still."""
    for _ in range(_ATTEMPTS):
        try:
            return list(items())
        except RuntimeError:  # it changed while we went through it
            continue
    return []


class LoopOwner:
    """Runs functions on one event loop, in the order in which they were posted, whichever thread posted them."""

    program_waits: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the whole program stands still in calls of pools. On a loop of its own there may always be something else."""

    def __init__(self, log: EventLog | None = None) -> None:
        self.log = log or EventLog()
        self.observer: Observer | None = None
        """Who is told of what is sent, received and waited for; None: nothing is asked for."""
        self.posted: deque[Callable[[], None]] = deque()
        """What is still to be run, in this order."""
        self._scheduled = False
        self._running = False
        self._workers: ThreadPoolExecutor | None = None
        self.home: asyncio.AbstractEventLoop | None = None
        """The loop, once there is one."""
        self.thread: int | None = None
        self.title = "mpccomm"
        """How threads of the pool are called."""
        self.settled = False
        """Whether there is a loop yet."""

    def lane(self) -> int:
        """Return the lane that calls. From any thread."""
        try:
            return of_tasks[running[self.home]] if get_ident() == self.thread else lane()
        except KeyError:
            return lane()

    def called(self) -> tuple[int, float]:
        """Return the lane that calls, and the time: where there is an observer. From any thread."""
        # As `lane`, in fewer steps.
        try:
            number = of_tasks[running[self.home]] if get_ident() == self.thread else lane()
        except KeyError:
            number = lane()
        return number, perf_counter()

    def is_busy(self) -> bool:
        """Whether something that was posted is still to be run, or runs: what comes now comes after it."""
        return bool(self.posted) or self._running

    def settle_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """This is the loop; called once, on its own thread."""
        self.home = loop
        self.thread = threading.get_ident()
        _owners.add(self)
        self.settled = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; only once there is one."""
        assert self.home is not None
        return self.home

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is the loop."""
        return loop is self.home

    @property
    def here(self) -> bool:
        """Whether this is the loop's own thread."""
        # A thread that has ended leaves its number to a later one.
        return threading.get_ident() == self.thread and self.home is not None and not self.home.is_closed()

    def check(self) -> None:
        """Raise where a call would never be answered."""
        loop = self.home
        if loop is None:
            return
        if loop.is_closed():
            raise PoolClosedError("the event loop of this pool is closed; make a new pool on the loop that runs now")
        if threading.get_ident() == self.thread and not loop.is_running():
            raise WrongThreadError(
                "the event loop of this pool does not run now, and another one can't on the same thread"
            )

    def post(self, function: Callable[[], None]) -> None:
        """Run it on the loop: at once when called there, soon from any other thread.

        Called there out of a function that was posted, it is run after that one.

        :raises PoolClosedError: the loop is closed
        """
        if threading.get_ident() != self.thread:
            self.post_soon(function)
        elif self._running:
            self.posted.append(function)
        elif self.posted:
            self.posted.append(function)
            self._run_posted()
        else:
            function()

    def post_soon(self, function: Callable[[], None]) -> None:
        """Run it in a further turn of the loop, whichever thread calls: nothing happens before this has returned.

        :raises PoolClosedError: the loop is closed
        """
        self.posted.append(function)
        if not self._scheduled:
            # One wake-up serves all that is posted until it lands.
            self._scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._run_posted)
            except RuntimeError:
                self._scheduled = False
                self.posted.clear()
                raise PoolClosedError("the event loop of this pool is closed") from None
            except BaseException:
                # Ctrl-C in here: whether that wake-up was sent is not known.
                self._scheduled = False
                raise

    def _run_posted(self) -> None:
        self._scheduled = False
        if self._running:
            return
        self._running = True
        try:
            # What these post in turn waits for the next turn: they may go on for ever.
            for _ in range(len(self.posted)):
                self._run(self.posted.popleft())
        finally:
            self._running = False
            if self.posted and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._run_posted)

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:
            # A request tells its caller what has failed. For the outcome of anything else no call waits.
            context = {"message": "a call posted to the pool's loop failed", "exception": error}
            self.loop.call_exception_handler(context)

    # -- work that would keep the loop busy ----------------------------------------------------------------------------

    def run_in_worker(self, function: Callable[[], None]) -> None:
        """Run it in a thread of the pool's own, not of the loop's executor, which belongs to the program."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"{self.title}, decoding")
        try:
            self._workers.submit(function)
        except RuntimeError:
            # The interpreter is about to end, and no executor takes anything any more.
            function()

    def close_workers(self) -> None:
        """Let the threads of `run_in_worker` end when they have done what they were given."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown(wait=False)
