"""The running part of a pool: what is built, and what runs. The network is the test's, and has no way to anyone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mpccomm import (
    ConfigurationError,
    DuplicatePartyError,
    NotReadyError,
    PoolClosedError,
    Settings,
    UnknownPartyError,
)
from mpccomm.engine import engine as module
from mpccomm.engine.abc import LoopProvider
from mpccomm.engine.engine import Engine
from mpccomm.engine.lifecycle import PoolState
from mpccomm.engine.requests import ReceiveCall
from mpccomm.engine.states import ContactState, GivenUp, RequestState
from mpccomm.protocol.events import Connected
from tests.engine.nowhere import Nowhere, add, new_engine
from tests.pools import LOCAL, Log, quick, until
from tests.timing import UNIT

pytestmark = pytest.mark.usefixtures("loop_factory")


@contextlib.asynccontextmanager
async def running(
    *names: str, settings: Settings | None = None, network: Nowhere | None = None
) -> AsyncIterator[Engine]:
    engine = new_engine(network, settings)
    for number, name in enumerate(names, 1):
        add(engine, name, port=number)
    engine.launch()
    engine.start_added()
    try:
        yield engine
    finally:
        await engine.ending.shutdown(0)


# -- building ------------------------------------------------------------------------------------------------------------------


def test_parties_by_name_in_the_order_in_which_they_were_added() -> None:
    engine = new_engine()
    with pytest.raises(UnknownPartyError, match=r"no party 'Bob' .*there are: none yet"):
        engine.party("Bob")
    bob, carol = add(engine), add(engine, "Carol", port=2)
    assert engine.parties_named(None) == [bob, carol]
    assert engine.parties_named(["Carol", "Bob"]) == [carol, bob]
    with pytest.raises(UnknownPartyError, match="there are: 'Bob', 'Carol'"):
        engine.parties_named(["Dave"])
    for mistyped in ("bob", " Bob ", "Bbo", "Bobb"):
        with pytest.raises(UnknownPartyError, match="did you mean 'Bob'"):
            engine.party(mistyped)
    add(engine, "Party 1", port=3)
    with pytest.raises(UnknownPartyError, match=r"'Party 1'\); add it"):  # another number is another party
        engine.party("Party 2")
    engine.close_unused()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"name": "Bob", "port": 2}, DuplicatePartyError, "there is a party 'Bob' already"),
        ({"name": "Carol", "addr": None}, ConfigurationError, "where is Carol"),
        ({"name": "Carol", "wire": "smoke"}, ConfigurationError, "wire='smoke' of Carol: there are 'mpccomm'"),
        ({"name": "Carol", "port": 1}, DuplicatePartyError, "could not be told apart"),
    ],
    ids=["twice", "nowhere", "wire", "same place"],
)
def test_a_party_that_can_not_be_added_leaves_no_trace(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    engine = new_engine()
    add(engine)
    engine.lifecycle.started()
    with pytest.raises(error, match=text):
        add(engine, **arguments)
    assert list(engine.parties) == ["Bob"]
    assert not engine.lifecycle.has_additions
    engine.close_unused()


def test_its_threads_are_called_after_it_or_its_port() -> None:
    engine = new_engine()
    assert engine.title == "mpccomm Alice"
    engine.name = ""
    assert engine.title == "mpccomm"
    engine.listen(LOCAL, 1234, None)
    assert engine.title == "mpccomm at port 1234"
    engine.close_unused()


def test_reports_are_counted_once_and_the_last_trace_is_kept() -> None:
    engine = new_engine()
    assert engine.reporter is None
    reporter = engine.count()
    assert engine.count() is reporter is engine.reporter
    first = engine.trace(None)
    second = engine.trace(None)
    assert engine.traces == [first, second]
    module.close(first)
    third = engine.trace(None)
    assert engine.traces == [second, third], "those that ended are forgotten when another one begins"
    engine.close_unused()


# -- without a loop -----------------------------------------------------------------------------------------------------------


def test_one_that_never_ran_gives_its_port_back_and_can_not_be_used_again() -> None:
    network, ended = Nowhere(), list[int]()
    engine = new_engine(network)
    engine.loop_provider = cast(LoopProvider, SimpleNamespace(ended=lambda: ended.append(1)))
    engine.listen(LOCAL, 1234, None)
    for _ in range(2):
        engine.close_unused()
    assert network.bound[0].events == ["closed"]
    assert ended == [1]
    calls: list[Callable[[], object]] = [
        engine.check_open,
        lambda: add(engine),
        lambda: engine.listen(LOCAL, 1235, None),
        lambda: engine.remove("Bob"),
    ]
    for call in calls:
        with pytest.raises(PoolClosedError, match="was shut down; make a new one"):
            call()


def test_in_a_forked_process_it_belongs_to_the_parent() -> None:
    network = Nowhere()
    engine = new_engine(network)
    engine.listen(LOCAL, 1234, None)
    engine.close_inherited()
    assert network.bound[0].events == ["closed in the child"]
    with pytest.raises(PoolClosedError, match="belongs to the parent process"):
        engine.check_open()
    engine.close_unused()
    assert network.bound[0].events == ["closed in the child"], "the parent has it still"


def test_a_party_that_is_removed_before_it_runs_takes_nothing_any_more() -> None:
    engine = new_engine()
    bob = add(engine)
    incarnation = engine._incarnation
    engine.remove("Bob")
    assert bob.closed is not None
    assert bob.closed.ending is GivenUp.REMOVED
    assert not engine.parties
    assert engine._incarnation != incarnation, "to one that is added again it is another process"
    engine.close_unused()


# -- running -------------------------------------------------------------------------------------------------------------------


async def test_it_starts_its_server_and_dials_each_party_once_it_runs() -> None:
    network = Nowhere()
    engine = new_engine(network)
    engine.listen(LOCAL, 1234, None)
    add(engine)
    await asyncio.sleep(0)
    assert (network.bound[0].events, network.dials) == ([], [])
    engine.launch()
    engine.start_added()
    assert engine.lifecycle.usable
    await until(lambda: network.dials)
    engine.start_added()
    await asyncio.sleep(0)
    assert network.bound[0].events == ["started"], "once"
    assert set(network.dials) == {(LOCAL, 1)}
    await engine.ending.shutdown(0)
    assert network.bound[0].events == ["started", "stopped", "closed"]
    assert engine.lifecycle.state is PoolState.CLOSED


async def test_each_party_is_looked_at_as_time_goes_by() -> None:
    async with running("Bob", "Carol") as engine:
        seen: set[str] = set()
        for party in engine.parties.values():
            party.tick = lambda name=party.name: bool(seen.add(name))  # type: ignore[method-assign,misc,func-returns-value]
        await until(lambda: seen == {"Bob", "Carol"})


async def test_a_loop_that_was_held_up_is_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(caplog)
    monkeypatch.setattr(module, "_STANDSTILL", 0.0)
    async with running(settings=Settings()) as engine:
        assert engine._ticker is not None
        engine._ticker.cancel()

        class Late:
            def when(self) -> float:
                return asyncio.get_running_loop().time() - 1000

        engine._ticker = cast(asyncio.TimerHandle, Late())
        engine._tick()
        assert log.lines("stood still for 1000 s", logging.WARNING)


async def test_a_part_that_fails_is_logged_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)

    async def fail() -> None:
        raise ZeroDivisionError

    async with running("Bob") as engine:
        engine._spawn(fail())
        await log.seen("a part of the pool failed", logging.ERROR)
        assert engine.lifecycle.usable


async def test_a_party_that_is_removed_fails_its_receives_and_is_dialled_no_more() -> None:
    network = Nowhere()
    async with running("Bob", network=network, settings=quick()) as engine:
        bob = engine.party("Bob")
        call = ReceiveCall(bob, "", "id", None)
        call.start()
        engine.remove("Bob")
        await until(lambda: call.state is RequestState.FAILED)
        assert "removed" in str(call.error)
        await until(lambda: bob.dialler is not None and bob.dialler.done())
        assert bob.contact is ContactState.CLOSED


# -- for all parties ------------------------------------------------------------------------------------------------------------


async def test_ready_when_all_that_were_named_are_connected() -> None:
    async with running("Bob", "Carol") as engine:
        bob = engine.party("Bob")
        waiting = asyncio.ensure_future(engine.wait_ready(None, ["Bob"]))
        await until(lambda: bob.expected)
        assert not engine.party("Carol").expected
        bob.link._connections.current = cast(Any, object())
        bob.link.events.append(Connected(False))
        bob.flush()
        await waiting
        assert not bob.expected
        bob.link._connections.current = None


async def test_those_that_are_missing_are_named_with_address_and_cause() -> None:
    async with running("Bob", "Carol") as engine:
        await until(lambda: all(party.failed_dials for party in engine.parties.values()))
        with pytest.raises(NotReadyError, match=rf"within .*: Bob at {LOCAL}:1: .*; Carol at {LOCAL}:2: ") as caught:
            await engine.wait_ready(UNIT / 10)
        assert caught.value.missing == dict.fromkeys(("Bob", "Carol"), "") | {
            name: f"{LOCAL}:{port}: there is no way" for name, port in (("Bob", 1), ("Carol", 2))
        }
        assert not any(party.expected for party in engine.parties.values())
