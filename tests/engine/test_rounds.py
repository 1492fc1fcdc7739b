"""Rounds where tasks and threads run side by side."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import threading
import weakref
from typing import Any

import pytest

from mpccomm import MemoryNetwork, Pool, Settings, SyncPool
from tests.pools import pools, quick, until

COUNTED = dataclasses.replace(quick(), report=True)


async def ping(pool: Pool, other: str, channel: str, times: int) -> None:
    for number in range(times):
        await pool.channel(channel).send(other, number)
        await pool.channel(channel).recv(other)


async def pong(pool: Pool, other: str, channel: str, times: int) -> None:
    for number in range(times):
        await pool.channel(channel).recv(other)
        await pool.channel(channel).send(other, number)


async def test_tasks_side_by_side_do_not_add_up() -> None:
    """However one is ahead of the other; what comes after both is behind both."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        first_is_over = asyncio.Event()

        async def late(protocol: Any, pool: Pool, other: str) -> None:
            await protocol(pool, other, "late", 1)
            await first_is_over.wait()
            await protocol(pool, other, "late", 3)

        async def early(protocol: Any, pool: Pool, other: str) -> None:
            await protocol(pool, other, "early", 5)
            if pool is alice:
                first_is_over.set()

        async def side(pool: Pool, protocol: Any, other: str) -> None:
            with pool.phase("both"):
                await asyncio.gather(early(protocol, pool, other), late(protocol, pool, other))

        await asyncio.gather(side(alice, ping, "Bob"), side(bob, pong, "Alice"))
        assert alice.report()["both"].rounds == bob.report()["both"].rounds == 10
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1
        # This task made the others before it had anything to do with a pool: all that ended counts for it.
        assert bob.report().rounds == 11


async def test_what_tasks_have_received_is_behind_what_their_maker_sends_then() -> None:
    async with pools("Alice", "Bob", "Carol", settings=COUNTED) as (alice, bob, carol):
        for pool in (bob, carol):
            await pool.send("Alice", pool.name)
        early = asyncio.create_task(alice.recv("Bob"))
        await alice.send("Carol", 0)
        assert alice.report().rounds == 1
        assert [await early, *await asyncio.gather(alice.recv("Carol"))] == ["Bob", "Carol"]
        await alice.send("Carol", 1)
        assert alice.report().rounds == 2
        for _ in range(2):
            await carol.recv("Alice")


async def test_what_a_task_of_a_new_task_has_received_is_behind_what_that_one_sends_first() -> None:
    """Also where nothing was told yet of the end of the task."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        await alice.send("Bob", 0)
        assert await bob.recv("Alice") == 0
        await bob.send("Alice", 1)

        async def forward() -> None:
            inner = asyncio.ensure_future(alice.recv("Bob"))
            while not inner.done():  # noqa: ASYNC110 - at the first step after its end
                await asyncio.sleep(0)
            await alice.send("Bob", inner.result())

        await asyncio.create_task(forward())
        assert await bob.recv("Alice") == 1
        assert alice.report().rounds == bob.report().rounds == 3


@pytest.mark.parametrize("gathers", [True, False])
async def test_what_asyncio_collects_in_a_task_counts_for_that_one(gathers: bool) -> None:
    """Also where that is the first that the task does with the pool. So it does not add up with what others do meanwhile."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        await bob.send("Alice", 0)
        go_on = asyncio.Event()

        async def first() -> None:
            future = alice.arecv("Bob")
            await (asyncio.gather(future) if gathers else future)
            go_on.set()
            await alice.recv("Bob")

        with alice.phase("both"):
            one = asyncio.create_task(first())
            await go_on.wait()
            await asyncio.create_task(alice.send("Bob", 1))
            assert alice.report().rounds == 1
            await bob.send("Alice", 2)
            await one
            await alice.send("Bob", 3)
            assert alice.report().rounds == 2
        assert [await bob.recv("Alice"), await bob.recv("Alice")] == [1, 3]


@pytest.mark.parametrize("enters", [True, False])
async def test_a_task_goes_on_from_where_its_maker_is_when_it_first_enters_a_phase_or_sends(enters: bool) -> None:
    """So one that begins with a phase does not add up with another that ends before it sends."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        first_is_over = asyncio.Event()

        async def first() -> None:
            await ping(alice, "Bob", "first", 3)

        async def second() -> None:
            with alice.phase("second") if enters else contextlib.nullcontext():
                await first_is_over.wait()
                await ping(alice, "Bob", "second", 3)

        async def answer(channel: str) -> None:
            with bob.phase(channel) if enters else contextlib.nullcontext():
                await pong(bob, "Alice", channel, 3)

        async def both() -> None:
            with alice.phase("both"):
                tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
                await tasks[0]
                first_is_over.set()
                await tasks[1]

        async def answers() -> None:
            with bob.phase("both"):
                await asyncio.gather(answer("first"), answer("second"))

        await asyncio.gather(both(), answers())
        assert bob.report()["both"].rounds == (6 if enters else 12)


async def test_tasks_whose_messages_are_here_do_not_add_up_where_all_begin_first() -> None:
    """As the guide says: else one may end before the next has taken its first step, and nothing tells that this was made before."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        names = [f"task {number}" for number in range(3)]

        async def side(name: str) -> None:
            with alice.phase(name):
                await asyncio.sleep(0)
                alice.asend("Bob", name, name)
                assert await alice.recv("Bob", name) == name

        with alice.phase("both"), bob.phase("both"):
            for name in names:
                await bob.send("Alice", name, name)
            for task in [asyncio.ensure_future(side(name)) for name in names]:
                await task
            assert [await bob.recv("Alice", name) for name in names] == names
        assert alice.report()["both"].rounds == bob.report()["both"].rounds == 1


async def test_tasks_that_have_ended_are_let_go() -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        with alice.phase("many"):
            for number in range(5):
                await bob.send("Alice", number)
                await asyncio.create_task(alice.recv("Bob"))
        await asyncio.sleep(0)
        assert not alice._engine.count()._depths.scope().made


@pytest.mark.parametrize("settings", [COUNTED, quick()], ids=["from the beginning", "in a phase"])
async def test_a_task_does_not_keep_the_pools_that_it_has_used(settings: Settings) -> None:
    used = []
    for _ in range(3):
        network = MemoryNetwork()
        async with Pool(name="a", network=network, settings=settings) as a, Pool(name="b", network=network) as b:
            network.connect(a, b)
            with a.phase("p"):
                await a.send("b", 1)
                await b.recv("a")
                await b.send("a", 2)
                await a.recv("b")
            used.append(weakref.ref(a._engine))
    del a, b, network
    gc.collect()
    assert [engine() is None for engine in used] == [True, True, True]


async def test_a_pool_that_has_ended_does_not_keep_tasks_that_go_on() -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        await bob.send("Alice", 1)
        over = asyncio.Event()

        async def work() -> None:
            await alice.recv("Bob")
            await over.wait()

        task = weakref.ref(asyncio.create_task(work()))
        await until(lambda: alice.report()[""].messages_received == 1)
    over.set()
    await until(lambda: gc.collect() >= 0 and task() is None)
    assert alice.report().rounds == 1


def test_threads_that_have_ended_are_let_go() -> None:
    network = MemoryNetwork()
    with SyncPool(name="a", network=network, settings=COUNTED) as a, SyncPool(name="b", network=network) as b:
        network.connect(a, b)
        for _ in range(50):
            b.send("a", 1)
            thread = threading.Thread(target=lambda: a.send("b", a.recv("b")))
            thread.start()
            thread.join()
            b.recv("a")
        assert len(a._engine.count()._depths._threads) <= 2
        assert a.report().rounds == 1
        with b.phase("counts"):
            b.send("a", 1)
        for call in (lambda: a.recv("b"), a._engine.count()._depths.scope, a._engine.count()._depths.scope):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        a.send("b", 3)
        assert a.report().rounds == 2
        b.recv("a")
