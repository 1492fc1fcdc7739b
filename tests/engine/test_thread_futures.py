"""Futures for threads have every form of the interface, and what programs do with them can't stop the pool."""

import concurrent.futures
import gc
import math
import threading
from collections.abc import Callable
from contextvars import ContextVar
from decimal import Decimal

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.engine.callbacks import Callbacks
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.thread_futures import Gate, ThreadFuture
from mpccomm.errors import PoolClosedError
from tests.interrupts.shots import CTRL_C, Outcome, everywhere
from tests.timing import UNIT

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


def test_all_that_wait_are_woken() -> None:
    future = handle()
    waiters = [waiting(lambda: future.result(LIMIT)) for _ in range(3)]
    future.resolve(7, None)
    assert [waiter.result(LIMIT) for waiter in waiters] == [7, 7, 7]
    assert future.result() == 7


def test_an_error_reaches_the_thread_that_waits() -> None:
    future = handle()
    waiter = waiting(lambda: future.result(LIMIT))
    future.resolve(None, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        waiter.result(LIMIT)
    assert isinstance(future.exception(), ValueError)


@pytest.mark.parametrize("done", [True, False])
def test_a_callback_runs_in_a_copy_of_the_context_in_which_it_was_added(done: bool) -> None:
    here: ContextVar[str] = ContextVar("here", default="nowhere")
    callbacks = Callbacks(LoopOwner())
    future, seen = ThreadFuture[int](callbacks), concurrent.futures.Future[str]()

    def look(_: object) -> None:
        seen.set_result(here.get())
        here.set("the callback")

    if done:
        future.resolve(7, None)
    token = here.set("the program")
    future.add_done_callback(look)
    assert here.get() == "the program"
    here.reset(token)
    if not done:
        future.resolve(7, None)
    assert seen.result(LIMIT) == "the program"
    callbacks.end()
    callbacks.join(LIMIT)


def test_time_is_up() -> None:
    future = handle()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.resolve(1, None)
    assert future.result(0) == 1


@pytest.mark.parametrize("ask", [ThreadFuture.result, ThreadFuture.exception])
@pytest.mark.parametrize("resolved", [False, True])
@pytest.mark.parametrize(
    ("limit", "error"),
    [(Decimal("NaN"), TypeError), ("1", TypeError), (True, TypeError), (math.nan, ValueError), (1 << 70, ValueError)],
)
def test_a_time_limit_that_makes_no_sense(
    ask: Callable[..., object], resolved: bool, limit: object, error: type[Exception]
) -> None:
    future = handle()
    if resolved:
        future.resolve(7, None)
    with pytest.raises(error):
        ask(future, limit)


def test_a_time_limit_below_0_has_passed() -> None:
    with pytest.raises(TimeoutError):
        handle().result(-1)


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


def test_some_whose_lock_an_interrupt_has_left_behind_keep_nobody_from_the_others() -> None:
    """They belong to `concurrent.futures`, or to a program that has made its own."""

    class Own:
        lock = threading.Lock()

        def add_result(self, future: concurrent.futures.Future[int]) -> None:
            with self.lock:
                told.set()

    future, told = handle(), threading.Event()
    here = threading.Event()

    class Known(concurrent.futures._base._FirstCompletedWaiter):
        def add_result(self, future: concurrent.futures.Future[int]) -> None:
            super().add_result(future)
            here.set()

    known = Known()
    interrupted = known.event
    interrupted._cond.acquire()  # type: ignore[attr-defined]
    with Own.lock:
        for waiter in (Own(), known):
            future._waiters.append(waiter)
        future.resolve(1, None)
        assert here.is_set()
        assert not told.is_set()
    assert told.wait(LIMIT)
    interrupted._cond.release()  # type: ignore[attr-defined]


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


# -- gates -------------------------------------------------------------------------------------------------------------


LOOKS: dict[str, Callable[[ThreadFuture[int]], object]] = {
    "done": lambda future: future.done(),
    "result": lambda future: future.result(),
    "exception": lambda future: future.exception(),
    "cancel": lambda future: not future.cancel(),
    "wait": lambda future: concurrent.futures.wait([future], LIMIT).done,
    "as_completed": lambda future: list(
        concurrent.futures.as_completed(list[concurrent.futures.Future[int]]([future]), LIMIT)
    ),
    "add_done_callback": lambda future: future.add_done_callback(lambda future: None),
}


@pytest.mark.parametrize("look", LOOKS)
def test_in_the_child_of_a_fork_what_still_waited_fails_and_what_was_done_is_done(look: str) -> None:
    callbacks = Callbacks(LoopOwner())
    waits, done, cancelled, called = (ThreadFuture[int](callbacks) for _ in range(4))
    done.resolve(7, None)
    cancelled.cancel()
    callbacks.loop_owner.inherited = "it is the parent's"
    found: list[object] = []
    called.add_done_callback(found.append)
    assert found == [called]
    try:
        assert LOOKS[look](waits) or look == "add_done_callback"
    except PoolClosedError:
        assert look == "result"
    assert waits.done()
    with pytest.raises(PoolClosedError, match="it is the parent's"):
        waits.result()
    assert (done.result(), cancelled.cancelled()) == (7, True)


def test_a_gate_lets_all_through_now_and_later() -> None:
    gate = Gate()
    assert not gate.wait(0)
    threads = [threading.Thread(target=gate.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.open()
    gate.open()
    for thread in threads:
        thread.join(50 * UNIT)
        assert not thread.is_alive()
    assert gate.wait()
    assert not gate._sleepers


def test_a_gate_and_signals() -> None:
    def look(outcome: Outcome) -> None:
        gate.open()
        assert gate.wait(50 * UNIT)
        assert not gate._sleepers
        gate.opened = False

    gate = Gate()
    everywhere(lambda: gate.wait(UNIT / 100), look, CTRL_C, stride=1)


@pytest.mark.parametrize("look", ["result", "dropped"])
@pytest.mark.parametrize("given_up", ["cancel", "set_result"])
def test_a_receive_that_is_given_up_too_late_keeps_its_message(given_up: str, look: str) -> None:
    """`cancel` says so; the message is what the handle has, and goes back only where nobody can look at that any more."""
    network = MemoryNetwork()
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        for number in range(2):
            alice.send("Bob", number)
        handle = bob.arecv("Alice")
        concurrent.futures.wait((handle,), LIMIT)
        if given_up == "cancel":
            assert not handle.cancel()
        else:
            with pytest.raises(concurrent.futures.InvalidStateError):
                handle.set_result(7)
        assert not handle.cancelled()
        if look == "result":
            assert bob.recv("Alice", timeout=LIMIT) == 1
            assert handle.result() == 0
        else:
            del handle
            gc.collect()
            assert [bob.recv("Alice", timeout=LIMIT) for _ in range(2)] == [0, 1]
