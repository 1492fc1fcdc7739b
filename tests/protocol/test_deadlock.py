"""Full boxes: who is held back, who hears of it, and when it is a deadlock."""

from __future__ import annotations

from mpccomm.protocol import frames
from mpccomm.protocol.frames import Deadlock
from mpccomm.protocol.link import Link, News
from mpccomm.protocol.states import Cause, Ending
from mpccomm.settings import Limits
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
    news,
    receive,
)

# -- boxes and deadlocks -----------------------------------------------------------------------------------------------

ONE = Limits(box_messages=1, box_bytes=10_000)


def held_back() -> tuple[Link, Link, Pair]:
    alice, bob = new_link("a", ONE), new_link("b", ONE)
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
    assert News.DEADLOCK in news(alice)
    assert News.DEADLOCK in news(bob)
    # What was held back is still sent.
    for number in range(4):
        assert bob.take(str(number), pair.now) is not None
        pair.pump()
    assert alice.sender.idle


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
    link = new_link("a", ONE)
    stranger = Stranger(link).meet()
    stranger.start(1, "large", b"1", total=2)
    link.receive(receive("large"))
    link.receive(receive("later"))
    blocked = frames.blocked(frames.Blocked(1, 1, 0, False, ("other",)))
    for half in range(30):
        stranger.now = half / 2
        stranger.say(blocked)
        link.tick(stranger.now)
    assert not link.finished
    stranger.say(frames.blocked(frames.Blocked(1, 1, 0, False, ("later",))))
    stranger.now += 0.5
    link.tick(stranger.now)
    assert [request.key for request in link.finished] == ["later"]
    assert Deadlock(False) in stranger.hear()


def test_whoever_is_held_back_hears_of_room() -> None:
    _, bob, pair = held_back()
    link, stranger_blocked = bob, batch_of(frames.blocked(frames.Blocked(1, 1, 0, True, ("x",))))
    assert link.take("0", 0.0) is not None
    pair.links[1].received(pair.ends[1], stranger_blocked, 0.0)
    pair.pump()
    assert link.take("1", 0.0) is not None


def test_held_back_for_long_is_news_now_and_then() -> None:
    alice, bob, pair = held_back()
    news(alice)
    pass_time(pair, 60)
    assert news(alice).count(News.HELD_BACK) == 3
    while not alice.sender.idle:
        for number in range(4):
            bob.take(str(number), pair.now)
        pass_time(pair, 0.5)
    pass_time(pair, 0.5)
    assert News.ADMITTED in news(alice)


def test_a_message_that_exceeds_what_the_other_side_takes_arrives_empty() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet(BOUNDS._replace(max_message_size=10, max_id_size=5))
    link.send(message("x", b"0123456789a"))
    link.send(message("toolong", b"1"))
    given_up = message("y", b"0123456789b")
    given_up.detach()
    given_up.failure = Cause(Ending.TIMED_OUT)
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
    assert link.news[-1] == (News.REFUSED, "'x', 'toolong'")


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
