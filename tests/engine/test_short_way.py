"""The short way of a message: how many calls it takes, and a blocking receive of what is here already."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mpccomm
from mpccomm import CommunicationTimeoutError, Limits, Pool, Settings, SyncPool
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.loop_owner import LoopOwner
from tests.pools import LOCAL, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

LIMIT = 100 * UNIT
HOUSE = str(Path(mpccomm.__file__).parent)


async def test_calls_of_a_round_trip() -> None:
    count = 100
    async with pools("Alice", "Bob") as (alice, bob):

        async def ping(number: int) -> None:
            async def echo() -> None:
                for _ in range(number):
                    await bob.send("Alice", await bob.recv("Alice"))

            task = asyncio.ensure_future(echo())
            for _ in range(number):
                await alice.send("Bob", bytes(100))
                await alice.recv("Bob")
            await task

        await ping(10)
        calls = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            await ping(count)
        finally:
            sys.setprofile(before)
        # On asyncio's own loop the handles and the transport are Python too.
        assert calls / count <= 135


@pytest.mark.parametrize(("watched", "most"), [("trace", 1.1), ("count", 1.55)])
async def test_steps_that_being_watched_adds_to_a_round_trip(watched: str, most: float) -> None:
    async with pools("Alice", "Bob", settings=Settings()) as (alice, bob):

        async def trips(number: int) -> None:
            async def echo() -> None:
                for _ in range(number):
                    await bob.send("Alice", await bob.recv("Alice"))

            task = asyncio.ensure_future(echo())
            for _ in range(number):
                await alice.send("Bob", b"")
                await alice.recv("Bob")
            await task

        async def steps() -> float:
            await trips(10)
            found = 0

            def trace(frame: FrameType, event: str, argument: object) -> Any:
                nonlocal found
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
                found += event == "opcode"
                return trace if frame.f_code.co_filename.startswith(HOUSE) else None

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                await trips(50)
            finally:
                sys.settrace(before)
            return found / 50

        async def fewest() -> float:
            # The clock of a pool takes steps too: the more often, the slower the machine.
            return min([await steps() for _ in range(3)])

        alone = await fewest()
        for pool in (alice, bob):
            pool.trace() if watched == "trace" else engine_of(pool).count()
        assert await fewest() <= most * alone


class Wakes:
    """How often the loop of a pool was woken."""

    def __init__(self, pool: SyncPool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        owner = pool.pool._engine.loop_owner
        original = LoopOwner.post_soon

        def post_soon(self_: LoopOwner, function: Callable[[], None]) -> None:
            if self_ is owner and threading.get_ident() != owner.thread:
                self.number += 1
            original(self_, function)

        monkeypatch.setattr(LoopOwner, "post_soon", post_soon)


def test_what_is_here_is_received_without_waking_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with duo() as (alice, bob):
        for number in range(50):
            alice.send("Bob", number)
            alice.send("Bob", number, "id")
            alice.send("Bob", number, f"id {number}")
        wakes = Wakes(bob, monkeypatch)
        for number in range(50):
            assert bob.recv("Alice") == number
            assert bob.recv("Alice", f"id {number}") == number
        assert wakes.number <= 3
        # Of several with one id the loop keeps the queue.
        assert [bob.recv("Alice", "id") for _ in range(50)] == list(range(50))
        assert not bob.pool_handlers["Alice"].buffer


def test_a_look_that_finds_nothing_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with duo() as (alice, bob):
        alice.send("Bob", "first")
        assert bob.recv("Alice") == "first"
        wakes = Wakes(bob, monkeypatch)
        for msg_id in (None, "id"):
            with pytest.raises(CommunicationTimeoutError, match=r"receiving ('id'|#1) from Alice"):
                bob.recv("Alice", msg_id, timeout=0)
        assert wakes.number == 0
        alice.send("Bob", "second")
        assert bob.recv("Alice", timeout=0) == "second", "no number is lost"


def test_a_look_finds_what_is_there_several_times() -> None:
    with duo() as (alice, bob):
        for number in range(3):
            alice.send("Bob", number, "id")
        assert [bob.recv("Alice", "id", 0) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(CommunicationTimeoutError):
            bob.recv("Alice", "id", 0)


def test_what_was_taken_makes_room_at_the_sender() -> None:
    settings = quick(Limits(box_messages=20))
    with SyncPool(name="Alice", settings=settings) as alice, SyncPool(name="Bob", settings=settings) as bob:
        for pool in (alice, bob):
            pool.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        handles = [alice.asend("Bob", number) for number in range(200)]
        assert [bob.recv("Alice", timeout=LIMIT) for _ in range(200)] == list(range(200))
        for handle in handles:
            handle.result(LIMIT)


def test_a_cancelled_handle_comes_first() -> None:
    with duo() as (alice, bob):
        alice.send("Bob", "warm")
        assert bob.recv("Alice") == "warm"
        handle = bob.arecv("Alice")
        handle.cancel()
        alice.send("Bob", 1)
        alice.send("Bob", 2)
        assert [bob.recv("Alice"), bob.recv("Alice")] == [1, 2]
        first = bob.arecv("Alice")
        alice.send("Bob", 3)
        alice.send("Bob", 4)
        assert bob.recv("Alice") == 4, "the handle asked first"
        assert first.result(LIMIT) == 3


@pytest.mark.parametrize("msg_id", [None, "id"])
def test_many_threads_take_each_message_once(msg_id: str | None) -> None:
    count, threads = 2000, 4
    with duo() as (alice, bob):
        received: list[Any] = []

        def take() -> None:
            for _ in range(count // threads):
                received.append(bob.recv("Alice", msg_id, LIMIT))

        takers = [threading.Thread(target=take) for _ in range(threads)]
        for number in range(count):
            alice.asend("Bob", number, msg_id)
            if number == count // 4:
                for taker in takers:
                    taker.start()
        for taker in takers:
            taker.join()
        assert sorted(received) == list(range(count))
        with pytest.raises(CommunicationTimeoutError):
            bob.recv("Alice", msg_id, timeout=0)


async def test_both_faces_at_once_take_each_message_once() -> None:
    count = 600
    async with pools("Alice") as (alice,):
        with SyncPool(name="Bob", settings=quick()) as bob:
            bob.add_http_server(0, LOCAL)
            assert bob.port is not None
            bob.add_http_client("Alice", LOCAL, alice.port)
            alice.add_http_client("Bob", LOCAL, bob.port)
            received: list[int] = []

            def take() -> None:
                for _ in range(count // 3):
                    received.append(bob.recv("Alice", timeout=LIMIT))

            async def ask() -> None:
                for _ in range(count // 3):
                    received.append(await bob.pool.recv("Alice", timeout=LIMIT))

            async def poll() -> None:
                taken = 0
                while taken < count // 3:
                    try:
                        received.append(await bob.pool.recv("Alice", timeout=0))
                        taken += 1
                    except CommunicationTimeoutError:
                        await asyncio.sleep(0)

            taking = [asyncio.to_thread(take), ask(), poll()]
            sending = [alice.asend("Bob", number) for number in range(count)]
            await asyncio.gather(*taking, *sending)
            assert sorted(received) == list(range(count))
            await asyncio.to_thread(bob.shutdown)


async def test_a_pool_that_ended_refuses() -> None:
    pool = Pool(settings=quick())
    pool.add_http_client("Bob", LOCAL, 1)
    handle = pool.arecv("Bob")
    await pool.shutdown(0)
    await until(handle.done)
    assert handle.exception() is not None
