"""The receiving half of a link: in order, each frame once, bounded; frames become messages."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from struct import iter_unpack

from mpccomm.memory import Memory, Segment, reserve
from mpccomm.protocol.box import Box, cost, id_cost
from mpccomm.protocol.frames import Key, Part, Start, ViolationError
from mpccomm.settings import Limits

FREE_SEGMENTS = 1024
SHORTEST_SEGMENT = 1024
"""Segments behind the first `FREE_SEGMENTS` have at least this many bytes each, so that a batch brings few of them."""
_LENGTH = 8
_BROKEN = -1
"""Stands for the number of missing bytes in a message whose writing an error has interrupted: it takes no more."""


class Incoming:
    """A message that has arrived as a whole."""

    outcome: tuple[object, BaseException | None] | None
    """The value, or the error, where it was decoded before it was asked for."""
    at = -1.0
    """When its last piece arrived, by the clock that the link is told; negative: that is unknown."""
    arrival = 0
    """Its place in the order of arrival among the messages of all parties that went into a mailbox."""
    annotation = b""
    """The annotation that came with it, for observers; empty: none."""
    told = False
    """Whether observers know that the program has it."""
    recorded = 0
    """Whether it is in the record of received messages, where it is not repeated after it was put back."""

    def __init__(
        self,
        receiver: Receiver,
        key: Key,
        number: int,
        seq: int,
        total: int,
        cost: int,
        segments: list[Segment],
    ) -> None:
        # Attributes that are read for every message are set in the instance: those of the class take longer to find.
        self.complete = True
        self.ordered = False
        self.consumed = False
        """Whether it was taken at least once."""
        self.outcome = None
        self.segments = segments
        self.receiver = receiver
        self.key = key
        self.number = number
        """The number of messages that began before it."""
        self.seq = seq
        """Its last frame so far."""
        self.total = total
        self.cost = cost

    @property
    def written(self) -> int:
        """How many bytes of the body are here."""
        return self.total


class Arriving(Incoming):
    """A message whose body comes in pieces: a table of segment lengths (where there are several), then the segments.

    Memory is taken as bytes arrive, whatever lengths were announced: a short segment grows, a large one gets memory that costs
    nothing before it is written. The first segment of a complete message is bytes: a decoder reads it, and nothing else.
    """

    def __init__(self, receiver: Receiver, number: int, start: Start, cost: int, limits: Limits) -> None:
        super().__init__(receiver, start.key, number, start.seq, start.total, cost, [])
        self.ordered = start.ordered
        if start.annotation:
            self.annotation = start.annotation
        self.complete = False
        self._large = limits.mapped_segment
        self._missing = self._unassigned = start.total
        """The bytes that have not arrived, and the bytes of segments that have not begun."""
        self._left = 0
        """The missing bytes of the segment (or the table) that is being written."""
        self._memory = Memory()
        """That of the table, or of the segment that is being written."""
        self._in_table = start.segments > 1
        self._sizes: Iterator[tuple[int, ...]] = iter(((start.total,),))
        self._begun = 0
        if self._in_table:
            self._left = start.segments * _LENGTH
            if start.segments > limits.max_segments or self._left > start.total:
                raise ViolationError(f"a message of {start.total:,} bytes in {start.segments:,} segments")
            self._unassigned -= self._left
        self.write(start.seq, start.data)

    @property
    def written(self) -> int:
        """How many bytes of the body are here."""
        return self.total - max(self._missing, 0)

    def write(self, seq: int, data: memoryview) -> None:
        """Take the next bytes of the body. Sets ``complete`` with the last one."""
        if len(data) > self._missing:
            raise ViolationError(f"message {self.number} is longer than the {self.total:,} bytes it announced")
        self.seq = seq
        missing, self._missing = self._missing - len(data), _BROKEN
        while data:
            if not self._left and not self._next_segment():
                raise ViolationError(f"the segments of message {self.number} don't add up to its {self.total:,} bytes")
            size = min(len(data), self._left)
            self._left -= size
            try:
                self._memory.write(data[:size])
                if not self._left:
                    self._memory.trim()
            except MemoryError as error:
                raise self._no_memory() from error
            data = data[size:]
        if not missing:
            self._next_segment()  # what is left has no bytes
            self.segments[0] = bytes(self.segments[0])
            self.complete = True
        self._missing = missing

    def _next_segment(self) -> bool:
        """Begin the next segment that has bytes. False: there is none."""
        if self._in_table:
            self._in_table = False
            self._sizes = iter_unpack("!Q", bytes(self._memory))
        for (size,) in self._sizes:
            self._begun += 1
            if size > self._unassigned or (self._begun > FREE_SEGMENTS and size < SHORTEST_SEGMENT):
                raise ViolationError(
                    f"a segment of {size:,} bytes in message {self.number}, {self._unassigned:,} are left"
                )
            self._unassigned -= size
            self._left = size
            self._memory = self._take_memory(size)
            self.segments.append(self._memory)
            if size:
                return True
        return False

    def _take_memory(self, size: int) -> Memory:
        try:
            return reserve(size) if size >= self._large else Memory()
        except (MemoryError, OverflowError) as error:
            raise self._no_memory() from error

    def _no_memory(self) -> ViolationError:
        return ViolationError(f"no memory for a message of {self.total:,} bytes")


class DecodeOrder:
    """Keeps each *ordered* message from being taken until those that were sent before it are complete.

    They have to be decoded in the order in which they were sent, whatever order their last bytes arrive in.
    """

    def __init__(self) -> None:
        self._begun: deque[Incoming] = deque()
        self._whole: set[Incoming] = set()
        self.undecoded: deque[Incoming] = deque()
        """The messages that may be decoded, in order. Before one is decoded, those before it are, and are removed."""

    def begin(self, message: Incoming) -> None:
        """Note that the first frame of an ordered message is here."""
        self._begun.append(message)

    def arrive(self, message: Incoming) -> list[Incoming]:
        """Note that the last frame of an ordered message is here. Return the messages that may be taken from now on."""
        message.complete = False
        self._whole.add(message)
        ready = []
        while self._begun and self._begun[0] in self._whole:
            ready.append(self._admit(self._begun.popleft()))
        return ready

    def forget_partial(self) -> list[Incoming]:
        """Give up the messages that never will be complete. Return those that may be taken from now on."""
        ready = [self._admit(message) for message in self._begun if message in self._whole]
        self._begun.clear()
        return ready

    def _admit(self, message: Incoming) -> Incoming:
        self._whole.discard(message)
        message.complete = True
        self.undecoded.append(message)
        return message


class Receiver:
    """Position, partial messages, and the box. The other side's `Sender` mirrors it."""

    def __init__(self, limits: Limits, conversation: int = 0) -> None:
        """Begin a conversation; ``conversation`` is how many with this party there were before."""
        self._limits = limits
        self.conversation = conversation
        self.received = 0
        """The number of the frame up to which everything is here."""
        self.now = -1.0
        """When the last batch arrived."""
        self.duplicates = 0
        self.decode_order = DecodeOrder()
        self.box = Box(limits.box_messages, limits.box_bytes)
        self.admitted = -1
        """The number of the message that may begin even if it does not fit, see `Admit`: as many began before it."""
        self.held: list[int] = []
        """The frames of messages that are being handed over: see `hold`."""
        self.told = 0
        """The number of the frame up to which everything was acknowledged to the other side, which can't be taken back."""
        self._partial: dict[int, Arriving] = {}

    @property
    def acknowledged(self) -> int:
        """The number of the frame up to which the other side may forget: all received, but nothing that is on hold."""
        return self.held[0] - 1 if self.held else self.received

    @property
    def partial(self) -> Sequence[Incoming]:
        """The messages of which a part is here, and a part is not. Any thread may ask."""
        return list(self._partial.values())

    def start(self, frame: Start) -> Incoming | None:
        """Begin a message. None: this frame was here before."""
        if frame.seq != self.received + 1:
            self.repeated(frame.seq)
            return None
        size = cost(frame.total, frame.segments, id_cost(frame.key, frame.id_size))
        box = self.box
        self.check_room(frame.total, size)
        message = Arriving(self, box.begun, frame, size, self._limits)
        box.begin(size)
        self.received = frame.seq
        message.at = self.now
        if not message.complete:
            self._partial[message.number] = message
        return message

    def check_room(self, total: int, cost: int) -> None:
        """Refuse a message that is too large, or does not fit into the box; unless it was admitted nevertheless."""
        limit = self._limits.max_message_size
        if total > limit:
            raise ViolationError(f"a message of {total:,} bytes, where {limit:,} are the limit")
        if not self.box.fits(cost) and self.box.begun != self.admitted:
            raise ViolationError(f"a message of {total:,} bytes into a full box ({self.box.bytes:,} bytes)")

    def part(self, frame: Part) -> Incoming | None:
        """Go on with a message. None: this frame was here before."""
        seq, number, data = frame
        if seq != self.received + 1:
            self.repeated(seq)
            return None
        message = self._partial.get(number)
        if message is None:
            raise ViolationError(f"a piece of message {number}, which is not under way")
        message.write(seq, data)
        message.at = self.now
        self.received = seq
        if message.complete:
            del self._partial[number]
        return message

    def forget_partial(self) -> None:
        """Drop the messages under way, which will never be complete."""
        self._partial.clear()

    def hold(self, message: Incoming) -> None:
        """Don't acknowledge this message, nor what follows it, until `settle`; unless it was acknowledged before."""
        receiver = message.receiver
        if message.seq > receiver.told:
            insort(receiver.held, message.seq)

    def settle(self, message: Incoming) -> None:
        """Release a message that was on hold. To be called once for each `hold`."""
        receiver = message.receiver
        if message.seq > receiver.told:
            receiver.held.remove(message.seq)

    def repeated(self, seq: int) -> None:
        """Check that a frame which is not the next one was here before; raise `ViolationError` otherwise."""
        if seq > self.received:
            raise ViolationError(f"frame {seq} follows frame {self.received}")
        self.duplicates += 1
