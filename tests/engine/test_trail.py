"""The notes of messages that parties have for traces, packed and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpccomm.engine.trail import Book, ReceivedNote, SentNote, Trail, joined, without

NUMBERS = st.integers(0, 2**40)
LANES = st.integers(0, 2**31 - 1)
TIMES = st.floats(0, 1e9)
KEYS = st.text(max_size=5) | st.tuples(st.text(max_size=5), NUMBERS)
CALLED = st.tuples(LANES, TIMES) | st.tuples(LANES, TIMES, TIMES, st.booleans())
SENT = st.builds(SentNote, NUMBERS, NUMBERS, KEYS, CALLED, TIMES)
RECEIVED = st.builds(ReceivedNote, NUMBERS, NUMBERS, KEYS, LANES, TIMES, TIMES, TIMES, TIMES, st.booleans())
A_ROW = 0, 1, ("", 2), (3, 4.0), 5.0


def trail_to(book: Book) -> Trail:
    trail = Trail()
    trail.turn_to(book)
    return trail


@given(st.lists(SENT, max_size=6), st.integers(0, 6))
def test_what_was_sent_comes_back(notes: list[SentNote], first: int) -> None:
    book = Book(7)
    trail = trail_to(book)
    for place, note in enumerate(notes):
        if place == first:
            trail.pack()
        trail.sent.append(tuple(note))
    assert list(book.sends()) == notes
    assert len(book) == len(notes)


@given(st.lists(RECEIVED, max_size=6), st.integers(0, 6))
def test_what_was_received_comes_back(notes: list[ReceivedNote], first: int) -> None:
    book = Book(7)
    trail = trail_to(book)
    for place, note in enumerate(notes):
        if place == first:
            trail.pack()
        trail.received.append(tuple(note))
    assert list(book.receives()) == notes
    assert len(book) == len(notes)


def test_a_row_of_a_short_message_ends_with_when_decoding_began() -> None:
    book = Book(0)
    trail_to(book).received.append((4, 9, "id", 6, 1.0, 1.5, 2.0))
    book.pack()
    assert list(book.receives()) == [ReceivedNote(4, 9, "id", 6, 1.0, 1.5, 2.0, 0.0, False)]


def test_a_trail_turns_to_another_process_and_ends() -> None:
    first, second = Book(0), Book(1)
    trail = trail_to(first)
    trail.sent.append(A_ROW)
    trail.turn_to(second)
    trail.sent.append(A_ROW)
    trail.sent.append(A_ROW)
    lost: list[tuple[object, ...]] = []
    trail.end(lost)
    for rows in (trail.sent, trail.received):
        rows.append(A_ROW)
    assert (len(first), len(second), len(lost)) == (1, 2, 2)


def test_several_records_have_the_notes_each() -> None:
    books = [Book(0), Book(1), Book(2)]
    trails = [trail_to(book) for book in books]
    both = joined(joined(None, trails[0]), trails[1])
    both.sent.append(A_ROW)
    assert len(both.sent) == 1
    both.pack()
    assert len(both.sent) == 0
    three = joined(both, trails[2])
    three.received.append((4, 9, "id", 6, 1.0, 1.5, 2.0))
    assert [len(book) for book in books] == [2, 2, 1]
    two = without(three, trails[1])
    assert two is not None
    assert without(two, trails[0]) is trails[2]
    assert without(without(two, trails[0]), trails[2]) is None
