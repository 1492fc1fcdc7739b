"""What the notes of all parties come to."""

import asyncio
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest

from mpccomm import MemoryNetwork, SyncPool
from mpccomm.cli import Status, main
from mpccomm.errors import ConfigurationError
from mpccomm.line import Line
from mpccomm.trace.chrome import write
from mpccomm.trace.estimate import estimate
from mpccomm.trace.record import Connection, PartyRecord, Phase, Receive, Record, Wait, load
from tests.pools import pools
from tests.trace.records import message, of_a_later_run, party, ping_pong


def test_a_message_is_what_both_noted() -> None:
    record = Record([*ping_pong(1, zero=500)])
    there, back = record.messages
    assert (there.sender, there.receiver, there.size) == ("Alice", "Bob", 100)
    assert (there.called, there.arrived, there.delivered, there.received) == (10_000, 11_000, 12_000, 11_002)
    assert (back.sender, back.called, back.after) == ("Bob", 12_000, 0)


@pytest.mark.parametrize("rounds", [1, 3, 20])
def test_rounds_are_the_longest_chain(rounds: int) -> None:
    assert Record([*ping_pong(rounds)]).depth == 2 * rounds


def test_messages_that_nothing_led_to_are_one_round() -> None:
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    for at in range(5):
        message(alice, bob, 100 * at, 1000)
        message(bob, alice, 100 * at, 1000)
    assert Record([alice, bob]).depth == 1
    assert Record([]).depth == 0


def test_one_side_is_enough() -> None:
    alice, _ = ping_pong(2)
    seen = Record([alice]).messages
    assert [(one.sender, one.receiver) for one in seen] == 2 * [("Alice", "Bob"), ("Bob", "Alice")]
    assert (seen[0].arrived, seen[1].called) == (None, None)
    assert seen[2].after == 1


def test_rounds_are_unknown_without_the_traces_of_all_that_took_part() -> None:
    alice, bob = ping_pong(3)
    assert (Record([alice]).depth, Record([alice]).missing) == (None, ["Bob"])
    assert (Record([alice, bob]).depth, Record([alice, bob]).missing) == (6, [])
    # Nothing went to Carol.
    alone = party("Alice", "Bob", "Carol")
    assert (Record([alone]).depth, Record([alone]).missing) == (0, [])
    # One that was started again, and of which only the later process has left a trace.
    again = party("Bob", "Alice")
    again.incarnation = "later"
    alice.peers.append(("Bob", "later"))
    assert Record([alice, again]).missing == ["Bob"]


@pytest.mark.parametrize("named", [True, False])
def test_runs_are_told_apart(named: bool) -> None:
    first = ping_pong(2)
    second = [of_a_later_run(one) for one in first]
    for one in () if named else (*first, *second):
        one.name = ""
    assert Record([second[0], *first, second[1]]).runs == [list(first), second]
    # A file that was left by a party which the later run does not have.
    alice, bob = second
    carol = party("Carol", "Alice", "Bob")
    assert Record([carol, alice, bob]).runs == [[carol], [alice, bob]]
    # Those of one party in two runs.
    assert Record([first[0], second[0]]).runs == [[first[0]], [second[0]]]


def test_what_is_no_other_run() -> None:
    alice, bob = ping_pong(2)
    # Bob was started again, and Alice has met both.
    again = party("Bob", "Alice")
    again.incarnation = "later"
    alice.peers.append(("Bob", "later"))
    # Two pairs that have nothing to do with each other; one that has not met those that it knows of.
    carol, dave = party("Carol", "Dave"), party("Dave", "Carol")
    alone = party("Eve")
    alone.peers = [("Alice", ""), ("Carol", "")]
    together = [again, bob, carol, dave, alone, alice]
    assert Record(together).runs == [together]
    assert Record([]).runs == [[]]


def test_names_of_parties_that_have_none_or_the_same() -> None:
    alice, bob = ping_pong(1)
    bob.name = ""
    assert Record([alice, bob]).names == ["Alice", "Bob"]
    again = party("Alice", "Bob")
    again.incarnation = "later"
    assert Record([alice, again]).names == ["Alice", "Alice (2)"]


def test_files_are_put_together(tmp_path: Path) -> None:
    alice, bob = ping_pong(2, zero=500)
    write(Record([alice]), tmp_path / "a.json")
    write(Record([bob]), tmp_path / "b.json")
    both = load(tmp_path / "a.json", tmp_path / "b.json")
    assert both.messages == Record([alice, bob]).messages
    # A part that was written earlier adds nothing.
    earlier = ping_pong(1)[0]
    earlier.end = 5
    write(Record([earlier, bob]), tmp_path / "early.json")
    assert load(tmp_path / "early.json", tmp_path / "a.json").messages == both.messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"mpccomm": 3}',
        '{"mpccomm": {"format": 1, "parties": [{}]}}',
        "[" * 100_000,
        '{"mpccomm":' * 100_000,
    ],
    ids=range(7),
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is no trace of mpccomm"):
        load(path)


def test_a_later_format(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"mpccomm": {"format": 99, "parties": []}}))
    with pytest.raises(ConfigurationError, match="format 99"):
        load(path)


def test_a_wait_for_both_is_for_messages_until_the_last_is_there_and_then_for_deliveries() -> None:
    alice = party("Alice", "Bob", "Carol")
    for peer, arrived in ((0, 30), (1, 50)):
        alice.receives.append(Receive(peer, 0, "x", 100, 0, 10, arrived, 80, 81))
    alice.waits = [Wait(0, 10, 70, [0, 1], [0, 1]), Wait(0, 90, 95, [0], []), Wait(0, 100, 120, [0], [0, 1], True)]
    assert list(alice.waits_by_kind()) == [
        Wait(0, 10, 50, [], [0, 1]),
        Wait(0, 50, 70, [0, 1], []),
        Wait(0, 90, 95, [0], []),
        Wait(0, 100, 120, [], [0, 1], True),  # nothing has come
    ]


def test_messages_that_were_there_before_leave_a_wait_for_deliveries_alone() -> None:
    alice = party("Alice", "Bob")
    alice.receives.append(Receive(0, 0, "x", 100, 0, 10, 5, 80, 81))
    alice.waits = [Wait(0, 10, 70, [0], [0])]
    assert list(alice.waits_by_kind()) == [Wait(0, 10, 70, [0], [])]


def places(found: object, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything that stands in a file."""
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(found, dict):
        inside = found.items()
    elif isinstance(found, list):
        inside = enumerate(found)
    for key, value in inside:
        yield (*so_far, key)
        yield from places(value, (*so_far, key))


ANYTHING: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 10**9, 2**70, -(2**70), 1e308, math.inf, math.nan, 1.5),
    *("", "\x1b[31mred\n", "\u202e", "x" * 1000, [], {}, [[]], [0], [-1, 0]),
)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_of_another_party_is_read_or_refused(
    seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in it: no other error, no endless work, and nothing that a terminal takes for a command."""
    random = Random(seed)
    alice, bob = ping_pong()
    for one in (alice, bob):
        one.lanes += ["MainThread/task", "other"]
        one.parents = [-1, 0, -1]
        one.phases.append(Phase("sums", 0, 10, 10**6))
        one.connections.append(Connection(0, 5, "connected"))
    own, other = tmp_path / "alice.json", tmp_path / "bob.json"
    write(Record([alice]), own)
    write(Record([bob]), other)
    whole = other.read_text(encoding="utf-8")
    ways = list(places({"mpccomm": json.loads(whole)["mpccomm"]}))
    refused = 0
    for _ in range(80):
        found = json.loads(whole)
        *way, last = random.choice(ways)
        place = found
        for key in way:
            place = place[key]
        place[last] = random.choice(ANYTHING)
        other.write_text(json.dumps(found), encoding="utf-8")
        for command in (["trace", "merge", own, other, "-o", tmp_path / "both.json"], ["trace", "show", other]):
            refused += main(list(map(str, command))) is Status.USAGE
        refused += main(["estimate", str(own), str(other), "--rtt", "10ms"]) is Status.USAGE
    assert 100 < refused < 240
    assert "\x1b" not in "".join(capfd.readouterr())


ODD = ("a\nb\x1b[31m", "\u202e", " x ", "a\u00a0b")
"""What ids, threads and tasks may be called, and no party or phase."""


def test_what_a_blocking_pool_records_is_read_whatever_things_are_called(tmp_path: Path) -> None:
    network = MemoryNetwork()
    names = "B\u00fc\u200cher a\u00a0b", "*/:%s"
    with SyncPool(name=names[0], network=network) as alice, SyncPool(name=names[1], network=network) as bob:
        network.connect(alice, bob)
        # A call may begin before the record does.
        early = Thread(target=lambda: alice.recv(names[1], "early"), name=ODD[0])
        early.start()
        while not list(alice._engine.party(names[1]).link.mailbox.receives()):
            pass
        with alice.trace(tmp_path / "alice.json"), alice.phase("a\u00a0b"):
            for msg_id in ODD:
                alice.send(names[1], 1, msg_id)
                sender = Thread(target=alice.send, args=(names[1], 2, msg_id), name=msg_id)
                sender.start()
                sender.join()
            bob.send(names[0], 1, "early")
            early.join()
    read_and_shown(tmp_path / "alice.json", 2 * len(ODD) + 1)


async def test_what_a_pool_records_is_read_whatever_things_are_called(tmp_path: Path) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        early = asyncio.create_task(alice.recv("Bob", "early"))
        await asyncio.sleep(0)
        with alice.trace(tmp_path / "alice.json"):
            for msg_id in ODD:
                await asyncio.create_task(alice.send("Bob", 1, msg_id), name=msg_id)
            await bob.send("Alice", 1, "early")
            await early
    read_and_shown(tmp_path / "alice.json", len(ODD) + 1)


def read_and_shown(path: Path, messages: int) -> None:
    record = load(path)
    assert len(record.messages) == messages
    for command in (["show", str(path)], ["merge", str(path), "-o", str(path)]):
        assert main(["trace", *command]) is Status.WELL
    assert load(path).messages == record.messages


def test_messages_of_which_each_comes_before_the_other() -> None:
    alice, bob = ping_pong(3)
    bob.sends[2] = bob.sends[2]._replace(number=0)
    with pytest.raises(ValueError, match="each comes before the other"):
        estimate(Record([alice, bob]), lambda *_: Line(rtt=0.01))


@pytest.mark.parametrize("parents", [[0, 0, 0], [1, 2, 0], [-1, 2, 1]])
def test_tasks_that_have_made_themselves(parents: list[int]) -> None:
    alice, _ = ping_pong()
    alice.lanes += ["MainThread/one", "MainThread/two"]
    alice.parents = [1, -1, 1]
    assert PartyRecord.from_json(json.loads(json.dumps(alice.to_json()))) == alice
    alice.parents = parents
    with pytest.raises(ValueError, match="made itself"):
        PartyRecord.from_json(json.loads(json.dumps(alice.to_json())))
