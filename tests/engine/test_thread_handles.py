"""Handles are futures in every form of their interface, and what programs do with them can't stop the pool."""

import asyncio
import concurrent.futures
import functools
import gc
import re
import threading
from collections.abc import Callable

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.engine.handles import Callbacks, ThreadFuture
from mpccomm.engine.loop_owner import LoopOwner
from tests.pools import Log, quick

LIMIT = 20


def handle() -> ThreadFuture[int]:
    return ThreadFuture[int](Callbacks(LoopOwner()))


def waiting(call: Callable[[], object]) -> concurrent.futures.Future[object]:
    """The call, under way in a thread of its own."""
    outcome: concurrent.futures.Future[object] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run).start()
    return outcome


def test_whoever_waits_is_woken() -> None:
    future = handle()
    waiters = [waiting(lambda: future.result(LIMIT)) for _ in range(3)]
    future.resolve(7, None)
    assert [waiter.result(LIMIT) for waiter in waiters] == [7, 7, 7]
    assert future.result() == 7


def test_an_error_reaches_whoever_waits() -> None:
    future = handle()
    waiter = waiting(lambda: future.result(LIMIT))
    future.resolve(None, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        waiter.result(LIMIT)
    assert isinstance(future.exception(), ValueError)


def test_time_is_up() -> None:
    future = handle()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.resolve(1, None)
    assert future.result(0) == 1


def test_several_at_once() -> None:
    futures = [handle() for _ in range(5)]
    plain: list[concurrent.futures.Future[int]] = [*futures]
    completed = waiting(lambda: [future.result() for future in concurrent.futures.as_completed(plain, LIMIT)])
    waited = waiting(lambda: concurrent.futures.wait(futures, LIMIT))
    for number in (3, 1, 4, 0, 2):
        futures[number].resolve(number, None)
    got = completed.result(LIMIT)
    assert isinstance(got, list)
    assert sorted(got) == [0, 1, 2, 3, 4]
    assert waited.result(LIMIT) == (set(futures), set())


def test_cancelled_it_drops_what_comes_and_tells_those_who_wait_for_several() -> None:
    future = handle()
    waited = waiting(lambda: concurrent.futures.wait([future], LIMIT))
    assert future.cancel()
    future.resolve(1, None)
    assert waited.result(LIMIT) == ({future}, set())
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_it_has_few_objects_for_the_collector() -> None:
    def tracked(make: Callable[[], object]) -> int:
        gc.collect()
        before = len(gc.get_objects())
        kept = [make() for _ in range(100)]
        return (len(gc.get_objects()) - before) // len(kept)

    callbacks = Callbacks(LoopOwner())
    gc.disable()
    try:
        assert tracked(lambda: ThreadFuture(callbacks)) <= tracked(concurrent.futures.Future) / 2
    finally:
        gc.enable()


def test_a_callback_that_holds_up_others_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """By its name, not by what it is called with; once, and again when it has lasted twice as long."""
    callbacks = Callbacks(LoopOwner())
    running, go_on = threading.Event(), threading.Event()
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    first, second = ThreadFuture[int](callbacks), ThreadFuture[int](callbacks)

    def blocking(secret: str, handle: object) -> None:
        running.set()
        go_on.wait(LIMIT)

    first.add_done_callback(functools.partial(blocking, "a secret"))
    callbacks.notice(0)
    first.resolve(1, None)
    assert running.wait(LIMIT)
    callbacks.notice(0)
    assert not caplog.records, "it holds up nothing"
    second.add_done_callback(lambda _: done.set_result(None))
    second.resolve(1, None)
    callbacks.notice(1000)
    assert not caplog.records, "not for long"
    callbacks.notice(0)
    (record,) = caplog.records
    assert re.search(
        r"the callback \S*blocking has been running .* holds up 1 other callback: one thread", record.getMessage()
    )
    assert "secret" not in record.getMessage()
    assert record.event == "callback_blocks"  # type: ignore[attr-defined]
    callbacks._running.told = 1000.0  # type: ignore[union-attr]
    callbacks.notice(0)
    assert len(caplog.records) == 1
    go_on.set()
    done.result(LIMIT)
    callbacks.end()
    callbacks.join(LIMIT)
    callbacks.notice(0)
    assert len(caplog.records) == 1


def test_a_pool_tells_of_it_on_its_clock(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    go_on = threading.Event()
    with alice, bob:
        for number in range(2):
            alice.arecv("Bob").add_done_callback(lambda _: go_on.wait(LIMIT))
            bob.send("Alice", number)
        asyncio.run(log.seen("holds up 1 other callback"))
        go_on.set()
