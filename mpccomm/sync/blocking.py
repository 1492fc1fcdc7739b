"""Waiting in a thread for something that happens on the pool's loop, in a way that Ctrl-C can end without loss.

A signal handler may raise between any two steps of this thread, and again while that exception is on its way. So a wait rests on
one bare lock, which nothing can be left holding, and the thread has a `BlockingCall` with the request that was started for it:
whatever the exceptions, what had been handed over and did not reach the caller goes back into its box.
"""

from __future__ import annotations

import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mpccomm.engine.loop_owner import tell_of_blocked_loop
from mpccomm.engine.requests import Request, tell_of_failure

if TYPE_CHECKING:
    from mpccomm.engine.engine import Engine
    from mpccomm.engine.loop_owner import LoopOwner

T = TypeVar("T")

_LONG = 4
"""The number of pieces of a wait after which the log warns if it holds up an event loop."""
_POLL = 0.1 if sys.platform == "win32" else 0.5
"""Seconds for which this thread waits without a look at signals. On Windows a wait for a lock can't be interrupted at all;
elsewhere a signal that arrives in the moment before the system begins to wait would be noticed only when the wait is over."""


def program_waits() -> bool:
    """Return whether every thread of the program waits in a blocking call of a pool, so that nothing happens by itself."""
    stacks = sys._current_frames()
    for thread in threading.enumerate():
        if not thread.name.startswith("mpccomm"):
            top = stacks.get(thread.ident or 0)
            if top is None or top.f_code is not BlockingCall.wait.__code__:
                return False
    return True


class BlockingCall:
    """The request of one blocking call; made before it, and told by the loop's thread when it is over."""

    __slots__ = ("_lock", "request")

    def __init__(self) -> None:
        self.request: Request | None = None
        """The request, where it is made while this waits for it already; set before it begins."""
        self._lock = lock = allocate_lock()
        lock.acquire()

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Note that the request is over; called once, on the loop."""
        self._lock.release()

    def wait(self, request: Request, loop_owner: LoopOwner) -> None:
        """Block until the request, which was started, is over.

        :raises CommunicationError: it failed
        """
        lock = self._lock
        observers = loop_owner.observers
        end = None
        if observers is not None and (observers.waits or not request.single):
            end = observers.begin_wait(request.involved(), further=not request.single)
        pieces = 0
        try:
            while not lock.acquire(True, _POLL):
                pieces += 1
                if pieces == _LONG:
                    tell_of_blocked_loop()
        except BaseException as error:
            if observers is not None:
                tell_of_failure(observers, request, error)
            raise
        finally:
            if end is not None:
                end()
        if request.error is not None:
            if observers is not None:
                tell_of_failure(observers, request, request.error)
            raise request.error


def deliver(loop_owner: LoopOwner, queue: Callable[[BlockingCall], Request]) -> None:
    """Queue what is to be sent, and block until it is delivered. ``queue`` puts the request into the call before it is under way.

    Whatever keeps the outcome from the caller, the request ends. The first step then is to note it: one call of C code, which
    nothing can come before. From then on what was taken goes back before any later call takes something, whatever else happens to
    this one; the rest only waits for that.

    :raises CommunicationError: the request failed
    """
    blocking = BlockingCall()
    try:
        blocking.wait(queue(blocking), loop_owner)
    except BaseException:
        request = blocking.request
        if request is not None and request.error is None:
            try:
                loop_owner.forgotten.append(request)
                loop_owner.give_back(request)
            except BaseException:
                # A second signal has come before that could begin, and the caller may change what is sent from here on.
                loop_owner.give_back(request)
                raise
        raise


def wait_for(request: Request, engine: Engine, read: Callable[[], T]) -> T:
    """Start a request, block until it is over, and return what ``read`` makes of it; otherwise what it took goes back.

    :raises CommunicationError: the request failed
    """
    loop_owner = engine.loop_owner
    try:
        request.waiter = blocking = BlockingCall()
        loop_owner.post(request.start)
        blocking.wait(request, loop_owner)
        return read()
    except BaseException:
        # As in `deliver`.
        if request.error is None:
            try:
                loop_owner.forgotten.append(request)
                loop_owner.give_back(request)
            except BaseException:
                loop_owner.give_back(request)
                raise
        raise
