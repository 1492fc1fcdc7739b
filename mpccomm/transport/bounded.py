"""What others may say to aiohttp, which bounds the size of a message, and not how much it passes over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection

from mpccomm.transport.websocket import MASK_SIZE, MASKED, WIDTHS

_MOST_ANSWERED = 16 * 1024
"""Bytes of an answer."""
_UPGRADED = b"HTTP/1.1 101 "
_KEPT, _KEPT_PER_SECOND = 96 * 1024, 32 * 1024
"""Bytes on a connection that is kept as a WebSocket of aiohttp, at once, and how many more in a second: for the largest message."""
_FRAMES, _FRAMES_PER_SECOND = 1024, 128
"""Frames there: a ping of two bytes costs as much as a message."""


class Allowance:
    """So much at once, and so much a second."""

    def __init__(self, most: int, rate: float) -> None:
        self._most = self._left = float(most)
        self._rate = rate
        self._counted = time.monotonic()

    def take(self, number: int = 1) -> bool:
        """Count one, or more. False: that was too much for the time."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._counted) * self._rate)
        self._counted = now
        if self._left < number:
            return False
        self._left -= number
        return True


class EndlessAnswerError(aiohttp.ClientError):
    """What answers says more than any party, relay or proxy has to."""


class _Handler(Protocol):
    """A protocol of aiohttp's."""

    def data_received(self, data: bytes) -> None:
        """Take bytes."""

    def eof_received(self) -> None:
        """Note that nothing more comes."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end."""

    def pause_writing(self) -> None:
        """Write nothing more for now."""

    def resume_writing(self) -> None:
        """Write again."""


class _Frames:
    """Finds the frames of WebSocket in a stream of bytes (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._left = 0
        self._rest = b""

    def begun(self, data: bytes) -> Iterator[None]:
        """Iterate over those whose heads end in these bytes, which come next."""
        data, self._rest = self._rest + data, b""
        at, end, self._left = self._left, len(data), 0
        while at < end:
            size = data[at + 1] & 0x7F if end - at > 1 else 0
            width = WIDTHS.get(size, 0)
            start = at + 2 + width + (MASK_SIZE if end - at > 1 and data[at + 1] & MASKED else 0)
            if start > end:
                self._rest = data[at:]
                return
            yield
            at = start + (int.from_bytes(data[at + 2 : at + 2 + width], "big") if width else size)
        self._left = at - end


class _Bounded(asyncio.Protocol):
    """Stands between a transport and aiohttp, and counts what arrives there; all else it passes on."""

    def __init__(self, transport: asyncio.Transport, handler: _Handler) -> None:
        self._transport = transport
        self._handler = handler
        self._frames = _Frames()
        self._allowed = Allowance(_KEPT, _KEPT_PER_SECOND), Allowance(_FRAMES, _FRAMES_PER_SECOND)
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Pass it on, or end the connection."""
        if self._is_too_much(data):
            self._transport.abort()
        else:
            self._handler.data_received(data)

    def _is_too_much(self, data: bytes) -> bool:
        bytes_left, frames_left = self._allowed
        return not (bytes_left.take(len(data)) and all(frames_left.take() for _ in self._frames.begun(data)))

    def eof_received(self) -> None:
        self._handler.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


class _BoundedAnswer(_Bounded):
    """The same, where an answer comes first."""

    _handler: ResponseHandler

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        super().__init__(transport, handler)
        self._answer: bytes | None = b""
        """What has come of it; None: it is over, and the connection is kept."""

    def _is_too_much(self, data: bytes) -> bool:
        answer = self._answer
        if answer is None:
            return super()._is_too_much(data)
        if self._handler.upgraded:
            # Frames came with it, or have begun.
            self._answer = None
            return not answer.startswith(_UPGRADED) or super()._is_too_much(answer.partition(b"\r\n\r\n")[2] + data)
        self._answer = answer + data
        too_much = len(self._answer) > _MOST_ANSWERED
        if too_much:
            self._handler.set_exception(EndlessAnswerError())
        return too_much


class BoundedConnector(aiohttp.BaseConnector):
    """A connector to others who may answer without end: aiohttp itself passes over any number of answers like `100 Continue`."""

    async def connect(self, req: ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Connection:
        """Return a connection on which little can be answered."""
        connection = await super().connect(req, traces, timeout)
        transport, handler = connection.transport, connection.protocol
        if transport is not None and handler is not None:
            _BoundedAnswer(transport, handler)
        return connection


def bound(transport: asyncio.Transport | None, handler: _Handler) -> None:
    """Bound what arrives on a kept connection that was accepted."""
    if transport is not None:
        _Bounded(transport, handler)
