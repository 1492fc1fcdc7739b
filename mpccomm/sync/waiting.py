"""How the calls of the blocking face wait. Whatever interrupts them, what was taken for them goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import get_ident
from typing import Any, TypeVar

from mpccomm.engine.base_channel import BaseChannel, IdSpace, Queue
from mpccomm.engine.expect import Expect
from mpccomm.engine.handles import ThreadHandle
from mpccomm.engine.options import SendLimits, Timeout
from mpccomm.engine.party import Party
from mpccomm.engine.requests import FutureCall, Request
from mpccomm.engine.thread_futures import ThreadFuture
from mpccomm.errors import WrongThreadError
from mpccomm.sync.blocking import BlockingCall, blocked, wait_for

A = TypeVar("A")
T = TypeVar("T")


class SyncWaiting(BaseChannel):
    """What waits, for the calls in `mpccomm.sync.channel`; as `mpccomm.pool.waiting`."""

    def __init__(self, space: IdSpace) -> None:
        super().__init__(space)
        # Never before this returns: a callback of a handle calls on the loop's own thread, and chains of them would recurse.
        self._post = self._engine.loop_owner.post_soon

    def _check_thread(self) -> None:
        if self._engine.loop_owner.here:
            raise WrongThreadError(
                "a blocking call on the pool's own thread would wait for itself; there, await the coroutines of SyncPool.pool"
            )

    def _deliver(self, party: Party, message: object, msg_id: str | None, limits: SendLimits) -> None:
        """Send a message, and block until the party's pool holds it."""
        self._queue_and_block(self._queue_one, party, message, msg_id, limits)

    def _deliver_all(
        self, names: Sequence[str] | None, message: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        """Send a message to several, and block until the pools of all of them hold it."""
        self._queue_and_block(self._queue, names, message, msg_id, limits)

    def _queue_and_block(self, queue: Queue[A], to: A, message: object, msg_id: str | None, limits: SendLimits) -> None:
        engine = self._engine
        if get_ident() == engine.loop_owner.thread:
            self._check_thread()

        def work(blocking: BlockingCall) -> None:
            blocking.arm()
            blocking.wait(queue(to, message, msg_id, limits, None, blocking))

        blocked(engine, work)

    def _receive(self, name: str, msg_id: str | None, timeout: Timeout, expect: Expect | None) -> Any:
        """Return the next message of a party: one that is here is taken without a word to the loop."""
        engine = self._engine
        if get_ident() == engine.loop_owner.thread:
            self._check_thread()
        blocking = BlockingCall(engine.loop_owner)
        try:
            call = self._receiving(name, msg_id, timeout, expect)
            blocking.request = call
            if engine.loop_owner.is_busy() or not call.grab():
                blocking.start(call)
            return call.value()
        except BaseException:
            # As `blocked`, for which a receive of what is here would take a fifth longer.
            request = blocking.request
            if request is not None and request.error is None:
                engine.loop_owner.forgotten.append(request)
                engine.loop_owner.give_back(request)
            raise

    def _take(self, request: Request, read: Callable[[], T]) -> T:
        """Block until a request is over, and return what ``read`` makes of it; otherwise what it took goes back."""
        self._check_thread()
        return wait_for(request, self._engine, read)

    def _future_of(self, call: FutureCall) -> Future[Any]:
        """Start a receive, and return the future that gets its message."""
        future = ThreadFuture[Any](self._engine.callbacks, call)
        try:
            self._post(call.start)
            return future
        except BaseException:
            # An interrupt: the caller does not get it.
            future.cancel()
            self._engine.loop_owner.post_soon(call.cancel)
            raise

    def _handle(self) -> ThreadHandle:
        """Return a future for what is about to be sent."""
        return ThreadHandle(self._engine.callbacks, self._engine.failures)
