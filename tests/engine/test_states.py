"""The states of requests and of parties: the tables, and that what they stand for keeps to them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from mpccomm import Settings
from mpccomm.codec import Encoded
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.options import NO_LIMIT
from mpccomm.engine.party import Party
from mpccomm.engine.requests import FutureCall, ReceiveCall, SendCall
from mpccomm.engine.several import Delivery, First, Several, TaskCall
from mpccomm.engine.states import (
    CONTACT,
    GROUP_CALL,
    OVER,
    REQUEST,
    ContactEvent,
    ContactState,
    GivenUp,
    GroupCallState,
    RequestEvent,
    RequestState,
    Table,
)
from mpccomm.protocol.events import Connected, ConnectionLost
from mpccomm.protocol.states import Cause
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL

TABLES: list[tuple[Table[Any, Any], Enum]] = [
    (REQUEST, RequestState.NEW),
    (CONTACT, ContactState.MISSING),
    (GROUP_CALL, GroupCallState.NEW),
]


def new_party() -> Party:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    return Party("Bob", LOCAL, 1, loop_owner=owner, incarnation=b"a" * 16, settings=Settings(), certified=True)


@pytest.mark.parametrize(("table", "begin"), TABLES, ids=["request", "contact", "group call"])
def test_every_state_can_be_reached_from_the_first(table: Table[Any, Any], begin: Enum) -> None:
    reached, before = {begin}, set[Enum]()
    while reached != before:
        before = set(reached)
        reached |= {after for (state, _), after in table.items() if state in before}
    assert reached == set(type(begin))


@pytest.mark.parametrize(("table", "begin"), TABLES, ids=["request", "contact", "group call"])
def test_an_event_without_a_place_is_an_error(
    table: Table[Any, Any], begin: Enum, misplaced: list[AssertionError]
) -> None:
    events = {event for _, event in table}
    for change in itertools.product(type(begin), events):
        if change not in table:
            with pytest.raises(AssertionError, match="has no place"):
                table[change]
    misplaced.clear()


def test_what_is_over_stays_over_and_what_was_given_up_is_never_done() -> None:
    assert all(after in OVER for (before, _), after in REQUEST.items() if before in OVER)
    assert {after for (before, _), after in REQUEST.items() if before is RequestState.CANCELLED} == {
        RequestState.CANCELLED
    }
    assert all((state, RequestEvent.CANCEL) in REQUEST for state in RequestState), "Ctrl-C may come at any time"


def test_what_was_closed_stays_closed() -> None:
    assert {after for (before, _), after in CONTACT.items() if before is ContactState.CLOSED} == {ContactState.CLOSED}
    assert all((ContactState.CLOSED, event) in CONTACT for event in ContactEvent)


# -- requests ------------------------------------------------------------------------------------------------------------


def a_send(party: Party) -> SendCall:
    return SendCall(party, "", "id", Encoded((b"contents",), False), NO_LIMIT, awaited=True)


def a_task(party: Party) -> TaskCall:
    return TaskCall(party.loop_owner, lambda: asyncio.sleep(0))


MAKERS: dict[str, Callable[[Party], Any]] = {
    "receive": lambda party: ReceiveCall(party, "", "id", None),
    "future": lambda party: FutureCall(party, "", "id"),
    "send": a_send,
    "delivery": lambda party: Delivery([a_send(party)], None, lambda: TimeoutError()),
    "several": lambda party: Several([a_send(party), ReceiveCall(party, "", "id", None)]),
    "first": lambda party: First([ReceiveCall(party, "", "id", None)]),
    "task": a_task,
}


def end(request: Any, error: Exception | None) -> None:
    (request.done if isinstance(request, SendCall) else request._end)(error)


EVENTS: dict[RequestEvent, Callable[[Any], None]] = {
    RequestEvent.START: lambda request: request.start(),
    RequestEvent.SUCCEED: lambda request: end(request, None),
    RequestEvent.FAIL: lambda request: end(request, ZeroDivisionError()),
    RequestEvent.CANCEL: lambda request: request.cancel(),
}


class Waiter:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.told: list[Exception | None] = []

    def resolve(self, value: Any, error: Exception | None) -> None:
        self.told.append(error)


@pytest.mark.parametrize("kind", MAKERS)
async def test_each_request_keeps_to_the_table(kind: str, misplaced: list[AssertionError]) -> None:
    party = new_party()
    for state, event in itertools.product(RequestState, EVENTS):
        request = MAKERS[kind](party)
        request.state = state
        request.waiter = waiter = Waiter()
        after = REQUEST.get((state, event))
        if after is None:
            with pytest.raises(AssertionError, match="has no place"):
                EVENTS[event](request)
            misplaced.clear()
            assert request.state is state
            assert not waiter.told
        else:
            EVENTS[event](request)
            assert request.state is after
            ended = after is not state and event in (RequestEvent.SUCCEED, RequestEvent.FAIL)
            assert len(waiter.told) == ended, "each is told once"
            assert (request.error is not None) == (ended and after is RequestState.FAILED)
        request.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_message_given_up_while_a_thread_waits_to_decode_it_does_not_hold_back_what_follows() -> None:
    party = new_party()
    jobs: list[Callable[[], None]] = []
    party.loop_owner.run_in_worker = jobs.append  # type: ignore[method-assign,assignment]
    call = FutureCall(party, "", "id")
    held: list[int] = []

    class Receiver:
        def hold(self, _: Any) -> None:
            held.append(1)

    class Message:
        receiver = Receiver()
        total = 10**9
        key = "id"

    call.start()
    party.link.settle = lambda _: held.clear()  # type: ignore[method-assign,assignment]
    party.link.put_back = lambda *_: None  # type: ignore[method-assign]
    call.message = Message()  # type: ignore[assignment]
    call.done()
    assert call.state is RequestState.READING
    call.cancel()
    assert held
    jobs.pop()()
    assert not held


# -- parties -------------------------------------------------------------------------------------------------------------


def bar(party: Party) -> None:
    for _ in range(party.settings.strangers.offences):
        party.offended("a frame of no kind")


def happen(party: Party, event: Any) -> None:
    party.link.events.append(event)
    party.flush()


HAPPENINGS: dict[ContactEvent, Callable[[Party], None]] = {
    ContactEvent.CONNECT: lambda party: happen(party, Connected(False)),
    ContactEvent.LOSE: lambda party: happen(party, ConnectionLost()),
    ContactEvent.FAIL: lambda party: party.dial_failed("no route"),
    ContactEvent.REFUSE: lambda party: party.refused(Verdict("we don't trust it", theirs=False)),
    ContactEvent.BAR: bar,
    ContactEvent.READMIT: lambda party: party.readmit(),
    ContactEvent.CLOSE: lambda party: party.give_up(GivenUp.CLOSED),
}
WAYS: dict[ContactState, tuple[ContactEvent, ...]] = {
    ContactState.MISSING: (),
    ContactState.CONNECTED: (ContactEvent.CONNECT,),
    ContactState.REFUSED: (ContactEvent.REFUSE,),
    ContactState.BARRED: (ContactEvent.BAR,),
    ContactState.CLOSED: (ContactEvent.CLOSE,),
}


async def test_a_party_keeps_to_the_table() -> None:
    for state, event in itertools.product(ContactState, ContactEvent):
        party = new_party()
        for before in (*WAYS[state], event):
            HAPPENINGS[before](party)
        after = CONTACT[state, event]
        assert party.contact is after
        # What is known besides belongs to one state each.
        assert (party.closed is not None) == (after in (ContactState.BARRED, ContactState.CLOSED))
        assert bool(party.refusal) == (after is ContactState.REFUSED)
        if party.closed is not None:
            assert party.closed.ending is (GivenUp.BARRED if after is ContactState.BARRED else GivenUp.CLOSED)


async def test_one_that_was_given_up_is_neither_barred_nor_let_in() -> None:
    party = new_party()
    party.give_up(GivenUp.REMOVED)
    bar(party)
    party.readmit()
    assert party.closed == Cause(GivenUp.REMOVED)


async def test_one_that_was_readmitted_has_been_missing_since_then() -> None:
    now = [100.0]
    party = new_party()
    party.clock = lambda: now[0]
    bar(party)
    now[0] = 500
    party.readmit()
    assert party._missing_since == 500
    HAPPENINGS[ContactEvent.REFUSE](party)
    now[0] = 600
    HAPPENINGS[ContactEvent.FAIL](party)
    assert party._missing_since == 500, "it was missing all the time"
