"""Who is who: adding parties, being recognised, starting in any order, addresses of all kinds."""

import asyncio
import logging
import socket
from dataclasses import replace
from functools import partial

import pytest

from mpccomm import (
    ConfigurationError,
    DuplicatePartyError,
    NotReadyError,
    PartyRestartedError,
    Pool,
    PortInUseError,
    SyncPool,
)
from mpccomm.protocol.states import PartyState
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        port: int = sock.getsockname()[1]
        return port


# -- the server --------------------------------------------------------------------------------------------------------


async def test_port_in_use() -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        third = Pool()
        with pytest.raises(PortInUseError, match=rf"can't listen at 127.0.0.1:{alice.port}: .*in use.*another port"):
            third.add_http_server(alice.port, LOCAL)
        assert third.port is None
        third.add_http_server(0, LOCAL)
        assert third.port not in (None, 0, alice.port)
        await third.shutdown()


async def test_an_address_that_is_not_ours() -> None:
    pool = Pool()
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0"):
        pool.add_http_server(0, "192.0.2.1")


async def test_a_port_is_free_after_shutdown() -> None:
    first = Pool()
    first.add_http_server(0, LOCAL)
    port = first.port
    await first.shutdown()
    second = Pool()
    second.add_http_server(port, LOCAL)
    await second.shutdown()


async def test_one_server_per_pool() -> None:
    pool = Pool()
    pool.add_http_server(0, LOCAL)
    with pytest.raises(ConfigurationError, match=rf"a server already, at port {pool.port}"):
        pool.add_http_server(0, LOCAL)
    await pool.shutdown()


def test_a_pool_without_a_loop() -> None:
    # Parties and server first, the loop at the first use; the port answers to nobody but is taken until then.
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    bob.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)

    async def main() -> object:
        async with alice, bob:
            sent = alice.asend("Bob", "hello")
            received = await bob.recv("Alice")
            await sent
            return received

    assert asyncio.run(main()) == "hello"


def test_a_pool_that_was_never_used_can_be_shut_down() -> None:
    pool = Pool()
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, 1)
    asyncio.run(pool.shutdown())


# -- names and addresses -----------------------------------------------------------------------------------------------


async def test_the_same_name_twice() -> None:
    pool = Pool()
    pool.add_http_client("Bob", LOCAL, 1)
    with pytest.raises(DuplicatePartyError, match=r"a party 'Bob' already, at 127\.0\.0\.1:1"):
        pool.add_http_client("Bob", LOCAL, 2)
    await pool.shutdown()


@pytest.mark.parametrize("face", [Pool, SyncPool])
async def test_the_name_of_the_pool_itself(face: type[Pool | SyncPool]) -> None:
    pool = face(name="Alice")
    with pytest.raises(ConfigurationError, match=r"^'Alice' is this pool's own name: each party needs its own"):
        pool.add_http_client("Alice", LOCAL, 1)
    assert pool.parties == ()
    pool.add_http_client("Bob", LOCAL, 2)
    assert pool.group().names == ("Alice", "Bob")
    nameless = face()
    nameless.add_http_client("Alice", LOCAL, 1)
    nameless.add_http_client("Bob", LOCAL, 2)
    for names in (None, ["Alice", "Bob"]):
        text = r"^'Alice' is this pool's own name, and the party at 127\.0\.0\.1:1 was added as 'Alice' too: "
        with pytest.raises(ConfigurationError, match=text):
            nameless.group(names, me="Alice")
    assert nameless.group(me="Carol").me == "Carol"
    with pytest.raises(ConfigurationError, match="'Carol' is this pool's own name: "):
        nameless.add_http_client("Carol", LOCAL, 3)
    with pytest.raises(ConfigurationError, match="'Dave', this party, is not in the group"):
        nameless.group(["Alice", "Bob"], me="Dave")
    nameless.add_http_client("Dave", LOCAL, 3)
    for one in (pool, nameless):
        await (asyncio.to_thread(one.shutdown, 0) if isinstance(one, SyncPool) else one.shutdown(0))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LOCAL, LOCAL),
        ("::1", "0:0::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("bob.example", "bob.example"),
        (LOCAL, "::1"),
    ],
)
async def test_two_names_for_literally_the_same_address(first: str, second: str) -> None:
    pool = Pool()
    pool.add_http_client("Bob", first, 1000)
    with pytest.raises(DuplicatePartyError, match=r"'Bobby' would be at .*1000, where 'Bob' is"):
        pool.add_http_client("Bobby", second, 1000)
    pool.add_http_client("Carol", second, 1001)
    await pool.shutdown()


async def test_two_names_for_what_turns_out_to_be_the_same_address(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", "localhost", bob.port)
    alice.add_http_client("Bobby", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    text = rf"Bob(by)? \(.*\) and Bob(by)? \(.*\) are both {LOCAL}:{bob.port}, and could not be told apart"
    for call in (alice.send("Bob", 1), alice.recv("Bobby"), alice.wait_ready()):
        with pytest.raises(ConnectionError, match=text):
            await call
    with pytest.raises(NotReadyError, match="does not recognise us"):
        await bob.wait_ready(5 * UNIT)
    assert log.lines("closed a connection from 127.0.0.1: Bob", logging.WARNING)
    await asyncio.gather(alice.shutdown(0), bob.shutdown(0))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
async def test_host_names_and_both_families(host: str) -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, "::1" if host == "::1" else LOCAL)
    alice.add_http_client("Bob", host, bob.port)
    bob.add_http_client("Alice", host, alice.port)
    await alice.send("Bob", 1)
    assert await bob.recv("Alice") == 1
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_one_server_for_both_families() -> None:
    alice, bob, carol = (Pool(settings=quick()) for _ in range(3))
    alice.add_http_server(0, "::")
    bob.add_http_server(0, LOCAL)
    carol.add_http_server(0, "::1")
    alice.add_http_client("Bob", LOCAL, bob.port)
    alice.add_http_client("Carol", "::1", carol.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    carol.add_http_client("Alice", "::1", alice.port)
    await asyncio.gather(*(pool.wait_ready(100 * UNIT) for pool in (alice, bob, carol)))
    await asyncio.gather(*(pool.shutdown() for pool in (alice, bob, carol)))


@pytest.mark.parametrize("addr", ["192.0.2.7", "2001:db8::1", "hospital.example"])
async def test_plain_http_beyond_loopback_warns_once(addr: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    pool = Pool()
    for port, addr_here in enumerate((LOCAL, "::1", "localhost", "127.8.8.8"), start=1):
        pool.add_http_client(addr_here, addr_here, port)
    assert not log.lines("", logging.WARNING)
    pool.add_http_client("Bob", addr, 2)
    pool.add_http_client("Carol", addr, 3)
    (line,) = log.lines("", logging.WARNING)
    assert line.startswith("Bob (")
    for word in ("plain HTTP", "key=", "cert=", "ca_cert="):
        assert word in line
    await pool.shutdown()


# -- starting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sender", "receiver"])
async def test_whoever_starts_first(first: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    port = closed_port()
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, port)
    waiting = asyncio.ensure_future(alice.send("Bob", "hello") if first == "sender" else alice.recv("Bob"))
    line = await log.seen("waiting for", logging.WARNING)
    assert line.startswith(f"waiting for Bob ({LOCAL}:{port}), which may start later: connection refused")
    bob = Pool(settings=quick())
    bob.add_http_server(port, LOCAL)
    bob.add_http_client("Alice", LOCAL, alice.port)
    if first == "sender":
        assert await bob.recv("Alice") == "hello"
    else:
        await bob.send("Alice", "hello")
    assert await waiting == (None if first == "sender" else "hello")
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_a_party_that_is_silent_is_missing_before_the_first_attempt_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(caplog)
    with socket.create_server((LOCAL, 0)) as silent:
        alice = Pool(settings=replace(quick(), retry=replace(quick().retry, connect_timeout=100 * UNIT)))
        alice.add_http_client("Bob", LOCAL, silent.getsockname()[1])
        handle = alice.asend("Bob", 1)
        line = await log.seen("waiting for Bob", logging.WARNING)
        assert line.endswith("which may start later: no answer yet (1 message to deliver)")
        assert alice._engine.party("Bob").failed_dials == 0
        await alice.shutdown(0)
        assert handle.exception() is not None


async def test_the_line_about_a_missing_party_repeats_rarely(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice = Pool(settings=quick())  # first after 2 units, then 4, 8, ...
    alice.add_http_client("Bob", LOCAL, closed_port())
    handle = alice.asend("Bob", 1)
    await until(lambda: len(log.lines("waiting for Bob")) == 3)
    times = [record.created for record in caplog.records if "waiting for Bob" in record.getMessage()]
    assert times[1] - times[0] >= 2 * UNIT * 0.9
    assert times[2] - times[1] >= 4 * UNIT * 0.9
    assert "1 message to deliver" in log.lines("waiting for Bob")[0]
    await alice.shutdown(0)
    assert handle.exception() is not None


async def test_many_missing_parties_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice = Pool(settings=quick())
    port = closed_port()
    names = [f"party {number}" for number in range(50)]
    for number, name in enumerate(names):
        alice.add_http_client(name, f"127.0.1.{number + 1}", port)
    handles = [alice.asend(name, 1) for name in names]
    line = await log.seen("50 parties can't be reached: waiting for party 0 (127.0.1.1:", logging.WARNING)
    assert line.endswith("; and 42 more")
    # They came to be missing one after the other.
    assert len(log.lines("", logging.WARNING)) <= 10
    await alice.shutdown(0)
    (line,) = log.lines("could not be delivered")
    assert line.startswith("50 parties did not get everything: party 0 (127.0.1.1:")
    assert all(handle.exception() is not None for handle in handles)


async def test_a_party_that_nobody_waits_for_is_not_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, closed_port())
    party = alice._engine.party("Bob")
    await until(lambda: party.failed_dials > 3)
    assert not log.lines("", logging.WARNING)
    await alice.shutdown(0)


async def test_a_party_that_only_dials() -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, closed_port())  # what she dials there never answers
    bob.add_http_client("Alice", LOCAL, alice.port)
    await asyncio.gather(alice.wait_ready(100 * UNIT), bob.wait_ready(100 * UNIT))
    await alice.send("Bob", "down")
    await bob.send("Alice", "up")
    assert (await bob.recv("Alice"), await alice.recv("Bob")) == ("down", "up")
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_two_parties_behind_one_address_need_servers() -> None:
    # Without a port of their own there is nothing by which to tell them apart.
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, closed_port())
    alice.add_http_client("Carol", LOCAL, closed_port())
    bob.add_http_client("Alice", LOCAL, alice.port)
    with pytest.raises(NotReadyError, match="does not recognise us"):
        await bob.wait_ready(5 * UNIT)
    await asyncio.gather(alice.shutdown(0), bob.shutdown(0))


async def test_both_dial_at_once() -> None:
    for _ in range(10):
        async with pools("Alice", "Bob") as (alice, bob):
            await asyncio.gather(*(alice.send("Bob", i) for i in range(20)), *(bob.send("Alice", i) for i in range(20)))
            assert [await bob.recv("Alice") for _ in range(20)] == list(range(20))
            assert [await alice.recv("Bob") for _ in range(20)] == list(range(20))
            # Of two connections one is given up, and that is no reconnect.
            party = alice._engine.party("Bob")
            await until(lambda party=party: len(party.connections._streams) == 1)  # type: ignore[misc]
            assert alice.stats["Bob"].reconnects == bob.stats["Alice"].reconnects == 0


async def test_a_party_added_while_others_talk() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        carol = Pool(settings=quick())
        carol.add_http_server(0, LOCAL)
        carol.add_http_client("Alice", LOCAL, alice.port)
        sent = carol.asend("Alice", "hello")
        await alice.send("Bob", 1)
        alice.add_http_client("Carol", LOCAL, carol.port)
        assert await alice.recv("Carol") == "hello"
        await sent
        assert await bob.recv("Alice") == 1
        await carol.shutdown()


# -- readiness ---------------------------------------------------------------------------------------------------------


async def test_wait_ready_names_each_missing_party_with_its_cause() -> None:
    stranger = Pool(settings=quick())  # it listens, and knows nobody
    stranger.add_http_server(0, LOCAL)
    await stranger.__aenter__()
    mute = socket.create_server((LOCAL, 0), backlog=1)  # it takes connections, and says nothing
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    refusing = closed_port()
    alice.add_http_client("Refusing", LOCAL, refusing)
    alice.add_http_client("Nameless", "no-such-host.invalid", 80)
    alice.add_http_client("Stranger", LOCAL, stranger.port)
    alice.add_http_client("Mute", LOCAL, mute.getsockname()[1])
    with pytest.raises(NotReadyError) as caught:
        await alice.wait_ready(20 * UNIT)
    missing = caught.value.missing
    assert missing.keys() == {"Refusing", "Nameless", "Stranger", "Mute"}
    with pytest.raises(NotReadyError, match=r"does not recognise us: add this party there, [^?]*$"):
        await alice.wait_ready(0, ["Stranger"])
    assert missing["Refusing"] == f"{LOCAL}:{refusing}: connection refused"
    assert missing["Nameless"] == "no-such-host.invalid:80: its host name can't be resolved"
    assert missing["Stranger"].startswith(f"{LOCAL}:{stranger.port}: it does not recognise us")
    assert missing["Mute"].endswith("no answer yet")
    for name, cause in missing.items():
        assert f"{name} at {cause}" in str(caught.value)
    assert str(caught.value).endswith(". Are they running, and are addresses and ports right on all sides?")
    assert isinstance(caught.value, TimeoutError)
    mute.close()
    await asyncio.gather(alice.shutdown(0), stranger.shutdown(0))


async def test_who_gives_up_on_a_party_that_is_not_there_is_told_what_to_look_at() -> None:
    step = "Is Bob running, and are address and port right on both sides?"
    no_server = "No party can call this pool, as it has no server: add_http_server."
    async with Pool(settings=quick()) as alice:
        for name in ("Bob", "Carol"):
            alice.add_http_client(name, LOCAL, closed_port())
        for call in (
            alice.wait_ready(UNIT, ["Bob"]),
            alice.recv("Bob", timeout=UNIT),
            alice.send("Bob", 1, timeout=UNIT),
        ):
            with pytest.raises(TimeoutError) as caught:
                await call
            assert str(caught.value).endswith(f". {step} {no_server}")
        with pytest.raises(TimeoutError, match=f"Are they running.*[?] {no_server}$"):
            await alice.recv_all(timeout=UNIT)
        alice.add_http_server(0, LOCAL)
        with pytest.raises(TimeoutError, match=r"right on both sides\?$"):
            await alice.recv("Bob", timeout=UNIT)
        await alice.abort()


async def test_a_party_without_a_server_is_not_dialled() -> None:
    async with Pool(settings=quick()) as alice:
        alice.add_http_client("Bob", LOCAL, 0)
        with pytest.raises(NotReadyError, match=r"Bob at .*: it has no server \(port 0\), and has not called"):
            await alice.wait_ready(5 * UNIT)


async def test_wait_ready_is_about_both_directions() -> None:
    # Bob knows Alice under another port: he can't tell who calls, whatever she dials.
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, closed_port())
    for pool, trouble in ((alice, "does not recognise us"), (bob, "refused")):
        found = ""
        while trouble not in found:  # it takes a moment to find out
            with pytest.raises(NotReadyError) as error:
                await pool.wait_ready(UNIT)
            found = str(error.value)
    await asyncio.gather(alice.shutdown(0), bob.shutdown(0))


async def test_wait_ready_can_be_cancelled_and_repeated() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        await alice.wait_ready(0.001)
        alice.add_http_client("Carol", LOCAL, closed_port())
        waiting = asyncio.ensure_future(alice.wait_ready())
        await asyncio.sleep(UNIT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(NotReadyError, match="Carol") as caught:
            await alice.wait_ready(UNIT)
        assert caught.value.missing.keys() == {"Carol"}


async def test_a_pool_that_dials_itself(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    pool = Pool(settings=quick())
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Me", LOCAL, pool.port)
    with pytest.raises(NotReadyError, match="Me at"):
        await pool.wait_ready(5 * UNIT)
    line = log.lines("Me (127.0.0.1", logging.WARNING)[0]
    assert line.endswith("that is the address of this pool itself; give that party's own")
    await pool.shutdown(0)


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("shut down", r"Bob at .*: it has shut down; "),
        ("aborted", r"Bob at .*: it has aborted: enough; "),
        (
            "restarted",
            r"no connection with Bob \(.*\): it was restarted and knows nothing .* call accept_restart\('Bob'\)$",
        ),
        ("kept out", r"Bob at .*: it is kept out: .*; to let it in again: readmit\('Bob'\)$"),
    ],
)
async def test_why_a_party_is_not_ready_is_said_where_it_is_known(
    face: type[Pool | SyncPool], end: str, text: str
) -> None:
    alice, bob = face(name="Alice", settings=quick()), Pool(name="Bob", settings=quick())

    async def wait_ready(limit: float) -> None:
        await (alice.wait_ready(limit) if isinstance(alice, Pool) else asyncio.to_thread(alice.wait_ready, limit))

    alice.add_http_server(0, LOCAL)
    bob.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    party = alice._engine.party("Bob")
    try:
        await wait_ready(50 * UNIT)
        if end == "kept out":
            party.reputation._limit = 1  # as of one with a certificate
            alice._engine.loop_owner.post(partial(party.offended, "nonsense"))
            await until(lambda: party.closed)
        else:
            await bob.send("Alice", "never received")
            await (bob.abort("enough") if end == "aborted" else bob.shutdown())
            await until(lambda: party.link.ending)
        if end == "restarted":
            again = Pool(name="Bob", settings=quick())
            again.add_http_server(bob.port, LOCAL)
            again.add_http_client("Alice", LOCAL, alice.port)
            bob = again
            await until(lambda: party.link.state is PartyState.RESTARTED)
        with pytest.raises(PartyRestartedError if end == "restarted" else NotReadyError, match=text):
            await wait_ready(UNIT / 10)
    finally:
        await asyncio.gather(
            bob.shutdown(0), alice.shutdown(0) if isinstance(alice, Pool) else asyncio.to_thread(alice.shutdown, 0)
        )
