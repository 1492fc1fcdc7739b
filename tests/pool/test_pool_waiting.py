"""Nothing hangs without saying why: what is logged of those who wait, full boxes, and deadlocks."""

import asyncio
import logging
import mmap
from pathlib import Path

import pytest

from mpccomm import (
    CommunicationTimeoutError,
    DeadlockError,
    Limits,
    MemoryNetwork,
    NotReadyError,
    Pool,
    Settings,
    SyncPool,
)
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import LONG, UNIT

KB = 1000
STATM = Path("/proc/self/statm")


def small_box(size: int = 1000 * KB) -> Settings:
    return quick(Limits(box_bytes=size, window=100 * KB))


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_a_receive_that_waits_says_so(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        for number in range(10):
            await alice.send("Bob", number, f"other {number}")
        waiting = asyncio.ensure_future(bob.recv("Alice", "asked for"))
        line = await log.seen("receive of", logging.WARNING)
        assert line.startswith(
            f"receive of 'asked for' from Alice ({LOCAL}:{alice.port}) has waited for 0 s; connected; "
        )
        listed = ", ".join(f"'other {number}'" for number in range(8))
        assert line.endswith(f"here from it are {listed} and 2 more")
        # Rarely: after two units, then after four more at the earliest.
        await asyncio.sleep(5 * UNIT)
        assert 1 <= len(log.lines("receive of", logging.WARNING)) <= 4
        await alice.send("Bob", "there", "asked for")
        assert await waiting == "there"


async def test_an_automatic_receive_that_waits_says_its_number(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = asyncio.ensure_future(bob.recv("Alice"))
        line = await log.seen("receive of #0 from Alice", logging.WARNING)
        assert line.endswith("connected; no other message from it is here")
        await alice.send("Bob", 1)
        await waiting


# -- full boxes --------------------------------------------------------------------------------------------------------


async def test_what_nobody_receives_stays_bounded(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob", settings=small_box()) as (alice, bob):
        handles = [alice.asend("Bob", bytes(50 * KB), f"id {number}") for number in range(200)]
        await until(lambda: sum(handle.done() for handle in handles) >= 19)
        box = bob._engine.party("Alice").link.mailbox
        line = await log.seen("its box is full", logging.WARNING)
        assert line.startswith(f"Bob ({LOCAL}:{bob.port}): its box is full; ")
        assert "messages" in line
        assert "'id 19'" in line
        assert box.unread_bytes <= 1000 * KB
        assert sum(handle.done() for handle in handles) <= 20
        for number in range(200):
            assert len(await bob.recv("Alice", f"id {number}")) == 50 * KB
            assert box.unread_bytes <= 1000 * KB
        await asyncio.gather(*handles)


@LONG
@pytest.mark.skipif(not STATM.exists(), reason="this system does not say how much memory a process has")
@pytest.mark.timeout(300)
async def test_two_hundred_messages_of_ten_megabytes() -> None:
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE

    async with pools("Alice", "Bob", settings=Settings()) as (alice, bob):
        message = bytes(10 * 1000 * KB)  # one object, sent 200 times: the sender needs no memory for it
        before = resident()
        handles = [alice.asend("Bob", message, str(number)) for number in range(200)]
        # A box of 1 GiB holds 107 of them; what is under way besides is already on its way into it.
        await until(lambda: sum(handle.done() for handle in handles) == 107, 200)
        await asyncio.sleep(10 * UNIT)
        assert sum(handle.done() for handle in handles) == 107
        grown = resident() - before
        print(f"{grown / 2**30:.2f} GiB for a box of one")  # noqa: T201
        assert 0.8 * 2**30 < grown < 1.2 * 2**30
        for number in range(200):
            assert len(await bob.recv("Alice", str(number))) == len(message)
        await asyncio.gather(*handles)
        assert resident() - before < 0.3 * 2**30


async def test_many_small_messages_stay_bounded() -> None:
    settings = quick(Limits(box_messages=100))
    async with pools("Alice", "Bob", settings=settings) as (alice, bob):
        handles = [alice.asend("Bob", number) for number in range(1000)]
        await until(lambda: sum(handle.done() for handle in handles) == 100)
        await asyncio.sleep(UNIT)
        assert bob._engine.party("Alice").link.mailbox.unread_messages == 100
        assert [await bob.recv("Alice") for _ in range(1000)] == list(range(1000))
        await asyncio.gather(*handles)


async def test_a_message_larger_than_the_box_gets_through_an_empty_one() -> None:
    async with pools("Alice", "Bob", settings=small_box(100 * KB)) as (alice, bob):
        small = alice.asend("Bob", bytes(50 * KB))
        large = alice.asend("Bob", bytes(5000 * KB))
        await small
        await asyncio.sleep(UNIT)
        assert not large.done()
        assert len(await bob.recv("Alice")) == 50 * KB
        await large
        assert len(await bob.recv("Alice")) == 5000 * KB


async def test_a_full_box_of_one_party_is_no_matter_to_the_others() -> None:
    async with pools("Alice", "Bob", "Carol", settings=small_box()) as (alice, bob, carol):
        handles = [alice.asend("Carol", bytes(100 * KB)) for _ in range(30)]
        await until(lambda: alice._engine.party("Carol").link.sender.held_back)
        await alice.send("Bob", 1)
        await bob.send("Carol", 2)
        assert await bob.recv("Alice") == 1
        assert await carol.recv("Bob") == 2
        for _ in range(30):
            await carol.recv("Alice")
        await asyncio.gather(*handles)


async def test_a_send_with_a_time_limit_into_a_full_box() -> None:
    async with pools("Alice", "Bob", settings=small_box()) as (alice, bob):
        filling = [alice.asend("Bob", bytes(100 * KB)) for _ in range(9)]
        await asyncio.gather(*filling)
        with pytest.raises(TimeoutError, match="may still arrive"):
            await alice.send("Bob", bytes(200 * KB), timeout=UNIT)
        for _ in range(9):
            await bob.recv("Alice")
        assert len(await bob.recv("Alice")) == 200 * KB


# -- deadlocks ---------------------------------------------------------------------------------------------------------


async def test_a_receive_for_something_behind_a_full_box(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob", settings=small_box()) as (alice, bob):

        async def send_all() -> None:
            for number in range(30):
                await alice.send("Bob", bytes(100 * KB), f"unasked {number}")
            await alice.send("Bob", "the one", "wanted")

        sending = asyncio.ensure_future(send_all())
        with pytest.raises(DeadlockError) as caught:
            await bob.recv("Alice", "wanted")
        for part in (
            f"receiving 'wanted' from Alice ({LOCAL}:{alice.port})",
            "full box",
            "'unasked 0'",
            "Receive those first",
        ):
            assert part in str(caught.value)
        with pytest.raises(DeadlockError) as caught:
            await sending
        for part in (f"to Bob ({LOCAL}:{bob.port})", "does not receive", "may still arrive"):
            assert part in str(caught.value)
        assert log.lines("deadlock", logging.WARNING)
        # Nothing is broken: the box can be emptied, and the message that was given up for arrives.
        for number in range(10):
            assert len(await bob.recv("Alice", f"unasked {number}")) == 100 * KB
        await alice.send("Bob", "the one", "wanted")
        assert await bob.recv("Alice", "wanted") == "the one"


async def test_two_sides_that_hold_each_other_back() -> None:
    async with pools("Alice", "Bob", settings=small_box()) as (alice, bob):

        async def send_all(pool: object, to: str) -> None:
            for _ in range(30):
                await pool.send(to, bytes(100 * KB))  # type: ignore[attr-defined]

        results = await asyncio.gather(send_all(alice, "Bob"), send_all(bob, "Alice"), return_exceptions=True)
        for result, other in zip(results, ("Bob", "Alice"), strict=True):
            assert isinstance(result, DeadlockError)
            assert f"to {other} (" in str(result)
            assert "both boxes are full" in str(result)
        # Whoever receives now gets everything that was sent, also what was given up for.
        for _ in range(10):
            assert len(await bob.recv("Alice")) == len(await alice.recv("Bob")) == 100 * KB


async def test_a_slow_receiver_is_no_deadlock() -> None:
    async with pools("Alice", "Bob", settings=small_box()) as (alice, bob):

        async def send_all() -> None:
            for _ in range(30):
                await alice.send("Bob", bytes(100 * KB))

        sending = asyncio.ensure_future(send_all())
        await until(lambda: alice._engine.party("Bob").link.sender.held_back)
        await asyncio.sleep(10 * UNIT)  # three times as long as makes a deadlock
        assert not sending.done()
        for _ in range(30):
            await bob.recv("Alice")
        await sending


@pytest.mark.parametrize("blocking", [False, True], ids=["Pool", "SyncPool"])
async def test_wait_ready_says_whom_it_waits_for(blocking: bool, caplog: pytest.LogCaptureFixture) -> None:
    pool = SyncPool(settings=quick()) if blocking else Pool(settings=quick())
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, 1)
    try:
        with pytest.raises(NotReadyError):
            if isinstance(pool, SyncPool):
                await asyncio.to_thread(pool.wait_ready, 20 * UNIT)
            else:
                await pool.wait_ready(20 * UNIT)
        assert Log(caplog).lines(f"waiting for Bob ({LOCAL}:1), which may start later: connection refused (wait_ready)")
    finally:
        if isinstance(pool, SyncPool):
            pool.shutdown(0)
        else:
            await pool.shutdown(0)


async def test_a_message_that_is_on_its_way_is_named_and_how_much_of_it_is_here() -> None:
    network = MemoryNetwork(rate=20 * 2**20)
    async with Pool(name="Alice", network=network) as alice, Pool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        handle = bob.asend("Alice", bytes(8 * 2**20))
        party = alice._engine.party("Bob")
        await until(lambda: any(message.written > 2**20 for message in party.link.receiver.partial))
        with pytest.raises(CommunicationTimeoutError, match=r"on the way from it: #0 \(\d+ % of 8.0 MiB\)") as caught:
            await alice.recv("Bob", timeout=UNIT / 100)
        assert "no other message" not in str(caught.value)
        assert len(await alice.recv("Bob", timeout=100 * UNIT)) == 8 * 2**20
        await handle
