"""The receiving half of a link: in order, each frame once, bounded; frames become messages."""

from __future__ import annotations

import mmap
from bisect import insort
from collections.abc import Iterable
from contextlib import suppress
from struct import unpack

from mpccomm.protocol.frames import Key, Part, Start, ViolationError
from mpccomm.protocol.turns import Turns
from mpccomm.settings import Limits

_LENGTH = 8
_NOTHING = memoryview(b"")
_BROKEN = -1
"""Bytes that a message misses whose writing was interrupted by an error: it takes no more."""
_MESSAGE_COST = 1024
_SEGMENT_COST = 512


class Incoming:
    """A message on its arrival. Its body: a table of segment lengths (where there are several), then the segments."""

    __slots__ = (
        "_free",
        "_limits",
        "_missing",
        "_sizes",
        "_table",
        "complete",
        "consumed",
        "cost",
        "key",
        "number",
        "ordered",
        "outcome",
        "receiver",
        "recorded",
        "segments",
        "seq",
        "total",
    )

    def __init__(self, start: Start, number: int, limits: Limits, receiver: Receiver, cost: int) -> None:
        self.key: Key = start.key
        self.number = number
        self.ordered = start.ordered
        self.outcome: tuple[object, Exception | None] | None = None
        """What decoding it came to, value or error, where that was done before it was asked for."""
        self.recorded = False
        """Whoever keeps a record of what was received has it there, however often it is taken and put back."""
        self.total = start.total
        self.cost = cost
        self.seq = start.seq
        """Its last frame so far."""
        self.receiver = receiver
        self.consumed = False
        """It was taken at least once."""
        self.segments: list[bytes | memoryview] = []
        if start.segments == 1 and len(start.data) == start.total:
            # Nearly every message. Copied, because the batch would be kept in memory by the smallest piece of it.
            self.segments.append(bytes(start.data))
            self._missing = 0
            self.complete = True
            return
        self.complete = False
        self._limits = limits
        self._missing = start.total
        self._free = _NOTHING
        self._sizes = iter((start.total,))
        self._table: memoryview | None = None
        if start.segments > 1:
            size = start.segments * _LENGTH
            if start.segments > limits.max_segments or size > start.total:
                raise ViolationError(f"a message of {start.total} bytes in {start.segments} segments")
            self._free = self._table = _allocate(size, limits)
        self.write(start.seq, start.data)

    @property
    def written(self) -> int:
        """How many bytes of the body are here."""
        return self.total if self.complete else self.total - max(self._missing, 0)

    def write(self, seq: int, data: memoryview) -> None:
        """The next bytes of the body. Sets ``complete`` with the last one."""
        if len(data) > self._missing:
            raise ViolationError(f"message {self.number} is longer than the {self.total} bytes it announced")
        self.seq = seq
        missing, self._missing = self._missing - len(data), _BROKEN
        while data:
            if not self._free:
                self._next_segment()
            size = min(len(data), len(self._free))
            self._free[:size] = data[:size]
            self._free = self._free[size:]
            data = data[size:]
        if not missing:
            self._next_segment()  # what is left has no bytes
            self.complete = True
        self._missing = missing

    def _next_segment(self) -> None:
        if self._table is not None:
            lengths = unpack(f"!{len(self._table) // _LENGTH}Q", self._table)
            if sum(lengths) + len(self._table) != self.total:
                raise ViolationError(f"the segments of message {self.number} don't add up to its {self.total} bytes")
            self._sizes = iter(lengths)
            self._table = None
        # Only now: a table costs its sender little, and would cost us the sum of what it promises.
        for size in self._sizes:
            self._free = _allocate(size, self._limits)
            self.segments.append(self._free)
            if size:
                return
        self._free = _NOTHING


def _allocate(size: int, limits: Limits) -> memoryview:
    """Writable memory. A large piece is mapped: it costs nothing before it is written, nor does a lie about its size."""
    try:
        return memoryview(_map(size) if size >= max(limits.mapped_segment, 1) else bytearray(size))
    except (OSError, MemoryError, OverflowError) as error:
        raise ViolationError(f"no memory for a segment of {size} bytes: {error}") from error


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # Shared memory, the default, would be written by a forked process for both; and it takes far longer to come into being.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class Receiver:
    """Position, partial messages, and how much the program has taken. The other side's `Outbox` mirrors it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.received = 0
        self.duplicates = 0
        self.turns = Turns()
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
        """What they count for in the box, in bytes."""
        return self._started_bytes - self.consumed_bytes

    @property
    def partial(self) -> Iterable[Incoming]:
        """The messages of which a part is here, and a part is not."""
        return self._partial.values()

    def start(self, frame: Start) -> Incoming | None:
        """A message begins. None: this frame was here before."""
        if frame.seq != self.received + 1:
            self._repeated(frame.seq)
            return None
        limits = self._limits
        if frame.total > limits.max_message_size:
            raise ViolationError(f"a message of {frame.total} bytes, where {limits.max_message_size} are the limit")
        size = cost(frame.total, frame.segments, frame.id_size)
        messages, held = self._started - self.consumed_messages, self._started_bytes - self.consumed_bytes
        if not admissible(size, messages, held, limits.box_messages, limits.box_bytes):
            raise ViolationError(f"a message of {frame.total} bytes into a full box ({held} bytes)")
        message = Incoming(frame, self._started, limits, self, size)
        self.received = frame.seq
        self._started += 1
        self._started_bytes += size
        if not message.complete:
            self._partial[message.number] = message
        return message

    def part(self, frame: Part) -> Incoming | None:
        """A message goes on. None: this frame was here before."""
        if frame.seq != self.received + 1:
            self._repeated(frame.seq)
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

    def forget_partial(self) -> None:
        """The messages under way will never be complete."""
        self._partial.clear()

    def hold(self, message: Incoming) -> None:
        """Don't acknowledge this message, nor what follows it, until `settle`."""
        insort(message.receiver._held, message.seq)

    def settle(self, message: Incoming) -> None:
        """The message has been handed over. Each `hold` wants its own."""
        message.receiver._held.remove(message.seq)

    def _repeated(self, seq: int) -> None:
        if seq > self.received:
            raise ViolationError(f"frame {seq} follows frame {self.received}")
        self.duplicates += 1


def cost(total: int, segments: int, id_size: int) -> int:
    """What a message counts for in a box: its bytes, those of its id, and the objects that it and its segments become."""
    return _MESSAGE_COST + total + id_size + segments * _SEGMENT_COST


def admissible(size: int, messages: int, held: int, box_messages: int, box_bytes: int) -> bool:
    """Whether a message of this cost fits into a box that holds so much: both ends of a link count with this one rule.

    Into an empty box everything fits, otherwise a message larger than the box would never get through.
    """
    return messages == 0 or (messages < box_messages and held + size <= box_bytes)
