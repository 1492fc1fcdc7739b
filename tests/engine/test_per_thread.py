"""Counts of threads: all that was counted is there, once, and nothing is kept of each thread that has ended."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.engine.per_thread import PerThread
from tests.pools import quick
from tests.timing import UNIT


def add(total: Counter[str], ended: Counter[str]) -> bool:
    total.update(ended)
    return True


def in_a_thread(counts: PerThread[Counter[str]]) -> None:
    thread = threading.Thread(target=lambda: counts.here().update("x"))
    thread.start()
    thread.join()


def test_threads_that_have_ended_are_one() -> None:
    counts = PerThread[Counter[str]](Counter, add)
    for number in range(1, 20):
        in_a_thread(counts)
        assert sum(found["x"] for found in counts.all()) == number
        assert len(counts.all()) <= 3


def test_what_may_still_change_stays() -> None:
    counts = PerThread[Counter[str]](Counter, lambda _, ended: not ended)
    for number in range(1, 5):
        in_a_thread(counts)
        assert len(counts.all()) == number + 1


def test_an_interrupt_counts_nothing_twice() -> None:
    """It comes while what has ended is taken out."""

    class Struck(PerThread[Counter[str]]):
        def _remove(self, gone: list[tuple[threading.Thread, Counter[str]]]) -> None:
            if gone and strikes:
                raise strikes.pop()
            super()._remove(gone)

    strikes: list[BaseException] = [KeyboardInterrupt()]
    counts = Struck(Counter, add)
    in_a_thread(counts)
    with pytest.raises(KeyboardInterrupt):
        counts.here()
    for number in range(1, 5):
        assert sum(found["x"] for found in counts.all()) == number
        in_a_thread(counts)


def test_a_report_keeps_nothing_of_each_thread() -> None:
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    alice.report()
    reporter = alice._engine.count()
    try:
        alice.wait_ready(100 * UNIT)
        for number in range(10):
            thread = threading.Thread(target=alice.send, args=("Bob", number))
            thread.start()
            thread.join()
            assert bob.recv("Alice") == number
        assert alice.report()[""].messages_sent == 10
        assert len(reporter._threads.all()) <= 4
    finally:
        alice.shutdown()
        bob.shutdown()
