"""The sending half of a link: numbers messages, cuts them into frames, keeps and repeats what is unacknowledged.

Messages *begin* in the order in which they were sent, so that the receiver can keep the order within an id. Their further
pieces take turns, behind every message that can begin: a small one overtakes a large one that is under way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from mpccomm.protocol.counters import Counters
from mpccomm.protocol.frames import (
    MAX_FRAMES,
    MAX_NAME,
    PART_OVERHEAD,
    START_OVERHEAD,
    Bounds,
    Key,
    ViolationError,
    encode_key,
    part_head,
    some_ids,
    start_head,
)
from mpccomm.protocol.receiver import admissible, cost
from mpccomm.settings import Limits

if TYPE_CHECKING:
    from mpccomm.protocol.states import Cause

Buffer = bytes | bytearray | memoryview

_MOST_PARTS = MAX_FRAMES - 64
"""Each frame is one part of a batch or several; the rest is for what goes along."""
_TURNS = 4
"""So many large messages share the connection; those behind wait, or all of a long queue would end at the very last."""
_WORTH_CUTTING = 4096


class Outgoing:
    """A message on its way; `address` says under which id, before it is sent."""

    __slots__ = (
        "_starts",
        "awaited",
        "body",
        "cost",
        "delivered",
        "failure",
        "key",
        "name",
        "number",
        "ordered",
        "segments",
        "sent",
        "total",
    )

    key: Key
    name: tuple[int, bytes]
    cost: int

    def __init__(self, segments: Sequence[Buffer], *, ordered: bool, awaited: bool) -> None:
        self.ordered = ordered
        self.awaited = awaited
        self.segments = len(segments)
        self.body: tuple[Buffer, ...] = tuple(segments)
        self._starts: list[int] | None = None
        if self.segments == 1:
            self.total = len(segments[0])
        else:
            lengths = [len(segment) for segment in segments]
            self.body = (pack(f"!{self.segments}Q", *lengths), *segments)
            self._starts = [0, *accumulate(map(len, self.body))]
            self.total = self._starts[-1]
        self.number = -1
        self.sent = 0
        self.delivered = False
        self.failure: Cause | None = None

    def address(self, key: Key) -> None:
        """Set the id that it goes under."""
        self.key = key
        self.name = encode_key(key)
        self.cost = cost(self.total, self.segments, len(self.name[1]))

    def done(self) -> None:
        """To be called by the owner of the link once it is acknowledged, or ``failure`` is set."""

    def slices(self, start: int, end: int) -> Sequence[Buffer]:
        """The bytes of the body from ``start`` to ``end``, in place."""
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
        """Give the contents up, and keep the place in the order: where its number is missing, those behind would slip."""
        self.body = (b"",)
        self._starts = None
        self.segments = 1
        self.total = 0
        self.cost = cost(0, 1, len(self.name[1]))

    def detach(self) -> None:
        """Copy what the caller could change: it won't wait for the acknowledgement any more."""
        self.body = tuple(part if isinstance(part, bytes) else bytes(part) for part in self.body)
        self.awaited = False


class Sent(NamedTuple):
    """A frame that was sent at least once: its place, which bytes of which message it carries, and how many that makes."""

    seq: int
    message: Outgoing
    start: int
    end: int
    begins: bool
    weight: int


class Sender:
    """Queue, messages under way, and the log of what is not acknowledged yet."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self.last_seq = 0
        self.acknowledged = 0
        self.consumed_bytes = 0
        self.consumed_messages = 0
        self.bounds = bounds_of(limits)
        """What the other side takes; until it says so, what we would."""
        self.refused: list[Outgoing] = []
        """Messages that turned out to exceed that."""
        self._numbers: dict[str, int] = {}
        self._begun_bytes = 0
        self._begun = 0
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._under_way: deque[Outgoing] = deque()
        self._log: deque[Sent] = deque()
        self._in_flight = 0

    # -- the program's side --------------------------------------------------------------------------------------------

    def next_key(self, prefix: str) -> Key:
        """The id of a message that was given none."""
        number = self._numbers.get(prefix, 0)
        self._numbers[prefix] = number + 1
        return prefix, number

    def forget_numbers(self) -> None:
        """Count anew, the other side doing the same."""
        self._numbers.clear()

    def add(self, message: Outgoing) -> None:
        """Queue a message. From here on it can't be withdrawn."""
        self._queue.append(message)
        self._queued_bytes += message.total

    def pending(self) -> Iterator[Outgoing]:
        """Every message that is not acknowledged yet, in the order sent."""
        last: Outgoing | None = None
        seen = set()
        for sent in self._log:
            if sent.message is not last and id(sent.message) not in seen:
                last = sent.message
                seen.add(id(last))
                yield last
        for message in self._under_way:
            if id(message) not in seen:
                yield message
        yield from self._queue

    @property
    def idle(self) -> bool:
        """Everything was acknowledged."""
        return not (self._log or self._queue or self._under_way)

    @property
    def unacknowledged(self) -> bool:
        """Something is on its way."""
        return bool(self._log)

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged, with those that frames cost."""
        return self._in_flight

    @property
    def partial(self) -> Iterable[Outgoing]:
        """The messages of which a part was sent, and a part was not."""
        return self._under_way

    @property
    def held_back(self) -> bool:
        """The next message does not fit into the other side's box."""
        return bool(self._queue) and not self._fits(self._queue[0])

    def queued(self) -> tuple[int, int]:
        """Messages, and their bytes, that have not begun."""
        return len(self._queue), self._queued_bytes

    def queued_ids(self, most: int) -> tuple[Key, ...]:
        """The ids of the first messages that have not begun."""
        return some_ids(message.key for message in islice(self._queue, most))

    def waiting(self) -> list[Outgoing]:
        """The messages that have not begun, and that a program stands still for."""
        return [message for message in self._queue if message.awaited]

    def anyone_waits(self) -> bool:
        """Whether a program stands still until one of the messages that have not begun is delivered."""
        return any(message.awaited for message in self._queue)

    # -- the wire's side -----------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether `fill` may find something to send."""
        return bool(self._queue or self._under_way)

    def fill(self, parts: list[Buffer], budget: int) -> int:
        """Append new frames to a batch, of at most ``budget`` bytes together. Returns the bytes used."""
        used = self._begin(parts, budget // 2 if self._under_way else budget)
        while self._under_way and self._in_flight < self._limits.window:
            room = budget - used - PART_OVERHEAD
            if room < _WORTH_CUTTING and used:
                break
            message = self._under_way[0]
            end = min(message.total, message.sent + max(room, 1))
            used += self._cut(parts, message, end, False, PART_OVERHEAD)
            if end == message.total:
                self._under_way.popleft()
            elif len(self._under_way) > 1:
                # The next of the first few.
                del self._under_way[0]
                self._under_way.insert(_TURNS - 1, message)
        return used

    def _begin(self, parts: list[Buffer], budget: int) -> int:
        used = 0
        while self._queue and self._in_flight < self._limits.window and len(parts) < _MOST_PARTS:
            message = self._queue[0]
            if not self._acceptable(message) and self._refuse(message):
                continue
            if not self._fits(message):
                break
            overhead = START_OVERHEAD + len(message.name[1])
            room = budget - used - overhead
            whole = message.total <= room or not message.total
            if not whole and room < _WORTH_CUTTING and used:
                break
            self._queue.popleft()
            self._queued_bytes -= message.total
            message.number = self._begun
            self._begun += 1
            self._begun_bytes += message.cost
            if whole:
                end = message.total
            else:
                # Only announced where others are under way already; its pieces take their turns.
                end = 0 if self._under_way else max(room, 0)
                self._under_way.append(message)
            used += self._cut(parts, message, end, True, overhead)
        return used

    def _acceptable(self, message: Outgoing) -> bool:
        bounds = self.bounds
        return (
            message.total <= bounds.max_message_size
            and message.segments <= bounds.max_segments
            and len(message.name[1]) <= bounds.max_id_size
        )

    def _refuse(self, message: Outgoing) -> bool:
        """It can't be sent as it is. True: nor can an empty one in its place, and it is out of the queue."""
        self._queued_bytes -= message.total
        message.empty()
        if message.failure is None:
            self.refused.append(message)
        if len(message.name[1]) <= self.bounds.max_id_size:
            return False
        self._queue.popleft()
        return True

    def _fits(self, message: Outgoing) -> bool:
        bounds = self.bounds
        return admissible(
            message.cost,
            self._begun - self.consumed_messages,
            self._begun_bytes - self.consumed_bytes,
            bounds.box_messages,
            bounds.box_bytes,
        )

    def _cut(self, parts: list[Buffer], message: Outgoing, end: int, begins: bool, overhead: int) -> int:
        self.last_seq += 1
        weight = overhead + end - message.sent
        sent = Sent(self.last_seq, message, message.sent, end, begins, weight)
        self._log.append(sent)
        self._in_flight += weight
        message.sent = end
        _write(parts, sent)
        return weight

    def rewind(self, received: int) -> deque[Sent]:
        """What has to be sent again over a connection whose other end holds everything up to frame ``received``."""
        return deque(sent for sent in self._log if sent.seq > received)

    def refill(self, parts: list[Buffer], again: deque[Sent], budget: int) -> int:
        """Append frames that were sent before, from the left of ``again``. Returns the bytes used."""
        used = 0
        while again and (not used or used + again[0].weight <= budget) and len(parts) < _MOST_PARTS:
            sent = again.popleft()
            if sent.seq > self.acknowledged:
                _write(parts, sent)
                used += sent.weight
                self._counters.resent += 1
        return used

    def check(self, received: int) -> None:
        """The other side can't have received more than was sent."""
        if received > self.last_seq:
            raise ViolationError(f"frame {received} was received, it says; {self.last_seq} were sent")

    def acknowledge(self, received: int) -> list[Outgoing]:
        """The other side holds everything up to frame ``received``. Returns the messages that are delivered by that."""
        delivered: list[Outgoing] = []
        if received <= self.acknowledged:
            return delivered
        self.check(received)
        self.acknowledged = received
        log = self._log
        while log and log[0].seq <= received:
            _, message, _, end, _, weight = log.popleft()
            self._in_flight -= weight
            if end == message.total:
                message.delivered = True
                delivered.append(message)
        return delivered

    def make_room(self, consumed_bytes: int, consumed_messages: int) -> None:
        """The other side's program has taken so much since the beginning."""
        if consumed_messages > self._begun or consumed_bytes > self._begun_bytes:
            raise ViolationError(f"{consumed_messages} messages were taken, it says; {self._begun} were sent")
        # Of two connections one may bring older news than the other.
        if consumed_bytes > self.consumed_bytes:
            self.consumed_bytes = consumed_bytes
        if consumed_messages > self.consumed_messages:
            self.consumed_messages = consumed_messages


def bounds_of(limits: Limits) -> Bounds:
    """What a HELLO says about these limits."""
    return Bounds(
        limits.box_bytes,
        limits.box_messages,
        limits.max_message_size,
        limits.max_segments,
        min(limits.max_id_size, MAX_NAME),
    )


def _write(parts: list[Buffer], sent: Sent) -> None:
    seq, message, start, end, begins, _ = sent
    if begins:
        head = start_head(seq, message.name, message.ordered, message.segments, message.total, end)
    else:
        head = part_head(seq, message.number, end - start)
    parts.append(head)
    parts += message.slices(start, end)
