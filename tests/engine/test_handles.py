"""Failures of sends that no call waited for."""

import asyncio
import concurrent.futures
import logging

import pytest

from mpccomm import CommunicationTimeoutError, SyncPool
from tests.pools import LOCAL, Log, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT


async def test_a_handle_that_failed_unobserved_is_told(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob", "Carol") as (alice, bob, _):
        alice.add_http_client("Dave", LOCAL, 1)
        alice.asend("Dave", "dropped", "first", timeout=UNIT)
        kept = alice.asend("Dave", "kept", timeout=UNIT)
        looked_at = alice.asend("Dave", "looked at", "third", timeout=UNIT)
        awaited = alice.asend("Dave", "awaited", "fourth", timeout=UNIT)
        gathered = [alice.asend("Dave", number, "fifth", timeout=UNIT) for number in range(2)]
        broadcast = alice.async_broadcast("to all", "sixth", ["Bob", "Dave"], timeout=UNIT)
        alice.asend("Bob", "fine")
        with pytest.raises(CommunicationTimeoutError):
            await awaited
        results = await asyncio.gather(*gathered, return_exceptions=True)
        assert [type(result) for result in results] == [CommunicationTimeoutError] * 2
        await until(lambda: kept.done() and looked_at.done() and broadcast.done())
        assert isinstance(looked_at.exception(), CommunicationTimeoutError)
        for part in ("'first' to Dave", "#0 to Dave", "'sixth' to Dave"):
            assert await log.seen(part, logging.WARNING)
        told = [record for record in caplog.records if "no call waits" in record.getMessage()]
        for record in told:
            assert not any(part in record.getMessage() for part in ("fourth", "fifth"))
            assert "Dave" in vars(record)["party"]
        caplog.clear()
        await alice.shutdown(0)
        # What was said of each is not said again.
        (line,) = log.lines("has not looked", logging.ERROR)
        assert line == "3 sends failed, as was logged, and the program has not looked at their handles"
        assert kept.done()
        assert await bob.recv("Alice") == "fine"


def test_blocking_handles(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with SyncPool(settings=quick()) as pool:
        pool.add_http_client("Bob", LOCAL, 1)
        dropped = pool.asend("Bob", 0, "first", timeout=UNIT)
        looked_at = pool.asend("Bob", 0, "second", timeout=UNIT)
        broadcast = pool.async_broadcast(0, "third", timeout=UNIT)
        cancelled = pool.asend("Bob", 0, "fourth", timeout=UNIT)
        cancelled.cancel()
        with pytest.raises(CommunicationTimeoutError):
            looked_at.result()
        concurrent.futures.wait([dropped, broadcast, cancelled])
    told = log.lines("failed, and", logging.WARNING) + log.lines("failed, and", logging.ERROR)
    assert sum(line.count("sending 'first' to Bob") for line in told) == 1
    assert sum(line.count("'third'") for line in told) == 1
    assert log.lines("has not looked", logging.ERROR)


async def test_a_broadcast_without_parties_is_done() -> None:
    async with pools("Alice") as (alice,):
        await alice.async_broadcast(1)
        await alice.broadcast(1)


async def test_many_failures_make_one_line(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice") as (alice,):
        alice.add_http_client("Bob", LOCAL, 1)
        for number in range(1500):
            alice.asend("Bob", number, timeout=UNIT)
        failures = alice._engine.failures
        await until(lambda: len(failures._old) + failures._more == 1500)
        assert len(failures._old) == 1000
        assert len(log.lines("no call waits", logging.WARNING)) < 20
        await alice.shutdown(0)
    lines = log.lines("no call waits", logging.WARNING)
    assert any(line.endswith(" more") for line in lines)
    assert all(len(line) < 1200 for line in lines)
    (line,) = log.lines("has not looked", logging.ERROR)
    assert line == "1,500 sends failed, as was logged, and the program has not looked at their handles"


def test_what_the_end_keeps_from_being_delivered_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    pool = SyncPool(settings=quick())
    pool.add_http_client("Bob", LOCAL, 1)
    pool.asend("Bob", 0, "late")
    pool.shutdown(UNIT)
    (line,) = [line for line in log.lines("'late'") if "to deliver" not in line]
    assert line == f"Bob ({LOCAL}:1): 1 message could not be delivered: 'late' (connection refused)"


@pytest.mark.parametrize("face", ["asyncio", "blocking", "another loop"])
def test_cancelling_a_receive_that_is_done_gives_nothing_back(face: str) -> None:
    with duo() as (alice, bob):

        async def receive() -> None:
            future = bob.pool.arecv("Alice")
            assert await future == "once"
            future.cancel()

        alice.send("Bob", "once")
        if face == "blocking":
            handle = bob.arecv("Alice")
            assert handle.result(50 * UNIT) == "once"
            handle.cancel()
        elif face == "another loop":
            asyncio.run(receive())
        else:
            asyncio.run_coroutine_threadsafe(receive(), bob._engine.loop_owner.loop).result(50 * UNIT)
        alice.send("Bob", "next")
        assert bob.recv("Alice", timeout=50 * UNIT) == "next"
        assert not bob.pool_handlers["Alice"].buffer
