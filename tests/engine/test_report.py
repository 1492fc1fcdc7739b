"""What a report counts: rounds of protocols that are known, waiting, traffic by phase; on both faces."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mpccomm import MemoryNetwork, Pool, Settings, SyncPool
from mpccomm.cli import main
from mpccomm.engine.observer import fields_of, pack_field
from mpccomm.engine.report import Figures, Report, joint
from mpccomm.errors import ConfigurationError, PartyShutDownError
from tests.engine.faces import FACES, faces
from tests.pools import pools, quick, until
from tests.timing import UNIT

COUNTED = dataclasses.replace(quick(), report=True)
NAMES = ("alice", "bob", "carol", "dave")
PRIME = 2**61 - 1

Protocol = Callable[[SyncPool, str, Sequence[str]], Any]


def play(protocol: Protocol, number: int, *, settings: Settings = COUNTED) -> dict[str, Report]:
    """Run a protocol of that many parties, each in a thread; the reports by name."""
    names = NAMES[:number]
    network = MemoryNetwork(delay=(0, UNIT / 50))
    made = {name: SyncPool(name=name, settings=settings, network=network) for name in names}
    network.connect(*made.values())

    def run(name: str) -> Report:
        protocol(made[name], name, [other for other in names if other != name])
        return made[name].report()

    try:
        with ThreadPoolExecutor(number) as executor:
            return dict(zip(names, executor.map(run, names), strict=True))
    finally:
        for pool in made.values():
            pool.shutdown()


def rounds(reports: dict[str, Report], phase: str = "") -> int:
    return max(report[phase].rounds or 0 for report in reports.values() if phase in report)


# -- protocols whose rounds are known ----------------------------------------------------------------------------------


def opened(pool: SyncPool, others: Sequence[str], *shares: int) -> list[int]:
    """Open additively shared values, all in one round."""
    pool.broadcast(shares)
    received = [message for _, message in pool.recv_all(others)]
    return [sum(column) % PRIME for column in zip(shares, *received, strict=True)]


@pytest.mark.parametrize("times", [1, 5])
def test_beaver_multiplication_takes_a_round_each(times: int) -> None:
    """Two openings side by side are one round, products one after the other one round each."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        for _ in range(times):
            opened(pool, others, random.randrange(PRIME), random.randrange(PRIME))

    assert rounds(play(protocol, 3)) == times


def test_secure_comparison_by_bit_decomposition_takes_the_logarithm() -> None:
    """The carry of 32 bits by a prefix tree: as many rounds of products as the tree has levels, and one for the result."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        with pool.phase("compare"):
            pairs = 32
            while pairs > 1:
                pairs //= 2
                opened(pool, others, *range(2 * pairs))
            opened(pool, others, 1)

    reports = play(protocol, 2)
    assert rounds(reports) == rounds(reports, "compare") == 6


@pytest.mark.parametrize("seed", range(5))
async def test_any_schedule_has_the_rounds_of_its_longest_chain(seed: int) -> None:
    """Found by looking at every pair of messages, and not by counting along."""
    rng = random.Random(seed)
    names = NAMES[:3]
    network = MemoryNetwork()
    made = {name: Pool(name=name, settings=COUNTED, network=network) for name in names}
    network.connect(*made.values())
    sent: list[tuple[str, str, int]] = []
    """Sender, receiver, and when: the number of the step."""
    taken: dict[int, int] = {}
    futures: dict[int, asyncio.Future[int]] = {}
    try:
        for step in range(120):
            waiting = [number for number in range(len(sent)) if number not in taken]
            if not waiting or rng.random() < 0.45:
                sender, receiver = rng.sample(names, 2)
                number = len(sent)
                if rng.random() < 0.3:
                    futures[number] = made[receiver].arecv(sender, str(number))
                await made[sender].send(receiver, number, str(number))
                sent.append((sender, receiver, step))
            else:
                number = rng.choice(waiting)
                sender, receiver, _ = sent[number]
                future = futures.get(number)
                assert number == await (made[receiver].recv(sender, str(number)) if future is None else future)
                taken[number] = step
        longest: list[int] = []
        for sender, _, at in sent:
            before = [
                longest[number]
                for number, (_, receiver, _) in enumerate(sent[: len(longest)])
                if receiver == sender and taken.get(number, at) < at
            ]
            longest.append(1 + max(before, default=0))
        assert max(pool.report().rounds or 0 for pool in made.values()) == max(longest)
        for number, (sender, receiver, _) in enumerate(sent):
            if number not in taken:
                await (futures[number] if number in futures else made[receiver].recv(sender, str(number)))
    finally:
        await asyncio.gather(*(pool.shutdown() for pool in made.values()))


async def test_the_same_on_the_asyncio_face() -> None:
    """Beaver multiplications, then the carry of 32 bits by a prefix tree."""

    async def opened_by(pool: Pool, *shares: int) -> None:
        received = await asyncio.gather(pool.broadcast(shares), pool.recv_all())
        assert len(received[1]) == 2

    async def protocol(pool: Pool) -> None:
        with pool.phase("multiply"):
            for _ in range(4):
                await opened_by(pool, random.randrange(PRIME), random.randrange(PRIME))
        async with pool.phase("compare"):
            pairs = 32
            while pairs > 1:
                pairs //= 2
                await opened_by(pool, *range(2 * pairs))
            await opened_by(pool, 1)

    async with pools("alice", "bob", "carol", settings=COUNTED) as made:
        await asyncio.gather(*map(protocol, made))
        for pool in made:
            assert {phase: figures.rounds for phase, figures in pool.report().items()} == {
                "": 10,
                "multiply": 4,
                "compare": 6,
            }


@pytest.mark.parametrize("number", [2, 4])
def test_a_ring_takes_a_round_for_each_member(number: int) -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        at = NAMES.index(name)
        before, after = NAMES[(at - 1) % number], NAMES[(at + 1) % number]
        if at:
            pool.recv(before)
        pool.send(after, at)
        if not at:
            pool.recv(before)

    assert rounds(play(protocol, number)) == number


def test_a_tree_takes_a_round_for_each_level() -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        match name:
            case "alice":
                pool.recv("bob")
                pool.recv("carol")
            case "bob":
                pool.recv("dave")
                pool.send("alice", 1)
            case "carol":
                pool.send("alice", 1)
            case "dave":
                pool.send("bob", 1)

    assert rounds(play(protocol, 4)) == 2


COLLECTIVES: dict[str, tuple[Callable[[Any, str], Any], int]] = {
    "gather": (lambda group, me: group.gather(1, root="alice"), 1),
    "allgather": (lambda group, me: group.allgather(1), 1),
    "bcast": (lambda group, me: group.bcast(1, root="bob"), 1),
    "checked": (lambda group, me: group.bcast(1, root="bob", checked=True), 2),
    "scatter": (lambda group, me: group.scatter(dict.fromkeys(group.names), root="alice"), 1),
    "alltoall": (lambda group, me: group.alltoall(dict.fromkeys(group.names)), 1),
    "exchange": (lambda group, me: group.exchange(NAMES[NAMES.index(me) ^ 1], 1), 1),
    "barrier": (lambda group, me: group.barrier(), 1),
    "reduce": (lambda group, me: group.reduce(1, int.__add__, root="carol"), 1),
    "reduce for all": (lambda group, me: group.reduce(1, int.__add__), 1),
}
"""Each with its rounds, among four."""


def test_collectives_count_what_they_do() -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        for phase, (call, _) in COLLECTIVES.items():
            with pool.phase(phase):
                call(pool.group(), name)

    reports = play(protocol, 4)
    assert {phase: rounds(reports, phase) for phase in COLLECTIVES} == {
        phase: number for phase, (_, number) in COLLECTIVES.items()
    }


def test_messages_at_the_same_time_are_one_round() -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        handles = [pool.asend(other, number) for other in others for number in range(10)]
        for other in others:
            for _ in range(10):
                pool.recv(other)
        for handle in handles:
            handle.result()

    reports = play(protocol, 3)
    assert rounds(reports) == 1
    assert {report[""].messages_received for report in reports.values()} == {20}


def test_a_message_counts_when_its_value_is_asked_for() -> None:
    """A handle that is done is no reason to be deeper: what is sent meanwhile can't depend on it."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        handle = pool.arecv(others[0], "x")
        if name == "alice":
            pool.send(others[0], 1, "x")
            pool.recv(others[0], "sent")
        else:
            while not handle.done():
                pass
            pool.send(others[0], 2, "x")
            pool.send(others[0], 3, "sent")
        assert handle.result() in (1, 2)

    assert rounds(play(protocol, 2)) == 1


async def test_a_message_counts_when_its_value_is_asked_for_in_tasks() -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        early = bob.arecv("Alice")
        await alice.send("Bob", 1)
        await until(early.done)
        await bob.send("Alice", 2)
        assert bob.report().rounds == 1
        assert await early == 1
        await bob.send("Alice", 3)
        assert bob.report().rounds == 2
        futures = [alice.arecv("Bob"), alice.arecv("Bob")]
        assert await asyncio.gather(*futures) == [2, 3]
        await alice.send("Bob", 4)
        assert alice.report().rounds == 3
        assert await bob.recv("Alice") == 4


ASKS: dict[str, Callable[[asyncio.Future[Any]], Awaitable[Any]]] = {
    "await": lambda future: future,
    "gather": lambda future: asyncio.gather(future),
    "shield": lambda future: asyncio.shield(future),
    "wait_for": lambda future: asyncio.wait_for(future, 10),
    "as_completed": lambda future: next(iter(asyncio.as_completed([future]))),
}


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.usefixtures("loop_factory")
async def test_a_message_counts_in_the_phase_in_which_asyncio_collects_its_future(asks: str) -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        with alice.phase("both"), bob.phase("both"):
            for number in range(3):
                alice.asend("Bob", number)
                asking = asyncio.ensure_future(ASKS[asks](alice.arecv("Bob")))
                await bob.send("Alice", await bob.recv("Alice"))
                await asking
    assert alice.report()["both"].rounds == bob.report()["both"].rounds == 6


@pytest.mark.parametrize("how", ["callback", "wrap_future"])
async def test_a_message_counts_in_the_phase_in_which_a_callback_takes_it(how: str) -> None:
    """That runs in a thread of its own; or asyncio passes it on, and nothing that it does is done in a task."""
    network = MemoryNetwork()
    names = "alice", "bob"
    alice, bob = (SyncPool(name=name, settings=COUNTED, network=network) for name in names)
    network.connect(alice, bob)
    with alice, bob, alice.phase("both"), bob.phase("both"):
        for number in range(3):
            alice.asend("bob", number)
            handle = alice.arecv("bob")
            taken: list[int] = []
            if how == "callback":
                handle.add_done_callback(lambda done: taken.append(done.result()))  # noqa: B023 - it is called before the next
            else:
                waiting = asyncio.wrap_future(handle)
            bob.send("alice", bob.recv("alice"))
            if how == "callback":
                await until(lambda: bool(taken))  # noqa: B023
            else:
                taken.append(await waiting)
            assert taken == [number]
        assert alice.report()["both"].rounds == bob.report()["both"].rounds == 6


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("late", [False, True])
async def test_what_a_future_gives_back_is_received_by_the_next_call(size: int, late: bool) -> None:
    """Cancelled while it waits, while its message is decoded, or when that is done: once it counts, when a call has returned it."""
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        with bob.trace() as trace:
            for given_up in range(3):
                future = bob.arecv("Alice", "x")
                sending = asyncio.ensure_future(alice.send("Bob", bytes(size), "x"))
                if late:
                    await until(future.done)
                for _ in range(given_up):
                    await asyncio.sleep(0)
                future.cancel()
                del future
                assert bob.report()[""].messages_received == given_up
                assert len(await bob.recv("Alice", "x")) == size
                await sending
                assert bob.report()[""].messages_received == given_up + 1
        assert bob.report()[""].bytes_received == alice.report()[""].bytes_sent
        assert len(trace.record.parties[0].receives) == len(trace.record.messages) == 3


@pytest.mark.parametrize("size", [10, 200_000])
def test_what_a_handle_gives_back_is_received_by_the_next_call(size: int) -> None:
    """Cancelled at any time, or forgotten; or asked only whether there is an error."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        (other,) = others
        with pool.trace() as trace:
            for number in range(10):
                if name == "alice":
                    pool.asend(other, bytes(size), "x").result()
                else:
                    handle = pool.arecv(other, "x")
                    if number % 2:
                        concurrent.futures.wait([handle])
                        given_up = True
                        del handle
                    else:
                        given_up = handle.cancel()
                    if given_up:
                        pool.recv(other, "x")
            if name == "bob":
                pool.send(other, 0)
            else:
                handle = pool.arecv(other)
                assert handle.exception() is None
                del handle
                assert pool.recv(other) == 0
        assert len(trace.record.parties[0].receives) == (1 if name == "alice" else 10)

    reports = play(protocol, 2)
    assert reports["bob"][""].messages_received == 10
    assert reports["bob"][""].bytes_received == reports["alice"][""].bytes_sent
    assert reports["alice"][""].messages_received == 1


@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_what_a_call_gives_back_is_received_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch, kind: type[Pool | SyncPool]
) -> None:
    """Where it ends after the message was decoded, and does not return it. Its rounds count for the call that does."""
    network = MemoryNetwork()
    alice = Pool(name="Alice", settings=COUNTED, network=network)
    bob = kind(name="Bob", settings=COUNTED, network=network)
    network.connect(alice, bob)

    def run_short(*_: object) -> None:
        raise MemoryError

    async def receive() -> object:
        if isinstance(bob, Pool):
            return await bob.recv("Alice", timeout=100 * UNIT, expect=int)
        return await asyncio.to_thread(bob.recv, "Alice", timeout=100 * UNIT, expect=int)

    try:
        sending = alice.asend("Bob", 1)
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr("mpccomm.engine.requests.check", run_short)
            await receive()
        assert await receive() == 1
        await sending
        report = bob.report()
        assert (report[""].messages_received, report.rounds) == (1, 1)
    finally:
        await (bob.shutdown() if isinstance(bob, Pool) else asyncio.to_thread(bob.shutdown))
        await alice.shutdown()


# -- phases ------------------------------------------------------------------------------------------------------------


def test_each_phase_has_rounds_of_its_own() -> None:
    """What went before does not count in it, however different that was for the parties."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        with pool.phase("offline"):
            if name in ("alice", "bob"):
                for number in range(5):
                    pool.send("bob" if name == "alice" else "alice", number)
                    pool.recv("bob" if name == "alice" else "alice")
        with pool.phase("online"):
            opened(pool, others, 1)
            with pool.phase("check"):
                opened(pool, others, 1)
        with pool.phase("online"):
            opened(pool, others, 1)

    reports = play(protocol, 3)
    assert {phase: rounds(reports, phase) for phase in reports["carol"]} == {
        "": 8,
        "offline": 5,
        "online": 3,
        "online/check": 1,
    }
    alice = reports["alice"]
    assert [alice[phase].messages_sent for phase in alice] == [11, 5, 6, 2]
    assert alice.parties["online"]["carol"].messages_sent == 3
    assert alice.parties["offline"]["carol"].messages_sent == 0
    assert alice[""].bytes_sent == sum(alice[phase].bytes_sent for phase in ("offline", "online"))
    assert alice["online"].receiving is not None
    assert alice["online"].seconds is not None
    assert alice["online"].receiving <= alice["online"].seconds <= alice[""].seconds  # type: ignore[operator]


def test_time_that_is_waited_counts_for_the_party_that_was_waited_for() -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        with pool.phase("slow"):
            if name == "alice":
                pool.recv("bob")
                pool.send("carol", 1)
            elif name == "bob":
                time.sleep(3 * UNIT)
                pool.send("alice", 1)
            else:
                pool.recv("alice")

    alice = play(protocol, 3)["alice"]
    by_party = alice.parties["slow"]
    assert by_party["bob"].receiving is not None
    assert by_party["bob"].receiving >= 2 * UNIT
    assert by_party["carol"].receiving == by_party["bob"].sending == 0
    assert by_party["carol"].sending is not None
    assert alice["slow"].receiving == pytest.approx(by_party["bob"].receiving, rel=0.01)
    assert alice["slow"].cpu is not None


def test_waiting_for_handles_counts() -> None:
    """In the phase in which the result is asked for, and for the party that the handle is for."""

    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        if name == "alice":
            receiving = pool.arecv("bob")
            with pool.phase("receiving"):
                assert receiving.result(100 * UNIT) == 1
            with pool.phase("sending"):
                pool.asend("bob", bytes(2**22)).result(100 * UNIT)
        else:
            time.sleep(2 * UNIT)
            pool.send("alice", 1)
            pool.recv("alice")

    report = play(protocol, 2)["alice"]
    assert report["receiving"].receiving == pytest.approx(report.parties["receiving"]["bob"].receiving, rel=0.1)
    assert report["receiving"].receiving >= UNIT  # type: ignore[operator]
    assert (report["receiving"].sending, report["sending"].receiving) == (0, 0)
    assert report.parties["sending"]["bob"].sending > 0  # type: ignore[operator]


async def test_waiting_for_handles_counts_in_tasks() -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):
        receiving = alice.arecv("Bob")
        asyncio.get_running_loop().call_later(2 * UNIT, bob.asend, "Alice", 1)
        with alice.phase("receiving"):
            assert await receiving == 1
        sending = alice.asend("Bob", bytes(2**22))
        with alice.phase("sending"):
            await sending
        report = alice.report()
        assert report.parties["receiving"]["Bob"].receiving >= UNIT  # type: ignore[operator]
        assert report.parties["sending"]["Bob"].sending > 0  # type: ignore[operator]
        await bob.recv("Alice")


async def test_tasks_keep_their_phases() -> None:
    async with pools("Alice", "Bob", settings=COUNTED) as (alice, bob):

        async def one(phase: str, number: int) -> None:
            with alice.phase(phase):
                await asyncio.gather(*(alice.send("Bob", number, f"{phase} {number}") for number in range(number)))

        async with alice.phase("whole"):
            await asyncio.gather(one("a", 3), one("b", 5))
        report = alice.report()
        assert {phase: figures.messages_sent for phase, figures in report.items()} == {
            "": 8,
            "whole": 8,
            "whole/a": 3,
            "whole/b": 5,
        }
        # Waits of tasks at the same time count once.
        assert report["whole"].sending is not None
        assert report["whole"].sending <= report["whole"].seconds  # type: ignore[operator]
        assert bob.report()[""].messages_received == 0
        for phase, number in (("a", 3), ("b", 5)):
            for at in range(number):
                await bob.recv("Alice", f"{phase} {at}")
        assert bob.report().rounds == 1


def test_futures_belong_to_the_phase_that_asked() -> None:
    def protocol(pool: SyncPool, name: str, others: Sequence[str]) -> None:
        with pool.phase("asked"):
            future = pool.arecv(others[0])
        with pool.phase("other"):
            pool.send(others[0], bytes(200_000))
            assert len(future.result(100 * UNIT)) == 200_000

    report = play(protocol, 2)["alice"]
    assert report["asked"].messages_received == 1
    assert report["other"].messages_received == 0


def test_threads_keep_their_phases() -> None:
    """Those that are in a phase at the same time don't add up."""
    pool = SyncPool(name="alice", settings=COUNTED)
    barrier = threading.Barrier(2)

    def stay() -> None:
        with pool.phase("shared"):
            barrier.wait()
            time.sleep(UNIT)
            barrier.wait()

    begun = time.perf_counter()
    with pool, ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda _: stay(), range(2)))
        report = pool.report()
    assert UNIT <= report["shared"].seconds <= time.perf_counter() - begun  # type: ignore[operator]


def test_stays_without_number_take_no_memory() -> None:
    pool = SyncPool(name="alice")
    with pool:
        for _ in range(20_000):
            with pool.phase("loop"):
                pass
        stays = pool._engine.count()._stays["loop"]
        assert len(stays) < 5000
        report = pool.report()
    assert 0 < report["loop"].seconds < report[""].seconds  # type: ignore[operator]


@pytest.mark.parametrize("name", ["", "a/b", "lone \ud800", "all", " ", "x ", "\n", "x\ny", "x\x1b[31m", "x" * 101])
def test_names_that_phases_do_not_have(name: str) -> None:
    with SyncPool() as pool, pytest.raises(ValueError, match="a phase can't be called"):
        pool.phase(name)


def test_names_of_parties_can_be_written_too() -> None:
    with SyncPool() as pool, pytest.raises(ConfigurationError, match="lone surrogates"):
        pool.add_http_client("lone \ud800", "localhost", 1)
    with pytest.raises(ConfigurationError, match="lone surrogates"):
        SyncPool(name="lone \ud800")


def test_phases_nest_three_deep() -> None:
    with SyncPool() as pool, pool.phase("a"), pool.phase("b"), pool.phase("c"):
        with pytest.raises(ValueError, match="at most 3 deep"), pool.phase("d"):
            pass
        with pytest.raises(TypeError, match="a text, not int"):
            pool.phase(3)  # type: ignore[arg-type]


def test_two_pools_of_one_program_have_phases_of_their_own() -> None:
    with SyncPool(name="one") as one, SyncPool(name="two", settings=COUNTED) as two:
        with one.phase("mine"), two.phase("theirs"):
            pass
        assert list(one.report()) == ["", "mine"]
        assert list(two.report()) == ["", "theirs"]


# -- off, and on one side only -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
async def test_what_is_not_sent_does_not_count(face: str) -> None:
    """A send to a party that has ended fails at once."""
    async with faces(face, "Bob", settings=COUNTED) as (alice, (bob,)):
        await alice("send", "Bob", 1)
        assert await bob.recv("Alice") == 1
        await bob.shutdown()
        for _ in range(3):
            with pytest.raises(PartyShutDownError):
                await alice("send", "Bob", 2, timeout=100 * UNIT)
        report = await alice("report")
        assert report[""].messages_sent == 1 == bob.stats["Alice"].messages_received


async def test_nothing_goes_along_unless_it_is_asked_for() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        (message,) = bob._engine.party("Alice").link.mailbox.unread()
        assert message.annotation == b""
        assert alice._engine.loop_owner.observers is None
        report = alice.report()
        assert report[""].messages_sent == 1
        assert report.rounds is None
        assert "rounds" not in str(report).replace("rounds\n", "rounds ")
        await bob.recv("Alice")


async def test_a_party_that_does_not_count_ends_the_chains() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with alice.phase("counted"):
            for _ in range(3):
                await alice.send("Bob", 1)
                await bob.recv("Alice")
                await bob.send("Alice", 2)
                await alice.recv("Bob")
        assert alice.report().rounds == 1
        assert bob.report().rounds is None


def test_annotations_of_others_do_no_harm() -> None:
    assert fields_of(b"") == {}
    assert fields_of(pack_field(1, b"abc") + pack_field(9, b"")) == {1: b"abc", 9: b""}
    for broken in (b"\1", b"\1\5abc", pack_field(1, b"abc") + b"\1"):
        assert fields_of(broken) == {}


# -- how it looks ------------------------------------------------------------------------------------------------------


def example() -> Report:
    part = Figures(receiving=0.4, sending=0.1, messages_sent=3, bytes_sent=3000)
    whole = dataclasses.replace(part, seconds=1.5, cpu=0.3, rounds=4)
    return Report("alice", {"": whole, "on<line": whole}, {"": {"bob": part, "carol": part}, "on<line": {}})


def test_as_text() -> None:
    lines = str(example()).splitlines()
    assert lines[0] == "alice:"
    assert lines[1].split()[:4] == ["phase", "party", "time", "receiving"]
    assert lines[2].split()[:3] == ["all", "1.5", "s"]
    assert lines[3].split()[0] == "bob"
    assert lines[5].strip().startswith("on<line")
    assert all(line.rstrip().endswith("4") for line in (lines[2], lines[5]))


def test_as_html() -> None:
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    text = example()._repr_html_()
    parser.feed(text)
    assert tags.count("tr") == 5
    assert "on&lt;line" in text


def test_phases_stand_after_the_one_that_they_lie_in() -> None:
    """Printed, in a notebook and for all parties together: there only the place of a row says where its phase lies."""
    late = ["", "offline", "offline-2", "online", "offline/triples", "online/x", "offline/triples/check"]
    early = ["", "online", "online/y", "offline"]
    rows = ["all", "offline", "triples", "check", "offline-2", "online", "x"]
    alice, bob = (Report(name, {path: Figures() for path in paths}, {}) for name, paths in (("a", late), ("b", early)))
    assert [line.split()[0] for line in str(alice).splitlines()[2:]] == rows
    assert re.findall("<td class=''><b>(?:&nbsp;)*([^<]+)</b>", alice._repr_html_()) == rows
    assert list(alice) == ["", *late[1:2], *late[4:7:2], *late[2:4], late[5]]
    assert list(joint([alice, bob])) == [*alice, "online/y"]
    assert list(joint([bob, alice])) == ["", "online", "online/y", "online/x", *list(alice)[1:5]]


def test_a_phase_that_is_entered_again_keeps_what_is_nested_in_it() -> None:
    with SyncPool(settings=COUNTED) as pool:
        for path in (("offline",), ("online",), ("offline", "triples")):
            with contextlib.ExitStack() as stack:
                for name in path:
                    stack.enter_context(pool.phase(name))
        assert list(pool.report()) == ["", "offline", "offline/triples", "online"]


def test_as_dict_and_frame() -> None:
    found = example().to_dict()
    assert found[""]["rounds"] == 4
    assert found[""]["parties"]["bob"]["bytes_sent"] == 3000
    frame = example().to_frame()
    assert frame.loc[("", "carol"), "messages_sent"] == 3
    assert list(frame.index.names) == ["phase", "party"]


@pytest.mark.parametrize("name", ["report.json", "report.csv"])
def test_as_a_file(name: str, tmp_path: Path) -> None:
    report = example()
    report.save(tmp_path / name)
    if name.endswith("json"):
        again = Report.load(tmp_path / name)
        assert again.pool == "alice"
        assert again.to_dict() == report.to_dict()
    else:
        first, *rows = (tmp_path / name).read_text(encoding="utf-8").splitlines()
        assert first.split(",") == ["phase", "party", *(field.name for field in dataclasses.fields(Figures))]
        assert rows[1].split(",")[:5] == ["", "bob", "", "0.4", "0.1"]
        assert len(rows) == 4


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    for text in (
        "{",
        "[]",
        "{}",
        '{"pool": "x", "phases": {"": {}}}',
        '{"pool": "x", "phases": {"": {"parties": {}, "no": 1}}}',
    ):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError):
            Report.load(tmp_path / "x.json")


def test_several_as_one() -> None:
    part = Figures(seconds=1.0, receiving=0.5, sending=0.1, cpu=0.3, messages_sent=3, bytes_sent=10, rounds=2)
    other = dataclasses.replace(part, seconds=2.0, receiving=0.1, messages_sent=4, rounds=None)
    found = joint([Report("alice", {"": part, "a": part}, {}), Report("", {"": other, "b": other}, {})])
    assert list(found) == ["", "a", "b"]
    assert found[""] == Figures(2.0, 0.5, 0.1, 0.6, 7, 0, 20, 0, 2)
    assert found.parties == {"": {"alice": part, "party 1": other}, "a": {"alice": part}, "b": {"party 1": other}}
    assert found["b"].rounds is None


def test_reports_and_traces_in_one_folder(tmp_path: Path) -> None:
    settings = dataclasses.replace(quick(), report_to=tmp_path, trace=tmp_path)
    with SyncPool(name="alice", settings=settings, network=MemoryNetwork()):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alice.json", "alice.report.json"]
    assert Report.load(tmp_path / "alice.report.json").pool == "alice"
    assert main(["trace", "show", str(tmp_path)]) == 0


@pytest.mark.parametrize("face", [Pool, SyncPool])
async def test_one_is_left_in_a_folder_at_the_end(face: type[Pool] | type[SyncPool], tmp_path: Path) -> None:
    settings = dataclasses.replace(quick(), report_to=tmp_path / "reports")
    pool = face(name="Ali/ce", settings=settings, network=MemoryNetwork())
    with pool.phase("offline"):
        pass
    await (pool.shutdown() if isinstance(pool, Pool) else pool.pool.shutdown())
    (path,) = (tmp_path / "reports").iterdir()
    report = Report.load(path)
    assert report.pool == "Ali/ce"
    assert list(report) == ["", "offline"]


async def test_one_that_can_not_be_left_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "reports"
    async with Pool(name="Alice", settings=dataclasses.replace(quick(), report_to=folder)) as pool:
        folder.rmdir()
        await pool.shutdown()
    assert "the report can't be written" in caplog.text
