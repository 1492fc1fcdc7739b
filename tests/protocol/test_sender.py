"""Messages become frames, each at most as large as there is room for; a small message does not wait for a large one."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from mpccomm.memory import Buffer
from mpccomm.protocol.frames import ANNOTATIONS, MESSAGE_OVERHEAD, Part, Start, ViolationError, pack_annotation
from mpccomm.protocol.sender import Counters, Outgoing, Sender, bounds_of
from mpccomm.settings import Limits
from tests.protocol.links import batch_of, message, parsed


def sender(limits: Limits | None = None) -> Sender:
    return Sender(limits or Limits(), Counters())


def fill(box: Sender, budget: int = 10_000) -> list[str]:
    """What a batch would hold, in words."""
    parts: list[Buffer] = []
    box.fill(parts, budget)
    return [f"{frame.key}" if isinstance(frame, Start) else "part" for frame in parsed(batch_of(*map(bytes, parts)))]


def acknowledge(box: Sender, received: int | None = None, taken_bytes: int = 0, taken: int = 0) -> list[Outgoing]:
    delivered: deque[Any] = deque()
    box.acknowledge(box.last_seq if received is None else received, taken_bytes, taken, delivered)
    return list(delivered)


def test_automatic_numbers() -> None:
    box = sender()
    assert [box.next_key(""), box.next_key("p"), box.next_key("")] == [("", 0), ("p", 0), ("", 1)]


def test_a_small_message_overtakes_large_ones() -> None:
    box = sender()
    for name in "abc":
        box.add(message(name, bytes(20_000)))
    assert fill(box) == ["a"]
    assert fill(box) == ["b", "c", "part"]
    box.add(message("small"))
    assert fill(box)[0] == "small"
    assert {message.key for message in box.under_way} == {"b", "c"}
    while fill(box):
        pass
    assert not list(box.under_way)
    assert [message.key for message in acknowledge(box)] == ["small", "a", "b", "c"]
    assert box.idle


def test_messages_of_one_size_are_complete_one_after_the_other() -> None:
    """Who passes them on can begin with the first as soon as it would be there by itself."""
    box = sender()
    names = "abcdefgh"
    for name in names:
        box.add(message(name, bytes(40_000)))
    found = []
    for batch in range(1, 100):
        fill(box)
        found += [(one.key, batch) for one in acknowledge(box)]
        if box.idle:
            break
    assert [name for name, _ in found] == list(names)
    for place, (_, batch) in enumerate(found, 1):
        assert batch <= 4.5 * place + 2


def test_neither_waits_a_smaller_one_for_a_larger_one_nor_a_large_one_for_ever() -> None:
    box = sender(Limits(window=10**9))
    box.add(message("large", bytes(400_000)))
    fill(box)
    delivered: list[Any] = []
    batches = 0
    while "large" not in delivered:
        if len(box.under_way) < 3:
            box.add(message(f"smaller {batches}", bytes(30_000)))
        fill(box)
        delivered += [one.key for one in acknowledge(box)]
        batches += 1
    # Alone it would take 40; it has half of them.
    assert batches <= 100
    assert len(delivered) >= 10


def test_behind_a_large_message_one_of_the_same_id_is_delivered_with_it() -> None:
    """It can't be received before; one of another id can, and one that was sent before."""
    box = sender()
    first, large, small, other = message("a"), message("a", bytes(60_000)), message("a"), message("b")
    larger, last = message("a", bytes(90_000)), message("a")
    sent = [first, large, small, other, larger, last]
    for one in sent:
        box.add(one)
    delivered = []
    while fill(box):
        delivered.append(acknowledge(box))
        assert set(box.pending()) == {one for one in sent if not one.delivered}
    assert [one for some in delivered for one in some] == [first, other, large, small, larger, last]
    assert [first, other] == delivered[0] + delivered[1]
    assert delivered[-1] == [larger, last]
    assert box.idle
    assert not box._lines


def test_the_window() -> None:
    box = sender(Limits(window=1000))
    for number in range(100):
        box.add(message(str(number), bytes(100)))
    assert len(fill(box, 10**6)) == 8
    assert box.in_flight == 8 * (100 + 1 + MESSAGE_OVERHEAD)
    assert not fill(box)


def test_pending_messages_come_in_order_and_once() -> None:
    box = sender(Limits(window=3000))
    names = [str(number) for number in range(4)]
    for name in names:
        box.add(message(name, bytes(2000)))
    for _ in range(3):
        fill(box, 900)
    assert [message.key for message in box.pending()] == names
    assert box.unacknowledged
    acknowledge(box)
    assert next(message.key for message in box.pending()) in names
    assert not box.unacknowledged


def test_what_is_sent_again_is_not_altered() -> None:
    box = sender()
    box.add(message("x", b"1" * 3000, bytearray(b"2" * 3000)))
    first: list[Buffer] = []
    for _ in range(5):
        box.fill(first, 2000)
    batch = b"".join(first)
    again = box.rewind(0)
    repeated: list[Buffer] = []
    while again:
        box.refill(repeated, again, 2000)
    assert b"".join(repeated) == batch
    assert len(box.rewind(2)) == len(box.rewind(0)) - 2
    again = box.rewind(0)
    acknowledge(box, 2)
    rest: list[Buffer] = []
    box.refill(rest, again, 10**6)
    assert [frame.seq for frame in parsed(batch_of(*map(bytes, rest))) if isinstance(frame, Start | Part)] == [3, 4]


def test_acknowledging_what_was_not_sent() -> None:
    box = sender()
    box.add(message("x"))
    fill(box)
    with pytest.raises(ViolationError):
        acknowledge(box, 2)
    with pytest.raises(ViolationError):
        acknowledge(box, 0, 0, 2)
    with pytest.raises(ViolationError):
        acknowledge(box, 0, 10**9, 1)


def test_a_message_that_nobody_waits_for_is_copied() -> None:
    buffer = bytearray(b"1")
    sent: Outgoing = message("x", buffer)
    sent.detach()
    buffer[0] = 0
    assert b"".join(sent.slices(0, 1)) == b"1"
    assert not sent.awaited


def test_a_message_without_bytes_is_whole_even_where_there_is_no_room() -> None:
    box = sender()
    box.add(message("x", b""))
    assert fill(box, 10) == ["x"]
    assert not list(box.under_way)


@pytest.mark.parametrize("features", [0, ANNOTATIONS])
@pytest.mark.parametrize("prefix", ["", "p"])
@pytest.mark.parametrize("size", [1, 10, 2000])
def test_what_goes_along_fits_into_the_batch(features: int, prefix: str, size: int) -> None:
    box = sender()
    box.agree(bounds_of(Limits()), features)
    note = b"note" * 15
    for _ in range(30):
        sent = Outgoing((bytes(size),), ordered=False, awaited=True)
        sent.annotation = pack_annotation(note)
        box.add(sent, prefix)
    found: list[Start] = []
    while True:
        parts: list[Buffer] = []
        if not box.fill(parts, 1000):
            break
        batch = list(map(bytes, parts))
        assert sum(map(len, batch)) <= 1000 + (size > 1000) * 300
        found += [frame for frame in parsed(batch_of(*batch)) if isinstance(frame, Start)]
    assert [frame.key for frame in found] == [(prefix, number) for number in range(30)]
    assert {frame.annotation for frame in found} == {note if features else b""}
    assert acknowledge(box)
    assert box.in_flight == 0
