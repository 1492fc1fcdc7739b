"""Futures that any thread can wait for, made of few objects: programs keep thousands of them, and the collector visits all.

The pool's loop must go on whatever happens to them, so two rules hold:

* What the program does with one may be interrupted between any two steps, by Ctrl-C or by what a signal handler raises. So it
  has no lock that Python code enters. Its outcome is the first element of a list, and appending is one step.
* What belongs to the program never runs on the pool's thread: callbacks have a thread of their own, see `Callbacks`.
"""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
import weakref
from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from concurrent.futures._base import _Waiter
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mpccomm.display import number_text
from mpccomm.engine.callbacks import Callback, Callbacks
from mpccomm.engine.loop_owner import tell_of_blocked_loop
from mpccomm.engine.observer import Involved
from mpccomm.engine.options import handle_limit
from mpccomm.errors import CommunicationTimeoutError, PoolClosedError, WrongThreadError

if TYPE_CHECKING:
    from mpccomm.engine.requests import FutureCall

T = TypeVar("T")

_PIECE = 0.1 if sys.platform == "win32" else 0.5
"""Seconds for which a thread waits before Python looks at signals again, as in a blocking call."""
_LONG = 2.0
"""Seconds after which the log warns of a wait that holds up an event loop."""

_MOST_LISTED = 3
_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"
"""The states that `concurrent.futures` knows."""


class Gate:
    """A gate that is opened once, for which any number of threads wait.

    Each thread waits for a lock of its own, and each change is one call into C. So wherever a signal handler raises, nothing is
    left locked, and opening never waits.
    """

    __slots__ = ("_sleepers", "opened")

    def __init__(self) -> None:
        self.opened = False
        self._sleepers: deque[LockType] = deque()

    def open(self) -> None:
        """Let all through, now and later; idempotent."""
        self.opened = True
        with suppress(IndexError):
            while True:
                self._sleepers.popleft().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is opened. False: the time is up, in seconds."""
        if self.opened:
            return True
        sleeper = allocate_lock()
        sleeper.acquire()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._sleepers.append(sleeper)
            while not self.opened:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                sleeper.acquire(True, _PIECE if left is None else min(_PIECE, left))
            return True
        finally:
            with suppress(ValueError):
                self._sleepers.remove(sleeper)


class _Outcome(NamedTuple):
    state: str
    value: Any = None
    error: BaseException | None = None
    by_pool: bool = False
    """Whether the pool has set it, and not the program."""


class ThreadFuture(concurrent.futures.Future[T]):
    """A future that the pool's loop resolves, once; ``call`` is the receive that it belongs to, if it does to one."""

    def __init__(self, callbacks: Callbacks, call: FutureCall | None = None) -> None:
        # The constructor of the base class is not called: what it makes is not needed here, or is made when it is needed.
        self._callbacks = callbacks
        self._call = call
        self.outcomes: list[_Outcome] = []
        """The outcomes it was given; only the first one counts."""
        self._running = False
        self._to_here: _ToHandle | None = None
        if call is not None:
            self._to_here = to_here = _ToHandle(self, callbacks.loop_owner.forgotten.append)
            to_here.call, to_here.outcomes = call, self.outcomes
            to_here.gate = to_here.kept = None
            to_here.shown = False
            call.waiter = to_here
        # A frame may be kept for a while, as by a profiler or by `explain`, and what is in it is not forgotten in time.
        del self

    # -- by the pool ---------------------------------------------------------------------------------------------------

    @property
    def resolved(self) -> bool:
        """Whether it has what it is for."""
        return bool(self.outcomes) and self.outcomes[0].by_pool

    def resolve(self, value: Any, error: Exception | None) -> bool:
        """Take the result or the error. False: it was cancelled, and does not take it."""
        taken = _resolve(self.outcomes, value, error)
        if taken:
            self.tell()
        return taken

    def tell(self) -> list[Any]:
        """Tell those who wait, and who have added callbacks, that it has what it is for. Return whom `_Shown.publish` returns."""
        told = self._wake()
        if self.__dict__.get("_later"):
            self._callbacks.run(self._call_back)
        return told

    # -- by the program ------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the future. A receive is withdrawn: its message is there for the next one. A send goes on unobserved."""
        if not self._running and not self._is_inherited():
            self._set(_Outcome(_CANCELLED))
        return self.cancelled()

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return bool(self.outcomes) and self.outcomes[0].state is _CANCELLED

    def running(self) -> bool:
        """Return whether `set_running_or_notify_cancel` was called, and it is not done."""
        return self._running and not self.outcomes

    def done(self) -> bool:
        """Return whether it has a result or an error, or was cancelled."""
        return bool(self.outcomes) or self._is_inherited()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, and return it.

        :raises CommunicationTimeoutError: time is up; what it waits for still lasts
        """
        outcome = self._outcome(handle_limit(timeout))
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del outcome, self  # leave no reference cycle of the error and its traceback
        value: T = outcome.value
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, and return the error, or None: then a message is not received by that, but by `result`.

        :raises CommunicationTimeoutError: time is up; what it waits for still lasts
        """
        return self._outcome(handle_limit(timeout), looks=False).error

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Call a function with this future when it is done. One thread runs those of all handles of a pool, one after the other.

        So a callback is to be short. Where the future is done already, it runs at once, in the thread that calls this. As on the
        other face it runs in a copy of the present context, within the phases and deadlines that go on.
        """
        to_here = self._to_here
        if to_here is not None and not self.outcomes:
            # A program that adds a callback has not forgotten the future.
            to_here.kept = self
        observers = self._callbacks.loop_owner.observers
        if self._call is not None and observers is not None:
            for hook in observers.callback:
                hook()
        self.__dict__.setdefault("_later", deque()).append(Callback(fn, copy_context()))
        if self.done():
            self._call_back()

    def set_running_or_notify_cancel(self) -> bool:
        """Note that it runs, for executors; return False where it was cancelled."""
        if self.outcomes and not self.cancelled():
            raise concurrent.futures.InvalidStateError(f"{self!r} is done")
        self._running = not self.outcomes
        return self._running

    def set_result(self, result: T) -> None:
        """Give it a result; a receive is withdrawn by that."""
        self._set_once(_Outcome(_FINISHED, result))

    def set_exception(self, exception: BaseException | None) -> None:
        """Give it an error; a receive is withdrawn by that."""
        self._set_once(_Outcome(_FINISHED, None, exception))

    def __repr__(self) -> str:
        state = self.outcomes[0] if self.outcomes else None
        end = (
            "waiting"
            if state is None
            else "cancelled"
            if state.state is _CANCELLED
            else "failed"
            if state.error
            else "done"
        )
        what = "send to" if self._call is None else "receive from"
        return f"<handle of a {what} {self._parties()}, {end}>"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_inherited(self) -> bool:
        """Return whether it still waited when this process was forked: then it fails, since the pool is the parent's."""
        why = self._callbacks.loop_owner.inherited
        if why and not self.outcomes:
            self.outcomes.append(_Outcome(_FINISHED, None, PoolClosedError(why), by_pool=True))
        return bool(why)

    def _outcome(self, timeout: float | None, *, looks: bool = True) -> _Outcome:
        """Wait for the outcome; where the program looks at it, or it is an error, the message is the program's."""
        if not self.done():
            if self._callbacks.loop_owner.here:
                raise WrongThreadError(
                    "waiting for a handle on the pool's own thread would wait for itself; there, add a callback to it"
                )
            gate: Gate = self.__dict__.setdefault("_gate", Gate())
            if self._to_here is not None:
                self._to_here.gate = gate
            observers = self._callbacks.loop_owner.observers
            end = None if observers is None else observers.begin_wait(self._involved(), further=True)
            try:
                if not self.outcomes and not _wait(gate, timeout):
                    assert timeout is not None
                    raise CommunicationTimeoutError(self._still(timeout))
            finally:
                if end is not None:
                    end()
        outcome = self.outcomes[0]
        if outcome.state is _CANCELLED:
            raise concurrent.futures.CancelledError
        to_here = self._to_here
        if to_here is not None and (looks or outcome.error is not None):
            try:
                to_here.look()
                # From here on the message is the program's. Nothing is called any more until the caller has it: in a call a
                # signal handler may run.
                self._to_here = to_here.call.message = None
            except BaseException:
                to_here.keep()
                raise
        return outcome

    def _involved(self) -> Involved:
        return () if self._call is None else self._call.involved()

    def _parties(self) -> str:
        names = [name for name, _ in self._involved()]
        more = f" and {len(names) - _MOST_LISTED:,} more" if len(names) > _MOST_LISTED else ""
        return (", ".join(names[:_MOST_LISTED]) or "no party") + more

    def _still(self, timeout: float) -> str:
        if self._call is None:
            return (
                f"not confirmed by {self._parties()} within {number_text(timeout, 6)} s; the message may still arrive"
            )
        return (
            f"no message from {self._call.party} within {number_text(timeout, 6)} s. This receive still waits, and gets the "
            "message when it comes: ask for the result again, or cancel() the handle, so that the message is there for another "
            "receive"
        )

    def _set(self, outcome: _Outcome) -> None:
        to_here = self._to_here
        note = self._callbacks.loop_owner.forgotten.append
        try:
            self.outcomes.append(outcome)
        finally:
            # No handler can run between these two: what an interrupt keeps from being done here is done by the pool's loop.
            if to_here is not None:
                note(to_here)
            self._ended_here()

    def _set_once(self, outcome: _Outcome) -> None:
        self._set(outcome)
        if self.outcomes[0] is not outcome:
            raise concurrent.futures.InvalidStateError(f"{self!r} is done")

    def _ended_here(self) -> None:
        """Do all that follows from an outcome that the program has given; any number of times."""
        if not self.outcomes or self.resolved:
            return
        to_here = self._to_here
        if to_here is not None:
            to_here.kept = self._to_here = None
        try:
            self._wake()
        finally:
            if self._call is not None:
                with suppress(PoolClosedError):
                    self._callbacks.loop_owner.post(self._call.cancel)
            self._call_back()

    def _wake(self) -> list[Any]:
        gate: Gate | None = self.__dict__.get("_gate")
        if gate is not None:
            gate.open()
        shown: _Shown | None = self.__dict__.get("_shown")
        return [] if shown is None else shown.publish(self)

    def _call_back(self) -> None:
        later: deque[Callback] | None = self.__dict__.get("_later")
        while later:
            try:
                callback = later.popleft()
            except IndexError:
                return  # another thread has taken the last one
            self._callbacks.call(callback, self, later)

    # What `concurrent.futures.wait` and `as_completed` use of a future.

    @property
    def _show(self) -> _Shown:
        shown: _Shown | None = self.__dict__.get("_shown")
        if shown is None:
            shown = self.__dict__.setdefault("_shown", _Shown())
            if self._to_here is not None:
                self._to_here.shown = True
        if self.done():
            shown.publish(self)
        return shown

    @property
    def _state(self) -> str:  # type: ignore[override]
        if not self._show.published:
            return _RUNNING if self._running else _PENDING
        return self.outcomes[0].state

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._show.waiters

    @property
    def _condition(self) -> _Condition:  # type: ignore[override]
        return _Condition(self)


def _wait(gate: Gate, timeout: float | None) -> bool:
    if timeout is not None and timeout <= _LONG:
        return gate.wait(timeout)
    if gate.wait(_LONG):
        return True
    tell_of_blocked_loop()
    return gate.wait(None if timeout is None else timeout - _LONG)


class _Shown:
    """What `concurrent.futures.wait` and `as_completed` see of a future.

    They lock futures one after the other, in Python code, look at their states, and leave their names. An interrupt in there
    leaves locks behind. So this is no lock: a future that they have "locked" shows no outcome until it is "unlocked", or a
    second has passed.
    """

    __slots__ = ("_untold", "lock", "locked", "published", "until", "waiters")

    def __init__(self) -> None:
        self.lock = allocate_lock()
        """Acquired by C code, and held for a few steps only."""
        self.locked = 0
        self.until = 0.0
        self.published = False
        self.waiters = _Waiters()
        self._untold: deque[Any] = deque()

    def publish(self, future: ThreadFuture[Any]) -> list[Any]:
        """Show its outcome, if it has one, and tell those who had left their names before. Return these: they may hold futures.

        In this very thread: another one would keep the future for a while that the program has forgotten.
        """
        told: list[Any] = []
        if not future.outcomes:
            return told
        with self.lock:
            if not self.published:
                if self.locked and time.monotonic() < self.until:
                    return told
                self._untold.extend(self.waiters)
                self.published = True
        while self._untold:
            try:
                waiter = self._untold.popleft()
            except IndexError:
                break  # another thread has taken the last one
            told.append(waiter)
            if _is_known(waiter) and type(waiter.event) is _Event:
                _tell(waiter, future)
            else:
                # It belongs to the program, and may do anything.
                with suppress(RuntimeError):  # Python is ending
                    start_new_thread(_tell, (waiter, future))
        return told


class _Waiters(list[Any]):
    """The names that were left at a future."""

    def append(self, waiter: Any) -> None:
        """Leave a name."""
        if _is_known(waiter) and type(waiter.event) is threading.Event:
            # An interrupt may leave one locked for ever, and with it the loop, which tells of outcomes.
            waiter.event = _Event()
        super().append(waiter)


class _Event(Gate):
    """Stands where others who wait have a `threading.Event`."""

    __slots__ = ()

    set = Gate.open

    def clear(self) -> None:
        """Let nobody through any more."""
        self.opened = False


def _is_known(waiter: Any) -> bool:
    return isinstance(waiter, _Waiter)


def _tell(waiter: Any, future: ThreadFuture[Any]) -> None:
    outcome = future.outcomes[0]
    if outcome.state is _CANCELLED:
        waiter.add_cancelled(future)
    elif outcome.error is not None:
        waiter.add_exception(future)
    else:
        waiter.add_result(future)


class _Condition:
    """Stands where other futures have a `threading.Condition`."""

    __slots__ = ("_future",)

    def __init__(self, future: ThreadFuture[Any]) -> None:
        self._future = future

    def acquire(self) -> bool:
        shown = self._future._show
        shown.publish(self._future)
        with shown.lock:
            shown.locked += 1
            shown.until = time.monotonic() + 1
        return True

    def release(self) -> None:
        shown = self._future._show
        with shown.lock:
            shown.locked = max(shown.locked - 1, 0)
        shown.publish(self._future)

    __enter__ = acquire

    def __exit__(self, *exception: object) -> None:
        self.release()


def _resolve(outcomes: list[_Outcome], value: Any, error: Exception | None) -> bool:
    """Add the outcome that the pool has. False: another one was first."""
    outcome = _Outcome(_FINISHED, value, error, by_pool=True)
    outcomes.append(outcome)
    return outcomes[0] is outcome


class _ToHandle(weakref.ref["ThreadFuture[Any]"]):
    """The reference of a receive on the pool's loop to the handle, which the program may forget.

    Python has no say in that: it is C code that takes note of the end of the handle, which no signal handler can get into. And
    whatever the loop has to do with a handle that the program may forget, it does here, without the handle: a frame that holds it
    may be kept for a while, as by a profiler or by `explain`, and then its end would be noted too late.
    """

    __slots__ = ("call", "gate", "kept", "outcomes", "shown")

    call: FutureCall
    outcomes: list[_Outcome]
    """Those of the handle."""
    gate: Gate | None
    """That at which threads wait for it, if any has."""
    shown: bool
    """Whether `concurrent.futures` has looked at it."""
    kept: ThreadFuture[Any] | None
    """Keeps the handle, where it has callbacks."""

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Pass the result or the error on to the handle.

        Where the program has forgotten the handle, or given it up, the receive is about to be withdrawn, and the message goes back
        in its turn. So it does where an interrupt keeps the caller from having the handle: until the program looks, the receive
        keeps its message.
        """
        if not _resolve(self.outcomes, value, error):
            self.kept = None
            return
        if self.call.message is not None:
            self.keep()
        # Looked at after that: who waits, or adds a callback, leaves a note here first, and then looks for an outcome.
        if self.gate is not None:
            self.gate.open()
        if self.shown or self.kept is not None:
            self._tell()

    def keep(self) -> None:
        """See that the end of the handle is noted: the program does not have what it got.

        The collector may find the handle in a cycle, and tells of its end only what is referred to from elsewhere.
        """
        self.call.party.loop_owner.unread[id(self)] = self

    def look(self) -> None:
        """Note that the program is about to have what the handle got."""
        call = self.call
        if call.taking is not None:
            call.taking()
            call.taking = None
        self.landed()

    def landed(self) -> None:
        """The program has what the handle got, or has forgotten it. From any thread."""
        self.call.party.loop_owner.unread.pop(id(self), None)

    def _tell(self) -> None:
        owner = self.call.party.loop_owner
        holding = owner.hold()
        held: list[Any] = [self()]
        self.kept = None
        try:
            if held[0] is not None:
                held += held[0].tell()
        finally:
            owner.let_go(holding, held)

    def cancel(self) -> None:
        """Withdraw the receive: the program has forgotten the handle, or given it up."""
        outcomes = self.outcomes
        if outcomes and outcomes[0].by_pool and self() is not None:
            return  # it was given up too late: its message is what the program gets from it
        self.landed()
        self.call.cancel()
        # An interrupt may have kept the program from telling those who wait.
        if outcomes and self.gate is not None:
            self.gate.open()
        if outcomes and self.shown and (handle := self()) is not None:
            handle.tell()
