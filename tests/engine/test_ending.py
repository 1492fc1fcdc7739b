"""The end of a pool: who waits for it, until when it delivers, and that nothing keeps it from closing."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from mpccomm import MemoryNetwork, PartyGoneError, PartyShutDownError, Pool, PoolClosedError, SyncPool
from mpccomm.engine.ending import Lingering
from mpccomm.engine.lifecycle import PoolState
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Hello
from tests.engine.nowhere import Nowhere, add, new_engine
from tests.pools import LOCAL, pools, quick, until
from tests.timing import UNIT

LIMIT = 100 * UNIT

pytestmark = pytest.mark.usefixtures("both_loops")


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


# -- of an engine alone ---------------------------------------------------------------------------------------------------


async def test_all_who_end_it_wait_for_one_end_and_the_longest_patience_counts() -> None:
    engine = new_engine()
    engine.launch()
    assert engine.ending.deadline() < 0
    assert not engine.ending.asked_for
    begun = time.monotonic()
    for since, seconds in ((begun, 1.0), (begun, 100.0), (begun - 50, 120.0)):
        engine.ending._lingering.begin(since, seconds)
    assert engine.ending.deadline() == pytest.approx(begun + 100, abs=0.1)
    assert engine.ending.asked_for
    engine.ending._lingering.end_all()
    ends = [asyncio.ensure_future(engine.ending.shutdown(0)), asyncio.ensure_future(engine.ending.abort("late", 0))]
    await asyncio.gather(*ends)
    await engine.ending.shutdown(0)
    assert engine.lifecycle.state is PoolState.CLOSED


async def test_who_is_cancelled_is_no_reason_to_linger() -> None:
    engine = new_engine()
    bob = add(engine)
    engine.launch()
    blocked: list[float] = []

    async def leave(deadline: Callable[[float], float], *_: object, **__: object) -> list[Any]:
        blocked.append(deadline(-math.inf))
        await bob.until(lambda: False, partial(deadline, -math.inf))
        return []

    bob.leave = leave  # type: ignore[method-assign]
    ending = asyncio.ensure_future(engine.ending.shutdown(1000))
    await until(lambda: blocked)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await until(lambda: engine.lifecycle.state is PoolState.CLOSED)


async def test_one_that_is_hurried_from_another_thread_does_not_linger() -> None:
    engine = new_engine()
    bob = add(engine)
    engine.launch()

    async def leave(deadline: Callable[[float], float], *_: object, **__: object) -> list[Any]:
        await bob.until(lambda: False, partial(deadline, -math.inf))
        return []

    bob.leave = leave  # type: ignore[method-assign]
    ending = asyncio.ensure_future(engine.ending.shutdown(1000))
    await until(lambda: engine.lifecycle.state is PoolState.CLOSING)
    thread = threading.Thread(target=engine.ending.hurry)
    thread.start()
    await ending
    thread.join()


async def test_what_fails_in_leaving_does_not_keep_it_from_closing() -> None:
    network = Nowhere()
    engine = new_engine(network)
    engine.listen(LOCAL, 1234, None)
    bob = add(engine)
    engine.launch()
    engine.start_added()

    async def leave(*_: object, **__: object) -> list[Any]:
        raise ZeroDivisionError

    bob.leave = leave  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await engine.ending.shutdown(0)
    assert network.bound[0].events == ["started", "stopped", "closed"]
    assert engine.lifecycle.state is PoolState.CLOSED


async def test_shut_down_in_the_background_it_waits_for_nothing() -> None:
    engine = new_engine()
    engine.launch()
    engine.ending.begin_in_background()
    assert engine.ending.asked_for
    assert engine.lifecycle.usable, "nothing has happened yet"
    await until(lambda: engine.lifecycle.state is PoolState.CLOSED)


async def test_one_whose_loop_has_ended_says_what_was_lost() -> None:
    engine, loop = new_engine(), asyncio.new_event_loop()

    async def begin() -> None:
        engine.launch()

    await asyncio.to_thread(loop.run_until_complete, begin())
    loop.close()
    with pytest.raises(PoolClosedError, match="ended before it"):
        await engine.ending.from_anywhere(lambda: engine.ending.shutdown(0))
    await engine.ending.from_anywhere(lambda: engine.ending.shutdown(0))
    assert engine.lifecycle.state is PoolState.CLOSED
    await asyncio.get_running_loop().shutdown_default_executor()


# -- of a pool with others -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("linger", [None, "5", b"5", True, timedelta(seconds=5)], ids=repr)
def test_a_linger_that_is_no_number_of_seconds(linger: object) -> None:
    pool = SyncPool(settings=quick())
    for end in (pool.shutdown, partial(pool.abort, "why not")):
        with pytest.raises(TypeError, match="a number of seconds"):
            end(linger=linger)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linger"):
        pool.shutdown(-1)
    pool.shutdown()


# -- of a pool that another one has met, and that does not know ------------------------------------------------------------


def cut_off(network: MemoryNetwork, pool: Pool | SyncPool, name: str) -> Callable[[], bool]:
    """Cut every connection as the pool is about to meet that party, which has met it; the last time as it leaves.

    Returns whether that has happened, and nothing is left of the first one.
    """
    party = (pool if isinstance(pool, Pool) else pool.pool)._engine.parties[name]
    link = party.link
    meet, cuts = link._meet, 0

    def cut(connection: Connection, hello: Hello) -> bool:
        nonlocal cuts
        if link.leaving:
            link._meet = meet  # type: ignore[method-assign]
        cuts += 1
        network.cut()
        link.lost(connection)
        return False

    link._meet = cut  # type: ignore[method-assign]
    return lambda: cuts > 0


async def met_and_cut_off(network: MemoryNetwork) -> tuple[Pool, Pool]:
    """Return Alice, who knows that she is connected to Bob, and Bob, who was cut off before he knew."""
    alice, bob = (Pool(name=name, network=network, settings=quick()) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    cut = cut_off(network, bob, "Alice")
    await alice.wait_ready(LIMIT)
    await until(cut)
    return alice, bob


@pytest.mark.parametrize("end", ["shutdown", "abort", "remove"])
async def test_one_that_has_met_us_and_was_cut_off_before_we_knew_is_told_of_the_end(end: str) -> None:
    alice, bob = await met_and_cut_off(MemoryNetwork())
    if end == "remove":
        bob.remove_http_client("Alice")
    else:
        await (bob.shutdown(LIMIT) if end == "shutdown" else bob.abort("enough", LIMIT))
    with pytest.raises(PartyGoneError):
        await alice.recv("Bob", timeout=LIMIT)
    await alice.shutdown(UNIT)
    await bob.shutdown(UNIT)


@pytest.mark.parametrize("end", ["shutdown", "remove"])
def test_one_that_has_met_us_and_was_cut_off_before_a_blocking_pool_knew_is_told_of_the_end(end: str) -> None:
    network = MemoryNetwork()
    with (
        SyncPool(name="Alice", network=network, settings=quick()) as alice,
        SyncPool(name="Bob", network=network, settings=quick()) as bob,
    ):
        network.connect(alice, bob)
        cut_off(network, bob, "Alice")
        alice.wait_ready(LIMIT)
        if end == "remove":
            bob.remove_http_client("Alice")
        else:
            bob.shutdown(LIMIT)
        with pytest.raises(PartyShutDownError):
            alice.recv("Bob", timeout=LIMIT)


def test_one_that_was_not_used_ends_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """It has dialled nobody, and has nothing to say to anybody."""

    async def native() -> None:
        async with Pool() as pool:
            pool.add_http_client("Bob", LOCAL, 9)
            await asyncio.sleep(0)

    started = time.monotonic()
    asyncio.run(native())
    with SyncPool() as pool:
        pool.add_http_client("Bob", LOCAL, 9)
    assert time.monotonic() - started < 1
    assert not caplog.records


async def test_one_that_has_met_us_and_does_not_come_back_is_waited_for_no_longer_than_it_lingers() -> None:
    network = MemoryNetwork()
    alice, bob = await met_and_cut_off(network)
    network.partition("Alice", "Bob")
    started = time.monotonic()
    await bob.shutdown(5 * UNIT)
    assert 4 * UNIT < time.monotonic() - started < LIMIT
    await alice.shutdown(UNIT)
