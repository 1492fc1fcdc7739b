"""What an attacker can't do with frames that are made up, or that were heard before."""

from __future__ import annotations

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.frames import Goodbye, Hello, Resume
from mpccomm.protocol.states import CloseCode, PartyState
from mpccomm.settings import Limits, Timing
from tests.protocol.links import BOUNDS, Stranger, batch_of, connected, message, new_link, receive

HELLO = frames.hello(Hello(frames.PROTOCOL_VERSION, b"old".ljust(16, b"."), b"n" * 16, 0, 0, BOUNDS))


def test_a_hello_that_is_played_back_changes_nothing() -> None:
    """Nor does all that was said behind it: what proves that its sender lives is an answer to our nonce."""
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    alice.send(message("x"))
    pair.pump()
    for said in (
        frames.resume(Resume(b"an older nonce..", True, 0, 0, 0)),
        frames.message_head(1, (0, 0, b"x"), False, 0),
        frames.goodbye(Goodbye(0, 0, 0, ())),
        frames.abort("believe me"),
        frames.deadlock(True, True),
        frames.admit(5),
    ):
        replayed = alice.open(dialled=False, now=0.0)
        alice.received(replayed, batch_of(HELLO, said, positions=(1, 10**6, 1)), 0.0)
        assert [closing.code for closing in alice.closing] == [CloseCode.VIOLATION]
        alice.closing.clear()
        assert alice.state is PartyState.ALIVE
        assert alice.connected
        assert (alice.sender.box.taken, alice.sender.admitted) == (0, -1)
    assert bob.take("x", 0.0) is not None


def test_what_a_new_incarnation_says_does_not_count_before_the_program_accepts_it() -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet()
    link.send(message("for the old one"))
    old.hear()
    waiting = receive("x")
    new = Stranger(link, "new").meet()
    assert link.state is PartyState.RESTARTED
    link.finished.clear()
    for said in (
        frames.message_head(1, (0, 0, b"x"), False, 1) + b"1",
        frames.start_head(1, (0, 0, b"x"), False, 1, 1, 1) + b"1",
        frames.part_head(2, 0, 1) + b"1",
        frames.blocked(frames.Blocked(1, 1, 0, 0, True, True, ("x",))),
        frames.deadlock(False, True),
        frames.admit(0),
    ):
        new.positions = (1, 1, 1)
        new.say(said)
    assert not link.closing[1:]
    assert not link.finished
    assert link.receiver.received == 0
    assert waiting.message is None


@pytest.mark.parametrize("deadlock_after", [None, 5.0])
def test_a_deadlock_that_is_made_up_ends_only_what_its_teller_holds_back(deadlock_after: float | None) -> None:
    link = new_link("a", timing=Timing(deadlock_after=deadlock_after), alone=lambda: False)
    stranger = Stranger(link).meet()
    waiting, sent = receive("x"), message("y")
    link.receive(waiting)
    link.send(sent)
    stranger.hear()
    for mutual in (True, False):
        stranger.now += 1.0
        stranger.say(frames.deadlock(mutual, True))
    assert not link.finished
    assert waiting.failure is None
    assert sent.failure is None


def test_that_it_is_held_back_is_believed_only_as_long_as_nothing_comes() -> None:
    """A party that says it is held back, and isn't, makes no deadlock of a receive that waits for another message."""
    link = new_link("a", Limits(box_messages=10), timing=Timing(deadlock_after=5.0))
    stranger = Stranger(link).meet()
    waiting = receive("x")
    link.receive(waiting)
    for half in range(20):
        stranger.now = half / 2
        stranger.say(frames.blocked(frames.Blocked(1, 1, half, 0, True, True, ("y",))))
        stranger.start(half + 1, "z")
        link.take("z", stranger.now)
        link.tick(stranger.now)
    assert waiting.failure is None


def test_a_message_belongs_to_the_party_whose_connection_brought_it() -> None:
    """Ids, those of groups and channels too, are looked up at one party: nobody sends in another's name."""
    bob, mallory = new_link("a"), new_link("a")
    waiting = receive(("@[g]Bob", 0))
    bob.receive(waiting)
    Stranger(mallory, "mallory").meet().start(1, ("@[g]Bob", 0), b"forged")
    assert waiting.message is None
    assert mallory.take(("@[g]Bob", 0), 0.0) is not None


def test_to_acknowledge_or_take_what_was_never_sent_is_a_violation() -> None:
    for positions in ((2, 0, 0), (0, 10**6, 0), (0, 0, 2)):
        link = new_link("a")
        stranger = Stranger(link).meet()
        link.send(message("x"))
        stranger.hear()
        stranger.positions = positions
        stranger.say()
        assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]
