"""The reliable link between two parties: exactly once, in order, through every fault of the connections below it.

Sans-I/O. The owner reports what happens (`open`, `received`, `lost`, `tick`, and what the program wants), with ``now`` from
a monotonic clock; asks `to_send` for the next bytes of a connection; and afterwards empties the output lists: ``finished``
requests, connections to close in ``closing``, and ``events`` for the log. Nothing is called back from inside.

Who is talked to, and on which connection, is decided in `mpccomm.protocol.meeting`. What is said there is a `Session`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.deadlock import DeadlockNews
from mpccomm.protocol.events import (
    Admitted,
    ConnectionSuspect,
    DeadlockFound,
    Dropped,
    HeldBack,
    Refused,
)
from mpccomm.protocol.frames import (
    BATCH_HEAD,
    MAX_FRAMES,
    MESSAGE,
    NO_POSITIONS,
    TOO_MANY,
    Batch,
    Frame,
    Header,
    Key,
    Kind,
    ViolationError,
    read_header,
)
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.meeting import Meeting
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import (
    FOR_A_VISIT,
    FOR_THE_ADOPTED,
    Cause,
    CloseCode,
    Ending,
)


class Link(Meeting):
    """The link to one remote party, for the life of the pool."""

    # -- the program ---------------------------------------------------------------------------------------------------

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

    def _moved(self, now: float) -> None:
        self._deadlocks.move(now)
        if self._deadlocks.blocked is not None:
            self._session.ack_due = True

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
        session = self._session
        try:
            size = len(batch)
            if size < BATCH_HEAD:
                raise ViolationError(f"a batch of {size:,} bytes")
            at, left, news = BATCH_HEAD, MAX_FRAMES, False
            current = connection is self._connections.current
            # The current connection is always an adopted one.
            if current or (connection.verified and self._adopted(connection)):
                received, taken_bytes, taken = _read_positions(batch)
                news = session.sender.acknowledge(received, taken_bytes, taken, self.finished)
            if at == size:
                if not news:
                    connection.charge(1, now)
                if session.unacknowledged:
                    session.look_at(now)
                return
            if current and batch[at] == MESSAGE and not self._closing_notice.said:
                # Nearly always, and all that there is.
                if self._deadlocks.noted:
                    self._deadlocks.admitted()
                at, left = session.messages(batch, at, left, connection, now)
            if at < size:
                self._take_frames(connection, batch, at, left, now)
        except ViolationError as error:
            self._close(connection, CloseCode.VIOLATION, str(error))

    def _take_frames(self, connection: Connection, batch: Batch, at: int, left: int, now: float) -> None:
        """Take frames of all kinds, which stand there in a batch that may have so many more of them."""
        size = len(batch)
        while at < size:
            is_message = batch[at] == MESSAGE
            if is_message and (connection is self._connections.current or self._lets_in(connection)):
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
        if connection is not self._connections.current:
            return bool(connection.control)
        session = self._session
        if session.ack_due:
            return True
        sender = session.sender
        if sender.ready or sender.queue or sender.under_way or connection.control:
            return True
        return bool(connection.again or connection.again is None)

    def to_send(self, connection: Connection, now: float, most: int = frames.MAX_BATCH) -> bytes:
        """Return the next batch for this connection, of about ``most`` bytes of messages; empty: there is nothing to send now."""
        if now > self._late:
            self._look_at_the_clock(now)
        if connection is self._connections.current:
            batch = self._session.batch(connection, now, most)
            if self.sender.refused:
                self._report_refused()
        else:
            batch = self._batch_elsewhere(connection)
        if batch:
            self.quiet_until = now
        return batch

    def _batch_elsewhere(self, connection: Connection) -> bytes:
        """Return the next batch for a connection that messages don't take: it has what is said of the connection itself."""
        connection.more = False
        control = connection.take_control()
        if not control:
            return b""
        known = connection.verified and self._adopted(connection)
        return (self._session.positions() if known else NO_POSITIONS) + control

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
        if self._connections.several:
            self._choose()  # one that was kept may be superfluous by now
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
_IDLE = {
    Kind.PING: BEAT,
    Kind.PONG: BEAT,
    **dict.fromkeys((Kind.FAREWELL, Kind.DEADLOCK, Kind.GOODBYE, Kind.ABORT), RARE),
}
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
    frames.Goodbye: (Kind.GOODBYE, Link._on_last_word),
    frames.Farewell: (Kind.FAREWELL, Link._on_farewell),
    frames.Abort: (Kind.ABORT, Link._on_last_word),
    frames.Admit: (Kind.ADMIT, Link._on_admit),
}
