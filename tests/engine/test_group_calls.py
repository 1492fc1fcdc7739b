"""The steps of a group's calls: their numbers, and what an interrupt between any two of them leaves. No network: the channel is
played by the test."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mpccomm import CommunicationError, CommunicationTimeoutError, DecodingError
from mpccomm.engine import collectives
from mpccomm.engine.base_channel import IdSpace
from mpccomm.engine.collectives import Collective, Members, Round
from mpccomm.engine.deadlines import Deadline
from mpccomm.engine.expect import Expect
from mpccomm.engine.group_calls import GroupCall, GroupCalls, GroupChannel, calls_of
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.several import First, Several
from mpccomm.engine.states import GroupCallState, RequestState

MEMBERS = Members(("carol", "alice", "bob"), "alice")


class FakeSend:
    def __init__(self, name: str, state: RequestState = RequestState.WAITING) -> None:
        self.party = SimpleNamespace(name=name)
        self.state = state
        self.waiter = None


class FakeReceive:
    """A receive, and what it brings."""

    def __init__(self, name: str, msg_id: str, timeout: float | None, expect: Expect | None, value: Any) -> None:
        self.party = SimpleNamespace(name=name)
        self.asked = (name, msg_id, timeout, expect)
        self._value = value
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def value(self, later: object = None) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class FakeChannel:
    """Notes what is sent, asked for and dropped; ``values`` are what the others sent."""

    engine = SimpleNamespace(loop_owner=LoopOwner())

    def __init__(self) -> None:
        self.sent: list[tuple[Sequence[str], str, object]] = []
        self.discarded: list[tuple[str, str]] = []
        self.started: list[Any] = []
        self.values: dict[str, Any] = {}
        self.sessions: dict[str, object] = {}
        self.interrupt = ""
        """Where the next send is interrupted: before or after it is on record."""

    def send(self, call: GroupCall[Any], messages: Sequence[tuple[Sequence[str], object]]) -> None:
        interrupt, self.interrupt = self.interrupt, ""
        if interrupt == "before":
            raise KeyboardInterrupt
        call.begin()
        state = RequestState.NEW if interrupt else RequestState.WAITING
        call.posted(cast(Any, [FakeSend(name, state) for names, _ in messages for name in names]))
        self.sent += [((name,), call.msg_id(name), message) for names, message in messages for name in names]
        if interrupt:
            raise KeyboardInterrupt

    def receive(
        self, name: str, msg_id: str, timeout: float | None, expect: Expect | None, session: object = None
    ) -> FakeReceive:
        return FakeReceive(name, msg_id, timeout, expect, self.values.get(name))

    def discard(self, name: str, msg_id: str, session: Any) -> None:
        assert session.mailbox is self.sessions.get(name, session.mailbox)
        self.discarded.append((name, msg_id))

    def start(self, request: Any) -> None:
        self.started.append(request)

    def session(self, name: str) -> object:
        return self.sessions.setdefault(name, object())


NO_DEADLINE = Deadline(None, LoopOwner())


def new_space() -> IdSpace:
    engine = SimpleNamespace(loop_owner=LoopOwner())
    return IdSpace(cast(Any, engine), "alice", cast(Any, None))


def new_calls() -> tuple[GroupCalls, FakeChannel]:
    calls, channel = GroupCalls(MEMBERS, new_space()), FakeChannel()
    calls.channel = cast(GroupChannel, channel)
    return calls, channel


def allgather(calls: GroupCalls, value: object = "mine") -> GroupCall[dict[str, Any]]:
    return calls.make("allgather", lambda: collectives.allgather(MEMBERS, value))


def receives_of(request: Several) -> list[FakeReceive]:
    return [part for part in request.parts if isinstance(part, FakeReceive)]


def drive(call: GroupCall[Any], channel: FakeChannel) -> Any:
    """As a face does, where nothing has to be waited for."""
    call.running = True
    while not call.over:
        call.send()
        call.request(NO_DEADLINE)
        call.take()
    call.running = False
    return call.redeem()


def test_a_call_sends_receives_and_has_its_result() -> None:
    calls, channel = new_calls()
    channel.values = {"carol": "hers", "bob": "his"}
    assert drive(allgather(calls), channel) == {"carol": "hers", "alice": "mine", "bob": "his"}
    assert channel.sent == [(("carol",), "allgather 0", "mine"), (("bob",), "allgather 0", "mine")]


def test_a_call_takes_its_numbers_with_its_first_message_and_each_has_the_next() -> None:
    calls, channel = new_calls()
    unused = allgather(calls)
    assert unused.title == "allgather #0 of (carol, alice, bob)"
    for number in range(3):
        call = allgather(calls)
        drive(call, channel)
        assert call.numbers == {"carol": number, "bob": number}
    assert call.title == "allgather #2 of (carol, alice, bob)"


def test_calls_with_one_member_have_numbers_of_their_own() -> None:
    calls, channel = new_calls()
    drive(allgather(calls), channel)
    for number in range(2):
        call = calls.make("exchange", lambda: collectives.exchange("x", "bob"), other="bob")
        drive(call, channel)
        assert call.numbers == {"bob": number}
    call = allgather(calls)
    drive(call, channel)
    assert call.numbers == {"carol": 1, "bob": 1}


def test_after_a_new_session_with_one_member_its_numbers_begin_anew() -> None:
    calls, channel = new_calls()
    drive(allgather(calls), channel)
    channel.sessions["bob"] = object()
    call = allgather(calls)
    drive(call, channel)
    assert call.numbers == {"carol": 1, "bob": 0}
    assert call.title == "allgather #1 of (carol, alice, bob)"


def test_one_that_receives_only_takes_its_numbers_too() -> None:
    calls, channel = new_calls()
    channel.values = {"bob": "his"}
    call = calls.make("bcast", lambda: collectives.bcast(MEMBERS, None, "bob"))
    before = call.state
    call.send()
    assert (before, call.state) == (GroupCallState.NEW, GroupCallState.BEGUN)
    request = call.request(NO_DEADLINE)
    assert [part.asked[:2] for part in cast("list[FakeReceive]", request.parts)] == [("bob", "bcast 0")]


def test_several_rounds_have_ids_of_their_own() -> None:
    calls, channel = new_calls()

    def make() -> Collective[list[Any]]:
        first = yield Round([(("bob",), 1)], ("bob",), "first")
        second = yield Round([(("bob",), 2)], ("carol",), "second")
        return [first, second]

    channel.values = {"bob": "b", "carol": "c"}
    assert drive(calls.make("both", make), channel) == [{"bob": "b"}, {"carol": "c"}]
    assert [sent[1] for sent in channel.sent] == ["both 0 first", "both 0 second"]


# -- what ends early ---------------------------------------------------------------------------------------------------------


def test_interrupted_before_it_has_sent_anything_it_has_no_number() -> None:
    calls, channel = new_calls()
    call = allgather(calls)
    channel.interrupt = "before"
    with pytest.raises(KeyboardInterrupt):
        call.send()
    calls.interrupted(call)
    with pytest.raises(CommunicationError, match="nothing is there to resume"):
        calls.take_up()
    again = allgather(calls)
    drive(again, channel)
    assert again.numbers["bob"] == 0


def test_interrupted_between_record_and_start_the_sends_are_started_when_it_is_taken_up() -> None:
    calls, channel = new_calls()
    call = allgather(calls)
    channel.interrupt = "after"
    with pytest.raises(KeyboardInterrupt):
        call.send()
    calls.interrupted(call)
    assert calls.take_up() is call
    assert [send.party.name for send in channel.started] == ["carol", "bob"]
    channel.values = {"carol": "hers", "bob": "his"}
    sent = list(channel.sent)
    assert drive(call, channel)["bob"] == "his"
    assert channel.sent == sent, "nothing is sent twice"


def test_what_was_received_before_an_interrupt_is_not_asked_for_again() -> None:
    calls, channel = new_calls()
    made = 0

    def make() -> Collective[Any]:
        nonlocal made
        made += 1
        first = yield Round(sources=("bob",), phase="first")
        if made == 1:
            raise KeyboardInterrupt
        second = yield Round(sources=("carol",), phase="second")
        return first | second

    channel.values = {"bob": "b", "carol": "c"}
    call = calls.make("both", make)
    call.send()
    request = call.request(NO_DEADLINE)
    with pytest.raises(KeyboardInterrupt):
        call.take()
    request.cancel()
    assert not receives_of(request)[0].cancelled, "what was taken does not go back"
    calls.interrupted(call)
    assert calls.take_up() is call
    assert call.to_come == ("carol",)
    assert drive(call, channel) == {"bob": "b", "carol": "c"}


def test_what_can_not_be_read_fails_again_when_the_call_is_taken_up() -> None:
    calls, channel = new_calls()
    error = DecodingError("not this one")
    channel.values = {"carol": "hers", "bob": error}
    call = allgather(calls)
    call.send()
    request = call.request(NO_DEADLINE)
    with pytest.raises(DecodingError, match="not this one"):
        call.take()
    request.cancel()
    assert all(receive.cancelled for receive in receives_of(request)), "what was not taken goes back"
    calls.interrupted(call)
    taken_up = calls.take_up()
    with pytest.raises(DecodingError, match="not this one"):
        taken_up.request(NO_DEADLINE)


def brought(name: str) -> First:
    """What has brought the message of that member."""
    return cast(First, SimpleNamespace(value=lambda: (name, 1)))


def test_the_next_call_leaves_the_interrupted_one_for_good_and_drops_what_still_comes() -> None:
    calls, channel = new_calls()
    call = allgather(calls)
    call.send()
    calls.interrupted(call)
    call.read(brought("carol"))
    allgather(calls).send()
    assert channel.discarded == [("bob", "allgather 0")]
    assert calls.latest is not call


@pytest.mark.parametrize("state", ["running", "redeemed"])
def test_one_that_runs_or_is_through_is_neither_resumed_nor_left(state: str) -> None:
    calls, channel = new_calls()
    call = allgather(calls)
    call.send()
    if state == "running":
        call.running = True
    else:
        drive(call, channel)
    with pytest.raises(CommunicationError, match="nothing is there to resume"):
        calls.take_up()
    allgather(calls).send()
    assert not channel.discarded


def test_of_a_checked_broadcast_the_digests_are_dropped_too() -> None:
    calls, channel = new_calls()
    call = calls.make("bcast", lambda: collectives.checked_bcast(MEMBERS, None, "bob"), digests=True)
    call.send()
    calls.interrupted(call)
    allgather(calls).send()
    assert channel.discarded == [("bob", "bcast 0"), ("carol", "bcast 0 digests"), ("bob", "bcast 0 digests")]


def test_one_whose_result_is_here_leaves_nothing() -> None:
    calls, _channel = new_calls()
    call = allgather(calls)
    call.send()
    call.request(NO_DEADLINE)
    call.take()
    assert call.over
    calls.interrupted(call)
    assert call.leftovers() == []
    assert calls.take_up() is call, "the result waits to be looked at"


# -- one message at a time ----------------------------------------------------------------------------------------------------


def test_the_first_of_what_is_to_come_is_asked_for_from_all_and_then_from_the_rest() -> None:
    calls, _channel = new_calls()
    call = calls.make("as_received", lambda: collectives.as_received(MEMBERS, "mine"))
    call.send()
    first = call.first(NO_DEADLINE)
    assert [part.party.name for part in first.parts] == ["carol", "bob"]
    assert call.read(brought("bob")) == ("bob", 1)
    assert [part.party.name for part in call.first(NO_DEADLINE).parts] == ["carol"]
    assert call.to_come == ("carol",)


def test_one_that_can_not_be_read_is_the_error_of_the_call() -> None:
    calls, _ = new_calls()
    call = calls.make("as_received", lambda: collectives.as_received(MEMBERS, "mine"))
    call.send()

    class Bad:
        def value(self, later: object = None) -> Any:
            raise DecodingError("not this one")

    with pytest.raises(DecodingError):
        call.read(cast(First, Bad()))
    with pytest.raises(DecodingError, match="not this one"):
        call.request(NO_DEADLINE)


# -- time ---------------------------------------------------------------------------------------------------------------------


def test_each_receive_has_what_is_left() -> None:
    now = [100.0]
    calls, _ = new_calls()
    call = allgather(calls)
    call.send()
    limit = Deadline(10, LoopOwner(clock=lambda: now[0]))
    now[0] = 104
    receives = [part for part in call.request(limit).parts if isinstance(part, FakeReceive)]
    assert [receive.asked[2] for receive in receives] == [6, 6]


def test_those_that_have_not_confirmed_are_named() -> None:
    calls, _ = new_calls()
    call = allgather(calls)
    call.send()
    limit = Deadline(10, LoopOwner())
    delivery = cast(Any, call.request(limit).parts[-1])
    delivery.calls[0].state = RequestState.DONE
    error = delivery._explain()
    assert isinstance(error, CommunicationTimeoutError)
    assert "allgather #0 of (carol, alice, bob): not all of bob have confirmed within 10" in str(error)
    assert "resume() goes on" in str(error)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_limit_in_which_nothing_can_happen_is_refused(timeout: float) -> None:
    calls, _ = new_calls()
    with pytest.raises(ValueError, match="None waits without limit"):
        calls.limit(timeout)
    assert calls.limit(None).left is None
    assert (calls.limit(10).left or 0) > 9


def test_the_same_members_have_the_same_calls_whatever_object_they_are_called_through() -> None:
    space = new_space()
    calls = calls_of(space, MEMBERS)
    assert calls_of(space, Members(MEMBERS.names, "alice")) is calls
    assert calls_of(space, Members(("alice", "bob"), "alice")) is not calls
    assert calls_of(space, Members(MEMBERS.names, "bob")) is not calls, "another party in the same process"
