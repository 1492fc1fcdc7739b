"""One WebSocket, as a stream of batches in both directions. The same for the side that dialled and the side that answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiohttp import WebSocketError, WSCloseCode, WSMsgType

from mpccomm.protocol.frames import MAX_BATCH
from mpccomm.protocol.states import CloseCode

if TYPE_CHECKING:
    from typing import Literal

    from aiohttp import ClientWebSocketResponse
    from aiohttp.web import WebSocketResponse

# In quotes: who only dials does without aiohttp's server.
WebSocket: TypeAlias = "ClientWebSocketResponse[Literal[False]] | WebSocketResponse[Literal[False]]"

PATH = "/mpccomm"
MAX_MESSAGE = MAX_BATCH
CLOSE_TIMEOUT = 2.0
"""Seconds that a polite end of a connection may take."""
_UNSENT = 256 * 1024
"""Bytes that the system takes from us beyond what it has sent, where it can be told."""


class Peer(Protocol):
    """Whoever uses a stream: takes what arrives, and has something to send."""

    def batch_received(self, batch: bytes) -> None:
        """One batch arrived."""

    def batch_to_send(self) -> bytes:
        """The next batch to send; empty: nothing now, `Stream.wake` will tell."""


class Stream:
    """Runs one connection to its end."""

    def __init__(self, websocket: WebSocket) -> None:
        self._socket = websocket
        _keep_short(websocket)
        self._idle: asyncio.Future[None] | None = None
        self._close_code: int | None = None
        self.ended_with: int | None = None
        """The close code that the other side gave, if it gave one."""
        self.violation = ""
        """What arrived that is no batch, and ended the connection."""

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS knows of the other end; None on plain HTTP."""
        connection: ssl.SSLObject | None = self._socket.get_extra_info("ssl_object")
        return connection

    def wake(self) -> None:
        """There is something to send. It goes out in the next turn of the loop, together with all that comes up until then."""
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    @property
    def closing(self) -> bool:
        """Whether it is this side that ends it."""
        return self._close_code is not None

    def close(self, code: int) -> None:
        """Send what is still to be sent, then close."""
        if self._close_code is None:
            self._close_code = code
            self.wake()

    def abort(self) -> None:
        """End it at once, without a word."""
        self._close_code = self._close_code or CloseCode.DONE
        writer = getattr(self._socket, "_writer", None)
        if writer is not None and writer.transport is not None:
            writer.transport.abort()

    async def run(self, peer: Peer) -> None:
        """Carry batches until either side closes, or the connection breaks."""
        writer = asyncio.ensure_future(self._write(peer))
        try:
            await self._read(peer)
        finally:
            if self._close_code is None:
                writer.cancel()
            # Otherwise it is the writer that closes, within CLOSE_TIMEOUT.
            await asyncio.wait((writer,))
            await self._socket.close()
        # A broken connection shows on whichever side is used first; any other error is ours.
        if not writer.cancelled() and not isinstance(error := writer.exception(), ConnectionError | None):
            raise error

    async def _read(self, peer: Peer) -> None:
        receive = self._socket.receive
        while True:
            message = await receive()
            if message.type is not WSMsgType.BINARY:
                if message.type is WSMsgType.CLOSE:
                    # Not the socket's close_code: that is another one where our answer came too late.
                    self.ended_with = message.data
                self.violation = violation_of(message.type, message.data)
                if self.violation:
                    self.close(CloseCode.VIOLATION)
                return
            peer.batch_received(message.data)

    async def _write(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        websocket = self._socket
        while True:
            while batch := peer.batch_to_send():
                await websocket.send_bytes(batch)
            if self._close_code is not None:
                await websocket.close(code=self._close_code)
                return
            self._idle = loop.create_future()
            await self._idle


def _keep_short(websocket: WebSocket) -> None:
    """Let little wait in the system's send buffer: whatever is there, an urgent message can't overtake any more."""
    sock: socket.socket | None = websocket.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def violation_of(kind: WSMsgType, data: object) -> str:
    """What this message is that is neither a batch nor the end of the connection; empty if it is one of the two."""
    if kind is WSMsgType.TEXT:
        return "a text message"
    # A connection that breaks comes as an ERROR too, with what the system said of it.
    if kind is WSMsgType.ERROR and isinstance(data, WebSocketError):
        too_big = data.code == WSCloseCode.MESSAGE_TOO_BIG
        return f"a message of more than {MAX_MESSAGE} bytes" if too_big else "bytes that are no WebSocket frame"
    return ""
