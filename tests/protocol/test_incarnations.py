"""Restarts, and the last words of a process: what of them survives, and what must not."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.events import Dropped, NeverRead, PartyReplaced
from mpccomm.protocol.frames import SUCCESSORS, Abort, Farewell, Goodbye, Key, Resume
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.states import Cause, CloseCode, Ending, PartyState
from tests.protocol.links import Pair, Stranger, connected, ending, finished, message, new_link, receive, told

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
    taken = link.take(link.mailbox.numbering.claim(""), 0.0)
    assert taken is not None
    link.receiver.hold(taken)
    Stranger(link, "new").meet()
    assert link.accept_restart(0.0)
    told(link)
    link.put_back(taken, 0.0)
    assert told(link) == [Dropped]
    link.settle(taken)
    assert link.take(("", 0), 0.0) is None
    assert link.mailbox.numbering.claim("") == ("", 0)


@pytest.mark.parametrize("followed", [False, True])
def test_what_was_taken_before_its_sender_left_is_there_when_another_process_has_come(followed: bool) -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet(features=SUCCESSORS)
    old.start(1, ("", 0), b"old")
    old.start(2, "x", b"old x")
    taken = link.take(link.mailbox.numbering.claim(""), 0.0)
    mine: deque[Any] = deque()
    assert link.mailbox.grab("", "x", mine)
    assert taken is not None
    old.say(frames.goodbye(Goodbye(2, 0, 0, (), followed)))
    new = Stranger(link, "new").meet()
    assert link.state is PartyState.ALIVE
    new.start(1, ("", 0), b"new")
    new.start(2, "x", b"new x")
    link.put_back(taken, 0.0)
    link.restore(mine[0])
    assert not told(link).count(Dropped)
    assert link.take(link.mailbox.numbering.claim(""), 0.0) is taken
    assert link.take("x", 0.0) is mine[0]
    for key, contents in ((link.mailbox.numbering.claim(""), b"new"), ("x", b"new x")):
        found = link.take(key, 0.0)
        assert found is not None
        assert found.segments == [contents]


def test_a_call_that_has_ended_does_not_end_twice() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    cancelled = message("x")
    link.send(cancelled)
    cancelled.failure = Cause(Ending.SHUT_DOWN)
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


def test_what_a_connection_was_told_is_not_taken_back() -> None:
    # Told that its frames are taken, before any process was met; meanwhile this one is the restart of another.
    link = new_link("a")
    early = Stranger(link, "new")
    answer = early.greet()
    assert answer is not None
    assert answer.accepted
    Stranger(link, "old").meet()
    Stranger(link, "new").meet()
    assert link.state is PartyState.RESTARTED
    early.resume()
    assert early.hear() == []
    assert list(early.closing_codes()) == [CloseCode.REPLACED]


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
    assert NeverRead in told(alice)
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


def test_after_its_goodbye_a_party_takes_nothing_and_gives_a_sign_of_life() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.start(1, "x", b"1", total=9)
    stranger.hear()
    stranger.link.leave()
    stranger.part(2, 0, b"2")
    stranger.start(3, "y")
    stranger.hear()
    assert stranger.heard == (3, 0, 0)
    stranger.link.say_goodbye()
    (goodbye,) = stranger.hear()
    assert goodbye == Goodbye(0, 0, 1, ("y",))
    for number in (4, 5):
        stranger.part(number, 0, b"2")
        assert stranger.hear() == []
        assert stranger.heard == (3, 0, 0)
        stranger.start(number + 2, "y")
        assert stranger.hear() == []
        assert stranger.heard == (3, 0, 0)
        stranger.start(number + 2, "y", total=2)
        assert stranger.hear() == []
        assert stranger.heard == (3, 0, 0)
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


@pytest.mark.parametrize(
    "word", [frames.abort("enough"), frames.goodbye(Goodbye(0, 0, 0, ()))], ids=["abort", "goodbye"]
)
def test_the_last_word_of_one_that_is_not_accepted_counts_when_it_is(word: bytes) -> None:
    link = new_link("a")
    Stranger(link, "old").meet().start(1, "unread")
    new = Stranger(link, "new").meet()
    new.hear()
    new.say(word)
    assert Farewell() in new.hear()
    assert link.state is PartyState.RESTARTED
    link.lost(new.connection)
    assert link.accept_restart(0.0)
    ended = Ending.ABORTED if word == frames.abort("enough") else Ending.SHUT_DOWN
    assert link.ending is not None
    assert link.ending.ending is ended


def test_what_one_said_that_was_replaced_before_it_was_accepted_does_not_count() -> None:
    link = new_link("a")
    Stranger(link, "old").meet().start(1, "unread")
    Stranger(link, "new").meet().say(frames.abort("enough"))
    Stranger(link, "newest").meet()
    assert link.accept_restart(0.0)
    assert (link.state, link.ending) == (PartyState.ALIVE, None)


# -- another one takes its place ---------------------------------------------------------------------------------------


FOLLOWED = Goodbye(0, 0, 0, (), True)


def test_what_waits_goes_on_waiting_for_the_one_that_takes_its_place() -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet()
    old.start(1, ("", 0))
    assert link.take(link.mailbox.numbering.claim(""), 0.0) is not None
    waiting = [
        Receive(link.mailbox.numbering.claim(""), 0.0),
        receive("x"),
        Receive(link.mailbox.numbering.claim(""), 0.0),
        receive("x"),
    ]
    for one in waiting:
        link.receive(one)
    told(link)
    old.say(frames.goodbye(FOLLOWED._replace(last_seq=1)))
    assert Farewell() in old.hear()
    assert (link.state, link.ending, link.connected) == (PartyState.REPLACED, None, False)
    assert told(link) == [PartyReplaced]
    assert [one.key for one in waiting] == [("", 0), "x", ("", 1), "x"]
    sent = message(link.sender.next_key(""))
    link.send(sent)
    old.start(2, ("", 1))
    old.say(frames.abort("it has no say any more"))
    again = Stranger(link, "old")
    assert again.greet() == Resume(b"n" * 16, True, 0, 0, 0)
    again.resume()
    again.start(1, ("", 0))
    again.say(frames.goodbye(FOLLOWED))
    assert Farewell() in again.hear()
    assert not finished(link)
    new = Stranger(link, "new").meet()
    assert [one.code for one in link.closing] == [CloseCode.STALE] * 2
    assert any(isinstance(frame, frames.Start) for frame in new.hear())
    keys: list[Key] = [("", 0), ("", 1), "x", "x"]
    for seq, key in enumerate(keys, 1):
        new.start(seq, key)
    assert finished(link) == [waiting[0], waiting[2], waiting[1], waiting[3]]
    new.positions = (1, 0, 0)
    new.say()
    assert finished(link) == [sent]


@pytest.mark.parametrize("what", ["unread there", "undelivered", "unacknowledged", "unread here", "still to come"])
def test_where_something_was_under_way_it_has_shut_down(what: str) -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet()
    link.receive(waiting := receive("x"))
    goodbye = FOLLOWED
    match what:
        case "unread there":
            goodbye = FOLLOWED._replace(unread=1, unread_ids=("y",))
        case "undelivered":
            goodbye = FOLLOWED._replace(undelivered=1)
        case "unacknowledged":
            link.send(message("y"))
        case "unread here":
            old.start(1, "y")
            goodbye = FOLLOWED._replace(last_seq=1)
        case _:
            goodbye = FOLLOWED._replace(last_seq=1)
    old.say(frames.goodbye(goodbye))
    assert link.state is PartyState.LEFT
    assert finished(link)[0] is waiting
    assert ending(waiting) is Ending.SHUT_DOWN


def test_a_receive_that_is_for_this_process_alone() -> None:
    class Bound(Receive):
        def renew(self, mailbox: Mailbox) -> bool:
            return False

    link = new_link("a")
    bound, free = Bound("x", 0.0), receive("y")
    link.receive(bound)
    link.receive(free)
    Stranger(link, "old").meet().say(frames.goodbye(FOLLOWED))
    assert finished(link) == [bound]
    assert ending(bound) is Ending.SHUT_DOWN
    assert list(link.mailbox.receives()) == [free]


def test_that_another_one_follows_is_said_to_those_who_understand() -> None:
    link = new_link("a")
    old = Stranger(link, "b").meet()
    new = Stranger(link, "b").meet(features=SUCCESSORS)
    for one in (old, new):
        one.hear()
    link.leave()
    link.say_goodbye(followed=True)
    assert old.hear() == [Goodbye(0, 0, 0, ())]
    assert new.hear() == [FOLLOWED]
    late = Stranger(link, "b").meet(features=SUCCESSORS)
    assert FOLLOWED in late.hear()


def test_none_that_was_announced_and_does_not_come_is_none_that_has_started() -> None:
    """Those after it, and one after that, are met as at the beginning."""
    link = new_link("a")
    link.receive(receive("x"))
    for number in range(3):
        one = Stranger(link, f"{number}").meet()
        assert link.state is PartyState.ALIVE
        one.say(frames.goodbye(FOLLOWED))
    assert not finished(link)
    Stranger(link, "last").meet().start(1, "x")
    assert len(finished(link)) == 1
