"""Greetings, restarts, endings: the link against a partner, and against strangers who say what no link would."""

from __future__ import annotations

import pytest

from mpccomm.session import frames
from mpccomm.session.connections import MOST_UNVERIFIED
from mpccomm.session.frames import Abort, Ack, Bounds, Deadlock, Farewell, Goodbye, Kind, Pong, Resume
from mpccomm.session.link import Link, News
from mpccomm.session.mailbox import Receive
from mpccomm.session.outbox import Outgoing
from mpccomm.session.states import Cause, CloseCode, Ending, PartyState
from mpccomm.settings import Limits
from tests.session.links import BOUNDS, Pair, Stranger, connected, message, new_link, receive


def news(link: Link) -> list[News]:
    told, link.news = link.news, []
    return [what for what, _ in told]


def finished(link: Link) -> list[Receive | Outgoing]:
    done, link.finished = link.finished, []
    return done


def ending(request: Receive | Outgoing) -> Ending | None:
    return None if request.failure is None else request.failure.ending


# -- greeting ----------------------------------------------------------------------------------------------------------


def test_a_message_in_each_direction() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    alice.send(message("x", b"to Bob"))
    bob.receive(receive("x"))
    bob.send(message("y", b"to", b"Alice"))
    pair.pump()
    (got,) = finished(bob)[:1]
    assert isinstance(got, Receive)
    assert got.message is not None
    assert [bytes(segment) for segment in got.message.segments] == [b"to Bob"]
    assert alice.take("y", 0.0) is not None
    assert alice.outbox.idle
    assert alice.round_trip is None
    assert not alice.wants_connection


def test_another_version() -> None:
    stranger = Stranger(new_link("a"))
    assert stranger.greet(version=2) is None
    assert list(stranger.closing_codes()) == [CloseCode.VERSION]


def test_ones_own_reflection() -> None:
    stranger = Stranger(new_link("a"), "a")
    assert stranger.greet() is None
    assert list(stranger.closing_codes()) == [CloseCode.NOT_RECOGNISED]


def test_a_recording_changes_nothing() -> None:
    link = new_link("a")
    recording = Stranger(link)
    recording.greet()
    recording.say(frames.resume(Resume(b"wrong nonce.....", True, 0, 0, 0)))
    assert list(recording.closing_codes()) == [CloseCode.VIOLATION]
    assert link.state is PartyState.UNKNOWN


def test_what_arrives_on_a_closed_connection_does_not_count() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.say(b"\xff")
    assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]
    stranger.start(1)
    assert stranger.link.inbox.received == 0
    stranger.link.lost(stranger.connection)
    assert news(stranger.link) == [News.CONNECTED, News.LOST]


def test_a_former_incarnation_is_turned_away() -> None:
    link = new_link("a")
    old, late = Stranger(link, "old").meet(), Stranger(link, "old")
    late.greet()
    new = Stranger(link, "new")
    assert new.greet() == Resume(b"n" * 16, False, 0, 0, 0)
    new.resume()
    assert link.state is PartyState.RESTARTED
    assert list(old.closing_codes()) == [CloseCode.STALE]
    late.resume()
    assert link.closing[-1].code is CloseCode.STALE
    again = Stranger(link, "old")
    assert again.greet() is None
    assert link.closing[-1].code is CloseCode.STALE


def test_the_words_of_an_older_process_that_were_long_on_their_way() -> None:
    link = new_link("a")
    older = Stranger(link, "older")
    older.greet()
    Stranger(link, "newer").meet()
    older.resume()
    assert link.state is PartyState.ALIVE
    assert list(older.closing_codes()) == [CloseCode.REPLACED]


def test_a_promise_that_does_not_hold_any_more() -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet()
    old.start(1, "k", b"1")
    taken = link.take("k", 0.0)
    assert taken is not None
    old.say(frames.goodbye(Goodbye(1, 0, 0, ())))
    new = Stranger(link, "new")
    assert new.greet() == Resume(b"n" * 16, True, 0, 0, 0)
    link.put_back(taken, 0.0)
    new.resume()
    assert list(new.closing_codes()) == [CloseCode.REPLACED]
    assert link.state is PartyState.LEFT


def test_said_twice_that_it_is_not_accepted() -> None:
    stranger = Stranger(new_link("a"))
    stranger.greet()
    stranger.resume(accepted=False)
    assert news(stranger.link) == [News.HELD]
    assert not stranger.link.connected
    assert not stranger.link.wants_connection
    stranger.resume(accepted=False)
    assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]


def test_three_that_one_side_dialled() -> None:
    alice, bob = new_link("a"), new_link("b")
    pairs = [Pair(alice, bob) for _ in range(3)]
    for pair in (*pairs, *pairs):
        pair.pump()
    assert alice._connections.verified() == [alice._connections.current]
    assert len(alice.closing) == 2
    assert not bob.closing


def test_too_many_who_never_complete_their_greeting() -> None:
    link = new_link("a")
    first = link.open(dialled=False, now=0.0)
    for _ in range(MOST_UNVERIFIED):
        assert not link.closing
        link.open(dialled=False, now=0.0)
    assert link.closing[0][:2] == (first, CloseCode.SILENT)


@pytest.mark.parametrize("smaller_dialled", [True, False])
def test_both_dialled(smaller_dialled: bool) -> None:
    links = (new_link("a"), new_link("b"))
    pairs = [Pair(*links), Pair(links[1], links[0])]
    for pair in pairs if smaller_dialled else reversed(pairs):
        pair.pump()
    for pair in pairs:
        pair.pump()
    assert [link._connections.current for link in links] == list(pairs[0].ends)
    # Only the one who dialled the superfluous connection closes it.
    assert not links[0].closing
    assert [closing[:2] for closing in links[1].closing] == [(pairs[1].ends[0], CloseCode.REPLACED)]


# -- restarts ----------------------------------------------------------------------------------------------------------


def test_a_restart_fails_whoever_waits_and_leaves_what_is_complete() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    bob.send(message("read me"))
    pair.pump()
    alice.receive(receive("never sent"))
    timed_out, large = message("timed out"), message("large", bytes(10**6))
    timed_out.failure = None
    alice.send(timed_out)
    alice.send(large)
    pair.move(0)
    again = new_link("B")
    held = Pair(again, alice)
    held.pump()
    assert alice.state is PartyState.RESTARTED
    assert [ending(request) for request in finished(alice)] == [Ending.RESTARTED] * 3
    assert alice.take("read me", 0.0) is not None
    again.send(message("new"))
    held.pump()
    assert alice.take("new", 0.0) is None
    assert alice.accept_restart(0.0)
    assert not alice.accept_restart(0.0)
    held.pump()
    assert again.connected
    assert alice.take("new", 0.0) is not None


def test_several_connections_when_a_restart_is_accepted() -> None:
    alice, again = new_link("a"), new_link("b again")
    connected(alice, new_link("b"))
    pairs = [Pair(alice, again) for _ in range(3)]
    for pair in pairs:
        pair.pump()
    assert not alice.connected
    closed = len(alice.closing)
    assert alice.accept_restart(0.0)
    assert alice.connected
    assert len(alice.closing) == closed + 2
    again.send(message("x"))
    for pair in pairs:
        pair.pump()
    assert alice.take("x", 0.0) is not None


def test_what_was_taken_before_a_restart_does_not_come_back_after_it() -> None:
    link = new_link("a")
    Stranger(link, "old").meet().start(1, ("", 0), b"old")
    taken = link.take(link.mailbox.claim(""), 0.0)
    assert taken is not None
    link.inbox.hold(taken)
    Stranger(link, "new").meet()
    assert link.accept_restart(0.0)
    link.put_back(taken, 0.0)
    link.settle(taken)
    assert link.take(("", 0), 0.0) is None
    assert link.mailbox.claim("") == ("", 0)


def test_a_call_that_has_ended_does_not_end_twice() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    cancelled = message("x")
    link.send(cancelled)
    cancelled.failure = Cause(Ending.CANCELLED)
    stranger.hear()
    stranger.say(frames.abort("enough"))
    assert not finished(link)
    assert link.ending == Cause(Ending.ABORTED, "enough")


def test_the_second_of_an_id_is_not_handed_out_where_the_first_is_lost() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    stranger.start(1, "x", b"1", total=2)
    stranger.start(2, "x", b"second")
    stranger.start(3, "y", b"whole")
    Stranger(link, "new").meet()
    assert link.take("x", 0.0) is None
    assert link.take("y", 0.0) is not None
    assert link.mailbox.unread_messages == 0


# -- parting -----------------------------------------------------------------------------------------------------------


def test_goodbye_comes_after_the_acknowledgement_of_what_arrived_in_time() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    sent = message("x")
    alice.send(sent)
    pair.move(0)
    bob.leave()
    bob.say_goodbye()
    pair.pump()
    assert sent.failure is None
    assert sent in finished(alice)
    assert alice.state is PartyState.LEFT
    assert News.UNREAD in news(alice)
    assert bob.farewell


def test_goodbye_is_said_again_until_it_was_heard() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    bob.leave()
    bob.say_goodbye()
    bob.to_send(pair.ends[1], 0.0)
    pair.lose()
    assert not bob.farewell
    connected_again = Pair(alice, bob)
    connected_again.pump()
    assert alice.state is PartyState.LEFT
    assert bob.farewell
    # It comes back once more, because it did not hear the farewell, and is answered again.
    stranger = Stranger(alice, "b")
    stranger.greet()
    stranger.resume(positions=(5, 6, 7))
    stranger.say(frames.goodbye(Goodbye(0, 0, 0, ())))
    assert Farewell() in stranger.hear()


def test_after_a_clean_goodbye_the_next_process_is_a_first_contact() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    bob.say_goodbye()
    pair.pump()
    assert alice.ending is not None
    pair.lose()
    connected(alice, new_link("B"))
    assert alice.state is PartyState.ALIVE


def test_a_farewell_without_a_goodbye() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.say(frames.farewell())
    assert not stranger.link.farewell


def test_whoever_leaves_takes_nothing_and_gives_a_sign_of_life() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.start(1, "x", b"1", total=9)
    stranger.hear()
    stranger.link.leave()
    for number in (2, 3):
        stranger.part(number, 0, b"2")
        assert stranger.hear() == [Ack(1, 0, 0)]
        stranger.start(number + 2, "y")
        assert stranger.hear() == [Ack(1, 0, 0)]
    assert not stranger.link.closing


def test_abort_reaches_a_party_whose_restart_is_not_accepted() -> None:
    link = new_link("a")
    Stranger(link, "old").meet().start(1, "unread")
    new = Stranger(link, "new").meet()
    new.hear()
    link.say_goodbye()
    assert new.hear() == [Goodbye(0, 0, 0, ())]
    link.abort("reason")
    assert new.hear() == [Abort("reason")]


# -- boxes and deadlocks -----------------------------------------------------------------------------------------------

ONE = Limits(box_messages=1, box_bytes=10_000)


def held_back() -> tuple[Link, Link, Pair]:
    alice, bob = new_link("a", ONE), new_link("b", ONE)
    pair = connected(alice, bob)
    for number in range(4):
        alice.send(message(f"{number}", awaited=number == 3))
    pair.pump()
    assert bob.inbox.outstanding_messages == 1
    assert alice.outbox.queued() == (3, 24)
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
    assert alice.outbox.idle


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
    link, stranger_blocked = bob, frames.blocked(frames.Blocked(1, 1, 0, True, ("x",)))
    assert link.take("0", 0.0) is not None
    pair.links[1].received(pair.ends[1], stranger_blocked, 0.0)
    pair.pump()
    assert link.take("1", 0.0) is not None


def test_held_back_for_long_is_news_now_and_then() -> None:
    alice, bob, pair = held_back()
    news(alice)
    pass_time(pair, 60)
    assert news(alice).count(News.HELD_BACK) == 3
    while not alice.outbox.idle:
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
    assert link.inbox.consumed_messages == 1


def test_a_reader_that_takes_much_says_so_without_being_asked() -> None:
    link = new_link("a", Limits(box_messages=8))
    stranger = Stranger(link).meet()
    for seq in range(1, 7):
        stranger.start(seq, "x")
    stranger.hear()
    for taken in range(1, 4):
        link.take("x", 0.0)
        assert stranger.hear() == ([Ack(6, 3 * 1537, 3)] if taken == 3 else [])


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_connection_without_a_greeting() -> None:
    link = new_link("a")
    stranger = Stranger(link)
    link.tick(0.5)
    for half in range(30):
        link.tick(half / 2)
    assert list(stranger.closing_codes()) == [CloseCode.SILENT]


def test_pings_are_answered_and_only_ours_count() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    stranger.say(frames.ping(7))
    assert Pong(7) in stranger.hear()
    link.tick(0.5)
    (ping,) = (frame for frame in stranger.hear() if isinstance(frame, frames.Ping))
    stranger.now = 0.6
    stranger.say(frames.pong(ping.token + 1))
    assert link.round_trip is None
    stranger.say(frames.pong(ping.token))
    assert link.round_trip == pytest.approx(0.1)
    assert Kind.PING not in stranger.connection.control


def test_our_own_standstill_is_nobodys_silence() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    link.tick(0.5)
    link.tick(1000.0)
    assert not link.closing
    assert News.SUSPECT not in news(link)
    stranger.now = 1000.1
    stranger.say(frames.pong(1))
    assert link.round_trip == pytest.approx(0.6, abs=1.0)


def test_a_suspect_connection_gives_way() -> None:
    alice, bob = new_link("a"), new_link("b")
    silent = connected(alice, bob)
    alice.send(message("x"))
    alice.to_send(silent.ends[0], 0.0)
    for half in range(6):
        alice.tick(half / 2)
    assert News.SUSPECT in news(alice)
    assert alice.wants_connection
    Pair(alice, bob, 3.0).pump()
    assert bob.take("x", 3.0) is not None
    assert alice.outbox.idle
    assert [closing.code for closing in alice.closing] == [CloseCode.REPLACED]


def test_bounds_in_hello() -> None:
    limits = Limits(box_bytes=1, box_messages=2, max_message_size=3, max_segments=4, max_id_size=10**9)
    stranger = Stranger(new_link("a", limits))
    assert stranger.hello.bounds == Bounds(1, 2, 3, 4, frames.MAX_NAME)
    stranger.meet(BOUNDS)
    assert stranger.link.max_message_size == BOUNDS.max_message_size
