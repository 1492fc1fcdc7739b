"""Blocks, and the record of messages, shot at at every instruction: none stays on, and no line is lost or written twice."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.engine import deadlines
from mpccomm.engine.report import _stays_of
from mpccomm.engine.scopes import Block
from tests.interrupts.shots import CTRL_C, LIMIT, NOTHING, TIMER, Kind, Outcome, everywhere
from tests.pools import quick

# Struck between being made and being entered, a block says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*was never entered")


@pytest.fixture(params=[CTRL_C, TIMER], ids=["Ctrl-C", "timer"])
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


def forget(outcome: Outcome) -> None:
    """Drop what was raised, as an ``except`` does at its end."""
    outcome.raised = None


def began_to_leave(error: BaseException | None) -> bool:
    """Return whether it came where ``__exit__`` begins."""
    assert error is not None
    handler = TIMER.handler.__code__
    *_, (frame, line) = (place for place in traceback.walk_tb(error.__traceback__) if place[0].f_code is not handler)
    return frame.f_code is Block.__exit__.__code__ and line == frame.f_code.co_firstlineno


@pytest.mark.parametrize("kept", [False, True], ids=["in passing", "kept"])
def test_a_deadline_does_not_stay_on(kind: Kind, kept: bool) -> None:
    with SyncPool() as pool:
        owner = pool.pool._engine.loop_owner
        block = pool.deadline(100)
        with block:
            pass

        def call() -> None:
            with block if kept else pool.deadline(100):
                assert deadlines.tightened(owner, None) is not None

        def look(outcome: Outcome) -> None:
            if kept and deadlines.tightened(owner, None) is not None:
                # Before the first step of leaving it nothing can be done, as long as something refers to the block.
                assert began_to_leave(outcome.raised)
                block.__exit__(None, None, None)
            forget(outcome)
            assert deadlines.tightened(owner, None) is None

        everywhere(call, look, kind, stride=1)


def test_a_phase_does_not_stay_on(kind: Kind, tmp_path: Path) -> None:
    with SyncPool(name="Alice") as pool:
        pool.trace(tmp_path / "trace.json")
        with pool.phase("first"):
            pass
        reporter = pool.pool._engine.reporter
        assert reporter is not None

        def call() -> None:
            with pool.phase("outer"), pool.phase("inner"):
                assert [stay.path for stay in _stays_of(reporter)] == ["outer", "outer/inner"]

        def look(outcome: Outcome) -> None:
            forget(outcome)
            assert _stays_of(reporter) == []
            pool.report()
            assert not reporter._open

        everywhere(call, look, kind, stride=3)
        assert not pool.pool._engine.traces[-1]._recorder._phases


@pytest.mark.parametrize("where", ["file", "logger"])
def test_the_record_of_messages_has_each_once(kind: Kind, where: str, tmp_path: Path) -> None:
    network = MemoryNetwork()
    lines: list[str] = []
    logger = logging.Logger("record")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    file = tmp_path / "record.jsonl"
    with (
        SyncPool(name="Alice", network=network, settings=quick(), audit=file if where == "file" else logger) as alice,
        SyncPool(name="Bob", network=network, settings=quick()) as bob,
    ):
        network.connect(alice, bob)
        alice.wait_ready(LIMIT)
        count = 0
        got: list[Any] = []

        def call() -> Any:
            return alice.recv("Bob", timeout=LIMIT)

        def look(outcome: Outcome) -> None:
            nonlocal count
            value = call() if outcome.value is NOTHING else outcome.value
            assert value == count
            got.append(value)
            count += 1
            bob.send("Alice", count, timeout=LIMIT)

        bob.send("Alice", count, timeout=LIMIT)
        everywhere(call, look, kind)
        call()
    written = file.read_text().splitlines() if where == "file" else lines
    received = [line["id"] for line in map(json.loads, written) if line["direction"] == "received"]
    if where == "file":
        assert received == list(range(count + 1))
    else:
        # Python's logging says nothing of signals; what counts is that nothing stays locked.
        assert set(received) <= set(range(count + 1))
        assert len(received) > count * 0.9
