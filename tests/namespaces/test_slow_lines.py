"""Lines that are slow, or shared by many: what moves is left alone, and all of it arrives in about the time that it takes."""

from pathlib import Path

import pytest

from tests.certificates import Folder, Identity, root
from tests.namespaces.conftest import Machine
from tests.processes.actor import act
from tests.timing import LONG

Cables = tuple[Machine, Machine, Machine, Machine]
FIRST_PORT = 9000
OVERHEAD = 1.05
"""Of TCP, IP and Ethernet."""


async def carry(cables: Cables, rate: int, parties: int, size: int) -> float:
    """Have several parties send a number of bytes each over one line of a rate in bit/s: in how many times the ideal time."""
    here, _, there, _ = cables
    # As much as a router in front of such a line keeps.
    with here.narrow(f"{rate}bit", "1s"):
        times, reconnects, said = await _carry(here, there, rate, parties, size)
    # A connection from which nothing came for a while may be doubted, but it isn't given up.
    bad = ("lost", "closed a connection", "closing a connection", "exception")
    assert not [line for line in said if any(word in line for word in bad)]
    assert reconnects == 0
    return times


async def _carry(here: Machine, there: Machine, rate: int, parties: int, size: int) -> tuple[float, int, list[str]]:
    sending = f"""
    import time
    pools = []
    for number in range({parties}):
        pools.append(party(str(number), {FIRST_PORT} + number, "{here.address}"))
        pools[-1].add_http_client("Hub", "{there.address}", {FIRST_PORT})
    for pool in pools:
        pool.wait_ready(60)
    say("ready")
    start = time.monotonic()
    handles = [pool.asend("Hub", bytes({size})) for pool in pools]
    for handle in handles:
        handle.result()
    say("took", time.monotonic() - start)
    say("reconnects", sum(pool.stats["Hub"].reconnects for pool in pools))
    for pool in pools:
        pool.shutdown()
    """
    receiving = f"""
    with party("Hub", {FIRST_PORT}, "{there.address}") as pool:
        for number in range({parties}):
            pool.add_http_client(str(number), "{here.address}", {FIRST_PORT} + number)
        for name, message in pool.recv_all():
            assert len(message) == {size}, name
        say("received")
    """
    async with act(receiving, *there.within) as hub, act(sending, *here.within) as senders:
        await senders.line("ready", 100)
        took = float(await senders.line("took", 400))
        reconnects = int(await senders.line("reconnects"))
        assert (await hub.end(), await senders.end()) == (0, 0)
    ideal = parties * size * 8 / rate * OVERHEAD
    print(f"{parties} times {size} bytes over {rate} bit/s: {took:.1f} s of {ideal:.1f}, {reconnects} reconnects")  # noqa: T201
    return took / ideal, reconnects, hub.said + senders.said


@pytest.mark.timeout(120)
async def test_one_over_a_slow_line(cables: Cables) -> None:
    assert await carry(cables, 40_000, 1, 40_000) <= 1.5


@pytest.mark.timeout(120)
async def test_some_who_share_a_line(cables: Cables) -> None:
    assert await carry(cables, 1_000_000, 5, 100_000) <= 1.6


@pytest.mark.timeout(120)
async def test_a_last_word_over_a_slow_line_with_tls(cables: Cables, tmp_path: Path) -> None:
    """A record takes seconds here. Nothing is known of it before it is whole, and nothing overtakes what waits below TLS."""
    here, _, there, _ = cables
    authority, files = root(), Folder(tmp_path)
    alice_is, bob_is = authority.issue("Alice", here.address), authority.issue("Bob", there.address)

    def pool(own: Identity, where: Machine, name: str, other: Identity, at: Machine) -> str:
        return f"""
    pool = SyncPool({files.key(own)!r}, {files.cert(own)!r})
    pool.add_http_server({FIRST_PORT}, "{where.address}")
    pool.add_http_client("{name}", "{at.address}", {FIRST_PORT}, {files.cert(other)!r})
    pool.wait_ready(60)
    """

    sending = f"""
    {pool(alice_is, here, "Bob", bob_is, there)}
    for _ in range(100):
        pool.asend("Bob", bytes(4000))
    import time
    time.sleep(1)
    pool.abort("enough")
    """
    receiving = f"""
    {pool(bob_is, there, "Alice", alice_is, here)}
    received = 0
    try:
        while True:
            pool.recv("Alice")
            received += 1
    except PartyAbortedError as error:
        say("heard", received)
    pool.shutdown()
    """
    with here.narrow("80000bit", "4s"):
        async with act(receiving, *there.within) as bob, act(sending, *here.within) as alice:
            # Of 400 kB that take 40 s, those go ahead that the system had taken.
            assert int(await bob.line("heard", 100)) < 40
            assert (await alice.end(), await bob.end()) == (0, 0)
            assert not [line for line in bob.said + alice.said if "no sign of life" in line]


@LONG
@pytest.mark.timeout(600)
async def test_300_kilobytes_over_40_kilobits(cables: Cables) -> None:
    assert await carry(cables, 40_000, 1, 300_000) <= 1.3


@LONG
@pytest.mark.timeout(600)
async def test_20_who_share_a_megabit(cables: Cables) -> None:
    assert await carry(cables, 1_000_000, 20, 300_000) <= 1.5


@LONG
@pytest.mark.timeout(600)
async def test_20_behind_a_router_that_drops(routed: tuple[Machine, Machine, Machine]) -> None:
    """What TCP sends again, after pauses that double, keeps some silent for half a minute: they may be given up."""
    router, here, there = routed
    with router.narrow("1000000bit", "1s"):
        times, _, _ = await _carry(here, there, 1_000_000, 20, 300_000)
    assert times <= 1.5


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("pass", "300000 bytes"),
        ("pool.shutdown(linger=0)", "PartyShutDownError"),
        ("raise ValueError", "PartyAbortedError"),
        ("threading.Timer(1, signal.raise_signal, (signal.SIGINT,)).start(); pool.recv('Bob')", "PartyAbortedError"),
        ("threading.Timer(1, signal.raise_signal, (signal.SIGINT,)).start()", "PartyShutDownError"),
    ],
    ids=["ends", "does not linger", "fails", "is interrupted", "is interrupted as it ends"],
)
async def test_an_end_is_heard_of_whatever_is_under_way(cables: Cables, end: str, outcome: str) -> None:
    """What is sent takes three times as long as the pool lingers, or ten times: then only the end gets through."""
    here, _, there, _ = cables
    size = 300_000 if end == "pass" else 1_000_000
    sending = f"""
    import signal, threading
    pool = SyncPool(name="Alice", settings=Settings(linger=2))
    pool.add_http_server({FIRST_PORT}, "{here.address}")
    pool.add_http_client("Bob", "{there.address}", {FIRST_PORT})
    with pool:
        pool.wait_ready(60)
        handle = pool.asend("Bob", bytes({size}))
        {end}
    """
    receiving = f"""
    with party("Bob", {FIRST_PORT}, "{there.address}", Alice=("{here.address}", {FIRST_PORT})) as pool:
        try:
            say("got", len(pool.recv("Alice")), "bytes")
        except CommunicationError as error:
            say("got", type(error).__name__)
    """
    with here.narrow("400000bit", "1s"):
        async with act(receiving, *there.within) as bob, act(sending, *here.within) as alice:
            got = await bob.line("got")
            await alice.end()
            await bob.end()
            assert got == outcome, alice.said
