"""The reliable link between two parties: exactly once, in order, through every fault of the connections below it.

Sans-I/O. The owner reports what happens (`open`, `received`, `lost`, `tick`, and what the program wants), with ``now`` from
a monotonic clock; asks `to_send` for the next bytes of a connection; and afterwards empties the output lists: ``finished``
requests, connections to close in ``closing``, and ``news`` for the log. Nothing is called back from inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from mpccomm.session import frames
from mpccomm.session.connection import Connection
from mpccomm.session.counters import Counters
from mpccomm.session.frames import Frame, Hello, Key, Kind, Resume, ViolationError
from mpccomm.session.inbox import Inbox, Incoming
from mpccomm.session.mailbox import Mailbox, Receive
from mpccomm.session.outbox import Buffer, Outbox, Outgoing
from mpccomm.session.states import ENDING, PARTY, Cause, CloseCode, ConnectionState, Ending, PartyEvent, PartyState
from mpccomm.settings import Limits, Timing

_ACK_EVERY = 16
"""An acknowledgement at least with every so-manieth part of the window."""
_ACK_AFTER = 0.2
"""While pieces of a large message arrive, an acknowledgement at least so often: it shows that the connection lives."""
_BATCH_RESERVE = 64
"""Room in a batch for the acknowledgement behind the data."""
_NO_INCARNATION = bytes(16)
_MAX_FORMER = 64


class News(Enum):
    """What happened, for the log and for those who watch."""

    CONNECTED = "connected"
    RESUMED = "connected again"
    LOST = "connection lost"
    SUSPECT = "connection shows no sign of life"
    GONE = "will not answer any more"
    HELD = "has not accepted this restart yet"
    HELD_BACK = "its box is full"
    ADMITTED = "its box has room again"
    DEADLOCK = "deadlock"
    UNREAD = "never read"


class Closing(NamedTuple):
    """A connection to be closed, once what is still to be sent on it has gone out."""

    connection: Connection
    code: CloseCode
    reason: str


class Link:
    """One per remote party, for the life of the pool."""

    def __init__(
        self, *, incarnation: bytes, nonce: Callable[[], bytes], limits: Limits, timing: Timing, now: float
    ) -> None:
        self.incarnation = incarnation
        self.port = frames.NO_PORT
        self.features = 0
        self.state = PartyState.UNKNOWN
        self.reason = ""
        self.leaving = False
        self.counters = Counters()
        self.finished: list[Receive | Outgoing] = []
        self.closing: list[Closing] = []
        self.news: list[tuple[News, str]] = []
        self.goodbye: frames.Goodbye | None = None
        self.farewell = False
        self.round_trip: float | None = None
        self.remote = _NO_INCARNATION
        self.blocked: frames.Blocked | None = None
        """The other side's word that it is held back by our box."""
        self._blocked_since = now
        self._moved = now
        self._former: list[bytes] = []
        self._nonce = nonce
        self._limits = limits
        self._timing = timing
        self._connections: list[Connection] = []
        self._opened = 0
        self._current: Connection | None = None
        self._ticked = now
        self._token = 0
        self._acknowledged_at = now
        self._clean = False
        self._budget = limits.frame_size - _BATCH_RESERVE
        self.max_message_size = limits.max_message_size
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.mailbox = Mailbox()
        self.inbox = Inbox(self._limits)
        self.outbox = Outbox(self._limits, self.counters)
        self.goodbye = None
        self.blocked = None
        self._ack_due = False
        self._unacknowledged = 0
        self._told = (0, 0, 0)
        self._told_blocked = -1

    # -- the program ---------------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Cause | None:
        """Why nothing more will come from this party, nor be taken by it; None while it may."""
        ending = ENDING.get(self.state)
        return None if ending is None else Cause(ending, self.reason)

    def send(self, message: Outgoing) -> None:
        """Queue a message; only while `ending` is None."""
        self.outbox.add(message)
        self.counters.messages_sent += 1
        self.counters.bytes_sent += message.total

    def take(self, key: Key, now: float) -> Incoming | None:
        """The message if it is here; then its place in the box is free again."""
        message = self.mailbox.take(key)
        if message is not None:
            self._consume(message, now)
        return message

    def receive(self, receive: Receive) -> None:
        """Wait for a message that `take` did not find; only while `ending` is None."""
        self.mailbox.wait(receive)

    def put_back(self, message: Incoming, now: float) -> None:
        """Un-get: the next one to ask for this id gets it."""
        self._deliver(self.mailbox.put_back(message), now)

    def accept_restart(self, now: float) -> bool:
        """Talk to the new incarnation, from nothing. False: there is none."""
        if self.state is not PartyState.RESTARTED:
            return False
        self._become(PartyEvent.ACCEPT, now)
        self._start_afresh()
        for connection in self._connections:
            if connection.verified:
                self._adopt(connection)
        self._choose()
        return True

    def _consume(self, message: Incoming, now: float) -> None:
        self.inbox.consume(message)
        self._moved = now
        told = self._told
        limits = self._limits
        if (
            self.blocked is not None
            or self.inbox.consumed_bytes - told[1] > limits.box_bytes // 4
            or self.inbox.consumed_messages - told[2] > limits.box_messages // 4
        ):
            self._ack_due = True

    # -- leaving -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Our pool shuts down: what is sent is still delivered, nothing new is taken."""
        self.leaving = True

    def say_goodbye(self) -> None:
        """Tell the other side that nothing more will come, what it will miss, and which of its messages nobody read."""
        unread = tuple(message.key for message in self.mailbox.unread())
        undelivered = sum(1 for _ in self.outbox.pending())
        goodbye = frames.Goodbye(self.outbox.last_seq, undelivered, len(unread), unread[: frames.MAX_LISTED_IDS])
        self._broadcast(frames.goodbye(goodbye))

    def abort(self, reason: str) -> None:
        """Tell the other side that we give up."""
        self.leaving = True
        self._broadcast(frames.abort(reason))

    def _broadcast(self, frame: bytes) -> None:
        for connection in self._connections:
            if connection.verified:
                connection.control.append(frame)

    # -- connections ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Frames flow in both directions."""
        return self._current is not None

    @property
    def wants_connection(self) -> bool:
        """Nothing flows, or what flows shows no sign of life."""
        return self._current is None or self._current.suspect

    def open(self, *, dialled: bool, now: float) -> Connection:
        """A new connection to this party, dialled by us or by them. Nothing but a HELLO crosses it at first."""
        self._opened += 1
        connection = Connection(self._opened, dialled=dialled, nonce=self._nonce(), now=now)
        limits = self._limits
        connection.control.append(
            frames.hello(
                Hello(
                    frames.PROTOCOL_VERSION,
                    self.incarnation,
                    connection.nonce,
                    self.port,
                    self.features,
                    limits.box_bytes,
                    limits.box_messages,
                    limits.max_message_size,
                )
            )
        )
        self._connections.append(connection)
        return connection

    def lost(self, connection: Connection) -> None:
        """The connection is gone, for whatever reason."""
        if connection in self._connections:
            self._connections.remove(connection)
            was = self._current
            self._choose()
            if was is connection and self._current is None and self.ending is None:
                self.news.append((News.LOST, ""))

    def _close(self, connection: Connection, code: CloseCode, reason: str) -> None:
        self.closing.append(Closing(connection, code, reason))
        self.lost(connection)

    def _choose(self) -> None:
        """Settle on the connection to send on: one that lives, dialled by the smaller incarnation, the newest of those.

        Each side decides for itself: the other one listens on all of them.
        """
        smaller = self.incarnation < self.remote
        flowing = [c for c in self._connections if c.flowing and self._adopted(c)]
        best = max(flowing, key=lambda c: (not c.suspect, c.dialled is smaller, c.number), default=None)
        if best is self._current:
            return
        if self._current is None:
            self.news.append((News.RESUMED if self.counters.connections else News.CONNECTED, ""))
            self.counters.connections += 1
        self._current = best
        if best is None:
            return
        best.again = None
        self._ack_due = True
        for other in flowing:
            # Whoever dialled a superfluous connection closes it; the one that shows no sign of life either side may.
            if other is not best and (other.dialled or other.suspect):
                self._close(other, CloseCode.REPLACED, "another connection took its place")

    # -- greeting ------------------------------------------------------------------------------------------------------

    def _on_hello(self, connection: Connection, frame: Hello, now: float) -> None:
        connection.hello = frame
        if frame.version != frames.PROTOCOL_VERSION:
            text = f"it speaks version {frame.version} of the protocol, we speak version {frames.PROTOCOL_VERSION}"
            self._close(connection, CloseCode.VERSION, text)
        elif frame.incarnation == self.incarnation:
            self._close(connection, CloseCode.NOT_RECOGNISED, "it is this very pool")
        elif frame.incarnation in self._former:
            self._close(connection, CloseCode.STALE, "an incarnation that was replaced by a later one")
        else:
            # Before we know whether this is a recording: positions only; nothing changes before their RESUME.
            self._tell(connection)

    def _accepts(self, incarnation: bytes) -> bool:
        """Whether frames of this incarnation are taken."""
        if incarnation == self.remote:
            return self.state is not PartyState.RESTARTED
        return self.state is PartyState.UNKNOWN or self._left_nothing

    @property
    def _left_nothing(self) -> bool:
        """It shut down, everything was delivered and read: whoever comes next is a first contact."""
        return self.state is PartyState.LEFT and self._clean and not self.mailbox.unread_messages

    def _tell(self, connection: Connection) -> None:
        hello = connection.hello
        assert hello is not None
        connection.told_accepted = self._accepts(hello.incarnation)
        inbox = self.inbox
        known = hello.incarnation == self.remote
        positions = (inbox.received, inbox.consumed_bytes, inbox.consumed_messages) if known else (0, 0, 0)
        connection.control.append(frames.resume(Resume(hello.nonce, connection.told_accepted, *positions)))

    def _on_resume(self, connection: Connection, frame: Resume, now: float) -> None:
        hello = connection.hello
        assert hello is not None
        if frame.nonce != connection.nonce:
            raise ViolationError("its greeting is a recording of an earlier one")
        if not connection.verified:
            connection.verified = True
            if not self._meet(connection, hello, now):
                return
        if not frame.accepted:
            connection.state = ConnectionState.HELD
            self.news.append((News.HELD, ""))
        connection.position = frame.received
        if frame.accepted and hello.incarnation == self.remote:
            self.outbox.rewind(frame.received)
            self.outbox.make_room(frame.consumed_bytes, frame.consumed_messages)
        if connection is self._current:
            connection.again = None
        self._choose()

    def _meet(self, connection: Connection, hello: Hello, now: float) -> bool:
        """The process behind this connection is who it says and is there now. False: we don't want it."""
        if hello.incarnation in self._former:
            self._close(connection, CloseCode.STALE, "an incarnation that was replaced by a later one")
            return False
        if hello.incarnation == self.remote:
            self._become(PartyEvent.SAME, now)
        else:
            if self._left_nothing:
                self.state = PartyState.UNKNOWN
                self._start_afresh()
            self._replace_incarnation(hello.incarnation)
            self._become(PartyEvent.NEW, now)
        self._adopt(connection)
        return True

    def _replace_incarnation(self, incarnation: bytes) -> None:
        if self.remote != _NO_INCARNATION:
            self._former = [*self._former, self.remote][-_MAX_FORMER:]
        self.remote = incarnation
        for other in list(self._connections):
            if other.verified and other.hello is not None and other.hello.incarnation != incarnation:
                self._close(other, CloseCode.STALE, "its incarnation was replaced by a later one")

    def _adopt(self, connection: Connection) -> None:
        """The connection is one to the incarnation that we know: count with its bounds, and let it know where we stand."""
        hello = connection.hello
        assert hello is not None
        if connection.told_accepted != self._accepts(hello.incarnation):
            self._tell(connection)
        self.outbox.box_bytes = hello.box_bytes
        self.outbox.box_messages = hello.box_messages
        self.max_message_size = hello.max_message_size

    def _become(self, event: PartyEvent, now: float) -> None:
        before = self.state
        self.state = PARTY[before, event]
        self._moved = now
        ending = self.ending
        if ending is not None and self.state is not before:
            self._fail_everything(ending)
            self.news.append((News.GONE, ""))
        self._choose()

    def _fail_everything(self, cause: Cause) -> None:
        self._fail(self.mailbox.fail_all(cause), cause)
        self._fail(list(self.outbox.pending()), cause)
        self.outbox = Outbox(self._limits, self.counters)
        self.blocked = None

    def _fail(self, requests: Sequence[Receive | Outgoing], cause: Cause) -> None:
        for request in requests:
            request.failure = cause
            self.finished.append(request)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def received(self, connection: Connection, batch: bytes | bytearray | memoryview, now: float) -> None:
        """One batch arrived, as the transport delimits it. What is wrong with it ends the connection, never more."""
        connection.alive(now)
        try:
            for frame in frames.parse(batch, max_id_size=self._limits.max_id_size):
                kind, handle = _HANDLERS[type(frame)]
                connection.step(kind)
                if kind in _FOR_THE_ADOPTED and not self._adopted(connection):
                    continue
                handle(self, connection, frame, now)
                if connection not in self._connections:
                    return
        except ViolationError as error:
            self._close(connection, CloseCode.VIOLATION, str(error))
            return
        if connection is self._current and not self.outbox.idle:
            connection.awaiting = now
        if self._unacknowledged and now - self._acknowledged_at > _ACK_AFTER:
            self._ack_due = True

    def _adopted(self, connection: Connection) -> bool:
        """Whether what comes from there counts: the incarnation that we talk to, while we take anything."""
        return (
            self.state is PartyState.ALIVE
            and connection.hello is not None
            and connection.hello.incarnation == self.remote
        )

    def _on_start(self, connection: Connection, frame: frames.Start, now: float) -> None:
        if self.leaving:
            return
        message = self.inbox.start(frame)
        if message is None:
            self._ack_due = True
            return
        self.blocked = None
        if message.complete:
            self._complete(message, self.mailbox.put(message), now)
        else:
            self.mailbox.announce(message)
            self._count_unacknowledged(len(frame.data))

    def _on_part(self, connection: Connection, frame: frames.Part, now: float) -> None:
        if self.leaving:
            return
        message = self.inbox.part(frame)
        if message is None:
            self._ack_due = True
        elif message.complete:
            self._complete(message, self.mailbox.complete(message), now)
        else:
            self._count_unacknowledged(len(frame.data))

    def _complete(self, message: Incoming, delivered: list[Receive], now: float) -> None:
        self.counters.messages_received += 1
        self.counters.bytes_received += message.total
        self._ack_due = True
        self._deliver(delivered, now)

    def _deliver(self, receives: list[Receive], now: float) -> None:
        for receive in receives:
            assert receive.message is not None
            self._consume(receive.message, now)
            self.finished.append(receive)

    def _count_unacknowledged(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged >= self._limits.window // _ACK_EVERY:
            self._ack_due = True

    def settle(self, message: Incoming) -> None:
        """A message that was kept from being acknowledged with ``inbox.hold`` has been handed over."""
        self.inbox.settle(message)
        self._ack_due = True

    def _on_ack(self, connection: Connection, frame: frames.Ack, now: float) -> None:
        outbox = self.outbox
        was_held_back = outbox.held_back
        self.finished += [message for message in outbox.acknowledge(frame.received) if message.failure is None]
        outbox.make_room(frame.consumed_bytes, frame.consumed_messages)
        if was_held_back and not outbox.held_back:
            self.news.append((News.ADMITTED, ""))

    def _on_ping(self, connection: Connection, frame: frames.Ping, now: float) -> None:
        connection.control.append(frames.pong(frame.token))

    def _on_pong(self, connection: Connection, frame: frames.Pong, now: float) -> None:
        if connection.pinged is not None and connection.pinged[0] == frame.token:
            sample = now - connection.pinged[1]
            self.round_trip = sample if self.round_trip is None else 0.75 * self.round_trip + 0.25 * sample
            connection.pinged = None

    def _on_goodbye(self, connection: Connection, frame: frames.Goodbye, now: float) -> None:
        self.goodbye = frame
        connection.control.append(frames.farewell())
        complete = not frame.undelivered and self.inbox.received >= frame.last_seq
        self._clean = complete and not frame.unread and self.outbox.idle
        if frame.unread:
            listed = ", ".join(map(frames.describe_key, frame.unread_ids))
            self.news.append((News.UNREAD, f"{frame.unread} of our messages: {listed}"))
        self._become(PartyEvent.GOODBYE, now)

    def _on_farewell(self, connection: Connection, frame: frames.Farewell, now: float) -> None:
        self.farewell = True

    def _on_abort(self, connection: Connection, frame: frames.Abort, now: float) -> None:
        self.reason = frame.reason
        self._become(PartyEvent.ABORT, now)

    # -- held back, and deadlocks --------------------------------------------------------------------------------------

    def _on_blocked(self, connection: Connection, frame: frames.Blocked, now: float) -> None:
        if self.blocked is None:
            self._blocked_since = now
        self.blocked = frame
        if frame.consumed_messages != self.inbox.consumed_messages:
            self._ack_due = True

    def _on_deadlock(self, connection: Connection, frame: frames.Deadlock, now: float) -> None:
        if self.outbox.held_back:
            self._fail_held_back(Ending.MUTUAL if frame.mutual else Ending.BOX_FULL)

    def _fail_held_back(self, ending: Ending) -> None:
        """End the waiting of the sends that are held back. The messages stay in the queue: they have their numbers."""
        self.news.append((News.DEADLOCK, ending.value))
        awaited = [message for message in self.outbox.pending() if message.awaited]
        for message in awaited:
            message.detach()
        self._fail(awaited, Cause(ending))

    def _find_deadlock(self, now: float) -> None:
        """The other side is held back by our box, and our program does not empty it, for it waits itself."""
        blocked = self.blocked
        patience = self._timing.deadlock_after
        if blocked is None or now - max(self._blocked_since, self._moved) < patience:
            return
        waiting = [receive for receive in self.mailbox.receives() if now - receive.since >= patience]
        if waiting:
            for receive in waiting:
                self.mailbox.cancel(receive)
            self.news.append((News.DEADLOCK, Ending.BOX_FULL.value))
            self._fail(waiting, Cause(Ending.BOX_FULL))
            self._broadcast(frames.deadlock(mutual=False))
        elif blocked.awaited and self.outbox.held_back and self.outbox.anyone_waits():
            self._fail_held_back(Ending.MUTUAL)
            self._broadcast(frames.deadlock(mutual=True))

    # -- sending -------------------------------------------------------------------------------------------------------

    def to_send(self, connection: Connection, now: float) -> bytes:
        """The next batch for this connection; empty: nothing, until something happens."""
        parts: list[Buffer] = list(connection.control)
        connection.control.clear()
        if connection is self._current:
            self._fill(connection, parts, now)
        return b"".join(parts)

    def _fill(self, connection: Connection, parts: list[Buffer], now: float) -> None:
        outbox = self.outbox
        if connection.again is None:
            connection.again = outbox.rewind(connection.position)
        used = outbox.refill(parts, connection.again, self._budget)
        if not connection.again:
            used += outbox.fill(parts, self._budget - used)
        if used and connection.awaiting is None:
            connection.awaiting = now
        if self._ack_due or used:
            self._acknowledge(parts, now)
        if outbox.held_back and self._told_blocked != outbox.consumed_messages:
            self._tell_blocked(parts)

    def _acknowledge(self, parts: list[Buffer], now: float) -> None:
        inbox = self.inbox
        position = (inbox.acknowledged, inbox.consumed_bytes, inbox.consumed_messages)
        if self._ack_due or position != self._told:
            parts.append(frames.ack(*position))
            self._told = position
            self._ack_due = False
            self._unacknowledged = 0
            self._acknowledged_at = now

    def _tell_blocked(self, parts: list[Buffer]) -> None:
        outbox = self.outbox
        if self._told_blocked < 0:
            self.news.append((News.HELD_BACK, ""))
        self._told_blocked = outbox.consumed_messages
        ids = outbox.queued_ids(frames.MAX_LISTED_IDS)
        parts.append(
            frames.blocked(frames.Blocked(*outbox.queued(), outbox.consumed_messages, outbox.anyone_waits(), ids))
        )

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at the clock, every ``Timing.tick``. Time during which nobody called this is nobody's silence."""
        stalled = now - self._ticked - 2 * self._timing.tick
        self._ticked = now
        for connection in list(self._connections):
            if stalled > 0:
                connection.shift(stalled)
            self._check(connection, now)
        self._told_blocked = -2
        self._find_deadlock(now)

    def _check(self, connection: Connection, now: float) -> None:
        timing = self._timing
        if not connection.verified:
            if now - connection.opened > timing.greeting:
                self._close(connection, CloseCode.SILENT, "no greeting")
            return
        quiet = now - connection.heard
        if quiet > timing.dead_after:
            self._close(connection, CloseCode.SILENT, f"silent for {quiet:.0f} s")
            return
        if connection.pinged is None and (quiet > timing.heartbeat or self.round_trip is None):
            self._token += 1
            connection.pinged = (self._token, now)
            connection.control.append(frames.ping(self._token))
            if connection.awaiting is None:
                connection.awaiting = now
        patience = max(timing.suspect_after, 4 * (self.round_trip or 0.0))
        if connection.awaiting is not None and now - connection.awaiting > patience and not connection.suspect:
            connection.suspect = True
            self.news.append((News.SUSPECT, ""))
            self._choose()


_HANDLERS: dict[type[Frame], tuple[Kind, Callable[[Link, Connection, Any, float], None]]] = {
    frames.Hello: (Kind.HELLO, Link._on_hello),
    frames.Resume: (Kind.RESUME, Link._on_resume),
    frames.Start: (Kind.START, Link._on_start),
    frames.Part: (Kind.PART, Link._on_part),
    frames.Ack: (Kind.ACK, Link._on_ack),
    frames.Ping: (Kind.PING, Link._on_ping),
    frames.Pong: (Kind.PONG, Link._on_pong),
    frames.Blocked: (Kind.BLOCKED, Link._on_blocked),
    frames.Deadlock: (Kind.DEADLOCK, Link._on_deadlock),
    frames.Goodbye: (Kind.GOODBYE, Link._on_goodbye),
    frames.Farewell: (Kind.FAREWELL, Link._on_farewell),
    frames.Abort: (Kind.ABORT, Link._on_abort),
}
_FOR_THE_ADOPTED = frozenset((Kind.START, Kind.PART, Kind.ACK, Kind.BLOCKED, Kind.DEADLOCK, Kind.GOODBYE, Kind.ABORT))
