"""Frames become messages; what contradicts itself becomes a violation, and is not repaired by a repetition."""

from __future__ import annotations

import tracemalloc
from collections import deque

import pytest

from mpccomm.memory import Memory
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Key, Part, Start, ViolationError, encode_key, message_head
from mpccomm.protocol.mailbox import Mailbox
from mpccomm.protocol.receiver import FREE_SEGMENTS, SHORTEST_SEGMENT, DecodeOrder, Incoming, Receiver
from mpccomm.protocol.sender import Counters
from mpccomm.protocol.session import Session
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
        (start(1, table(1, 2) + b"12", segments=2, total=18), "a segment of 2 bytes in message 0, 1 are left"),
        (start(1, table(1, 0) + b"12", segments=2, total=18), "don't add up"),
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
    receiver.box.take(first.cost)
    assert receiver.start(start(2)) is not None


def test_a_message_that_broke_stays_broken() -> None:
    receiver = Receiver(Limits())
    receiver.start(start(1, segments=2, total=17))
    for _ in range(2):
        with pytest.raises(ViolationError):
            receiver.part(Part(2, 0, memoryview(table(1, 2) + b"1")))


@pytest.mark.parametrize("mapped", [1, 100])
def test_no_memory(mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory(Memory):
        def write(self, data: object) -> int:
            raise MemoryError

    def fail(size: int) -> Memory:
        raise MemoryError

    monkeypatch.setattr("mpccomm.protocol.receiver.Memory", NoMemory)
    monkeypatch.setattr("mpccomm.protocol.receiver.reserve", fail)
    receiver = Receiver(Limits(mapped_segment=mapped))
    receiver.start(start(1, total=2))
    with pytest.raises(ViolationError, match="no memory for a message of"):
        receiver.part(Part(2, 0, memoryview(b"1")))
    # Half of it may have been written: what comes now would be in the wrong place.
    with pytest.raises(ViolationError, match="longer"):
        receiver.part(Part(2, 0, memoryview(b"1")))


def test_more_memory_than_there_can_be() -> None:
    receiver = Receiver(Limits(box_bytes=2**62, max_message_size=2**62))
    with pytest.raises(ViolationError, match="no memory for a message of"):
        receiver.start(start(1, b"1", total=2**61))


def test_large_segments_have_their_memory_at_once() -> None:
    receiver = Receiver(Limits(mapped_segment=4))
    data = bytes(range(100))
    body = table(4, 100, 3, 4) + b"head" + data + b"abcdefg"
    message = receiver.start(start(1, body[:50], segments=4, total=len(body)))
    assert message is not None
    _, large = message.segments
    assert len(large) == 100
    assert receiver.part(Part(2, 0, memoryview(body[50:]))) is message
    assert contents(message) == [b"head", data, b"abc", b"defg"]
    # What is read is bytes; the others become what they are for.
    assert [type(segment) for segment in message.segments] == [bytes, Memory, Memory, Memory]
    assert message.segments[1] is large


def test_many_segments_cost_their_sender_as_much_as_us() -> None:
    receiver = Receiver(Limits())
    few = table(*[0] * FREE_SEGMENTS)
    assert len(contents(receiver.start(start(1, few, segments=FREE_SEGMENTS, total=len(few))))) == FREE_SEGMENTS
    many = table(*[0] * (FREE_SEGMENTS + 1))
    with pytest.raises(ViolationError, match="a segment of 0 bytes"):
        receiver.start(start(2, many, segments=FREE_SEGMENTS + 1, total=len(many)))
    long = few + table(SHORTEST_SEGMENT) + bytes(SHORTEST_SEGMENT)
    assert contents(receiver.start(start(2, long, segments=FREE_SEGMENTS + 1, total=len(long))))[-1] == bytes(1024)


def test_memory_is_taken_as_bytes_arrive() -> None:
    """What was announced costs nothing; what is counted is about what it costs."""
    receiver = Receiver(Limits(box_messages=10**6))
    tracemalloc.start()
    try:
        for seq in range(1, 201):
            receiver.start(start(seq, b"x", key=f"{seq}", total=2**20 - 1))
        assert tracemalloc.get_traced_memory()[0] < 200 * 2000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["small", "an emoji", "an emoji and a prefix", "one id", "segments", "pieces"])
def test_what_a_box_counts_is_what_it_costs(what: str) -> None:
    limits, mailbox = Limits(box_messages=10**6), Mailbox()
    session = Session(limits, Counters(), 0.0, mailbox, deque())
    receiver, connection = session.receiver, Connection(1, dialled=True, nonce=b"", now=0.0)
    text = {"an emoji": "x" * 1000 + "\N{GRINNING FACE}", "one id": ""}.get(what, "")
    tracemalloc.start()
    try:
        for seq in range(1, 101):
            key: Key = ("x" * 1000 + "\N{GRINNING FACE}", seq) if "prefix" in what else text + str(seq)
            key = "one" if what == "one id" else key
            if what in ("segments", "pieces"):
                lengths = [10] * 500 if what == "segments" else [5000]
                body = table(*lengths) + bytes(sum(lengths)) if what == "segments" else bytes(5000)
                message = receiver.start(start(2 * seq - 1, b"", key=key, segments=len(lengths), total=len(body)))
                assert message is receiver.part(Part(2 * seq, seq - 1, memoryview(body)))
                assert message is not None
                mailbox.put(message)
                del message
            else:
                batch = message_head(seq, encode_key(key), False, 10) + bytes(10)
                session.messages(batch, 0, 1, connection, 0.0)
                del batch
            del key
        costs, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert costs < 1.3 * receiver.box.bytes


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


def test_what_was_acknowledged_stays_so() -> None:
    """A message that was acknowledged, given back and taken once more does not hold up what follows."""
    receiver = Receiver(Limits())
    messages = [receiver.start(start(seq, b"1")) for seq in (1, 2, 3)]
    first, second, _ = messages
    assert first is not None
    assert second is not None
    receiver.told = 1
    receiver.hold(first)
    assert receiver.acknowledged == 3
    receiver.hold(second)
    assert receiver.acknowledged == 1
    receiver.settle(first)
    receiver.settle(second)
    assert receiver.acknowledged == 3


# -- messages that have to be decoded in the order in which they were sent ----------------------------------------------


def whole(number: int, *, ordered: bool = True) -> Incoming:
    made = Incoming(Receiver(Limits()), f"id {number}", number, 1, 1, 1, [b""])
    made.ordered = ordered
    return made


def test_one_that_comes_in_turn_is_there_at_once() -> None:
    decode_order, first = DecodeOrder(), whole(0)
    decode_order.begin(first)
    assert decode_order.arrive(first) == [first]
    assert first.complete
    assert list(decode_order.undecoded) == [first]


def test_later_ones_wait_for_those_before_them() -> None:
    decode_order = DecodeOrder()
    first, second, third = (whole(number) for number in range(3))
    for one in (first, second, third):
        decode_order.begin(one)
    assert decode_order.arrive(third) == []
    assert decode_order.arrive(second) == []
    assert not second.complete
    assert decode_order.arrive(first) == [first, second, third]
    assert all(one.complete for one in (first, second, third))
    assert list(decode_order.undecoded) == [first, second, third]


def test_after_the_end_nobody_waits_for_what_will_never_come() -> None:
    decode_order = DecodeOrder()
    first, second = whole(0), whole(1)
    decode_order.begin(first)
    decode_order.begin(second)
    decode_order.arrive(second)
    assert decode_order.forget_partial() == [second]
    assert second.complete
    assert decode_order.forget_partial() == []
