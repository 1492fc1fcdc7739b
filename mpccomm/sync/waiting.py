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
from mpccomm.engine.requests import FutureCall, Request
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
        if get_ident() == self._engine.loop_owner.thread:
            self._check_thread()
        deliver(self._engine, partial(self._queue_one, party, message, msg_id, limits, None))

    def _deliver_all(
        self, names: Sequence[str] | None, message: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        """Send a message to several, and block until the pools of all of them hold it."""
        self._check_thread()
        deliver(self._engine, partial(self._queue, names, message, msg_id, limits, None))

    def _receive(self, name: str, msg_id: str | None, timeout: Timeout, expect: Expect | None) -> Any:
        """Return the next message of a party. One that is here already is taken without the loop."""
        engine = self._engine
        if get_ident() == engine.loop_owner.thread:
            self._check_thread()
        blocking = BlockingCall(engine.loop_owner)
        try:
            blocking.request = call = self._receiving(name, msg_id, timeout, expect)
            if engine.loop_owner.observers is not None:
                call.lane = engine.loop_owner.lane()
            if engine.loop_owner.is_busy() or not call.grab():
                blocking.start(call)
            return call.value()
        except BaseException:
            # The same as `blocked`, which would make a receive of a message that is here a fifth slower.
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
            # The caller is interrupted, and does not get the future.
            future.cancel()
            self._engine.loop_owner.post_soon(call.cancel)
            raise

    def _handle(self) -> ThreadHandle:
        """Return a future for what is about to be sent."""
        return ThreadHandle(self._engine.callbacks, self._engine.failures)
