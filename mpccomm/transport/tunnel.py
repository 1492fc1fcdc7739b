"""A connection through a relay: TLS from end to end, in WebSocket messages that the relay passes on without looking into them.

To what is above it, a `Tunnel` is a transport like any other with TLS. Below it is a connection to the relay, which may have
TLS of its own. Messages are as large as it happens: only their bytes count, and where one ends says nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from mpccomm.transport.stream import CLOSE_TIMEOUT
from mpccomm.transport.tls import resume_in_a_turn_of_its_own
from mpccomm.transport.websocket import (
    BEGINNINGS,
    HEADS,
    MASKED,
    WIDTHS,
    FramingError,
    HTTPProtocol,
    Upgraded,
    head_of,
    unmask,
)

_FIN, _BINARY, _CONTINUED, _CLOSE, _PING, _PONG = 0x80, 0x2, 0x0, 0x8, 0x9, 0xA
_LARGEST_CONTROL = 125
_RECORD = 16 * 1024
"""The largest number of bytes in one record of TLS."""
_MOST_IDLE = 1000
"""How many frames in a row may be empty."""
_AT_ONCE = 512
"""How many frames are unpacked in one turn of the loop, which belongs to others as well."""
_SMALL = 64 * 1024
"""Below this size, copying head and payload together is quicker than writing both."""
Piece = bytes | memoryview


class Deframer:
    """Unpacks frames from a stream of bytes as they arrive, without waiting for the end of a frame.

    :param masked: whether the other end is the client, whose frames have masks
    """

    __slots__ = ("_beginnings", "_idle", "_left", "_mask", "_masked", "_rest", "closed", "more", "ping")

    def __init__(self, *, masked: bool) -> None:
        self.closed = False
        """Whether the other end has said that it closes: what comes after that is ignored."""
        self.more = False
        """Whether more frames are here than were unpacked at once: feed it again, with nothing, in a later turn of the loop."""
        self.ping: bytes | None = None
        """The payload of the latest ping, for the answer."""
        self._masked = masked
        self._beginnings = BEGINNINGS[MASKED if masked else 0]
        self._rest = b""
        self._left = 0
        self._mask = b""
        self._idle = 0

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Return what of these bytes is payload.

        :raises FramingError: they are no frames that may come here
        """
        if not (self._left or self._rest or self.closed):
            # The same short cut as in `WebSocket`, for one message that arrives alone.
            payload = data.removeprefix(self._beginnings[len(data)])
            if payload is not data:
                self._idle = 0
                return (payload,)
        pieces: list[Piece] = []
        if self._rest:
            data = self._rest + data
            self._rest = b""
        self.more = False
        view, at, end, frames = memoryview(data), 0, len(data), _AT_ONCE
        while at < end and not self.closed:
            if self._left:
                size = min(self._left, end - at)
                pieces.append(self._unmasked(view[at : at + size]))
                self._left -= size
                at += size
                self._idle = 0
                continue
            start = self._read_head(view, at, end)
            if not start:
                self._rest = bytes(view[at:])
                break
            at = start
            frames -= 1
            if not frames and at < end:
                self._rest = bytes(view[at:])
                self.more = not self.closed
                break
        return pieces

    def _read_head(self, data: memoryview, at: int, end: int) -> int:
        """Return where the payload begins, that of a control frame behind it; 0: not all is there yet."""
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        if first & 0x70 or bool(second & MASKED) is not self._masked:
            raise FramingError("bytes that are no WebSocket frame")
        kind, size, start = first & 0x0F, second & 0x7F, at + 2
        if width := WIDTHS.get(size):
            start += width
            if start > end:
                return 0
            size = int.from_bytes(data[start - width : start], "big")
        if self._masked:
            start += 4
            if start > end:
                return 0
            mask = bytes(data[start - 4 : start])
            self._mask = mask if any(mask) else b""
        if kind in (_BINARY, _CONTINUED):
            self._left = size
        elif kind in (_CLOSE, _PING, _PONG) and first & _FIN and size <= _LARGEST_CONTROL:
            if start + size > end:
                return 0
            self._on_control(kind, self._unmasked(data[start : start + size]))
            start += size
        else:
            raise FramingError("a WebSocket frame that has no place in a tunnel")
        if kind & _CLOSE or not size:
            self._idle += 1
            if self._idle > _MOST_IDLE:
                raise FramingError(f"{self._idle} WebSocket frames in a row that carry nothing")
        return start

    def _on_control(self, kind: int, payload: Piece) -> None:
        if kind == _CLOSE:
            self.closed = True
        elif kind == _PING:
            self.ping = bytes(payload)

    def _unmasked(self, piece: memoryview) -> Piece:
        mask = self._mask
        if not mask:
            return piece
        turn = len(piece) % 4
        self._mask = mask[turn:] + mask[:turn]
        return unmask(piece, mask)


def frame(transport: asyncio.WriteTransport, pieces: Sequence[Piece], size: int, masked: int) -> None:
    """Write these pieces, of ``size`` bytes together, as one binary message.

    The mask is one of zeros: masks protect proxies from bytes that an attacker chose, and these come out of a cipher.
    """
    head = HEADS[masked][size]
    if size < _SMALL:
        transport.write(head + pieces[0] if len(pieces) == 1 else b"".join((head, *pieces)))
    else:
        transport.writelines((head, *pieces))


def closing_frame(code: int, masked: int) -> bytes:
    """Return the frame that ends a tunnel."""
    return head_of(_FIN | _CLOSE, 2, masked) + code.to_bytes(2, "big")


def pong_frame(payload: bytes, masked: int) -> bytes:
    """Return the answer to a ping."""
    return head_of(_FIN | _PONG, len(payload), masked) + payload


class Tunnel(asyncio.Transport, Upgraded):
    """TLS through a relay.

    :param transport: the connection to the relay, after its upgrade
    :param before: what was in charge of it, and is told of its end
    :param protocol: what talks through the tunnel; it is told of the connection when the handshake is done
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        before: HTTPProtocol,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        *,
        server_side: bool,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._below = transport
        self._before = before
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._make_protocol = protocol
        self._protocol: asyncio.Protocol | None = None
        self._deframer = Deframer(masked=False)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._said_end = False
        self._paused = False
        self._over = False
        self._error: Exception | None = None
        self._limit: asyncio.TimerHandle | None = None

    async def open(self, limit: float) -> None:
        """Take over the connection and shake hands.

        :param limit: seconds that the handshake may take
        :raises ssl.SSLError: the two ends don't accept each other, or what lies between has changed what they say
        :raises OSError: the connection ended
        :raises TimeoutError: it took too long
        """
        resume_in_a_turn_of_its_own(self._below)
        self._below.set_protocol(self)
        if self._below.is_closing():
            raise ConnectionResetError("the relay closed the connection")
        self._advance()
        try:
            async with asyncio.timeout(limit):
                await asyncio.shield(self._ready)
        except (asyncio.CancelledError, TimeoutError):
            self.abort()
            raise

    # -- what comes from the relay ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        deframer = self._deframer
        try:
            for piece in deframer.feed(data):
                self._incoming.write(piece)
            if deframer.ping is not None:
                ping, deframer.ping = deframer.ping, None
                self._below.write(pong_frame(ping, MASKED))
            self._advance()
        except FramingError as error:
            self._fail(ConnectionAbortedError(str(error)))
        if deframer.closed and not self._closing:
            self._end()
        elif deframer.more:
            self._below.pause_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Go on with what was read, in a turn of its own."""
        if not (self._over or self._paused or self._below.is_closing()):
            self.data_received(b"")
            self._read_on()

    def _read_on(self) -> None:
        if not (self._deframer.more or self._paused or self._below.is_closing()):
            self._below.resume_reading()

    def _advance(self) -> None:
        try:
            if not self._ready.done():
                self._shake_hands()
            self._deliver()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._flush()
        except ssl.SSLError as error:
            # If there is an alert, it tells the other end why.
            alert = getattr(error, "alert", b"") or self._outgoing.read()
            if alert and not self._below.is_closing():
                frame(self._below, (alert,), len(alert), MASKED)
            self._fail(error)

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        protocol = self._protocol = self._make_protocol()
        self._ready.set_result(None)
        self._flush()
        protocol.connection_made(self)

    def _deliver(self) -> None:
        """Hand on what was decrypted."""
        read, incoming, parts, ended = self._tls.read, self._incoming, [], False
        try:
            while part := read(_RECORD):
                parts.append(part)
                # Reading where there is nothing is expensive, as it raises an exception.
                if not incoming.pending:
                    break
            else:
                ended = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        if self._outgoing.pending:
            self._flush()
        protocol = self._protocol
        if parts and protocol is not None and not self._over:
            protocol.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if ended:
            self.close()

    def _fail(self, error: Exception) -> None:
        self._error = error
        if self._ready.done():
            self.abort()
            return
        self._ready.set_exception(error)
        # Looked at, even if no call waits for it any more.
        self._ready.exception()
        self._end()

    def _end(self) -> None:
        """Close once what was written is sent, or after a time limit."""
        self._closing = True
        if self._limit is None:
            self._limit = self._loop.call_later(CLOSE_TIMEOUT, self._below.abort)
        self._below.close()

    def eof_received(self) -> None:
        """End both directions, as the relay sends nothing more."""

    def pause_writing(self) -> None:
        """Send nothing more for now: the buffer of the connection to the relay is full."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Send again: its buffer has room."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection to the relay has ended."""
        if self._over:
            return
        self._over = self._closing = True
        if self._limit is not None:
            self._limit.cancel()
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError("the connection through the relay ended"))
            self._ready.exception()
        self._before.connection_lost(exc)
        if self._protocol is not None:
            # This also tells why the other end refused us: with TLS 1.3 that comes after our own handshake.
            self._protocol.connection_lost(self._error or (exc if isinstance(exc, Exception) else None))

    # -- what is above: a transport ------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send some bytes."""
        if data and not self._closing:
            self._tls.write(data)
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send some bytes, in pieces."""
        if self._closing:
            return
        for data in list_of_data:
            if data:
                self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        if (data := self._outgoing.read()) and not (self._said_end or self._below.is_closing()):
            frame(self._below, (data,), len(data), MASKED)

    def close(self) -> None:
        """Send what was written, say that no more comes, and end it."""
        if self._closing:
            return
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self.write_eof()
        self._end()

    def abort(self) -> None:
        """End it at once."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Return whether it ends."""
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over to another protocol."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that speaks through it."""
        assert self._protocol is not None
        return self._protocol

    def pause_reading(self) -> None:
        """Take nothing more from the relay for now."""
        self._paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking what the relay sends."""
        self._paused = False
        if self._deframer.more:
            self._loop.call_soon(self._go_on)
        else:
            self._below.resume_reading()

    def is_reading(self) -> bool:
        """Return whether what the relay sends is taken."""
        return not self._paused and (self._deframer.more or self._below.is_reading())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the connection to the relay: nothing waits in here."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits of the connection to the relay."""
        return self._below.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Bytes that the connection to the relay has not taken yet."""
        return self._below.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return True: the relay passes on what was written, and lets us know by closing the connection."""
        return True

    def write_eof(self) -> None:
        """Say that no more comes, and go on reading."""
        if not (self._said_end or self._below.is_closing()):
            self._said_end = True
            self._below.write(closing_frame(1000, MASKED))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what TLS between the parties knows, otherwise what the connection to the relay does."""
        if name == "ssl_object":
            return self._tls
        if name == "sslcontext":
            return self._tls.context
        if name == "buffered":
            return False  # what is decrypted has memory of its own, and no `asyncio.BufferedProtocol` is asked for any
        return self._below.get_extra_info(name, default)
