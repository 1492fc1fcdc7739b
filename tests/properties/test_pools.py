"""What the simulation of links has not: whole pools, with both faces, threads, callbacks, groups, restarts and ends at once."""

import asyncio
import copy
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mpccomm import (
    AuthenticationError,
    CommunicationTimeoutError,
    Limits,
    MemoryNetwork,
    PartyAbortedError,
    PartyRestartedError,
    Pool,
    SyncPool,
)
from tests.certificates import root
from tests.faults.proxy import Proxy
from tests.pools import LOCAL, Log, quick
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


EDGES = (0, 1, 4095, 4096, 4097, 16 * 1024 - 48, 16 * 1024, 16 * 1024 + 1, 20_000)
"""Bytes at which a message takes another way."""
IDS = (None, "x")
MESSAGES = 150


def some_value(random: Random, number: int) -> Any:
    size = random.choice(EDGES)
    return random.choice(
        (number, [number, "text"], bytes([number % 256]) * size, bytearray([number % 256]) * size, {"a": [number] * 3})
    )


class Program:
    """One party of asyncio: it sends in bursts, of which it gives up some, and asks for what comes in all ways that there are."""

    def __init__(self, pool: Pool, other: str, random: Random) -> None:
        self.pool, self.other, self.random = pool, other, random
        self.sent: dict[str | None, list[Any]] = {msg_id: [] for msg_id in IDS}
        self.got: dict[str | None, list[Any]] = {msg_id: [] for msg_id in IDS}

    async def send(self) -> None:
        random, tasks = self.random, list[asyncio.Task[None]]()
        number = 0
        while number < MESSAGES:
            burst = []
            for _ in range(random.choice((1, 1, 3, 20))):
                number += 1
                msg_id = random.choice(IDS)
                value = some_value(random, number)
                if random.random() < 0.3:
                    self.sent[msg_id].append(value if isinstance(value, int) else copy.copy(value))
                    self.pool.asend(self.other, value, msg_id)
                    _change(value)
                else:
                    burst.append(asyncio.ensure_future(self._send(value, msg_id)))
            for _ in range(random.choice((0, 1, 2, 5))):
                await asyncio.sleep(0)
            for task in burst:
                if random.random() < 0.2:
                    task.cancel()
            tasks += burst
            self._watch()
            if random.random() < 0.5:
                await asyncio.gather(*burst, return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() or task.exception() is None for task in tasks)

    async def _send(self, value: Any, msg_id: str | None) -> None:
        self.sent[msg_id].append(copy.copy(value))
        timeout = self.random.choice((None, None, None, 0.0001, UNIT))
        try:
            with suppress(CommunicationTimeoutError):
                await self.pool.send(self.other, value, msg_id, timeout)
        finally:
            _change(value)

    def _watch(self) -> None:
        """Begin to watch the pool, or end it."""
        random = self.random
        if random.random() < 0.1:
            with self.pool.phase("some"):
                self.pool.report()
        if random.random() < 0.1:
            self.pool.trace().stop()

    async def receive(self, msg_id: str | None, expected: Callable[[], bool]) -> None:
        """Receive until all that was sent is here."""
        while not expected():
            with suppress(CommunicationTimeoutError, TimeoutError):
                self.got[msg_id] += await self._some(msg_id)

    async def _some(self, msg_id: str | None) -> list[Any]:
        pool, other, random = self.pool, self.other, self.random
        match random.randrange(7):
            case 0:
                return [await pool.recv(other, msg_id, timeout=random.choice((0, 0.001, UNIT)))]
            case 1:
                return [await asyncio.wait_for(pool.recv(other, msg_id), random.choice((0.0001, UNIT)))]
            case 2:
                return [value for _, value in await pool.recv_all([other], msg_id, timeout=UNIT)]
            case 3:
                return [value async for _, value in pool.as_received([other], msg_id, timeout=UNIT)]
            case 4:
                return [(await pool.recv_any([other], msg_id, timeout=UNIT))[1]]
            case 5:
                return [await asyncio.wait_for(pool.arecv(other, msg_id), UNIT)]
        futures = [pool.arecv(other, msg_id) for _ in range(random.randrange(1, 4))]
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        while futures and random.random() < 0.7:
            forgotten = futures.pop()
            if random.random() < 0.5:
                forgotten.cancel()
            del forgotten
        got = list[Any]()
        try:
            for future in futures:
                got.append(await asyncio.wait_for(future, UNIT))
        except TimeoutError:
            # Those behind it leave their messages too, as these come after its own.
            for future in futures:
                future.cancel()
        return got


def _change(value: Any) -> None:
    """The program goes on with what it has sent."""
    if isinstance(value, bytearray):
        value[:] = b"!" * len(value)


def take_some(pool: SyncPool, random: Random, got: Callable[[int], None]) -> None:
    """Take messages in one of the ways of threads: looked at, called back, given up in time or too late, forgotten."""
    way = random.randrange(5)
    if way == 0:
        got(pool.recv("Alice", timeout=random.choice((0, UNIT / 50))))
    elif way == 1:
        handle = pool.arecv("Alice")
        with suppress(TimeoutError):
            handle.exception(UNIT / 50)
        if not handle.cancel():
            got(handle.result())
    elif way == 2:
        handles = [pool.arecv("Alice") for _ in range(random.randrange(1, 8))]
        wait(handles, UNIT / 50)
        for handle in handles:
            if not handle.cancel():
                got(handle.result())
    elif way == 3:
        # The callback and the one that gives up are in different threads.
        handle = pool.arecv("Alice")
        handle.add_done_callback(lambda done: None if done.cancelled() else got(done.result()))
        time.sleep(UNIT / 50)
        handle.cancel()
    else:
        forgotten = [pool.arecv("Alice") for _ in range(random.randrange(1, 4))]
        wait(forgotten, random.choice((0, UNIT / 50)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("both_loops")
def test_handles_that_are_given_up_by_threads(seed: int) -> None:
    """Each message is in the hands of the program exactly once."""
    random = Random(seed)
    network = MemoryNetwork()
    received: list[int] = []
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        deadline = time.monotonic() + LIMIT

        def takes(own: Random) -> None:
            while len(received) < 10 * COUNT and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    take_some(bob, own, received.append)

        with ThreadPoolExecutor(THREADS) as threads:
            takers = [threads.submit(takes, Random(random.random())) for _ in range(THREADS)]
            for number in range(10 * COUNT):
                alice.send("Bob", number)
            for taker in takers:
                taker.result()
    assert sorted(received) == list(range(10 * COUNT))


@pytest.mark.parametrize("seed", range(int(os.environ.get("MPCCOMM_TEST_SEEDS", "6"))))
async def test_programs_of_asyncio(seed: int, loop_factory: object, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever they give up, forget, change and watch, all arrives once, in order, and no connection is lost by it."""
    random = Random(seed)
    cut_every = random.choice((None, None, 20_000, 200_000))
    network = MemoryNetwork(seed, cut_every=cut_every)
    limits = Limits(
        frame_size=random.choice((1000, 16 * 1024, 256 * 1024)),
        box_messages=random.choice((3, 700, 100_000)),
        window=random.choice((1000, 16 * 1024, 2**26)),
    )
    settings = replace(quick(limits), timing=replace(quick().timing, deadlock_after=None))
    log = Log(caplog)
    alice, bob = (Pool(name=name, network=network, settings=settings) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    async with alice, bob:
        one, other = Program(alice, "Bob", random), Program(bob, "Alice", random)
        sending = [asyncio.ensure_future(program.send()) for program in (one, other)]

        def all_here(receiver: Program, sender: Program, msg_id: str | None) -> bool:
            over = all(task.done() for task in sending)
            return over and len(receiver.got[msg_id]) >= len(sender.sent[msg_id])

        receiving = [
            mine.receive(msg_id, partial(all_here, mine, theirs, msg_id))
            for mine, theirs in ((one, other), (other, one))
            for msg_id in IDS
        ]
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*sending, *receiving)
        for mine, theirs in ((one, other), (other, one)):
            for msg_id in IDS:
                pairs = zip(mine.got[msg_id], theirs.sent[msg_id], strict=False)
                wrong = next((place for place, (got, sent) in enumerate(pairs) if got != sent), None)
                assert wrong is None, f"{msg_id}: number {wrong} is another one"
                assert len(mine.got[msg_id]) == len(theirs.sent[msg_id])
    assert not log.lines("", logging.ERROR)
    if not cut_every:
        assert not log.lines("connected again")


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


def test_to_look_on_is_no_error_whatever_arrives() -> None:
    """Calls that look at a pool from threads of the program, while messages of many frames come and go."""
    settings = replace(quick(), limits=Limits(frame_size=1024))
    network, count = MemoryNetwork(), 400
    interval = sys.getswitchinterval()
    with (
        SyncPool(name="Alice", network=network, settings=settings) as alice,
        SyncPool(name="Bob", network=network, settings=settings) as bob,
        ThreadPoolExecutor(4) as threads,
    ):
        network.connect(alice, bob)
        alice.wait_ready(LIMIT)
        over = threading.Event()

        def missing() -> None:
            with suppress(CommunicationTimeoutError):
                alice.recv("Bob", "never", timeout=0)

        def missing_any() -> None:
            with suppress(CommunicationTimeoutError):
                alice.recv_any(["Bob"], "never", timeout=0)

        looks: list[Callable[[], object]] = [
            missing,
            missing_any,
            alice.explain,
            lambda: repr(alice),
            lambda: alice._repr_html_(),
            lambda: str(alice.stats),
            lambda: alice.report().to_dict(),
        ]

        def look_on(own: Random) -> None:
            while not over.is_set():
                own.choice(looks)()

        sys.setswitchinterval(1e-6)
        try:
            watching = [threads.submit(look_on, Random(number)) for number in range(3)]
            for start in range(0, count, 20):
                sent = [bob.asend("Alice", bytes(5000)) for _ in range(20)]
                assert all(len(alice.recv("Bob", timeout=LIMIT)) == 5000 for _ in range(20)), start
                wait(sent)
        finally:
            over.set()
            sys.setswitchinterval(interval)
        for one in watching:
            one.result(LIMIT)
