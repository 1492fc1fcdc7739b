"""The incarnations of a party, one after the other: which one we talk to, and what became of it."""

from __future__ import annotations

from typing import NamedTuple

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import PROTOCOL_VERSION, Abort, Goodbye, Hello
from mpccomm.protocol.states import ENDING, PARTY, WITHOUT_A_MEETING, Cause, CloseCode, PartyEvent, PartyState

_MAX_FORMER = 64
_OPEN = (PartyState.UNKNOWN, PartyState.REPLACED)
"""The states of a party in which any incarnation, also one that is unknown, is a first contact."""


class HelloRefusal(NamedTuple):
    """Why a connection is of no use."""

    code: CloseCode
    reason: str


_FORMER = HelloRefusal(CloseCode.STALE, "an incarnation that was replaced by a later one")
_TOO_EARLY = HelloRefusal(CloseCode.REPLACED, "another incarnation was faster; this one may try again")


class Incarnations:
    """The state of a remote party, and every incarnation of it that we remember."""

    def __init__(self, own: bytes) -> None:
        self._own = own
        self.state = PartyState.UNKNOWN
        self.current = b""
        self.reason = ""
        """The reason of its abort."""
        self.complete = False
        """Whether it shut down when neither side had anything left to deliver."""
        self.last_word: Goodbye | Abort | None = None
        """What it said as it ended, before our program had accepted its restart: it counts from then on."""
        self.ending: Cause | None = None
        """Why nothing more will come from this party, nor be taken by it; None while it may."""
        self.greeted = b""
        """The incarnation that may have met us, though we have not met it: our answer to its HELLO is on its way, or was. That
        its connection was lost since then changes nothing: it may have been told enough. Empty: there is none."""
        self._former: list[bytes] = []
        self._opened_before = 0

    def accepts(self, incarnation: bytes, *, unread: bool) -> bool:
        """Return whether frames of this incarnation are taken; ``unread``: there are messages that have not been received yet."""
        if incarnation == self.current:
            return self.state is not PartyState.RESTARTED
        return self.state in _OPEN or self.left_nothing(unread=unread)

    def left_nothing(self, *, unread: bool) -> bool:
        """Return whether it shut down with everything delivered and received: the next incarnation is then a first contact."""
        return self.state is PartyState.LEFT and self.complete and not unread

    def refuse_hello(self, hello: Hello) -> HelloRefusal | None:
        """Return why the handshake can't succeed after this HELLO; None: it goes on."""
        if hello.version != PROTOCOL_VERSION:
            text = f"it speaks version {hello.version} of the protocol, we speak version {PROTOCOL_VERSION}"
            return HelloRefusal(CloseCode.VERSION, text)
        if hello.incarnation == self._own:
            text = "that is the address of this pool itself; give that party's own"
            return HelloRefusal(CloseCode.NOT_RECOGNISED, text)
        return _FORMER if hello.incarnation in self._former else None

    def refuse_meeting(self, connection: Connection, hello: Hello, *, unread: bool) -> HelloRefusal | None:
        """Return why an incarnation that has proved that it lives is refused on this connection; None: it is not.

        It has proved that it lived after we opened the connection, no more. Where we met the current one later than that, the
        stranger may be the older of the two: on a new connection it can prove more.
        """
        if hello.incarnation in self._former:
            return _FORMER
        promised = connection.told_accepted and not self.accepts(hello.incarnation, unread=unread)
        perhaps_older = hello.incarnation != self.current and connection.number <= self._opened_before
        return _TOO_EARLY if promised or perhaps_older else None

    def greet(self, connection: Connection) -> None:
        """Note that the HELLO of an incarnation is answered there: as soon as it hears that, it has met us, if not for a visit."""
        if not connection.visit and connection.incarnation != self.current:
            self.greeted = connection.incarnation

    def lost(self, connection: Connection, code: int | None) -> None:
        """Note that a connection was lost, closed with that code: its end perhaps does not want to know us, or is gone."""
        if code in WITHOUT_A_MEETING and connection.incarnation == self.greeted:
            self.greeted = b""

    def meet(self, incarnation: bytes, opened: int) -> bool:
        """Note that an incarnation has proved that it lives, after ``opened`` connections were opened. True: the state changed."""
        self.greeted = b""
        if incarnation == self.current:
            return self.become(PartyEvent.SAME)
        if self.current:
            self._former = [*self._former, self.current][-_MAX_FORMER:]
            self.last_word = None
        self.current = incarnation
        self._opened_before = opened
        return self.become(PartyEvent.NEW)

    def forget(self) -> None:
        """Forget the current incarnation, which left nothing behind: the next one is met as if there had been none."""
        self.state = PartyState.UNKNOWN
        self.ending = None
        self.reason = ""
        self.complete = False

    def become(self, event: PartyEvent) -> bool:
        """Change the state by an event. True: it has changed."""
        before = self.state
        self.state = PARTY[before, event]
        ending = ENDING.get(self.state)
        self.ending = None if ending is None else Cause(ending, self.reason)
        return self.state is not before
