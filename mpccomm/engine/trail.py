"""What a trace notes of each message: some numbers, written behind each other into memory.

A `Party` has a trail for each trace that runs. Nearly every message is short, and has an automatic id: its note is one line of
`note_sent` or `note_received`, written right where it ends, without a call of a function of ours. What such a call takes, and
what it takes to keep objects, of numbers too, is more than all the rest; so a line is packed at once, and nothing is kept. Any
other message has further columns, and a way of its own.

When a message or an acknowledgement arrived is known by the batch that brought it. What belongs to what (which wait was for which
message) is found out when the record is made, in `mpccomm.engine.notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import starmap
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

from mpccomm.protocol.frames import Key
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing

AT_A_STROKE = 1024
"""What has no more bytes, and no classes of the program in it, is coded so fast that one look at the clock is enough."""

_SENT, _RECEIVED = Struct("=qqqi?dd"), Struct("=qqqiddd")
_OTHER_SENT, _OTHER_RECEIVED = Struct("=qqqi?ddid"), Struct("=qqqidddid?")
pack_sent, pack_received = _SENT.pack, _RECEIVED.pack
_pack_other_sent, _pack_other_received = _OTHER_SENT.pack, _OTHER_RECEIVED.pack


Write: TypeAlias = Callable[[bytes], Any]


class SentNote(NamedTuple):
    """A message that was delivered."""

    number: int
    """How many began before it."""
    size: int
    place: int
    """The number in its id; -1: there is none."""
    lane: int
    awaited: bool
    """The call waited for it."""
    called: float
    delivered: float
    text: int = 0
    """That of its id, all of it or its prefix, by its place in the `Texts`."""
    encoded: float = 0.0
    """When it was encoded, and queued; 0: about when it was called."""


class ReceivedNote(NamedTuple):
    """A message that the program got."""

    number: int
    size: int
    place: int
    lane: int
    since: float
    """Since when it was waited for."""
    arrived: float
    begun: float
    """When decoding began."""
    text: int = 0
    ended: float = 0.0
    """When decoding had ended; 0: about when it began."""
    of_future: bool = False


class Texts(dict[str, int]):
    """The places of ids, or of their prefixes where they have numbers. That of those without is the first."""

    def __init__(self) -> None:
        super().__init__({"": 0})

    def __missing__(self, text: str) -> int:
        return self.setdefault(text, len(self))


class Book:
    """The notes of what one process of a party, the ``peer``, has sent and received."""

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.sent, self.received, self.other_sent, self.other_received = (BytesIO() for _ in range(4))

    def __len__(self) -> int:
        return (
            self.sent.tell() // _SENT.size
            + self.received.tell() // _RECEIVED.size
            + self.other_sent.tell() // _OTHER_SENT.size
            + self.other_received.tell() // _OTHER_RECEIVED.size
        )

    def sends(self) -> Iterator[SentNote]:
        """Yield the notes of what was sent."""
        for struct, file in ((_SENT, self.sent), (_OTHER_SENT, self.other_sent)):
            yield from starmap(SentNote, struct.iter_unpack(file.getvalue()))

    def receives(self) -> Iterator[ReceivedNote]:
        """Yield those of what was received."""
        for struct, file in ((_RECEIVED, self.received), (_OTHER_RECEIVED, self.other_received)):
            yield from starmap(ReceivedNote, struct.iter_unpack(file.getvalue()))


class Trail:
    """Where the notes of messages with one party go, in one record."""

    __slots__ = ("_note_other_received", "_note_other_sent", "_texts", "note_received", "note_sent")

    note_sent: Write
    """Takes what `pack_sent` made of a short message with an automatic id."""
    note_received: Write
    """Takes what `pack_received` made of one that was not for a future."""
    _note_other_sent: Write
    _note_other_received: Write

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def turn_to(self, book: Book) -> None:
        """From now on the notes go there."""
        self.note_sent, self.note_received = book.sent.write, book.received.write
        self._note_other_sent, self._note_other_received = book.other_sent.write, book.other_received.write

    def end(self, note: Write) -> None:
        """From now on they go nowhere, but to be counted."""
        self.note_sent = self.note_received = self._note_other_sent = self._note_other_received = note

    def note_other_sent(self, message: Outgoing, delivered: float) -> None:
        """Note a message that is large, or has an id."""
        lane, called = message.called
        text, place = _parts(message.key)
        self._note_other_sent(
            _pack_other_sent(
                message.number, message.total, place, lane, message.awaited, called, delivered, self._texts[text], message.encoded
            )
        )  # fmt: skip

    def note_other_received(
        self, message: Incoming, lane: int, since: float, begun: float, ended: float, of_future: bool
    ) -> None:
        """Note a message that is large, has an id, or is for a future."""
        text, place = _parts(message.key)
        self._note_other_received(
            _pack_other_received(
                message.number, message.total, place, lane, since, message.at, begun, self._texts[text], ended, of_future
            )
        )  # fmt: skip


def _parts(key: Key) -> tuple[str, int]:
    return (key, -1) if isinstance(key, str) else key
