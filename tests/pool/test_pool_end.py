"""How a conversation ends: shutdown, abort, restart, and what is told to those who wait."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from mpccomm import (
    Limits,
    MemoryNetwork,
    PartyAbortedError,
    PartyGoneError,
    PartyRestartedError,
    PartyShutDownError,
    Pool,
    PoolClosedError,
    Retry,
    Settings,
    SyncPool,
)
from mpccomm.engine.states import GivenUp
from mpccomm.protocol.link import Link
from mpccomm.protocol.states import PartyState
from mpccomm.transport.websocket import WebSocket
from tests.pools import LOCAL, Log, pools, quick, until
from tests.ports import free_ports
from tests.timing import UNIT

LIMIT = 100 * UNIT


async def again(pool: Pool, *others: tuple[str, Pool]) -> Pool:
    """A new pool at the port of one that has ended: the same party, another process."""
    new = Pool(settings=quick())
    new.add_http_server(pool.port, LOCAL)
    for name, other in others:
        new.add_http_client(name, LOCAL, other.port)
    return new


async def crashed(pool: Pool) -> None:
    """End a pool as a killed process ends: without a word."""
    engine = pool._engine

    async def without_a_word() -> None:
        pass

    for party in engine.parties.values():
        party.give_up(GivenUp.CLOSED)
        for stream in party.connections.streams:
            assert isinstance(stream, WebSocket)
            sock: socket.socket = stream.get_extra_info("socket")
            sock.shutdown(socket.SHUT_RDWR)
    await engine.ending._begin(without_a_word)


# -- shutdown ----------------------------------------------------------------------------------------------------------


async def test_what_was_sent_before_shutdown_arrives() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        array = np.arange(2_000_000)
        handles = [alice.asend("Bob", array), alice.asend("Bob", "last")]
        await alice.shutdown(100 * UNIT)
        assert [handle.exception() for handle in handles] == [None, None]
        assert np.array_equal(await bob.recv("Alice"), array)
        assert await bob.recv("Alice") == "last"


async def test_everybody_who_waits_is_told() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        waiting = [
            asyncio.ensure_future(bob.recv("Alice")),
            asyncio.ensure_future(bob.recv("Alice", "x")),
            asyncio.ensure_future(bob.recv_all()),
            carol.arecv("Alice"),
        ]
        await asyncio.sleep(0)
        await alice.shutdown()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, PartyShutDownError)
            assert f"from Alice ({LOCAL}:{alice.port}): it has shut down" in str(result)
            assert "wait_ready()" in str(result)
        # Those who ask later as well, and the others go on.
        with pytest.raises(PartyGoneError):
            await bob.recv("Alice")
        with pytest.raises(ConnectionError):
            await bob.send("Alice", 1)
        await bob.send("Carol", 1)
        assert await carol.recv("Bob") == 1


async def test_what_a_party_sent_before_it_shut_down_can_still_be_received() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        await alice.send("Bob", 2, "x")
        await alice.shutdown()
        assert await bob.recv("Alice") == 1
        with pytest.raises(PartyShutDownError):
            await bob.recv("Alice")
        assert await bob.recv("Alice", "x") == 2


async def test_calls_on_the_pool_that_shuts_down_end() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        waiting = [asyncio.ensure_future(alice.recv("Bob")), alice.arecv("Bob", "x")]
        await asyncio.sleep(0)
        await alice.shutdown()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, PoolClosedError)


# -- not shut down at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["return", "raise", "task", "with"])
def test_a_loop_that_ends_before_its_pool_says_what_is_lost(
    end: str, loop_factory: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    """After all tasks, one of which may shut the pool down as it is cancelled."""
    log = Log(caplog)
    tasks = []

    async def use(pool: Pool) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await pool.shutdown(0)

    async def main() -> None:
        pool = Pool(name="Alice")
        pool.add_http_client("Bob", LOCAL, 9)
        if end == "with":
            async with pool:
                return
        pool.asend("Bob", 1)
        pool.asend("Bob", 2, "x")
        if end == "task":
            tasks.append(asyncio.ensure_future(use(pool)))
            await asyncio.sleep(0)
        elif end == "raise":
            raise ZeroDivisionError

    with asyncio.Runner(loop_factory=loop_factory) as runner, suppress(ZeroDivisionError):
        runner.run(main())
    lines = log.lines("was not shut down before", logging.WARNING)
    if end in ("task", "with"):
        assert not lines
        return
    (line,) = lines
    assert "2 messages to Bob (127.0.0.1:9) could not be delivered: #0, 'x'; Bob did not hear of the end" in line
    assert "Leave a pool by `async with`, or await its shutdown()" in line


async def test_one_that_has_delivered_all_and_is_not_shut_down_says_who_may_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1
        alice._engine.ending.tell_if_missed()  # as the end of the loop does
        (line,) = log.lines("was not shut down before", logging.WARNING)
        assert "Bob did not hear of the end, and may wait for this party" in line
        await bob.shutdown()
        await until(lambda: alice._engine.party("Bob").link.ending is not None)
        alice._engine.ending._missed_told = False
        alice._engine.ending.tell_if_missed()
        assert log.lines("was not shut down before", logging.WARNING) == [line], "one that has ended waits for nobody"


def test_a_pool_without_parties_to_tell_needs_no_end(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)

    async def main() -> None:
        pool = Pool(name="Alice")
        pool.add_http_client("Bob", LOCAL, 9)
        with pytest.raises(TimeoutError):
            await pool.recv("Bob", timeout=0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert not log.lines("was not shut down before")


async def on_a_slow_line(size: int) -> tuple[Pool, Pool]:
    """Alice, and Bob, to whom a message of so many bytes is under way, at 1 MB/s."""
    network = MemoryNetwork(rate=10**6)
    alice, bob = Pool(name="Alice", network=network), Pool(name="Bob", network=network)
    network.connect(alice, bob)
    await asyncio.gather(alice.wait_ready(), bob.wait_ready())
    alice.asend("Bob", bytes(size))
    return alice, bob


async def test_shutdown_waits_for_what_gets_through(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice, bob = await on_a_slow_line(2_500_000)
    ending = asyncio.ensure_future(alice.shutdown(linger=1))
    line = await log.seen("is ending", logging.WARNING)
    assert "has 1 message to get (it is connected, and gets more time as long as it takes some of the" in line
    assert len(await bob.recv("Alice")) == 2_500_000
    await ending
    assert not log.lines("could not be delivered")
    await bob.shutdown()


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("end", ["shutdown", "abort"])
async def test_behind_one_that_does_not_arrive_none_of_the_same_id_is_delivered(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It can't be received, though all of it is there; so its sender must not believe that."""
    log = Log(caplog)
    network = MemoryNetwork(rate=10**6)
    alice, bob = Pool(name="Alice", network=network), Pool(name="Bob", network=network)
    network.connect(alice, bob)
    await asyncio.gather(alice.wait_ready(), bob.wait_ready())
    large = alice.asend("Bob", bytes(10**7), "x")
    behind, other = alice.asend("Bob", "behind", "x"), alice.asend("Bob", "other", "y")
    await asyncio.wait_for(other, 50 * UNIT)
    assert await bob.recv("Alice", "y") == "other"
    assert not large.done()
    assert not behind.done()
    if end == "shutdown":
        await alice.shutdown(linger=0)
    else:
        await alice.abort("enough")
    (line,) = log.lines("'x'", logging.WARNING)
    assert "2 messages" in line
    for future in (large, behind):
        with pytest.raises(PoolClosedError):
            await future
    with pytest.raises(PartyShutDownError if end == "shutdown" else PartyAbortedError):
        await bob.recv("Alice", "x")
    await bob.shutdown(0)


async def test_shutdown_says_that_it_was_cut_short_on_a_slow_line(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice, bob = await on_a_slow_line(10**7)
    await alice.shutdown(linger=0)
    (line,) = log.lines("could not be delivered", logging.WARNING)
    assert "(it is connected; it took no more of them for as long as `linger`, or the end was cut short)" in line
    with pytest.raises(PartyShutDownError):
        await bob.recv("Alice")
    await bob.shutdown(0)


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("end", ["abort", "shutdown"])
async def test_the_end_is_heard_of_by_one_that_is_busy_while_something_large_is_under_way(end: str) -> None:
    """What it does not read stands in the way of the last word."""
    with SyncPool(name="Alice", settings=Settings(linger=1)) as alice:
        async with Pool(name="Bob") as bob:
            for pool in (alice, bob):
                pool.add_http_server(0, LOCAL)
            alice.add_http_client("Bob", LOCAL, bob.port)
            bob.add_http_client("Alice", LOCAL, alice.port)
            await bob.wait_ready()
            handle = alice.asend("Bob", bytes(30_000_000))
            connections = alice.pool._engine.parties["Bob"].connections

            def give_up() -> None:
                deadline = time.monotonic() + 2
                while not (connections.only and connections.only._full) and time.monotonic() < deadline:
                    time.sleep(0.01)  # until the system takes no more
                (alice.abort if end == "abort" else alice.shutdown)()

            ending = threading.Thread(target=give_up)
            ending.start()
            time.sleep(3)  # noqa: ASYNC251 - Bob's loop stands still, for longer than the pool lingers
            if end == "abort":
                with pytest.raises(PartyAbortedError):
                    await bob.recv("Alice", timeout=100 * UNIT)
                assert handle.exception() is not None
            else:
                assert len(await bob.recv("Alice")) == 30_000_000
            await asyncio.to_thread(ending.join)


async def test_shutdown_names_what_it_could_not_deliver(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice = Pool(settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    handles = [alice.asend("Bob", 1), alice.asend("Bob", 2, "named")]
    await alice.shutdown(UNIT)
    (line,) = log.lines("could not be delivered", logging.WARNING)
    assert line == f"Bob ({LOCAL}:1): 2 messages could not be delivered: #0, 'named' (connection refused)"
    assert all(isinstance(handle.exception(), PoolClosedError) for handle in handles)


@pytest.mark.parametrize("connected", [False, True])
async def test_an_abort_names_once_what_was_not_confirmed(connected: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A send that fails because its own pool gives up is no failure that the program has to look at: it knows why."""
    log = Log(caplog)
    async with pools("Alice", "Bob", settings=quick(Limits(box_messages=1))) as (alice, bob):
        alice.add_http_client("Carol", LOCAL, 1)
        name, port = ("Bob", bob.port) if connected else ("Carol", 1)
        if connected:
            await alice.send(name, "the only one that the box takes")
        handles = [alice.asend(name, number, f"late {number}") for number in range(20)]
        link = alice._engine.parties[name].link
        await until(lambda: bool(link.sender.held_back) is connected)
        where = f"{name} ({LOCAL}:{port})"
        await alice.abort("enough", linger=2 * UNIT)
        (line,) = log.lines("late 0", logging.WARNING)
        assert line.startswith(
            f"{where}: 20 messages were under way when this pool gave up, and may not have arrived: "
        )
        assert line.endswith(
            "(its box is full: it has to receive what is there first)" if connected else "(connection refused)"
        )
        assert len(log.lines(f"{where}: sent ", logging.INFO)) == 1
        assert not log.lines("failed, and")
        assert all(isinstance(handle.exception(), PoolClosedError) for handle in handles)


@pytest.mark.parametrize("end", ["shutdown", "abort"])
async def test_an_end_that_takes_long_says_for_whom(
    end: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpccomm.engine.ending._PATIENT", UNIT)
    log = Log(caplog)
    alice = Pool(settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    alice.asend("Bob", 1)
    alice.asend("Bob", 2)
    ending = asyncio.ensure_future(alice.shutdown(1000) if end == "shutdown" else alice.abort("enough", linger=1000))
    line = await log.seen("is ending", logging.WARNING)
    assert line == (
        f"this pool is ending, and waits up to 1000 s more: Bob ({LOCAL}:1) has 2 messages to get (connection refused). "
        "An interrupt (Ctrl-C) ends it at once"
    )
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending


async def test_shutdown_names_what_was_never_received_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        for number in range(3):
            await alice.send("Bob", number)
        await alice.send("Bob", "x", "named")
        assert await bob.recv("Alice") == 0
        await bob.shutdown()
        (line,) = log.lines("shut down without receiving everything", logging.WARNING)
        assert line.startswith(
            f"this pool was shut down without receiving everything from Alice ({LOCAL}:{alice.port}); "
        )
        assert line.endswith("here from it are #1, #2, 'named'")
        line = await log.seen("never received", logging.WARNING)
        assert line.startswith(f"Bob ({LOCAL}:{bob.port}) ")
        assert "3 of our messages: #1, #2, 'named'" in line


async def test_a_sender_that_waits_longer_than_the_linger(caplog: pytest.LogCaptureFixture) -> None:
    alice = Pool(settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    alice.asend("Bob", 1).cancel()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await alice.shutdown(2 * UNIT)
    assert 2 * UNIT <= loop.time() - start < 10 * UNIT


async def test_shutdown_without_anything_to_deliver_is_quick() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(alice.shutdown(100 * UNIT), bob.shutdown(100 * UNIT))
        assert loop.time() - start < 5 * UNIT


async def test_shutdown_of_one_that_nobody_answers_is_quick() -> None:
    pool = Pool(settings=quick())
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, 1)
    async with pool:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await pool.shutdown(100 * UNIT)
        assert loop.time() - start < 5 * UNIT


# -- again -------------------------------------------------------------------------------------------------------------


async def test_a_script_run_again_is_a_first_contact() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for run in range(3):
            await alice.send("Bob", run)
            await alice.send("Bob", -run, "x")
            assert await bob.recv("Alice") == run
            assert await bob.recv("Alice", "x") == -run
            await bob.send("Alice", "back")
            assert await alice.recv("Bob") == "back"
            await alice.shutdown()
            alice = await again(alice, ("Bob", bob))
        await alice.shutdown()


async def test_waiting_for_one_that_shut_down_to_come_back() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1
        await alice.shutdown()
        with pytest.raises(PartyShutDownError):
            await bob.recv("Alice")
        ready = asyncio.ensure_future(bob.wait_ready(100 * UNIT))
        await asyncio.sleep(UNIT)
        assert not ready.done()
        alice = await again(alice, ("Bob", bob))
        await ready
        await bob.send("Alice", 2)
        assert await alice.recv("Bob") == 2
        await alice.shutdown()


async def test_two_runs_never_mix_their_messages() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "old 0")
        await alice.send("Bob", "old 1")
        await alice.shutdown()
        alice = await again(alice, ("Bob", bob))
        sending = asyncio.ensure_future(alice.send("Bob", "new 0"))
        await until(lambda: bob._engine.party("Alice").link.state is PartyState.RESTARTED)
        # What the first run left is read first; that another follows is told, not guessed.
        assert await bob.recv("Alice") == "old 0"
        assert await bob.recv("Alice") == "old 1"
        with pytest.raises(PartyRestartedError):
            await bob.recv("Alice")
        assert not sending.done()
        bob.accept_restart("Alice")
        assert await bob.recv("Alice") == "new 0"
        await sending
        await alice.shutdown()


async def test_waiting_until_all_are_ready_ends_where_one_was_restarted(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "unread")
        await crashed(alice)
        # Nobody is there whom this could be about: it is said, and changes nothing.
        bob.accept_restart("Alice")
        await log.seen("there is no restart to accept", logging.WARNING)
        ready = asyncio.ensure_future(bob.wait_ready())
        alice = await again(alice, ("Bob", bob))
        sending = asyncio.ensure_future(alice.send("Bob", "new"))
        for wait in (ready, bob.wait_ready(100 * UNIT), bob.wait_ready(handler_names=["Alice"])):
            with pytest.raises(PartyRestartedError, match=r"was restarted .* accept_restart\('Alice'\)"):
                await wait
        assert await bob.recv("Alice") == "unread"
        bob.accept_restart("Alice")
        await bob.wait_ready(100 * UNIT)
        assert await bob.recv("Alice") == "new"
        await sending
        await alice.shutdown()


@pytest.mark.usefixtures("both_loops")
async def test_an_abort_is_heard_of_where_the_connection_is_cut_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Link.abort

    def abort(link: Link, reason: str) -> None:
        original(link, reason)
        if link is alice._engine.party("Bob").link:
            alice._engine.party("Bob").connections.abort()

    monkeypatch.setattr(Link, "abort", abort)
    async with pools("Alice", "Bob") as (alice, bob):
        receiving = bob.arecv("Alice")
        await alice.abort("enough")
        with pytest.raises(PartyAbortedError, match="enough"):
            await asyncio.wait_for(receiving, LIMIT)


@pytest.mark.parametrize("how", ["shutdown", "abort"])
async def test_one_whose_restart_is_accepted_after_its_end_is_gone(how: str) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "unread")
        await crashed(alice)
        alice = await again(alice, ("Bob", bob))
        sending = asyncio.ensure_future(alice.send("Bob", "new"))
        await until(lambda: bob._engine.party("Alice").link.state is PartyState.RESTARTED)
        await (alice.abort("enough", linger=UNIT) if how == "abort" else alice.shutdown(linger=UNIT))
        await asyncio.wait((sending,))
        sending.exception()
        bob.accept_restart("Alice")
        with pytest.raises(PartyAbortedError if how == "abort" else PartyShutDownError):
            assert await bob.recv("Alice") == "unread"
            await bob.recv("Alice", timeout=30 * UNIT)


async def test_a_restart_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await alice.send("Bob", "unread")
        await bob.send("Alice", "lost with it")
        waiting = [asyncio.ensure_future(bob.recv("Alice", "x")), carol.arecv("Alice")]
        await asyncio.sleep(0)
        await crashed(alice)
        alice = await again(alice, ("Bob", bob), ("Carol", carol))
        sending = asyncio.ensure_future(alice.send("Bob", "new"))
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, PartyRestartedError)
            assert f"Alice ({LOCAL}:{alice.port}): it was restarted" in str(result)
            assert "accept_restart('Alice')" in str(result)
        await log.seen("waits until its program calls accept_restart", logging.WARNING)
        assert not sending.done()
        with pytest.raises(PartyRestartedError):
            await bob.send("Alice", 1)
        assert await bob.recv("Alice") == "unread"
        with pytest.raises(PartyRestartedError):
            await bob.recv("Alice")
        bob.accept_restart("Alice")
        await sending
        assert await bob.recv("Alice") == "new"
        await bob.send("Alice", "to the new one")
        assert await alice.recv("Bob") == "to the new one"
        await alice.shutdown()


async def test_accepting_what_was_not_restarted_changes_nothing() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        bob.accept_restart("Alice")
        assert await bob.recv("Alice") == 1
        await alice.send("Bob", 2)
        assert await bob.recv("Alice") == 2


async def test_accepting_drops_what_is_unread(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "unread")
        await crashed(alice)
        alice = await again(alice, ("Bob", bob))
        await until(lambda: bob._engine.party("Alice").link.state is PartyState.RESTARTED)
        bob.accept_restart("Alice")
        assert log.lines("of the old process 1 message is dropped")
        await alice.send("Bob", "new")
        assert await bob.recv("Alice") == "new"
        await alice.shutdown()


# -- abort -------------------------------------------------------------------------------------------------------------


async def test_abort_reaches_everybody_with_its_reason() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        waiting = [asyncio.ensure_future(bob.recv("Alice")), carol.arecv("Alice")]
        await asyncio.sleep(0)
        await alice.abort("the shares don't add up")
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, PartyAbortedError)
            assert result.reason == "the shares don't add up"
            assert f"Alice ({LOCAL}:{alice.port}): it has aborted: the shares don't add up" in str(result)
        with pytest.raises(PartyAbortedError):
            await bob.send("Alice", 1)
        with pytest.raises(PoolClosedError):
            await alice.send("Bob", 1)


async def test_abort_reaches_one_that_something_was_sent_to_and_that_was_not_connected_yet() -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    waiting = bob.arecv("Alice", "never sent")
    handle = alice.asend("Bob", 1)
    await alice.abort("boom")
    with pytest.raises(PartyAbortedError, match="boom"):
        await waiting
    assert isinstance(handle.exception(), PoolClosedError)
    # One that nothing was sent to is not waited for.
    lonely = Pool(settings=quick())
    lonely.add_http_server(0, LOCAL)
    lonely.add_http_client("nobody", LOCAL, 9)
    started = time.monotonic()
    await lonely.abort("boom")
    assert time.monotonic() - started < 10 * UNIT
    await bob.shutdown()


@pytest.mark.parametrize("end", ["abort", "shutdown"])
@pytest.mark.parametrize("second", ["Alice", "Bob"])
@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("both_loops")
async def test_one_that_waits_and_was_not_met_yet_hears_of_the_end(
    end: str, second: str, face: type[Pool] | type[SyncPool]
) -> None:
    """Whoever of the two is to dial first: a pool that ends at once gives that its time."""
    alice, bob = Pool(name="Alice", settings=quick()), face(name="Bob", settings=quick())
    # The one with the higher port gives way.
    ports = sorted(free_ports(2), reverse=second == "Alice")
    for pool, port, name, other in ((alice, ports[0], "Bob", ports[1]), (bob, ports[1], "Alice", ports[0])):
        pool.add_http_server(port, LOCAL)
        pool.add_http_client(name, LOCAL, other)
        assert pool._engine.party(name).gives_way is (pool.name == second)
    waiting = alice.arecv("Bob")
    await (getattr(bob, end)() if isinstance(bob, Pool) else asyncio.to_thread(getattr(bob, end)))
    with pytest.raises(PartyAbortedError if end == "abort" else PartyGoneError):
        await waiting
    await alice.shutdown()


@pytest.mark.parametrize("end", ["abort", "shutdown"])
async def test_one_that_has_come_since_the_last_dial_hears_of_the_end(end: str) -> None:
    """That it was dialled in vain before says nothing: as the pool ends, it is dialled at once, however long the pause would be."""
    ours, theirs = sorted(free_ports(2))
    patient = replace(quick(), retry=Retry(first=1000, cap=1000, give_way=1000))
    bob = Pool(name="Bob", settings=patient)
    bob.add_http_server(ours, LOCAL)
    bob.add_http_client("Alice", LOCAL, theirs)
    party = bob._engine.party("Alice")
    await until(lambda: party.failed_dials)
    # Alice does not dial: she hears of it by Bob's dial, or never.
    alice = Pool(name="Alice", settings=patient)
    alice.add_http_server(theirs, LOCAL)
    alice.add_http_client("Bob", LOCAL, ours)
    assert alice._engine.party("Bob").gives_way
    waiting = alice.arecv("Bob")
    await getattr(bob, end)()
    with pytest.raises(PartyAbortedError if end == "abort" else PartyGoneError):
        await waiting
    await alice.shutdown(0)


@pytest.mark.parametrize("end", ["abort", "shutdown"])
@pytest.mark.parametrize("gone", [10.0, 30.0, 40.0])
@pytest.mark.parametrize("seed", range(10))
def test_one_that_is_cut_off_as_the_other_ends_hears_of_it_within_what_that_lingers(
    end: str, gone: float, seed: int
) -> None:
    # All longer than by default, so that a busy machine changes nothing: what it computes takes its time.
    network, settings = MemoryNetwork(seed), Settings(retry=Retry(cap=60))

    async def main() -> None:
        alice, bob = (Pool(name=name, network=network, settings=settings) for name in ("Alice", "Bob"))
        network.connect(alice, bob)
        await asyncio.gather(alice.wait_ready(LIMIT), bob.wait_ready(LIMIT))
        waiting = bob.arecv("Alice")
        network.partition("Alice")
        ending = asyncio.ensure_future(getattr(alice, end)(linger=50))
        await asyncio.sleep(gone)
        network.heal()
        async with asyncio.timeout(50 - gone):
            with pytest.raises(PartyAbortedError if end == "abort" else PartyShutDownError):
                await waiting
        await ending
        await bob.shutdown(0)

    network.run(main())


@pytest.mark.parametrize("end", ["abort", "shutdown"])
async def test_one_that_is_not_there_is_not_waited_for(end: str) -> None:
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("nobody", LOCAL, free_ports(1)[0])
    started = time.monotonic()
    await getattr(alice, end)(linger=100)
    assert time.monotonic() - started < 10 * UNIT


async def test_an_exception_that_leaves_the_with_block_is_an_abort() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = bob.arecv("Alice")
        with pytest.raises(ZeroDivisionError):
            async with alice:
                raise ZeroDivisionError("secret input was 0")
        with pytest.raises(PartyAbortedError) as caught:
            await waiting
        assert caught.value.reason == "ZeroDivisionError"
        assert "secret" not in str(caught.value)


async def test_a_with_block_that_ends_well_is_a_shutdown() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = bob.arecv("Alice")
        async with alice:
            handle = alice.asend("Bob", "last", "x")
        assert handle.exception() is None
        with pytest.raises(PartyShutDownError):
            await waiting
        assert await bob.recv("Alice", "x") == "last"
