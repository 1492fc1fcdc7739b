"""How an asyncio caller waits for a request: with a future of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any, NoReturn, Self, TypeVar, cast

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
        request, self.request = self.request, None
        if self.is_home:
            _resolve(self, None, None)
        elif not resolve_on(self, self.owner, None, None) and request is not None:
            # No call waits any more: what was taken for it goes back.
            request.cancel()
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


class _Keeper:
    """Keeps a future that has callbacks. It belongs to the receive, and then to the loop on which the outcome is on its way.

    A loop that is closed before that comes drops it, and with it the future, so that the message goes back.
    """

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: ReceiveFuture | None = None


class WeakWaiter(weakref.ref["ReceiveFuture"]):
    """Stands for a future as long as the program has it: one that it has forgotten takes no message.

    Nor does it keep one at which the program has not looked. Until then this is in `LoopOwner.unread`: nothing else refers to it,
    and only as long as it is there does it hear of the end of the future.
    """

    __slots__ = ("keeper", "owner", "request")

    request: FutureCall
    owner: LoopOwner
    keeper: _Keeper

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take the outcome of the receive."""
        holding = self.owner.hold()
        held = [self()]
        try:
            if held[0] is None:
                return None  # the message goes back in its turn
            if self.request.message is not None:
                self.owner.unread[id(self)] = self
            return held[0].resolve(value, error)
        finally:
            self.owner.let_go(holding, held)

    def arrive(self, value: Any, error: Exception | None, keeper: _Keeper) -> None:
        """Give the future its outcome, on its own loop: as long as that has not come, the program may forget it."""
        future = self()
        keeper.future = None
        if future is not None:
            _resolve(future, value, error)

    def cancel(self) -> None:
        """Withdraw the receive: the program has forgotten the future, or given it up."""
        self.keeper.future = None
        self.landed()
        self.request.cancel()

    def landed(self) -> None:
        """The program has what the future got. From any thread."""
        self.owner.unread.pop(id(self), None)


class ReceiveFuture(RequestFuture):
    """A future that gets the value of a receive, or its error.

    Its message is the program's as soon as that looks at the future. Cancelled or forgotten before, also where it was done
    already, it gives the message back: a task that is cancelled learns so before it runs again.
    """

    __slots__ = ("_keeper", "_returned", "waiter")

    request: FutureCall | None
    """Until the program has looked."""
    waiter: WeakWaiter
    _returned: bool
    """Whether it was cancelled when it was done."""

    def stand_for(self, request: FutureCall) -> None:
        """Become the future of this receive."""
        # Its end is noted by C code, which no signal handler can interrupt.
        waiter = WeakWaiter(self, self.owner.forgotten.append)
        waiter.request, waiter.owner = request, self.owner
        waiter.keeper = self._keeper = _Keeper()
        request.waiter = self.waiter = waiter
        self._returned = False
        del self  # as in `future_for`

    def done(self) -> bool:
        """Do as any future does."""
        if self.owner.inherited:
            fail_if_inherited(self, self.owner)
        return super().done()

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call a function with this future when it is done. From then on it is kept, also without a reference of the program."""
        if not super().done():
            # What the pool has for it may be on its way here.
            self._keeper.future = self
        if self.owner.inherited:
            fail_if_inherited(self, self.owner)
        # As asyncio does; where None is passed to it, it calls the function in the context in which the outcome comes.
        super().add_done_callback(fn, context=copy_context() if context is None else context)

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        """Do as any future does. Without callbacks it is kept by the program alone."""
        removed = super().remove_done_callback(fn)
        if not self._callbacks:
            self._keeper.future = None
        return removed

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take the outcome of the receive."""
        if self.cancelled():
            self._keeper.future = None
            return None  # as above
        request = self.request
        if request is not None and request.message is None:
            self.request = None  # there is nothing that could go back
        keeper = self._keeper
        if self.is_home:
            keeper.future = None
            return _resolve(self, value, error)
        self.waiter.keeper = _Keeper()
        try:
            # If it is cancelled meanwhile, the message goes back before any later call.
            self.get_loop().call_soon_threadsafe(self.waiter.arrive, value, error, keeper)
        except RuntimeError:
            keeper.future = None
            return False  # the caller's loop is closed: no call waits any more
        return True

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, also one that is done, as long as the program has not looked at it: the message goes back."""
        request = self.request
        pending = asyncio.Future.cancel(self, msg)
        if request is None or not (pending or self.done()):
            return pending
        self._returned = not pending
        if self._returned:
            self._cancel_message = msg
            asyncio.Future.exception(self)  # otherwise asyncio would log an error that no call looks at
        self.request = None
        with contextlib.suppress(PoolClosedError):
            self.owner.post_soon(self.waiter.cancel)
        return True

    def cancelled(self) -> bool:
        """Do as any future does."""
        return self._returned or super().cancelled()

    def result(self) -> Any:
        """Do as any future does."""
        if self._returned or self.owner.inherited:
            self._check()
        request = self.request
        if request is None or not super().done():
            return super().result()
        if super().exception() is not None:
            self._look(request)
            return super().result()
        try:
            value = super().result()
            self._look_at(request)
            # From here on the message is the program's. Nothing is called any more: in a call a signal handler may run, and
            # cancel this.
            if not self._returned:
                self.request = request.message = None
                return value
        except BaseException:
            self.owner.unread[id(self.waiter)] = self.waiter
            raise
        raise self._make_cancelled_error()  # type: ignore[attr-defined]

    def exception(self) -> BaseException | None:
        """Do as any future does. That there is no error, for which asyncio asks by itself, is not a look at the value."""
        self._check()
        error = super().exception()
        if error is not None and self.request is not None:
            self._look(self.request)
        return error

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            yield from super().__await__()
        return self.result()

    __iter__ = __await__

    def _check(self) -> None:
        fail_if_inherited(self, self.owner)
        if self._returned:
            raise self._make_cancelled_error()  # type: ignore[attr-defined]

    def _look(self, request: FutureCall) -> None:
        """Note that the program looks at the error."""
        self._look_at(request)
        self.request = request.message = None

    def _look_at(self, request: FutureCall) -> None:
        """Note that the program is about to have what this got."""
        self.waiter.landed()


class ObservedFuture(ReceiveFuture):
    """A future that tells the observer when the program asks for the value."""

    __slots__ = ()

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Do as any future of a receive does."""
        observers = self.owner.observers
        if context is None and observers is not None:
            for hook in observers.callback:
                hook()
        super().add_done_callback(fn, context=context)

    def __await__(self) -> Generator[Any, None, Any]:
        request, observers = self.request, self.owner.observers
        end = None if request is None or observers is None else observers.begin_wait(request.involved(), further=True)
        try:
            if not self.done():
                yield from RequestFuture.__await__(self)
        finally:
            if end is not None:
                end()
        return self.result()

    __iter__ = __await__

    def _look_at(self, request: FutureCall) -> None:
        if request.taking is not None:
            request.taking()
            request.taking = None
        super()._look_at(request)


F = TypeVar("F", bound=RequestFuture)


def future_for(request: Request, owner: LoopOwner, loop: asyncio.AbstractEventLoop, kind: type[F]) -> F:
    """Return a future of the loop for a request."""
    future = kind(loop=loop)
    future.request = request
    future.owner = owner
    future.is_home = loop is owner.home
    if isinstance(future, ReceiveFuture):
        future.stand_for(cast("FutureCall", request))
    else:
        request.waiter = future
    try:
        return future
    finally:
        # A frame may be kept for a while, as by a profiler or by `explain`, and what is in it is not forgotten in time.
        del future


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
    end = None
    try:
        if observers is not None and (further or observers.waits):
            end = observers.begin_wait(request.involved(), further=further)
        await future
    except BaseException as error:
        # The caller was cancelled, or a signal handler has raised.
        owner = future.owner
        owner.forgotten.append(request)
        # Of a loop that was closed the collector may end the task, on any thread: that of the pool waits for nothing.
        if get_ident() != owner.thread and any(sends for _, sends in request.involved()):
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
        owner.withdraw_forgotten()


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
    """Give a future its outcome, where the pool's loop is and the future's may be another.

    False: it has ended otherwise, or its loop is closed, on which nothing can end any more, nor be cancelled.
    """
    loop = future.get_loop()
    if owner.is_on(loop):
        return _resolve(future, value, error)
    try:
        loop.call_soon_threadsafe(_resolve, future, value, error)
    except RuntimeError:
        return False
    return True


def fail_if_inherited(future: asyncio.Future[Any], owner: LoopOwner) -> None:
    """Have a future fail that still waited when this process was forked: the pool is the parent's."""
    if owner.inherited and not asyncio.Future.done(future):
        with contextlib.suppress(RuntimeError):  # its loop is closed
            asyncio.Future.set_exception(future, PoolClosedError(owner.inherited))


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
        if issubclass(kind, SendCall):
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
