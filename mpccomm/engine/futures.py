"""How an asyncio caller waits for a request: with a future of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeAlias, TypeVar

from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.requests import Request
from mpccomm.errors import PoolClosedError

T = TypeVar("T")

Resolve: TypeAlias = Callable[[T | None, Exception | None], None]


class Asked(asyncio.Future[Any]):
    """A future of the running loop that gets the value of a request; who cancels it may ask for the same message at once.

    So the request is cancelled in the same breath: callbacks would hear of it in the next turn of the loop.
    """

    def __init__(self, request: Request | None, owner: LoopOwner, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.request = request
        self._owner = owner
        if request is not None:
            request.waiter = self

    def resolve(self, value: Any, error: Exception | None) -> None:
        """The request is over."""
        self.request = None
        loop = self.get_loop()
        if self._owner.is_on(loop):
            _resolve(self, value, error)
        else:
            _resolve_elsewhere(self, loop, value, error)

    def cancel(self, msg: Any | None = None) -> bool:
        """As of any future."""
        cancelled = super().cancel(msg)
        request = self.request
        if cancelled and request is not None:
            self.request = None
            with contextlib.suppress(PoolClosedError):
                self._owner.post(request.cancel)
        return cancelled


class Waiting(Asked):
    """A future that only tells that the request is over; whether it failed stands on the request."""

    def resolve(self, value: Any, error: Exception | None) -> None:
        """The request is over."""
        super().resolve(None, None)


async def wait(request: Request, owner: LoopOwner) -> None:
    """Start a request and wait until it is over. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    loop = asyncio.get_running_loop()
    if not owner.is_on(loop):
        future = Waiting(request, owner, loop=loop)
        owner.post(request.start)
        await _until_over(request, future, owner)
    else:
        # What can be done at once is done without a future.
        owner.post(request.start)
        if not request.over:
            await _until_over(request, Waiting(request, owner, loop=loop), owner)
    if request.error is not None:
        _raise(request)


async def finish(request: Request, future: Waiting, owner: LoopOwner) -> None:
    """Wait with its future for a request that was started. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    await _until_over(request, future, owner)
    if request.error is not None:
        _raise(request)


async def _until_over(request: Request, future: Waiting, owner: LoopOwner) -> None:
    try:
        await future
    except asyncio.CancelledError:
        # Also where the request was over already, and the task was cancelled before it could run.
        with contextlib.suppress(PoolClosedError):
            owner.post(request.cancel)
        raise


def _raise(request: Request) -> NoReturn:
    error, request.error = request.error, None
    assert error is not None
    try:
        raise error
    finally:
        del error  # no circle of it and its traceback


def resolving(future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, loop_owner: LoopOwner) -> Resolve[T]:
    """The function that the pool's loop resolves a future of ``loop`` with."""
    return partial(_resolve, future) if loop_owner.is_on(loop) else partial(_resolve_elsewhere, future, loop)


def _resolve(future: asyncio.Future[T], value: T | None, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)  # type: ignore[arg-type]


def _resolve_elsewhere(
    future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, value: T | None, error: Exception | None
) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, future, value, error)
    except RuntimeError:
        # The caller's loop is closed: nobody waits any more.
        future.cancel()
