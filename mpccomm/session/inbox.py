"""The receiving half of a link: in order, each frame once, bounded; frames become messages."""

from __future__ import annotations

import mmap
from bisect import insort
from collections.abc import Iterable
from struct import unpack

from mpccomm.session.frames import Key, Part, Start, ViolationError
from mpccomm.settings import Limits

_LENGTH = 8
_SEGMENT_COST = 256


class Incoming:
    """A message on its arrival. Its body: a table of segment lengths (where there are several), then the segments."""

    __slots__ = (
        "_at",
        "_free",
        "_limits",
        "_missing",
        "_table",
        "complete",
        "consumed",
        "cost",
        "key",
        "number",
        "ordered",
        "segments",
        "seq",
        "total",
    )

    def __init__(self, start: Start, number: int, limits: Limits) -> None:
        self.key: Key = start.key
        self.number = number
        self.ordered = start.ordered
        self.total = start.total
        self.consumed = False
        self.cost = cost(start.total, start.segments)
        self.seq = start.seq
        self.segments: list[bytes | memoryview] = []
        if start.segments == 1 and len(start.data) == start.total:
            # Nearly every message. Copied, because the batch would be kept in memory by the smallest piece of it.
            self.segments.append(bytes(start.data))
            self.complete = True
            return
        self.complete = False
        self._limits = limits
        self._missing = start.total
        self._at = 0
        self._free = memoryview(b"")
        self._table: memoryview | None = None
        if start.segments > 1:
            if start.segments > limits.max_segments or start.segments * _LENGTH > start.total:
                raise ViolationError(f"a message of {start.total} bytes in {start.segments} segments")
            # A bytearray costs memory at once, so the table comes into being with the first byte of it.
            self._table = _allocate(start.segments * _LENGTH, limits)
            self._free = self._table
        self.write(start.seq, start.data)

    def write(self, seq: int, data: memoryview) -> None:
        """The next bytes of the body. Sets ``complete`` with the last one."""
        if len(data) > self._missing:
            raise ViolationError(f"message {self.number} is longer than the {self.total} bytes it announced")
        self.seq = seq
        if not self.segments and self._table is None and (data or not self.total):
            self._add_segments((self.total,))
        self._missing -= len(data)
        while data:
            size = min(len(data), len(self._free))
            self._free[:size] = data[:size]
            self._free = self._free[size:]
            data = data[size:]
            if not self._free:
                self._next_segment()
        self.complete = not self._missing and (self._table is None)
        if self.complete:
            self._free = memoryview(b"")

    def _next_segment(self) -> None:
        if self._table is not None:
            lengths = unpack(f"!{len(self._table) // _LENGTH}Q", self._table)
            if sum(lengths) + len(self._table) != self.total:
                raise ViolationError(f"the segments of message {self.number} don't add up to its {self.total} bytes")
            self._table = None
            self._add_segments(lengths)
            return
        self._at += 1
        while self._at < len(self.segments) and not self.segments[self._at]:
            self._at += 1
        self._free = memoryview(self.segments[self._at]) if self._at < len(self.segments) else memoryview(b"")

    def _add_segments(self, lengths: Iterable[int]) -> None:
        self.segments = [_allocate(length, self._limits) for length in lengths]
        self._at = -1
        self._next_segment()


def _allocate(size: int, limits: Limits) -> memoryview:
    """Writable memory. A large piece is mapped: it costs nothing before it is written, nor does a lie about its size."""
    if size < limits.mapped_segment:
        return memoryview(bytearray(size))
    try:
        return memoryview(mmap.mmap(-1, size))
    except OSError as error:
        raise ViolationError(f"no memory for a segment of {size} bytes: {error}") from error


class Inbox:
    """Position, partial messages, and how much the program has taken. The other side's `Outbox` mirrors it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.received = 0
        self.duplicates = 0
        self.consumed_bytes = 0
        self.consumed_messages = 0
        self._started_bytes = 0
        self._started = 0
        self._partial: dict[int, Incoming] = {}
        self._held: list[int] = []

    @property
    def acknowledged(self) -> int:
        """Up to here the other side may forget: all received, except what is still being handed over."""
        return self._held[0] - 1 if self._held else self.received

    @property
    def outstanding_messages(self) -> int:
        """Messages begun and not yet taken by the program."""
        return self._started - self.consumed_messages

    @property
    def outstanding_bytes(self) -> int:
        return self._started_bytes - self.consumed_bytes

    def start(self, frame: Start) -> Incoming | None:
        """A message begins. None: this frame was here before."""
        if not self._in_turn(frame.seq):
            return None
        size = self._admit(frame)
        message = Incoming(frame, self._started, self._limits)
        self.received = frame.seq
        self._started += 1
        self._started_bytes += size
        if not message.complete:
            self._partial[message.number] = message
        return message

    def part(self, frame: Part) -> Incoming | None:
        """A message goes on. None: this frame was here before."""
        if not self._in_turn(frame.seq):
            return None
        message = self._partial.get(frame.number)
        if message is None:
            raise ViolationError(f"a piece of message {frame.number}, which is not under way")
        message.write(frame.seq, frame.data)
        self.received = frame.seq
        if message.complete:
            del self._partial[frame.number]
        return message

    def consume(self, message: Incoming) -> None:
        """The program has taken this message: there is room for others. One that was put back and taken again counts once."""
        if message.consumed:
            return
        message.consumed = True
        self.consumed_bytes += message.cost
        self.consumed_messages += 1

    def hold(self, message: Incoming) -> None:
        """Don't acknowledge this message, nor what follows it, until `settle`."""
        insort(self._held, message.seq)

    def settle(self, message: Incoming) -> None:
        self._held.remove(message.seq)

    def _in_turn(self, seq: int) -> bool:
        if seq <= self.received:
            self.duplicates += 1
            return False
        if seq != self.received + 1:
            raise ViolationError(f"frame {seq} follows frame {self.received}")
        return True

    def _admit(self, frame: Start) -> int:
        limits = self._limits
        if frame.total > limits.max_message_size:
            raise ViolationError(f"a message of {frame.total} bytes, where {limits.max_message_size} are the limit")
        size = cost(frame.total, frame.segments)
        if not admissible(
            size, self.outstanding_messages, self.outstanding_bytes, limits.box_messages, limits.box_bytes
        ):
            raise ViolationError(f"a message of {frame.total} bytes into a full box ({self.outstanding_bytes} bytes)")
        return size


def cost(total: int, segments: int) -> int:
    """What a message counts for in a box: its bytes, and the objects that hold its segments."""
    return total + segments * _SEGMENT_COST


def admissible(size: int, messages: int, held: int, box_messages: int, box_bytes: int) -> bool:
    """Whether a message of this cost fits into a box that holds so much: both ends of a link count with this one rule.

    Into an empty box everything fits, otherwise a message larger than the box would never get through.
    """
    return messages == 0 or (messages < box_messages and held + size <= box_bytes)
