"""The wire format: kinds of frames, how they are written, and a strict parser. PROTOCOL.md says it in prose.

One message of the transport (a *batch*) is a run of frames, each ``kind: u8, length: u32, body``, integers big-endian.
The parser checks every length against what is there and against the limits before it makes anything of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from itertools import islice
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

PROTOCOL_VERSION = 1
MAX_BATCH = 1024 * 1024
"""Largest batch that anybody may send, in bytes."""
MAX_FRAMES = 2048
"""Most frames in a batch: however small they are, the receiver's loop has to be free again soon."""
NO_PORT = 0

Key: TypeAlias = str | tuple[str, int]
"""The id of a message: the caller's string behind the prefix, or (prefix, automatic number). The two can't collide."""


class ViolationError(Exception):
    """The other side broke the protocol. The text is for our own log only."""


class Kind(IntEnum):
    """The kinds of frames, by their number on the wire."""

    HELLO = 1
    RESUME = 2
    START = 3
    PART = 4
    ACK = 5
    PING = 6
    PONG = 7
    BLOCKED = 8
    DEADLOCK = 9
    GOODBYE = 10
    FAREWELL = 11
    ABORT = 12


_HEADER = Struct("!BI")
_HELLO = Struct("!H16s16sHIQIQIH")
_RESUME = Struct("!16sBQQQ")
_START = Struct("!QBHIQ")
_PART = Struct("!QQ")
_ACK = Struct("!QQQ")
_NUMBER = Struct("!Q")
_BLOCKED = Struct("!IQQB")
_DEADLOCK = Struct("!B")
_GOODBYE = Struct("!QQI")
_LISTED = Struct("!BH")
_SHORT = Struct("!H")

HEADER_SIZE = _HEADER.size
START_OVERHEAD = HEADER_SIZE + _START.size
PART_OVERHEAD = HEADER_SIZE + _PART.size

# Header and body in one, for the frames of which there are many.
_START_FRAME = Struct("!BIQBHIQ")
_PART_FRAME = Struct("!BIQQ")
_ACK_FRAME = Struct("!BIQQQ")

_AUTOMATIC = 1
_ORDERED = 2
_KNOWN_FLAGS = _AUTOMATIC | _ORDERED

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
    """The first frame of a message, with as much of its body as fitted."""

    seq: int
    key: Key
    id_size: int
    ordered: bool
    segments: int
    total: int
    data: memoryview


class Part(NamedTuple):
    """A further piece of message ``number`` (the how-manieth START of this link)."""

    seq: int
    number: int
    data: memoryview


class Ack(NamedTuple):
    """Everything up to frame ``received`` is held here; so much was taken out of the box since the link began."""

    received: int
    consumed_bytes: int
    consumed_messages: int


class Ping(NamedTuple):
    """Are you there?"""

    token: int


class Pong(NamedTuple):
    """Yes: the answer to the ping with this token."""

    token: int


class Blocked(NamedTuple):
    """The sender's messages don't fit into the receiver's box; it last heard of ``consumed_messages``."""

    messages: int
    bytes: int
    consumed_messages: int
    awaited: bool
    ids: tuple[Key, ...]


class Deadlock(NamedTuple):
    """The sender of this frame found that both sides wait for each other: ``mutual`` or behind a full box."""

    mutual: bool


class Goodbye(NamedTuple):
    """The pool shut down: its last frame, what it gave up delivering, what it never read."""

    last_seq: int
    undelivered: int
    unread: int
    unread_ids: tuple[Key, ...]


class Farewell(NamedTuple):
    """Goodbye received."""


class Abort(NamedTuple):
    """The program gave up, for this reason."""

    reason: str


Frame: TypeAlias = Hello | Resume | Start | Part | Ack | Ping | Pong | Blocked | Deadlock | Goodbye | Farewell | Abort


def describe_key(key: Key) -> str:
    """How an id appears in logs and errors: on one line, and not longer than one can read."""
    if isinstance(key, str):
        return _shown(repr(key))
    prefix, number = key
    return f"{_shown(prefix if prefix.isprintable() else repr(prefix))}#{number}"


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# -- writing ----------------------------------------------------------------------------------------------------------


def encode_key(key: Key) -> tuple[int, bytes]:
    """The flag bits and bytes of an id."""
    if isinstance(key, str):
        return 0, key.encode()
    prefix, number = key
    return _AUTOMATIC, _NUMBER.pack(number) + prefix.encode()


def start_head(seq: int, key: tuple[int, bytes], ordered: bool, segments: int, total: int, size: int) -> bytes:
    """Everything of a START before its ``size`` bytes of body."""
    bits, name = key
    if ordered:
        bits |= _ORDERED
    length = len(name)
    return _START_FRAME.pack(Kind.START, _START.size + length + size, seq, bits, length, segments, total) + name


def part_head(seq: int, number: int, size: int) -> bytes:
    """Everything of a PART before its ``size`` bytes of body."""
    return _PART_FRAME.pack(Kind.PART, _PART.size + size, seq, number)


def ack(received: int, consumed_bytes: int, consumed_messages: int) -> bytes:
    """An ACK."""
    return _ACK_FRAME.pack(Kind.ACK, _ACK.size, received, consumed_bytes, consumed_messages)


def hello(frame: Hello) -> bytes:
    """A HELLO."""
    return _frame(Kind.HELLO, _HELLO.pack(*frame[:5], *frame.bounds))


def resume(frame: Resume) -> bytes:
    """A RESUME."""
    return _frame(Kind.RESUME, _RESUME.pack(*frame))


def ping(token: int) -> bytes:
    """A PING."""
    return _frame(Kind.PING, _NUMBER.pack(token))


def pong(token: int) -> bytes:
    """A PONG."""
    return _frame(Kind.PONG, _NUMBER.pack(token))


def blocked(frame: Blocked) -> bytes:
    """A BLOCKED."""
    return _frame(Kind.BLOCKED, _BLOCKED.pack(*frame[:4]) + _pack_ids(frame.ids))


def deadlock(mutual: bool) -> bytes:
    """A DEADLOCK."""
    return _frame(Kind.DEADLOCK, _DEADLOCK.pack(mutual))


def goodbye(frame: Goodbye) -> bytes:
    """A GOODBYE."""
    return _frame(Kind.GOODBYE, _GOODBYE.pack(*frame[:3]) + _pack_ids(frame.unread_ids))


def farewell() -> bytes:
    """A FAREWELL."""
    return _frame(Kind.FAREWELL, b"")


def abort(reason: str) -> bytes:
    """An ABORT."""
    return _frame(Kind.ABORT, reason.encode(errors="replace")[:MAX_REASON])


def _frame(kind: Kind, body: bytes) -> bytes:
    return _HEADER.pack(kind, len(body)) + body


def some_ids(keys: Iterable[Key]) -> tuple[Key, ...]:
    """As many of them as a frame may list."""
    listed: list[Key] = []
    room = MAX_LISTED_BYTES
    for key in islice(keys, MAX_LISTED_IDS):
        room -= len(encode_key(key)[1])
        if room < 0:
            break
        listed.append(key)
    return tuple(listed)


def _pack_ids(ids: tuple[Key, ...]) -> bytes:
    packed = bytearray()
    for key in ids:
        bits, name = encode_key(key)
        packed += _LISTED.pack(bits, len(name)) + name
    return bytes(packed)


# -- reading ----------------------------------------------------------------------------------------------------------


def parse(batch: bytes | bytearray | memoryview, *, max_id_size: int) -> Iterator[Frame]:
    """The frames of a batch, in order; a malformed one raises `ViolationError` when its turn comes."""
    view = memoryview(batch)
    end = len(view)
    at = number = 0
    while at < end:
        number += 1
        if number > MAX_FRAMES:
            raise ViolationError(f"more than {MAX_FRAMES} frames in a batch")
        if end - at < HEADER_SIZE:
            raise ViolationError(f"{end - at} bytes left over, no frame fits in them")
        kind, length = _HEADER.unpack_from(view, at)
        at += HEADER_SIZE
        if length > end - at:
            raise ViolationError(f"a frame claims {length} bytes where {end - at} are left")
        reader = _READERS.get(kind)
        if reader is None:
            raise ViolationError(f"unknown kind of frame: {kind}")
        yield reader(view, at, at + length, max_id_size)
        at += length


# What reads a frame gets the whole batch, and where the body of the frame begins and ends in it: most need no slice.


def _fixed(layout: Struct, view: memoryview, at: int, end: int) -> tuple[Any, ...]:
    if end - at != layout.size:
        raise ViolationError(f"a frame of {end - at} bytes where {layout.size} belong")
    return layout.unpack_from(view, at)


def _leading(layout: Struct, view: memoryview, at: int, end: int) -> tuple[Any, ...]:
    if end - at < layout.size:
        raise ViolationError(f"a frame of {end - at} bytes where at least {layout.size} belong")
    return layout.unpack_from(view, at)


def _flag(value: int) -> bool:
    if value > 1:
        raise ViolationError(f"{value} where a flag belongs")
    return bool(value)


def _text(view: memoryview, at: int, end: int) -> str:
    if at == end:
        return ""
    try:
        return str(view[at:end], "utf-8")
    except UnicodeDecodeError:
        raise ViolationError("text that is not UTF-8") from None


def _key(bits: int, view: memoryview, at: int, end: int) -> Key:
    if not bits & _AUTOMATIC:
        return _text(view, at, end)
    if end - at < _NUMBER.size:
        raise ViolationError("an automatic message id without its number")
    return _text(view, at + _NUMBER.size, end), _NUMBER.unpack_from(view, at)[0]


def _ids(view: memoryview, at: int, end: int) -> tuple[Key, ...]:
    ids: list[Key] = []
    while at < end:
        if len(ids) == MAX_LISTED_IDS:
            raise ViolationError(f"more than {MAX_LISTED_IDS} ids listed")
        bits, size = _leading(_LISTED, view, at, end)
        at += _LISTED.size
        if bits > _AUTOMATIC or size > end - at:
            raise ViolationError("a list of ids that is none")
        ids.append(_key(bits, view, at, at + size))
        at += size
    return tuple(ids)


def _read_hello(view: memoryview, at: int, end: int, max_id_size: int) -> Hello:
    # A later version may say more; its number has to be readable all the same.
    if end - at >= _SHORT.size and (spoken := _SHORT.unpack_from(view, at)[0]) != PROTOCOL_VERSION:
        return Hello(spoken, bytes(16), bytes(16), NO_PORT, 0, Bounds(0, 0, 0, 0, 0))
    version, incarnation, nonce, port, features, *bounds = _fixed(_HELLO, view, at, end)
    return Hello(version, incarnation, nonce, port, features, Bounds._make(bounds))


def _read_resume(view: memoryview, at: int, end: int, max_id_size: int) -> Resume:
    nonce, accepted, *positions = _fixed(_RESUME, view, at, end)
    return Resume(nonce, _flag(accepted), *positions)


def _read_start(view: memoryview, at: int, end: int, max_id_size: int) -> Start:
    seq, bits, size, segments, total = _leading(_START, view, at, end)
    at += _START.size
    data = at + size
    if bits & ~_KNOWN_FLAGS or data > end or not segments:
        raise ViolationError("a START that contradicts itself")
    if size > max_id_size:
        raise ViolationError(f"a message id of {size} bytes")
    key = _key(bits, view, at, data)
    return Start(seq, key, size, bits & _ORDERED != 0, segments, total, view[data:end])


def _read_part(view: memoryview, at: int, end: int, max_id_size: int) -> Part:
    seq, number = _leading(_PART, view, at, end)
    return Part(seq, number, view[at + _PART.size : end])


def _read_ack(view: memoryview, at: int, end: int, max_id_size: int) -> Ack:
    return Ack(*_fixed(_ACK, view, at, end))


def _read_ping(view: memoryview, at: int, end: int, max_id_size: int) -> Ping:
    return Ping(*_fixed(_NUMBER, view, at, end))


def _read_pong(view: memoryview, at: int, end: int, max_id_size: int) -> Pong:
    return Pong(*_fixed(_NUMBER, view, at, end))


def _read_blocked(view: memoryview, at: int, end: int, max_id_size: int) -> Blocked:
    messages, size, consumed, awaited = _leading(_BLOCKED, view, at, end)
    return Blocked(messages, size, consumed, _flag(awaited), _ids(view, at + _BLOCKED.size, end))


def _read_deadlock(view: memoryview, at: int, end: int, max_id_size: int) -> Deadlock:
    return Deadlock(_flag(_fixed(_DEADLOCK, view, at, end)[0]))


def _read_goodbye(view: memoryview, at: int, end: int, max_id_size: int) -> Goodbye:
    last_seq, undelivered, unread = _leading(_GOODBYE, view, at, end)
    return Goodbye(last_seq, undelivered, unread, _ids(view, at + _GOODBYE.size, end))


def _read_farewell(view: memoryview, at: int, end: int, max_id_size: int) -> Farewell:
    if at != end:
        raise ViolationError("a FAREWELL with something in it")
    return Farewell()


def _read_abort(view: memoryview, at: int, end: int, max_id_size: int) -> Abort:
    if end - at > MAX_REASON:
        raise ViolationError(f"a reason of {end - at} bytes")
    # Cut at a byte count by the sender, perhaps within a character; and what is shown in a terminal must not steer it.
    reason = bytes(view[at:end]).decode(errors="replace")
    return Abort("".join(c if c.isprintable() else " " for c in reason))


_READERS: dict[int, Callable[[memoryview, int, int, int], Frame]] = {
    Kind.HELLO: _read_hello,
    Kind.RESUME: _read_resume,
    Kind.START: _read_start,
    Kind.PART: _read_part,
    Kind.ACK: _read_ack,
    Kind.PING: _read_ping,
    Kind.PONG: _read_pong,
    Kind.BLOCKED: _read_blocked,
    Kind.DEADLOCK: _read_deadlock,
    Kind.GOODBYE: _read_goodbye,
    Kind.FAREWELL: _read_farewell,
    Kind.ABORT: _read_abort,
}
