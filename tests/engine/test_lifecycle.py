"""The states of a pool; and gates."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from mpccomm import Pool, PoolClosedError, SyncPool
from mpccomm.engine.lifecycle import POOL, Gate, Lifecycle, Lingering, PoolEvent, PoolState
from tests.interrupts.shots import CTRL_C, Outcome, everywhere
from tests.pools import LOCAL, pools, quick
from tests.timing import UNIT

pytestmark = pytest.mark.usefixtures("both_loops")


def test_every_state_is_reached_and_what_has_ended_has_no_way_back() -> None:
    assert {*POOL.values(), PoolState.NEW} == set(PoolState)
    for (before, _), after in POOL.items():
        if before in (PoolState.CLOSED, PoolState.INHERITED):
            assert after is before


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PoolState, PoolEvent)))
def test_an_event_without_a_place_is_an_error(
    state: PoolState, event: PoolEvent, misplaced: list[AssertionError]
) -> None:
    lifecycle = Lifecycle()
    lifecycle.state = state
    if (state, event) in POOL:
        lifecycle.apply(event)
        assert lifecycle.state is POOL[state, event]
    else:
        with pytest.raises(AssertionError, match="has no place"):
            lifecycle.apply(event)
        assert lifecycle.state is state
        misplaced.clear()


def test_the_states_of_a_blocking_pool() -> None:
    pool = SyncPool(settings=quick())
    lifecycle = pool._engine.lifecycle
    states = [lifecycle.state]
    pool.add_http_server(0, LOCAL)
    states.append(lifecycle.state)
    pool.shutdown()
    states.append(lifecycle.state)
    pool.shutdown()
    assert states == [PoolState.NEW, PoolState.RUNNING, PoolState.CLOSED]
    with pytest.raises(PoolClosedError):
        pool.wait_ready()


async def test_all_wait_for_the_one_end() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        alice.add_http_client("nobody", LOCAL, 9)
        undelivered = alice.asend("nobody", "never delivered")
        undelivered.add_done_callback(lambda handle: handle.exception())
        alice.asend("Bob", "delivered")
        started = time.monotonic()
        short, long = asyncio.ensure_future(alice.shutdown(0)), asyncio.ensure_future(alice.shutdown(3 * UNIT))
        aborts = asyncio.ensure_future(alice.abort("too late"))
        aborts.cancel()
        await asyncio.gather(short, long, aborts, return_exceptions=True)
        assert time.monotonic() - started >= 3 * UNIT
        assert long.exception() is None
        assert alice._engine.lifecycle.state is PoolState.CLOSED
        assert await bob.recv("Alice") == "delivered"


def test_any_number_of_threads_end_it_at_once() -> None:
    for _ in range(10):
        with SyncPool(settings=quick()) as other:
            other.add_http_server(0, LOCAL)
            pool = SyncPool(settings=quick())
            pool.add_http_server(0, LOCAL)
            pool.add_http_client("other", LOCAL, other.port)
            other.add_http_client("pool", LOCAL, pool.port)
            handle = pool.asend("other", "delivered")
            ends: list[Callable[[], object]] = [
                pool.shutdown,
                partial(pool.abort, "why not", 0),
                pool.shutdown,
                partial(pool.__exit__, None, None, None),
            ]
            threads = [threading.Thread(target=end) for end in ends]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100 * UNIT)
                assert not thread.is_alive()
            assert handle.done()


def test_on_another_loop_of_the_same_thread_it_says_so() -> None:
    pool = Pool(settings=quick())
    home = asyncio.new_event_loop()

    async def begin() -> None:
        pool.add_http_server(0, LOCAL)
        await pool.wait_ready()

    home.run_until_complete(begin())
    ends = (pool.shutdown(), pool.abort(), pool.__aexit__(None, None, None))
    for end in ends:
        with pytest.raises(RuntimeError, match="another one can't on the same thread"):
            asyncio.run(end)
    home.run_until_complete(pool.shutdown())
    home.close()


def test_after_the_end_of_its_loop_the_port_is_free_and_the_error_says_what_to_do() -> None:
    pool = Pool(settings=quick())
    home = asyncio.new_event_loop()

    async def begin() -> None:
        pool.add_http_server(0, LOCAL)

    home.run_until_complete(begin())
    for task in asyncio.all_tasks(home):
        task.cancel()
    home.run_until_complete(asyncio.sleep(0))
    home.close()
    with pytest.raises(PoolClosedError, match="while its loop still runs"):
        asyncio.run(pool.shutdown())
    asyncio.run(pool.shutdown())
    again = SyncPool(settings=quick())
    again.add_http_server(pool.port, LOCAL)
    again.shutdown()


# -- gates -------------------------------------------------------------------------------------------------------------


def test_who_waits_longest_says_until_when_it_lingers() -> None:
    lingering = Lingering()
    assert not lingering
    assert lingering.deadline(0.0) == -math.inf
    short, long = lingering.begin(100.0, 1.0), lingering.begin(100.0, 10.0)
    assert lingering
    assert lingering.deadline(0.0) == 110.0
    assert lingering.deadline(105.0) == 115.0, "it was told to end before it could begin"
    lingering.end(long)
    assert lingering.deadline(0.0) == 101.0, "one that waits no longer is no reason to linger"
    lingering.end_all()
    lingering.end(short)
    assert not lingering


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


@pytest.mark.parametrize("linger", [None, "5", b"5", True, timedelta(seconds=5)], ids=repr)
def test_a_linger_that_is_no_number_of_seconds(linger: object) -> None:
    pool = SyncPool(settings=quick())
    for end in (pool.shutdown, partial(pool.abort, "why not")):
        with pytest.raises(TypeError, match="a number of seconds"):
            end(linger=linger)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linger"):
        pool.shutdown(-1)
    pool.shutdown()
