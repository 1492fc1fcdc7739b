"""What a record holds when it is made, and where it ends."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from mpccomm.engine import recorder as recorder_module
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.recorder import Recorder
from tests.pools import pools, until
from tests.sync.duo import duo
from tests.timing import UNIT


async def test_a_full_trace_counts_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "MOST", 5)
    monkeypatch.setattr(Recorder.__init__, "__defaults__", (5,))
    async with pools("Alice", "Bob") as (alice, bob):
        trace = alice.trace()
        for number in range(8):
            await alice.send("Bob", number)
            await bob.recv("Alice")
            if number == 5:
                await until(lambda: trace._recorder._full)
        (party,) = trace.record.parties
    assert party.lost == 2
    assert len(party.sends) == 6
    assert [record.levelno for record in caplog.records if "trace is full" in record.getMessage()] == [logging.WARNING]


async def test_a_full_trace_does_not_go_on_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder.__init__, "__defaults__", (5,))
    async with pools("Alice", "Bob") as (alice, bob):
        trace = alice.trace()
        for number in range(6):
            await alice.send("Bob", number)
        await until(lambda: trace._recorder._full)
        before = len(trace._recorder._lanes.names)
        for number in range(20):
            await asyncio.create_task(alice.send("Bob", number))
        task = asyncio.create_task(alice.recv("Bob"))
        handle = asyncio.create_task(alice.recv_any(["Bob"]))
        await asyncio.sleep(0)
        (party,) = trace.record.parties
        assert len(trace._recorder._lanes.names) == before >= len(party.lanes)
        await bob.send("Alice", 1)
        await bob.send("Alice", 2)
        await asyncio.gather(task, handle)


def test_what_was_sent_before_it_stops_is_in_it() -> None:
    with duo() as (alice, bob):
        for number in range(50):
            with alice.trace() as trace:
                handles = [alice.asend("Bob", number), alice.asend("Bob", number, f"id {number}")]
                handles.append(alice.async_broadcast(number))
                seen = trace.record.parties[0].sends
            (party,) = trace.record.parties
            assert len(seen) == len(party.sends) == 3
            for handle in handles:
                handle.result(100 * UNIT)
            assert [bob.recv("Alice") for _ in "12"] == [number, number]
            bob.recv("Alice", f"id {number}")


def test_a_trace_that_stops_beside_a_loop_that_stands_still_does_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def stand_still() -> None:
        go_on.wait(100 * UNIT)
        ended.set()

    with duo() as (alice, _):
        owner = engine_of(alice).loop_owner
        monkeypatch.setattr(owner, "grace", UNIT)
        trace = alice.trace()
        owner.post_soon(stand_still)
        trace.stop()
        assert not ended.is_set()
        go_on.set()
