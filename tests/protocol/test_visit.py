"""A process that has come to look: it is answered, and nothing about its party changes. In bad faith it gains nothing by that."""

from __future__ import annotations

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.connection import IDLE_BURST, MOST_VERIFIED
from mpccomm.protocol.events import Connected, Visited
from mpccomm.protocol.frames import VISIT, Farewell, Goodbye, Pong, Resume
from mpccomm.protocol.link import BEAT, Link
from mpccomm.protocol.states import CloseCode, PartyState
from mpccomm.settings import Timing
from tests.protocol.links import Pair, Stranger, connected, finished, message, new_link, receive, told


def visitor(name: str) -> Link:
    link = new_link(name)
    link.features |= VISIT
    return link


def test_a_visit_leaves_no_trace() -> None:
    alice, doctor = new_link("a"), visitor("d")
    alice.receive(receive("x"))
    alice.send(message("y"))
    pair = connected_to(doctor, alice)
    assert doctor.connected
    assert not alice.connected
    assert alice.wants_connection
    assert told(alice) == [Visited]
    for now in (0.1, 1.0, 5.0, 9.0):
        pair.now = now
        for link in pair.links:
            link.tick(now)
        pair.pump()
    assert doctor.round_trip is not None
    assert alice.round_trip is None
    doctor.leave()
    doctor.say_goodbye()
    pair.pump()
    assert doctor.farewell
    pair.lose()
    assert not told(alice)
    assert not finished(alice)
    assert (alice.state, alice.peer, alice.counters.connections) == (PartyState.UNKNOWN, b"", 0)
    bob = new_link("b")
    bob.receive(receive("y"))
    later = connected(bob, alice, 10.0)
    bob.send(message("x"))
    later.pump()
    assert len(finished(alice)) == 2
    assert told(alice) == [Connected]


def connected_to(visiting: Link, link: Link, now: float = 0.0) -> Pair:
    pair = Pair(visiting, link, now)
    pair.pump()
    assert visiting.connected
    return pair


@pytest.mark.parametrize("state", [PartyState.ALIVE, PartyState.LEFT, PartyState.ABORTED, PartyState.RESTARTED])
def test_a_visit_while_the_party_is_there_or_was(state: PartyState) -> None:
    alice = new_link("a")
    party = Stranger(alice, "b").meet()
    match state:
        case PartyState.LEFT:
            party.say(frames.goodbye(Goodbye(0, 1, 0, ())))
        case PartyState.ABORTED:
            party.say(frames.abort("no"))
        case PartyState.RESTARTED:
            party = Stranger(alice, "c").meet()
        case _:
            alice.receive(receive("k"))
    before = alice.state, alice.peer, alice.connected, alice.ending
    assert alice.state is state
    told(alice), finished(alice)
    pair = connected_to(visitor("d"), alice)
    assert told(alice) == [Visited]
    pair.lose()
    assert (alice.state, alice.peer, alice.connected, alice.ending) == before
    assert not party.connection.closed
    assert not finished(alice)
    if state is PartyState.ALIVE:
        party.start(1, "k")
        assert [request.failure for request in finished(alice)] == [None]


def test_the_party_comes_during_the_visit() -> None:
    alice, bob = new_link("a"), new_link("b")
    visit = connected_to(visitor("d"), alice)
    pair = connected(bob, alice)
    assert not any(end.closed for end in (*visit.ends, *pair.ends))
    alice.accept_restart(0.0)
    alice.leave()
    alice.say_goodbye()
    visit.pump()
    assert not alice.farewell
    assert visit.links[0].state is PartyState.ALIVE
    pair.pump()
    assert alice.farewell


def test_two_visitors_talk_as_any_two_do() -> None:
    one, other = visitor("d"), visitor("p")
    pair = connected(one, other)
    one.send(message("x"))
    pair.pump()
    assert other.take("x", 0.0) is not None


def test_to_a_process_that_does_not_know_of_visits_it_is_a_party_as_any() -> None:
    doctor = visitor("d")
    stranger = Stranger(doctor).meet()
    assert doctor.connected
    assert stranger.hello.features & VISIT


def test_one_that_was_dialled_in_its_place() -> None:
    """It has one connection by that, lest each further attempt brings another one."""
    alice = new_link("a")
    first = Stranger(alice, "d", dialled=True).meet(features=VISIT)
    again = Stranger(alice, "d", dialled=True)
    assert again.greet(features=VISIT) is None
    assert list(again.closing_codes()) == [CloseCode.REPLACED]
    assert [event for event in alice.events if isinstance(event, Visited)] == [Visited(True), Visited(True)]
    assert not first.connection.closed
    assert Stranger(alice, "d").greet(features=VISIT) == Resume(b"n" * 16, True, 0, 0, 0)


# -- in bad faith ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b", "d"])
def test_nothing_that_a_visit_says_counts(name: str) -> None:
    """Neither as a stranger nor as the very process that is talked to."""
    alice = new_link("a")
    party = Stranger(alice, "b").meet()
    alice.receive(receive("k"))
    alice.send(message("x"))
    party.hear()
    told(alice), finished(alice)
    visit = Stranger(alice, name)
    assert visit.greet(features=VISIT) == Resume(b"n" * 16, True, 0, 0, 0), "no positions"
    visit.resume(positions=(1, 1024 + 8, 1))
    visit.positions = (1, 1024 + 8, 1)
    visit.start(1, "k")
    visit.start(2, "k", b"12", segments=1, total=4)
    visit.part(3, 1, b"34")
    visit.say(
        frames.deadlock(True, True),
        frames.blocked(frames.Blocked(1, 2, 0, 7, True, True, ())),
        frames.admit(5),
        frames.abort("gone"),
        frames.pong(1),
        frames.farewell(),
        frames.goodbye(Goodbye(0, 0, 1, ())),
        frames.ping(7),
    )
    assert [type(frame) for frame in visit.hear()] == [Farewell, Pong]
    assert visit.heard == (0, 0, 0)
    assert told(alice) == [Visited]
    assert not finished(alice)
    assert not alice.sender.idle
    assert alice.state is PartyState.ALIVE
    assert alice.receiver.received == 0
    assert not alice.closing
    party.start(1, "k")
    assert len(finished(alice)) == 1


@pytest.mark.parametrize("word", [frames.goodbye(Goodbye(0, 0, 0, ())), frames.abort("gone")], ids=["goodbye", "abort"])
def test_the_last_word_of_a_visit_is_answered_and_changes_nothing(word: bytes) -> None:
    alice = new_link("a")
    Stranger(alice, "b").meet()
    visit = Stranger(alice, "d").meet(features=VISIT)
    visit.hear()
    visit.say(word)
    assert visit.hear() == [Farewell()]
    assert (alice.state, alice.ending) == (PartyState.ALIVE, None)


@pytest.mark.parametrize("word", [frames.goodbye(Goodbye(0, 0, 0, ())), frames.abort("gone")], ids=["goodbye", "abort"])
def test_the_last_word_of_a_visit_is_not_that_of_a_party_that_is_to_be_accepted(word: bytes) -> None:
    alice = new_link("a")
    Stranger(alice, "old").meet().start(1, "unread")
    Stranger(alice, "new").meet()
    visit = Stranger(alice, "new")
    visit.greet(features=VISIT)
    visit.resume()
    visit.say(word)
    assert alice.state is PartyState.RESTARTED
    assert alice.accept_restart(0.0)
    assert (alice.state, alice.ending) == (PartyState.ALIVE, None)


def test_a_farewell_of_a_visit_is_none_of_the_party() -> None:
    alice = new_link("a")
    Stranger(alice, "b").meet()
    visit = Stranger(alice, "d").meet(features=VISIT)
    visit.hear()
    alice.leave()
    alice.say_goodbye()
    assert not visit.hear()
    visit.say(frames.farewell())
    assert not alice.farewell


def test_a_recording_of_a_visit() -> None:
    alice = new_link("a")
    visit = Stranger(alice, "d")
    visit.greet(features=VISIT)
    visit.say(frames.resume(Resume(b"wrong nonce.....", True, 0, 0, 0)))
    assert list(visit.closing_codes()) == [CloseCode.VIOLATION]
    assert not told(alice)


def test_a_visit_that_asks_without_end() -> None:
    visit = Stranger(new_link("a"), "d").meet(features=VISIT)
    for token in range(IDLE_BURST // BEAT + 1):
        visit.say(frames.ping(token))
    assert list(visit.closing_codes()) == [CloseCode.VIOLATION]


def test_visits_are_few_and_make_no_room_among_the_connections_of_the_party() -> None:
    alice = new_link("a")
    party = [Stranger(alice, "b").meet() for _ in range(3)]
    visits = [Stranger(alice, f"d{number}").meet(features=VISIT) for number in range(MOST_VERIFIED + 2)]
    assert not any(one.connection.closed for one in party)
    assert [one.connection.closed for one in visits] == [True] * 2 + [False] * MOST_VERIFIED


def test_a_silent_visit_ends() -> None:
    alice = new_link("a")
    visit = Stranger(alice, "d").meet(features=VISIT)
    visit.hear()
    now = 0.0
    while now < Timing().dead_after + 1:
        now += Timing().tick
        alice.tick(now)
    assert not visit.hear(), "it is not asked for a sign of life"
    assert list(visit.closing_codes()) == [CloseCode.SILENT]


def test_what_a_visit_says_first_is_held_to_the_order_of_the_greeting() -> None:
    visit = Stranger(new_link("a"), "d")
    visit.greet(features=VISIT)
    visit.start(1)
    assert list(visit.closing_codes()) == [CloseCode.VIOLATION]


def test_a_visitor_is_counted_once() -> None:
    link = new_link("a")
    stranger = Stranger(link, "doctor")
    stranger.greet(features=VISIT)
    stranger.resume()
    assert told(link) == [Visited]
    link._be_visited(stranger.connection)
    assert told(link) == []
