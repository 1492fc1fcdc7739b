"""The states of requests, of the calls of groups and of the contact with a party, as tables. Other transitions are errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NoReturn, TypeVar

from mpccomm.protocol.states import State

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class Transitions(dict[S, S]):
    """The transitions of one event: the state after it, by the state before it."""

    def __init__(self, event: Enum, states: Mapping[S, S]) -> None:
        super().__init__(states)
        self._event = event

    def __missing__(self, state: S) -> NoReturn:
        _never(state, self._event)


class Table(dict[tuple[S, E], S]):
    """A state machine: the state after each event, where that can happen."""

    def on(self, event: E) -> Transitions[S]:
        """Return the state after this event, by the state before it."""
        return Transitions(event, {before: after for (before, happened), after in self.items() if happened is event})

    def __missing__(self, change: tuple[S, E]) -> NoReturn:
        _never(*change)


def _never(state: Enum, event: Enum) -> NoReturn:
    raise AssertionError(f"{event} ({event.value}) has no place in {state} ({state.value})")


class RequestState(State):
    """How far a request has come. While it is NEW, a message to be sent or received has no id yet."""

    NEW = "not begun"
    WAITING = "under way"
    READING = "its message is being decoded"
    DONE = "over, with success"
    FAILED = "over, with an error"
    CANCELLED = "given up by its caller"


class RequestEvent(State):
    """The events that can change that state."""

    START = "the loop of the pool begins with it"
    READ = "a thread decodes its message"
    SUCCEED = "it has what it waited for"
    FAIL = "it can't succeed any more"
    CANCEL = "its caller gives it up"


_R, _E = RequestState, RequestEvent

REQUEST = Table(
    {
        (_R.NEW, _E.START): _R.WAITING,
        (_R.NEW, _E.SUCCEED): _R.DONE,  # the message was here, and the thread of the caller took it
        (_R.NEW, _E.FAIL): _R.FAILED,
        (_R.NEW, _E.CANCEL): _R.CANCELLED,
        (_R.WAITING, _E.START): _R.WAITING,  # an interrupted call of a group starts its sends once more, to be sure
        (_R.WAITING, _E.READ): _R.READING,
        (_R.WAITING, _E.SUCCEED): _R.DONE,
        (_R.WAITING, _E.FAIL): _R.FAILED,
        (_R.WAITING, _E.CANCEL): _R.CANCELLED,
        (_R.READING, _E.SUCCEED): _R.DONE,
        (_R.READING, _E.FAIL): _R.FAILED,
        (_R.READING, _E.CANCEL): _R.CANCELLED,
        (_R.DONE, _E.START): _R.DONE,
        (_R.DONE, _E.CANCEL): _R.CANCELLED,  # the message that it took goes back
        (_R.FAILED, _E.START): _R.FAILED,
        (_R.FAILED, _E.SUCCEED): _R.FAILED,  # what was sent arrives nevertheless
        (_R.FAILED, _E.FAIL): _R.FAILED,
        (_R.FAILED, _E.CANCEL): _R.FAILED,
        (_R.CANCELLED, _E.START): _R.CANCELLED,  # these were on the way to it
        (_R.CANCELLED, _E.SUCCEED): _R.CANCELLED,
        (_R.CANCELLED, _E.FAIL): _R.CANCELLED,
        (_R.CANCELLED, _E.CANCEL): _R.CANCELLED,
    }
)

OVER = frozenset((RequestState.DONE, RequestState.FAILED, RequestState.CANCELLED))


class GivenUp(Enum):
    """Why this pool itself gives up waiting. `mpccomm.protocol.states.Ending` says why a link does."""

    CANCELLED = "the caller stopped waiting"
    TIMED_OUT = "the time limit of the call passed"
    UNREACHABLE = "the party could not be reached"
    UNTRUSTED = "one end does not accept the other's certificate"
    BARRED = "the party broke the protocol too often"
    CLOSED = "the own pool shut down"
    REMOVED = "the party was removed from the own pool"


class GroupCallState(State):
    """How far a call of a group has come."""

    NEW = "not begun: it has no numbers yet"
    BEGUN = "under way, or interrupted"
    OVER = "its result is here"
    REDEEMED = "the caller has its result"


class GroupCallEvent(State):
    """The events that can change that state."""

    BEGIN = "its first message is about to be sent, or to be waited for"
    END = "its last round is over"
    REDEEM = "the result is handed out"


_G, _N = GroupCallState, GroupCallEvent

GROUP_CALL = Table(
    {
        (_G.NEW, _N.BEGIN): _G.BEGUN,
        (_G.NEW, _N.END): _G.OVER,  # this party is the only member
        (_G.BEGUN, _N.BEGIN): _G.BEGUN,  # with a further message
        (_G.BEGUN, _N.END): _G.OVER,
        (_G.OVER, _N.REDEEM): _G.REDEEMED,
    }
)


class ContactState(State):
    """The contact of a pool with one party. `mpccomm.protocol.states.PartyState` says what the process at the other end does."""

    MISSING = "no connection"
    CONNECTED = "connected"
    REFUSED = "one end does not accept the other's certificate"
    BARRED = "kept out"
    CLOSED = "given up by this pool"


class ContactEvent(State):
    """The events that can change that state."""

    CONNECT = "messages flow"
    LOSE = "the connection is gone"
    FAIL = "an attempt to connect failed"
    REFUSE = "a certificate is not accepted"
    BAR = "it broke the protocol too often"
    READMIT = "our program lets it in again"
    CLOSE = "the pool shuts down, or the party is removed"


_C, _V = ContactState, ContactEvent

CONTACT = Table(
    {
        (_C.MISSING, _V.CONNECT): _C.CONNECTED,
        (_C.MISSING, _V.LOSE): _C.MISSING,  # one that showed no sign of life, and that was lost before
        (_C.MISSING, _V.FAIL): _C.MISSING,
        (_C.MISSING, _V.REFUSE): _C.REFUSED,
        (_C.CONNECTED, _V.CONNECT): _C.CONNECTED,  # to its new process
        (_C.CONNECTED, _V.LOSE): _C.MISSING,
        (_C.CONNECTED, _V.FAIL): _C.CONNECTED,
        (_C.CONNECTED, _V.REFUSE): _C.REFUSED,  # the connection shows no sign of life, and another one was tried
        (_C.REFUSED, _V.CONNECT): _C.CONNECTED,  # it dialled us
        (_C.REFUSED, _V.LOSE): _C.REFUSED,
        (_C.REFUSED, _V.FAIL): _C.MISSING,  # something else is in the way: whether certificates would be is open again
        (_C.REFUSED, _V.REFUSE): _C.REFUSED,
        (_C.MISSING, _V.READMIT): _C.MISSING,
        (_C.CONNECTED, _V.READMIT): _C.CONNECTED,
        (_C.REFUSED, _V.READMIT): _C.REFUSED,
        (_C.BARRED, _V.READMIT): _C.MISSING,
        (_C.CLOSED, _V.READMIT): _C.CLOSED,
        **{(state, _V.BAR): _C.BARRED for state in (_C.MISSING, _C.CONNECTED, _C.REFUSED, _C.BARRED)},
        **{(_C.BARRED, event): _C.BARRED for event in (_V.CONNECT, _V.LOSE, _V.FAIL, _V.REFUSE)},
        **{(_C.CLOSED, event): _C.CLOSED for event in (_V.CONNECT, _V.LOSE, _V.FAIL, _V.REFUSE, _V.BAR)},
        **{(state, _V.CLOSE): _C.CLOSED for state in _C},
    }
)
