"""A signal handler raises in the middle of what the pool does: it ends, all hear of it, and nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from mpccomm import Limits, PartyAbortedError, PartyGoneError, PartyShutDownError, Pool, PoolClosedError
from mpccomm.engine import ending, futures
from mpccomm.engine.engine import Engine
from mpccomm.engine.lifecycle import PoolState
from mpccomm.engine.party import Party
from mpccomm.engine.removals import Removals
from mpccomm.engine.requests import ReceiveCall
from tests.interrupts.shots import TIMER, TimesUpError, handling
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT

pytestmark = pytest.mark.usefixtures("loop_factory", "handler")
LIMIT = 100 * UNIT


@pytest.fixture
def handler() -> Iterator[None]:
    """Of a signal; it raises."""
    with handling(TIMER):
        yield


def strike() -> None:
    """As in the middle of whatever calls this."""
    signal.raise_signal(TIMER.number)


def split(pool: Pool) -> None:
    with pytest.raises(TimesUpError):
        pool._engine.loop_owner.post(strike)


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The first call of this is struck."""
    original = getattr(owner, name)
    left = [strike]

    def struck(*arguments: Any, **keywords: Any) -> Any:
        while left:
            left.pop()()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, struck)


def is_free(port: int | None) -> bool:
    assert port is not None
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOCAL, port))
    return True


# -- who hears of it ---------------------------------------------------------------------------------------------------


async def arrived(pool: Pool) -> None:
    async for _ in pool.as_received(["Bob"]):
        pass


WAITS: dict[str, Callable[[Pool], Awaitable[Any]]] = {
    "recv": lambda pool: pool.recv("Bob"),
    "recv with a time limit": lambda pool: pool.recv("Bob", timeout=LIMIT),
    "recv_any": lambda pool: pool.recv_any(),
    "recv_all": lambda pool: pool.recv_all(),
    "as_received": arrived,
    "arecv": lambda pool: pool.arecv("Bob"),
    "barrier": lambda pool: pool.group(["Alice", "Bob"]).barrier(),
    "send": lambda pool: pool.send("Carol", "what Carol has no place for"),
    "asend": lambda pool: pool.asend("Carol", "what Carol has no place for"),
    "broadcast": lambda pool: pool.broadcast("to all"),
    "wait_ready": lambda pool: pool.wait_ready(),
}


async def test_every_wait_and_every_party_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        alice.add_http_client("Carol", LOCAL, 1)  # which never comes
        waits = {name: asyncio.ensure_future(call(alice)) for name, call in WAITS.items()}
        await asyncio.sleep(0)
        split(alice)
        async with asyncio.timeout(LIMIT):
            await asyncio.wait(waits.values())
        for name, wait in waits.items():
            error = wait.exception()
            assert isinstance(error, PoolClosedError), name
            assert isinstance(error.__cause__, TimesUpError), name
            assert "a signal handler raised TimesUpError" in str(error)
            assert "make a new pool" in str(error)
        with pytest.raises(PoolClosedError, match="a signal handler raised TimesUpError") as later:
            await alice.recv("Bob")
        assert isinstance(later.value.__cause__, TimesUpError)
        with pytest.raises(PartyAbortedError, match="TimesUpError"):
            while True:
                await bob.recv("Alice", timeout=LIMIT)
        await alice.shutdown()
        assert is_free(alice.port)
    assert len(log.lines("a signal handler raised TimesUpError", logging.ERROR)) == 1


async def test_a_wait_on_another_loop_hears_of_it() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        begun = threading.Event()

        async def wait() -> Any:
            task = asyncio.ensure_future(alice.recv("Bob"))
            await asyncio.sleep(0)
            begun.set()
            return await asyncio.wait_for(task, LIMIT)

        elsewhere = asyncio.ensure_future(asyncio.to_thread(asyncio.run, wait()))
        await asyncio.to_thread(begun.wait, LIMIT)
        split(alice)
        with pytest.raises(PoolClosedError, match="a signal handler raised TimesUpError"):
            await elsewhere


@pytest.mark.parametrize("name", ["_run", "_leave"])
async def test_a_strike_at_the_beginning_of_the_end_leaves_it_to_another_task(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        original, left = getattr(ending.PoolEnding, name), [strike]

        async def struck(*arguments: Any) -> None:
            while left:
                left.pop()()
            await original(*arguments)

        monkeypatch.setattr(ending.PoolEnding, name, struck)
        waiting = asyncio.ensure_future(bob.recv("Alice"))
        with contextlib.suppress(TimesUpError):
            await asyncio.wait_for(alice.shutdown(), LIMIT)
        assert not left
        with pytest.raises(PartyAbortedError, match="TimesUpError"):
            await asyncio.wait_for(waiting, LIMIT)
        assert is_free(alice.port)


@pytest.mark.parametrize("where", ["the call", "the first step"])
async def test_one_whose_removal_is_struck_at_its_beginning_is_told(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        bob_waits = asyncio.ensure_future(bob.recv("Alice"))
        with monkeypatch.context() as patch:
            if where == "the call":
                once(patch, Removals, "add")
                with pytest.raises(TimesUpError):
                    alice.remove_http_client("Bob")
            else:

                async def struck(*arguments: Any) -> None:
                    strike()

                patch.setattr(Removals, "_part", struck)
                alice.remove_http_client("Bob")
                await until(lambda: alice._engine.ending.split is not None)
        await asyncio.wait_for(alice.shutdown(), LIMIT)
        with pytest.raises(PartyGoneError):
            await asyncio.wait_for(bob_waits, LIMIT)


@pytest.mark.parametrize("name", ["fail_receives", "leave", "disconnected"])
async def test_a_party_that_is_being_removed_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        bob_waits = asyncio.ensure_future(bob.recv("Alice"))
        with monkeypatch.context() as patch:
            once(patch, Party, name)
            with contextlib.suppress(TimesUpError):
                alice.remove_http_client("Bob")
            await until(lambda: alice._engine.ending.split is not None)
        with pytest.raises(PartyGoneError if name == "disconnected" else PartyAbortedError):
            await asyncio.wait_for(bob_waits, LIMIT)
        await asyncio.wait_for(alice.shutdown(), LIMIT)
        assert is_free(alice.port)


async def test_one_more_strike_while_they_are_told_leaves_it_to_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = asyncio.ensure_future(alice.recv("Bob"))
        await asyncio.sleep(0)
        once(monkeypatch, ending, "tell_all_who_wait")
        found: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context.get("exception")))
        split(alice)
        with pytest.raises(PoolClosedError, match="a signal handler raised TimesUpError"):
            await asyncio.wait_for(waiting, LIMIT)
        with pytest.raises(PartyAbortedError, match="TimesUpError"):
            await bob.recv("Alice", timeout=LIMIT)
        assert [type(error) for error in found] == [TimesUpError]


async def test_one_more_strike_before_it_is_known_what_struck_leaves_it_to_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pools("Alice", "Bob") as (alice, _):
        owner = alice._engine.loop_owner
        once(monkeypatch, owner, "judge")
        split(alice)
        assert owner.suspect is not None
        with pytest.raises(PoolClosedError, match="a signal handler raised TimesUpError"):
            await alice.recv("Bob")
        assert owner.suspect is None


async def test_one_more_strike_where_a_message_goes_back_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for number in range(2):
            await bob.send("Alice", number)
        once(monkeypatch, ReceiveCall, "value")
        with monkeypatch.context() as patch:
            once(patch, futures, "withdraw_forgotten")
            with pytest.raises(TimesUpError):
                await alice.recv("Bob", timeout=LIMIT)
        assert [await alice.recv("Bob", timeout=LIMIT) for _ in range(2)] == [0, 1]


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "step", "heard"),
    [
        (Party, "leave", PartyAbortedError),
        (Party, "disconnected", PartyShutDownError),
        (Engine, "close_unused", PartyShutDownError),
    ],
)
async def test_an_end_that_is_struck_leaves_nothing_open(
    owner: type, step: str, heard: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with monkeypatch.context() as patch:
            once(patch, owner, step)
            with pytest.raises(TimesUpError):
                await alice.shutdown()
        assert alice._engine.lifecycle.state is PoolState.CLOSED
        assert is_free(alice.port)
        with pytest.raises(heard):
            await bob.recv("Alice", timeout=LIMIT)
        await alice.shutdown()


async def test_an_end_that_asyncio_has_lost_is_waited_for_in_bounds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    found = asyncio.Event()

    async def lost(*_: object, **__: object) -> None:
        while not found.is_set():
            try:
                await found.wait()
            except asyncio.CancelledError:
                continue

    async with pools("Alice", "Bob") as (alice, bob):
        monkeypatch.setattr(ending, "_LAST", 1)
        monkeypatch.setattr(alice._engine.ending, "_leave", lost)
        async with asyncio.timeout(LIMIT):
            await alice.shutdown(0)
        assert log.lines("the pool did not come to its end in time, and is closed as it is")
        assert alice._engine.lifecycle.state is PoolState.CLOSED
        assert is_free(alice.port)
        await until(lambda: not bob._engine.party("Alice").connections)
        found.set()


async def test_it_waits_for_what_was_removed_as_long_as_that_may_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Though that is longer than this shutdown would linger."""
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, _):
        monkeypatch.setattr(ending, "_LAST", 1)
        alice.add_http_client("Carol", LOCAL, 1)
        handle = alice.asend("Carol", "never delivered")
        alice.remove_http_client("Carol")
        await alice.shutdown(0)
        assert handle.exception() is not None
    assert not log.lines("did not come to its end in time")


@pytest.mark.parametrize("call", ["send", "broadcast"])
async def test_what_is_sent_is_the_callers_again_where_those_who_watch_are_struck(call: str) -> None:
    """They are told of the wait when the message is queued, and before it begins."""

    class Watching:
        def waits(self, involved: object) -> Callable[[], None]:
            strike()
            return lambda: None

    async with pools("Alice", "Bob", settings=quick(Limits(box_messages=1))) as (alice, bob):
        await alice.send("Bob", "the only one that the box takes", "before")
        alice._engine.observe(Watching())
        value = bytearray(b"?" * 30_000)
        with pytest.raises(TimesUpError):
            await (alice.send("Bob", value, "m") if call == "send" else alice.broadcast(value, "m"))
        value[:] = b"!" * len(value)
        alice._engine.loop_owner.observers = None
        assert await bob.recv("Alice", "before", timeout=LIMIT)
        assert await bob.recv("Alice", "m", timeout=LIMIT) == b"?" * len(value)
