"""What the simulation of links has not: whole pools, with both faces, threads, callbacks, groups, restarts and ends at once."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import pytest

from mpccomm import CommunicationTimeoutError, MemoryNetwork, PartyAbortedError, PartyRestartedError, Pool, SyncPool
from tests.pools import LOCAL, quick
from tests.timing import UNIT

LIMIT = 300 * UNIT
COUNT = 30
THREADS = 3


def echo(bob: SyncPool, lane: int) -> "Future[None]":
    """Bob sends back all that comes in a lane, out of callbacks; done with the last."""
    over: Future[None] = Future()

    def next_one() -> None:
        bob.arecv("Alice", f"to {lane}").add_done_callback(answer)

    def answer(handle: "Future[Any]") -> None:
        value = handle.result()
        bob.asend("Alice", value, f"from {lane}")
        if value == COUNT - 1:
            over.set_result(None)
        else:
            next_one()

    next_one()
    return over


def talk(alice: SyncPool, lane: int, random: Random) -> None:
    """One thread of Alice: all comes back once, in order, whatever way it is sent and asked for."""
    ways: list[Callable[[int], object]] = [
        lambda number: alice.send("Bob", number, f"to {lane}", timeout=LIMIT),
        lambda number: alice.asend("Bob", number, f"to {lane}"),
        lambda number: alice.broadcast(number, f"to {lane}", timeout=LIMIT),
    ]
    got: list[int] = []
    for number in range(COUNT):
        random.choice(ways)(number)
        if random.random() < 0.3:
            alice.arecv("Bob", f"from {lane}").cancel()
    while len(got) < COUNT:
        if random.random() < 0.5:
            got.append(alice.recv("Bob", f"from {lane}", timeout=LIMIT))
        else:
            got.append(alice.arecv("Bob", f"from {lane}").result(LIMIT))
    assert got == list(range(COUNT))


async def talk_natively(alice: Pool, lane: int, random: Random) -> None:
    """The same through the other face of that pool, on an event loop of this thread's own; receives are cancelled as well."""
    for number in range(COUNT):
        if random.random() < 0.5:
            await alice.send("Bob", number, f"to {lane}", timeout=LIMIT)
        else:
            alice.asend("Bob", number, f"to {lane}")
    got: list[int] = []
    while len(got) < COUNT:
        handle = alice.arecv("Bob", f"from {lane}")
        if random.random() < 0.3:
            await asyncio.sleep(0)
            if handle.cancel():
                continue
        got.append(await asyncio.wait_for(handle, LIMIT))
    assert got == list(range(COUNT))


def ended_at_once(*pools: SyncPool) -> None:
    """Each is shut down by two threads at the same time."""
    threads = [threading.Thread(target=pool.shutdown) for pool in pools for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def begun_again(alice: SyncPool, old: SyncPool, network: MemoryNetwork) -> SyncPool:
    """Bob's next process, which Alice accepts."""
    bob = SyncPool(name="Bob", network=network, settings=quick())
    bob.add_http_server(old.port, LOCAL)
    bob.add_http_client("Alice", LOCAL, alice.port)
    bob.asend("Alice", "here again", "hello")
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            assert alice.recv("Bob", "hello", timeout=UNIT) == "here again"
            return bob
        except PartyRestartedError:
            alice.accept_restart("Bob")
        except (PartyAbortedError, CommunicationTimeoutError):
            time.sleep(UNIT / 10)
    raise AssertionError("it was never accepted")


@pytest.mark.parametrize("seed", range(int(os.environ.get("MPCCOMM_TEST_SEEDS", "4"))))
def test_threads_callbacks_groups_and_a_restart(seed: int) -> None:
    random = Random(seed)
    network = MemoryNetwork(seed, loss=0.2, cut_every=random.choice((2_000, 8_000)), delay=(0, UNIT / 100), repeat=0.3)
    alice, bob = (SyncPool(name=name, network=network, settings=quick()) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    with ThreadPoolExecutor(THREADS + 1) as threads:
        for run in range(2):
            echoes = [echo(bob, lane) for lane in range(THREADS)]
            talks = [threads.submit(talk, alice, lane, Random(seed * 10 + lane)) for lane in range(THREADS - 1)]
            native = partial(talk_natively, alice.pool, THREADS - 1, Random(seed * 10 + 9))
            talks.append(threads.submit(lambda call: asyncio.run(call()), native))
            mine, theirs = alice.group(), bob.group()
            for number in range(5):
                other = threads.submit(theirs.allgather, -number, LIMIT)
                assert mine.allgather(number, LIMIT) == {"Alice": number, "Bob": -number} == other.result(LIMIT)
            for one in (*talks, *echoes):
                one.result(LIMIT)
            if not run:
                # Bob's process dies, and another one begins.
                waiting = alice.arecv("Bob", "never sent")
                bob.abort("killed")
                assert isinstance(waiting.exception(LIMIT), PartyAbortedError)
                bob = begun_again(alice, bob, network)
    ended_at_once(alice, bob)
