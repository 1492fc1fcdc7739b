"""The box of a receiver, as both ends of a link count it: what has begun to arrive, and what the program has taken out."""

from __future__ import annotations

from mpccomm.protocol.frames import Key, ViolationError

_MESSAGE_COST = 1024
_SEGMENT_COST = 512
WHOLE_COST = _MESSAGE_COST + _SEGMENT_COST
"""What a message of one segment costs in addition to its bytes and those of its id."""


class Box:
    """Counts since the beginning of a conversation. The sender's begin when it sends, the receiver's when something arrives."""

    __slots__ = ("begun", "begun_bytes", "most_bytes", "most_messages", "taken", "taken_bytes")

    def __init__(self, most_messages: int = 0, most_bytes: int = 0) -> None:
        self.most_messages = most_messages
        self.most_bytes = most_bytes
        self.begun = 0
        self.begun_bytes = 0
        self.taken = 0
        self.taken_bytes = 0

    @property
    def messages(self) -> int:
        """The number of messages that have begun and were not taken."""
        return self.begun - self.taken

    @property
    def bytes(self) -> int:
        """What these messages cost."""
        return self.begun_bytes - self.taken_bytes

    @property
    def overdrawn(self) -> bool:
        """Whether more is in it than fits: a message that was asked for began, and then was not asked for any more."""
        there = self.messages
        return there > self.most_messages or (there > 1 and self.bytes > self.most_bytes)

    def fits(self, size: int) -> bool:
        """Return whether a message of this cost may begin.

        Into an empty box everything fits, otherwise a message larger than the box would never get through.
        """
        there = self.begun - self.taken
        return not there or (
            there < self.most_messages and self.begun_bytes - self.taken_bytes + size <= self.most_bytes
        )

    def admit(self, size: int) -> bool:
        """Begin a message of this cost. False: it does not fit, and nothing has changed."""
        there = self.begun - self.taken
        if there and (there >= self.most_messages or self.begun_bytes - self.taken_bytes + size > self.most_bytes):
            return False
        self.begun += 1
        self.begun_bytes += size
        return True

    def begin(self, size: int) -> None:
        """Begin a message of this cost even if it does not fit: it is asked for."""
        self.begun += 1
        self.begun_bytes += size

    def take(self, size: int) -> None:
        """Count a message of this cost as taken."""
        self.taken += 1
        self.taken_bytes += size

    def hear(self, taken_bytes: int, taken: int) -> bool:
        """Take over how much the other side's program has taken. False: that was known."""
        if taken > self.begun or taken_bytes > self.begun_bytes:
            raise ViolationError(f"{taken} messages were taken, it says; {self.begun} were sent")
        # Of two connections one may bring older news than the other.
        news = taken_bytes > self.taken_bytes or taken > self.taken
        if taken_bytes > self.taken_bytes:
            self.taken_bytes = taken_bytes
        if taken > self.taken:
            self.taken = taken
        return news


def id_cost(key: Key, id_size: int) -> int:
    """Return what an id of that many bytes counts for: one character beyond ASCII, and each may take four bytes."""
    text = key if isinstance(key, str) else key[0]
    return id_size if text.isascii() else 4 * id_size


def cost(total: int, segments: int, id_cost: int) -> int:
    """Return what a message counts for in a box: its bytes, those of its id, and the objects that it and its segments become."""
    return _MESSAGE_COST + total + id_cost + segments * _SEGMENT_COST
