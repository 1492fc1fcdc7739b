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
from tests.protocol.links import batch_of, parsed

KEYS: tuple[Key, ...] = ("x", ("", 3), "ü", ("prefix", 2**64 - 1), "")


def raw(kind: int, body: bytes, flags: int = 0, id_size: int = 0) -> bytes:
    return bytes((kind, flags)) + id_size.to_bytes(2, "big") + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("batch", "frame"),
    [
        (
            frames.hello(Hello(frames.PROTOCOL_VERSION, b"i" * 16, b"n" * 16, 80, 3, Bounds(1, 2, 3, 4, 5))),
            Hello(frames.PROTOCOL_VERSION, b"i" * 16, b"n" * 16, 80, 3, Bounds(1, 2, 3, 4, 5)),
        ),
        (frames.resume(Resume(b"n" * 16, True, 1, 2, 3)), Resume(b"n" * 16, True, 1, 2, 3)),
        (frames.ping(5), frames.Ping(5)),
        (frames.pong(5), frames.Pong(5)),
        (frames.blocked(Blocked(1, 2, 3, 4, True, False, KEYS)), Blocked(1, 2, 3, 4, True, False, KEYS)),
        (frames.deadlock(True, False), frames.Deadlock(True, False)),
        (frames.goodbye(Goodbye(1, 2, 3, KEYS)), Goodbye(1, 2, 3, KEYS)),
        (frames.goodbye(Goodbye(1, 2, 3, KEYS, True)), Goodbye(1, 2, 3, KEYS, True)),
        (frames.farewell(), frames.Farewell()),
        (frames.admit(7), frames.Admit(7)),
        (frames.abort("a\nb\x1b[31m"), Abort("a b [31m")),
        (
            raw(Kind.HELLO, b"\0\x09 and what a later version says more"),
            Hello(9, bytes(16), bytes(16), 0, 0, Bounds(0, 0, 0, 0, 0)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trip(batch: bytes, frame: Frame) -> None:
    assert parsed(batch_of(batch)) == [frame]
    assert parsed(batch_of(batch * 3)) == [frame] * 3


@pytest.mark.parametrize("key", KEYS)
def test_start_and_part(key: Key) -> None:
    name = frames.encode_key(key)
    batch = frames.start_head(1, name, True, 2, 99, 3) + b"abc" + frames.part_head(2, 5, 2) + b"de"
    whole, start, part = parsed(batch_of(frames.message_head(0, name, True, 3), b"abc", batch))
    assert isinstance(whole, Start)
    assert whole[:-2] == (0, key, len(name[2]), True, 1, 3)
    assert bytes(whole.data) == b"abc"
    assert isinstance(start, Start)
    assert isinstance(part, Part)
    assert start[:-2] == (1, key, len(name[2]), True, 2, 99)
    assert bytes(start.data) == b"abc"
    assert part[:-1] == (2, 5)
    assert bytes(part.data) == b"de"


@pytest.mark.parametrize("key", KEYS)
def test_annotations(key: Key) -> None:
    name = frames.encode_key(key)
    for text in (b"n", b"n" * frames.MAX_ANNOTATION):
        note = frames.pack_annotation(text)
        whole, start = parsed(
            batch_of(
                frames.message_head(0, name, False, 3, note),
                b"abc",
                frames.start_head(1, name, False, 2, 99, 3, note),
                b"abc",
            )
        )
        for frame in (whole, start):
            assert isinstance(frame, Start)
            assert frame.key == key
            assert frame.annotation == text
            assert bytes(frame.data) == b"abc"
    for text in (b"", b"n" * (frames.MAX_ANNOTATION + 1)):
        with pytest.raises(ValueError, match="an annotation of"):
            frames.pack_annotation(text)


@pytest.mark.parametrize(
    "batch",
    [
        b"\1",
        bytes(7),
        raw(Kind.PING, bytes(8))[:-1],
        raw(99, b""),
        raw(Kind.PING, bytes(7)),
        raw(Kind.HELLO, b""),
        raw(Kind.PING, bytes(8), flags=1),
        raw(Kind.PING, bytes(8), id_size=1),
        raw(Kind.MESSAGE, bytes(15)),
        raw(Kind.MESSAGE, bytes(16), flags=4),
        raw(Kind.MESSAGE, bytes(16), id_size=1),
        raw(Kind.MESSAGE, bytes(15) + b"\1"),
        raw(Kind.MESSAGE, bytes(16) + b"\0abc", flags=frames.ANNOTATED),
        raw(Kind.MESSAGE, bytes(16) + b"\4abc", flags=frames.ANNOTATED),
        raw(Kind.MESSAGE, bytes(16) + bytes((64,)) + bytes(64), flags=frames.ANNOTATED),
        raw(Kind.MESSAGE, bytes(16) + b"\xff", id_size=1),
        raw(Kind.MESSAGE, bytes(16) + b"\xff", id_size=1, flags=1),
        frames.message_head(1, frames.encode_key("x" * 1001), False, 0),
        raw(Kind.START, bytes(27)),
        raw(Kind.START, bytes(28)),
        raw(Kind.START, bytes(19) + b"\1" + bytes(8), flags=4),
        raw(Kind.START, bytes(19) + b"\1" + bytes(8), id_size=1),
        raw(Kind.START, bytes(19) + b"\1" + bytes(8) + b"\xff", id_size=1),
        frames.start_head(1, frames.encode_key("x" * 1001), False, 1, 0, 0),
        raw(Kind.PART, bytes(15)),
        raw(Kind.RESUME, bytes(40), flags=2),
        raw(Kind.RESUME, bytes(40), id_size=1),
        raw(Kind.DEADLOCK, b"", flags=4),
        raw(Kind.DEADLOCK, b"x"),
        raw(Kind.BLOCKED, bytes(28), flags=4),
        raw(Kind.FAREWELL, b"x"),
        raw(Kind.ABORT, bytes(1025)),
        raw(Kind.GOODBYE, bytes(20) + bytes(10)),
        raw(Kind.GOODBYE, bytes(20) + b"\2" + bytes(10)),
        raw(Kind.GOODBYE, bytes(20) + bytes(10) + b"\1"),
        raw(Kind.GOODBYE, bytes(20) + bytes(8) + b"\1\0\0"),
        raw(Kind.GOODBYE, bytes(20) + bytes(11) * 33),
    ],
)
def test_what_is_malformed(batch: bytes) -> None:
    with pytest.raises(ViolationError):
        parsed(batch_of(batch))
    # What stands before it counts.
    assert next(frames.parse(batch_of(frames.ping(1), batch), max_id_size=9)) == frames.Ping(1)


def test_a_batch_has_a_head() -> None:
    with pytest.raises(ViolationError, match="a batch of 23 bytes"):
        parsed(bytes(23))
    assert parsed(bytes(24)) == []


def test_a_reason_is_cut() -> None:
    (abort,) = parsed(batch_of(frames.abort("ü" * 1000)))
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
        ("@(alice,bob)barrier 0", "barrier #0 of (alice, bob)"),
        ("@[c]@[d]@(alice,bob)reduce 12 digests", "reduce #12 (digests) of (alice, bob) in @[c]@[d]"),
        ("@(#00ff)bcast 3", "bcast #3 of group #00ff"),
        ("@(a\n,b)bcast 3", "'bcast #3 of (a\\n, b)'"),
        ("@(alice,bob)of my own", "'@(alice,bob)of my own'"),
    ],
)
def test_how_an_id_is_shown(key: Key, text: str) -> None:
    assert frames.describe_key(key) == text


def test_an_id_as_other_programs_look_for_it() -> None:
    assert frames.text_of_key("x") == "x"
    assert frames.text_of_key(("p/", 3)) == "p/#3"
    assert frames.text_of_key("@(alice,bob)barrier 0") == "barrier #0 of (alice, bob)"


@pytest.mark.parametrize(
    ("key", "of_group", "members"),
    [
        ("@[c]@(alice,bob)reduce 12 digests", True, ("alice", "bob")),
        ("@(#00ff)bcast 3", True, ()),
        ("@(alice,bob)of my own", False, ()),
        (("", 3), False, ()),
    ],
)
def test_whose_message_it_is(key: Key, of_group: bool, members: tuple[str, ...]) -> None:
    assert frames.is_of_group(key) is of_group
    assert frames.members_of(key) == members
