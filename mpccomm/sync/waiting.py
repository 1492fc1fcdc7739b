"""How the calls of the blocking face wait. If one is interrupted, the message that was taken for it goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import get_ident
from typing import Any, TypeVar

from mpccomm.engine.base_channel import BaseChannel, IdSpace
from mpccomm.engine.expect import Expect
from mpccomm.engine.handles import ThreadHandle
from mpccomm.engine.options import SendLimits, Timeout
from mpccomm.engine.party import Party
from mpccomm.engine.requests import FutureCall, ReceiveCall, Request
from mpccomm.engine.thread_futures import ThreadFuture
from mpccomm.errors import WrongThreadError
from mpccomm.sync.blocking import BlockingCall, deliver, wait_for

T = TypeVar("T")


class SyncWaiting(BaseChannel):
    """The waiting of the calls in `mpccomm.sync.channel`; `mpccomm.pool.waiting` has the same for asyncio."""

    def __init__(self, space: IdSpace) -> None:
        super().__init__(space)
        # Always in a later turn of the loop: callbacks of handles call on the loop's thread, and chains of them would recurse.
        self._post = self._engine.loop_owner.post_soon

    def _check_thread(self) -> None:
        if self._engine.loop_owner.here:
            raise WrongThreadError(
                "a blocking call on the pool's own thread would wait for itself; there, await the coroutines of SyncPool.pool"
            )

    def _deliver(self, party: Party, message: object, msg_id: str | None, limits: SendLimits) -> None:
        """Send a message, and block until the party's pool holds it."""
        owner = self._engine.loop_owner
        if get_ident() == owner.thread:
            self._check_thread()
        blocking = BlockingCall()
        try:
            blocking.wait(self._queue_one(party, message, msg_id, limits, None, blocking), owner)
        except BaseException:
            # The same as `deliver`, in fewer calls: there is one for nearly every message.
            request = blocking.request
            if request is not None and request.error is None:
                try:
                    owner.forgotten.append(request)
                    owner.give_back(request)
                except BaseException:
                    owner.give_back(request)
                    raise
            raise

    def _deliver_all(
        self, names: Sequence[str] | None, message: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        """Send a message to several, and block until the pools of all of them hold it."""
        self._check_thread()
        deliver(self._engine.loop_owner, partial(self._queue, names, message, msg_id, limits, None))

    def _receive(self, name: str, msg_id: str | None, timeout: Timeout, expect: Expect | None) -> Any:
        """Return the next message of a party. One that is here already is taken without the loop."""
        owner = self._engine.loop_owner
        if get_ident() == owner.thread:
            self._check_thread()
        request: ReceiveCall | None = None
        try:
            request = self._receiving(name, msg_id, timeout, expect)
            # What is posted now runs after what was posted before. The same as `is_busy`, without a call.
            if owner.posted or owner.running or not request.grab():
                request.waiter = blocking = BlockingCall()
                owner.post_soon(request.start)
                blocking.wait(request, owner)
            return request.value()
        except BaseException:
            # As in `wait_for`.
            if request is not None and request.error is None:
                owner.forgotten.append(request)
                owner.give_back(request)
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
            # The caller is interrupted, and does not get the future. The first step is to note that, as in `deliver`.
            self._engine.loop_owner.forgotten.append(call)
            future.cancel()
            raise
        finally:
            # A frame may be kept for a while, as by a profiler or by `explain`, and what is in it is not forgotten in time.
            del future

    def _handle(self) -> ThreadHandle:
        """Return a future for what is about to be sent."""
        return ThreadHandle(self._engine.callbacks, self._engine.failures)
