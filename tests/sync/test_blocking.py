"""Whether the program stands still, and what comes of it: a deadlock raises only where nothing else could end it."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time

import pytest

from mpccomm import DeadlockError, Limits
from mpccomm.sync.blocking import program_waits
from tests.pools import Log, quick
from tests.sync.duo import duo
from tests.timing import UNIT

KB = 1000
QUICK = quick(Limits(box_bytes=1000 * KB, box_messages=10))
NO_LIMIT = dataclasses.replace(QUICK, timing=dataclasses.replace(QUICK.timing, deadlock_after=None))
"""Nothing raises but what nothing else in the program could end."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that other tests, or what they use, have left in this process don't count."""
    others = set(threading.enumerate()) - {threading.current_thread()}
    every = threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [thread for thread in every() if thread not in others])


def test_a_thread_that_runs_is_seen() -> None:
    assert not program_waits()


def test_two_threads_that_wait_for_each_other() -> None:
    failed = []
    with duo(settings=NO_LIMIT) as (alice, bob):

        def send_all() -> None:
            try:
                for number in range(12):
                    alice.send("Bob", number, f"unasked {number}")
            except DeadlockError as error:
                failed.append(error)

        sending = threading.Thread(target=send_all)
        sending.start()
        with pytest.raises(DeadlockError, match="Receive those first"):
            bob.recv("Alice", "unasked 11")
        sending.join()
        assert len(failed) == 1
        assert [bob.recv("Alice", f"unasked {number}") for number in range(10)] == list(range(10))


def test_a_third_thread_that_could_receive(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with duo(settings=NO_LIMIT) as (alice, bob):

        def send_all() -> None:
            for number in range(12):
                alice.send("Bob", number, f"unasked {number}")

        received: list[int] = []

        def receive_later() -> None:
            while not log.lines("deadlock", logging.WARNING):
                time.sleep(UNIT / 10)
            received.extend(bob.recv("Alice", f"unasked {number}") for number in range(11))

        threads = [threading.Thread(target=target) for target in (send_all, receive_later)]
        for thread in threads:
            thread.start()
        assert bob.recv("Alice", "unasked 11") == 11
        for thread in threads:
            thread.join()
        assert received == list(range(11))
        assert log.lines("'unasked 0'", logging.WARNING)
