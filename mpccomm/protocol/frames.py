"""The wire format: kinds of frames, how they are written, and a strict parser. PROTOCOL.md says it in prose.

One message of the transport (a *batch*) is a head, which says what is held here and what was taken, and a run of frames.
Each of these is ``kind: u8, flags: u8, id_size: u16, size: u32`` and as many bytes as ``size`` says; integers are big-endian.
The parser checks every length against what is there and against the limits before it makes anything of that size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from itertools import islice
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

PROTOCOL_VERSION = 2
MAX_BATCH = 1024 * 1024
"""The largest batch that may be sent, in bytes."""
MAX_FRAMES = 2048
"""Most frames in a batch: however small they are, the receiver's loop has to be free again soon."""
TOO_MANY = f"more than {MAX_FRAMES} frames in a batch"
NO_PORT = 0

Key: TypeAlias = str | tuple[str, int]
"""The id of a message: the caller's string behind the prefix, or (prefix, automatic number). The two can't collide."""
AUTOMATIC_NUMBERS = 1 << 62
"""How many automatic numbers there are. Below 0 are those of messages that are left over from earlier conversations."""


class ViolationError(Exception):
    """Raised where the other side broke the protocol. The text is for our own log only."""


class Kind(IntEnum):
    """The kinds of frames, by their number on the wire."""

    HELLO = 1
    RESUME = 2
    MESSAGE = 3
    START = 4
    PART = 5
    PING = 6
    PONG = 7
    BLOCKED = 8
    DEADLOCK = 9
    GOODBYE = 10
    FAREWELL = 11
    ABORT = 12
    ADMIT = 13


POSITIONS = Struct("!QQQ")
"""The head of a batch: up to which frame everything is held; bytes and messages taken out of the box."""
_HEADER = Struct("!BBHI")
NUMBERED = Struct("!BBHIQQ")
WORDS = Struct("!IIQQ")
"""The same as `NUMBERED`, with kind, flags and size of the id in one number."""
_LARGE = Struct("!IQ")
_HELLO = Struct("!H16s16sHIQIQIH")
_RESUME = Struct("!16sQQQ")
_NUMBER = Struct("!Q")
_BLOCKED = Struct("!IQQQ")
_GOODBYE = Struct("!QQI")
_LISTED_ID = Struct("!BQH")
_SHORT = Struct("!H")

BATCH_HEAD = POSITIONS.size
HEADER_SIZE = _HEADER.size
MESSAGE_OVERHEAD = PART_OVERHEAD = NUMBERED.size
START_OVERHEAD = NUMBERED.size + _LARGE.size

NUMBERS = NUMBERED.size - _HEADER.size
"""What the numbers of a numbered frame count for in its size."""
MESSAGE = int(Kind.MESSAGE)
"""As what stands in a frame: an enumeration is slow to use as a number."""

NO_POSITIONS = bytes(BATCH_HEAD)
"""The head of a batch on a connection whose other end is not known yet."""

AUTOMATIC = 1
ORDERED = 2
ANNOTATED = 4
_KNOWN_FLAGS = AUTOMATIC | ORDERED | ANNOTATED

PLAIN = MESSAGE << 24 | AUTOMATIC << 16
"""The first of the `WORDS` of nearly every message: it has an automatic number, and nothing else."""

ANNOTATIONS = 1
"""The feature in a HELLO: annotations are understood."""
SUCCESSORS = 4
"""The feature in a HELLO: a GOODBYE may say that another process follows."""
VISIT = 2
"""The feature in a HELLO: this process has come to look, and takes no part."""
MAX_ANNOTATION = 63

MAX_LISTED_IDS = 32
MAX_LISTED_BYTES = 32 * 1024
MAX_REASON = 1024
MAX_NAME = 0xFFFF
"""Largest id on the wire, in bytes; its length has to fit into 16 bits."""
_LONGEST_SHOWN = 200


class Bounds(NamedTuple):
    """What a party takes: in its box together, and of a single message."""

    box_bytes: int
    box_messages: int
    max_message_size: int
    max_segments: int
    max_id_size: int


class Hello(NamedTuple):
    """Who is speaking, with which protocol and which bounds. The first frame in each direction."""

    version: int
    incarnation: bytes
    nonce: bytes
    port: int
    features: int
    bounds: Bounds


class Resume(NamedTuple):
    """Answer to a hello: its nonce as proof that this is no recording, and from where to go on (or: not yet)."""

    nonce: bytes
    accepted: bool
    received: int
    consumed_bytes: int
    consumed_messages: int


class Start(NamedTuple):
    """A message that is whole (MESSAGE), or the first frame of one (START) with as much of its body as fitted."""

    seq: int
    key: Key
    id_size: int
    ordered: bool
    segments: int
    total: int
    data: memoryview
    annotation: bytes = b""


class Part(NamedTuple):
    """A further piece of the message before which ``number`` others have begun."""

    seq: int
    number: int
    data: memoryview


class Ping(NamedTuple):
    """A question for a sign of life."""

    token: int


class Pong(NamedTuple):
    """The answer to the ping with this token."""

    token: int


class Blocked(NamedTuple):
    """The sender's messages don't fit into the receiver's box; ``begun`` have, and it last heard of ``consumed_messages``.

    A program may stand still until one of these messages is delivered (``awaited``), and nothing else in it go on (``alone``).
    """

    messages: int
    bytes: int
    begun: int
    consumed_messages: int
    awaited: bool
    alone: bool
    ids: tuple[Key, ...]


class Deadlock(NamedTuple):
    """The sender of this frame found that both sides wait for each other: ``mutual`` or behind a full box.

    ``final``: nothing in the programs goes on that could end it.
    """

    mutual: bool
    final: bool


class Goodbye(NamedTuple):
    """The pool shut down: its last frame, what it gave up delivering, what it never read; ``followed``: another one follows."""

    last_seq: int
    undelivered: int
    unread: int
    unread_ids: tuple[Key, ...]
    followed: bool = False


class Farewell(NamedTuple):
    """The answer to a goodbye."""


class Abort(NamedTuple):
    """The program gave up, for this reason."""

    reason: str


class Admit(NamedTuple):
    """The message before which ``number`` others began is asked for: it may begin whatever is in the box."""

    number: int


Frame: TypeAlias = Hello | Resume | Start | Part | Ping | Pong | Blocked | Deadlock | Goodbye | Farewell | Abort | Admit


def describe_key(key: Key) -> str:
    """Return how an id appears in logs and errors: on one line, and not longer than one can read."""
    if isinstance(key, str):
        call = _OF_A_GROUP.fullmatch(key)
        return _shown(repr(key) if call is None else _describe_call(*call.groups()))
    return _describe_number(*key)


def text_of_key(key: Key) -> str:
    """Return an id as other programs look for it: that of the caller as it is, others as in logs."""
    return key if isinstance(key, str) and not _OF_A_GROUP.fullmatch(key) else describe_key(key)


def _describe_number(prefix: str, number: int) -> str:
    return f"{_shown(prefix if prefix.isprintable() else repr(prefix))}#{number % AUTOMATIC_NUMBERS if number < 0 else number}"


_OF_A_GROUP = re.compile(r"((?:@\[[^]]*\])*)@\(([^()]*)\)(\w+) (\d+)(?: ([\w ]+))?")
"""The id of a message of a group: channels, members (or a digest of them), operation, number, and which of its rounds."""


def is_of_group(key: Key) -> bool:
    """Return whether a message belongs to a call of a group."""
    return isinstance(key, str) and _OF_A_GROUP.fullmatch(key) is not None


def members_of(key: Key) -> tuple[str, ...]:
    """Return the members of the group that a message belongs to; empty: it belongs to none, or its id has only a digest of them."""
    call = _OF_A_GROUP.fullmatch(key) if isinstance(key, str) else None
    return () if call is None or call[2].startswith("#") else tuple(call[2].split(","))


def _describe_call(channels: str, members: str, operation: str, number: str, phase: str | None) -> str:
    of = f"group {members}" if members.startswith("#") else f"({', '.join(members.split(','))})"
    text = f"{operation} #{number}{f' ({phase})' if phase else ''} of {of}{f' in {channels}' if channels else ''}"
    return text if text.isprintable() else repr(text)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# -- writing ----------------------------------------------------------------------------------------------------------


Name: TypeAlias = tuple[int, int, bytes]
"""An id in a frame: flags, automatic number, text."""


def encode_key(key: Key) -> Name:
    """Return an id as it stands in a frame."""
    if isinstance(key, str):
        return 0, 0, key.encode()
    prefix, number = key
    return AUTOMATIC, number, prefix.encode() if prefix else b""


def pack_annotation(text: bytes) -> bytes:
    """Return an annotation as it stands in a frame."""
    if not 0 < len(text) <= MAX_ANNOTATION:
        raise ValueError(f"an annotation of {len(text):,} bytes; it has 1 to {MAX_ANNOTATION}")
    return bytes((len(text),)) + text


def message_head(seq: int, name: Name, ordered: bool, size: int, annotation: bytes = b"") -> bytes:
    """Return everything of a MESSAGE before its ``size`` bytes of body; ``annotation`` as packed, empty for none."""
    flags, number, text = name
    if ordered:
        flags |= ORDERED
    if annotation:
        flags |= ANNOTATED
        length = len(text)
        size += len(annotation)
        return NUMBERED.pack(MESSAGE, flags, length, NUMBERS + length + size, seq, number) + text + annotation
    length = len(text)
    head = NUMBERED.pack(MESSAGE, flags, length, NUMBERS + length + size, seq, number)
    return head + text if text else head


def start_head(
    seq: int, name: Name, ordered: bool, segments: int, total: int, size: int, annotation: bytes = b""
) -> bytes:
    """Return everything of a START before its ``size`` bytes of body; ``annotation`` as packed, empty for none."""
    flags, number, text = name
    if ordered:
        flags |= ORDERED
    if annotation:
        flags |= ANNOTATED
        size += len(annotation)
    length = len(text)
    head = NUMBERED.pack(Kind.START, flags, length, START_OVERHEAD - HEADER_SIZE + length + size, seq, number)
    return head + _LARGE.pack(segments, total) + text + annotation


def part_head(seq: int, number: int, size: int) -> bytes:
    """Return everything of a PART before its ``size`` bytes of body."""
    return NUMBERED.pack(Kind.PART, 0, 0, NUMBERS + size, seq, number)


def hello(frame: Hello) -> bytes:
    """Return a HELLO."""
    return _frame(Kind.HELLO, _HELLO.pack(*frame[:5], *frame.bounds))


def resume(frame: Resume) -> bytes:
    """Return a RESUME."""
    return _frame(Kind.RESUME, _RESUME.pack(frame.nonce, *frame[2:]), frame.accepted)


def ping(token: int) -> bytes:
    """Return a PING."""
    return _frame(Kind.PING, _NUMBER.pack(token))


def pong(token: int) -> bytes:
    """Return a PONG."""
    return _frame(Kind.PONG, _NUMBER.pack(token))


def blocked(frame: Blocked) -> bytes:
    """Return a BLOCKED."""
    return _frame(Kind.BLOCKED, _BLOCKED.pack(*frame[:4]) + _pack_ids(frame.ids), frame.awaited | frame.alone << 1)


def deadlock(mutual: bool, final: bool) -> bytes:
    """Return a DEADLOCK."""
    return _frame(Kind.DEADLOCK, b"", mutual | final << 1)


def goodbye(frame: Goodbye) -> bytes:
    """Return a GOODBYE."""
    return _frame(Kind.GOODBYE, _GOODBYE.pack(*frame[:3]) + _pack_ids(frame.unread_ids), frame.followed)


def farewell() -> bytes:
    """Return a FAREWELL."""
    return _frame(Kind.FAREWELL, b"")


def abort(reason: str) -> bytes:
    """Return an ABORT."""
    return _frame(Kind.ABORT, reason.encode(errors="replace")[:MAX_REASON])


def admit(number: int) -> bytes:
    """Return an ADMIT."""
    return _frame(Kind.ADMIT, _NUMBER.pack(number))


def _frame(kind: Kind, body: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(kind, flags, 0, len(body)) + body


def some_ids(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Return the first ids, at most the number that a frame may list."""
    listed: list[Key] = []
    room = MAX_LISTED_BYTES
    for key in islice(keys, MAX_LISTED_IDS):
        room -= len(encode_key(key)[2])
        if room < 0:
            break
        listed.append(key)
    return tuple(listed)


def _pack_ids(ids: tuple[Key, ...]) -> bytes:
    packed = bytearray()
    for key in ids:
        flags, number, text = encode_key(key)
        packed += _LISTED_ID.pack(flags, number, len(text)) + text
    return bytes(packed)


# -- reading ----------------------------------------------------------------------------------------------------------

Batch: TypeAlias = bytes | bytearray | memoryview
Header: TypeAlias = tuple[int, int, int, int, int, int, int]
"""A frame in its batch: kind, flags, size of the id; what in a numbered frame are its number and that of its id or message;
and where the body begins and ends."""


def split(batch: Batch) -> Iterator[Header]:
    """Yield the frames behind the head of a batch, in order; one that is not whole raises `ViolationError` in its turn."""
    at = BATCH_HEAD
    left = MAX_FRAMES
    while at < len(batch):
        if not left:
            raise ViolationError(TOO_MANY)
        left -= 1
        header = read_header(batch, at)
        at = header[-1]
        yield header


def read_header(batch: Batch, at: int) -> Header:
    """Read the header of the frame that begins there."""
    left = len(batch) - at
    if left >= MESSAGE_OVERHEAD:
        # In a frame without a number, what is read beyond its header has no meaning.
        kind, flags, id_size, size, seq, which = NUMBERED.unpack_from(batch, at)
    elif left >= HEADER_SIZE:
        kind, flags, id_size, size = _HEADER.unpack_from(batch, at)
        seq = which = 0
    else:
        raise ViolationError(f"{left:,} bytes left over, no frame fits in them")
    start = at + HEADER_SIZE
    if size > len(batch) - start:
        raise ViolationError(f"a frame claims {size:,} bytes where {len(batch) - start:,} are left")
    return kind, flags, id_size, seq, which, start, start + size


def parse(batch: Batch, *, max_id_size: int) -> Iterator[Frame]:
    """Yield the frames of a batch, parsed, in order; a malformed one raises `ViolationError` in its turn."""
    if len(batch) < BATCH_HEAD:
        raise ViolationError(f"a batch of {len(batch):,} bytes")
    view = memoryview(batch)
    for header in split(view):
        yield read(view, header, max_id_size)


def read(view: memoryview, header: Header, max_id_size: int) -> Frame:
    """Read one frame of a batch."""
    kind = header[0]
    reader = _READERS.get(kind)
    if reader is None:
        raise ViolationError(f"unknown kind of frame: {kind}")
    return reader(view, header, max_id_size)


def read_key(flags: int, number: int, batch: Batch, at: int, end: int) -> Key:
    """Read an id."""
    if flags & AUTOMATIC:
        return _text(batch, at, end), number
    if number:
        raise ViolationError("a number with an id that has none")
    return _text(batch, at, end)


def _fixed(layout: Struct, view: memoryview, header: Header) -> tuple[Any, ...]:
    _, _, id_size, _, _, at, end = header
    if end - at != layout.size or id_size:
        raise ViolationError(f"a frame of {end - at:,} bytes where {layout.size:,} belong")
    return layout.unpack_from(view, at)


def _leading(layout: Struct, view: memoryview, at: int, end: int) -> tuple[Any, ...]:
    if end - at < layout.size:
        raise ViolationError(f"a frame of {end - at:,} bytes where at least {layout.size:,} belong")
    return layout.unpack_from(view, at)


def _flag(header: Header) -> bool:
    if header[1] > 1 or header[2]:
        raise ViolationError(f"unknown flags: {header[1]}")
    return bool(header[1])


def _flags(header: Header) -> tuple[bool, bool]:
    if header[1] > 3 or header[2]:
        raise ViolationError(f"unknown flags: {header[1]}")
    return header[1] & 1 != 0, header[1] & 2 != 0


def _plain(header: Header) -> None:
    """Raise `ViolationError` unless the frame has neither flags nor an id."""
    if header[1] or header[2]:
        raise ViolationError("flags or an id where none belong")


def _text(batch: Batch, at: int, end: int) -> str:
    if at == end:
        return ""
    try:
        return str(batch[at:end], "utf-8")
    except UnicodeDecodeError:
        raise ViolationError("text that is not UTF-8") from None


def _ids(view: memoryview, at: int, end: int) -> tuple[Key, ...]:
    ids: list[Key] = []
    while at < end:
        if len(ids) == MAX_LISTED_IDS:
            raise ViolationError(f"more than {MAX_LISTED_IDS} ids listed")
        flags, number, size = _leading(_LISTED_ID, view, at, end)
        at += _LISTED_ID.size
        if flags > AUTOMATIC or size > end - at:
            raise ViolationError("a list of ids that is none")
        ids.append(read_key(flags, number, view, at, at + size))
        at += size
    return tuple(ids)


def _read_hello(view: memoryview, header: Header, max_id_size: int) -> Hello:
    at, end = header[5:]
    # A later version may say more; but its number must be readable.
    if end - at >= _SHORT.size and (spoken := _SHORT.unpack_from(view, at)[0]) != PROTOCOL_VERSION:
        return Hello(spoken, bytes(16), bytes(16), NO_PORT, 0, Bounds(0, 0, 0, 0, 0))
    _plain(header)
    version, incarnation, nonce, port, features, *bounds = _fixed(_HELLO, view, header)
    return Hello(version, incarnation, nonce, port, features, Bounds._make(bounds))


def _read_resume(view: memoryview, header: Header, max_id_size: int) -> Resume:
    nonce, *positions = _fixed(_RESUME, view, header)
    return Resume(nonce, _flag(header), *positions)


def check_id(flags: int, id_size: int, max_id_size: int, left: int) -> None:
    """Check what the header of a MESSAGE or START says about its id; ``left`` bytes are left for it in the body."""
    if flags & ~_KNOWN_FLAGS or id_size > left:
        raise ViolationError("a message that contradicts itself")
    if id_size > max_id_size:
        raise ViolationError(f"a message id of {id_size:,} bytes")


def _read_message(view: memoryview, header: Header, max_id_size: int) -> Start:
    _, flags, id_size, seq, number, at, end = header
    at += NUMBERS
    check_id(flags, id_size, max_id_size, end - at)
    key = read_key(flags, number, view, at, at + id_size)
    at += id_size
    note, at = read_annotation(view, at, end) if flags & ANNOTATED else (b"", at)
    return Start(seq, key, id_size, flags & ORDERED != 0, 1, end - at, view[at:end], note)


def read_annotation(batch: Batch, at: int, end: int) -> tuple[bytes, int]:
    """Read an annotation that begins there. Returns it, and where what follows begins."""
    size = batch[at] if at < end else 0
    stop = at + 1 + size
    if not 0 < size <= MAX_ANNOTATION or stop > end:
        raise ViolationError("an annotation that is none")
    return bytes(batch[at + 1 : stop]), stop


def _read_start(view: memoryview, header: Header, max_id_size: int) -> Start:
    _, flags, id_size, seq, number, at, end = header
    at += NUMBERS
    segments, total = _leading(_LARGE, view, at, end)
    at += _LARGE.size
    check_id(flags, id_size, max_id_size, end - at)
    if not segments:
        raise ViolationError("a message of no segments")
    key = read_key(flags, number, view, at, at + id_size)
    at += id_size
    note, at = read_annotation(view, at, end) if flags & ANNOTATED else (b"", at)
    return Start(seq, key, id_size, flags & ORDERED != 0, segments, total, view[at:end], note)


def _read_part(view: memoryview, header: Header, max_id_size: int) -> Part:
    _, _, _, seq, number, at, end = header
    _plain(header)
    at += NUMBERS
    if at > end:
        raise ViolationError("a PART without its numbers")
    return Part(seq, number, view[at:end])


def _read_ping(view: memoryview, header: Header, max_id_size: int) -> Ping:
    _plain(header)
    return Ping(*_fixed(_NUMBER, view, header))


def _read_pong(view: memoryview, header: Header, max_id_size: int) -> Pong:
    _plain(header)
    return Pong(*_fixed(_NUMBER, view, header))


def _read_blocked(view: memoryview, header: Header, max_id_size: int) -> Blocked:
    at, end = header[5:]
    messages, size, begun, taken = _leading(_BLOCKED, view, at, end)
    awaited, alone = _flags(header)
    return Blocked(messages, size, begun, taken, awaited, alone, _ids(view, at + _BLOCKED.size, end))


def _read_deadlock(view: memoryview, header: Header, max_id_size: int) -> Deadlock:
    _nothing(header)
    return Deadlock(*_flags(header))


def _read_goodbye(view: memoryview, header: Header, max_id_size: int) -> Goodbye:
    followed = _flag(header)
    at, end = header[5:]
    last_seq, undelivered, unread = _leading(_GOODBYE, view, at, end)
    return Goodbye(last_seq, undelivered, unread, _ids(view, at + _GOODBYE.size, end), followed)


def _read_farewell(view: memoryview, header: Header, max_id_size: int) -> Farewell:
    _plain(header)
    _nothing(header)
    return Farewell()


def _nothing(header: Header) -> None:
    if header[5] != header[6] or header[2]:
        raise ViolationError("a body where none belongs")


def _read_abort(view: memoryview, header: Header, max_id_size: int) -> Abort:
    _plain(header)
    at, end = header[5:]
    if end - at > MAX_REASON:
        raise ViolationError(f"a reason of {end - at:,} bytes")
    # The sender may have cut it within a character. And control characters must not reach a terminal that shows it.
    reason = bytes(view[at:end]).decode(errors="replace")
    return Abort("".join(c if c.isprintable() else " " for c in reason))


def _read_admit(view: memoryview, header: Header, max_id_size: int) -> Admit:
    _plain(header)
    return Admit(*_fixed(_NUMBER, view, header))


_READERS: dict[int, Callable[[memoryview, Header, int], Frame]] = {
    Kind.HELLO: _read_hello,
    Kind.RESUME: _read_resume,
    Kind.MESSAGE: _read_message,
    Kind.START: _read_start,
    Kind.PART: _read_part,
    Kind.PING: _read_ping,
    Kind.PONG: _read_pong,
    Kind.BLOCKED: _read_blocked,
    Kind.DEADLOCK: _read_deadlock,
    Kind.GOODBYE: _read_goodbye,
    Kind.FAREWELL: _read_farewell,
    Kind.ABORT: _read_abort,
    Kind.ADMIT: _read_admit,
}
