"""Who is at the other end of a link, and on which of the connections there it is talked to: meetings, partings, restarts.

Part of `mpccomm.protocol.link`, which says how it is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection, Connections
from mpccomm.protocol.deadlock import DeadlockDetector, DeadlocksThere, HeldBackNotice
from mpccomm.protocol.events import (
    Closing,
    Connected,
    ConnectionLost,
    Event,
    NeverRead,
    PartyGone,
    PartyReplaced,
    RestartNotAccepted,
    Visited,
)
from mpccomm.protocol.frames import (
    PROTOCOL_VERSION,
    Hello,
    Kind,
    Resume,
    ViolationError,
)
from mpccomm.protocol.heartbeat import Heartbeat
from mpccomm.protocol.incarnations import Incarnations
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.protocol.sender import Counters, Outgoing, bounds_of
from mpccomm.protocol.session import ClosingNotice, Session
from mpccomm.protocol.states import (
    Cause,
    CloseCode,
    ConnectionState,
    Ending,
    PartyEvent,
    PartyState,
)
from mpccomm.settings import Limits, Timing

ON_A_VISIT = "mpccomm doctor, ping or bench runs there, and not its program"
"""Why a connection that was made does not lead to the party's program."""


class Meeting:
    """What a link knows of the process at the other end, and of the ways there; for the life of the pool."""

    leaving = False
    _kept_from = 0
    """The first conversation whose messages are kept when they are taken and put back; those of earlier ones are dropped."""

    def __init__(
        self,
        *,
        incarnation: bytes,
        nonce: Callable[[], bytes],
        limits: Limits,
        timing: Timing,
        now: float,
        numbering: Callable[[], Numbering] = PrefixNumbering,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """``alone`` says whether all of our program stands still, so that nothing in it could empty the box."""
        self.incarnation = incarnation
        self.port = frames.NO_PORT
        self.features = frames.ANNOTATIONS | frames.SUCCESSORS
        self.ending: Cause | None = None
        """Why nothing more will come from this party, nor be taken by it; None while it may."""
        self.counters = Counters()
        self.finished = deque[Receive | Outgoing]()
        self.closing: list[Closing] = []
        self.events: list[Event] = []
        self.goodbye: frames.Goodbye | None = None
        self.max_message_size = limits.max_message_size
        self._nonce = nonce
        self._limits = limits
        self._new_numbering = numbering
        self._alone = alone
        self._timing = timing
        self._incarnations = Incarnations(incarnation)
        self._connections = Connections()
        self._heartbeat = Heartbeat(timing)
        self._ticked = now
        self.quiet_until = now
        """The time before which `tick` has nothing to do, unless something happens meanwhile."""
        self._late = now + 2 * timing.tick
        """If `tick` is called after this time, our own process has stood still for a while."""
        self._closing_notice = ClosingNotice()
        self._held_back = HeldBackNotice(timing)
        self._start_afresh(now)

    def _start_afresh(self, now: float, conversation: int = 0) -> None:
        mailbox = Mailbox(self._new_numbering())
        self._session = Session(self._limits, self.counters, now, mailbox, self.finished, conversation)
        self.mailbox = self._session.mailbox
        """The messages that have arrived, and the receives that wait."""
        self.receiver = self._session.receiver
        """The receiving half."""
        self.sender = self._session.sender
        """The sending half."""
        timing = self._timing
        wait = timing.waiting_notice if timing.deadlock_after is None else timing.deadlock_after
        self._deadlocks = DeadlockDetector(wait, now)
        self._deadlocks_there = DeadlocksThere(timing)
        self.goodbye = None

    # -- who is there --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PartyState:
        """The state of the process at the other end, as far as we know."""
        return self._incarnations.state

    @property
    def peer(self) -> bytes:
        """The incarnation that we talk to, or did last; empty: none was met yet."""
        return self._incarnations.current

    def accept_restart(self, now: float) -> bool:
        """Go on with the new incarnation; all counts begin anew. False: there is none."""
        if self.state is not PartyState.RESTARTED:
            return False
        self._incarnations.become(PartyEvent.ACCEPT)
        self.ending = self._incarnations.ending
        self._start_afresh(now, self.receiver.conversation + 1)
        self._kept_from = self.receiver.conversation
        for connection in self._connections.verified():
            self._adopt(connection)
        self._choose()
        last_word, self._incarnations.last_word = self._incarnations.last_word, None
        if last_word is not None:
            self._take_last_word(last_word, now)
        return True

    @property
    def left_something(self) -> bool:
        """Whether the party left while something was under way, or is unread: its next process is a restart, to be accepted."""
        return self.state is PartyState.LEFT and not self._incarnations.left_nothing(unread=self.mailbox.has_unread)

    # -- leaving -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Begin to leave, as our pool shuts down: until the goodbye is said, messages are delivered, and what arrives is held."""
        self.leaving = True

    def say_goodbye(self, *, followed: bool = False) -> None:
        """Tell the other side that nothing more will come, what it will miss, and which of its messages were never read.

        ``followed``: and that another pool of this process takes the place of this one.
        """
        # The successor of an incarnation is not told what was not read of its predecessor.
        unread = self.state is not PartyState.RESTARTED
        self._closing_notice.goodbye(self._session, unread=unread, followed=followed)
        self._part()

    def abort(self, reason: str) -> None:
        """Tell the other side that we give up."""
        self.leaving = True
        self._closing_notice.abort(reason)
        self._part()

    @property
    def farewell(self) -> bool:
        """Whether the other side has confirmed our last word."""
        return self._closing_notice.heard

    def _part(self) -> None:
        for connection in self._connections.verified():
            self._closing_notice.say(connection)

    # -- connections ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether frames flow in both directions."""
        return self._connections.current is not None

    @property
    def relayed(self) -> bool:
        """Whether frames flow in both directions, through a relay."""
        current = self._connections.current
        return current is not None and current.relayed

    @property
    def perhaps_met(self) -> bool:
        """Whether the other side may have met us already, though we have not met it: it has been greeted, and is owed a goodbye."""
        return self._incarnations.greeted != b""

    @property
    def wants_connection(self) -> bool:
        """Return whether no connection with a complete handshake still shows signs of life."""
        return all(connection.suspect or connection.closed_there for connection in self._connections.verified())

    def open(self, *, dialled: bool, now: float, relayed: bool = False) -> Connection:
        """Return a new connection to this party, dialled by us or by them. Nothing but a HELLO crosses it at first.

        :param relayed: it goes through a relay, which both ends know
        """
        self._look_at_the_clock(now)
        self.quiet_until = now
        connection = self._connections.open(dialled=dialled, relayed=relayed, nonce=self._nonce(), now=now)
        bounds = bounds_of(self._limits)
        hello = Hello(PROTOCOL_VERSION, self.incarnation, connection.nonce, self.port, self.features, bounds)
        connection.control[Kind.HELLO] = frames.hello(hello)
        superfluous = self._connections.superfluous()
        if superfluous is not None:
            self._close(superfluous, CloseCode.SILENT, "too many connections that never complete their handshake")
        return connection

    def lost(self, connection: Connection, code: int | None = None) -> None:
        """Note that a connection is gone, for whatever reason. ``code``: what one end closed it with, if that is known."""
        if connection.closed:
            return
        self._incarnations.lost(connection, code)
        self._connections.drop(connection)
        self.quiet_until = self._ticked
        was = self._connections.current
        self._choose()
        if was is connection and not self.connected:
            self.events.append(ConnectionLost())

    def closed_by_them(self, connection: Connection) -> None:
        """Note that the other side has closed a connection: it is used only as long as there is no other one."""
        connection.closed_there = True
        if not connection.closed:
            self._choose()

    def _close(self, connection: Connection, code: CloseCode, reason: str) -> None:
        if not connection.closed:
            self.closing.append(Closing(connection, code, reason))
            self.lost(connection)

    def _choose(self) -> None:
        connections = self._connections
        was = connections.current
        # Both sides prefer those that the smaller incarnation dialled.
        prefer_dialled = self.incarnation < self._incarnations.current
        superfluous = connections.choose(self._adopted, prefer_dialled=prefer_dialled)
        if connections.current is None:
            self._deadlocks.disconnected()
            self.sender.credit = 0
        elif connections.current is not was:
            self._session.ack_due = True
            if was is None:
                self.events.append(Connected(self.counters.connections > 0))
                self.counters.connections += 1
        if self._closing_notice.awaits_answer:
            return  # it may come on any of them, and the other side may be gone when our last word comes there once more
        for other in superfluous:
            self._close(other, CloseCode.REPLACED, "another connection took its place")

    def _adopted(self, connection: Connection) -> bool:
        """Return whether what comes from there counts: the incarnation that we talk to, while we take anything."""
        return (
            self._incarnations.state is PartyState.ALIVE
            and not connection.visit
            and connection.incarnation == self._incarnations.current
        )

    # -- handshake -----------------------------------------------------------------------------------------------------

    def _on_hello(self, connection: Connection, frame: Hello, now: float) -> None:
        connection.hello = frame
        connection.visit = bool(frame.features & ~self.features & frames.VISIT)
        refusal = self._incarnations.refuse_hello(frame)
        if refusal is not None:
            self._close(connection, *refusal)
        elif connection.visit and connection.dialled and self._connections.visited(frame.incarnation):
            self.events.append(Visited(True))
            self._close(connection, CloseCode.REPLACED, ON_A_VISIT)
        else:
            # Before we know whether this is a recording: positions only; nothing changes before their RESUME.
            self._tell(connection, frame)

    def _accepts(self, hello: Hello) -> bool:
        return self._incarnations.accepts(hello.incarnation, unread=self.mailbox.has_unread)

    def _tell(self, connection: Connection, hello: Hello) -> None:
        """Answer their HELLO: whether we take their frames, and from where they should go on."""
        connection.told_accepted = connection.visit or self._accepts(hello)
        self._incarnations.greet(connection)
        receiver = self.receiver
        known = connection.told_accepted and not connection.visit and hello.incarnation == self._incarnations.current
        positions = (receiver.received, receiver.box.taken_bytes, receiver.box.taken) if known else (0, 0, 0)
        connection.control[Kind.RESUME] = frames.resume(Resume(hello.nonce, connection.told_accepted, *positions))

    def _on_resume(self, connection: Connection, frame: Resume, now: float) -> None:
        assert connection.hello is not None
        if frame.nonce != connection.nonce:
            raise ViolationError("its handshake is a recording of an earlier one")
        if connection.visit:
            self._be_visited(connection)
            return
        if not connection.verified:
            if not self._meet(connection, connection.hello):
                return
            self._heartbeat.met(connection, now)
        elif not frame.accepted:
            raise ViolationError("it says twice that it has not accepted our restart")
        connection.position = frame.received
        if not frame.accepted:
            connection.state = ConnectionState.HELD
            self.events.append(RestartNotAccepted())
        elif self._adopted(connection):
            self.sender.check(frame.received)
            self.sender.box.hear(frame.consumed_bytes, frame.consumed_messages)
        self._choose()

    def _be_visited(self, connection: Connection) -> None:
        """Answer a process that only looks; it changes nothing."""
        if not connection.verified:
            self._make_room(visit=True)
            connection.verified = True
            self.events.append(Visited(connection.dialled))

    def _make_room(self, *, visit: bool = False) -> None:
        crowded = self._connections.crowded(visit=visit)
        if crowded is not None:
            self._close(crowded, CloseCode.SILENT, "too many connections at once")

    def _meet(self, connection: Connection, hello: Hello) -> bool:
        """Meet the process behind a connection, which has proved that it is there now. False: it is refused."""
        incarnations = self._incarnations
        refusal = incarnations.refuse_meeting(connection, hello, unread=self.mailbox.has_unread)
        if refusal is not None:
            self._close(connection, *refusal)
            return False
        if hello.incarnation != incarnations.current and incarnations.left_nothing(unread=self.mailbox.has_unread):
            incarnations.forget()
            self._start_afresh(self._ticked, self.receiver.conversation + 1)
        self._make_room()
        connection.verified = True
        changed = incarnations.meet(hello.incarnation, self._connections.opened)
        for other in self._connections.verified():
            if other.incarnation != hello.incarnation:
                self._close(other, CloseCode.STALE, "its incarnation was replaced by a later one")
        if changed:
            self._end()
        self._adopt(connection)
        return True

    def _adopt(self, connection: Connection) -> None:
        """Use a connection to the incarnation that we talk to: take over its bounds, and tell it our positions."""
        hello = connection.hello
        assert hello is not None
        if connection.told_accepted != self._accepts(hello):
            self._tell(connection, hello)
        self.sender.agree(hello.bounds, hello.features)
        self.max_message_size = hello.bounds.max_message_size
        found = self._deadlocks.found
        if found is not None:
            connection.control[Kind.DEADLOCK] = frames.deadlock(found is Ending.MUTUAL, self._deadlocks.final)
        self._closing_notice.say(connection)

    # -- endings -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """End the conversation, and all calls that wait, if the state of the party has changed to one that does so."""
        self.ending = ending = self._incarnations.ending
        if ending is not None:
            self._deadlocks.admitted()
            self._session.forget_partial()
            self._fail(self._session.end(ending), ending)
            self.sender = self._session.sender
            self.events.append(PartyGone(ending))
            self._choose()

    def _fail(self, requests: Sequence[Receive | Outgoing], cause: Cause) -> None:
        for request in requests:
            request.failure = cause
            self.finished.append(request)

    def _on_last_word(self, connection: Connection, frame: frames.Goodbye | frames.Abort, now: float) -> None:
        incarnations = self._incarnations
        connection.control[Kind.FAREWELL] = frames.farewell()
        if self._adopted(connection):
            self._take_last_word(frame, now)
        elif (
            incarnations.state is PartyState.RESTARTED
            and connection.incarnation == incarnations.current
            and not connection.visit
        ):
            incarnations.last_word = frame

    def _take_last_word(self, frame: frames.Goodbye | frames.Abort, now: float) -> None:
        incarnations = self._incarnations
        if isinstance(frame, frames.Abort):
            incarnations.reason = frame.reason
            incarnations.become(PartyEvent.ABORT)
            self._end()
            return
        self.goodbye = frame
        complete = not frame.undelivered and self.receiver.received >= frame.last_seq
        incarnations.complete = complete and not frame.unread and self.sender.idle
        if frame.unread:
            self.events.append(NeverRead(frame.unread, frame.unread_ids))
        if frame.followed and incarnations.complete and not self.mailbox.has_unread:
            incarnations.become(PartyEvent.FOLLOWED)
            self._renew(now)
        else:
            incarnations.become(PartyEvent.GOODBYE)
            self._end()

    def _renew(self, now: float) -> None:
        """Begin anew with the next process: nothing was under way, and receives go on waiting, for that one."""
        waiting = list(self.mailbox.receives())
        self._start_afresh(now, self.receiver.conversation + 1)
        stay: list[Receive] = []
        left: list[Receive] = []
        for receive in waiting:
            (stay if receive.renew(self.mailbox) else left).append(receive)
        self.mailbox.take_over(stay)
        self._fail(left, Cause(Ending.SHUT_DOWN))
        self.events.append(PartyReplaced())
        self._choose()

    def _on_farewell(self, connection: Connection, frame: frames.Farewell, now: float) -> None:
        self._closing_notice.confirmed()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _look_at_the_clock(self, now: float) -> None:
        """Note the time, and how long this process stood still; first of all, so that later events are timed rightly."""
        stalled = now - self._late
        self._ticked, self._late = now, now + 2 * self._timing.tick
        if stalled > 0:
            self._deadlocks.shift(stalled)
            for connection in self._connections:
                connection.shift(stalled)
