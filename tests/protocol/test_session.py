"""What two incarnations have between them: numbers, messages, boxes; and what is due to be said about them."""

from __future__ import annotations

from collections import deque

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Kind, ViolationError, describe_key
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.sender import Counters, Outgoing
from mpccomm.protocol.session import ClosingNotice, Session
from mpccomm.protocol.states import Cause, Ending
from mpccomm.settings import Limits
from tests.protocol.links import message, receive


class Side:
    """A session, with a connection on which the other side takes everything."""

    def __init__(self, limits: Limits | None = None, conversation: int = 0) -> None:
        self.finished: deque[Receive | Outgoing] = deque()
        self.counters = Counters()
        self.session = Session(
            limits or Limits(), self.counters, 0.0, Mailbox(), self.finished, conversation=conversation
        )
        self.connection = Connection(1, dialled=True, nonce=b"", now=0.0)

    def batch(self, now: float = 0.0, most: int = 2**20) -> bytes:
        """What is to be sent; empty: nothing."""
        return self.session.batch(self.connection, now, most)

    def take(self, batch: bytes | bytearray, now: float = 0.0) -> None:
        self.session.receiver.now = now
        at, left = frames.BATCH_HEAD, frames.MAX_FRAMES
        while at < len(batch):
            if batch[at] == Kind.MESSAGE:
                at, left = self.session.messages(batch, at, left, self.connection, now)
                continue
            header = frames.read_header(batch, at)
            at = header[-1]
            frame = frames.read(memoryview(batch), header, 1000)
            if isinstance(frame, frames.Start):
                assert self.session.start(frame)
            elif isinstance(frame, frames.Part):
                assert self.session.part(frame)

    def acknowledge(self, batch: bytes) -> None:
        received, taken_bytes, taken = frames.POSITIONS.unpack_from(batch)
        self.session.sender.acknowledge(received, taken_bytes, taken, self.finished)


def test_a_message_finds_its_receive_and_is_acknowledged() -> None:
    alice, bob = Side(), Side()
    waiting, sent = receive("x"), message("x")
    assert bob.session.mailbox.wait(waiting) is None
    alice.session.sender.add(sent)
    bob.take(alice.batch())
    assert list(bob.finished) == [waiting]
    assert waiting.message is not None
    assert bob.counters.messages_received == 1
    alice.acknowledge(bob.batch())
    assert sent.delivered
    assert list(alice.finished) == [sent]
    assert alice.batch() == b""


def test_a_message_of_a_batch_that_may_change_is_copied() -> None:
    alice, bob = Side(), Side()
    waiting = receive(("", 0))
    bob.session.mailbox.wait(waiting)
    alice.session.sender.add(Outgoing((b"contents",), ordered=False, awaited=True), "")
    batch = bytearray(alice.batch())
    bob.take(batch)
    batch[:] = bytes(len(batch))
    assert waiting.message is not None
    assert waiting.message.segments == [b"contents"]


def test_what_is_short_goes_ahead_of_what_is_large() -> None:
    """In a batch of its own: a batch counts when the last byte of it is here."""
    alice, bob = Side(), Side()
    large = message("large", bytes(2**20))
    alice.session.sender.add(large)
    assert len(alice.batch(most=2**16)) > 2**15
    alice.session.sender.add(message("short", b"short"))
    ahead = alice.batch(most=2**16)
    assert b"short" in ahead
    assert len(ahead) < 100
    assert len(alice.batch(most=2**16)) > 2**15
    # And so does an acknowledgement.
    bob.session.sender.add(message("from bob"))
    alice.take(bob.batch())
    ahead = alice.batch(most=2**16)
    assert len(ahead) == frames.BATCH_HEAD
    bob.acknowledge(ahead)
    assert bob.session.sender.idle
    assert len(alice.batch(most=2**16)) > 2**15


def test_what_is_short_goes_ahead_of_what_is_large_and_was_sent_after_it() -> None:
    alice = Side()
    for number in range(10):
        alice.session.sender.add(message(f"short {number}"))
    alice.session.sender.add(message("large", bytes(2**20)))
    alice.session.sender.add(message("last"))
    ahead = alice.batch(most=2**16)
    assert ahead.count(b"short") == 10
    assert len(ahead) < 1000
    assert len(alice.batch(most=2**16)) > 2**15
    assert b"last" in alice.batch(most=2**16)


def test_what_is_short_does_not_wait_for_the_pieces_of_large_ones_before_it() -> None:
    """These begin as well, but with nothing of their contents."""
    alice = Side()
    for number in range(20):
        alice.session.sender.add(message(f"large {number}", bytes(2**20)))
    alice.session.sender.add(message("short", b"short"))
    first, second = alice.batch(most=2**13), alice.batch(most=2**13)
    assert len(first) > 2**12
    assert b"short" in second
    assert len(second) < 2000


def test_many_that_are_short_go_together() -> None:
    alice = Side()
    for number in range(1000):
        alice.session.sender.add(message(f"short {number}", bytes(100)))
    assert len(alice.batch()) > 100_000


def test_what_is_large_goes_on_however_much_goes_ahead() -> None:
    alice, bob = Side(), Side()
    large = message("large", bytes(2**20))
    alice.session.sender.add(large)
    alice.batch(most=2**16)
    sizes = []
    for number in range(20):
        before = large.sent
        alice.session.sender.add(message(f"short {number}"))
        bob.session.sender.add(message(f"from bob {number}"))
        alice.take(bob.batch())
        alice.batch(most=2**16)
        sizes.append(large.sent - before)
    assert sizes[::2] == [0] * 10
    assert min(sizes[1::2]) > 2**14


def test_credit_is_no_more_than_what_the_line_moves() -> None:
    alice = Side()
    alice.batch()
    credit = alice.session.sender.credit
    assert credit > 2000
    for most in (1_000_000, 1000):
        alice.session.sender.add(Outgoing((b"short",), ordered=False, awaited=True), "")
        assert alice.batch(most=most)
    assert alice.session.sender.credit == 1000
    alice.session.sender.add(Outgoing((bytes(1000),), ordered=False, awaited=True), "")
    assert alice.session.sender.queue


def test_nothing_is_said_without_a_reason() -> None:
    assert Side().batch() == b""


def test_large_messages_are_acknowledged_on_the_way() -> None:
    alice, bob = Side(), Side()
    alice.session.sender.add(message("x", bytes(2**20)))
    bob.take(alice.batch(most=100_000))
    assert bob.batch() == b""
    bob.session.look_at(0.1)
    assert bob.batch(0.1) == b""
    bob.session.look_at(1.0)
    assert bob.batch(1.0) != b""


def test_a_frame_that_was_here_before_is_acknowledged_again() -> None:
    alice, bob = Side(), Side()
    alice.session.sender.add(message("x"))
    batch = alice.batch()
    bob.take(batch)
    bob.batch()
    assert not bob.session.ack_due
    bob.take(batch)
    assert bob.session.ack_due
    assert bob.counters.messages_received == 1
    assert bob.session.receiver.duplicates == 1


def whole(*numbers: int, data: bytes = b"") -> bytes:
    name = frames.encode_key("x")
    messages = [frames.message_head(number, name, False, len(data)) + data for number in numbers]
    return frames.NO_POSITIONS + b"".join(messages)


def test_a_whole_message_is_bounded() -> None:
    bob = Side(Limits(max_message_size=10, box_messages=1))
    with pytest.raises(ViolationError, match="10 are the limit"):
        bob.take(whole(1, data=bytes(11)))
    bob.take(whole(1, data=bytes(10)))
    with pytest.raises(ViolationError, match="full box"):
        bob.take(whole(2))
    with pytest.raises(ViolationError, match="frame 3 follows frame 1"):
        bob.take(whole(3))
    assert bob.counters.messages_received == bob.session.receiver.received == 1
    bob.session.receiver.admitted = 1
    bob.take(whole(2))
    assert bob.session.receiver.received == 2


@pytest.mark.parametrize("size", [1, 8, 20, 24])
def test_a_message_that_is_cut(size: int) -> None:
    batch = whole(1, data=b"12")
    with pytest.raises(ViolationError, match="left"):
        Side().take(batch[: frames.BATCH_HEAD + size])


def test_the_messages_of_a_batch_are_counted() -> None:
    bob = Side()
    numbers = range(1, frames.MAX_FRAMES + 2)
    with pytest.raises(ViolationError, match="more than"):
        bob.take(whole(*numbers))
    assert bob.counters.messages_received == frames.MAX_FRAMES


def test_a_number_and_no_id_is_no_message() -> None:
    head = frames.NUMBERED.pack(Kind.MESSAGE, frames.AUTOMATIC, 0, 0, 1, 0)
    with pytest.raises(ViolationError, match="contradicts"):
        Side().take(frames.NO_POSITIONS + head)


def test_what_was_taken_is_told_when_it_is_a_part_of_the_box() -> None:
    alice, bob = Side(), Side(Limits(box_messages=8))
    for number in range(4):
        alice.session.sender.add(message(("", number)))
    bob.take(alice.batch())
    bob.batch()
    told = []
    for number in range(4):
        taken = bob.session.mailbox.take(("", number))
        assert taken is not None
        bob.session.consume(taken)
        told.append(bob.session.ack_due)
    assert told == [False, False, True, True]


def test_who_is_held_back_says_so_once() -> None:
    bounds = Limits(box_messages=1)
    alice = Side(bounds)
    for number in range(3):
        alice.session.sender.add(message(("", number)))
    blocked = [frame for frame in frames.parse(alice.batch(), max_id_size=1000) if isinstance(frame, frames.Blocked)]
    assert [(frame.messages, frame.ids) for frame in blocked] == [(2, (("", 1), ("", 2)))]
    assert alice.batch() == b""
    for heard, repeated in ((-1.0, True), (-1.0, False), (0.0, True)):
        alice.session.repeat_blocked(heard, lambda: True)
        batch = alice.batch()
        assert bool(batch) == repeated, "what is new, or if they live"
        if batch:
            (again,) = (frame for frame in frames.parse(batch, max_id_size=1000) if isinstance(frame, frames.Blocked))
            assert again[4:6] == (True, True)


def test_messages_of_earlier_conversations_come_before_all_of_this_one() -> None:
    sides = [Side(conversation=number) for number in range(3)]
    taken = []
    for side in sides:
        alice = Side()
        for key in (("", 0), ("", 1), "x", "x"):
            alice.session.sender.add(message(key))
        side.take(alice.batch())
        taken += [side.session.mailbox.take(key) for key in (side.session.mailbox.numbering.claim(""), "x")]
    session = sides[2].session
    taken_bytes = session.receiver.box.taken_bytes
    for _ in range(2):
        for old in (taken[2], taken[0], taken[3], taken[1]):
            assert old is not None
            session.put_back(old)
        assert describe_key(session.mailbox.numbering.next_key("", None)) == "#0"
        assert session.mailbox.take_next("", None) is taken[0]
        assert session.mailbox.take_next("", None) is taken[2]
        assert session.mailbox.take_next("", "x") is taken[1]
        assert session.mailbox.take_next("", "x") is taken[3]
    assert session.receiver.box.taken_bytes == taken_bytes, "they have no place in this box"
    for old in taken[:4]:
        assert old is not None
        session.consume(old)
        session.put_back(old)
    assert session.receiver.box.taken_bytes == taken_bytes
    unread = [found for found in session.mailbox.unread() if found.receiver is session.receiver]
    assert [found.key for found in unread] == [("", 1), "x"]
    notice = ClosingNotice()
    notice.goodbye(session, unread=True)
    notice.say(sides[2].connection)
    (said,) = frames.parse(frames.NO_POSITIONS + sides[2].connection.control[Kind.GOODBYE], max_id_size=1000)
    assert isinstance(said, frames.Goodbye)
    assert (said.unread, said.unread_ids) == (2, (("", 1), "x")), "only what is from this one"


def test_a_receive_that_waits_gets_what_an_earlier_conversation_has_left_of_its_id() -> None:
    alice, bob, later = Side(), Side(), Side(conversation=1)
    alice.session.sender.add(message("x"))
    bob.take(alice.batch())
    taken, waiting = bob.session.mailbox.take("x"), receive("x")
    assert taken is not None
    assert later.session.mailbox.wait(waiting) is None
    later.session.restore(taken)
    assert list(later.finished) == [waiting]
    assert waiting.message is taken


def test_the_end_ends_all_that_wait_and_keeps_what_is_complete() -> None:
    alice, bob = Side(), Side()
    alice.session.sender.add(message("here"))
    alice.session.sender.add(message("half", bytes(2**20)))
    bob.take(alice.batch(most=100_000))
    waiting, sending = receive("never"), message("y")
    bob.session.mailbox.wait(waiting)
    bob.session.sender.add(sending)
    bob.session.forget_partial()
    ended = bob.session.end(Cause(Ending.SHUT_DOWN))
    assert ended == [waiting, sending]
    assert bob.session.mailbox.take("here") is not None
    assert bob.session.mailbox.take("half") is None
    assert bob.session.sender.idle


# -- the last word -----------------------------------------------------------------------------------------------------


def test_there_is_no_last_word_at_first() -> None:
    side, notice = Side(), ClosingNotice()
    notice.say(side.connection)
    notice.confirmed()
    assert side.connection.control == {}
    assert not notice.heard


def test_a_goodbye_tells_what_is_left_and_is_said_until_it_is_heard() -> None:
    alice, bob, notice = Side(), Side(), ClosingNotice()
    alice.session.sender.add(message("unread"))
    bob.take(alice.batch())
    bob.session.sender.add(message("undelivered"))
    notice.goodbye(bob.session, unread=True)
    for connection in (bob.connection, Connection(2, dialled=True, nonce=b"", now=0.0)):
        notice.say(connection)
        batch = frames.NO_POSITIONS + connection.control[Kind.GOODBYE]
        (said,) = frames.parse(batch, max_id_size=1000)
        assert said == frames.Goodbye(0, 1, 1, ("unread",))
    notice.confirmed()
    assert notice.heard
    third = Connection(3, dialled=True, nonce=b"", now=0.0)
    notice.say(third)
    assert third.control == {}


def test_what_is_unread_of_another_incarnation_is_not_told() -> None:
    alice, bob, notice = Side(), Side(), ClosingNotice()
    alice.session.sender.add(message("unread"))
    bob.take(alice.batch())
    notice.goodbye(bob.session, unread=False)
    notice.say(bob.connection)
    (said,) = frames.parse(frames.NO_POSITIONS + bob.connection.control[Kind.GOODBYE], max_id_size=1000)
    assert said == frames.Goodbye(0, 0, 0, ())


def test_an_abort_says_why() -> None:
    side, notice = Side(), ClosingNotice()
    notice.abort("enough")
    notice.say(side.connection)
    (said,) = frames.parse(frames.NO_POSITIONS + side.connection.control[Kind.ABORT], max_id_size=1000)
    assert said == frames.Abort("enough")
