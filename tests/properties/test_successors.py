"""One process after the other takes the place of the one before, and says so: who waits in which order gets what of whom."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from mpccomm.protocol.frames import VISIT, Key
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.states import Ending, PartyState
from tests.protocol.links import Pair, ending, finished, message, new_link

ACTIONS = (
    "receive",
    "receive an id",
    "cancel",
    "send",
    "guest sends",
    "guest sends an id",
    "next",
    "next, cut",
    "visit",
)


class Course:
    """A host that stays, and guests one after the other; what the host's calls are to have, as one would say it without numbers."""

    def __init__(self) -> None:
        self.names = count()
        self.bodies = count()
        self.host = new_link("m host")
        self.waiting: dict[Key, Receive] = {}
        """By the id that they have in the present conversation."""
        self.arrived: dict[Key, bytes] = {}
        """What no receive has asked for yet."""
        self.come()

    def come(self) -> None:
        name = f"{next(self.names):03}"
        self.guest = new_link(name if len(name) % 2 else f"z{name}")
        self.pair = Pair(self.guest, self.host)
        self.pump()

    def pump(self) -> None:
        self.pair.pump()
        assert not any(end.closed for end in self.pair.ends)

    # -- the host ------------------------------------------------------------------------------------------------------

    def receive(self, msg_id: str | None = None) -> None:
        if msg_id in self.waiting:
            return
        key = self.host.mailbox.numbering.claim("", msg_id)
        there = self.host.take(key, 0.0)
        if there is not None:
            assert bytes(there.segments[0]) == self.arrived.pop(key)
            return
        assert key not in self.arrived
        receive = self.waiting[key] = Receive(key, 0.0)
        self.host.receive(receive)

    def cancel(self) -> None:
        if self.waiting:
            key = next(reversed(self.waiting))
            assert self.host.mailbox.cancel(self.waiting.pop(key))

    def send(self) -> None:
        body = f"{next(self.bodies)}".encode()
        sent = message(self.host.sender.next_key(""), body)
        self.host.send(sent)
        self.pump()
        assert sent.delivered
        assert sent in finished(self.host)
        got = self.guest.take(self.guest.mailbox.numbering.claim(""), 0.0)
        assert got is not None
        assert bytes(got.segments[0]) == body
        self.pump()

    # -- the guests ----------------------------------------------------------------------------------------------------

    def guest_sends(self, msg_id: str | None = None) -> None:
        key: Key = msg_id or self.guest.sender.next_key("")
        if key in self.arrived:
            return
        body = f"{next(self.bodies)}".encode()
        self.guest.send(message(key, body))
        self.pump()
        if key in self.waiting:
            receive = self.waiting.pop(key)
            assert finished(self.host) == [receive]
            assert receive.message is not None
            assert bytes(receive.message.segments[0]) == body
        else:
            assert not finished(self.host)
            self.arrived[key] = body

    def replace(self, *, cut: bool) -> None:
        """The guest is replaced; with ``cut`` the answer to its goodbye is lost, and it says it again."""
        self.guest.leave()
        self.guest.say_goodbye(followed=True)
        self.pair.move(0)
        if cut:
            self.pair.lose()
            self.pair = Pair(self.guest, self.host)
        self.pump()
        assert self.guest.farewell
        if self.arrived:
            self.end_as_ever()
        else:
            assert self.host.state is PartyState.REPLACED
            assert self.host.ending is None
            assert not finished(self.host)
            automatic = sorted(key[1] for key in self.waiting if not isinstance(key, str))
            anew: dict[Key, Key] = {("", number): ("", place) for place, number in enumerate(automatic)}
            self.waiting = {anew.get(key, key): receive for key, receive in self.waiting.items()}
            assert all(receive.key == key for key, receive in self.waiting.items())
        self.pair.lose()
        assert not self.host.connected
        self.come()
        assert self.host.connected
        assert self.host.state is PartyState.ALIVE

    def end_as_ever(self) -> None:
        """Something was not received: all that waits fails, and can't be but for what is here."""
        assert self.host.state is PartyState.LEFT
        ended = finished(self.host)
        assert set(ended) == set(self.waiting.values())
        assert {ending(one) for one in ended} <= {Ending.SHUT_DOWN}
        self.waiting.clear()
        for key in list(self.arrived):
            got = self.host.take(key, 0.0)
            assert got is not None
            assert bytes(got.segments[0]) == self.arrived.pop(key)

    def visit(self) -> None:
        """It changes nothing, and is not counted among the processes of the party."""
        visitor = new_link("doctor")
        visitor.features |= VISIT
        pair = Pair(visitor, self.host)
        pair.pump()
        assert visitor.connected
        pair.lose()


@given(st.lists(st.sampled_from(ACTIONS), max_size=40))
def test_who_waits_gets_what_the_next_one_sends(actions: list[str]) -> None:
    course = Course()
    for number, action in enumerate(actions):
        match action:
            case "receive":
                course.receive()
            case "receive an id":
                course.receive(f"id {number % 3}")
            case "cancel":
                course.cancel()
            case "send":
                course.send()
            case "guest sends":
                course.guest_sends()
            case "guest sends an id":
                course.guest_sends(f"id {number % 3}")
            case "visit":
                course.visit()
            case _:
                course.replace(cut="cut" in action)


@given(st.integers(0, 3))
def test_what_is_sent_in_between_is_for_the_next_one(number: int) -> None:
    host, old, new = new_link("h"), new_link("o"), new_link("n")
    pair = Pair(old, host)
    pair.pump()
    old.leave()
    old.say_goodbye(followed=True)
    pair.pump()
    sent = [message(host.sender.next_key("")) for _ in range(number)]
    for one in sent:
        host.send(one)
    pair.pump()
    pair.lose()
    Pair(new, host).pump()
    assert [new.take(new.mailbox.numbering.claim(""), 0.0) is not None for _ in sent] == [True] * number
    assert finished(host) == sent
