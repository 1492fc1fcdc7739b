"""The loop that a pool lives on, and how calls from elsewhere reach it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mpccomm.errors import PoolClosedError, WrongThreadError

T = TypeVar("T")


class LoopOwner:
    """Runs functions on one event loop, in the order in which they were posted, whichever thread posted them."""

    def __init__(self) -> None:
        self._posted: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self.settled = False
        """Whether there is a loop yet."""

    def settle_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """This is the loop; called once, on its own thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        self.settled = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; only once there is one."""
        assert self._loop is not None
        return self._loop

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is the loop."""
        return loop is self._loop

    @property
    def here(self) -> bool:
        """Whether this is the loop's own thread."""
        return threading.get_ident() == self._thread

    def check(self) -> None:
        """Raise where a call would never be answered."""
        loop = self._loop
        if loop is None:
            return
        if loop.is_closed():
            raise PoolClosedError("the event loop of this pool is closed; make a new pool on the loop that runs now")
        if threading.get_ident() == self._thread and not loop.is_running():
            raise WrongThreadError(
                "the event loop of this pool does not run now, and another one can't on the same thread"
            )

    def post(self, function: Callable[[], None]) -> None:
        """Run it on the loop: at once when called there, soon from any other thread.

        :raises PoolClosedError: the loop is closed
        """
        here = threading.get_ident() == self._thread
        if here and not self._posted:
            function()
            return
        self._posted.append(function)
        if here:
            self._run_posted()
        elif not self._scheduled:
            # One wake-up serves all that is posted until it lands.
            self._scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._run_posted)
            except RuntimeError:
                self._scheduled = False
                self._posted.clear()
                raise PoolClosedError("the event loop of this pool is closed") from None
            except BaseException:
                # Ctrl-C in here: whether that wake-up was sent is not known.
                self._scheduled = False
                raise

    def _run_posted(self) -> None:
        self._scheduled = False
        while self._posted:
            function = self._posted.popleft()
            try:
                function()
            except Exception as error:
                # Somebody else's function may be next in the queue: it is not to suffer.
                context = {"message": "a call posted to the pool's loop failed", "exception": error}
                self.loop.call_exception_handler(context)

    def submit(self, function: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run a coroutine function on the loop, called from another thread. The coroutine is made there: it can't be left over."""
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def start() -> None:
            task = self.loop.create_task(function())

            def cancel() -> None:
                if result.cancelled():
                    task.cancel()

            task.add_done_callback(copy)
            # At once where it was cancelled before it came here.
            result.add_done_callback(lambda _: self.post(cancel))

        def copy(task: asyncio.Task[T]) -> None:
            if not result.set_running_or_notify_cancel():
                return
            if task.cancelled():
                result.set_exception(PoolClosedError("the pool was shut down meanwhile"))
            elif (error := task.exception()) is not None:
                result.set_exception(error)
            else:
                result.set_result(task.result())

        self.post(start)
        return result

    async def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await a coroutine function on the loop, from whichever loop."""
        if self._loop is None or asyncio.get_running_loop() is self._loop:
            return await function()
        return await asyncio.wrap_future(self.submit(function))
