"""RFC 6455 on a transport of our own: after the upgrade, which is HTTP and aiohttp's business, nothing else is in between.

Each batch is one binary message. Messages in fragments, any masks and pings are understood, since other libraries may be at
the other end; nothing of the kind is sent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from struct import Struct
from typing import Any, Protocol

from mpccomm.transport.pace import Pace, Room
from mpccomm.transport.stream import MAX_MESSAGE, Stream
from mpccomm.transport.tls import hold_nothing, resume_in_a_turn_of_its_own

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_SIZE = 16

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN, _RESERVED, _KIND, _CONTROL = 0x80, 0x70, 0x0F, 0x08
WHOLE = _FIN | _BINARY
"""The first byte of a message in one frame."""
MASKED = 0x80
_SHORT = Struct("!BB")
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")
MASK_SIZE = 4
_NO_MASK = bytes(MASK_SIZE)
_LARGEST_CONTROL = 125
_MEDIUM_SIZE, _LONG_SIZE = 126, 127
WIDTHS = {_MEDIUM_SIZE: 2, _LONG_SIZE: 8}
"""The numbers of bytes of a size that follows, by what stands in the place of the size."""
_NOT_GIVEN = 1005
"""The close code that stands for a close frame without one."""

_LARGE = 16 * 1024
"""From this size on a message that has not arrived completely is read into memory where it is whole, see `_Intake`, instead of
being put together anew with each piece."""
_INTAKE = 512 * 1024
"""Bytes of that memory: two messages as we send them, so that the next can arrive while one is read."""
_WITHOUT_A_COPY = 64 * 1024
_AT_ONCE = 128
"""How many frames are handled in one turn of the loop, which belongs to others as well."""
_BYTES_AT_ONCE = 64 * 1024
"""After this many bytes of them, nothing more is read in this turn: uvloop would read on, up to 32 times."""
_REMEMBERED = 4096
_IDLE = 1000
"""How many frames in a row may be useless: pings, pongs, empty messages and empty fragments."""


class FramingError(Exception):
    """Raised where the other end breaks RFC 6455. The text is for our own log only."""


class HTTPProtocol(Protocol):
    """The protocol that a connection had before the upgrade."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection has ended."""


class Upgraded(asyncio.Protocol):
    """A protocol that takes over a connection from aiohttp, whose own protocol wants a parser for what follows."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Return what arrived together with the upgrade: aiohttp hands it on to the parser that it is given."""
        if data:
            self.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp says this too; `connection_lost` is what counts."""


# -- the upgrade -------------------------------------------------------------------------------------------------------


def new_key() -> str:
    """Return a key for the request of a client."""
    return base64.b64encode(os.urandom(_KEY_SIZE)).decode()


def accept(key: str) -> str:
    """Return the answer of a server to that key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def asked_for(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Return the headers of the answer to a request for an upgrade; None: it is malformed."""
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        fits = len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except (binascii.Error, ValueError):
        fits = False
    if not fits or not _has(headers, "Connection", "upgrade") or headers.get("Sec-WebSocket-Version") != VERSION:
        return None
    return {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept(key)}


def asking(key: str) -> dict[str, str]:
    """Return the headers of a request for an upgrade."""
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": VERSION,
        "Sec-WebSocket-Key": key,
    }


def granted(headers: Mapping[str, str], key: str) -> bool:
    """Return whether this answer is one to our request for an upgrade: a subprotocol or an extension we did not ask for."""
    return (
        _has(headers, "Upgrade", "websocket")
        and _has(headers, "Connection", "upgrade")
        and headers.get("Sec-WebSocket-Accept", "").strip() == accept(key)
        and "Sec-WebSocket-Extensions" not in headers
        and "Sec-WebSocket-Protocol" not in headers
    )


def _has(headers: Mapping[str, str], name: str, word: str) -> bool:
    return word in (part.strip() for part in headers.get(name, "").lower().split(","))


# -- frames ------------------------------------------------------------------------------------------------------------


def unmask(data: bytes | memoryview, mask: bytes) -> bytes:
    """Return the data with the mask applied, or removed, which is the same."""
    size = len(data)
    if mask == _NO_MASK or not size:
        return bytes(data)
    repeated = mask * (size // MASK_SIZE + 1)
    # As two large integers, without a call per byte.
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated[:size], "little")
    return number.to_bytes(size, "little")


def head_of(first: int, size: int, masked: int) -> bytes:
    """Return the head of a frame with a payload of that size; with a mask of zeros if it is to be masked."""
    if size < _MEDIUM_SIZE:
        head = _SHORT.pack(first, masked | size)
    elif size < 65536:
        head = _MEDIUM.pack(first, masked | _MEDIUM_SIZE, size)
    else:
        head = _LONG.pack(first, masked | _LONG_SIZE, size)
    return head + _NO_MASK if masked else head


class _BySize(dict[int, bytes]):
    """The heads by size, remembered for the sizes that most messages have."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, size: int) -> bytes:
        head = self._make(size)
        if size < _REMEMBERED:
            self[size] = head
        return head


def _beginning(size: int, masked: int) -> bytes:
    """Return how that many bytes begin if they are one short message, no more and no less, with no mask but zeros.

    Nearly always they are: each batch is written alone. Where they can't be, what is returned begins none.
    """
    if size < _LARGE:
        for shape in (_SHORT, _MEDIUM):
            before = shape.size + MASK_SIZE * bool(masked)
            if size > before == len(head := head_of(WHOLE, size - before, masked)):
                return head
    return b""


HEADS = {masked: _BySize(partial(head_of, WHOLE, masked=masked)) for masked in (0, MASKED)}
"""The head of one whole message of a size, by whether it is masked."""
BEGINNINGS = {masked: _BySize(partial(_beginning, masked=masked)) for masked in (0, MASKED)}
"""How a number of bytes begin if they are one short message, by whether it is masked."""


class WebSocket(Stream, Upgraded):
    """One WebSocket, on the side of the client or of the server.

    :param transport: what carries it; `take_over` makes it ours
    :param before: what was in charge of it, and is told of its end
    :param counts: told of the size of all that arrives until `run`; False ends the connection
    """

    _pong: bytes | None = None
    """The payload of the latest ping that was not answered yet."""

    def __init__(
        self,
        transport: asyncio.Transport,
        before: HTTPProtocol,
        *,
        client: bool,
        counts: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__(asyncio.get_running_loop())
        self._transport = transport
        # Asked now: a transport of asyncio that has ended does not know it any more.
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._before = before
        self._counts = counts
        self._theirs = 0 if client else MASKED
        self._heads = HEADS[MASKED - self._theirs]
        self._beginnings = BEGINNINGS[self._theirs]
        self._shortest = len(head_of(WHOLE, 0, self._theirs))
        self._hidden = client and not _private(transport)
        """A proxy in between may read what we send, and take it for something else: mask as RFC 6455 means it."""
        self._rest = b""
        self._fragments: bytearray | None = None
        self._intake: _Intake | None = None
        self._needed = 0
        """Bytes of the large message that is under way, with its head; 0: there is none."""
        self._idle = 0
        self._pace = Pace(transport, self._loop.time, Room(self._loop, transport.get_extra_info("socket")))
        self.budget = self._pace.budget
        self._deaf = False
        """Whether what still arrives is ignored."""
        self._clear = False
        """Whether nothing is under way, nor in the way: a short message that arrives now is delivered as it is."""

    def take_over(self) -> None:
        """Read and write from now on."""
        transport = self._transport
        resume_in_a_turn_of_its_own(transport)
        hold_nothing(transport)
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS knows of the other end; None on plain HTTP."""
        return self._tls

    def get_extra_info(self, name: str) -> Any:
        """Return what the transport knows of the connection, as of `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send(self, batch: bytes) -> None:
        size = len(batch)
        pace = self._pace
        written = pace.written + size
        if written > pace.mark:
            self._send_much(batch, size)
            return
        # It says nothing of the line.
        pace.written = written
        if self._hidden:
            self._write(WHOLE, batch)
        else:
            self._transport.write(self._heads[size] + batch)

    def _send_much(self, batch: bytes, size: int) -> None:
        """Send a batch that is large, or the last of several that are together."""
        pace = self._pace
        self.budget = pace.sent(size)
        pace.mark = pace.written + min(self.budget // 2, _WITHOUT_A_COPY - 1)
        if self._hidden or size >= _WITHOUT_A_COPY:
            self._write(WHOLE, batch)
        else:
            self._transport.write(self._heads[size] + batch)
        self._hold_back()

    def _hold_back(self) -> None:
        """Send nothing more for now if the system has enough: what it takes beyond that nothing can overtake."""
        if not self._full:
            self._full = self._pace.hold_back(self.resume_writing)

    def _write(self, first: int, payload: bytes) -> None:
        head = head_of(first, len(payload), MASKED - self._theirs)
        if self._hidden:
            mask = os.urandom(MASK_SIZE)
            head = head[:-MASK_SIZE] + mask
            payload = unmask(payload, mask)
        # Not `writelines`: before Python 3.12 asyncio joins the pieces in further memory.
        self._transport.write(head)
        self._transport.write(payload)

    def pause_writing(self) -> None:
        """Send nothing more for now: the transport's buffer is full."""
        self._full = True
        self._pace.pause()

    def resume_writing(self) -> None:
        """Send again: the transport's buffer has room, or the system."""
        self._full = False
        self._pace.resume()
        self.budget = self._pace.budget
        if self._pong is not None:
            # Not from within this call: asyncio would end a connection twice that the other end has just reset.
            self._loop.call_soon(self._answer)
        # The system may have taken what the transport had left, and want nothing more again.
        self._hold_back()
        if not self._full:
            self.wake()

    @property
    def _stuck(self) -> bool:
        return self._full and not self._pace.holds_back

    def _is_barren(self) -> bool:
        under_way = 0 if self._intake is None else self._intake.here
        return self._pace.is_barren(under_way)

    def _arrives_in_part(self) -> bool:
        return self._pace.arrives_in_part

    def moving(self, within: float) -> float | None:
        """Return the seconds that the rest of what was sent takes, if some of it got through since this was asked last; or None."""
        # One of asyncio's with TLS, which aiohttp closes once more at the end, can't say then what it has not sent.
        return None if self._ended.done() else self._pace.look(within)

    @property
    def unsent(self) -> bool:
        """Whether something was sent that the other end's system has not taken."""
        return not self._ended.done() and (self.passing_on or self._full or self._pace.waiting() > 0)

    def _answer(self) -> None:
        """Answer the latest ping."""
        if self._pong is not None and not self._full and not self._said_close:
            payload, self._pong = self._pong, None
            self._write(_FIN | _PONG, payload)

    def _say_close(self, code: int) -> None:
        # What the other end still sends until it has read this is ignored.
        self._deliver = _ignore
        self._write(_FIN | _CLOSE, code.to_bytes(2, "big"))
        if self.ended_with is not None:
            self._transport.close()
        elif self.relayed:
            # The relay closes the connection once the other end has got this.
            self._transport.write_eof()

    def _abort(self) -> None:
        self._deaf = True
        self._clear = False
        self._pace.end()
        self._transport.abort()

    # -- receiving -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        size = len(data)
        self._pace.taken += size
        if not self._clear:
            self._take_in(data)
            return
        beginnings = self._beginnings
        try:
            batch = data.removeprefix(beginnings[size])
            if batch is not data:
                # Python calls what is kept in an attribute in fewer steps where that is read first.
                deliver = self._deliver
                deliver(batch)
                return
            # Two are often read together: an acknowledgement, and a message that was sent right after it.
            end = (data[1] ^ self._theirs) + self._shortest if size > 1 else 0
            first, second = data[:end], data[end:]
            batch, next_batch = first.removeprefix(beginnings[end]), second.removeprefix(beginnings[len(second)])
            if batch is not first and next_batch is not second:
                self._deliver(batch)
                data = second
                if self._clear:
                    self._deliver(next_batch)
                    return
        except BaseException as error:
            self._broke(error)
            if not isinstance(error, Exception):
                raise
            return
        self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        """Take bytes that have arrived, whatever they are, and whatever is under way."""
        self._clear = False
        if self._peer is None and self._counts is not None and not self._counts(len(data)):
            self.abort()
            return
        if self._deaf:
            return
        if self._intake is not None:
            self._intake.data_received(data)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._held:
            self._rest = data
            return
        try:
            at = self._parse(data)
        except BaseException as error:
            self._broke(error)
            if not isinstance(error, Exception):
                raise
            return
        if at == len(data) or self._deaf:
            self._clear = not (self._peer is None or self._paused() or self._idle or self._fragments is not None)
            return
        if self._needed and self._peer is not None and not self._held:
            self._intake = _Intake(self.intake_filled, self, memoryview(data)[at:], self._needed)
            self._read_by(self._intake)
        else:
            self._rest = data[at:]
        self._heard()

    def intake_filled(self) -> None:
        """Look at the bytes of large messages: more have arrived, or delivering has resumed."""
        intake = self._intake
        if intake is None or self._held:
            return
        if self._deaf:
            intake.drop(intake.here, 0)
            return
        try:
            at = self._parse(intake.arrived())
        except BaseException as error:
            self._broke(error)
            if not isinstance(error, Exception):
                raise
            return
        intake.drop(at, self._needed)
        self._pace.taken += at
        if intake.here:
            self._heard()
        elif at < _LARGE and not self._paused():
            # The messages that follow are small.
            self._intake = None
            self._read_by(self)

    def _paused(self) -> bool:
        return self._held or self._deaf

    def _read_by(self, protocol: WebSocket | _Intake) -> None:
        """Have the transport read into the memory of the protocol, or hand over what it has read."""
        transport = self._transport
        if not transport.get_extra_info("buffered", True):
            return  # it can only hand over what it has read
        # uvloop chooses the way of reading when it begins to read.
        transport.pause_reading()
        transport.set_protocol(protocol)
        transport.resume_reading()

    def _broke(self, error: BaseException) -> None:
        if isinstance(error, FramingError):
            self._deaf = True
            self._clear = False
            self._violated(str(error))
        else:
            self._fail(error)

    def _parse(self, data: bytes | memoryview) -> int:
        """Take the messages that are whole. Return where the rest begins."""
        self._needed = 0
        at, end, left, theirs = 0, len(data), _AT_ONCE, self._theirs
        mask: bytes | memoryview = _NO_MASK
        while end - at >= 2:
            first = data[at]
            size = data[at + 1] ^ theirs
            start = at + 2
            if size >= _MEDIUM_SIZE:
                wide = WIDTHS.get(size)
                if wide is None:
                    raise FramingError(f"a WebSocket frame {'without' if theirs else 'with'} a mask")
                start += wide
                if end < start:
                    break
                size = int.from_bytes(data[start - wide : start], "big")
            if first != WHOLE or size > MAX_MESSAGE or self._fragments is not None:
                self._check(first, size)
            if theirs:
                start += MASK_SIZE
                if end < start:
                    break
                mask = data[start - MASK_SIZE : start]
            stop = start + size
            if stop > end:
                if size >= _LARGE:
                    self._needed = stop - at
                break
            view = memoryview(data)[start:stop]
            payload = view if mask == _NO_MASK else unmask(view, bytes(mask))
            at = stop
            left -= 1
            if first == WHOLE and size:
                self._idle = 0
                self._deliver(payload)
            else:
                self._take(first, payload)
            if self._deaf:
                return at
            if self._held or not left:
                self._hold()
                return at
        if at >= _BYTES_AT_ONCE and not self._needed:
            self._hold()
        return at

    def _heard(self) -> None:
        if self._peer is not None:
            self._peer.heard()

    def _check(self, first: int, size: int) -> None:
        """Raise `FramingError` unless a frame with this head may come now."""
        kind = first & _KIND
        if first & _RESERVED:
            raise FramingError("bytes that are no WebSocket frame")
        if kind & _CONTROL:
            if kind not in (_CLOSE, _PING, _PONG) or not first & _FIN or size > _LARGEST_CONTROL:
                raise FramingError("bytes that are no WebSocket frame")
            return
        if kind == _TEXT:
            raise FramingError("a text message")
        begun = self._fragments
        if kind not in (_BINARY, _CONTINUED) or (kind == _CONTINUED) != (begun is not None):
            raise FramingError("bytes that are no WebSocket frame")
        if size + len(begun or b"") > MAX_MESSAGE:
            raise FramingError(f"a message of more than {MAX_MESSAGE:,} bytes")

    def _take(self, first: int, payload: bytes | memoryview) -> None:
        """Take a frame that is not a whole message, or an empty one."""
        kind = first & _KIND
        if kind == _CLOSE:
            self._closed_by_them(payload)
            return
        if kind in (_PING, _PONG) or not payload:
            self._idle += 1
            if self._idle > _IDLE:
                raise FramingError(f"{self._idle} WebSocket frames in a row that carry nothing")
        if kind == _PING:
            # Only the latest one is answered, so pings can't fill our memory.
            self._pong = bytes(payload)
            self._answer()
        elif kind != _PONG:
            message = self._fragments if self._fragments is not None else bytearray()
            message += payload
            if first & _FIN:
                self._fragments = None
                if message:
                    self._idle = 0
                self._deliver(memoryview(message))
            else:
                self._fragments = message
        self._heard()

    def _closed_by_them(self, payload: bytes | memoryview) -> None:
        if len(payload) == 1:
            raise FramingError("bytes that are no WebSocket frame")
        self._deaf = True
        self.ended_with = int.from_bytes(payload[:2], "big") if payload else _NOT_GIVEN
        self._met()
        self._expire()
        if not self._said_close:
            self._said_close = True
            self._write(_FIN | _CLOSE, bytes(payload[:2]))
        self._transport.close()
        if self._peer is not None:
            self._peer.closed()

    def _hold(self) -> None:
        """Pause delivering, until the next turn of the loop, or until there is a peer."""
        self._held = True
        self._transport.pause_reading()
        if self._peer is not None:
            self._loop.call_soon(self._release)

    def _release(self) -> None:
        self._held = False
        if not self._deaf:
            self._transport.resume_reading()
            if self._intake is not None:
                if self._intake.here:
                    self.intake_filled()
            elif self._rest:
                rest, self._rest = self._rest, b""
                self.data_received(rest)

    def eof_received(self) -> None:
        """End both directions, as the other side sends nothing more."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection has ended."""
        self._deaf = True
        self._pace.end()
        if not self._ended.done():
            self._over()
            self._before.connection_lost(exc)


class _Intake(asyncio.BufferedProtocol):
    """Reads into one memory again and again while large messages come: nothing is allocated for them, and nothing put together.

    :param filled: called when there is more in it
    :param socket: told of everything else
    :param begun: what is here of a large message
    :param needed: bytes of that message
    """

    __slots__ = ("_filled", "_memory", "_socket", "here")

    def __init__(self, filled: Callable[[], None], socket: asyncio.Protocol, begun: memoryview, needed: int) -> None:
        self._filled = filled
        self._socket = socket
        self.here = len(begun)
        """Bytes of it that are filled."""
        self._memory = memoryview(bytearray(max(needed, _INTAKE)))
        self._memory[: self.here] = begun

    def arrived(self) -> memoryview:
        """Return what is in it."""
        return self._memory[: self.here]

    def drop(self, count: int, needed: int) -> None:
        """Make room: ``count`` bytes at its beginning were dealt with, and the message behind them has ``needed`` bytes."""
        left = self.here - count
        before = self._memory
        if needed > len(before):
            self._memory = memoryview(bytearray(needed))
        if count or self._memory is not before:
            self._memory[:left] = before[count : self.here]
            self.here = left

    def data_received(self, data: bytes) -> None:
        """Take what was read elsewhere: by a transport that can't read into here, or before it was told to."""
        while data:
            room = self.get_buffer(len(data))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            self.buffer_updated(size)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory for the next bytes."""
        if self.here == len(self._memory):
            # The memory is full, and nothing is taken out of it for now.
            self.drop(0, self.here + max(sizehint, _LARGE))
        return self._memory[self.here :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in this number of bytes of the buffer: they have arrived."""
        self.here += nbytes
        self._filled()

    def eof_received(self) -> None:
        """End both directions, as the other side sends nothing more."""

    def pause_writing(self) -> None:
        """Send nothing more for now: the transport's buffer is full."""
        self._socket.pause_writing()

    def resume_writing(self) -> None:
        """Send again: the transport's buffer has room."""
        self._socket.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection has ended."""
        self._socket.connection_lost(exc)  # type: ignore[arg-type]


def _ignore(batch: bytes | memoryview) -> None:
    """Ignore a batch that comes after the end."""


def _private(transport: asyncio.Transport) -> bool:
    """Return whether nothing between the two ends can look into what is sent, so that a mask of zeros will do."""
    if transport.get_extra_info("ssl_object") is not None:
        return True
    where = transport.get_extra_info("peername")
    try:
        return ip_address(where[0].partition("%")[0]).is_loopback
    except (TypeError, ValueError, IndexError):
        return False
