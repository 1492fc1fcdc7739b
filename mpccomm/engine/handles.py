"""Handles: futures of sends and receives that no call blocks for, and the failures among them that were never looked at.

What blocking callers get is a `concurrent.futures.Future` that any thread can wait for, made of few objects: programs keep
thousands of them, and the collector visits all. The pool's loop must go on whatever happens to them, so two rules hold:

* What the program does with a handle may be interrupted between any two steps, by Ctrl-C or by what a signal handler raises.
  So a handle has no lock that Python code enters. Its outcome is the first element of a list, and appending is one step.
* What belongs to the program never runs on the pool's thread: callbacks have a thread of their own, see `Callbacks`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
import time
import weakref
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Generator, Sequence, Sized
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from mpccomm.display import plural
from mpccomm.engine.futures import resolve_on
from mpccomm.engine.lifecycle import Gate
from mpccomm.engine.loop_owner import LoopOwner, running_loop, tell_of_blocked_loop
from mpccomm.engine.observer import Involved, Observer
from mpccomm.errors import CommunicationTimeoutError, PoolClosedError, WrongThreadError
from mpccomm.logs import LogEvent

if TYPE_CHECKING:
    from mpccomm.engine.requests import FutureCall

T = TypeVar("T")

_MOST_LISTED = 8
_PAUSE = 0.5
"""Seconds between two lines of the log."""
_LONG = 2.0
"""Seconds of a wait that had better not hold up an event loop."""
_KEPT = 1000
"""The failures that are remembered until the program looks at them; of further ones only the number."""

_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"
"""The states that `concurrent.futures` knows."""


class Callbacks:
    """Runs the callbacks of the handles of one pool, in the order in which the handles were done, in a thread of its own.

    They are the program's: they may block, raise what they like, or call the pool. The loop goes on meanwhile; other callbacks
    wait, which `notice` tells.
    """

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.loop_owner = loop_owner
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._at_work = 0
        """The number of the thread, once it runs."""
        self._running: _Running | None = None
        """The callback that runs in it."""

    def call(self, callback: Callable[[Any], object], handle: ThreadFuture[Any], later: Sized) -> None:
        """Run a callback here; those in ``later`` have to wait for it."""
        if threading.get_ident() != self._at_work:
            self._call(callback, handle)
            return
        # One that is done already when it gets a callback, in a callback, calls that inside.
        around = self._running
        self._running = _Running(callback, time.monotonic(), later)
        try:
            self._call(callback, handle)
        finally:
            self._running = around

    def _call(self, callback: Callable[[Any], object], handle: ThreadFuture[Any]) -> None:
        try:
            callback(handle)
        except Exception:
            self.loop_owner.log(LogEvent.CALLBACK_FAILED, "a callback of %r raised", handle, exc_info=True)

    def notice(self, after: float) -> None:
        """Tell of a callback that has held up others for as many seconds, or twice as long as when that was told before."""
        running = self._running
        if running is None:
            return
        lasted = time.monotonic() - running.since
        waiting = self._waiting.qsize() + len(running.later)
        if waiting and lasted >= max(after, 2 * running.told):
            running.told = lasted
            self.loop_owner.log(
                LogEvent.CALLBACK_BLOCKS,
                "the callback %s has been running for %.0f s, and holds up %s: one thread runs those of all handles of this pool, "
                "one after the other. What takes long belongs in a thread or an executor of your own",
                _name(running.callback),
                lasted,
                plural(waiting, "other callback"),
            )

    def run(self, function: Callable[[], None]) -> None:
        """Run it in that thread. Called on the pool's loop."""
        self._waiting.put(function)
        if self._thread is None:
            name = f"{self.loop_owner.title}, callbacks"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The program is at its end, and threads can't be started any more.
                self._waiting.put(None)
                self._work()
            else:
                self._thread = thread

    def end(self) -> None:
        """Let the thread end when it has done what it was given."""
        if self._thread is not None:
            self._waiting.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, but not for ever: there is no way to stop a callback."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive():
                self.loop_owner.log(
                    LogEvent.ENDING_LATE,
                    "the pool is shut down, and a callback of one of its handles still runs in %s",
                    thread.name,
                )

    def _work(self) -> None:
        self._at_work = threading.get_ident()
        while (function := self._waiting.get()) is not None:
            try:
                function()
            except BaseException:
                # `sys.exit`, for one: it means the thread that calls it, and this one serves others too.
                self.loop_owner.log(LogEvent.CALLBACK_FAILED, "a callback of a handle raised", exc_info=True)


class _Running:
    """A callback that runs."""

    __slots__ = ("callback", "later", "since", "told")

    def __init__(self, callback: Callable[[Any], object], since: float, later: Sized) -> None:
        self.callback = callback
        self.since = since
        self.later = later
        self.told = 0.0
        """How long it had been running when that was told last, in seconds; 0: it was not."""


def _name(callback: object) -> str:
    """Return where a function is from, and never what it is called with."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{named.__module__}.{named.__qualname__}"


class _Outcome(NamedTuple):
    state: str
    value: Any = None
    error: BaseException | None = None
    by_pool: bool = False
    """Not by the program."""


class ThreadFuture(concurrent.futures.Future[T]):
    """Resolved once, by the pool's loop; ``call`` is the receive that it is of, if it is one."""

    def __init__(self, callbacks: Callbacks, call: FutureCall | None = None) -> None:
        # Not that of the base class: nothing of what it makes is needed, and what is needed is made when it is.
        self._callbacks = callbacks
        self._call = call
        self.outcomes: list[_Outcome] = []
        """The first one counts."""
        self._running = False
        self._to_here: _ToHandle | None = None
        if call is not None:
            self._to_here = call.waiter = _ToHandle(self, callbacks.loop_owner.forgotten.append)
            self._to_here.call = call

    # -- by the pool ---------------------------------------------------------------------------------------------------

    @property
    def resolved(self) -> bool:
        """Whether it has what it is for."""
        return bool(self.outcomes) and self.outcomes[0].by_pool

    def resolve(self, value: Any, error: Exception | None) -> bool:
        """The result is there. False: it was cancelled, and does not take it."""
        outcome = _Outcome(_FINISHED, value, error, by_pool=True)
        self.outcomes.append(outcome)
        if self.outcomes[0] is not outcome:
            self._to_here = None
            return False
        # A receive knows its message until the program has looked: an interrupt may keep the handle from its caller.
        self._wake()
        if self.__dict__.get("_later"):
            self._callbacks.run(self._call_back)
        return True

    # -- by the program ------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """As of any future. A receive is withdrawn: its message is there for the next one. A send goes on, unobserved."""
        if not self._running:
            self._set(_Outcome(_CANCELLED))
        return self.cancelled()

    def cancelled(self) -> bool:
        """As of any future."""
        return bool(self.outcomes) and self.outcomes[0].state is _CANCELLED

    def running(self) -> bool:
        """As of any future: it is not, unless `set_running_or_notify_cancel` was called."""
        return self._running and not self.outcomes

    def done(self) -> bool:
        """As of any future."""
        return bool(self.outcomes)

    def result(self, timeout: float | None = None) -> T:
        """As of any future.

        :raises CommunicationTimeoutError: time is up; what it waits for still lasts
        """
        outcome = self._outcome(timeout)
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del outcome, self  # no circle of the error and its traceback
        call = self._call
        if call is not None and call.taking is not None:
            taking, call.taking = call.taking, None
            taking()
        value: T = outcome.value
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of any future.

        :raises CommunicationTimeoutError: time is up; what it waits for still lasts
        """
        return self._outcome(timeout).error

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """As of any future. One thread runs the callbacks of all handles of a pool, one after the other: let them be short.

        Where it is done already, the callback runs at once, here.
        """
        to_here = self._to_here
        if to_here is not None and not self.outcomes:
            # Who leaves a callback has not forgotten it.
            to_here.kept = self
        self.__dict__.setdefault("_later", deque()).append(fn)
        if self.outcomes:
            self._call_back()

    def set_running_or_notify_cancel(self) -> bool:
        """As of any future."""
        if self.outcomes and not self.cancelled():
            raise concurrent.futures.InvalidStateError(f"{self!r} is done")
        self._running = not self.outcomes
        return self._running

    def set_result(self, result: T) -> None:
        """As of any future; a receive is withdrawn by it."""
        self._set_once(_Outcome(_FINISHED, result))

    def set_exception(self, exception: BaseException | None) -> None:
        """As of any future; a receive is withdrawn by it."""
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
        return f"<handle of a {'send' if self._call is None else 'receive'}, {end}>"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _outcome(self, timeout: float | None) -> _Outcome:
        if not self.outcomes:
            if self._callbacks.loop_owner.here:
                raise WrongThreadError(
                    "waiting for a handle on the pool's own thread would wait for itself; there, add a callback to it"
                )
            gate: Gate = self.__dict__.setdefault("_gate", Gate())
            observer = self._callbacks.loop_owner.observer
            end = None if observer is None else observer.waits(self._involved(), False)
            try:
                if not self.outcomes and not _wait(gate, timeout):
                    raise CommunicationTimeoutError(self._still(timeout))
            finally:
                if end is not None:
                    end()
        outcome = self.outcomes[0]
        if outcome.state is _CANCELLED:
            raise concurrent.futures.CancelledError
        to_here = self._to_here
        if to_here is not None:
            self._to_here = to_here.call.message = None
        return outcome

    def _involved(self) -> Involved:
        return () if self._call is None else self._call.involved()

    def _still(self, timeout: float | None) -> str:
        if self._call is None:
            return f"not confirmed within {timeout:g} s; the message may still arrive"
        return (
            f"no message from {self._call.party} within {timeout:g} s. This receive still waits, and gets the message when it "
            "comes: ask for the result again, or cancel() the handle, so that the message is there for another receive"
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

    def _wake(self) -> None:
        gate: Gate | None = self.__dict__.get("_gate")
        if gate is not None:
            gate.open()
        shown: _Shown | None = self.__dict__.get("_shown")
        if shown is not None:
            shown.publish(self)

    def _call_back(self) -> None:
        later: deque[Callable[[Any], object]] | None = self.__dict__.get("_later")
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

    __slots__ = ("lock", "locked", "published", "until", "waiters")

    def __init__(self) -> None:
        self.lock = allocate_lock()
        """Entered by C code, and held for some steps at most."""
        self.locked = 0
        self.until = 0.0
        self.published = False
        self.waiters: list[Any] = []

    def publish(self, future: ThreadFuture[Any]) -> None:
        """Show its outcome, if it has one, and tell those who have left their names."""
        if self.published or not future.outcomes:
            return
        with self.lock:
            if self.locked and time.monotonic() < self.until:
                return
            first, self.published = not self.published, True
            waiters = list(self.waiters)
        if first and waiters:
            # In a thread of its own: who was interrupted while waiting may hold a lock for ever.
            try:
                start_new_thread(_tell, (waiters, future))
            except RuntimeError:
                _tell(waiters, future)


def _tell(waiters: Sequence[Any], future: ThreadFuture[Any]) -> None:
    outcome = future.outcomes[0]
    for waiter in waiters:
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


class _ToHandle(weakref.ref["ThreadFuture[Any]"]):
    """How a receive on the pool's loop knows the handle, which the program may forget.

    Python has no say in that: it is C code that takes note of the end of the handle, which no signal handler can get into.
    """

    __slots__ = ("call", "kept")

    call: FutureCall
    kept: ThreadFuture[Any] | None
    """Keeps the handle, where it has callbacks."""

    def resolve(self, value: Any, error: Exception | None) -> bool:
        """The result is there. False: it is not taken."""
        handle = self()
        self.kept = None
        return handle is not None and handle.resolve(value, error)

    def cancel(self) -> None:
        """The program has forgotten the handle, or given it up."""
        self.call.cancel()
        handle = self()
        if handle is not None and handle.done():
            handle._wake()


class _Watched:
    """A future that notes whether the program has asked how it ended, or will be told."""

    looked_at = False
    involved: Involved = ()
    """The parties that it is for, where it was made while there was an observer."""

    def result(self, *arguments: Any, **options: Any) -> Any:
        self.looked_at = True
        return super().result(*arguments, **options)  # type: ignore[misc]

    def exception(self, *arguments: Any, **options: Any) -> Any:
        self.looked_at = True
        return super().exception(*arguments, **options)  # type: ignore[misc]

    def add_done_callback(self, *arguments: Any, **options: Any) -> None:
        self.looked_at = True
        super().add_done_callback(*arguments, **options)  # type: ignore[misc]


class LoopHandle(_Watched, asyncio.Future[None]):
    """For asyncio callers."""

    __slots__ = ("owner",)

    def __init__(self, failures: Failures) -> None:
        super().__init__(loop=running_loop())
        self._failures = failures
        self.owner = failures.loop_owner

    def resolve(self, value: None, error: Exception | None) -> None:
        """Its sends have ended."""
        resolve_on(self, self._failures.loop_owner, value, error)
        if error is not None:
            self._failures.note(self, error)

    def __await__(self) -> Generator[Any, None, None]:
        self.looked_at = True
        observer = self._failures.loop_owner.observer
        if observer is None or self.done():
            return super().__await__()
        return self._await_observed(observer)

    def _await_observed(self, observer: Observer) -> Generator[Any, None, None]:
        end = observer.waits(self.involved, False)
        try:
            return (yield from super().__await__())
        finally:
            if end is not None:
                end()

    __iter__ = __await__


class ThreadHandle(_Watched, ThreadFuture[None]):
    """For callers that block."""

    def __init__(self, callbacks: Callbacks, failures: Failures) -> None:
        super().__init__(callbacks)
        self._failures = failures

    def _involved(self) -> Involved:
        return self.involved

    def resolve(self, value: Any, error: Exception | None) -> bool:
        """Its sends have ended."""
        taken = super().resolve(value, error)
        if error is not None:
            self._failures.note(self, error)
        return taken


Handle: TypeAlias = LoopHandle | ThreadHandle


class Failures:
    """Those of one pool. Each is logged when it happens, unless a call waits for it; and again at the end."""

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.loop_owner = loop_owner
        self._new: list[tuple[Handle, Exception]] = []
        self._old: list[tuple[Handle, Exception]] = []
        self._more = 0
        self._next_line = 0.0
        self.told_by_party = False
        """What the end of the pool keeps from being delivered is told for each party: not for each handle once more."""

    def note(self, handle: Handle, error: Exception) -> None:
        """The sends behind that handle failed."""
        if handle.cancelled():
            return
        if self.told_by_party and isinstance(error, PoolClosedError):
            _forget([(handle, error)])
            return
        # Many may fail one after the other, and a call that waits needs a turn of the loop to hear of it.
        if not self._new:
            loop = self.loop_owner.loop
            loop.call_later(max(self._next_line - loop.time(), 0), self._settle)
        self._new.append((handle, error))

    def report(self) -> None:
        """The pool is shut down: log what was not looked at until now."""
        failed = [*self._old, *self._new]
        self._old, self._new = [], []
        self._log(logging.ERROR, failed, "looked at")
        _forget(failed)

    def _settle(self) -> None:
        self._next_line = self.loop_owner.loop.time() + _PAUSE
        failed, self._new = self._new, []
        self._log(logging.WARNING, failed, "waits for")
        failed = [(handle, error) for handle, error in [*self._old, *failed] if not handle.looked_at]
        self._old, forgotten = failed[:_KEPT], failed[_KEPT:]
        self._more += len(forgotten)
        _forget(forgotten)

    def _log(self, level: int, failed: Sequence[tuple[Handle, Exception]], what: str) -> None:
        errors = [str(error) for handle, error in failed if not handle.looked_at]
        number = len(errors) + (self._more if level == logging.ERROR else 0)
        if number:
            more = f"; and {number - _MOST_LISTED} more" if number > _MOST_LISTED else ""
            failures = plural(number, "send")
            handles = "the handle" if number == 1 else "their handles"
            listed = "; ".join(errors[:_MOST_LISTED])
            text = "%s failed, and nobody %s %s: %s%s"
            self.loop_owner.log(LogEvent.SEND_FAILED, text, failures, what, handles, listed, more, level=level)


def _forget(failed: Sequence[tuple[Handle, Exception]]) -> None:
    for handle, _ in failed:
        if handle.done() and not handle.cancelled():
            handle.exception()  # otherwise asyncio would say it once more when the handle goes
