"""The sending half of a link: numbers messages, cuts them into frames, keeps and repeats what is unacknowledged.

Messages *begin* in the order in which they were sent, so that the receiver can keep the order within an id. Their further
pieces come behind every message that can begin, in turn one of the oldest message and one of that of which least is left: a small
one overtakes a large one that is under way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, count, islice
from struct import pack
from typing import Any, TypeAlias

from mpccomm.memory import Buffer
from mpccomm.protocol.box import WHOLE_COST, Box, cost, id_cost
from mpccomm.protocol.frames import (
    ANNOTATIONS,
    AUTOMATIC,
    HEADER_SIZE,
    MAX_FRAMES,
    MAX_NAME,
    MESSAGE,
    MESSAGE_OVERHEAD,
    NUMBERED,
    NUMBERS,
    PART_OVERHEAD,
    START_OVERHEAD,
    Bounds,
    Key,
    Name,
    ViolationError,
    encode_key,
    message_head,
    part_head,
    some_ids,
    start_head,
)
from mpccomm.protocol.states import Cause
from mpccomm.settings import Limits

_MOST_PARTS = MAX_FRAMES - 64
"""Each frame is one part of a batch or several; the rest is for what goes along."""
_head = NUMBERED.pack
_CHOICE = 32
"""How many of the large messages under way are looked at to find that of which least is left: there may be thousands."""
_WORTH_CUTTING = 4096
_CREDIT = 16 * 1024
"""Bytes of short messages that may begin at once until we look again whether nothing is in their way."""
_CREDIT_MESSAGES = _CREDIT // MESSAGE_OVERHEAD
_CREDIT_COST = _CREDIT_MESSAGES * WHOLE_COST + _CREDIT


class Outgoing:
    """A message on its way. `address` sets its id before it is sent."""

    key: Key
    cost: int
    """What it counts for in the box, as long as it has not begun."""
    weight = 0
    """The bytes of its frame, where it is plain: it has one segment, an automatic number and no prefix. 0: it is not."""
    number = -1
    """The number of messages that began before it."""
    sent = 0
    """How many bytes of it were sent at least once; not kept where it is plain, and goes as a whole."""
    whole = False
    """Whether the other side holds all of it, where it is not delivered before those in front of it."""
    delivered = False
    futile = False
    """Whether its party had ended when it was made, for observers: it is not sent."""
    failure: Cause | None
    annotation: bytes
    """The annotation that goes with it, for observers, as packed; empty: none."""
    span: Any = None
    """What an observer follows it with."""
    called: Any = None
    """Who has called for it, and when, for observers, as `mpccomm.engine.trail.Called`; None: there was none."""
    _starts: list[int] | None = None

    def __init__(self, segments: Sequence[Buffer], *, ordered: bool, awaited: bool) -> None:
        # Attributes that are read for every message are set in the instance: those of the class take longer to find.
        self.failure = None
        self.annotation = b""
        self.ordered = ordered
        self.awaited = awaited
        self.segments = len(segments)
        if self.segments == 1:
            self.body: Sequence[Buffer] = segments
            self.total = len(segments[0])
        else:
            lengths = [len(segment) for segment in segments]
            self.body = (pack(f"!{self.segments}Q", *lengths), *segments)
            self._starts = [0, *accumulate(map(len, self.body))]
            self.total = self._starts[-1]

    def address(self, key: Key) -> None:
        """Set the id under which it is sent."""
        self.key = key
        self.name = encode_key(key)
        self.cost = self._cost()

    @cached_property
    def name(self) -> Name:
        """The id, as it stands in a frame. Few of the messages that are plain are ever asked for it."""
        return encode_key(self.key)

    def _cost(self) -> int:
        return cost(self.total, self.segments, id_cost(self.key, len(self.name[2])))

    def done(self) -> None:
        """Take the outcome. The owner of the link calls this once the message is acknowledged, or ``failure`` is set."""

    def slices(self, start: int, end: int) -> Sequence[Buffer]:
        """Return the bytes of the body from ``start`` to ``end``, in place."""
        starts = self._starts
        if starts is None:
            return self.body if start == 0 and end == self.total else (memoryview(self.body[0])[start:end],)
        found = []
        at = bisect_right(starts, start) - 1
        while start < end:
            stop = min(end, starts[at + 1])
            if start < stop:
                found.append(memoryview(self.body[at])[start - starts[at] : stop - starts[at]])
            start = stop
            at += 1
        return found

    def empty(self) -> None:
        """Drop the contents, but keep the place in the order: without its number, later messages would get its place."""
        self.body = (b"",)
        self._starts = None
        self.segments = 1
        self.total = 0
        self.weight = 0
        self.cost = self._cost()

    def detach(self) -> None:
        """Copy what the caller could change, which does not wait for the acknowledgement any more."""
        self.body = tuple(part if isinstance(part, bytes) else bytes(part) for part in self.body)
        self.awaited = False


Sent: TypeAlias = tuple[int, Outgoing, int, int, bool, int]
"""A frame that was sent at least once: its number, the message, which bytes of it (from, to), whether it begins the message, and
how many bytes the frame has. A bare tuple, since there is one for every frame."""


@dataclass(slots=True)
class Counters:
    """What a link counts, since the pool was made. Bytes are those of encoded messages, without framing and repetitions."""

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resent: int = 0
    """Frames that were sent again after a connection was lost."""
    connections: int = 0


class Sender:
    """Queue, messages under way, and the log of what is not acknowledged yet."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._window = limits.window
        self._counters = counters
        self.last_seq = 0
        self.acknowledged = 0
        self.box = Box()
        """The box of the other side, as far as we know it."""
        self.admitted = -1
        """The number of the message that may begin even if it does not fit, since the other side asks for it."""
        self.refused: list[Outgoing] = []
        """Messages that are larger than the other side takes."""
        self.queue: deque[Outgoing] = deque()
        """The messages that have not begun."""
        self.under_way: deque[Outgoing] = deque()
        """The messages of which a part was sent, and a part was not."""
        self._least_next = False
        """Whether the next piece is of the message of which least is left, and not of the first one."""
        self.in_flight = 0
        """Bytes sent and not acknowledged, with those that frames cost."""
        self.ready: list[Buffer] = []
        """The frames of messages that have begun at once, for the next batch."""
        self.credit = 0
        """Bytes of frames that may still begin at once. More than 0 only while nothing is queued, under way, or to be repeated."""
        self._numbers = defaultdict[str, Iterator[int]](count)
        """The automatic numbers, by prefix."""
        self._queued_bytes = 0
        self._awaited = False
        """Whether one of the messages that have not begun may be awaited."""
        self._log: deque[Sent] = deque()
        self._lines: dict[Key, deque[Outgoing]] = {}
        """By id: a message that was sent in pieces and is not delivered, and those of the same id that have begun behind it."""
        self.agree(bounds_of(limits), 0)

    def agree(self, bounds: Bounds, features: int) -> None:
        """Take over the limits of the other side. Until it has told them, ours are used."""
        self.bounds = bounds
        self._largest = bounds.max_message_size
        self._annotates = features & ANNOTATIONS != 0
        self.box.most_messages = bounds.box_messages
        self.box.most_bytes = bounds.box_bytes

    # -- the program's side --------------------------------------------------------------------------------------------

    def next_key(self, prefix: str) -> Key:
        """Return the id of a message that was given none."""
        return prefix, next(self._numbers[prefix])

    def forget_numbers(self) -> None:
        """Begin to count anew, as the other side does."""
        self._numbers.clear()

    def add(self, message: Outgoing, prefix: str | None = None) -> None:
        """Send a message: under its id, or with a ``prefix`` under the `next_key` of that. From here on it can't be withdrawn."""
        if prefix is not None:
            if not prefix and message.segments == 1 and not message.ordered:
                self.add_plain(message)
                return
            message.address(self.next_key(prefix))
        self._queue(message)

    def add_plain(self, message: Outgoing) -> None:
        """Send a message of one segment, which is `bytes`, under the `next_key` without a prefix. So are nearly all."""
        number = next(self._numbers[""])
        # The same as `Outgoing.address`, without a call.
        message.key = "", number
        total = message.total
        cost = WHOLE_COST + total
        annotation = message.annotation
        weight = MESSAGE_OVERHEAD + total
        if annotation:
            weight += len(annotation)
        if weight > self.credit:
            message.cost = cost
            message.weight = weight
            self._queue(message)
            return
        # It begins at once. The same as `_begin` and `_head_of`, without a call.
        self.credit -= weight
        box = self.box
        message.number = begun = box.begun
        box.begun = begun + 1
        box.begun_bytes += cost
        self.last_seq = seq = self.last_seq + 1
        self._log.append((seq, message, 0, total, True, weight))
        self.in_flight += weight
        # As `_head_of`, which is called only where there is an annotation.
        head = (
            self._head_of(message, seq)
            if annotation
            else _head(MESSAGE, AUTOMATIC, 0, weight - HEADER_SIZE, seq, number)
        )
        self.ready += head, *message.body
        counters = self._counters
        counters.messages_sent += 1
        counters.bytes_sent += total

    def _queue(self, message: Outgoing) -> None:
        self.credit = 0
        self.queue.append(message)
        if message.awaited:
            self._awaited = True
        self._queued_bytes += message.total
        counters = self._counters
        counters.messages_sent += 1
        counters.bytes_sent += message.total

    def pending(self) -> Iterator[Outgoing]:
        """Yield every message that is not acknowledged yet, in the order in which they were sent."""
        last: Outgoing | None = None
        seen = set()
        for _, message, *_ in self._log:
            if message is not last and id(message) not in seen:
                last = message
                seen.add(id(last))
                yield last
        for message in (*chain.from_iterable(self._lines.values()), *self.under_way):
            if id(message) not in seen:
                seen.add(id(message))
                yield message
        yield from self.queue

    @property
    def idle(self) -> bool:
        """Whether everything was acknowledged."""
        return not (self._log or self.queue or self.under_way)

    @property
    def unacknowledged(self) -> bool:
        """Whether something was sent that is not acknowledged."""
        return bool(self._log)

    @property
    def remaining(self) -> int:
        """The bytes of messages that the other side has not acknowledged, about."""
        return self.in_flight + self._queued_bytes + sum(message.total - message.sent for message in self.under_way)

    @property
    def held_back(self) -> bool:
        """Whether the next message does not fit into the other side's box. Any thread may ask."""
        box, queue = self.box, self.queue
        try:
            return bool(queue) and not box.fits(queue[0].cost) and box.begun != self.admitted
        except IndexError:
            return False  # the last one has just begun

    def queued(self) -> tuple[int, int]:
        """Return the number of messages that have not begun, and their bytes."""
        return len(self.queue), self._queued_bytes

    def queued_ids(self, most: int) -> tuple[Key, ...]:
        """Return the ids of the first messages that have not begun."""
        return some_ids(message.key for message in islice(self.queue, most))

    def waiting(self) -> list[Outgoing]:
        """Return the messages that have not begun, and that a program stands still for."""
        return [message for message in self.queue if message.awaited] if self._awaited else []

    def anyone_waits(self) -> bool:
        """Return whether a program stands still until one of the messages that have not begun is delivered."""
        if self._awaited:
            # They may have begun meanwhile, or been given up.
            self._awaited = any(message.awaited for message in self.queue)
        return self._awaited

    # -- the wire's side -----------------------------------------------------------------------------------------------

    @property
    def is_large(self) -> bool:
        """Whether what is to be sent next is large."""
        return bool(self.under_way or (self.queue and self.queue[0].total > _CREDIT))

    def fill(self, parts: list[Buffer], budget: int, used: int = 0, *, ahead: bool = False) -> int:
        """Append new frames to a batch, of at most ``budget`` bytes, of which some are used. Returns the bytes used.

        :param ahead: only those of short messages, which go ahead of what is large
        """
        queue, window, largest = self.queue, self._window, self._largest
        # As long as others are under way, half is theirs.
        most = budget // 2 if self.under_way else budget
        if ahead:
            most = min(budget, _CREDIT)
        while queue and self.in_flight < window and len(parts) < _MOST_PARTS:
            message = queue[0]
            total, weight = message.total, message.weight
            plain = weight and total <= largest and used + weight <= most
            if not plain:
                announced = bool(self.under_way)
                if ahead and used + message.total > most and not announced:
                    break
                if self._is_refused(message):
                    continue
                if not _worth_beginning(message, most - used, used, announced):
                    break
                total = message.total
            if not self._begin(message):
                break
            queue.popleft()
            self._queued_bytes -= total
            if plain:
                # Nearly every message: `_cut` and `_write`, written out.
                self.last_seq = seq = self.last_seq + 1
                self._log.append((seq, message, 0, total, True, weight))
                self.in_flight += weight
                parts.append(self._head_of(message, seq))
                parts += message.body
                used += weight
            else:
                used += self._begin_other(parts, message, most - used)
        return self._go_on(parts, used, budget) if self.under_way and not ahead else used

    def _begin(self, message: Outgoing) -> bool:
        """Give the next message its place in the other side's box. False: it does not fit."""
        box = self.box
        begun, cost = box.begun, message.cost
        there = begun - box.taken
        # The same as `Box.fits`, without a call.
        if (
            there
            and (there >= box.most_messages or box.begun_bytes - box.taken_bytes + cost > box.most_bytes)
            and begun != self.admitted
        ):
            return False
        message.number = begun
        box.begun = begun + 1
        box.begun_bytes += cost
        return True

    def _head_of(self, message: Outgoing, seq: int) -> bytes:
        """Return what stands before the body of a plain message."""
        if not message.annotation:
            return _head(MESSAGE, AUTOMATIC, 0, NUMBERS + message.total, seq, message.key[1])
        if not self._annotates:
            message.annotation = b""
        return message_head(seq, message.name, False, message.total, message.annotation)

    def grant(self, budget: int) -> None:
        """Let short messages begin at once, as many as a batch of ``budget`` bytes holds, if nothing is in their way."""
        box = self.box
        if (
            not (self.queue or self.under_way)
            and self._largest >= _CREDIT
            and box.messages + _CREDIT_MESSAGES <= box.most_messages
            and box.bytes + _CREDIT_COST <= box.most_bytes
            and self.in_flight + _CREDIT <= self._window
        ):
            self.credit = min(_CREDIT, budget)

    def _go_on(self, parts: list[Buffer], used: int, budget: int) -> int:
        """Append pieces of the messages under way to a batch of which ``used`` bytes are taken. Returns the bytes used."""
        under_way = self.under_way
        while under_way and self.in_flight < self._window:
            room = budget - used - PART_OVERHEAD
            if room < _WORTH_CUTTING and used:
                break
            message = self._whose_turn()
            end = min(message.total, message.sent + max(room, 1))
            used += self._cut(parts, message, end, False, PART_OVERHEAD)
            if end == message.total:
                under_way.remove(message)
        return used

    def _whose_turn(self) -> Outgoing:
        """Return the message to go on with: in turn the first one, and that of which least is left.

        So messages of one size arrive one by one, and who passes them on can begin with the first; a small one does not wait for a
        large one; and a large one has half of what is left to those in pieces, however many smaller ones come.
        """
        least, self._least_next = self._least_next, not self._least_next
        return min(islice(self.under_way, _CHOICE), key=_left) if least else self.under_way[0]

    def _begin_other(self, parts: list[Buffer], message: Outgoing, left: int) -> int:
        """Append the first frame of a message that has an id, several segments, or is large: it has begun."""
        length = len(message.name[2])
        annotation = message.annotation
        if annotation and not self._annotates:
            annotation = message.annotation = b""
        overhead = length + len(annotation)
        total = message.total
        line = self._lines.get(message.key)
        if line is not None:
            line.append(message)
        if _is_whole(message, left):
            return self._cut(parts, message, total, True, MESSAGE_OVERHEAD + overhead)
        room = left - START_OVERHEAD - overhead
        end = total
        if total > room:
            # Where others are under way already, it is only announced: see `_whose_turn`.
            end = 0 if self.under_way else max(room, 0)
            self.under_way.append(message)
            if line is None:
                self._lines[message.key] = deque((message,))
        return self._cut(parts, message, end, True, START_OVERHEAD + overhead)

    def _is_refused(self, message: Outgoing) -> bool:
        """Return whether a message exceeds what the other side takes, and so leaves the queue, or if possible becomes empty."""
        bounds = self.bounds
        return (
            message.total > bounds.max_message_size
            or message.segments > bounds.max_segments
            or len(message.name[2]) > bounds.max_id_size
        ) and self._refuse(message)

    def _refuse(self, message: Outgoing) -> bool:
        """Give up a message that can't be sent as it is. True: nor can an empty one in its place; it is out of the queue."""
        self._queued_bytes -= message.total
        message.empty()
        if message.failure is None:
            self.refused.append(message)
        if len(message.name[2]) <= self.bounds.max_id_size:
            return False
        self.queue.popleft()
        return True

    def _cut(self, parts: list[Buffer], message: Outgoing, end: int, begins: bool, overhead: int) -> int:
        self.last_seq += 1
        weight = overhead + end - message.sent
        sent = (self.last_seq, message, message.sent, end, begins, weight)
        self._log.append(sent)
        self.in_flight += weight
        message.sent = end
        _write(parts, sent)
        return weight

    def rewind(self, received: int) -> deque[Sent]:
        """Return what has to be sent again over a connection whose other end holds everything up to frame ``received``."""
        self.ready = []
        self.credit = 0
        return deque(sent for sent in self._log if sent[0] > received)

    def refill(self, parts: list[Buffer], again: deque[Sent], budget: int) -> int:
        """Append frames that were sent before, from the left of ``again``. Returns the bytes used."""
        used = 0
        while again and (not used or used + again[0][-1] <= budget) and len(parts) < _MOST_PARTS:
            sent = again.popleft()
            if sent[0] > self.acknowledged:
                _write(parts, sent)
                used += sent[-1]
                self._counters.resent += 1
        return used

    def check(self, received: int) -> None:
        """Raise `ViolationError` if the other side claims to have received more than was sent."""
        if received > self.last_seq:
            raise ViolationError(f"frame {received} was received, it says; {self.last_seq} were sent")

    def acknowledge(self, received: int, taken_bytes: int, taken: int, finished: deque[Any]) -> bool:
        """Forget what the other side holds: everything up to frame ``received``. Append what is delivered to ``finished``.

        ``taken`` messages and ``taken_bytes`` have left its box. Returns whether that is news.
        """
        box = self.box
        news = taken > box.taken or taken_bytes > box.taken_bytes
        if news:
            # As `Box.hear`, without a call. Each message costs bytes: both have grown, or the other side spoils its own account.
            if taken > box.begun or taken_bytes > box.begun_bytes:
                box.hear(taken_bytes, taken)
            box.taken = taken
            box.taken_bytes = taken_bytes
        frames = received - self.acknowledged
        if frames <= 0:
            return news
        if received > self.last_seq:
            self.check(received)
        self.acknowledged = received
        log = self._log
        while True:
            _, message, _, end, _, weight = log.popleft()
            self.in_flight -= weight
            if end == message.total and not (self._lines and self._is_in_line(message, finished)):
                message.delivered = True
                # Nobody waits for one that was given up; but those who watch are told of it, where there are any.
                if message.failure is None or message.called is not None:
                    finished.append(message)
            if frames == 1:
                return True
            frames -= 1

    def _is_in_line(self, message: Outgoing, finished: deque[Any]) -> bool:
        """Note that the other side holds all of a message. False: none of its id that came in pieces is before it.

        Behind one that never becomes complete no message of the same id can be received: it is delivered with that one.
        """
        line = self._lines.get(message.key)
        if line is None or message.number < line[0].number:
            return False
        message.whole = True
        while line and line[0].whole:
            first = line.popleft()
            first.delivered = True
            if first.failure is None or first.called is not None:
                finished.append(first)
        if not line:
            del self._lines[message.key]
        return True


def bounds_of(limits: Limits) -> Bounds:
    """Return these limits as a HELLO tells them."""
    return Bounds(
        limits.box_bytes,
        limits.box_messages,
        limits.max_message_size,
        limits.max_segments,
        min(limits.max_id_size, MAX_NAME),
    )


def _left(message: Outgoing) -> int:
    """Return how many bytes of a message are still to be sent."""
    return message.total - message.sent


def _is_whole(message: Outgoing, left: int) -> bool:
    """Return whether a message goes into one frame, where ``left`` bytes are left in the batch."""
    total = message.total
    overhead = MESSAGE_OVERHEAD + len(message.name[2]) + len(message.annotation)
    return message.segments == 1 and (overhead + total <= left or not total)


def _worth_beginning(message: Outgoing, left: int, used: int, announced: bool) -> bool:
    """Return whether enough of a message fits into the rest of a batch: nothing of it has to, where it is only announced."""
    room = left - START_OVERHEAD - len(message.name[2]) - len(message.annotation)
    return _is_whole(message, left) or not used or room >= (0 if announced else min(_WORTH_CUTTING, message.total))


def _write(parts: list[Buffer], sent: Sent) -> None:
    seq, message, start, end, begins, _ = sent
    if not begins:
        parts.append(part_head(seq, message.number, end - start))
    elif message.segments == 1 and end == message.total:
        parts.append(message_head(seq, message.name, message.ordered, end, message.annotation))
    else:
        head = (seq, message.name, message.ordered, message.segments, message.total, end, message.annotation)
        parts.append(start_head(*head))
    parts += message.slices(start, end)
