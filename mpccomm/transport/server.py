"""The listening end: who calls is found out first, then the stream is handed to that party. Everybody else gets a bare status."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from aiohttp import WSMsgType, web

from mpccomm.session.frames import NO_PORT, Hello, ViolationError, parse
from mpccomm.session.states import CloseCode
from mpccomm.transport.address import IPAddress, join, normalise
from mpccomm.transport.complaints import Complaints
from mpccomm.transport.stream import CLOSE_TIMEOUT, MAX_MESSAGE, PATH, WebSocket, misfit

logger = logging.getLogger("mpccomm")

GREETING = "An mpccomm pool listens here.\n"
_MAX_HELLO = 4096
_BANNER = {"Server": "mpccomm"}
"""Otherwise aiohttp would tell everybody its version and Python's."""


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
        self._complaints = Complaints(logger)
        self._greetings: set[asyncio.Task[None]] = set()
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Begin to answer."""
        # Whoever connects and sends no complete request within the greeting time is sent away by the keep-alive timer.
        server = _HTTPServer(
            self._answer,
            access_log=None,
            logger=logger,
            keepalive_timeout=self._greeting_time,
            lingering_time=0,
            complaints=self._complaints,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=CLOSE_TIMEOUT)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def close(self) -> None:
        """Stop listening; what is still open ends."""
        for greeting in self._greetings:
            greeting.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        address = address_of(request)
        if address is None:
            return _bare(400)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            if request.path == "/" and request.method in ("GET", "HEAD"):
                return web.Response(text=GREETING, headers=_BANNER)
            return self._refuse(address, 404 if request.path != PATH else 426, "a request without an upgrade")
        if request.path != PATH:
            return self._refuse(address, 404, "an upgrade at the wrong path")
        if not await self._reception.expects(address):
            return self._refuse(address, 403, "no party was added with that address")
        websocket: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            compress=False, max_msg_size=MAX_MESSAGE, timeout=CLOSE_TIMEOUT, decode_text=False
        )
        websocket.headers.update(_BANNER)
        try:
            await websocket.prepare(request)
        except web.HTTPException:
            return self._refuse(address, 400, "a malformed upgrade")
        await self._greet(websocket, address)
        return websocket

    def _refuse(self, address: IPAddress, status: int, reason: str) -> web.Response:
        self._complaints.log(f"refused a request from {address}: {reason}")
        return _bare(status)

    async def _greet(self, websocket: web.WebSocketResponse[Literal[False]], address: IPAddress) -> None:
        """Find out who it is, and hand the stream over to that party."""
        greeting = asyncio.current_task()
        assert greeting is not None
        self._greetings.add(greeting)
        try:
            async with asyncio.timeout(self._greeting_time):
                message = await websocket.receive()
                if message.type is not WSMsgType.BINARY:
                    raise ViolationError(f"{misfit(message.type, message.data) or 'it closed'} instead of a HELLO")
                hello = _first_hello(message.data)
                take_over = await self._reception.identify(address, hello.port)
        except TimeoutError:
            await self._dismiss(websocket, CloseCode.SILENT, address, "it did not say who it is")
            return
        except ViolationError as error:
            await self._dismiss(websocket, CloseCode.VIOLATION, address, str(error))
            return
        finally:
            self._greetings.discard(greeting)
        if take_over is None:
            where = f"{address}, without a server of its own" if hello.port == NO_PORT else join(address, hello.port)
            await self._dismiss(websocket, CloseCode.NOT_RECOGNISED, address, f"no party was added as {where}")
            return
        await take_over(websocket, message.data)

    async def _dismiss(
        self, websocket: web.WebSocketResponse[Literal[False]], code: CloseCode, address: IPAddress, reason: str
    ) -> None:
        self._complaints.log(f"closed a connection from {address}: {reason}")
        await websocket.close(code=code)


class _HTTPServer(web.Server):
    """aiohttp's server, whose answer to what is no HTTP is a bare status as well."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)


class _Protocol(web.RequestHandler):
    __slots__ = ("_complaints",)

    def __init__(self, server: web.Server, *, complaints: Complaints, **options: Any) -> None:
        super().__init__(server, **options)
        self._complaints = complaints

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what can't be read as HTTP, or what failed in here."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        if status < 500:
            # Not the text of the exception: it repeats what was sent.
            self._complaints.log(f"refused a request from {address_of(request)}: not HTTP as we know it")
        else:
            logger.error("answering a request failed", exc_info=exc)
        return _bare(status)


def address_of(request: web.BaseRequest) -> IPAddress | None:
    """Where a request comes from; None: its connection is gone already."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return normalise(peer[0]) if peer else None


def _bare(status: int) -> web.Response:
    response = web.Response(status=status, headers=_BANNER)
    response.force_close()
    return response


def _first_hello(batch: bytes) -> Hello:
    if len(batch) > _MAX_HELLO:
        raise ViolationError(f"{len(batch)} bytes before saying who it is")
    frame = next(parse(batch, max_id_size=0), None)
    if not isinstance(frame, Hello):
        raise ViolationError("its first frame is not a HELLO")
    return frame
