"""The states of a party and of a connection to it, and every transition, as tables. Other transitions are errors."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

from mpccomm.protocol.frames import Kind


class State(Enum):
    """An enumeration with the hash of `object`: it is looked up for every frame, and the hash of `Enum` is a Python function."""

    __hash__ = object.__hash__


class PartyState(State):
    """The state of the process at the other end, as far as we know."""

    UNKNOWN = "not heard of yet"
    ALIVE = "in conversation"
    LEFT = "shut down"
    REPLACED = "shut down, and another one takes its place"
    ABORTED = "aborted"
    RESTARTED = "restarted, and not accepted yet"


class PartyEvent(State):
    """The events that can change that state."""

    SAME = "a handshake with the incarnation that we know"
    NEW = "a handshake with an incarnation that we don't know"
    GOODBYE = "it shut down"
    FOLLOWED = "it shut down and left nothing, and another one takes its place"
    ABORT = "it aborted"
    ACCEPT = "our program accepted the restart"


_P, _E = PartyState, PartyEvent

PARTY = {
    (_P.UNKNOWN, _E.NEW): _P.ALIVE,
    (_P.ALIVE, _E.SAME): _P.ALIVE,
    (_P.ALIVE, _E.NEW): _P.RESTARTED,
    (_P.ALIVE, _E.GOODBYE): _P.LEFT,
    (_P.ALIVE, _E.FOLLOWED): _P.REPLACED,
    (_P.ALIVE, _E.ABORT): _P.ABORTED,
    (_P.REPLACED, _E.SAME): _P.REPLACED,
    (_P.REPLACED, _E.NEW): _P.ALIVE,
    (_P.LEFT, _E.SAME): _P.LEFT,
    (_P.LEFT, _E.NEW): _P.RESTARTED,  # ALIVE, where nothing was left over: then the old one is forgotten first
    (_P.LEFT, _E.GOODBYE): _P.LEFT,
    (_P.LEFT, _E.ABORT): _P.LEFT,
    (_P.ABORTED, _E.SAME): _P.ABORTED,
    (_P.ABORTED, _E.NEW): _P.RESTARTED,
    (_P.ABORTED, _E.GOODBYE): _P.ABORTED,
    (_P.ABORTED, _E.ABORT): _P.ABORTED,
    (_P.RESTARTED, _E.SAME): _P.RESTARTED,
    (_P.RESTARTED, _E.NEW): _P.RESTARTED,
    (_P.RESTARTED, _E.GOODBYE): _P.RESTARTED,
    (_P.RESTARTED, _E.ABORT): _P.RESTARTED,
    (_P.RESTARTED, _E.ACCEPT): _P.ALIVE,
}


class ConnectionState(State):
    """How far the handshake on one connection has come, seen from one end."""

    OPEN = "nothing heard"
    GREETED = "their HELLO is here"
    HELD = "they have not accepted our restart yet"
    FLOWING = "their RESUME is here: they take frames"


_C = ConnectionState
_DATA = (
    Kind.MESSAGE,
    Kind.START,
    Kind.PART,
    Kind.PING,
    Kind.PONG,
    Kind.BLOCKED,
    Kind.DEADLOCK,
    Kind.GOODBYE,
    Kind.FAREWELL,
    Kind.ABORT,
    Kind.ADMIT,
)

CONNECTION = {
    (_C.OPEN, Kind.HELLO): _C.GREETED,
    (_C.GREETED, Kind.RESUME): _C.FLOWING,  # HELD, where it says so
    (_C.HELD, Kind.RESUME): _C.FLOWING,
    **{(_C.HELD, kind): _C.HELD for kind in _DATA},
    **{(_C.FLOWING, kind): _C.FLOWING for kind in _DATA},
}
FOR_THE_ADOPTED = frozenset((Kind.MESSAGE, Kind.START, Kind.PART, Kind.BLOCKED, Kind.DEADLOCK, Kind.ADMIT))
"""What counts only while the party is `PartyState.ALIVE`, from its current incarnation; otherwise it is ignored."""
FOR_A_VISIT = frozenset((Kind.PING, Kind.GOODBYE, Kind.ABORT))
"""The frames of a visit that count, once its handshake is complete; all others are ignored."""


class Ending(Enum):
    """Why a send or receive ends without success."""

    SHUT_DOWN = "the party shut down"
    ABORTED = "the party aborted"
    RESTARTED = "the party restarted"
    BOX_FULL = "what it waits for is behind a full box"
    MUTUAL = "both parties wait for room in each other's box"
    REFUSED = "the message exceeds what the party takes"


class Cause(NamedTuple):
    """Why a request ended: an `Ending`, or a value of the owner's own, and a reason; that of an abort is the other party's."""

    ending: Enum
    reason: str = ""


ENDING = {PartyState.LEFT: Ending.SHUT_DOWN, PartyState.ABORTED: Ending.ABORTED, PartyState.RESTARTED: Ending.RESTARTED}


class CloseCode(IntEnum):
    """All that the other end learns of a closed connection (WebSocket close codes of the private range)."""

    DONE = 1000
    VIOLATION = 4000
    VERSION = 4001
    REPLACED = 4002
    NOT_RECOGNISED = 4003
    SILENT = 4004
    STALE = 4005
    SHUTTING_DOWN = 4006
    BARRED = 4007


WITHOUT_A_MEETING = frozenset(CloseCode) - {CloseCode.REPLACED, CloseCode.SILENT}
"""What ends a handshake for good: the end that closes a connection with it does not want to know the other, or is gone."""
