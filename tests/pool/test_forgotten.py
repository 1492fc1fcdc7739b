"""A future that the program has forgotten takes no message; one that anything waits for is not forgotten."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from mpccomm import Pool
from tests.pools import LOCAL, pools, quick
from tests.timing import UNIT

LIMIT = 100 * UNIT


@pytest.mark.parametrize("msg_id", [None, "named"])
@pytest.mark.parametrize("arrives_first", [True, False])
async def test_it_is_there_for_the_next_receive(msg_id: str | None, arrives_first: bool) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        future = alice.arecv("Bob", msg_id)
        await asyncio.sleep(0)
        if arrives_first:
            del future
            gc.collect()
            await bob.send("Alice", 1, msg_id)
        else:
            sending = asyncio.ensure_future(bob.send("Alice", 1, msg_id))
            del future
            gc.collect()
            await sending
        assert await alice.recv("Bob", msg_id, timeout=LIMIT) == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: asyncio.gather(future),
        lambda future: asyncio.shield(future),
        lambda future: asyncio.wait_for(future, LIMIT),
        lambda future: asyncio.wait((future,)),
    ],
    ids=["gather", "shield", "wait_for", "wait"],
)
async def test_what_a_task_waits_for_is_kept_by_that(wait: Callable[[object], object]) -> None:
    """Also where the program has the task alone, or not even that."""
    async with pools("Alice", "Bob") as (alice, bob):
        done = asyncio.Event()

        async def waits() -> None:
            await wait(alice.arecv("Bob"))  # type: ignore[misc]
            done.set()

        async def plainly() -> None:
            assert await alice.arecv("Bob", "plain") == 2
            done.set()

        for make, sent in ((waits, (1, None)), (plainly, (2, "plain"))):
            done.clear()
            task = asyncio.ensure_future(make())
            await asyncio.sleep(0)
            del task
            gc.collect()
            await bob.send("Alice", *sent)
            await asyncio.wait_for(done.wait(), LIMIT)


async def test_one_of_another_loop_than_the_pool_is_on() -> None:
    async with pools("Bob") as (bob,):
        alice = Pool(name="Alice", settings=quick())
        alice.add_http_server(0, LOCAL)
        assert bob.port is not None
        assert alice.port is not None
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        await alice.wait_ready(LIMIT)

        async def forget() -> None:
            alice.arecv("Bob")
            gc.collect()

        await asyncio.to_thread(lambda: asyncio.run(forget()))
        await bob.send("Alice", 1)
        assert await alice.recv("Bob", timeout=LIMIT) == 1
        await alice.shutdown()
