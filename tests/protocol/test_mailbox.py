"""What has arrived and who waits: queues of one id, waits that end, and messages that come back."""

import time
from collections import deque
from typing import Any

from mpccomm.protocol.frames import Key
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.receiver import Incoming, Receiver
from mpccomm.protocol.states import Cause, Ending
from mpccomm.settings import Limits
from tests.protocol.links import Stranger, connected, message, new_link


def test_both_sides_count_anew() -> None:
    link = new_link("a")
    for _ in range(2):
        assert [link.sender.next_key("p") for _ in range(2)] == [("p", 0), ("p", 1)]
        assert [link.mailbox.numbering.claim("p") for _ in range(2)] == [("p", 0), ("p", 1)]
        link.mailbox.numbering.release(("p", 1))
        link.mailbox.numbering.release("named")
        assert link.mailbox.numbering.claim("p") == ("p", 1)
        link.mailbox.numbering.release(("p", 0))
        link.sender.forget_numbers()
        link.mailbox.numbering.forget()


def test_a_full_box_is_not_gone_through_message_by_message_when_its_sender_has_gone() -> None:
    """What is whole and alone under its id stays as it is: a hundred thousand of these cost no more than a look."""
    link = new_link("a")
    stranger = Stranger(link).meet()
    for number in range(100):
        stranger.start(number + 1, str(number))
    stranger.start(101, "twice")
    stranger.start(102, "twice")
    before = dict(link.mailbox._messages)
    assert link.mailbox.fail_all(Cause(Ending.SHUT_DOWN)) == []
    after = link.mailbox._messages
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in map(str, range(100)))
    assert [incoming.number for incoming in link.mailbox.unread()] == [*range(102)]


def test_a_link_says_when_it_has_something_to_send() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    assert not alice.due(pair.ends[0])
    alice.send(message("x"))
    assert alice.due(pair.ends[0])
    pair.move(0)
    assert not alice.due(pair.ends[0])
    assert bob.due(pair.ends[1])
    pair.pump()
    alice.tick(1000.0)
    assert alice.due(pair.ends[0])


def test_many_receives_of_one_id_are_cancelled_in_any_order() -> None:
    """Each in constant time: with a search through those that wait it would take seconds."""
    mailbox = Mailbox()
    waiting = [Receive("x", 0.0) for _ in range(50_000)]
    for request in waiting:
        mailbox.wait(request)
    start = time.process_time()
    for request in reversed(waiting):
        assert mailbox.cancel(request)
    assert time.process_time() - start < 2
    assert not mailbox.asks_for_more("x")
    assert not mailbox.cancel(waiting[0])


def test_a_queue_of_many_that_nobody_waits_for_is_not_looked_through() -> None:
    sender = new_link("a").sender
    for _ in range(200_000):
        sender.add(message("x", awaited=False))
    start = time.process_time()
    for _ in range(1000):
        assert not sender.anyone_waits()
        assert sender.waiting() == []
    assert time.process_time() - start < 2
    sender.add(message("x"))
    given_up = message("x")
    sender.add(given_up)
    given_up.detach()
    assert sender.anyone_waits()
    assert len(sender.waiting()) == 1


def test_what_is_grabbed_is_accounted_for_later_or_restored() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    keys: tuple[Key, ...] = (("p", 0), "px", "py", "py")
    for seq, key in enumerate(keys, 1):
        stranger.start(seq, key, b"%d" % seq)
    box = link.mailbox
    first = box.look("p", None)
    assert first is not None
    mine: deque[Any] = deque()
    assert box.grab("p", None, mine)
    assert list(mine) == [0, first]
    assert box.numbering.next_key("p", None) == ("p", 1)
    named: deque[Any] = deque()
    assert box.grab("p", "x", named)
    assert not box.grab("p", "x", deque())
    assert not box.grab("p", None, deque())
    assert not box.grab("p", "y", deque())  # a queue of several is for the loop
    second = box.look("p", "y")
    assert second is not None
    assert bytes(second.segments[0]) == b"3"
    box.taken.append(first)
    link.account(0.0)
    assert link.receiver.box.taken == 1
    link.restore(named[0])
    assert link.take("px", 0.0) is named[0]


def test_what_was_grabbed_before_a_restart_is_not_restored_after_it() -> None:
    link = new_link("a")
    Stranger(link, "old").meet().start(1, "x", b"1")
    mine: deque[Any] = deque()
    assert link.mailbox.grab("", "x", mine)
    Stranger(link, "new").meet()
    assert link.accept_restart(0.0)
    link.restore(mine[0])
    assert link.mailbox.look("", "x") is None


def arrived(mailbox: Mailbox, key: Key) -> Incoming:
    made = Incoming(Receiver(Limits()), key, 0, 1, 0, 1, [b""])
    mailbox.put(made)
    return made


def test_the_next_one_is_taken_only_if_it_is_here() -> None:
    mailbox = Mailbox()
    assert mailbox.take_next("", None) is None
    assert mailbox.take_next("", "x") is None
    first, named, second = (arrived(mailbox, key) for key in (("", 0), "x", ("", 1)))
    assert mailbox.take_next("", "x") is named
    assert mailbox.take_next("", None) is first
    mailbox.put_back(first)
    assert mailbox.take_next("", None) is first, "the number was given back"
    assert mailbox.take_next("", None) is second
    assert mailbox.numbering.claim("") == ("", 2), "what is not here claims nothing"


def test_the_next_one_is_not_taken_before_it_is_complete() -> None:
    mailbox = Mailbox()
    arrived(mailbox, ("", 0)).complete = False
    assert mailbox.take_next("", None) is None
    assert mailbox.numbering.claim("") == ("", 0)


def test_another_thread_may_be_first_to_take_what_is_to_be_grabbed() -> None:
    """Between the look and the step that takes: then nothing is taken, and what was claimed stays with the one who claimed it."""

    class Emptied(list[int]):
        """A number was here a moment ago."""

        def __bool__(self) -> bool:
            return True

    class Emptying(dict[Key, Any]):
        """A message was here a moment ago."""

        def pop(self, key: Key, *default: Any) -> Any:
            raise KeyError(key)

    link = new_link("a")
    Stranger(link).meet().start(1, ("p", 0))
    box = link.mailbox
    counters = box._counters
    assert isinstance(counters, dict)
    numbers, released = counters["p"]
    counters["p"] = numbers, Emptied()
    mine: deque[Any] = deque()
    assert not box.grab("p", None, mine)
    assert not mine
    counters["p"] = numbers, released
    messages, box._messages = box._messages, Emptying(box._messages)
    assert not box.grab("p", None, mine)
    assert list(mine) == [0]
    box._messages = messages
    assert link.take(("p", 0), 0.0) is not None


class Emptied(deque[Any]):
    """A queue whose last element another thread takes between two looks at it."""

    def __bool__(self) -> bool:
        return True


def test_who_looks_on_from_another_thread_finds_nothing_where_a_queue_is_just_emptied() -> None:
    link = new_link("a")
    link.mailbox._messages["x"] = Emptied()
    assert link.mailbox.look("", "x") is None
    link.sender.queue = Emptied()
    assert not link.sender.held_back
