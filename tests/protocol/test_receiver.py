"""Frames become messages; what contradicts itself becomes a violation, and is not repaired by a repetition."""

from __future__ import annotations

import mmap
import os
from unittest import mock

import pytest

from mpccomm.protocol.frames import Key, Part, Start, ViolationError
from mpccomm.protocol.receiver import Incoming, Receiver, Turns
from mpccomm.settings import Limits


def start(seq: int, data: bytes = b"", *, key: Key = "x", segments: int = 1, total: int | None = None) -> Start:
    return Start(seq, key, 1, False, segments, len(data) if total is None else total, memoryview(data))


def contents(message: Incoming | None) -> list[bytes]:
    assert message is not None
    assert message.complete
    return [bytes(segment) for segment in message.segments]


def table(*lengths: int) -> bytes:
    return b"".join(length.to_bytes(8, "big") for length in lengths)


@pytest.mark.parametrize("piece", [1, 3, 8, 9, 100])
@pytest.mark.parametrize("parts", [(b"abc", b"", b"defgh"), (b"", b""), (b"", b"x", b""), (b"abc", b"")])
def test_segments_in_pieces(piece: int, parts: tuple[bytes, ...]) -> None:
    body = table(*map(len, parts)) + b"".join(parts)
    receiver = Receiver(Limits(mapped_segment=4))
    message = receiver.start(start(1, b"", segments=len(parts), total=len(body)))
    for seq, at in enumerate(range(0, len(body), piece), 2):
        assert message is not None
        assert not message.complete
        assert message.written == at
        message = receiver.part(Part(seq, 0, memoryview(body[at : at + piece])))
    assert contents(message) == list(parts)
    assert not list(receiver.partial)


def test_each_frame_once() -> None:
    receiver = Receiver(Limits())
    assert contents(receiver.start(start(1, b"1"))) == [b"1"]
    assert receiver.start(start(1, b"1")) is None
    assert receiver.part(Part(1, 0, memoryview(b""))) is None
    assert receiver.duplicates == 2
    with pytest.raises(ViolationError, match="frame 3 follows frame 1"):
        receiver.start(start(3))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (start(1, b"12", total=1), "longer than"),
        (start(1, total=2000), "are the limit"),
        (start(1, total=20, segments=3), "in 3 segments"),
        (start(1, total=900, segments=100), "in 100 segments"),
        (start(1, table(1, 2) + b"1", segments=2, total=17), "don't add up"),
    ],
)
def test_contradictions(frame: Start, text: str) -> None:
    receiver = Receiver(Limits(max_segments=10, max_message_size=1000))
    with pytest.raises(ViolationError, match=text):
        receiver.start(frame)
    assert receiver.received == 0
    assert receiver.box.messages == 0


def test_a_piece_of_nothing() -> None:
    with pytest.raises(ViolationError, match="not under way"):
        Receiver(Limits()).part(Part(1, 7, memoryview(b"")))


def test_a_full_box() -> None:
    receiver = Receiver(Limits(box_messages=1))
    first = receiver.start(start(1))
    with pytest.raises(ViolationError, match="full box"):
        receiver.start(start(2))
    assert first is not None
    receiver.consume(first)
    assert receiver.start(start(2)) is not None


def test_a_message_that_broke_stays_broken() -> None:
    receiver = Receiver(Limits())
    receiver.start(start(1, segments=2, total=17))
    for _ in range(2):
        with pytest.raises(ViolationError):
            receiver.part(Part(2, 0, memoryview(table(1, 2) + b"1")))


def test_no_memory() -> None:
    receiver = Receiver(Limits(mapped_segment=1))
    receiver.start(start(1, total=2))
    with (
        mock.patch.object(mmap, "mmap", side_effect=OSError("none left")),
        pytest.raises(ViolationError, match="none left"),
    ):
        receiver.part(Part(2, 0, memoryview(b"1")))
    # Half of it may have been written: what comes now would be in the wrong place.
    with pytest.raises(ViolationError, match="longer"):
        receiver.part(Part(2, 0, memoryview(b"1")))


def test_acknowledged_only_after_it_was_handed_over() -> None:
    receiver = Receiver(Limits())
    messages = [receiver.start(start(seq, b"1")) for seq in (1, 2, 3)]
    for message in messages[1:]:
        assert message is not None
        receiver.hold(message)
    assert receiver.acknowledged == 1
    for message, acknowledged in zip(reversed(messages[1:]), (1, 3), strict=True):
        assert message is not None
        receiver.settle(message)
        assert receiver.acknowledged == acknowledged


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_forked_process_writes_is_its_own() -> None:
    receiver = Receiver(Limits(mapped_segment=4096))
    message = receiver.start(start(1, bytes(4096), total=8192))
    assert message is not None
    (segment,) = message.segments
    assert isinstance(segment, memoryview)
    child = os.fork()
    if not child:
        segment[0] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert segment[0] == 0


@pytest.mark.parametrize("missing", [[], ["MADV_HUGEPAGE"], ["MAP_PRIVATE", "MADV_HUGEPAGE"]])
def test_large_pieces_are_mapped_on_every_system(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in missing:
        monkeypatch.delattr(mmap, name, raising=False)
    receiver = Receiver(Limits(mapped_segment=4))
    data = bytes(range(100))
    message = receiver.start(start(1, data[:50], total=100))
    assert receiver.part(Part(2, 0, memoryview(data[50:]))) is message
    assert contents(message) == [data]
    assert message is not None
    (segment,) = message.segments
    assert isinstance(segment, memoryview)
    assert isinstance(segment.obj, mmap.mmap)


# -- messages that have to be decoded in the order in which they were sent ----------------------------------------------


def whole(number: int, *, ordered: bool = True) -> Incoming:
    made = Incoming(Receiver(Limits()), f"id {number}", number, 1, 1, 1)
    made.ordered = ordered
    return made


def test_one_that_comes_in_turn_is_there_at_once() -> None:
    turns, first = Turns(), whole(0)
    turns.begin(first)
    assert turns.arrive(first) == [first]
    assert first.complete
    assert list(turns.undecoded) == [first]


def test_later_ones_wait_for_those_before_them() -> None:
    turns = Turns()
    first, second, third = (whole(number) for number in range(3))
    for one in (first, second, third):
        turns.begin(one)
    assert turns.arrive(third) == []
    assert turns.arrive(second) == []
    assert not second.complete
    assert turns.arrive(first) == [first, second, third]
    assert all(one.complete for one in (first, second, third))
    assert list(turns.undecoded) == [first, second, third]


def test_after_the_end_nobody_waits_for_what_will_never_come() -> None:
    turns = Turns()
    first, second = whole(0), whole(1)
    turns.begin(first)
    turns.begin(second)
    turns.arrive(second)
    assert turns.forget_partial() == [second]
    assert second.complete
    assert turns.forget_partial() == []
