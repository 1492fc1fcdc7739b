"""The network in memory: who is reached through it, what goes wrong on it, and that its seed decides."""

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mpccomm import (
    CommunicationTimeoutError,
    ConfigurationError,
    Limits,
    MemoryNetwork,
    NotReadyError,
    PartyGoneError,
    Pool,
    PortInUseError,
    Retry,
    Settings,
    Stats,
    UnknownPartyError,
    WrongThreadError,
)
from mpccomm.engine.report import Report
from mpccomm.line import Line
from mpccomm.trace.record import Record
from mpccomm.transport.memory import Fault
from tests.certificates import Folder, root
from tests.pools import LOCAL, Log, quick, until
from tests.timing import UNIT

LIMIT = 100 * UNIT


@asynccontextmanager
async def introduced(
    network: MemoryNetwork, *names: str, limits: Limits | None = None, settings: Settings | None = None
) -> AsyncIterator[list[Pool]]:
    """Pools of those names that know each other."""
    made = [Pool(name=name, network=network, settings=settings or quick(limits)) for name in names]
    try:
        network.connect(*made)
        yield made
    finally:
        await asyncio.gather(*(pool.shutdown(LIMIT) for pool in made))


async def talk(network: MemoryNetwork, messages: int = 25) -> list[Fault]:
    """Alice and Bob in turns, over small frames. What went wrong."""
    async with introduced(network, "alice", "bob", limits=Limits(frame_size=4096)) as (alice, bob):
        for number in range(messages):
            await alice.send("bob", (number, bytes(3000)))
            assert await bob.recv("alice") == (number, bytes(3000))
            await bob.send("alice", (bytes(3000), number))
            assert await alice.recv("bob") == (bytes(3000), number)
        for pool, other in ((alice, "bob"), (bob, "alice")):
            with pytest.raises(TimeoutError):
                await pool.recv(other, timeout=0)
    return network.faults


# -- who is reached ----------------------------------------------------------------------------------------------------


async def test_ports_and_addresses_are_those_of_the_network() -> None:
    network, elsewhere = MemoryNetwork(), MemoryNetwork()
    alice, bob, carol = (Pool(network=each, settings=quick()) for each in (network, network, elsewhere))
    for pool, port in ((alice, 443), (bob, 0), (carol, 443)):
        pool.add_http_server(port)
    assert alice.port == carol.port == 443
    with pytest.raises(PortInUseError, match="443"):
        Pool(network=network).add_http_server(443)
    alice.add_http_client("bob", "localhost", bob.port)
    bob.add_http_client("alice", LOCAL, 443)
    await asyncio.gather(alice.wait_ready(LIMIT), bob.wait_ready(LIMIT))
    await asyncio.gather(*(pool.shutdown() for pool in (alice, bob, carol)))
    # Its port is free again.
    again = Pool(network=network)
    again.add_http_server(443)
    await again.shutdown()


async def test_nobody_is_reached_outside() -> None:
    async with introduced(MemoryNetwork(), "alice", "bob") as (alice, _):
        alice.add_http_client("nobody", LOCAL, 9)
        alice.add_http_client("far", "192.0.2.1", 80)
        with pytest.raises(NotReadyError) as caught:
            await alice.wait_ready(10 * UNIT)
        assert "refused" in caught.value.missing["nobody"]
        assert "not in this network" in caught.value.missing["far"]
        assert "bob" not in caught.value.missing


async def test_a_stranger_is_sent_away(caplog: pytest.LogCaptureFixture) -> None:
    network, log = MemoryNetwork(), Log(caplog)
    async with introduced(network, "alice", "bob") as (alice, _):
        mallory = Pool(name="mallory", network=network, settings=quick())
        mallory.add_http_server(0)
        mallory.add_http_client("alice", LOCAL, alice.port)
        with pytest.raises(NotReadyError, match="does not recognise us"):
            await mallory.wait_ready(10 * UNIT)
        assert log.lines(f"no party was added as {LOCAL}:{mallory.port}")
        await mallory.shutdown(0)


def test_neither_certificates_nor_another_wire(tmp_path: Path) -> None:
    certificate = root().issue("Alice", LOCAL)
    files = Folder(tmp_path)
    with pytest.raises(ConfigurationError, match="no certificates in this network"):
        Pool(files.key(certificate), files.cert(certificate), network=MemoryNetwork())
    with pytest.raises(ConfigurationError, match="'mpccomm'"):
        Pool(network=MemoryNetwork()).add_http_client("bob", LOCAL, 1, wire="tno4")


@pytest.mark.parametrize("names", [("alice", None), ("alice", "alice")])
def test_whom_to_connect_has_to_be_clear(names: tuple[str, str | None]) -> None:
    network = MemoryNetwork()
    with pytest.raises(ConfigurationError, match="name of its own"):
        network.connect(*(Pool(name=name, network=network) for name in names))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("loss", 1.0),
        ("loss", -0.1),
        ("repeat", 2.0),
        ("cut_every", 0.0),
        ("delay", -1.0),
        ("delay", (2.0, 1.0)),
        ("rate", 0),
    ],
)
def test_options_that_can_not_be(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        MemoryNetwork(**{option: value})


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_exactly_once_through_everything(seed: int) -> None:
    network = MemoryNetwork(seed, loss=0.3, cut_every=8_000, delay=(0, UNIT / 100), repeat=0.5)
    faults = await talk(network)
    assert sum(fault.what == "cut" for fault in faults) >= 3
    dialled = [(*pair, number) for pair, times in network._dialled.items() for number in range(times)]
    for what in ("lost", "repeated"):
        meant = {which for which in dialled if getattr(network.planned(*which), what)}
        happened = {(fault.caller, fault.callee, fault.number) for fault in faults if fault.what == what}
        # What was lost does not come again, nor what is over when nobody listens any more.
        assert happened == meant if what == "lost" else happened <= meant


async def test_the_seed_decides() -> None:
    def network(seed: int) -> MemoryNetwork:
        return MemoryNetwork(seed, loss=0.3, cut_every=8_000)

    one, same, other = [await talk(network(seed)) for seed in (1, 1, 2)]

    def planned(faults: list[Fault]) -> dict[tuple[str, int], str]:
        return {(fault.caller, fault.number): fault.what for fault in faults}

    # Who of the two dials first is up to the clock, and so is how often each of them does; not what becomes of it.
    common = planned(one).keys() & planned(same).keys()
    assert common
    assert all(planned(one)[which] == planned(same)[which] for which in common)
    assert planned(one) != planned(other)
    for fault in one:
        assert fault.callee == ("bob" if fault.caller == "alice" else "alice")
        plan = network(1).planned(fault.caller, fault.callee, fault.number)
        assert plan.lost if fault.what == "lost" else fault.after >= min(plan.cut_after)
    assert repr(network(1)) == repr(network(1)) != repr(network(2))


async def test_a_delay_takes_its_time_and_keeps_the_order() -> None:
    network = MemoryNetwork(delay=(UNIT / 2, UNIT))
    async with introduced(network, "alice", "bob") as (alice, bob):
        await alice.wait_ready(LIMIT)
        loop = asyncio.get_running_loop()
        start = loop.time()
        handles = [alice.asend("bob", number, "x") for number in range(20)]
        assert [await bob.recv("alice", "x") for _ in range(20)] == list(range(20))
        assert loop.time() - start >= UNIT / 2
        await asyncio.gather(*handles)
        # There and back.
        assert loop.time() - start >= UNIT


async def test_a_slow_reader_holds_the_sender_back() -> None:
    async with introduced(MemoryNetwork(), "alice", "bob", limits=Limits(box_bytes=100_000)) as (alice, bob):
        handles = [alice.asend("bob", bytes(60_000)) for _ in range(10)]
        await until(lambda: handles[0].done())
        await asyncio.sleep(UNIT)
        assert not handles[-1].done()
        for _ in handles:
            await bob.recv("alice")
        await asyncio.gather(*handles)


# -- lines -------------------------------------------------------------------------------------------------------------


async def test_a_rate_is_kept_in_each_direction_by_itself() -> None:
    async with introduced(MemoryNetwork(rate="8mbit"), "alice", "bob") as (alice, bob):
        await alice.wait_ready(LIMIT)
        start = asyncio.get_running_loop().time()
        handles = [alice.asend("bob", bytes(200_000)), bob.asend("alice", bytes(200_000))]
        await asyncio.gather(bob.recv("alice"), alice.recv("bob"), *handles)
        took = asyncio.get_running_loop().time() - start
    # One after the other it would be twice as much.
    assert 0.2 < took < 0.3 + 3 * UNIT


async def skipped_time(network: MemoryNetwork, size: int, rounds: int) -> float:
    async with introduced(network, "alice", "bob") as (alice, bob):
        await alice.wait_ready(LIMIT)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(rounds):
            handle = alice.asend("bob", bytes(size))
            await bob.recv("alice")
            await bob.send("alice", None)
            await alice.recv("bob")
            await handle
        return loop.time() - start


def test_time_in_which_all_wait_is_skipped() -> None:
    network = MemoryNetwork(delay=2 * UNIT, rate=500_000)
    start = time.process_time()
    took = network.run(skipped_time(network, 100_000, 10))
    used = time.process_time() - start
    # There, back, and there again: the acknowledgement.
    least = 10 * (3 * 2 * UNIT + 0.2)
    assert least < took < 1.1 * least + 10 * UNIT + used
    assert used < least / 2


@pytest.mark.parametrize("rate", ["8mbit", "80mbit", "800mbit"])
@pytest.mark.parametrize("delay", [0.0005, 0.05, 0.3])
def test_a_large_message_takes_what_its_size_and_the_line_say(delay: float, rate: str) -> None:
    """However much of it is on its way at a time."""

    async def one_way(network: MemoryNetwork) -> float:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            await alice.wait_ready(LIMIT)
            start = asyncio.get_running_loop().time()
            handle = alice.asend("bob", bytes(size))
            await bob.recv("alice")
            took = asyncio.get_running_loop().time() - start
            await handle
            return took

    network, size = MemoryNetwork(delay=delay, rate=rate), 3_000_000
    before = time.monotonic()
    took = network.run(one_way(network))
    passed = time.monotonic() - before  # on a busy machine a part of what is not skipped is not ours
    least = delay + Line(rate=network.rate).serialisation(size)
    # Far away both dial, as no answer comes for so long, and then one of the connections gives way to the other: what was on its
    # way there comes again.
    again = 2 * delay if delay >= 0.3 else 0
    assert least < took < 1.05 * least + again + UNIT + passed


def test_an_end_lingers_as_long_as_the_loop_says() -> None:
    """And not by the clock of the machine, on which nothing passes while all wait."""
    network = MemoryNetwork()

    async def main() -> float:
        async with introduced(network, "alice", "bob") as (alice, bob):
            await alice.wait_ready(LIMIT)
            network.partition("alice")
            alice.asend("bob", "never")
            loop = asyncio.get_running_loop()
            start = loop.time()
            await alice.shutdown(linger=200)
            took = loop.time() - start
            await bob.shutdown(linger=0)
            return took

    before = time.monotonic()
    took = network.run(main())
    passed = time.monotonic() - before
    assert 200 <= took < 202 + passed
    assert passed < 100


def test_a_deadline_is_over_when_the_loop_says_so() -> None:
    network = MemoryNetwork()

    async def main() -> float:
        async with introduced(network, "alice", "bob") as (alice, _):
            loop = asyncio.get_running_loop()
            start = loop.time()
            with alice.deadline(1000) as deadline:
                await asyncio.sleep(400)
                assert 0 < deadline.left <= 600
                with pytest.raises(CommunicationTimeoutError):
                    await alice.recv("bob")
            return loop.time() - start

    assert 1000 <= network.run(main()) < 1100


def test_reports_and_traces_tell_the_time_of_the_line() -> None:
    network = MemoryNetwork(delay=0.5)

    async def main() -> tuple[Report, Record, Stats]:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            await asyncio.gather(alice.wait_ready(60), bob.wait_ready(60))
            with alice.trace() as trace, alice.phase("far away"):
                await asyncio.gather(alice.recv("bob"), bob.send("alice", "hello"))
            await alice.send("bob", "measured")
            return alice.report(), trace.record, alice.stats

    before = time.monotonic()
    report, record, stats = network.run(main())
    passed = time.monotonic() - before
    for counted in (report[""], report["far away"]):
        assert counted.receiving is not None
        assert counted.seconds is not None
        assert 0.5 <= counted.receiving < 0.6 + passed
        assert counted.seconds >= counted.receiving
    (party,) = record.parties
    (wait,) = party.waits
    assert 0.5e9 <= wait.ended - wait.began < (0.6 + passed) * 1e9
    assert stats["bob"].round_trip is not None
    assert 1 <= stats["bob"].round_trip < 1.1 + passed


def test_what_a_pool_decodes_in_a_thread_takes_its_time() -> None:
    network = MemoryNetwork()
    value = [{"number": number} for number in range(100_000)]

    async def main() -> float:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            await alice.wait_ready(LIMIT)
            start = asyncio.get_running_loop().time()
            handle = alice.asend("bob", value)
            assert await asyncio.wait_for(bob.arecv("alice"), 1000) == value
            await handle
            return asyncio.get_running_loop().time() - start

    before = time.monotonic()
    took = network.run(main())
    # Nothing is on its way for any time here.
    assert took <= time.monotonic() - before + 10 * UNIT


async def test_a_program_runs_beside_a_loop_as_in_a_notebook() -> None:
    async def main() -> float:
        start = asyncio.get_running_loop().time()
        await asyncio.sleep(1000)
        return asyncio.get_running_loop().time() - start

    async def fails() -> None:
        await asyncio.sleep(1000)
        raise ZeroDivisionError

    network = MemoryNetwork()
    assert 1000 <= network.run(main()) < 1100
    with pytest.raises(ZeroDivisionError):
        network.run(fails())


async def test_a_program_beside_a_loop_does_not_wait_for_pools_that_stand_still_with_it() -> None:
    network = MemoryNetwork()

    async def main(call: str, *arguments: object) -> None:
        with pytest.raises(WrongThreadError, match="stands still"):
            waiting = getattr(alice, call)(*arguments)
            await waiting

    async with introduced(network, "alice", "bob") as (alice, bob):
        await bob.send("alice", 1)
        # A thread that has nothing to do with the program waits until this one goes on.
        elsewhere = asyncio.to_thread(asyncio.run, alice.send("bob", 0))
        waiting = asyncio.ensure_future(elsewhere)
        await asyncio.sleep(0)
        for call, *arguments in (
            ("send", "bob", 1),
            ("asend", "bob", 1),
            ("recv", "bob"),
            ("arecv", "bob"),
            ("wait_ready",),
        ):
            network.run(main(call, *arguments))
        await waiting
        assert await alice.recv("bob") == 1
        await alice.send("bob", 2)
        assert [await bob.recv("alice") for _ in range(2)] == [0, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX systems")
async def test_an_interrupt_ends_what_runs_beside_a_loop() -> None:
    network, ended = MemoryNetwork(), []

    async def main() -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            network.run(main())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended == [True]


def test_one_program_at_a_time() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="make another MemoryNetwork"):
            network.run(main())

    network.run(main())


def test_what_comes_from_a_socket_takes_its_time() -> None:
    async def main() -> float:
        here, there = socket.socketpair()
        there.setblocking(False)
        with here, there:
            loop = asyncio.get_running_loop()
            start = loop.time()
            timer = threading.Timer(UNIT, here.send, (b"x",))
            timer.start()
            await asyncio.wait_for(loop.sock_recv(there, 1), 1000)
            timer.join()
            return loop.time() - start

    assert UNIT / 2 <= MemoryNetwork().run(main()) < 500


@pytest.mark.parametrize("delay", [0.8, 1.0])
def test_who_is_far_away_is_not_taken_for_dead(delay: float) -> None:
    network = MemoryNetwork(delay=delay)

    async def main() -> list[float]:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            await asyncio.gather(alice.wait_ready(60), bob.wait_ready(60))
            took, loop = [], asyncio.get_running_loop()
            for number in range(3):
                start = loop.time()
                await alice.send("bob", number)
                took.append(loop.time() - start)
            assert [await bob.recv("alice") for _ in took] == [0, 1, 2]
            assert alice.stats["bob"].reconnects == bob.stats["alice"].reconnects == 0
            return took

    before = time.monotonic()
    took = network.run(main())
    assert max(took) < 2.05 * delay + time.monotonic() - before


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_little_waits_in_front_of_a_line(delay: float) -> None:
    """What is beyond that waits at its sender, where something short overtakes it."""
    network = MemoryNetwork(delay=delay, rate="0.5mbit")

    async def main() -> float:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            await asyncio.gather(alice.wait_ready(60), bob.wait_ready(60))
            large = alice.asend("bob", bytes(2_000_000), "large")
            loop = asyncio.get_running_loop()
            took = 0.0
            for _ in range(5):
                await asyncio.sleep(2)
                start = loop.time()
                await alice.send("bob", b"short", "short")
                took = max(took, loop.time() - start)
            assert not large.done()
            await bob.recv("alice", "large")
            return took

    before = time.monotonic()
    took = network.run(main())
    assert took < 0.6 + time.monotonic() - before


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2])
def test_two_make_one_connection(delay: float) -> None:
    """The one that is not to dial first waits for a call that it sees coming; also where a connection was lost."""
    network = MemoryNetwork(delay=delay)

    async def main() -> None:
        async with introduced(network, "alice", "bob", settings=Settings()) as (alice, bob):
            for number in range(1, 4):
                await asyncio.gather(alice.wait_ready(60), bob.wait_ready(60))
                await asyncio.gather(alice.send("bob", number), bob.send("alice", number))
                await asyncio.sleep(5)
                assert sum(network._dialled.values()) == number
                network.cut()

    network.run(main())


def test_pools_of_another_network_have_another_time() -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="call `run` of the one that is their network="):
            async with introduced(MemoryNetwork(), "alice", "bob"):
                pass

    MemoryNetwork().run(main())


def test_time_goes_on_where_it_was() -> None:
    """For what has seen more than one run."""
    network = MemoryNetwork()
    start = network.clock()
    for _ in range(2):
        network.run(asyncio.sleep(1000))
    assert 2000 <= network.clock() - start < 2100


def test_what_runs_in_a_thread_takes_its_time() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        waiting = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.to_thread(time.sleep, UNIT)
        between = loop.time() - start
        await waiting
        return between, loop.time() - start

    between, end = MemoryNetwork().run(main())
    assert UNIT <= between < 500
    assert 1000 <= end < 1500


# -- by hand -----------------------------------------------------------------------------------------------------------


async def test_a_partition_that_heals() -> None:
    network = MemoryNetwork()
    async with introduced(network, "alice", "bob", "carol") as (alice, bob, carol):
        await asyncio.gather(*(pool.wait_ready(LIMIT) for pool in (alice, bob, carol)))
        network.partition("alice")
        sending = alice.asend("bob", "across")
        await bob.send("carol", "among us", timeout=LIMIT)
        assert await carol.recv("bob") == "among us"
        await until(lambda: "partitioned" in alice._engine.party("bob").trouble)
        assert not sending.done()
        assert not any(alice.stats[name].connected for name in ("bob", "carol"))
        network.heal()
        assert await bob.recv("alice", timeout=LIMIT) == "across"
        await sending


async def test_sides_of_a_partition() -> None:
    network = MemoryNetwork()
    for name in "abc":
        network.bind(name, LOCAL, 0)
    network.partition(["a", "b"], ["c"])
    apart = {one + other for one in "abcde" for other in "abcde" if one < other and network._apart(one, other)}
    assert apart == {"ac", "ad", "ae", "bc", "bd", "be", "cd", "ce"}


def test_a_name_that_nobody_has_would_test_nothing() -> None:
    network = MemoryNetwork()
    with pytest.raises(UnknownPartyError, match="none yet"):
        network.cut("alice")
    network.bind("alice", LOCAL, 0)
    for mistaken in (partial(network.partition, ["alice", "bbo"]), partial(network.cut, "alice", "bbo")):
        with pytest.raises(UnknownPartyError, match=r"no pool 'bbo' is in this network \(there are: alice\)"):
            mistaken()
    assert not network._apart("alice", "bbo")
    odd: Any
    for odd in (1, ["alice"], b"alice"):
        for call in (network.cut, network.firewall, lambda name: network.partition([name])):
            with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
                call(odd)
    with pytest.raises(TypeError, match=r"^the name of a party is a text, not int"):
        network.partition("alice", 1)  # type: ignore[arg-type]


async def test_a_cut_by_hand() -> None:
    network = MemoryNetwork()
    async with introduced(network, "alice", "bob", "carol") as (alice, bob, carol):
        await asyncio.gather(*(pool.wait_ready(LIMIT) for pool in (alice, bob, carol)))
        network.cut("alice", "carol")
        await asyncio.gather(*(pool.wait_ready(LIMIT) for pool in (alice, bob, carol)))
        await until(lambda: alice.stats["carol"].reconnects == 1)
        assert alice.stats["bob"].reconnects == bob.stats["carol"].reconnects == 0
        network.cut("bob")
        await until(lambda: alice.stats["bob"].reconnects == bob.stats["carol"].reconnects == 1)
        network.cut()
        await until(lambda: alice.stats["carol"].reconnects == 2)


async def test_who_aborts_is_heard() -> None:
    async with introduced(MemoryNetwork(delay=UNIT / 10), "alice", "bob") as (alice, bob):
        await bob.wait_ready(LIMIT)
        receiving = asyncio.ensure_future(bob.recv("alice"))
        await alice.abort("out of numbers")
        with pytest.raises(PartyGoneError, match="out of numbers"):
            await receiving


@pytest.mark.skipif(sys.platform == "win32", reason="no pool takes another's place there")
async def test_one_pool_takes_the_place_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    network = MemoryNetwork()
    async with introduced(network, "alice", "bob") as (alice, bob):
        await alice.send("bob", "old")
        assert await bob.recv("alice") == "old"
        new = Pool(name="alice", network=network, settings=quick())
        new.add_http_server(alice.port or 0, LOCAL)
        assert new.port == alice.port
        new.add_http_client("bob", LOCAL, bob.port)
        await new.send("bob", "new", timeout=LIMIT)
        assert await bob.recv("alice") == "new"
        await new.shutdown()


# -- parties that let nothing in ---------------------------------------------------------------------------------------

RELAY = "https://relay.example"


async def test_a_relay_between_two_that_let_nothing_in() -> None:
    network = MemoryNetwork()
    settings = replace(quick(), retry=Retry(cap=UNIT, give_way=UNIT / 10, head_start=0, direct=UNIT))
    one = Pool(name="alice", network=network, relay=RELAY, settings=settings)
    two = Pool(name="bob", network=network, relay=RELAY, settings=settings)
    async with one as alice, two as bob:
        network.connect(alice, bob)
        network.firewall("alice", "bob")
        await alice.send("bob", 1, timeout=50 * UNIT)
        assert await bob.recv("alice", timeout=50 * UNIT) == 1
        assert alice._engine.party("bob").relayed
        network.stop_relay(RELAY)
        sending = alice.asend("bob", 2)
        with pytest.raises(TimeoutError):
            await bob.recv("alice", timeout=2 * UNIT)
        network.start_relay(RELAY)
        assert await bob.recv("alice", timeout=50 * UNIT) == 2
        await sending
        network.firewall()
        await until(lambda: not alice._engine.party("bob").relayed)
        await bob.send("alice", 3, timeout=50 * UNIT)
        assert await alice.recv("bob", timeout=50 * UNIT) == 3


async def test_without_a_relay_two_that_let_nothing_in_do_not_meet() -> None:
    network = MemoryNetwork()
    async with (
        Pool(name="alice", network=network, settings=quick()) as alice,
        Pool(name="bob", network=network, relay=RELAY, settings=quick()) as bob,
    ):
        network.connect(alice, bob)
        network.firewall("alice", "bob")
        with pytest.raises(NotReadyError, match="no answer in time"):
            await alice.wait_ready(2 * UNIT)
        with pytest.raises(NotReadyError, match=r"through the relay relay.example:443: it is not at the relay"):
            await bob.wait_ready(2 * UNIT)


def test_what_is_run_is_a_coroutine() -> None:
    async def main() -> None:
        """It does nothing."""

    with pytest.raises(TypeError, match=r"as in run\(main\(\)\), not <function"):
        MemoryNetwork().run(main)  # type: ignore[arg-type]
