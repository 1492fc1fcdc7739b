"""The parser takes what the writers make, and nothing else."""

from __future__ import annotations

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.frames import (
    Abort,
    Blocked,
    Bounds,
    Frame,
    Goodbye,
    Hello,
    Key,
    Kind,
    Part,
    Resume,
    Start,
    ViolationError,
)
from tests.protocol.links import parsed

KEYS: tuple[Key, ...] = ("x", ("", 3), "ü", ("prefix", 2**64 - 1), "")


def raw(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("batch", "frame"),
    [
        (
            frames.hello(Hello(1, b"i" * 16, b"n" * 16, 80, 3, Bounds(1, 2, 3, 4, 5))),
            Hello(1, b"i" * 16, b"n" * 16, 80, 3, Bounds(1, 2, 3, 4, 5)),
        ),
        (frames.resume(Resume(b"n" * 16, True, 1, 2, 3)), Resume(b"n" * 16, True, 1, 2, 3)),
        (frames.ack(1, 2, 2**64 - 1), frames.Ack(1, 2, 2**64 - 1)),
        (frames.ping(5), frames.Ping(5)),
        (frames.pong(5), frames.Pong(5)),
        (frames.blocked(Blocked(1, 2, 3, True, KEYS)), Blocked(1, 2, 3, True, KEYS)),
        (frames.deadlock(True), frames.Deadlock(True)),
        (frames.goodbye(Goodbye(1, 2, 3, KEYS)), Goodbye(1, 2, 3, KEYS)),
        (frames.farewell(), frames.Farewell()),
        (frames.abort("a\nb\x1b[31m"), Abort("a b [31m")),
        (
            raw(Kind.HELLO, b"\0\2 and what a later version says more"),
            Hello(2, bytes(16), bytes(16), 0, 0, Bounds(0, 0, 0, 0, 0)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trip(batch: bytes, frame: Frame) -> None:
    assert parsed(batch) == [frame]
    assert parsed(batch * 3) == [frame] * 3


@pytest.mark.parametrize("key", KEYS)
def test_start_and_part(key: Key) -> None:
    name = frames.encode_key(key)
    batch = frames.start_head(1, name, True, 2, 99, 3) + b"abc" + frames.part_head(2, 5, 2) + b"de"
    start, part = parsed(batch)
    assert isinstance(start, Start)
    assert isinstance(part, Part)
    assert start[:-1] == (1, key, len(name[1]), True, 2, 99)
    assert bytes(start.data) == b"abc"
    assert part[:-1] == (2, 5)
    assert bytes(part.data) == b"de"


@pytest.mark.parametrize(
    "batch",
    [
        b"\1",
        raw(Kind.PING, bytes(8))[:-1],
        raw(99, b""),
        raw(Kind.PING, bytes(7)),
        raw(Kind.HELLO, b""),
        raw(Kind.START, bytes(22)),
        raw(Kind.START, bytes(23)),
        raw(Kind.START, b"\0" * 8 + b"\4\0\0\0\0\0\1" + bytes(8)),
        raw(Kind.START, b"\0" * 8 + b"\0\0\1\0\0\0\1" + bytes(8)),
        raw(Kind.START, b"\0" * 8 + b"\1\0\1\0\0\0\1" + bytes(8) + b"x"),
        raw(Kind.START, b"\0" * 8 + b"\0\0\1\0\0\0\1" + bytes(8) + b"\xff"),
        frames.start_head(1, frames.encode_key("x" * 1001), False, 1, 0, 0),
        raw(Kind.PART, bytes(15)),
        raw(Kind.DEADLOCK, b"\2"),
        raw(Kind.FAREWELL, b"x"),
        raw(Kind.ABORT, bytes(1025)),
        raw(Kind.GOODBYE, bytes(20) + b"\0\0"),
        raw(Kind.GOODBYE, bytes(20) + b"\2\0\0"),
        raw(Kind.GOODBYE, bytes(20) + b"\0\0\1"),
        raw(Kind.GOODBYE, bytes(20) + b"\0\0\0" * 33),
    ],
)
def test_what_is_malformed(batch: bytes) -> None:
    with pytest.raises(ViolationError):
        parsed(batch)
    # What stands before it counts.
    assert next(frames.parse(frames.ping(1) + batch, max_id_size=9)) == frames.Ping(1)


def test_a_reason_is_cut() -> None:
    (abort,) = parsed(frames.abort("ü" * 1000))
    assert abort == Abort("ü" * 512)


def test_a_list_of_ids_is_short() -> None:
    assert frames.some_ids(["x"] * 40) == ("x",) * frames.MAX_LISTED_IDS
    assert frames.some_ids(["x" * 20_000, "y" * 20_000]) == ("x" * 20_000,)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("x", "'x'"),
        (("", 3), "#3"),
        (("p/", 3), "p/#3"),
        (("a\nb", 3), "'a\\nb'#3"),
        ("x" * 999, "'" + "x" * 199 + "..."),
    ],
)
def test_how_an_id_is_shown(key: Key, text: str) -> None:
    assert frames.describe_key(key) == text
