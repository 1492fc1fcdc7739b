"""Greetings and the passing of time: the link against a partner, and against strangers who say what no link would."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.connection import IDLE_BURST, MOST_UNVERIFIED, MOST_VERIFIED, REWOUND
from mpccomm.protocol.events import Connected, ConnectionLost, ConnectionSuspect, NeverRead, RestartNotAccepted
from mpccomm.protocol.frames import Bounds, Goodbye, Kind, Pong, Resume
from mpccomm.protocol.link import BEAT, RARE
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.states import CloseCode, PartyState
from mpccomm.settings import Limits, Timing
from tests.protocol.links import BOUNDS, Pair, Stranger, connected, finished, message, new_link, receive, told

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
    assert alice.sender.idle
    assert alice.round_trip is None
    assert not alice.wants_connection


def test_one_may_have_met_the_other_already_while_it_is_being_greeted() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = Pair(alice, bob)
    seen = []
    for sender in (0, 1, 0, 1):  # HELLO, HELLO and RESUME, RESUME, what is left
        pair.move(sender)
        seen.append((alice.perhaps_met, bob.perhaps_met))
    assert seen == [(False, True), (False, True), (False, False), (False, False)]
    assert alice.connected
    assert bob.connected


def test_one_that_was_cut_off_while_it_was_greeted_may_have_met_us_until_it_comes_back() -> None:
    alice, bob = new_link("a"), new_link("b")
    pair = Pair(alice, bob)
    for sender in (0, 1):
        pair.move(sender)
    alice.to_send(pair.ends[0], 0.0)
    pair.lose()
    assert told(alice) == [Connected, ConnectionLost]
    assert bob.state is PartyState.UNKNOWN
    assert bob.perhaps_met, "Alice was connected"
    bob.leave()
    connected(alice, bob)
    assert not bob.perhaps_met
    bob.say_goodbye()


@pytest.mark.parametrize(
    ("code", "perhaps"),
    [
        (None, True),
        (CloseCode.REPLACED, True),
        (CloseCode.SILENT, True),
        (CloseCode.DONE, False),
        (CloseCode.NOT_RECOGNISED, False),
        (CloseCode.VERSION, False),
        (CloseCode.SHUTTING_DOWN, False),
    ],
)
def test_one_that_ends_its_greeting_has_not_met_us(code: int | None, perhaps: bool) -> None:
    link = new_link("a")
    first, second = Stranger(link), Stranger(link)
    first.greet()
    link.lost(second.connection, code)
    assert link.perhaps_met, "it said nothing there"
    link.lost(first.connection, code)
    assert link.perhaps_met is perhaps


def test_only_a_process_that_was_not_met_may_have_met_us_without_that() -> None:
    link = new_link("a")
    old = Stranger(link, "old").meet()
    Stranger(link, "old").greet()
    assert not link.perhaps_met, "we know each other"
    old.say(frames.goodbye(Goodbye(0, 0, 0, ())))
    new = Stranger(link, "new")
    new.greet()
    link.lost(new.connection)
    assert link.ending is not None
    assert link.perhaps_met
    Stranger(link, "newer").meet()
    assert not link.perhaps_met, "the other one is not there any more"


def test_what_is_known_of_a_party() -> None:
    """Whether it is reached through a relay; whether it left with something under way: then its next process is a restart."""
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    assert not alice.relayed
    assert not alice.left_something
    pair.ends[0].relayed = True
    assert alice.relayed
    bob.send(message("unread"))
    pair.pump()
    bob.leave()
    bob.say_goodbye()
    pair.pump()
    assert alice.left_something
    assert alice.take("unread", 0.0) is not None
    assert not alice.left_something
    pair.lose()
    assert not alice.relayed


def test_another_version() -> None:
    stranger = Stranger(new_link("a"))
    assert stranger.greet(version=frames.PROTOCOL_VERSION + 1) is None
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


def test_a_batch_without_a_head() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.link.received(stranger.connection, bytes(23), 0.0)
    assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]


def test_only_the_current_connection_has_data_to_send() -> None:
    alice, bob = new_link("b"), new_link("a")
    pairs = [Pair(alice, bob), Pair(alice, bob)]
    for pair in pairs:
        pair.pump()
    alice.send(message("x"))
    other = next(end for pair in pairs for end in pair.ends[:1] if end is not alice._connections.current)
    assert not alice.due(other)


def test_what_arrives_on_a_closed_connection_does_not_count() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.say(b"\xff")
    assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]
    stranger.start(1)
    assert stranger.link.receiver.received == 0
    stranger.link.lost(stranger.connection)
    assert told(stranger.link) == [Connected, ConnectionLost]


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
    assert told(stranger.link) == [RestartNotAccepted]
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


def test_a_party_has_only_so_many_connections() -> None:
    ours, theirs = new_link("a"), new_link("b")
    for _ in range(3 * MOST_VERIFIED):
        Pair(theirs, ours).pump()
        # It does not close what is superfluous, as it should.
        theirs.closing.clear()
        assert len(ours._connections.verified()) <= MOST_VERIFIED + 1
        assert ours.connected
    assert {closing.code for closing in ours.closing} == {CloseCode.SILENT}


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


@pytest.mark.parametrize(("count", "size"), [(1, 2**20), (1000, 1000)])
def test_a_handshake_goes_ahead_of_what_is_to_be_sent(count: int, size: int) -> None:
    """On a slow line that would take so long that the other side took it for one that failed."""
    alice, bob = links = new_link("a"), new_link("b")
    for number in range(count):
        alice.send(message(f"{number}", bytes(size)))
    for _ in range(3):
        pair = Pair(*links)
        while len(batch := alice.to_send(pair.ends[0], 0.0)) < 2**15:
            bob.received(pair.ends[1], batch, 0.0)
            pair.move(1)
        assert bob.connected, "before the first piece"
        pair.lose()  # and the piece with it


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_a_connection_that_may_bring_the_answer_to_our_last_word_is_kept() -> None:
    """The other side may have answered there, and be gone when the word comes on another one."""
    alice, bob = new_link("a"), new_link("b")
    # That which the smaller incarnation dials takes the place of this one.
    first = connected(bob, alice)
    bob.say_goodbye()
    second = Pair(alice, bob)
    while bob._connections.current is not second.ends[1]:
        assert second.move(0) or second.move(1)
    assert not bob.closing
    first.pump()
    assert bob.farewell


def test_both_send_and_leave_at_once() -> None:
    links = (new_link("a"), new_link("b"))
    pair = connected(*links)
    for link in links:
        link.send(message("last words"))
        link.leave()
    said = [False, False]
    for _ in range(2):  # round trips
        batches = [link.to_send(end, 0.0) for link, end in zip(links, pair.ends, strict=True)]
        for end, batch in enumerate(batches):
            links[1 - end].received(pair.ends[1 - end], batch, 0.0)
        for end, link in enumerate(links):
            if link.sender.idle and not said[end]:
                said[end] = True
                link.say_goodbye()
    pair.pump()
    assert said == [True, True]
    for link in links:
        (sent,) = (request for request in finished(link) if not isinstance(request, Receive))
        assert sent.failure is None
        assert link.state is PartyState.LEFT
        assert NeverRead in told(link)


# -- floods ------------------------------------------------------------------------------------------------------------

IDLE = {
    "PING": frames.ping(1),
    "PONG": frames.pong(1),
    "BLOCKED": frames.blocked(frames.Blocked(1, 1, 1, 0, True, True, ("x",))),
    "DEADLOCK": frames.deadlock(True, True),
    "FAREWELL": frames.farewell(),
    "ADMIT": frames.admit(0),
    "GOODBYE": frames.goodbye(Goodbye(0, 0, 0, ())),
    "a message again": frames.message_head(1, (0, 0, b"k"), False, 1) + b"1",
    "a START again": frames.start_head(2, (0, 0, b"l"), False, 1, 2, 1) + b"1",
    "a PART again": frames.part_head(3, 1, 1) + b"1",
    "nothing": b"",
}


@pytest.mark.parametrize("what", IDLE)
def test_frames_that_bring_nothing_forward_have_a_budget(what: str) -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.start(1, "k", b"1")
    stranger.start(2, "l", b"1", total=9)
    stranger.part(3, 1, b"1")
    counts = {"PING": BEAT, "PONG": BEAT, "ADMIT": 1, "nothing": 1}.get(what, REWOUND if "again" in what else RARE)
    often = IDLE_BURST // counts
    for _ in range(often - often // 5):
        stranger.say(IDLE[what])
    assert not stranger.link.closing
    stranger.now += 0.5
    for _ in range(often // 10):
        stranger.say(IDLE[what])
    assert not stranger.link.closing
    for _ in range(often):
        stranger.say(IDLE[what])
    assert list(stranger.closing_codes())[:1] == [CloseCode.VIOLATION]


def test_what_brings_something_forward_is_no_flood() -> None:
    """A full box, out of which one message at a time is taken, and another admitted: as fast as it goes."""
    limits = Limits(box_messages=1)
    links = (new_link("a", limits), new_link("b", limits))
    pair = connected(*links)
    alice, bob = links
    alice.send(message("unread"))
    pair.pump()
    for number in range(IDLE_BURST):
        alice.send(message("k"))
        pair.pump()
        if number % 2:
            assert bob.take("unread", 0.0) is not None
            pair.pump()
            assert bob.take("k", 0.0) is not None
            alice.send(message("unread"))
        else:
            bob.receive(receive("k"))
        pair.pump()
    assert not any(link.closing for link in links)


def test_pieces_without_bytes_have_a_budget() -> None:
    stranger = Stranger(new_link("a")).meet()
    stranger.start(1, "l", b"1", total=9)
    for seq in range(2, IDLE_BURST + 10):
        stranger.part(seq, 0, b"")
    assert list(stranger.closing_codes()) == [CloseCode.VIOLATION]


def test_what_is_sent_again_on_a_new_connection_is_no_flood() -> None:
    stranger = Stranger(new_link("a")).meet()
    names = [frames.encode_key(f"{number}") for number in range(3 * IDLE_BURST)]
    for _ in range(3):
        for first in range(0, len(names), 1000):
            stranger.say(*(frames.message_head(1 + at, names[at], False, 0) for at in range(first, first + 1000)))
    assert not stranger.link.closing
    assert stranger.link.receiver.duplicates == 2 * len(names)


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
    assert ConnectionSuspect not in told(link)
    stranger.now = 1000.1
    stranger.say(frames.pong(1))
    assert link.round_trip == pytest.approx(0.6, abs=1.0)


@pytest.mark.parametrize("what_is_first", ["a batch", "bytes", "a batch to send"])
def test_what_comes_after_our_own_standstill_counts_from_then(what_is_first: str) -> None:
    """Whether it is seen before the clock is looked at or after."""
    alice, bob = new_link("a"), new_link("b")
    pair = connected(alice, bob)
    (end,) = alice._connections
    dead = Timing().dead_after
    if what_is_first == "a batch":
        bob.send(message("x"))
        alice.received(end, bob.to_send(pair.ends[1], 100.0), 100.0)
    elif what_is_first == "bytes":
        alice.heard(end, 100.0)
    else:
        alice.to_send(end, 100.0)
    alice.tick(100.0)
    now = 100.0
    while now < 100.0 + dead + 1:
        now += Timing().tick
        alice.tick(now)
    assert [closing.connection for closing in alice.closing] == [end]


class Rest:
    """Two links that have nothing to do with each other after their first heartbeats, and a clock."""

    def __init__(self) -> None:
        self.alice, self.bob = new_link("a"), new_link("b")
        self.pair = connected(self.alice, self.bob)
        self.tick(0.5)
        self.pair.pump()
        self.tick(1.0)

    @property
    def rests(self) -> bool:
        return self.alice.quiet_until > self.pair.now

    def tick(self, now: float) -> bool:
        self.pair.now = now
        self.bob.tick(now)
        return self.alice.tick(now)


def test_at_rest_nothing_is_looked_at_until_the_next_heartbeat() -> None:
    rest = Rest()
    assert rest.rests
    now, looked = 1.0, list[float]()
    while now < 12.0:
        now += 0.5
        if rest.tick(now):
            looked.append(now)
    assert looked == [10.5, 11.0, 11.5, 12.0], "heard at half a second, and nothing since"
    assert rest.alice.due(rest.pair.ends[0]), "a ping"


@pytest.mark.parametrize(
    "what",
    [
        lambda rest: (rest.alice.send(message("x")), rest.pair.move(0)),
        lambda rest: (rest.bob.send(message("x")), rest.pair.move(1)),
        lambda rest: rest.alice.heard(rest.pair.ends[0], 1.0),
        lambda rest: rest.alice.receive(receive("x")),
        lambda rest: rest.alice.open(dialled=False, now=1.0),
        lambda rest: rest.alice.lost(rest.pair.ends[0]),
    ],
    ids=["something is sent", "a batch", "bytes", "a receive", "a connection", "the end of a connection"],
)
def test_what_ends_the_rest(what: Callable[[Rest], object]) -> None:
    rest = Rest()
    what(rest)
    assert not rest.rests
    assert rest.tick(1.5)


@pytest.mark.parametrize(
    "what",
    [
        lambda rest: (rest.alice.send(message("x")), rest.alice.to_send(rest.pair.ends[0], 1.0)),
        lambda rest: rest.alice.receive(receive("x")),
        lambda rest: rest.alice.open(dialled=False, now=1.0),
        lambda rest: (rest.bob.send(message("x", bytes(2**20))), rest.pair.move(1)),
        lambda rest: rest.alice.mailbox.taken.append(arrived(rest)),
    ],
    ids=["unacknowledged", "waited for", "an unfinished greeting", "a part of a message", "taken by a thread"],
)
def test_no_rest_as_long_as_something_is_under_way(what: Callable[[Rest], object]) -> None:
    rest = Rest()
    what(rest)
    rest.tick(1.5)
    assert not rest.rests


def arrived(rest: Rest) -> Incoming:
    """A message that has been taken out of the box, and is not accounted for."""
    rest.bob.send(message("x"))
    rest.pair.pump()
    taken = rest.alice.mailbox.take("x")
    assert taken is not None
    return taken


def test_one_that_is_dead_is_found_as_early_at_rest() -> None:
    """Heard last at half a second: asked for a sign of life at eleven, suspect a second later, closed after thirty."""
    rest = Rest()
    seen: dict[str, float] = {}
    now = 1.0
    while now < 40.0:
        now += 0.5
        rest.alice.tick(now)
        rest.alice.to_send(rest.pair.ends[0], now)
        if ConnectionSuspect in told(rest.alice):
            seen.setdefault("suspect", now)
        if rest.alice.closing:
            seen.setdefault("closed", now)
    assert seen == {"suspect": 12.5, "closed": 31.0}


def test_a_suspect_connection_gives_way() -> None:
    alice, bob = new_link("a"), new_link("b")
    silent = connected(alice, bob)
    alice.send(message("x"))
    alice.to_send(silent.ends[0], 0.0)
    for half in range(6):
        alice.tick(half / 2)
    assert ConnectionSuspect in told(alice)
    assert alice.wants_connection
    Pair(alice, bob, 3.0).pump()
    assert bob.take("x", 3.0) is not None
    assert alice.sender.idle
    assert [closing.code for closing in alice.closing] == [CloseCode.REPLACED]


def test_bounds_in_hello() -> None:
    limits = Limits(box_bytes=1, box_messages=2, max_message_size=3, max_segments=4, max_id_size=10**9)
    stranger = Stranger(new_link("a", limits))
    assert stranger.hello.bounds == Bounds(1, 2, 3, 4, frames.MAX_NAME)
    stranger.meet(BOUNDS)
    assert stranger.link.max_message_size == BOUNDS.max_message_size


@pytest.mark.parametrize("segments", [(b"short",), (b"long" * 100_000,), (b"several", b"segments")])
@pytest.mark.parametrize("cut", [False, True])
def test_an_annotation_goes_along(segments: tuple[bytes, ...], cut: bool) -> None:
    alice, bob = new_link("alice"), new_link("bob")
    pair = Pair(alice, bob)
    pair.pump()
    sent = message("x", *segments)
    sent.annotation = frames.pack_annotation(b"note")
    plain = message("y", *segments)
    for one in (sent, plain):
        alice.send(one)
    if cut:
        alice.to_send(pair.ends[0], pair.now)  # lost
        pair.lose()
        pair = Pair(alice, bob)
    pair.pump()
    for key, annotation in (("x", b"note"), ("y", b"")):
        arrived = bob.take(key, pair.now)
        assert arrived is not None
        assert arrived.annotation == annotation
        assert [bytes(segment) for segment in arrived.segments] == list(segments)
    pair.pump()
    assert sent.delivered
    assert alice.sender.box.begun_bytes == bob.receiver.box.begun_bytes


def test_none_for_a_party_that_does_not_know_them() -> None:
    alice, bob = new_link("alice"), new_link("bob")
    bob.features = 0
    sent = message("x")
    sent.annotation = frames.pack_annotation(b"note")
    alice.send(sent)
    pair = Pair(alice, bob)
    pair.pump()
    arrived = bob.take("x", pair.now)
    assert arrived is not None
    assert arrived.annotation == b""


def test_a_connection_tells_whether_its_last_batch_had_room_for_all() -> None:
    alice, bob = new_link("alice"), new_link("bob")
    pair = connected(alice, bob)
    end = pair.ends[0]
    for _ in range(2):
        alice.send(message("x", bytes(300)))
    assert alice.to_send(end, 1.0, 400)
    assert end.more
    assert alice.to_send(end, 1.0, 400)
    assert not end.more
    alice.send(message("x", bytes(10_000)))
    alice.to_send(end, 1.0, 400)
    assert end.more, "the rest of a large one"
    pair.lose()
    alice.to_send(end, 1.0)
    assert not end.more
