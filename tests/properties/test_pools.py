"""What the simulation of links has not: whole pools, with both faces, threads, callbacks, groups, restarts and ends at once."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mpccomm import (
    AuthenticationError,
    CommunicationTimeoutError,
    MemoryNetwork,
    PartyAbortedError,
    PartyRestartedError,
    Pool,
    SyncPool,
)
from tests.certificates import root
from tests.faults.proxy import Proxy
from tests.pools import LOCAL, quick
from tests.timing import UNIT

LIMIT = 300 * UNIT
COUNT = 30
THREADS = 3
AUTHORITY = root()


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
                with suppress(CommunicationTimeoutError):  # on such a line its last word may be lost
                    assert isinstance(waiting.exception(20 * UNIT), PartyAbortedError)
                bob = begun_again(alice, bob, network)
    ended_at_once(alice, bob)


class Papers:
    """One party's key and certificate, in files that are replaced; the others know it by both of its certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._identities = [AUTHORITY.issue(name, LOCAL) for _ in range(2)]
        self._key, self._certificate = folder / f"{name}.key", folder / f"{name}.pem"
        self.pins = [str(folder / f"{name}-{number}.pem") for number in range(2)]
        for identity, pin in zip(self._identities, self.pins, strict=True):
            Path(pin).write_bytes(identity.pem())
        self.use(0)

    def use(self, number: int) -> None:
        self._key.write_bytes(self._identities[number].key_bytes())
        self._certificate.write_bytes(self._identities[number].pem())

    def forget(self, number: int) -> None:
        """Let the others know it by its other certificate alone."""
        Path(self.pins[number]).write_bytes(self._identities[1 - number].pem())

    def pool(self, name: str) -> SyncPool:
        return SyncPool(self._key, self._certificate, name=name, settings=quick())


@pytest.mark.parametrize("seed", range(int(os.environ.get("MPCCOMM_TEST_SEEDS", "1"))))
async def test_certificates_are_replaced_and_connections_cut_under_threads(seed: int, tmp_path: Path) -> None:
    """Each party changes its certificate again and again, and has the files read anew, while everything goes on."""
    random = Random(seed)
    papers = {name: Papers(tmp_path, name) for name in ("Alice", "Bob")}
    alice, bob = (papers[name].pool(name) for name in papers)
    loop = asyncio.get_running_loop()
    async with Proxy() as proxy:
        fronts = [proxy.front(), proxy.front()]
        for pool, port in zip((alice, bob), fronts, strict=True):
            pool.add_http_server(0, LOCAL, external_port=port)
            proxy.aim(port, pool.port)
        alice.add_http_client("Bob", LOCAL, fronts[1], papers["Bob"].pins)
        bob.add_http_client("Alice", LOCAL, fronts[0], papers["Alice"].pins)
        with ThreadPoolExecutor(THREADS + 2) as threads:
            echoes = [echo(bob, lane) for lane in range(THREADS)]
            talks = [
                loop.run_in_executor(threads, talk, alice, lane, Random(seed * 10 + lane)) for lane in range(THREADS)
            ]
            over = asyncio.gather(*talks, *map(asyncio.wrap_future, echoes))
            replaced = 0
            while not over.done() or replaced < 6:
                pool = random.choice((alice, bob))
                papers[str(pool.name)].use(random.randrange(2))
                pool.reload_certificates()
                replaced += 1
                if random.random() < 0.5:
                    proxy.cut_all()
                await asyncio.sleep(random.random() * UNIT)
            await over
            # What Bob shows now is not accepted any more, once Alice knows him by the other certificate alone.
            papers["Bob"].use(0)
            bob.reload_certificates()
            papers["Bob"].forget(0)
            alice.reload_certificates()
            proxy.cut_all()  # perhaps made when he showed the other one
            with pytest.raises((AuthenticationError, CommunicationTimeoutError)):
                await asyncio.to_thread(alice.send, "Bob", "for the one that was", timeout=5 * UNIT)
            await asyncio.to_thread(ended_at_once, alice, bob)
    assert bob.stats["Alice"].messages_received == THREADS * COUNT
