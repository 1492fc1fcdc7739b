"""How an asyncio caller waits, on the loop of the pool and on another one. The requests are played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, cast

import pytest

from mpccomm.engine.futures import (
    ObservedFuture,
    ReceiveFuture,
    RequestFuture,
    finish,
    future_for,
    raise_error,
    resolve_on,
    run,
    taken,
    wait,
)
from mpccomm.engine.handles import Failures, LoopHandle
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.observer import Involved, Observers
from mpccomm.engine.requests import FutureCall, Waiter
from mpccomm.engine.states import RequestState
from mpccomm.errors import CommunicationError, PoolClosedError
from tests.pools import until

pytestmark = pytest.mark.usefixtures("loop_factory")


class FakeRequest:
    """Ends when the test says so; ``at_once`` when it is started."""

    single = False

    def __init__(self, *, at_once: bool = False) -> None:
        self.state = RequestState.NEW
        self.error: Exception | None = None
        self.waiter: Waiter | None = None
        self.message: object = "message"
        self.taking: Callable[[], None] | None = None
        self.cancelled = 0
        self.started_in = 0
        self._at_once = at_once

    def involved(self) -> Involved:
        return (("Bob", False),)

    def missing(self) -> tuple[()]:
        return ()

    def withdraw(self) -> bool:
        self.cancel()
        return True

    def start(self) -> None:
        self.started_in = threading.get_ident()
        self.state = RequestState.WAITING
        if self._at_once:
            self.end()

    def end(self, value: Any = None, error: Exception | None = None) -> bool | None:
        self.state = RequestState.DONE if error is None else RequestState.FAILED
        self.error = error
        waiter, self.waiter = self.waiter, None
        return waiter.resolve(value, error) if waiter is not None else None

    def finish(self, value: Any = None, error: Exception | None = None) -> None:
        self.end(value, error)

    def cancel(self) -> None:
        self.cancelled += 1
        self.waiter = None

    def detach(self) -> None:
        """It sends nothing."""


class Watch:
    """An observer that counts waits."""

    def __init__(self) -> None:
        self.waits_of: list[Involved] = []
        self.ended = 0

    def waits(self, involved: Involved) -> Callable[[], None]:
        self.waits_of.append(involved)

        def end() -> None:
            self.ended += 1

        return end

    def vain(self, involved: Involved, since: float) -> None:
        raise AssertionError("this is the wait of no single message")


def home_owner() -> LoopOwner:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    return owner


@contextlib.asynccontextmanager
async def far_owner() -> AsyncIterator[LoopOwner]:
    """The owner of a loop in another thread."""
    owner, loop = LoopOwner(), asyncio.new_event_loop()
    ready = threading.Event()

    def live() -> None:
        owner.settle_in(loop)
        loop.call_soon(ready.set)
        loop.run_forever()
        loop.close()

    thread = threading.Thread(target=live)
    thread.start()
    ready.wait(10)
    try:
        yield owner
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        await asyncio.get_running_loop().shutdown_default_executor()


async def begun(awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    future = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    return future


# -- on the loop of the pool -----------------------------------------------------------------------------------------------


async def test_what_is_over_at_once_needs_no_future() -> None:
    request = FakeRequest(at_once=True)
    waiting = wait(request, home_owner())
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert request.waiter is None


async def test_a_wait_ends_with_its_request() -> None:
    request = FakeRequest()
    waiting = await begun(wait(request, home_owner()))
    assert not waiting.done()
    request.end()
    await waiting
    assert not request.cancelled


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_error_of_a_request_is_raised_once_and_not_kept(at_once: bool) -> None:
    request, error = FakeRequest(), CommunicationError("broken")
    if at_once:
        request.start = partial(request.finish, error=error)  # type: ignore[method-assign]
    waiting = await begun(wait(request, home_owner()))
    if not at_once:
        request.end(error=error)
    with pytest.raises(CommunicationError, match="broken"):
        await waiting
    assert request.error is None, "no circle of error, traceback and request"


async def test_an_error_is_raised_as_it_is() -> None:
    request, error = FakeRequest(), CommunicationError("broken")
    request.error = error
    with pytest.raises(CommunicationError) as caught:
        raise_error(request)
    assert caught.value is error


@pytest.mark.parametrize("ended", [True, False])
async def test_cancelled_it_cancels_the_request_also_one_that_is_over(ended: bool) -> None:
    request = FakeRequest()
    waiting = await begun(wait(request, home_owner()))
    if ended:
        request.end()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert request.cancelled


@pytest.mark.parametrize("end", ["value", "error", "cancel"])
async def test_each_wait_is_observed_from_begin_to_end(end: str) -> None:
    owner, watch, request = home_owner(), Watch(), FakeRequest()
    owner.observers = Observers([watch])
    waiting = await begun(wait(request, owner))
    assert (watch.waits_of, watch.ended) == ([(("Bob", False),)], 0)
    if end == "cancel":
        waiting.cancel()
    else:
        request.end(error=CommunicationError() if end == "error" else None)
    await asyncio.wait((waiting,))
    assert (waiting.cancelled(), waiting.cancelled() or waiting.exception() is not None) == (
        end == "cancel",
        end != "value",
    )
    assert watch.ended == 1


async def test_what_was_taken_goes_back_if_it_can_not_be_read() -> None:
    def read() -> Any:
        raise ZeroDivisionError

    request = FakeRequest(at_once=True)
    with pytest.raises(ZeroDivisionError):
        await taken(request, home_owner(), read)
    assert request.cancelled == 1
    request = FakeRequest(at_once=True)
    assert await taken(request, home_owner(), lambda: 3) == 3
    assert not request.cancelled


async def test_nothing_is_read_before_the_request_is_over() -> None:
    request, read = FakeRequest(), list[int]()
    waiting = await begun(taken(request, home_owner(), partial(read.append, 1)))
    assert not read
    request.end()
    await waiting
    assert read == [1]


async def test_a_coroutine_function_runs_in_its_caller() -> None:
    owner, where = home_owner(), []

    async def function() -> None:
        where.append(asyncio.current_task())

    await run(function, owner)
    assert where == [asyncio.current_task()]


# -- futures of receives -----------------------------------------------------------------------------------------------------


def receive_future(request: FakeRequest, owner: LoopOwner, kind: type[ReceiveFuture] = ReceiveFuture) -> ReceiveFuture:
    return future_for(cast(FutureCall, request), owner, asyncio.get_running_loop(), kind)


async def test_a_future_gets_the_value_and_lets_go_of_its_request_when_the_program_looks() -> None:
    for look in ("result", "await"):
        request, owner = FakeRequest(), home_owner()
        future = receive_future(request, owner)
        assert request.end("value")
        assert future.exception() is None
        assert (request.message, len(owner.unread)) == ("message", 1), "to ask for an error is not to look at the value"
        assert (await future if look == "await" else future.result()) == "value"
        assert (request.message, future.request, owner.unread) == (None, None, {})
        assert not future.cancel()
        assert future.result() == await future == "value"


@pytest.mark.parametrize("kind", [ReceiveFuture, ObservedFuture])
@pytest.mark.parametrize("end", ["forgotten", "cancelled", "cancelled with an error"])
async def test_a_future_at_which_the_program_has_not_looked_gives_the_message_back(
    kind: type[ReceiveFuture], end: str
) -> None:
    request, owner = FakeRequest(), home_owner()
    future: ReceiveFuture | None = receive_future(request, owner, kind)
    assert future is not None
    error = CommunicationError("broken") if end.endswith("error") else None
    assert request.end("value", error)
    if end != "forgotten":
        assert future.done()
        assert future.cancel("why")
        assert (future.done(), future.cancelled(), future.cancel()) == (True, True, False)
        for look in (future.result, future.exception):
            with pytest.raises(asyncio.CancelledError, match="why"):
                look()
        with pytest.raises(asyncio.CancelledError):
            await future
    future = None
    gc.collect()
    owner.withdraw_forgotten()
    await asyncio.sleep(0)
    assert (request.cancelled, request.message, owner.unread) == (1, "message", {})


async def test_an_error_without_a_message_is_no_reason_to_keep_anything() -> None:
    request, owner = FakeRequest(), home_owner()
    request.message = None
    future = receive_future(request, owner)
    assert request.end(error=CommunicationError("broken"))
    assert (future.request, owner.unread) == (None, {})
    assert not future.cancel()
    assert "broken" in str(future.exception())


async def test_a_future_whose_callbacks_are_removed_is_kept_by_the_program_alone() -> None:
    request, owner = FakeRequest(), home_owner()
    future: ReceiveFuture | None = receive_future(request, owner)
    assert future is not None
    callbacks: list[Callable[[object], None]] = [lambda future: None, lambda future: None]
    for callback in callbacks:
        future.add_done_callback(callback)
    future.remove_done_callback(callbacks[0])
    future, gone = None, weakref.ref(future)
    gc.collect()
    kept = gone()
    assert kept is not None
    kept.remove_done_callback(callbacks[1])
    del kept
    gc.collect()
    assert gone() is None
    owner.withdraw_forgotten()
    assert request.cancelled


async def test_a_cancelled_future_takes_nothing_and_cancels_before_anything_that_is_posted_later() -> None:
    request, owner, order = FakeRequest(), home_owner(), list[str]()
    request.cancel = lambda: order.append("cancelled")  # type: ignore[method-assign]
    future = receive_future(request, owner)
    assert future.cancel()
    assert not order, "not in the middle of what the pool does on this very loop"
    owner.post(lambda: order.append("asked for again"))
    assert order == ["cancelled", "asked for again"]
    future.resolve("value", None)
    assert not future.cancel(), "it is done"
    await asyncio.sleep(0)
    assert order == ["cancelled", "asked for again"]


async def test_one_that_is_cancelled_where_its_loop_has_gone_is_cancelled() -> None:
    owner = LoopOwner()
    loop = asyncio.new_event_loop()
    owner.settle_in(loop)
    loop.close()
    future = receive_future(FakeRequest(), owner)
    assert future.cancel()


async def test_an_observed_future_tells_once_when_it_is_asked_for() -> None:
    for look in ("result", "await"):
        told: list[int] = []
        request = FakeRequest()
        request.taking = partial(told.append, 1)
        future = receive_future(request, home_owner(), ObservedFuture)
        request.end("value")
        assert not told
        for _ in range(2):
            assert (await future if look == "await" else future.result()) == "value"
            assert told == [1]


async def test_a_future_of_another_kind_has_no_value() -> None:
    request = FakeRequest()
    future = future_for(request, home_owner(), asyncio.get_running_loop(), RequestFuture)
    request.end("value")
    assert future.result() is None


# -- on another loop ----------------------------------------------------------------------------------------------------------


async def test_a_request_is_started_where_the_pool_lives_and_its_end_comes_back() -> None:
    async with far_owner() as owner:
        for error in (None, CommunicationError("broken")):
            request = FakeRequest()
            waiting = await begun(wait(request, owner))
            await until(partial(getattr, request, "started_in"))
            assert request.started_in == owner.thread
            owner.post(partial(request.finish, error=error))
            if error is None:
                await waiting
            else:
                with pytest.raises(CommunicationError, match="broken"):
                    await waiting


async def test_a_value_from_another_loop_arrives_in_a_further_turn() -> None:
    async with far_owner() as owner:
        request = FakeRequest()
        future = receive_future(request, owner)
        owner.post(partial(request.finish, "value"))
        assert await future == "value"
        assert (request.message, future.request) == (None, None), (
            "it has landed: an interrupt does not lose it any more"
        )


async def test_one_that_is_cancelled_while_the_value_is_on_its_way_sends_it_back() -> None:
    async with far_owner() as owner:
        request, resolved = FakeRequest(), threading.Event()
        future = receive_future(request, owner)
        owner.post(partial(request.finish, "value"))
        owner.post(resolved.set)
        resolved.wait(10)
        future.cancel()
        await until(lambda: request.cancelled)
        assert request.message == "message", "it was not handed out"
        assert future.cancelled()


async def test_a_coroutine_function_is_carried_to_the_loop_of_the_pool_and_cancelled_there() -> None:
    async with far_owner() as owner:
        where: list[int] = []

        async def function() -> None:
            where.append(threading.get_ident())
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                where.append(threading.get_ident())
                raise

        running = await begun(run(function, owner))
        await until(lambda: where)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: len(where) == 2)
        assert where == [owner.thread, owner.thread]


@pytest.mark.parametrize("awaited", [False, True], ids=["not awaited", "a task waits"])
async def test_an_outcome_for_a_loop_that_has_gone_is_no_error_and_what_was_taken_goes_back(awaited: bool) -> None:
    owner = home_owner()
    for kind in (None, RequestFuture, ReceiveFuture, ObservedFuture):
        request = FakeRequest()
        loop = asyncio.new_event_loop()
        future: asyncio.Future[Any] = (
            loop.create_future() if kind is None else future_for(cast(FutureCall, request), owner, loop, kind)
        )
        if awaited:
            future.add_done_callback(lambda future: None)
        loop.close()
        if kind is None:
            assert not resolve_on(future, owner, 1, None)
        elif kind is RequestFuture:
            request.end(1)
            assert request.cancelled
        else:
            assert request.end(1) is False, "the message goes back"


async def test_an_outcome_that_comes_late_is_dropped() -> None:
    owner = home_owner()
    future = asyncio.get_running_loop().create_future()
    assert resolve_on(future, owner, 1, None)
    assert not resolve_on(future, owner, 2, None)
    assert future.result() == 1
    failed = asyncio.get_running_loop().create_future()
    assert resolve_on(failed, owner, None, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        failed.result()


async def test_where_the_loop_of_the_pool_has_ended_it_says_so() -> None:
    owner = LoopOwner()
    loop = asyncio.new_event_loop()
    owner.settle_in(loop)
    loop.close()
    with pytest.raises(PoolClosedError):
        await wait(FakeRequest(), owner)


async def test_a_wait_that_is_cancelled_when_the_loop_of_the_pool_has_ended_ends() -> None:
    owner, loop = LoopOwner(), asyncio.new_event_loop()
    owner.settle_in(loop)
    request = FakeRequest()
    future = future_for(request, owner, asyncio.get_running_loop(), RequestFuture)
    waiting = await begun(finish(request, future))
    loop.close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("kind", [ReceiveFuture, ObservedFuture])
async def test_callbacks_run_in_the_context_in_which_they_were_added(kind: type[ReceiveFuture]) -> None:
    """As asyncio has it, whose `gather` and `shield` ask for the value in one. Also where there is nothing in the context."""
    here: ContextVar[str] = ContextVar("here", default="nowhere")
    request = FakeRequest()
    future = receive_future(request, home_owner(), kind)
    seen = []

    def look(_: object) -> None:
        seen.append(here.get())

    context = copy_context()
    context.run(here.set, "the program")
    future.add_done_callback(look, context=Context())
    context.run(future.add_done_callback, look)
    future.add_done_callback(look, context=context)
    here.set("the pool")
    request.end("value")
    await asyncio.sleep(0)
    assert await future == "value"
    assert seen == ["nowhere", "the program", "the program"]


# -- in the child of a fork ---------------------------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[asyncio.Future[Any]], Awaitable[Any]]] = {
    "await": lambda future: future,
    "gather": lambda future: asyncio.gather(future),
    "shield": lambda future: asyncio.shield(future),
    "wait_for": lambda future: asyncio.wait_for(future, 10),
    "wait": lambda future: asyncio.wait((future,), timeout=10),
    "done": lambda future: asyncio.sleep(0, future.done()),
    "result": lambda future: asyncio.sleep(0, future.result()),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("what", ["receive", "send"])
async def test_what_still_waited_fails_and_what_was_done_is_done(what: str, look: str) -> None:
    def made(*, done: bool) -> asyncio.Future[Any]:
        if what == "send":
            handle = LoopHandle(Failures(owner))
            if done:
                handle.resolve(None, None)
            return handle
        request = FakeRequest()
        requests.append(request)
        future = receive_future(request, owner)
        if done:
            request.end("value")
        return future

    requests: list[FakeRequest] = []
    owner = home_owner()
    waits, done = made(done=False), made(done=True)
    owner.inherited = "it is the parent's"
    with contextlib.suppress(PoolClosedError):
        await LOOKS[look](waits)
    assert waits.done()
    with pytest.raises(PoolClosedError, match="it is the parent's"):
        await waits
    assert await done == ("value" if what == "receive" else None)
