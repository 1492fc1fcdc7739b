"""Waiting in a thread for something that happens on the pool's loop, in a way that Ctrl-C can end without loss.

A signal handler may raise between any two steps of this thread. So a wait rests on one bare lock, which nothing can be left
holding, and the thread has a `BlockingCall` with the request that was started for it: whatever the exception, what had been handed
over and did not reach the caller goes back into its box.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from _thread import LockType, allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mpccomm.engine.loop_owner import tell_of_blocked_loop
from mpccomm.engine.requests import Request, tell_of_failure
from mpccomm.errors import PoolClosedError

if TYPE_CHECKING:
    from mpccomm.engine.loop_owner import LoopOwner

T = TypeVar("T")

_LONG = 4
"""A wait of this many pieces had better not hold up an event loop."""
_POLL = 0.1 if sys.platform == "win32" else 0.5
"""Seconds for which this thread waits without a look at signals. On Windows a wait for a lock can't be interrupted at all;
elsewhere a signal that arrives in the moment before the system begins to wait would be noticed only when the wait is over."""


def program_waits() -> bool:
    """Whether every thread of the program stands still in a blocking call of a pool, so that nothing will happen by itself."""
    stacks = sys._current_frames()
    for thread in threading.enumerate():
        if not thread.name.startswith("mpccomm"):
            top = stacks.get(thread.ident or 0)
            if top is None or top.f_code is not BlockingCall.wait.__code__:
                return False
    return True


class _Call:
    """What a blocking call is made of, before and after its end."""

    __slots__ = ("_landed", "_lock", "_loop_owner", "request")

    _landed: bool
    _lock: LockType | None
    _loop_owner: LoopOwner
    request: Request | None

    def give_back(self, grace: float) -> None:
        """End the request. Messages that were handed over go back; returns when they have, or after ``grace`` seconds."""
        request = self.request
        if request is None or request.error is not None:
            return  # not begun; or it failed, and has left nothing
        landed = allocate_lock()
        landed.acquire()

        def cancel() -> None:
            self._cancel()
            landed.release()

        while True:
            try:
                self._loop_owner.post(cancel)
                break
            except KeyboardInterrupt:
                # One more Ctrl-C, while the exception for the first is on its way to the user.
                continue
            except PoolClosedError:
                return
        landed.acquire(True, grace)

    def _cancel(self) -> None:
        if not self._landed and self.request is not None:
            self._landed = True
            self.request.cancel()


class FinishedCall(_Call):
    """What a `BlockingCall` becomes when its caller has what it waited for: there is nothing left to do when it goes."""

    __slots__ = ()


class BlockingCall(_Call):
    """The request of one blocking call; made before it, and told by the loop's thread when it is over.

    The caller stores `FinishedCall` as its ``__class__`` as the very last step: a store can't be interrupted, a call could be. Nor
    does anything written in Python run then when the blocking goes, where an interrupt would be lost.
    """

    __slots__ = ()

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.request = None  # in here before it is under way
        self._loop_owner = loop_owner
        self._landed = False
        self._lock = None

    def resolve(self, value: Any, error: Exception | None) -> None:
        """The request is over; called once, on the loop."""
        lock = self._lock
        assert lock is not None
        lock.release()

    def arm(self) -> None:
        """Get ready to be waited with: before the request is under way."""
        lock = allocate_lock()
        lock.acquire()
        self._lock = lock

    def start(self, request: Request) -> None:
        """Start a request, and block until it is over.

        :raises CommunicationError: it failed
        """
        self.arm()
        self.request = request
        request.waiter = self
        self._loop_owner.post(request.start)
        self.wait(request)

    def wait(self, request: Request) -> None:
        """Block until the request, which was started, is over.

        :raises CommunicationError: it failed
        """
        lock = self._lock
        assert lock is not None
        observer = self._loop_owner.observer
        end = None
        if observer is not None and (observer.counting or not request.single):
            end = observer.waits(request.involved(), request.single)
        pieces = 0
        try:
            while not lock.acquire(True, _POLL):
                pieces += 1
                if pieces == _LONG:
                    tell_of_blocked_loop()
        except BaseException:
            if observer is not None:
                tell_of_failure(observer, request)
            raise
        finally:
            if end is not None:
                end()
        if request.error is not None:
            if observer is not None:
                tell_of_failure(observer, request)
            raise request.error

    def __del__(self) -> None:
        # Only where `give_back` itself was interrupted before its first step.
        request = getattr(self, "request", None)
        if request is not None and request.error is None and not self._landed:
            with contextlib.suppress(PoolClosedError):
                self._loop_owner.post(self._cancel)


def wait_for(request: Request, owner: LoopOwner, grace: float, read: Callable[[], T]) -> T:
    """Start a request, block until it is over, and return what ``read`` makes of it.

    Whatever keeps it from being read, what was taken goes back.

    :raises CommunicationError: the request failed
    """
    blocking = BlockingCall(owner)
    try:
        blocking.start(request)
        value = read()
        blocking.__class__ = FinishedCall  # type: ignore[assignment]
        return value
    except BaseException:
        blocking.give_back(grace)
        raise
