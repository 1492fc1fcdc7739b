"""What the notes of all parties come to."""

import json
from pathlib import Path

import pytest

from mpccomm.errors import ConfigurationError
from mpccomm.trace.chrome import write
from mpccomm.trace.record import Receive, Record, Wait, load
from tests.trace.records import message, party, ping_pong


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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mpccomm": 3}', '{"mpccomm": {"format": 1, "parties": [{}]}}'])
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
