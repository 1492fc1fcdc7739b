"""The listening end: who calls is found out first, then the stream is handed to that party. Everybody else gets a bare status."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from aiohttp import WSMsgType, web

from mpccomm.session.frames import NO_PORT, Hello, ViolationError, parse
from mpccomm.session.states import CloseCode
from mpccomm.transport.address import IPAddress, join, normalise
from mpccomm.transport.stream import CLOSE_TIMEOUT, MAX_MESSAGE, PATH, WebSocket

logger = logging.getLogger("mpccomm")

GREETING = "An mpccomm pool listens here.\n"
_MAX_HELLO = 4096


class Reception(Protocol):
    """Knows who may call."""

    async def expects(self, address: IPAddress) -> bool:
        """Whether any party may call from there."""

    async def identify(self, address: IPAddress, port: int) -> Callable[[WebSocket, bytes], Awaitable[None]] | None:
        """Who calls from there and has its server at that port: a way to hand the stream over; None: nobody we know."""


class Server:
    """Listens on one socket until it is closed."""

    def __init__(self, sock: socket.socket, reception: Reception, greeting_time: float) -> None:
        self._socket = sock
        self._reception = reception
        self._greeting_time = greeting_time
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Begin to answer."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=CLOSE_TIMEOUT)
        self._runner = runner
        await runner.setup()
        await web.SockSite(runner, self._socket).start()

    async def close(self) -> None:
        """Stop listening; what is still open ends."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        if peer is None:
            return web.Response(status=400)
        address = normalise(peer[0])
        if request.headers.get("Upgrade", "").lower() != "websocket":
            if request.path == "/" and request.method in ("GET", "HEAD"):
                return web.Response(text=GREETING)
            return self._refuse(address, 404 if request.path != PATH else 426, f"{request.method} without an upgrade")
        if request.path != PATH:
            return self._refuse(address, 404, "an upgrade at the wrong path")
        if not await self._reception.expects(address):
            return self._refuse(address, 403, "no party was added with that address")
        websocket: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            compress=False, max_msg_size=MAX_MESSAGE, timeout=CLOSE_TIMEOUT, decode_text=False
        )
        try:
            await websocket.prepare(request)
        except web.HTTPException:
            return self._refuse(address, 400, "a malformed upgrade")
        await self._greet(websocket, address)
        return websocket

    def _refuse(self, address: IPAddress, status: int, reason: str) -> web.Response:
        logger.warning("refused a request from %s: %s", address, reason)
        return web.Response(status=status)

    async def _greet(self, websocket: web.WebSocketResponse[Literal[False]], address: IPAddress) -> None:
        try:
            async with asyncio.timeout(self._greeting_time):
                message = await websocket.receive()
        except TimeoutError:
            await self._dismiss(websocket, CloseCode.SILENT, address, "it did not say who it is")
            return
        if message.type is not WSMsgType.BINARY:
            await self._dismiss(
                websocket, CloseCode.VIOLATION, address, "it closed, or sent something else than a HELLO"
            )
            return
        try:
            hello = _first_hello(message.data)
        except ViolationError as error:
            await self._dismiss(websocket, CloseCode.VIOLATION, address, str(error))
            return
        take_over = await self._reception.identify(address, hello.port)
        if take_over is None:
            where = (
                join(str(address), hello.port) if hello.port != NO_PORT else f"{address}, without a server of its own"
            )
            await self._dismiss(websocket, CloseCode.NOT_RECOGNISED, address, f"no party was added as {where}")
            return
        await take_over(websocket, message.data)

    async def _dismiss(
        self, websocket: web.WebSocketResponse[Literal[False]], code: CloseCode, address: IPAddress, reason: str
    ) -> None:
        logger.warning("closed a connection from %s: %s", address, reason)
        await websocket.close(code=code)


def _first_hello(batch: bytes) -> Hello:
    if len(batch) > _MAX_HELLO:
        raise ViolationError(f"{len(batch)} bytes before saying who it is")
    frame = next(parse(batch, max_id_size=0), None)
    if not isinstance(frame, Hello):
        raise ViolationError("its first frame is not a HELLO")
    return frame
