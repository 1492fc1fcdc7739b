"""The notes of messages that parties have for traces, packed and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpccomm.engine.trail import Book, ReceivedNote, SentNote, Texts, Trail, pack_received, pack_sent
from mpccomm.protocol.receiver import Incoming, Receiver
from mpccomm.protocol.sender import Outgoing
from mpccomm.settings import Limits

NUMBERS = st.integers(0, 2**40)
LANES = st.integers(0, 2**31 - 1)
TIMES = st.floats(0, 1e9)


def trail_to(book: Book) -> tuple[Trail, Texts]:
    texts = Texts()
    trail = Trail(texts)
    trail.turn_to(book)
    return trail, texts


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, LANES, st.booleans(), TIMES, TIMES), max_size=5))
def test_what_was_sent_comes_back(notes: list[tuple[int, int, int, int, bool, float, float]]) -> None:
    book = Book(7)
    trail, texts = trail_to(book)
    for note in notes:
        trail.note_sent(pack_sent(*note))
    found = list(book.sends())
    assert found == [SentNote(*note) for note in notes]
    assert all(list(texts)[note.text] == "" and not note.encoded for note in found)
    assert len(book) == len(notes)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, LANES, TIMES, TIMES, TIMES), max_size=5))
def test_what_was_received_comes_back(notes: list[tuple[int, int, int, int, float, float, float]]) -> None:
    book = Book(7)
    trail, _ = trail_to(book)
    for note in notes:
        trail.note_received(pack_received(*note))
    assert list(book.receives()) == [ReceivedNote(*note) for note in notes]
    assert len(book) == len(notes)


def outgoing(key: str | tuple[str, int], size: int) -> Outgoing:
    message = Outgoing((bytes(size),), ordered=False, awaited=True)
    message.address(key)
    message.number = 3
    message.called = 5, 1.0
    message.encoded = 2.0
    return message


def test_ids_are_kept_once_whatever_they_are() -> None:
    book = Book(0)
    trail, texts = trail_to(book)
    for key in ("step", ("a/", 7), "step", ("", 1), ("a/", 8)):
        trail.note_other_sent(outgoing(key, 2000), 3.0)
    assert list(texts) == ["", "step", "a/"]
    found = list(book.sends())
    assert [(list(texts)[note.text], note.place) for note in found] == [
        ("step", -1), ("a/", 7), ("step", -1), ("", 1), ("a/", 8)
    ]  # fmt: skip
    assert found[0] == SentNote(3, 2000, -1, 5, True, 1.0, 3.0, 1, 2.0)


def test_a_message_for_a_future_says_so() -> None:
    book = Book(0)
    trail, _ = trail_to(book)
    message = Incoming(Receiver(Limits()), "id", 4, 9, 2000, 2100, [])
    message.at = 1.5
    trail.note_other_received(message, 6, 1.0, 2.0, 3.0, True)
    assert list(book.receives()) == [ReceivedNote(4, 2000, -1, 6, 1.0, 1.5, 2.0, 1, 3.0, True)]


def test_a_trail_turns_to_another_process_and_ends() -> None:
    first, second = Book(0), Book(1)
    trail, _ = trail_to(first)
    note = pack_sent(0, 1, 2, 3, True, 4.0, 5.0)
    trail.note_sent(note)
    trail.turn_to(second)
    trail.note_sent(note)
    trail.note_other_sent(outgoing("id", 1), 3.0)
    lost: list[bytes] = []
    trail.end(lost.append)
    trail.note_sent(note)
    trail.note_received(pack_received(0, 1, 2, 3, 4.0, 5.0, 6.0))
    trail.note_other_sent(outgoing("id", 1), 3.0)
    assert (len(first), len(second), len(lost)) == (1, 2, 3)
