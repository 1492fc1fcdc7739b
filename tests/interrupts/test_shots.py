"""The tool finds what it is made for."""

import threading
from typing import Any

import pytest

from tests.interrupts.shots import CTRL_C, NOTHING, TIMER, Kind, Outcome, everywhere

KINDS = pytest.mark.parametrize("kind", [CTRL_C, TIMER], ids=["Ctrl-C", "timer"])


@KINDS
def test_it_reaches_every_place_where_a_handler_can_run(kind: Kind) -> None:
    done: list[int] = []
    seen: set[int] = set()

    def call() -> str:
        done.clear()
        done.append(1)
        done.append(2)
        done.append(3)
        return "whole"

    def look(outcome: Outcome) -> None:
        seen.add(len(done))
        if outcome.raised is None:
            assert outcome.value == "whole"
            assert len(done) == 3
        elif outcome.value is NOTHING:
            assert type(outcome.raised) is kind.raises

    assert everywhere(call, look, kind, stride=1) > 20
    assert seen == {0, 1, 2, 3}


@KINDS
def test_it_finds_a_lock_that_is_entered_by_python_code(kind: Kind) -> None:
    held: list[str] = []
    condition = threading.Condition(threading.Lock())

    def call() -> None:
        with condition:
            pass

    def look(outcome: Outcome) -> None:
        nonlocal condition
        if not condition.acquire(blocking=False):
            held.append(outcome.place)
            condition = threading.Condition(threading.Lock())
        else:
            condition.release()

    everywhere(call, look, kind, stride=1)
    assert held


@KINDS
def test_and_none_that_is_entered_at_once(kind: Kind) -> None:
    lock: Any = threading.Lock()

    def call() -> None:
        with lock:
            pass

    def look(outcome: Outcome) -> None:
        assert not lock.locked()

    everywhere(call, look, kind, stride=1)
