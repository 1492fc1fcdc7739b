"""The loop that a pool lives on, and how calls from other threads and loops reach it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from threading import get_ident
from time import perf_counter, sleep
from typing import Any, Protocol, TypeVar

from mpccomm.engine.lanes import lane, of_tasks, running
from mpccomm.engine.observer import Observers
from mpccomm.errors import PoolClosedError, WrongThreadError
from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
from mpccomm.transport.skipping import stands_still

_TURN = 128
"""When this many calls wait for the loop, the thread that posts yields to it."""
_WORKERS = 2
"""Threads that decode large messages for futures."""
_ATTEMPTS = 100
"""How often a container is copied anew that changes meanwhile."""
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
    """Log a warning if this thread, which waits in a blocking call, should be running the loop of a pool."""
    loop = asyncio._get_running_loop()
    held_up = [] if loop is None else [owner.title for owner in _owners if owner.home is loop]
    if held_up:
        text = (
            "a blocking call holds up the event loop of thread %r, on which %s lives: that can't answer any party before the call "
            "returns; await the coroutines of SyncPool.pool instead, or make the call in another thread (asyncio.to_thread)"
        )
        EventLog()(LogEvent.LOOP_HELD_UP, text, threading.current_thread().name, ", ".join(held_up))


def copied(items: Callable[[], Iterable[T]]) -> list[T]:
    """Return a copy of a container that the loop of a pool may be changing now; an empty list if it changes all the time."""
    for _ in range(_ATTEMPTS):
        try:
            return list(items())
        except RuntimeError:  # it changed while we went through it
            continue
    return []


class Cancellable(Protocol):
    """A call whose caller may give it up."""

    def cancel(self) -> object:
        """Put back the message that was taken for it. Called on the pool's loop."""


class _Mark:
    """Stands in `LoopOwner.forgotten` behind the last call that a withdrawal is for."""

    def __init__(self, due: set[_Mark]) -> None:
        self._due = due
        self.passed = False
        """Whether a withdrawal has got there."""

    def cancel(self) -> None:
        """Note that a withdrawal has got there."""
        self.passed = True
        self._due.discard(self)


class Holding:
    """Stands in `LoopOwner.forgotten` while the loop holds a future that the program may forget.

    Of that it is heard only when the loop has let go. It is to count from here: a call that came meanwhile may be a later one.
    """

    def __init__(self) -> None:
        self.dropped: list[Cancellable] = []
        """The receives of those whose end came with that."""

    def cancel(self) -> None:
        """Withdraw these."""
        for receive in self.dropped:
            receive.cancel()


class Sent(Cancellable, Protocol):
    """A call that may have queued values which its caller can change."""

    def detach(self) -> None:
        """Copy these values."""


class LoopOwner:
    """Runs functions on one event loop, in the order in which they were posted, whichever thread posted them."""

    program_waits: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the whole program stands still in calls of pools. On a loop of its own there may always be something else."""

    def __init__(
        self,
        log: EventLog | None = None,
        clock: Callable[[], float] = perf_counter,
        elsewhere: Callable[[Callable[[], None]], Callable[[], None]] = lambda function: function,
    ) -> None:
        self.log = log or EventLog()
        self.clock = clock
        """What time it is for the pool, in seconds: a simulated network has a time of its own."""
        self._elsewhere = elsewhere
        """Makes what a thread is given, see `Network.elsewhere`."""
        self.grace = 1.0
        """Seconds that an interrupted call may take to be withdrawn."""
        self.observers: Observers | None = None
        """What is told of every send, receive and wait; None: nothing is."""
        self.split: Callable[[BaseException], None] = lambda error: None
        """Ends the pool, because what a signal handler raised has split its work."""
        self.posted: deque[Callable[[], object]] = deque()
        """The functions that are still to be run, in this order."""
        self.afterwards: deque[Callable[[], None]] = deque()
        """What is to be done once when these have run, in the same turn of the loop; only while they run."""
        self.forgotten: deque[Cancellable] = deque()
        """Calls whose outcome the program does not get any more: what they are for is forgotten, or they were interrupted. To note
        one is a single call of C code, so that a signal handler can't come in between."""
        self.unread: dict[int, Cancellable] = {}
        """What gives the message of a future back, by its identity, as long as the program has not looked at the future."""
        self.suspect: BaseException | None = None
        """An exception that left the pool's work in the middle, until `judge` has found out whether a signal handler raised it.
        It is noted by one store, before which no handler can run. If `judge` is then kept from running, the next call or the clock
        runs it."""
        self._withdrawing = False
        self._due: set[_Mark] = set()
        """How far the withdrawal has to go that is under way."""
        self._scheduled = False
        self.running = False
        """A posted function runs now."""
        self._workers: ThreadPoolExecutor | None = None
        self.home: asyncio.AbstractEventLoop | None = None
        """The loop, once there is one."""
        self._call_soon: Callable[[Callable[[], None]], object]
        self.thread: int | None = None
        self.title = "mpccomm"
        """The name of the pool's threads."""
        self.inherited = ""
        """Why nothing comes any more, in the child of a fork: the loop runs in the parent."""
        self.settled = False
        """Whether there is a loop yet."""

    def lane(self) -> int:
        """Return the lane that calls. From any thread."""
        if get_ident() == self.thread:
            try:
                return of_tasks[running[self.home]]
            except KeyError:
                pass  # it is no task, or this is its first call
        return lane()

    def is_busy(self) -> bool:
        """Return whether a posted function is still to be run, or runs now: what is posted now runs after it."""
        return bool(self.posted) or self.running

    def settle_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Settle on this loop. Called once, on the thread of the loop."""
        self.home = loop
        self._call_soon = loop.call_soon_threadsafe
        self.thread = threading.get_ident()
        _owners.add(self)
        self.settled = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; only once there is one."""
        assert self.home is not None
        return self.home

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether this is the loop of the pool."""
        return loop is self.home

    @property
    def here(self) -> bool:
        """Whether this is the loop's own thread."""
        # A thread that has ended leaves its number to a later one.
        return threading.get_ident() == self.thread and self.home is not None and not self.home.is_closed()

    def check(self) -> None:
        """Raise if a call would never be answered: the loop has ended, or can't run while this one does."""
        loop = self.home
        if loop is None:
            return
        if loop.is_closed():
            raise PoolClosedError("the event loop of this pool is closed; make a new pool on the loop that runs now")
        if stands_still(loop):
            raise WrongThreadError(
                "the event loop of this pool stands still while MemoryNetwork.run runs a program beside it: make its pools "
                "within the program"
            )
        if threading.get_ident() == self.thread and not loop.is_running():
            raise WrongThreadError(
                "the event loop of this pool does not run now, and another one can't on the same thread"
            )

    def post(self, function: Callable[[], object]) -> None:
        """Run it on the loop: at once when called there, soon from any other thread.

        Called there out of a function that was posted, it is run after that one.

        :raises PoolClosedError: the loop is closed
        """
        if threading.get_ident() != self.thread:
            self.post_soon(function)
        elif self.running:
            self.posted.append(function)
        elif self.posted:
            self.posted.append(function)
            self._run_posted()
        else:
            try:
                function()
            except BaseException as error:
                self.suspect = error
                self.judge()
                raise

    def post_soon(self, function: Callable[[], object]) -> None:
        """Run it in a further turn of the loop, whichever thread calls: nothing happens before this has returned.

        :raises PoolClosedError: the loop is closed
        """
        posted = self.posted
        if self._scheduled and len(posted) % _TURN == _TURN - 1 and get_ident() != self.thread:
            # Python switches threads every 5 ms, and threads that post may get eight such periods in a row: until then nothing
            # would be sent that the other side could work on meanwhile.
            sleep(0)
        posted.append(function)
        if not self._scheduled:
            # One wake-up of the loop serves all functions that are posted until it runs.
            self._scheduled = True
            try:
                self._call_soon(self._run_posted)
            except RuntimeError:
                self._scheduled = False
                posted.clear()
                raise PoolClosedError("the event loop of this pool is closed") from None
            except BaseException:
                # Ctrl-C in here: it is not known whether the loop was woken.
                self._scheduled = False
                raise

    def _run_posted(self) -> None:
        self._scheduled = False
        if self.running:
            return
        posted = self.posted
        try:
            self.running = True
            # Functions that these post wait for the next turn of the loop: otherwise this could go on for ever.
            for _ in range(len(posted)):
                function = posted.popleft()
                try:
                    function()
                except Exception as error:
                    self._tell(error)
            if self.afterwards:
                self._run_afterwards()
        except BaseException as error:
            self.suspect = error
            self.judge()
            raise
        finally:
            self.running = False
            if posted and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._run_posted)

    def _run_afterwards(self) -> None:
        # A function of its own: a signal that comes where a loop goes back would leave out what ends the block around it.
        afterwards = self.afterwards
        while afterwards:
            afterwards.popleft()()

    def _tell(self, error: Exception) -> None:
        """Tell of an exception of a posted function: requests tell their callers, but no call waits for the outcome of others."""
        self.suspect = error
        self.judge()
        context = {"message": "a call posted to the pool's loop failed", "exception": error}
        self.loop.call_exception_handler(context)

    def catch_up(self) -> None:
        """Block, on another thread than the loop's, until what was posted before has run; for `grace` seconds at most."""
        loop = self.home
        if loop is None or self.inherited or not loop.is_running() or stands_still(loop) or get_ident() == self.thread:
            return
        there = allocate_lock()
        there.acquire()
        with suppress(PoolClosedError):
            self.post_soon(there.release)
            there.acquire(True, self.grace)

    def withdraw_forgotten(self) -> None:
        """Have the calls that are in `forgotten` by now ended, behind all that was posted before. From any thread.

        So other calls get their messages: those that are posted from now on. A call that is noted meanwhile is left to a later
        withdrawal, since others may have been asked for before its end that have not begun yet, and are not to get its number.

        :raises PoolClosedError: the loop is closed
        """
        self.post(self._withdrawal())

    def _withdrawal(self) -> Callable[[], None]:
        mark = _Mark(self._due)
        self.forgotten.append(mark)
        return partial(self._withdraw, mark)

    def _withdraw(self, last: _Mark) -> None:
        """End all up to that mark.

        What ends may call functions of the program, and these the pool, which comes back here: the first goes on.
        """
        if last.passed:
            return
        self._due.add(last)
        if self._withdrawing:
            return
        try:
            self._withdrawing = True
            self._withdraw_each()
        finally:
            self._withdrawing = False

    def _withdraw_each(self) -> None:
        # A function of its own: a signal that comes where a loop goes back would leave out what ends the block around it.
        forgotten, due = self.forgotten, self._due
        while forgotten and due:
            # Taken out afterwards: a call that finds `forgotten` empty must come after the last one as well.
            try:
                forgotten[0].cancel()
            finally:
                forgotten.popleft()
        due.clear()

    def hold(self) -> Holding:
        """Note that the loop is about to hold a future that the program may forget."""
        holding = Holding()
        self.forgotten.append(holding)
        return holding

    def let_go(self, holding: Holding, held: list[Any]) -> None:
        """Let go of all that is held."""
        forgotten = self.forgotten
        before = len(forgotten)
        held.clear()
        if len(forgotten) > before:
            later = islice(copied(lambda: forgotten), before, None)
            holding.dropped = [item for item in later if isinstance(item, weakref.ref)]
        if forgotten and forgotten[-1] is holding:
            forgotten.remove(holding)  # no call has looked in here meanwhile

    def give_back(self, request: Sent) -> None:
        """Block, on another thread, until this request is withdrawn: a send then needs none of its caller's values any more."""
        try:
            self._settle(request)
        except BaseException:
            # A second signal comes while the exception of the first is on its way to the caller.
            self._settle(request)
            raise

    def _settle(self, request: Sent) -> None:
        landed = allocate_lock()
        landed.acquire()
        withdrawal = self._withdrawal()

        def withdraw() -> None:
            withdrawal()
            landed.release()

        with suppress(PoolClosedError):
            self.post(withdraw)
            if not landed.acquire(True, self.grace):
                # The loop is held up. The values are copied here instead, since the caller may change them from now on.
                request.detach()

    # -- what signal handlers raise --------------------------------------------------------------------------------------

    def judge(self) -> bool:
        """Return whether it is a signal handler that raised the `suspect`: then the pool ends. Called on the loop."""
        error = self.suspect
        strike = error is not None and is_strike(error)
        if error is not None and strike:
            self.split(error)
        self.suspect = None
        return strike

    def struck(self, error: BaseException) -> bool:
        """Note an exception that left the pool's work in the middle, and return whether a signal handler raised it."""
        self.suspect = error
        return self.judge()

    def resume(self) -> None:
        """Run what was posted, if what a signal handler raised has kept the loop from that. Called now and then, on the loop."""
        if (self.posted or self.afterwards) and not self.running:
            self._run_posted()
        elif not self.posted:
            self._scheduled = False

    def entering(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return what the loop is to call, once, in place of a function: one that begins within a ``try``.

        A signal that comes while a loop waits has its handler run where Python code runs next: on uvloop that is the beginning of
        whatever the loop calls, mostly a timer. What is raised there comes out when the function has run all the same.
        """
        entering = self._enter(function)
        next(entering)
        return entering.__next__

    def _enter(self, function: Callable[[], None]) -> Generator[None, None, None]:
        before: BaseException | None = None
        try:
            yield
        except GeneratorExit:
            return
        except BaseException as error:
            before = error
        try:
            function()
        except BaseException as error:
            self.suspect = error
            self.judge()
            raise
        if before is not None:
            raise before
        yield

    # -- work that would keep the loop busy ----------------------------------------------------------------------------

    def run_in_worker(self, function: Callable[[], None]) -> None:
        """Run it in a thread of the pool's own, not of the loop's executor, which belongs to the program."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"{self.title}, decoding")
        function = self._elsewhere(function)
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
