"""All that two incarnations have between them, and that a restart of either begins anew: numbers, messages, boxes.

Data in, data out, whatever connection it takes. Who the other side is and which connection lives is the link's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.counters import Counters
from mpccomm.protocol.frames import Bounds
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.receiver import Incoming, Receiver
from mpccomm.protocol.sender import Buffer, Outgoing, Sender
from mpccomm.protocol.states import Cause
from mpccomm.settings import Limits

_ACK_EVERY = 16
"""An acknowledgement at least with every so-manieth part of the window."""
_ACK_AFTER = 0.2
"""While pieces of a large message arrive, an acknowledgement at least so often: it shows that the connection lives."""
_CONSUMED_EVERY = 4
"""Word of what was taken out of the box at least with every so-manieth part of it."""
_BATCH_RESERVE = 64
"""Room in a batch for the acknowledgement behind the data."""
_SMALLEST_BATCH = 256
_LARGEST_BATCH = frames.MAX_BATCH - 128 * 1024
"""Leaves room for what is not data: control frames, lists of ids."""
_NOT_TOLD = -1


class Session:
    """Mailbox, inbox and outbox, and what is due to be said about them."""

    def __init__(self, limits: Limits, counters: Counters, now: float, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.receiver = Receiver(limits)
        self.sender = Sender(limits, counters)
        self.ack_due = False
        self._limits = limits
        self._counters = counters
        self._budget = min(max(limits.frame_size, _SMALLEST_BATCH), _LARGEST_BATCH) - _BATCH_RESERVE
        self._unacknowledged = 0
        self._acknowledged_at = now
        self._told = (0, 0, 0)
        self._told_blocked = _NOT_TOLD
        self._awaited = False

    # -- receiving -----------------------------------------------------------------------------------------------------

    def start(self, frame: frames.Start) -> Sequence[Receive]:
        """A message begins. Returns the receives that are done by that."""
        message = self.receiver.start(frame)
        if message is None:
            self.ack_due = True
            return ()
        if message.complete and not message.ordered:
            self._count(message)
            return self._hand_over(self.mailbox.put(message))
        self.receiver.turns.begin(message)
        self.mailbox.announce(message)
        if message.complete:
            self._count(message)
            return self._admit(self.receiver.turns.arrive(message))
        self._count_unacknowledged(len(frame.data))
        return ()

    def part(self, frame: frames.Part) -> Sequence[Receive]:
        """A message goes on. Returns the receives that are done by that."""
        message = self.receiver.part(frame)
        if message is None:
            self.ack_due = True
            return ()
        if message.complete:
            self._count(message)
            return self._admit(self.receiver.turns.arrive(message))
        self._count_unacknowledged(len(frame.data))
        return ()

    def _count(self, message: Incoming) -> None:
        self._counters.messages_received += 1
        self._counters.bytes_received += message.total
        self.ack_due = True

    def _count_unacknowledged(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged >= self._limits.window // _ACK_EVERY:
            self.ack_due = True

    def look_at(self, now: float) -> None:
        """A batch has been dealt with: pieces of large messages are acknowledged from time to time."""
        if self._unacknowledged and now - self._acknowledged_at > _ACK_AFTER:
            self.ack_due = True

    def _admit(self, messages: Sequence[Incoming]) -> Sequence[Receive]:
        return [receive for message in messages for receive in self._hand_over(self.mailbox.complete(message))]

    def _hand_over(self, receives: Sequence[Receive]) -> Sequence[Receive]:
        for receive in receives:
            assert receive.message is not None
            self.consume(receive.message)
        return receives

    def put_back(self, message: Incoming) -> Sequence[Receive]:
        """Un-get. Returns the receive that got it at once, if any."""
        if message.receiver is not self.receiver:
            return ()  # it is from an earlier conversation, with which it was forgotten
        return self._hand_over(self.mailbox.put_back(message))

    def consume(self, message: Incoming) -> None:
        """The program has taken this message."""
        receiver = self.receiver
        receiver.consume(message)
        _, told_bytes, told_messages = self._told
        limits = self._limits
        if (
            receiver.consumed_messages - told_messages > limits.box_messages // _CONSUMED_EVERY
            or receiver.consumed_bytes - told_bytes > limits.box_bytes // _CONSUMED_EVERY
        ):
            self.ack_due = True

    def forget_partial(self) -> Sequence[Receive]:
        """The messages under way will never be complete. Returns the receives of those that waited for them."""
        self.receiver.forget_partial()
        return self._admit(self.receiver.turns.forget_partial())

    def end(self, cause: Cause) -> list[Receive | Outgoing]:
        """Nothing more will come, nor be taken. Returns all that waited. Complete messages stay."""
        ended: list[Receive | Outgoing] = [*self.mailbox.fail_all(cause)]
        ended += [message for message in self.sender.pending() if message.failure is None]
        self.sender = Sender(self._limits, self._counters)
        return ended

    # -- sending -------------------------------------------------------------------------------------------------------

    def agree(self, bounds: Bounds) -> None:
        """The other side has said what it takes."""
        self.sender.bounds = bounds

    def due(self, connection: Connection) -> bool:
        """Whether `fill` may find something to send."""
        return self.ack_due or self.sender.due or connection.again is None or bool(connection.again)

    def fill(self, connection: Connection, parts: list[Buffer], now: float) -> None:
        """Append to a batch what is to be sent: what has to be repeated, new frames, an acknowledgement."""
        sender = self.sender
        again = connection.again
        if again is None:
            again = connection.again = sender.rewind(connection.position)
        used = sender.refill(parts, again, self._budget) if again else 0
        if not used and sender.due:
            used = sender.fill(parts, self._budget)
        if used and connection.awaiting is None:
            connection.awaiting = now
        if used or self.ack_due:
            self._acknowledge(parts, now)
        if sender.held_back and self._told_blocked != sender.consumed_messages:
            self._tell_blocked(parts)

    @property
    def positions(self) -> tuple[int, int, int]:
        """What an ACK says: held up to this frame; bytes and messages taken out of the box."""
        receiver = self.receiver
        return receiver.acknowledged, receiver.consumed_bytes, receiver.consumed_messages

    def _acknowledge(self, parts: list[Buffer], now: float) -> None:
        positions = self.positions
        if self.ack_due or positions != self._told:
            parts.append(frames.ack(*positions))
            self._told = positions
            self.ack_due = False
            self._unacknowledged = 0
            self._acknowledged_at = now

    def _tell_blocked(self, parts: list[Buffer]) -> None:
        sender = self.sender
        self._told_blocked = sender.consumed_messages
        ids = sender.queued_ids(frames.MAX_LISTED_IDS)
        parts.append(frames.blocked(frames.Blocked(*sender.queued(), sender.consumed_messages, self._awaited, ids)))
        self._awaited = False

    def repeat_blocked(self) -> None:
        """Say once more that we are held back, if we are, and whether a program stands still because of it.

        Only now and then, since finding that out means going through the queue.
        """
        if self.sender.held_back:
            self._told_blocked = _NOT_TOLD
            self._awaited = self.sender.anyone_waits()
