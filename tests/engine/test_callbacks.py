"""Callbacks of handles run in one thread, and one that takes long is told of."""

import asyncio
import concurrent.futures
import functools
import re
import threading

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.engine.callbacks import Callbacks
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.thread_futures import ThreadFuture
from tests.pools import Log, quick

LIMIT = 20


def test_a_callback_that_holds_up_others_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """By its name, not by what it is called with; once, and again when it has lasted twice as long."""
    callbacks = Callbacks(LoopOwner())
    running, go_on = threading.Event(), threading.Event()
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    first, second = ThreadFuture[int](callbacks), ThreadFuture[int](callbacks)

    def blocking(secret: str, handle: object) -> None:
        running.set()
        go_on.wait(LIMIT)

    first.add_done_callback(functools.partial(blocking, "a secret"))
    callbacks.notice(0)
    first.resolve(1, None)
    assert running.wait(LIMIT)
    callbacks.notice(0)
    assert not caplog.records, "it holds up nothing"
    second.add_done_callback(lambda _: done.set_result(None))
    second.resolve(1, None)
    callbacks.notice(1000)
    assert not caplog.records, "not for long"
    callbacks.notice(0)
    (record,) = caplog.records
    assert re.search(
        r"the callback \S*blocking has been running .* holds up 1 other callback: one thread", record.getMessage()
    )
    assert "secret" not in record.getMessage()
    assert record.event == "callback_blocks"  # type: ignore[attr-defined]
    callbacks._running.told = 1000.0  # type: ignore[union-attr]
    callbacks.notice(0)
    assert len(caplog.records) == 1
    go_on.set()
    done.result(LIMIT)
    callbacks.end()
    callbacks.join(LIMIT)
    callbacks.notice(0)
    assert len(caplog.records) == 1


def test_a_pool_tells_of_it_on_its_clock(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    go_on = threading.Event()
    with alice, bob:
        for number in range(2):
            alice.arecv("Bob").add_done_callback(lambda _: go_on.wait(LIMIT))
            bob.send("Alice", number)
        asyncio.run(log.seen("holds up 1 other callback"))
        go_on.set()
