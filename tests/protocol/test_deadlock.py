"""Full boxes: who is held back, who hears of it, and when it is a deadlock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from mpccomm.protocol import frames
from mpccomm.protocol.deadlock import DeadlockNews, DeadlocksThere
from mpccomm.protocol.events import Admitted, DeadlockFound, HeldBack, Refused
from mpccomm.protocol.frames import Deadlock
from mpccomm.protocol.link import Link
from mpccomm.protocol.sender import Sender
from mpccomm.protocol.states import Cause, Ending
from mpccomm.settings import Limits, Timing
from tests.protocol.links import (
    BOUNDS,
    Pair,
    Stranger,
    batch_of,
    connected,
    ending,
    finished,
    message,
    new_link,
    parsed,
    receive,
    told,
)

# -- boxes and deadlocks -----------------------------------------------------------------------------------------------

ONE = Limits(box_messages=1, box_bytes=10_000)


def held_back(*, alone: bool = True, timing: Timing | None = None) -> tuple[Link, Link, Pair]:
    alice, bob = (new_link(name, ONE, timing=timing, alone=lambda: alone) for name in "ab")
    pair = connected(alice, bob)
    for number in range(4):
        alice.send(message(f"{number}", awaited=number == 3))
    pair.pump()
    assert bob.receiver.box.messages == 1
    assert alice.sender.queued() == (3, 24)
    return alice, bob, pair


def pass_time(pair: Pair, seconds: float) -> None:
    end = pair.now + seconds
    while pair.now < end:
        pair.now += 0.5
        for link in pair.links:
            link.tick(pair.now)
        pair.pump()


def test_a_receive_behind_a_full_box_is_a_deadlock_at_both_ends() -> None:
    alice, bob, pair = held_back()
    bob.receive(receive("3"))
    pass_time(pair, 4)
    assert not finished(alice)[1:]
    assert not finished(bob)
    pass_time(pair, 3)
    assert [ending(request) for request in finished(bob)] == [Ending.BOX_FULL]
    assert [ending(request) for request in finished(alice)] == [Ending.BOX_FULL]
    assert DeadlockFound in told(alice)
    assert DeadlockFound in told(bob)
    # What was held back is still sent.
    for number in range(4):
        assert bob.take(str(number), pair.now) is not None
        pair.pump()
    assert alice.sender.idle


def test_where_something_else_goes_on_it_is_told_at_both_ends_and_nothing_fails() -> None:
    alice, bob, pair = held_back(alone=False)
    told(alice)
    told(bob)
    waiting = receive("3")
    bob.receive(waiting)
    pass_time(pair, 30)
    assert not finished(bob)
    assert not finished(alice)[1:]
    assert told(bob).count(DeadlockFound) == 1
    assert told(alice).count(DeadlockFound) == 1
    for number in range(3):
        assert bob.take(str(number), pair.now) is not None
        pair.pump()
    assert waiting.message is not None


def test_it_raises_after_a_time_that_is_set() -> None:
    alice, bob, pair = held_back(alone=False, timing=Timing(deadlock_after=20.0))
    bob.receive(receive("3"))
    pass_time(pair, 19)
    assert not finished(bob)
    pass_time(pair, 2)
    assert [ending(request) for request in finished(bob)] == [Ending.BOX_FULL]
    assert [ending(request) for request in finished(alice)][-1] == Ending.BOX_FULL


def test_what_is_asked_for_does_not_count_against_the_box() -> None:
    alice, bob, pair = held_back()
    # The next that has no room is asked for: it is admitted.
    first = receive("1")
    bob.receive(first)
    pair.pump()
    assert first.message is not None
    # It comes in pieces: from the first on there is room for others.
    large = receive("large")
    bob.receive(large)
    for number in range(4):
        bob.take(str(number), 0.0)
        pair.pump()
    alice.send(message("large", bytes(10**6)))
    alice.send(message("small"))
    pair.move(0)
    assert large.message is None
    while bob.take("small", 0.0) is None:
        assert large.message is None
        pair.move(0)
        pair.move(1)
    pair.pump()
    assert large.message is not None


def test_what_is_under_way_when_it_is_asked_for_makes_room_at_once() -> None:
    alice, bob = new_link("a", ONE), new_link("b", ONE)
    pair = connected(alice, bob)
    for _ in range(2):
        alice.send(message("large", bytes(10**6)))
    alice.send(message("small"))
    pair.move(0)
    assert bob.receiver.box.messages == 1
    waiting = [receive("large"), receive("large")]
    assert bob.receive(waiting[0])
    assert bob.receiver.box.messages == 0
    bob.receive(waiting[1])
    pair.pump()
    assert all(request.message is not None for request in waiting)
    assert bob.take("small", 0.0) is not None


def test_one_that_was_admitted_and_is_not_asked_for_any_more() -> None:
    _, bob, pair = held_back()
    waiting = receive("1")
    bob.receive(waiting)
    pair.move(1)
    assert bob.mailbox.cancel(waiting)
    pair.pump()
    assert bob.receiver.box.messages == 2
    # There is no second one beyond the bounds, but word of a deadlock.
    waiting = receive("2")
    bob.receive(waiting)
    pass_time(pair, 7)
    assert waiting.message is None
    assert ending(waiting) is Ending.BOX_FULL
    for number in range(4):
        assert bob.take(str(number), 0.0) is not None
        pair.pump()


def test_what_was_said_of_a_full_box_long_ago_admits_nothing() -> None:
    link = new_link("a", ONE)
    stranger = Stranger(link).meet()
    stranger.start(1, "x", b"1")
    for key in "yz":
        link.receive(receive(key))

    def blocked(begun: int, key: str) -> list[frames.Frame]:
        stranger.say(frames.blocked(frames.Blocked(1, 1, begun, 0, False, False, (key,))))
        return [frame for frame in stranger.hear() if isinstance(frame, frames.Admit)]

    assert blocked(0, "y") == []
    assert blocked(3, "y") == [frames.Admit(3)]
    assert blocked(2, "z") == []
    # Once admitted, always: the word of it may have been lost.
    for request in list(link.mailbox.receives()):
        link.mailbox.cancel(request)
    assert blocked(3, "y") == [frames.Admit(3)]
    # And the other way round.
    stranger.say(frames.admit(7))
    assert link.sender.admitted == -1


def test_that_it_is_held_back_is_said_behind_all_that_has_begun() -> None:
    """What is let in by it is the next to arrive: anything else would be a message that was not admitted."""
    limits = Limits(box_messages=2, frame_size=300)
    alice, bob = new_link("a", limits), new_link("b", limits)
    pair = connected(alice, bob)
    for key in ("first", "second", "third"):
        alice.send(message(key, bytes(1000)))
    while alice.to_send(pair.ends[0], 0.0):
        pass  # on its way, when the wire is cut
    pair.lose()
    bob.receive(receive("third"))
    pair = Pair(alice, bob)
    said = 0
    while (answer := pair.move(1)) or (batch := pair.move(0)):
        if answer:
            alice.tick(0.0)
            continue
        if any(isinstance(frame, frames.Blocked) for frame in parsed(batch)):
            said += 1
            assert bob.receiver.box.begun >= 2
    assert said
    assert bob.take("first", 0.0) is not None


def test_room_for_one_message_is_room_for_one() -> None:
    """A message that was not admitted is a violation all the same."""
    for data, total in ((b"1", None), (b"1", 2)):
        stranger = Stranger(new_link("a", ONE)).meet()
        stranger.start(1, "x", b"1")
        stranger.say(frames.blocked(frames.Blocked(1, 1, 2, 0, False, False, ("y",))))
        stranger.link.receive(receive("y"))
        stranger.start(2, "y", data, total=total)
        assert len(list(stranger.closing_codes())) == 1


def test_a_deadlock_is_told_again_on_a_new_connection() -> None:
    alice, bob, pair = held_back()
    bob.receive(receive("3"))
    while not finished(bob):
        pair.now += 0.5
        for link in pair.links:
            link.tick(pair.now)
        pair.move(0)
        pair.move(1) if not bob.finished else None
    pair.lose()
    finished(alice)
    Pair(alice, bob, pair.now).pump()
    assert [ending(request) for request in finished(alice)] == [Ending.BOX_FULL]


def test_two_that_wait_for_room_in_each_others_box() -> None:
    alice, bob, pair = held_back()
    for number in range(2):
        bob.send(message(f"{number}"))
    pair.pump()
    finished(alice)
    finished(bob)
    pass_time(pair, 7)
    assert [ending(request) for request in finished(alice)] == [Ending.MUTUAL]
    assert [ending(request) for request in finished(bob)] == [Ending.MUTUAL]


def test_no_deadlock_where_the_message_is_under_way_or_may_still_be_sent() -> None:
    link = new_link("a", ONE, alone=lambda: True)
    stranger = Stranger(link).meet()
    stranger.start(1, "large", b"1", total=2)
    link.receive(receive("large"))
    link.receive(receive("later"))
    blocked = frames.blocked(frames.Blocked(1, 1, 1, 0, False, False, ("other",)))
    for half in range(30):
        stranger.now = half / 2
        stranger.say(blocked)
        link.tick(stranger.now)
    assert not link.finished
    stranger.say(frames.blocked(frames.Blocked(2, 1, 1, 1, False, False, ("other", "later"))))
    stranger.now += 5
    link.tick(stranger.now)
    assert [request.key for request in link.finished] == ["later"]
    assert Deadlock(False, True) in stranger.hear()


def test_whoever_is_held_back_hears_of_room() -> None:
    _, bob, pair = held_back()
    link, stranger_blocked = bob, batch_of(frames.blocked(frames.Blocked(1, 1, 1, 0, True, True, ("x",))))
    assert link.take("0", 0.0) is not None
    pair.links[1].received(pair.ends[1], stranger_blocked, 0.0)
    pair.pump()
    assert link.take("1", 0.0) is not None


def test_held_back_for_long_is_news_now_and_then() -> None:
    alice, bob, pair = held_back()
    told(alice)
    pass_time(pair, 60)
    assert told(alice).count(HeldBack) == 3
    while not alice.sender.idle:
        for number in range(4):
            bob.take(str(number), pair.now)
        pass_time(pair, 0.5)
    pass_time(pair, 0.5)
    assert Admitted in told(alice)


def test_a_message_that_exceeds_what_the_other_side_takes_arrives_empty() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet(BOUNDS._replace(max_message_size=10, max_id_size=5))
    link.send(message("x", b"0123456789a"))
    link.send(message("toolong", b"1"))
    given_up = message("y", b"0123456789b")
    given_up.detach()
    given_up.failure = Cause(Ending.SHUT_DOWN)
    link.send(given_up)
    link.send(message("x", b"fits"))
    starts = [frame for frame in stranger.hear() if isinstance(frame, frames.Start)]
    assert [(start.key, bytes(start.data), start.segments) for start in starts] == [
        ("x", b"", 1),
        ("y", b"", 1),
        ("x", b"fits", 1),
    ]
    assert [(request.key, ending(request)) for request in finished(link)] == [
        ("x", Ending.REFUSED),
        ("toolong", Ending.REFUSED),
    ]
    assert link.events[-1] == Refused(("x", "toolong"))


def test_taken_again_after_it_was_put_back_counts_once() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    stranger.start(1, "x", b"1")
    for _ in range(3):
        taken = link.take("x", 0.0)
        assert taken is not None
        link.put_back(taken, 0.0)
    assert link.receiver.box.taken == 1


def test_a_reader_that_takes_much_says_so_without_being_asked() -> None:
    link = new_link("a", Limits(box_messages=8))
    stranger = Stranger(link).meet()
    for seq in range(1, 7):
        stranger.start(seq, "x")
    stranger.hear()
    for taken in range(1, 4):
        link.take("x", 0.0)
        assert not stranger.hear()
        assert stranger.heard == ((6, 3 * 1537, 3) if taken == 3 else None)


def test_a_deadlock_that_is_told_again_and_again_has_us_look_once() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet(BOUNDS._replace(box_messages=1))
    link.send(message("x"))
    first = message("x")
    link.send(first)
    stranger.hear()
    stranger.say(frames.deadlock(False, True))
    assert ending(first) is Ending.BOX_FULL
    later = message("x")
    link.send(later)
    stranger.say(*[frames.deadlock(False, True)] * 10)
    assert ending(later) is None
    stranger.now = 1.0
    stranger.say(frames.deadlock(False, True))
    assert ending(later) is Ending.BOX_FULL


def test_what_is_admitted_and_slow_to_come_is_no_deadlock() -> None:
    link = new_link("a", ONE, alone=lambda: True)
    stranger = Stranger(link).meet()
    stranger.start(1, "x", b"1")
    link.receive(receive("y"))
    for half in range(30):
        stranger.now = half / 2
        stranger.say(frames.blocked(frames.Blocked(1, 1, 1, 0, False, False, ("y",))))
        assert frames.Admit(1) in stranger.hear()
        link.tick(stranger.now)
    assert not link.finished
    stranger.start(2, "y", b"1")
    assert [request.key for request in finished(link)] == ["y"]


def test_a_deadlock_that_is_told_again_and_again_is_logged_once_until_something_was_taken() -> None:
    there = DeadlocksThere(Timing(tick=1.0))
    sender = SimpleNamespace(held_back=False, box=SimpleNamespace(taken=0))

    def hear(final: bool, now: float = 0.0) -> DeadlockNews:
        return there.hear(Deadlock(False, final), cast(Sender, sender), now)

    assert hear(True) is DeadlockNews.OLD, "nothing is held back"
    sender.held_back = True
    assert [hear(False), hear(False)] == [DeadlockNews.NEW, DeadlockNews.OLD]
    sender.box.taken = 1
    assert hear(False) is DeadlockNews.NEW
    assert [hear(True, now) for now in (0.0, 0.5, 1.0)] == [DeadlockNews.FATAL, DeadlockNews.OLD, DeadlockNews.FATAL]
