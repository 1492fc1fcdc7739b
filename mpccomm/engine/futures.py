"""How an asyncio caller waits for a request: with a future of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context
from typing import Any, NoReturn, Self, TypeVar

from mpccomm.engine.loop_owner import LoopOwner, running_loop
from mpccomm.engine.requests import FutureCall, Request, SendCall, tell_of_failure
from mpccomm.engine.several import TaskCall
from mpccomm.engine.states import OVER
from mpccomm.errors import PoolClosedError

T = TypeVar("T")


class RequestFuture(asyncio.Future[Any]):
    """A future of the running loop that is done when a request is over. Whether the request failed is seen from its state.

    Who cancels it may ask for the same message in the same breath. So the request is cancelled before anything that is posted
    later: callbacks would hear of it in the next turn of the loop. And not here: it may be Ctrl-C that cancels the task, in the
    middle of what the pool does on this very loop.
    """

    __slots__ = ("is_home", "owner", "request")

    request: Request | None
    owner: LoopOwner
    is_home: bool
    """Whether its loop is the pool's own."""

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Note that the request is over."""
        self.request = None
        if self.is_home:
            _resolve(self, None, None)
        else:
            resolve_on(self, self.owner, None, None)
        return None

    def cancel(self, msg: Any | None = None) -> bool:
        """Do as any future does."""
        cancelled = super().cancel(msg)
        request = self.request
        if cancelled and request is not None:
            self.request = None
            with contextlib.suppress(PoolClosedError):
                self.owner.post_soon(request.cancel)
        return cancelled


class WeakWaiter(weakref.ref["ReceiveFuture"]):
    """Stands for a future as long as the program has it: one that it has forgotten takes no message."""

    __slots__ = ("request",)

    request: Request

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take the outcome of the receive."""
        future = self()
        return False if future is None else future.resolve(value, error)

    def cancel(self) -> None:
        """Withdraw the receive: the program has forgotten the future."""
        self.request.cancel()


class ReceiveFuture(RequestFuture):
    """A future that gets the value of a receive, or its error."""

    __slots__ = ()

    request: FutureCall | None

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call a function with this future when it is done. From then on it is kept, also without a reference of the program."""
        request = self.request
        if request is not None and request.waiter is not None:
            request.waiter = self
        super().add_done_callback(fn, context=context)

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take the outcome of the receive."""
        if self.cancelled():
            return False
        request = self.request
        if self.is_home or request is None:
            self.request = None
            return resolve_on(self, self.owner, value, error)
        try:
            self.get_loop().call_soon_threadsafe(self._arrive, request, value, error)
        except RuntimeError:
            # The caller's loop is closed: no call waits any more.
            self.cancel()
            return False
        return None

    def _arrive(self, request: FutureCall, value: Any, error: Exception | None) -> None:
        """Take the value, on the caller's loop. If this was cancelled meanwhile, the message goes back before any later call."""
        if not self.done():
            self.request = request.message = None
            _resolve(self, value, error)


class ObservedFuture(ReceiveFuture):
    """A future that tells the observer when the program asks for the value."""

    _taking: Callable[[], None] | None = None

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take the outcome of the receive."""
        if self.request is not None:
            self._taking = self.request.taking
        return super().resolve(value, error)

    def result(self) -> Any:
        """Do as any future does."""
        value = super().result()
        self._tell()
        return value

    def __await__(self) -> Generator[Any, None, Any]:
        request, observers = self.request, self.owner.observers
        end = None if request is None or observers is None else observers.begin_wait(request.involved(), further=True)
        try:
            value = yield from super().__await__()
        finally:
            if end is not None:
                end()
        self._tell()
        return value

    __iter__ = __await__

    def _tell(self) -> None:
        taking, self._taking = self._taking, None
        if taking is not None:
            taking()


F = TypeVar("F", bound=RequestFuture)


def future_for(request: Request, owner: LoopOwner, loop: asyncio.AbstractEventLoop, kind: type[F]) -> F:
    """Return a future of the loop for a request."""
    future = kind(loop=loop)
    future.request = request
    future.owner = owner
    future.is_home = loop is owner.home
    if isinstance(future, ReceiveFuture):
        # Its end is noted by C code, which no signal handler can interrupt.
        waiter = WeakWaiter(future, owner.forgotten.append)
        waiter.request = request
        request.waiter = waiter
    else:
        request.waiter = future
    return future


def future_of(loop: asyncio.AbstractEventLoop, owner: LoopOwner) -> RequestFuture:
    """Return a future of the loop, for a request that is made later."""
    future = RequestFuture(loop=loop)
    future.request = None
    future.owner = owner
    future.is_home = loop is owner.home
    return future


async def wait(request: Request, owner: LoopOwner) -> None:
    """Start a request and wait until it is over. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    loop = asyncio._get_running_loop() or running_loop()
    if loop is not owner.home:
        owner.check()
        future = future_for(request, owner, loop, RequestFuture)
        owner.post(request.start)
    else:
        # A request that is over at once needs no future.
        owner.post(request.start)
        if request.state in OVER:
            if request.error is not None:
                raise_error(request)
            return
        future = future_for(request, owner, loop, RequestFuture)
    await finish(request, future)


async def finish(request: Request, future: RequestFuture) -> None:
    """Wait with its future for a request that was started. Cancelled, it is cancelled.

    :raises CommunicationError: the request failed
    """
    observers = future.owner.observers
    further = not request.single
    told = observers is not None and (further or observers.waits)
    end = observers.begin_wait(request.involved(), further=further) if observers is not None and told else None
    try:
        await future
    except BaseException as error:
        # The caller was cancelled, or a signal handler has raised.
        owner = future.owner
        owner.forgotten.append(request)
        if not future.is_home and any(sends for _, sends in request.involved()):
            owner.give_back(request)  # what is not delivered yet is copied before the caller may change it
        else:
            withdraw_forgotten(owner)
        if observers is not None:
            tell_of_failure(observers, request, error)
        raise
    finally:
        if end is not None:
            end()
    if request.error is not None:
        if observers is not None:
            tell_of_failure(observers, request, request.error)
        raise_error(request)


def withdraw_forgotten(owner: LoopOwner) -> None:
    """Withdraw the requests of tasks that were cancelled or interrupted, even if a request was over before its task ran.

    The first step of such a task is to append the request to `LoopOwner.forgotten`. From there it is withdrawn before any later
    call takes something, whatever a further signal handler does to this.
    """
    with contextlib.suppress(PoolClosedError):
        owner.post(owner.withdraw_forgotten)


async def run(function: Callable[[], Coroutine[Any, Any, Any]], owner: LoopOwner) -> None:
    """Await a coroutine function on the pool's loop, from any loop. If this is cancelled, so is the coroutine."""
    if owner.home is None or running_loop() is owner.home:
        await function()
    else:
        await wait(TaskCall(owner, function), owner)


async def taken(request: Request, owner: LoopOwner, read: Callable[[], T]) -> T:
    """Wait for a request, and return what ``read`` makes of it. Whatever keeps it from being read, what was taken goes back."""
    try:
        await wait(request, owner)
        return read()
    except BaseException:
        owner.forgotten.append(request)
        withdraw_forgotten(owner)
        raise


def raise_error(request: Request) -> NoReturn:
    """Raise the error of a request that has failed."""
    error, request.error = request.error, None
    assert error is not None
    try:
        raise error
    finally:
        del error  # leave no reference cycle of the error and its traceback


def resolve_on(future: asyncio.Future[T], owner: LoopOwner, value: T | None, error: Exception | None) -> bool:
    """Give a future its outcome, where the pool's loop is and the future's may be another. False: it has ended otherwise."""
    loop = future.get_loop()
    if owner.is_on(loop):
        return _resolve(future, value, error)
    try:
        loop.call_soon_threadsafe(_resolve, future, value, error)
    except RuntimeError:
        # The caller's loop is closed: no call waits any more.
        future.cancel()
    return True


def _resolve(future: asyncio.Future[T], value: T | None, error: Exception | None) -> bool:
    if future.done():
        return False
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]
    except asyncio.InvalidStateError:
        return False  # it was cancelled between these two steps, by Ctrl-C
    return True


def tell_all_who_wait(owner: LoopOwner, parties: Iterable[object], error: Exception) -> None:
    """End every wait for this pool on event loops.

    What was struck may have been about to tell a call, and to have taken it out of where the pool knows it. The collector knows
    all: that costs calls nothing, and is one step, which no further signal handler can strike.
    """
    for one in gc.get_referrers(owner, *parties):
        kind = type(one)
        future: asyncio.Future[Any] | None = None
        if kind is SendCall:
            future = one.future
        elif issubclass(kind, asyncio.Future):
            future = one
        if future is not None and not future.done():
            told = PoolClosedError(str(error))
            told.__cause__ = error.__cause__
            resolve_on(future, owner, None, told)
            if owner.is_on(future.get_loop()):
                # asyncio would log an error that no call looks at, and the call may be what the signal has struck.
                asyncio.Future.exception(future)
