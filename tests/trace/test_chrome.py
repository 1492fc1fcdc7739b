"""Traces that Perfetto opens."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from mpccomm.trace.chrome import Slice, document, events, pack, write
from mpccomm.trace.record import Connection, Phase, Record, Wait
from tests.trace.records import ping_pong


def record() -> Record:
    alice, bob = ping_pong(3, zero=500, clock="one")
    alice.connections.append(Connection(0, 5, "connected"))
    return Record([alice, bob])


def slice_of(began: int, ended: int) -> Slice:
    return Slice(began, ended, "", "", {})


def test_every_track_and_party_has_a_name() -> None:
    found = list(events(record()))
    names = {(one["pid"], one["tid"]): one["args"]["name"] for one in found if one["name"] == "thread_name"}
    assert [one["args"]["name"] for one in found if one["name"] == "process_name"] == ["Alice", "Bob"]
    assert {(one["pid"], one["tid"]) for one in found if one["ph"] != "M"} == names.keys()
    assert set(names.values()) == {"MainThread", "on the way to Bob", "on the way to Alice", "connections"}


def test_slices_of_a_track_follow_or_hold_each_other() -> None:
    tracks: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for one in events(record()):
        if one["ph"] == "X":
            tracks[one["pid"], one["tid"]].append(one)
    for content in tracks.values():
        spans = [(round(1000 * one["ts"]), round(1000 * (one["ts"] + one["dur"]))) for one in content]
        assert not any(begin < other < end < further for begin, end in spans for other, further in spans)


def test_arrows_go_forward_and_end_in_slices() -> None:
    found = list(events(record()))
    ends: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        if one["ph"] in "sf":
            assert isinstance(one["id"], int), "Perfetto takes nothing else"
            ends[one["id"]].append(one)
    assert len(ends) == 6
    for arrow in ends.values():
        begin, end = sorted(arrow, key=lambda one: str(one["ph"]), reverse=True)
        assert begin["ph"] == "s"
        assert end["bp"] == "e"
        assert begin["ts"] < end["ts"]
        assert begin["pid"] != end["pid"]
        for one in arrow:
            where = one["pid"], one["tid"]
            around = [
                other
                for other in found
                if other["ph"] == "X"
                and (other["pid"], other["tid"]) == where
                and other["ts"] <= one["ts"] <= other["ts"] + other["dur"]
            ]
            assert around


def test_times_begin_at_zero() -> None:
    times = [one["ts"] for one in events(record()) if "ts" in one]
    assert min(times) >= 0


def test_the_file_is_json_with_the_notes(tmp_path: Path) -> None:
    write(record(), tmp_path / "trace.json")
    found = json.loads((tmp_path / "trace.json").read_text())
    assert found == json.loads(json.dumps(document(record())))
    assert [one["name"] for one in found["mpccomm"]["parties"]] == ["Alice", "Bob"]


def test_waits_that_had_not_ended_say_so() -> None:
    alice, bob = ping_pong(1)
    alice.waits += [Wait(0, 5, alice.end, [], [0], goes_on=True), Wait(0, 5, alice.end, [0], [], goes_on=True)]
    names = {one["name"] for one in events(Record([alice, bob])) if one.get("cat") == "wait"}
    assert {"wait for Bob, and that goes on", "wait until Bob has it, and that goes on"} <= names


def test_rows() -> None:
    first, inner, second, across = slice_of(0, 10), slice_of(2, 10), slice_of(10, 12), slice_of(5, 11)
    assert pack([second, across, inner, first]) == [[first, inner, second], [across]]
    assert len(pack(slice_of(at, 100 + at) for at in range(50))) == 8


def test_the_tasks_of_a_thread_are_on_its_track_and_phases_have_their_last_name(tmp_path: Path) -> None:
    alice, bob = ping_pong(1)
    alice.lanes += ["MainThread/Task-1", "MainThread/Task-2", "Lone \ud800"]
    alice.phases += [Phase("online/open", 1, 0, 10), Phase("online/share", 2, 20, 30), Phase("x", 3, 0, 1)]
    write(Record([alice, bob]), tmp_path / "trace.json")
    found = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in found if event["name"] == "thread_name" and event["pid"] == 1}
    assert tracks == {"MainThread", "Lone \ud800", "on the way to Bob"}
    assert {"open", "share", "x"} <= {event["name"] for event in found if event.get("cat") == "phase"}
