"""How an asyncio caller waits for a request: with a future of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeAlias, TypeVar

from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.requests import FutureCall, Request
from mpccomm.errors import PoolClosedError

T = TypeVar("T")

Resolve: TypeAlias = Callable[[T | None, Exception | None], None]


class Waiting(asyncio.Future[Any]):
    """A future of the running loop that is done when a request is over; whether that failed stands on the request.

    Who cancels it may ask for the same message in the same breath. So the request is cancelled at once: callbacks would hear of it
    in the next turn of the loop.
    """

    request: Request | None = None
    owner: LoopOwner
    is_home: bool
    """The loop is the pool's own."""

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """The request is over."""
        self.request = None
        if not self.is_home:
            _resolve_elsewhere(self, self.get_loop(), None, None)
        elif not self.done():
            self.set_result(None)
        return None

    def cancel(self, msg: Any | None = None) -> bool:
        """As of any future."""
        cancelled = super().cancel(msg)
        request = self.request
        if cancelled and request is not None:
            self.request = None
            with contextlib.suppress(PoolClosedError):
                self.owner.post(request.cancel)
        return cancelled


class Asked(Waiting):
    """A future that gets the value of a request, or its error."""

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """The request is over. True: the value is on its way to another loop; the request keeps the message until it is there."""
        request, self.request = self.request, None
        if self.is_home:
            _resolve(self, value, error)
            return None
        try:
            self.get_loop().call_soon_threadsafe(self._arrive, request, value, error)
        except RuntimeError:
            # The caller's loop is closed: nobody waits any more.
            self.cancel()
            return False
        return True

    def _arrive(self, request: Request | None, value: Any, error: Exception | None) -> None:
        """On the caller's loop."""
        if self.done():
            # Cancelled on the way here.
            self._give_back(request)
            return
        if isinstance(request, FutureCall):
            request.message = None
        _resolve(self, value, error)

    def _give_back(self, request: Request | None) -> None:
        if request is not None:
            with contextlib.suppress(PoolClosedError):
                self.owner.post(request.cancel)


F = TypeVar("F", bound=Waiting)


def future_for(request: Request, owner: LoopOwner, loop: asyncio.AbstractEventLoop, kind: type[F]) -> F:
    """A future of the loop for a request."""
    future = kind(loop=loop)
    future.request = request
    future.owner = owner
    future.is_home = loop is owner.home
    request.waiter = future
    return future


async def wait(request: Request, owner: LoopOwner) -> None:
    """Start a request and wait until it is over. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    loop = asyncio.get_running_loop()
    if loop is not owner.home:
        owner.check()
        future = future_for(request, owner, loop, Waiting)
        owner.post(request.start)
    else:
        # What can be done at once is done without a future.
        owner.post(request.start)
        if request.over:
            if request.error is not None:
                raise_error(request)
            return
        future = future_for(request, owner, loop, Waiting)
    await finish(request, future)


async def finish(request: Request, future: Waiting) -> None:
    """Wait with its future for a request that was started. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    try:
        await future
    except asyncio.CancelledError:
        # Also where the request was over already, and the task was cancelled before it could run.
        with contextlib.suppress(PoolClosedError):
            future.owner.post(request.cancel)
        raise
    if request.error is not None:
        raise_error(request)


def raise_error(request: Request) -> NoReturn:
    """Raise the error of a request that has failed."""
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
