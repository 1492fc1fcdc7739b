"""Exactly once and in order, over connections that are cut all the time."""

import asyncio
import logging
import random

import numpy as np
import pytest

from mpccomm import Pool
from tests.faults.network import through_proxy
from tests.faults.proxy import Cut, End
from tests.pools import Log, until
from tests.timing import LONG, UNIT

KiB, MiB = 1024, 1024 * 1024


async def send_many(pool: Pool, to: str, messages: int, size: int, at_once: int) -> None:
    """Send numbered messages, of which a given number is under way at any time."""
    under_way: set[asyncio.Future[None]] = set()
    for number in range(messages):
        if len(under_way) >= at_once:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        # An automatic id for most, one of a few queues for the others.
        msg_id = None if number % 5 else f"queue {number % 3}"
        under_way.add(pool.asend(to, number.to_bytes(4, "big") + bytes(number % size), msg_id))
    await asyncio.gather(*under_way)


async def receive_many(pool: Pool, of: str, messages: int, size: int) -> None:
    """All of those, each as it was sent, in order."""
    for number in range(messages):
        msg_id = None if number % 5 else f"queue {number % 3}"
        message = await pool.recv(of, msg_id)
        assert message == number.to_bytes(4, "big") + bytes(number % size)
    for msg_id in (None, *(f"queue {rest}" for rest in range(3))):
        with pytest.raises(TimeoutError):
            await pool.recv(of, msg_id, timeout=0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [End.RESET, End.FIN])
async def test_messages_in_both_directions(how: End) -> None:
    messages, size = 10_000, 1000  # 5 MB each way
    chance = random.Random(how.name)

    def cut(number: int) -> Cut:
        after = chance.uniform(100 * KiB, 500 * KiB)
        return Cut(up=after, how=how) if chance.random() < 0.5 else Cut(down=after, how=how)

    async with through_proxy(cut) as (alice, bob, proxy):
        await asyncio.gather(
            send_many(alice, "Bob", messages, size, 300),
            send_many(bob, "Alice", messages, size, 300),
            receive_many(alice, "Bob", messages, size),
            receive_many(bob, "Alice", messages, size),
        )
        assert proxy.accepted > 10
        assert alice.stats["Bob"].reconnects > 10
        assert alice.stats["Bob"].messages_received == bob.stats["Alice"].messages_received == messages


async def test_cuts_within_the_greeting() -> None:
    # Every prefix of a greeting, in either direction, before a connection is left alone.
    def cut(number: int) -> Cut:
        if number >= 120:
            return Cut()
        return Cut(up=5 + number * 7) if number % 2 else Cut(down=5 + number * 7)

    async with through_proxy(cut) as (alice, bob, _):
        await asyncio.gather(alice.send("Bob", "there"), bob.send("Alice", "and back"))
        assert (await bob.recv("Alice"), await alice.recv("Bob")) == ("there", "and back")


async def test_acknowledgements_are_cut() -> None:
    # What Alice sends comes through; of the way back only the greeting and a little.
    messages = 400

    def cut(number: int) -> Cut:
        return Cut(down=500 + 13 * number % 100)

    async with through_proxy(cut, both_dial=False) as (alice, bob, proxy):
        sending = asyncio.ensure_future(send_many(alice, "Bob", messages, 1, at_once=3))
        await receive_many(bob, "Alice", messages, 1)
        await sending
        assert bob.stats["Alice"].messages_received == messages
        assert proxy.accepted > 10


async def test_one_by_one_with_a_cut_in_each_acknowledgement() -> None:
    async with through_proxy() as (alice, bob, proxy):
        for number in range(30):
            sending = asyncio.ensure_future(alice.send("Bob", number))
            # Bob has it, and then everything ends before or while Alice hears of it.
            assert await bob.recv("Alice") == number
            proxy.cut_all(End.RESET if number % 2 else End.FIN)
            await sending
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", timeout=0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [64 * MiB, pytest.param(512 * MiB, marks=LONG)])
async def test_a_large_array_with_twenty_cuts(size: int) -> None:
    def cut(number: int) -> Cut:
        # The 21st connection is left alone.
        return Cut(up=size / 21 if number < 20 else float("inf"), how=End.RESET)

    async with through_proxy(cut, both_dial=False) as (alice, bob, proxy):
        array = np.random.default_rng(1).integers(0, 2**62, size // 8)
        receiving = asyncio.ensure_future(bob.recv("Alice"))
        await alice.send("Bob", array)
        assert np.array_equal(await receiving, array)
        assert proxy.accepted == 21
        assert proxy.taken < 1.3 * size
        print(f"{proxy.taken / size:.3f} times the size was sent, {proxy.up / size:.3f} times crossed")  # noqa: T201


async def test_refused_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with through_proxy() as (alice, bob, proxy):
        await asyncio.gather(alice.wait_ready(50 * UNIT), bob.wait_ready(50 * UNIT))
        await proxy.refuse()
        handle = alice.asend("Bob", 1)
        party = alice._engine.party("Bob")
        await until(lambda: party.failed_dials > 2)
        assert not handle.done()
        line = await log.seen("waiting for Bob", logging.WARNING)
        assert ", which was connected before: " in line
        assert line.endswith(" (1 message to deliver)")
        proxy.welcome()
        async with asyncio.timeout(20 * UNIT):
            await handle
        assert await bob.recv("Alice") == 1
