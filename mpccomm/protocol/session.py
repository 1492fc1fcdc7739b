"""All that two incarnations have between them, and that a restart of either begins anew: numbers, messages, boxes.

Data in, data out, whatever connection it takes. Who the other side is and which connection lives is the link's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from mpccomm.memory import Buffer
from mpccomm.protocol import frames
from mpccomm.protocol.box import WHOLE_COST, id_cost
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import (
    ANNOTATED,
    AUTOMATIC,
    HEADER_SIZE,
    MESSAGE,
    MESSAGE_OVERHEAD,
    NO_POSITIONS,
    ORDERED,
    PLAIN,
    TOO_MANY,
    WORDS,
    Batch,
    Key,
    Kind,
    ViolationError,
    check_id,
    read_annotation,
    read_key,
)
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.receiver import Incoming, Receiver
from mpccomm.protocol.sender import Counters, Outgoing, Sender
from mpccomm.protocol.states import Cause
from mpccomm.settings import Limits

_ACK_EVERY = 16
"""An acknowledgement is sent at the latest when one part in this many of the window has arrived."""
_ACK_AFTER = 0.2
"""Seconds after which pieces of a large message are acknowledged: it shows that the connection lives."""
_CONSUMED_EVERY = 4
"""The sender is told what was taken out of the box at the latest when it is this part of the box."""
_SMALLEST_BATCH = 256
_LARGEST_BATCH = frames.MAX_BATCH - 128 * 1024
"""Bytes of data in the largest batch. The rest is for control frames, and for lists of ids."""
_NOT_TOLD = -1
_unpack = WORDS.unpack_from
_positions = frames.POSITIONS.pack
_IN_ORDER = ORDERED << 16

Finished: TypeAlias = deque[Receive | Outgoing]


class Session:
    """Mailbox, receiver and sender, and what has to be said about them. Requests that end are appended to ``finished``."""

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        now: float,
        mailbox: Mailbox,
        finished: Finished,
        conversation: int = 0,
    ) -> None:
        self.mailbox = mailbox
        self.receiver = Receiver(limits, conversation)
        self.sender = Sender(limits, counters)
        self.ack_due = False
        self.unacknowledged = 0
        """Bytes of unfinished messages that were received since the last acknowledgement."""
        self._finished = finished
        self._limits = limits
        self._most = min(limits.max_message_size, limits.box_bytes)
        """Bytes up to which a box may fill without a closer look."""
        self._counters = counters
        self._budget = min(max(limits.frame_size, _SMALLEST_BATCH), _LARGEST_BATCH) - frames.BATCH_HEAD
        self._unacknowledged_since = now
        self._told_blocked = _NOT_TOLD
        self._told_blocked_at = now
        self._told_waits = self._waits = (False, False)
        """Whether a program waits for what is held back, and nothing else goes on there: as we said last, and as we say next."""
        self._most_untold = limits.box_messages // _CONSUMED_EVERY
        self._most_untold_bytes = limits.box_bytes // _CONSUMED_EVERY
        self._told_taken = 0
        """How many messages were taken out of the box, as the sender was told last."""
        self._told_taken_bytes = 0

    # -- receiving -----------------------------------------------------------------------------------------------------

    def messages(self, batch: Batch, at: int, left: int, connection: Connection, now: float) -> tuple[int, int]:
        """Take the MESSAGEs that stand there, one behind the other.

        Each is whole, and finds its receive waiting or goes into the box. One pass, with few calls for each: nearly all that
        is ever sent arrives in here.

        :param left: frames that the batch may still have
        :returns: where they end, and how many frames may follow then
        """
        key: Key
        receiver = self.receiver
        box = receiver.box
        counters = self._counters
        end = len(batch)
        self.ack_due = True
        while at < end:
            begins = data = at + MESSAGE_OVERHEAD
            if begins > end or not left:
                if batch[at] != MESSAGE:
                    break
                raise ViolationError(f"{end - at:,} bytes left over, no message fits in them" if left else TOO_MANY)
            head, size, seq, number = _unpack(batch, at)
            ends = at + HEADER_SIZE + size
            key, cost = ("", number), WHOLE_COST
            if head != PLAIN or ends < begins or ends > end:
                if head >> 24 != MESSAGE:
                    break
                if ends > end:
                    raise ViolationError(f"a frame claims {size:,} bytes where {end - at - HEADER_SIZE:,} are left")
                key, cost, annotation, data = self._read_head(batch, begins, ends, head, number)
            left -= 1
            at = ends
            if seq != receiver.received + 1:
                receiver.repeated(seq)
                connection.repeats(seq, now)
                continue
            total = ends - data
            cost += total
            begun = box.begun
            body = batch[data:ends]
            if type(body) is not bytes:
                body = bytes(body)
            message = Incoming(receiver, key, begun, seq, total, cost, [body])
            message.at = now
            # Nearly the same as `Receiver.check_room`, without a call.
            if begun - box.taken >= box.most_messages or box.begun_bytes - box.taken_bytes + cost > self._most:
                receiver.check_room(total, cost)
            box.begun = begun + 1
            box.begun_bytes += cost
            receiver.received = seq
            counters.messages_received += 1
            counters.bytes_received += total
            if head != PLAIN:
                message.annotation = annotation
                if head & _IN_ORDER:
                    self._put_in_order(message)
                    continue
            receive = self.mailbox.put(message)
            if receive is not None:
                # The same as `consume`, without a call.
                message.consumed = True
                box.taken += 1
                box.taken_bytes += cost
                self._finished.append(receive)
        return at, left

    def _read_head(self, batch: Batch, at: int, end: int, head: int, number: int) -> tuple[Key, int, bytes, int]:
        """Read what stands before the body of a message with an id: its id, what that costs, annotation, where the body begins."""
        flags, id_size = head >> 16 & 0xFF, head & 0xFFFF
        data = at + id_size
        if flags == AUTOMATIC | ANNOTATED and not id_size and data <= end:
            # Where reports are made: nearly every message.
            return ("", number), WHOLE_COST, *read_annotation(batch, data, end)
        check_id(flags, id_size, self._limits.max_id_size, end - at)
        key = read_key(flags, number, batch, at, data) if id_size or not flags & AUTOMATIC else ("", number)
        cost = WHOLE_COST + (id_size and id_cost(key, id_size))
        annotation, data = read_annotation(batch, data, end) if flags & ANNOTATED else (b"", data)
        return key, cost, annotation, data

    def _put_in_order(self, message: Incoming) -> None:
        """Give a whole message its place in the order of those that are decoded in their turn."""
        message.ordered = True
        self._begin(message)
        self._admit(self.receiver.decode_order.arrive(message))

    def start(self, frame: frames.Start) -> bool:
        """Take a START: a message in pieces, or with several segments. False, here as in `part`: it was here before."""
        message = self.receiver.start(frame)
        if message is None:
            self.ack_due = True
            return False
        self._begin(message)
        self._go_on(message, len(frame.data))
        return True

    def part(self, frame: frames.Part) -> bool:
        """Take a PART: a message goes on."""
        message = self.receiver.part(frame)
        if message is None:
            self.ack_due = True
            return False
        self._go_on(message, len(frame.data))
        return True

    def _begin(self, message: Incoming) -> None:
        if message.ordered:
            self.receiver.decode_order.begin(message)
        if self.mailbox.asks_for_more(message.key):
            # A message that is asked for does not count against the box.
            self.consume(message)
        self.mailbox.announce(message)

    def _go_on(self, message: Incoming, size: int) -> None:
        if message.complete:
            self._counters.messages_received += 1
            self._counters.bytes_received += message.total
            self.ack_due = True
            self._admit(self.receiver.decode_order.arrive(message) if message.ordered else (message,))
        else:
            if not self.unacknowledged:
                self._unacknowledged_since = self.receiver.now
            self.unacknowledged += size
            if self.unacknowledged >= self._limits.window // _ACK_EVERY:
                self.ack_due = True

    def look_at(self, now: float) -> None:
        """Acknowledge pieces of large messages from time to time. Called after each batch."""
        if self.unacknowledged and now - self._unacknowledged_since > _ACK_AFTER:
            self.ack_due = True

    def _admit(self, messages: Iterable[Incoming]) -> None:
        for message in messages:
            self._hand_over(self.mailbox.complete(message))

    def _hand_over(self, receives: Iterable[Receive]) -> None:
        for receive in receives:
            assert receive.message is not None
            self.consume(receive.message)
            self._finished.append(receive)

    def put_back(self, message: Incoming) -> None:
        """Return a message to its box, where the next one to ask for its id gets it: perhaps at once."""
        ago = self.receiver.conversation - message.receiver.conversation
        if not ago:
            self._hand_over(self.mailbox.put_back(message))
        else:
            message.consumed = True  # it takes no room in this box
            self._hand_over(self.mailbox.put_back_of_earlier(message, ago))

    def restore(self, there: Incoming | deque[Incoming]) -> None:
        """Put back what was found in the mailbox where a message was expected."""
        found = (there,) if isinstance(there, Incoming) else there
        if found[0].receiver is self.receiver:
            self._hand_over(self.mailbox.restore(there))
        else:
            for message in found:
                self.put_back(message)

    def consume(self, message: Incoming) -> None:
        """Count a message that the program has taken."""
        box = self.receiver.box
        if not message.consumed:
            # Only once, even if it is put back and taken again.
            message.consumed = True
            box.taken += 1
            box.taken_bytes += message.cost
        if not self.ack_due and (
            box.taken - self._told_taken > self._most_untold
            or box.taken_bytes - self._told_taken_bytes > self._most_untold_bytes
        ):
            self.ack_due = True

    def forget_partial(self) -> None:
        """Drop the messages under way, which will never be complete. Messages that had to wait for them can be received."""
        self.receiver.forget_partial()
        self._admit(self.receiver.decode_order.forget_partial())

    def end(self, cause: Cause) -> list[Receive | Outgoing]:
        """End the conversation. Return all requests that waited. Complete messages stay."""
        ended: list[Receive | Outgoing] = [*self.mailbox.fail_all(cause)]
        ended += [message for message in self.sender.pending() if message.failure is None]
        self.sender = Sender(self._limits, self._counters)
        return ended

    # -- sending -------------------------------------------------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """Whether nothing is under way, nor waited for, in either direction."""
        mailbox = self.mailbox
        if self.receiver.partial or mailbox.taken or next(mailbox.receives(), None) is not None:
            return False
        return self.sender.idle

    def batch(self, connection: Connection, now: float, most: int) -> bytes:
        """Return what is to be sent now: what is said of the connection, what has to be repeated, new frames. Empty: nothing.

        Sets whether there is ``more`` on the connection. ``most`` is as many bytes as the line moves in a short time, at least a
        few hundred.
        """
        sender = self.sender
        parts: list[Buffer] = [NO_POSITIONS]
        if connection.control:
            parts.append(connection.take_control())
        again = connection.again
        if again or again is None or sender.queue or sender.under_way:
            self._fill_by_and_by(connection, parts, now, most)
            connection.more = bool(sender.queue or sender.under_way or connection.again)
        else:
            connection.more = False
            if sender.ready:
                if sender.credit > most:
                    sender.credit = most
                parts += sender.ready
                sender.ready = []
                if connection.awaiting is None:
                    connection.awaiting = now
        if not self.ack_due and len(parts) == 1:
            return b""
        receiver = self.receiver
        box = receiver.box
        self._told_taken = taken = box.taken
        self._told_taken_bytes = taken_bytes = box.taken_bytes
        # The same as `positions`, without a call.
        receiver.told = told = receiver.acknowledged if receiver.held else receiver.received
        parts[0] = _positions(told, taken_bytes, taken)
        self.ack_due = False
        self.unacknowledged = 0
        return b"".join(parts)

    def _fill_by_and_by(self, connection: Connection, parts: list[Buffer], now: float, most: int) -> None:
        """Append to a batch what does not all go out at once: what has to be repeated, what is queued or large."""
        sender = self.sender
        budget = min(most, self._budget)
        again = connection.again
        if again is None:
            again = connection.again = sender.rewind(connection.position)
            self._told_blocked = _NOT_TOLD
        alone, connection.alone = connection.alone, False
        if len(parts) > 1 and not alone and (again or sender.queue or sender.under_way):
            # A batch counts when the last byte of it is here. So what is said of the connection itself goes ahead in one of its
            # own, not twice in a row: on a slow line the other side would take a handshake for one that failed.
            connection.alone = True
            return
        if again:
            used = sender.refill(parts, again, budget)
        else:
            used = sum(map(len, sender.ready))
            parts += sender.ready
            sender.ready = []
            # For the same reason what is short does, and an acknowledgement; not twice in a row, or there would be no end of it.
            before, connection.ahead = connection.ahead, False
            if not before:
                used = sender.fill(parts, budget, used, ahead=True)
                connection.ahead = sender.is_large and (used > 0 or self.ack_due)
            if not connection.ahead:
                used = sender.fill(parts, budget, used)
            # Behind all that has begun: what the other side lets in next is the next message that arrives.
            if sender.queue and self._told_blocked != sender.box.taken and sender.held_back:
                self._tell_blocked(parts, now)
            sender.grant(budget)
        if used and connection.awaiting is None:
            connection.awaiting = now

    def positions(self) -> bytes:
        """Return the head of a batch: held up to this frame; bytes and messages taken out of the box."""
        receiver = self.receiver
        box = receiver.box
        receiver.told = receiver.acknowledged
        return _positions(receiver.told, box.taken_bytes, box.taken)

    def _tell_blocked(self, parts: list[Buffer], now: float) -> None:
        sender = self.sender
        self._told_blocked, self._told_blocked_at = sender.box.taken, now
        ids = sender.queued_ids(frames.MAX_LISTED_IDS)
        box = sender.box
        frame = frames.Blocked(*sender.queued(), box.begun, box.taken, *self._waits, ids)
        parts.append(frames.blocked(frame))
        self._told_waits, self._waits = self._waits, (False, False)

    def repeat_blocked(self, heard: float, alone: Callable[[], bool]) -> None:
        """Say once more that we are held back, if we are, whether a program stands still because of it, and is alone.

        Only now and then, since finding that out means going through the queue. And only if something was ``heard`` since we
        said so last, or is different now: a process that stands still would find all of these at once, and no use in any.
        """
        if self.sender.held_back:
            awaited = self.sender.anyone_waits()
            waits = awaited, awaited and alone()
            if waits != self._told_waits or heard >= self._told_blocked_at:
                self._told_blocked = _NOT_TOLD
                self._waits = waits


class ClosingNotice:
    """Our last word to the other side, once there is one: said on every connection, until one of them has carried it."""

    def __init__(self) -> None:
        self.heard = False
        """Whether the other side has confirmed it."""
        self._word: tuple[Kind, bytes] | None = None
        self._to_those_who_understand = b""
        """The same, and that another pool follows; empty: none does."""
        self.said = False
        """Whether there is one: what arrives after it is passed over, since the other side has been told what was."""

    def goodbye(self, session: Session, *, unread: bool, followed: bool = False) -> None:
        """Say goodbye, as the pool shuts down. ``unread``: what is left in the mailbox is from the incarnation that hears this.

        ``followed``: another pool of this process takes its place.
        """
        sender = session.sender
        receiver = session.receiver
        keys = [message.key for message in session.mailbox.unread() if message.receiver is receiver] if unread else []
        undelivered = sum(1 for _ in sender.pending())
        frame = frames.Goodbye(sender.last_seq, undelivered, len(keys), frames.some_ids(keys))
        self.said = True
        self._word = Kind.GOODBYE, frames.goodbye(frame)
        if followed:
            self._to_those_who_understand = frames.goodbye(frame._replace(followed=True))

    def abort(self, reason: str) -> None:
        """Say that the program gave up."""
        self.said = True
        self._word = Kind.ABORT, frames.abort(reason)

    def say(self, connection: Connection) -> None:
        """Say it there, if there is something to be said. The head of its batch acknowledges what has arrived in time."""
        if self._word is None or self.heard:
            return
        kind, frame = self._word
        hello = connection.hello
        if self._to_those_who_understand and hello is not None and hello.features & frames.SUCCESSORS:
            frame = self._to_those_who_understand
        connection.control[kind] = frame

    @property
    def awaits_answer(self) -> bool:
        """Whether it was said, and the other side has not confirmed it."""
        return self.said and not self.heard

    def confirmed(self) -> None:
        """Note that a FAREWELL has arrived."""
        self.heard = self.said
