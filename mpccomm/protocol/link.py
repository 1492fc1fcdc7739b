"""The reliable link between two parties: exactly once, in order, through every fault of the connections below it.

Sans-I/O. The owner reports what happens (`open`, `received`, `lost`, `tick`, and what the program wants), with ``now`` from
a monotonic clock; asks `to_send` for the next bytes of a connection; and afterwards empties the output lists: ``finished``
requests, connections to close in ``closing``, and ``events`` for the log. Nothing is called back from inside.

This module decides who is talked to and on which connection. What is said there is a `Session`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection, Connections
from mpccomm.protocol.deadlock import DeadlockDetector, DeadlockNews, DeadlocksThere, HeldBackNotice
from mpccomm.protocol.events import (
    Admitted,
    Closing,
    Connected,
    ConnectionLost,
    ConnectionSuspect,
    DeadlockFound,
    Dropped,
    Event,
    HeldBack,
    NeverRead,
    PartyGone,
    PartyReplaced,
    Refused,
    RestartNotAccepted,
    Visited,
)
from mpccomm.protocol.frames import (
    BATCH_HEAD,
    MAX_FRAMES,
    MESSAGE,
    NO_POSITIONS,
    PROTOCOL_VERSION,
    TOO_MANY,
    Batch,
    Frame,
    Header,
    Hello,
    Key,
    Kind,
    Resume,
    ViolationError,
    read_header,
)
from mpccomm.protocol.heartbeat import Heartbeat
from mpccomm.protocol.incarnations import Incarnations
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.protocol.receiver import Allocate, Incoming, allocate
from mpccomm.protocol.sender import Buffer, Counters, Outgoing, bounds_of
from mpccomm.protocol.session import ClosingNotice, Session
from mpccomm.protocol.states import (
    FOR_A_VISIT,
    FOR_THE_ADOPTED,
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


class Link:
    """The link to one remote party, for the life of the pool."""

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
        allocate: Allocate = allocate,
    ) -> None:
        """``alone`` says whether all of our program stands still, so that nothing in it could empty the box.

        ``allocate`` makes the memory of large segments.
        """
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
        self._allocate = allocate
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
        self._session = Session(self._limits, self.counters, now, mailbox, self.finished, self._allocate, conversation)
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

    # -- the program ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PartyState:
        """The state of the process at the other end, as far as we know."""
        return self._incarnations.state

    @property
    def peer(self) -> bytes:
        """The incarnation that we talk to, or did last; empty: none was met yet."""
        return self._incarnations.current

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed; None as long as none was measured."""
        return self._heartbeat.round_trip

    def send(self, message: Outgoing) -> None:
        """Queue a message; only while `ending` is None."""
        self.sender.add(message)

    def take(self, key: Key, now: float) -> Incoming | None:
        """Return the message if it is here; then its place in the box is free again."""
        message = self.mailbox.take(key)
        if message is not None:
            self._session.consume(message)
            if self._deadlocks.noted:
                self._moved(now)
        return message

    def take_next(self, prefix: str, msg_id: str | None, clock: Callable[[], float]) -> Incoming | None:
        """Return the message with the id that `Mailbox.claim` would give out, if it is here; otherwise nothing is claimed."""
        message = self.mailbox.take_next(prefix, msg_id)
        if message is not None:
            session = self._session
            if session.ack_due and not message.consumed:
                # The same as `Session.consume`, without a call.
                message.consumed = True
                box = self.receiver.box
                box.taken += 1
                box.taken_bytes += message.cost
            else:
                session.consume(message)
            if self._deadlocks.noted:
                self._moved(clock())
        return message

    def account(self, now: float) -> None:
        """Account for what other threads have taken out of the mailbox."""
        taken = self.mailbox.taken
        while taken:
            self._session.consume(taken.popleft())
        self.mailbox.pressed = False
        self._moved(now)

    def restore(self, there: Incoming | deque[Incoming]) -> None:
        """Put back what was found in the mailbox where a message was expected."""
        if self._keeps(there if isinstance(there, Incoming) else there[0]):
            self._session.restore(there)

    def _keeps(self, message: Incoming) -> bool:
        """Return whether a message that was taken may be put back. Until the program gets it, it counts as unread.

        To accept a restart drops what is unread.
        """
        kept = message.receiver.conversation >= self._kept_from
        if not kept:
            self.events.append(Dropped(message.key))
        return kept

    def receive(self, receive: Receive) -> bool:
        """Wait for a message that `take` did not find; only while `ending` is None. True: there is something to be said now."""
        self.quiet_until = self._ticked
        message = self.mailbox.wait(receive)
        if message is not None:
            # A message that is asked for does not count against the box.
            self._session.consume(message)
        if self._deadlocks.blocked is not None:
            self._session.ack_due = True
            if self._deadlocks.blocked.begun != self.receiver.admitted:
                self._admit()
        return self._session.ack_due

    def _admit(self) -> None:
        """If the other side is held back with a message that is asked for, let that begin. This is not taken back."""
        current = self._connections.current
        if current is not None and (begun := self._deadlocks.admit(self._session)) is not None:
            current.control[Kind.ADMIT] = frames.admit(begun)

    def put_back(self, message: Incoming, now: float) -> None:
        """Return a message: the next one to ask for its id gets it, unless a restart of its sender was accepted meanwhile."""
        if self._keeps(message):
            self._session.put_back(message)
            self._moved(now)

    def settle(self, message: Incoming) -> None:
        """Note that a message was handed over whose acknowledgement ``receiver.hold`` has held back."""
        self.receiver.settle(message)
        self._session.ack_due = True

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
        return True

    def _moved(self, now: float) -> None:
        self._deadlocks.move(now)
        if self._deadlocks.blocked is not None:
            self._session.ack_due = True

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
        """Whether the other side has confirmed our goodbye."""
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
        return all(connection.suspect for connection in self._connections.verified())

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

    def _on_goodbye(self, connection: Connection, frame: frames.Goodbye, now: float) -> None:
        incarnations = self._incarnations
        connection.control[Kind.FAREWELL] = frames.farewell()
        if not self._adopted(connection):
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

    def _on_abort(self, connection: Connection, frame: frames.Abort, now: float) -> None:
        self._incarnations.reason = frame.reason
        self._incarnations.become(PartyEvent.ABORT)
        self._end()

    # -- frames --------------------------------------------------------------------------------------------------------

    def received(self, connection: Connection, batch: Batch, now: float) -> None:
        """Take a batch that has arrived. An error in it ends the connection, and nothing else."""
        if connection.closed:
            return
        if now > self._late:
            self._look_at_the_clock(now)
        connection.heard = self.receiver.now = self.quiet_until = now
        connection.trickling = False
        awaiting = connection.awaiting
        if awaiting is not None:
            if now - awaiting > self._heartbeat.noticed or connection.suspect:
                self._heartbeat.heard(connection, now)
            else:
                connection.awaiting = None
        connections = self._connections
        try:
            size = len(batch)
            if size < BATCH_HEAD:
                raise ViolationError(f"a batch of {size} bytes")
            news = False
            # The current connection is always an adopted one.
            if connection is connections.current or (connection.verified and self._adopted(connection)):
                received, taken_bytes, taken = _read_positions(batch)
                news = self._session.sender.acknowledge(received, taken_bytes, taken, self.finished)
            at, left = BATCH_HEAD, MAX_FRAMES
            while at < size:
                is_message = batch[at] == MESSAGE
                if is_message and (connection is connections.current or self._lets_in(connection)):
                    if not self._closing_notice.said:
                        if self._deadlocks.noted:
                            self._deadlocks.admitted()
                        at, left = self._session.messages(batch, at, left, connection, now)
                        continue
                    self._session.ack_due = True  # a sign of life, and nothing else
                if not left:
                    raise ViolationError(TOO_MANY)
                left -= 1
                header = read_header(batch, at)
                at = header[-1]
                if not is_message:
                    self._on_frame(connection, memoryview(batch), header, now)
                    if connection.closed:
                        return
            if size == BATCH_HEAD and not news:
                connection.charge(1, now)
        except ViolationError as error:
            self._close(connection, CloseCode.VIOLATION, str(error))
            return
        if self._session.unacknowledged:
            self._session.look_at(now)

    def _lets_in(self, connection: Connection) -> bool:
        """Return whether messages that arrive there count."""
        connection.step(Kind.MESSAGE)
        return self._adopted(connection)

    def heard(self, connection: Connection, now: float) -> None:
        """Note that bytes of a batch have arrived on a connection, which is not whole yet."""
        if not connection.closed:
            self._look_at_the_clock(now)
            connection.heard = self.quiet_until = now
            connection.trickling = True
            self._heartbeat.heard(connection, now)

    def moved(self, connection: Connection, backlog: float, now: float) -> None:
        """Note that what was sent on a connection gets through; the rest of it takes ``backlog`` seconds at this speed."""
        if not connection.closed:
            self._look_at_the_clock(now)
            connection.heard = now
            self._heartbeat.moved(connection, backlog, now)

    def _on_frame(self, connection: Connection, batch: memoryview, header: Header, now: float) -> None:
        frame = frames.read(batch, header, self._limits.max_id_size)
        kind, handle = _HANDLERS[type(frame)]
        connection.step(kind)
        if kind in _IDLE:
            connection.charge(_IDLE[kind], now)
        if connection.visit and connection.verified:
            counts = kind in FOR_A_VISIT
        else:
            known = connection is self._connections.current or self._adopted(connection)
            counts = known or kind not in FOR_THE_ADOPTED
        if counts:
            handle(self, connection, frame, now)

    def _on_start(self, connection: Connection, frame: frames.Start, now: float) -> None:
        if self._closing_notice.said:
            self._session.ack_due = True
            return
        self._deadlocks.admitted()
        if not self._session.start(frame):
            connection.repeats(frame.seq, now)

    def _on_part(self, connection: Connection, frame: frames.Part, now: float) -> None:
        if self._closing_notice.said:
            self._session.ack_due = True
            return
        self._deadlocks.move(now)
        if not self._session.part(frame):
            connection.repeats(frame.seq, now)
        elif not frame.data:
            connection.charge(1, now)

    def _on_ping(self, connection: Connection, frame: frames.Ping, now: float) -> None:
        connection.control[Kind.PONG] = frames.pong(frame.token)

    def _on_pong(self, connection: Connection, frame: frames.Pong, now: float) -> None:
        self._heartbeat.answered(connection, frame.token, now)

    def _on_blocked(self, connection: Connection, frame: frames.Blocked, now: float) -> None:
        box = self.receiver.box
        if not (connection.blocked_after(frame) and frame.begun <= box.begun and frame.consumed_messages <= box.taken):
            connection.charge(RARE, now)
        self.mailbox.pressed = True
        self._deadlocks.on_blocked(frame, now)
        if frame.consumed_messages != self.receiver.box.taken:
            self._session.ack_due = True
        self._admit()

    def _on_deadlock(self, connection: Connection, frame: frames.Deadlock, now: float) -> None:
        told = self._deadlocks_there.hear(frame, self.sender, now)
        if told is DeadlockNews.FATAL:
            self._fail_held_back(Ending.MUTUAL if frame.mutual else Ending.BOX_FULL)
        elif told is DeadlockNews.NEW:
            self.events.append(DeadlockFound(frame.mutual, False, False))

    def _on_admit(self, connection: Connection, frame: frames.Admit, now: float) -> None:
        sender = self.sender
        if sender.admitted < frame.number <= sender.box.begun:
            sender.admitted = frame.number
        else:
            connection.charge(1, now)

    def due(self, connection: Connection) -> bool:
        """Return whether `to_send` may have something for this connection."""
        if connection.control:
            return True
        if connection is not self._connections.current:
            return False
        session = self._session
        sender = session.sender
        if session.ack_due or sender.ready or sender.queue or sender.under_way:
            return True
        return bool(connection.again or connection.again is None)

    def to_send(self, connection: Connection, now: float, most: int = frames.MAX_BATCH) -> bytes:
        """Return the next batch for this connection, of about ``most`` bytes of messages; empty: there is nothing to send now."""
        if now > self._late:
            self._look_at_the_clock(now)
        parts: list[Buffer] = [NO_POSITIONS]
        if connection.control:
            parts += connection.control.values()
            connection.control.clear()
        if connection is self._connections.current:
            session = self._session
            connection.more = more = session.fill(connection, parts, now, most)
            if more:
                sender = session.sender
                connection.more = bool(sender.queue or sender.under_way or connection.again)
                if sender.refused:
                    self._report_refused()
        else:
            connection.more = False
            if len(parts) > 1 and connection.verified and self._adopted(connection):
                parts[0] = self._session.positions()
        if len(parts) == 1 and parts[0] is NO_POSITIONS:
            return b""
        self.quiet_until = now
        return b"".join(parts)

    def _report_refused(self) -> None:
        refused, self.sender.refused = self.sender.refused, []
        self.events.append(Refused(tuple(message.key for message in refused)))
        self._fail(refused, Cause(Ending.REFUSED))

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> bool:
        """Do what is due by now. Called every ``Timing.tick``; time in which it was not called does not count as their silence.

        False: nothing can be due. A pool that has many parties hears little from nearly all of them, and to look at each twice a
        second, whose memory no processor has at hand by then, is what being idle would cost.
        """
        self._look_at_the_clock(now)
        if now < self.quiet_until:
            return False
        for connection in self._connections:
            self._check(connection, now)
        current = self._connections.current
        if current is not None:
            self._session.repeat_blocked(current.heard, self._alone)
        if not self._closing_notice.said:
            self._find_deadlock(now)
        sender = self.sender
        held_back = self._held_back.look(sender.held_back, now)
        if held_back is not None:
            ids = sender.queued_ids(frames.MAX_LISTED_IDS)
            self.events.append(HeldBack(*sender.queued(), ids) if held_back else Admitted())
        only = self._connections.only
        told = self._deadlocks.blocked is not None or not self._held_back.rests
        if only is not None and not told and self._session.rests and not self.due(only):
            self.quiet_until = self._heartbeat.next_due(only)
        return True

    def _look_at_the_clock(self, now: float) -> None:
        """Note the time, and how long this process stood still; first of all, so that later events are timed rightly."""
        stalled = now - self._late
        self._ticked, self._late = now, now + 2 * self._timing.tick
        if stalled > 0:
            self._deadlocks.shift(stalled)
            for connection in self._connections:
                connection.shift(stalled)

    def _check(self, connection: Connection, now: float) -> None:
        silent = self._heartbeat.silent(connection, now)
        if silent is not None:
            self._close(connection, CloseCode.SILENT, silent)
        elif connection.verified and not connection.visit:
            current = connection is self._connections.current
            if self._heartbeat.check(connection, now, unacknowledged=current and self.sender.unacknowledged):
                self.events.append(ConnectionSuspect())
                self._choose()

    def _find_deadlock(self, now: float) -> None:
        deadlocks = self._deadlocks
        before = deadlocks.found
        found = deadlocks.find(self._session, now, self._alone)
        if found is None:
            return
        ending, stuck = found
        if ending is not before:
            self.events.append(DeadlockFound(ending is Ending.MUTUAL, True, deadlocks.final))
        # A deadlock that is not final may be ended by something else in one of the programs.
        if deadlocks.final or self._timing.deadlock_after is not None:
            for receive in stuck:
                self.mailbox.cancel(receive)
            self._fail(stuck, Cause(ending))
            if ending is Ending.MUTUAL:
                self._fail_held_back(ending)
        self._connections.say(Kind.DEADLOCK, frames.deadlock(ending is Ending.MUTUAL, deadlocks.final))

    def _fail_held_back(self, ending: Ending) -> None:
        """End the waiting of the sends that are held back. The messages stay in the queue: they have their numbers."""
        waiting = self.sender.waiting()
        if waiting and self._deadlocks.found is None:
            self.events.append(DeadlockFound(ending is Ending.MUTUAL, False, True))
        for message in waiting:
            message.detach()
        self._fail(waiting, Cause(ending))


RARE = 40
"""What a frame counts for that brings nothing forward, takes a while to deal with, and of which an honest side says few."""
BEAT = 10
_IDLE = {Kind.PING: BEAT, Kind.PONG: BEAT, Kind.FAREWELL: RARE, Kind.DEADLOCK: RARE, Kind.GOODBYE: RARE}
_read_positions = frames.POSITIONS.unpack_from

_HANDLERS: dict[type[Frame], tuple[Kind, Callable[[Link, Connection, Any, float], None]]] = {
    frames.Hello: (Kind.HELLO, Link._on_hello),
    frames.Resume: (Kind.RESUME, Link._on_resume),
    frames.Start: (Kind.START, Link._on_start),
    frames.Part: (Kind.PART, Link._on_part),
    frames.Ping: (Kind.PING, Link._on_ping),
    frames.Pong: (Kind.PONG, Link._on_pong),
    frames.Blocked: (Kind.BLOCKED, Link._on_blocked),
    frames.Deadlock: (Kind.DEADLOCK, Link._on_deadlock),
    frames.Goodbye: (Kind.GOODBYE, Link._on_goodbye),
    frames.Farewell: (Kind.FAREWELL, Link._on_farewell),
    frames.Abort: (Kind.ABORT, Link._on_abort),
    frames.Admit: (Kind.ADMIT, Link._on_admit),
}
