"""What a trace notes of each message: a row of what is known of it anyway.

A `Party` has a trail while a trace runs. What ends a send or a receive appends a row of objects that are there, right where it
ends, without a call of a function of ours: that, or to write them as bytes, would take longer than all the rest. A portion of rows
is packed at a stroke, and then takes about 40 bytes each; a portion is so small that what is kept until then does not set off
the garbage collector. Rows of messages whose coding took its time are longer.

When a message or an acknowledgement arrived is known by the batch that brought it. What belongs to what (which wait was for which
message) is found out when the record is made, in `mpccomm.engine.notes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import ormsgpack

from mpccomm.protocol.frames import Key

AT_A_STROKE = 1024
"""What has no more bytes, and no classes of the program in it, is coded so fast that one look at the clock is enough. A `PlainSend`
is encoded by the time it is noted, whatever its size."""
PORTION = 100
"""The rows that are packed together."""

Called: TypeAlias = tuple[int, float] | tuple[int, float, float, bool]
"""Of a send its lane, when it was called, when it was encoded (0: about then), and whether the call waited (left out: so it is)."""


class SentNote(NamedTuple):
    """A message that was delivered."""

    number: int
    """How many began before it."""
    size: int
    key: Key
    called: Called
    delivered: float


class ReceivedNote(NamedTuple):
    """A message that the program got."""

    number: int
    size: int
    key: Key
    lane: int
    since: float
    """Since when it was waited for."""
    arrived: float
    begun: float
    """When decoding began."""
    ended: float = 0.0
    """When decoding had ended; 0: about when it began."""
    of_future: bool = False


class Rows(Protocol):
    """Where rows go: a list, or what stands for one."""

    def append(self, row: tuple[Any, ...], /) -> None:
        """Add one."""

    def __len__(self) -> int:
        """Return how many are to be packed."""


class Book:
    """The notes of what one process of a party, the ``peer``, has sent and received."""

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.sent: list[tuple[Any, ...]] = []
        """The rows that are not packed yet, as `SentNote`."""
        self.received: list[tuple[Any, ...]] = []
        """Likewise, as `ReceivedNote`."""
        self._sent: list[bytes] = []
        self._received: list[bytes] = []
        self._packed = 0

    def __len__(self) -> int:
        return self._packed + len(self.sent) + len(self.received)

    def pack(self) -> None:
        """Pack the rows that are here. Called on the pool's loop; they may be read, and others added, from any thread."""
        for rows, packed in ((self.sent, self._sent), (self.received, self._received)):
            portion = rows[:]
            if portion:
                # In this order a row is there twice for a moment, and never missing.
                packed.append(ormsgpack.packb(portion))
                self._packed += len(portion)
                del rows[: len(portion)]

    def sends(self) -> Iterator[SentNote]:
        """Yield the notes of what was sent. One may come twice."""
        for number, size, key, called, delivered in _all(self.sent, self._sent):
            yield SentNote(number, size, _key(key), tuple(called), delivered)

    def receives(self) -> Iterator[ReceivedNote]:
        """Yield those of what was received, likewise."""
        for number, size, key, *others in _all(self.received, self._received):
            yield ReceivedNote(number, size, _key(key), *others)


def _all(rows: list[tuple[Any, ...]], packed: list[bytes]) -> Iterator[Any]:
    here = rows[:]
    for portion in packed[:]:
        yield from ormsgpack.unpackb(portion)
    yield from here


def _key(key: Any) -> Key:
    return key if isinstance(key, str) else (key[0], key[1])


class Trail:
    """Where the notes of messages with one party go, in one record."""

    __slots__ = ("_book", "received", "sent")

    sent: Rows
    """Takes a row for each message that was delivered: number, size, id, ``called``, and when that was."""
    received: Rows
    """Takes one for each that the program got, with the fields of a `ReceivedNote`."""

    def turn_to(self, book: Book) -> None:
        """From now on the notes go there."""
        self.sent, self.received, self._book = book.sent, book.received, book

    def end(self, instead: Rows) -> None:
        """From now on they go there, to be counted."""
        self.sent = self.received = instead

    def pack(self) -> None:
        """Pack a portion. Called on the pool's loop."""
        self._book.pack()


class _Several:
    """Takes the place of the rows of several records."""

    def __init__(self, trails: tuple[Trail, ...], which: str) -> None:
        self._trails = trails
        self._which = which

    def append(self, row: tuple[Any, ...], /) -> None:
        for trail in self._trails:
            getattr(trail, self._which).append(row)

    def __len__(self) -> int:
        return max(len(getattr(trail, self._which)) for trail in self._trails)


class Fork:
    """The trails of several records, as one."""

    def __init__(self, trails: tuple[Trail, ...]) -> None:
        self.trails = trails
        self.sent: Rows = _Several(trails, "sent")
        self.received: Rows = _Several(trails, "received")

    def pack(self) -> None:
        """Pack a portion of each."""
        for trail in self.trails:
            trail.pack()


def joined(present: Trail | Fork | None, further: Trail) -> Trail | Fork:
    """Return what takes notes for one record more."""
    return Fork((*_single(present), further)) if present else further


def without(present: Trail | Fork | None, former: Trail) -> Trail | Fork | None:
    """Return what takes them for one less; None: there is no other."""
    left = tuple(trail for trail in _single(present) if trail is not former)
    return Fork(left) if len(left) > 1 else left[0] if left else None


def _single(present: Trail | Fork | None) -> tuple[Trail, ...]:
    if present is None:
        return ()
    return present.trails if isinstance(present, Fork) else (present,)
