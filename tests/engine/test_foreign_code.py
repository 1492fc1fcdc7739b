"""Code of the program that runs on the pool's thread: what it raises is told once, and stops nothing, whatever it is."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mpccomm import MemoryNetwork, Pool, SyncPool, logs
from mpccomm.logs import EventLog, LogEvent
from tests.pools import LOCAL, Log, exchange, pools, quick
from tests.timing import UNIT

LIMIT = 100 * UNIT
SECRET = "payload-of-a-message"


class OwnError(BaseException):
    """As test frameworks have them."""


RAISED = (RuntimeError, OwnError, SystemExit, KeyboardInterrupt)


@pytest.fixture(autouse=True)
def _told_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_told", set(), raising=False)


class Raising(logging.Handler):
    """Raises for each line that a pool's own thread logs, or for all; as a handler or as a filter of one."""

    def __init__(self, kind: type[BaseException], *, filters: bool, everywhere: bool = False) -> None:
        super().__init__()
        self._kind = kind
        self._everywhere = everywhere
        self.raised: set[str] = set()
        if filters:
            self.addFilter(self.emit)  # type: ignore[arg-type]

    def emit(self, record: logging.LogRecord) -> None:
        if self._everywhere or threading.current_thread() is not threading.main_thread():
            self.raised.add(record.event)  # type: ignore[attr-defined]
            raise self._kind("of a handler")


@contextmanager
def installed(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("mpccomm")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("filters", [False, True], ids=["handler", "filter"])
@pytest.mark.parametrize("kind", RAISED)
def test_a_handler_of_the_log_stops_no_pool(
    kind: type[BaseException], filters: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Raising(kind, filters=filters)
    alice, bob = (SyncPool(name=name, settings=quick()) for name in ("Alice", "Bob"))
    with installed(handler), bob:
        with alice:
            for pool in (alice, bob):
                pool.add_http_server(0, LOCAL)
            alice.add_http_client("Bob", LOCAL, bob.port)
            bob.add_http_client("Alice", LOCAL, alice.port)
            alice.wait_ready(LIMIT)
            alice.send("Bob", 1, timeout=LIMIT)
            assert bob.recv("Alice", timeout=LIMIT) == 1
            alice.send("Bob", 2, timeout=LIMIT)
        bob.shutdown()
    assert {"connected", "known_by", "traffic", "unread"} <= handler.raised
    err = capsys.readouterr().err
    assert err.count("--- Logging error ---") == 1
    assert f"{kind.__name__}: of a handler" in err


@pytest.mark.usefixtures("loop_factory")
@pytest.mark.parametrize("filters", [False, True], ids=["handler", "filter"])
@pytest.mark.parametrize("kind", RAISED)
async def test_nor_one_on_the_loop_of_the_program(
    kind: type[BaseException], filters: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Raising(kind, filters=filters, everywhere=True)
    with installed(handler):
        async with pools("Alice", "Bob") as (alice, bob):
            await exchange(alice, bob)
    assert {"listening", "connected", "known_by", "traffic"} <= handler.raised
    assert capsys.readouterr().err.count("--- Logging error ---") == 1


def test_what_a_handler_raises_is_not_told_where_logging_is_to_tell_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with installed(Raising(RuntimeError, filters=False, everywhere=True)):
        EventLog()(LogEvent.LISTENING, "somewhere")
    assert not capsys.readouterr().err


def test_ctrl_c_in_a_handler_comes_out() -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            signal.raise_signal(signal.SIGINT)

    with installed(Slow()), pytest.raises(KeyboardInterrupt):
        EventLog()(LogEvent.LISTENING, "somewhere")


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("kind", [ValueError, OwnError, SystemExit, KeyboardInterrupt])
def test_a_callback_keeps_no_other_from_running(kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    ran = [threading.Event(), threading.Event()]

    def raising(handle: object) -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise kind(SECRET) from error

    with bob, alice:
        for event in ran:
            handle = alice.arecv("Bob")
            handle.add_done_callback(raising)
            handle.add_done_callback(lambda _, event=event: event.set())  # type: ignore[misc]
            bob.send("Alice", SECRET, timeout=LIMIT)
            assert handle.result(LIMIT) == SECRET
        for event in ran:
            assert event.wait(LIMIT)
    (first, second) = (record for record in caplog.records if record.event == "callback_failed")  # type: ignore[attr-defined]
    for record in (first, second):
        shown = logging.Formatter().format(record)
        # Where it was, and what kind of error, but not what it says.
        assert "in raising" in shown
        assert f"\n{kind.__module__}.{kind.__qualname__}".replace("\nbuiltins.", "\n") in shown
        assert SECRET not in shown


@pytest.mark.usefixtures("both_loops")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
async def test_an_audit_record_on_a_full_disk(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(caplog)
    for face in (Pool, SyncPool):
        caplog.clear()
        await asyncio.to_thread(_audited) if face is SyncPool else await _audited_here()
        (line,) = log.lines("the audit record could not be written")
        assert "No space left on device" in line
    assert not capsys.readouterr().err


def _audited() -> None:
    network = MemoryNetwork()
    alice = SyncPool(name="Alice", settings=quick(), network=network, audit="/dev/full")
    bob = SyncPool(name="Bob", settings=quick(), network=network)
    network.connect(alice, bob)
    with bob, alice:
        for number in range(3):
            alice.send("Bob", number, timeout=LIMIT)
            assert bob.recv("Alice", timeout=LIMIT) == number


async def _audited_here() -> None:
    network = MemoryNetwork()
    alice = Pool(name="Alice", settings=quick(), network=network, audit="/dev/full")
    bob = Pool(name="Bob", settings=quick(), network=network)
    network.connect(alice, bob)
    async with bob, alice:
        for number in range(3):
            await alice.send("Bob", number, timeout=LIMIT)
            assert await bob.recv("Alice", timeout=LIMIT) == number


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("kind", RAISED)
def test_an_observer_stops_no_pool(kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    from mpccomm.engine.observer import EVENTS, Careful, Observers

    def raising(*arguments: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise kind(SECRET)
        return b"" if len(arguments) == 2 else None

    observer = type(
        "Observer", (), {event: staticmethod(raising) for event in EVENTS if event in ("delivered", "connection")}
    )
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    alice._engine.loop_owner.observers = Observers((Careful(observer(), alice._engine.log),))
    with bob, alice:
        for number in range(3):
            alice.send("Bob", number, timeout=LIMIT)
            assert bob.recv("Alice", timeout=LIMIT) == number
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_loop_is_told_and_does_not(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising() -> None:
        raise kind(SECRET)

    log = Log(caplog)
    network = MemoryNetwork()
    alice, bob = (SyncPool(name=name, settings=quick(), network=network) for name in ("Alice", "Bob"))
    network.connect(alice, bob)
    with bob, alice:
        alice.send("Bob", 1, timeout=LIMIT)
        with installed(Raising(RuntimeError, filters=False)):
            # What is told then reaches no other handler.
            alice._engine.loop_owner.loop.call_soon_threadsafe(raising)
            alice.send("Bob", 2, timeout=LIMIT)
        alice._engine.loop_owner.loop.call_soon_threadsafe(raising)
        alice.send("Bob", 3, timeout=LIMIT)
        assert [bob.recv("Alice", timeout=LIMIT) for _ in range(3)] == [1, 2, 3]
    assert log.lines("a callback on the loop of mpccomm Alice tried to end it")
    assert SECRET not in caplog.text
    assert SECRET not in capsys.readouterr().err
