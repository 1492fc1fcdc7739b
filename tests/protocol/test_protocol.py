"""PROTOCOL.md says what the code does: its tables are compared with those in the code, its figures with the defaults."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.box import cost
from mpccomm.protocol.connection import IDLE_BURST, IDLE_RATE, MOST_UNVERIFIED, REWOUND
from mpccomm.protocol.frames import Bounds, Goodbye, Hello, Kind, Resume
from mpccomm.protocol.link import BEAT, RARE
from mpccomm.protocol.receiver import FREE_SEGMENTS, SHORTEST_SEGMENT
from mpccomm.protocol.states import (
    CONNECTION,
    FOR_THE_ADOPTED,
    PARTY,
    CloseCode,
    ConnectionState,
    PartyEvent,
    PartyState,
)
from mpccomm.settings import Limits, Timing

TEXT = resources.files("mpccomm.protocol").joinpath("PROTOCOL.md").read_text(encoding="utf-8")
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "bytes16": 16}


def table(*header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    lines = iter(TEXT.splitlines())
    wanted = "| " + " | ".join(header) + " |"
    assert wanted in lines, f"no table {wanted}"
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_close_codes() -> None:
    assert {int(code): name for code, name, _ in table("code", "name", "meaning")} == {
        code.value: code.name for code in CloseCode
    }


def test_kinds() -> None:
    assert {int(kind): name for kind, name, _ in table("kind", "name", "body")} == {
        kind.value: kind.name for kind in Kind
    }


def layout(text: str) -> int:
    return sum(SIZES[size] for size in re.findall(r"\b(u8|u16|u32|u64|bytes16)\b", text))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.RESUME, frames.resume(Resume(b"n" * 16, True, 1, 2, 3))),
        (Kind.MESSAGE, frames.message_head(1, (0, 0, b""), False, 0)),
        (Kind.START, frames.start_head(1, (0, 0, b""), False, 1, 0, 0)),
        (Kind.PART, frames.part_head(1, 2, 0)),
        (Kind.PING, frames.ping(1)),
        (Kind.PONG, frames.pong(1)),
        (Kind.BLOCKED, frames.blocked(frames.Blocked(1, 2, 3, 4, True, False, ()))),
        (Kind.GOODBYE, frames.goodbye(Goodbye(1, 2, 3, ()))),
        (Kind.FAREWELL, frames.farewell()),
        (Kind.ADMIT, frames.admit(1)),
        (Kind.DEADLOCK, frames.deadlock(True, True)),
    ],
)
def test_layouts(kind: Kind, body: bytes) -> None:
    described = {name: text for _, name, text in table("kind", "name", "body")}[kind.name]
    assert len(body) - frames.HEADER_SIZE == layout(described)


def test_layout_of_hello() -> None:
    section = TEXT.split("### 2.2 HELLO")[1].split("|")[0]
    hello = Hello(frames.PROTOCOL_VERSION, b"i" * 16, b"n" * 16, 80, 0, Bounds(1, 2, 3, 4, 5))
    assert len(frames.hello(hello)) - frames.HEADER_SIZE == layout(section)
    names = [name.rsplit(" ", 1)[0] for name in re.sub(r"[`\s]+", " ", section).strip().split(", ")]
    assert names == [*Hello._fields[:-1], *Bounds._fields]


def test_states_of_a_connection() -> None:
    described = {}
    for state, meaning, kinds, following in table("state", "meaning", "frame", "next state"):
        assert ConnectionState[state].value == meaning
        for kind in kinds.split():
            described[ConnectionState[state], Kind[kind]] = ConnectionState[following.split()[0].strip(",")]
    assert described == CONNECTION


def test_states_of_a_party() -> None:
    assert {row[0]: row[1] for row in table("state", "meaning")} == {state.name: state.value for state in PartyState}
    assert {row[0]: row[1] for row in table("event", "meaning")} == {event.name: event.value for event in PartyEvent}
    assert {
        (PartyState[state], PartyEvent[event]): PartyState[following]
        for state, event, following in table("state", "event", "next state")
    } == PARTY


def test_what_counts_only_while_alive() -> None:
    (sentence,) = re.findall(r"\* ([A-Z, ]+ and ADMIT) count only", TEXT)
    assert {Kind[name] for name in re.findall("[A-Z]+", sentence)} == FOR_THE_ADOPTED


def test_figures() -> None:
    timing, limits = Timing(), Limits()
    assert cost(7, 3, 5) == 1024 + 7 + 5 + 512 * 3
    assert "1024 + total + id_cost + 512 * segments" in TEXT
    assert f"length below {SHORTEST_SEGMENT} behind the first {FREE_SEGMENTS} segments" in TEXT
    assert f"at most 1 MiB ({frames.MAX_BATCH:,} bytes)" in TEXT
    assert f"at most {frames.MAX_REASON} bytes of UTF-8" in TEXT
    assert f"at most {frames.MAX_LISTED_IDS} of them" in TEXT
    assert f"{frames.MAX_LISTED_BYTES // 1024} KiB" in TEXT
    assert f"more than {MOST_UNVERIFIED} connections" in TEXT
    assert f"takes more than {timing.greeting:g} s" in TEXT
    assert f"heard nothing for {timing.heartbeat:g} s" in TEXT
    assert f"sign of life for {timing.dead_after:g} s" in TEXT
    assert f"nothing came back for {timing.suspect_after:g} s" in TEXT
    assert f"every {timing.tick:g} s" in TEXT
    assert f"has moved for {timing.waiting_notice:g} s" in TEXT
    assert f"({limits.window // 2**20} MiB)" in TEXT
    assert (
        f"{frames.MESSAGE_OVERHEAD} bytes for each MESSAGE and PART and {frames.START_OVERHEAD} for each START" in TEXT
    )
    assert f"Of these {IDLE_BURST} are granted at once and {IDLE_RATE} a second" in TEXT
    assert f"counts as {REWOUND}." in TEXT
    assert f"PING and PONG, which count as {BEAT} each" in TEXT
    assert f"which count as {RARE} each" in TEXT
    assert f"version {frames.PROTOCOL_VERSION}\n" in TEXT
    assert f"| version | {frames.PROTOCOL_VERSION}." in TEXT
    assert layout("received: u64, consumed_bytes: u64, consumed_messages: u64") == frames.BATCH_HEAD
