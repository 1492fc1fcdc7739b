"""The listening end: it finds out who calls, and hands the stream to that party. Other callers get a bare HTTP status."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, cast

from aiohttp import web

from mpccomm.address import IPAddress
from mpccomm.logs import EventLog, LogEvent
from mpccomm.settings import Settings
from mpccomm.transport import tno
from mpccomm.transport.admission import Admission, PendingConnection
from mpccomm.transport.handshake import Authenticator, Caller, NotRecognisedError, receive_hello
from mpccomm.transport.listener import Acceptor, Sharing
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.stream import CLOSE_TIMEOUT, PATH, Stream
from mpccomm.transport.websocket import WebSocket, asked_for

GREETING = "An mpccomm pool listens here.\n"
_BUFFER = 32 * 1024
_READ_AHEAD = 2 * _BUFFER + 256 * 1024
"""A body fills aiohttp's buffer twice, and then at most one more read of the loop's, before it is held back."""
_TLS_HANDSHAKE = b"\x16"
_SPEAKS_TLS = "it speaks TLS, and this pool has no certificates: give it key=, cert= and ca_cert= as well"
_BANNER = {"Server": "mpccomm"}
"""Otherwise aiohttp would tell every caller its version and Python's."""


class ConnectionHandler:
    """Answers on connections that come in, wherever from.

    :param parties_at: how many parties call from an address, as far as is known
    :param relayed: they come through a relay
    """

    def __init__(
        self,
        authenticator: Authenticator,
        settings: Settings,
        parties_at: Callable[[IPAddress], int],
        *,
        relayed: bool = False,
    ) -> None:
        self._relayed = relayed
        self._authenticator = authenticator
        # At a shared port, callers may be accepted in the context of another pool.
        self._log = EventLog.here()
        self._log_throttle = LogThrottle(self._log)
        self._closing = False
        self._handshakes: set[asyncio.Task[None]] = set()
        limits = settings.limits
        self._new_post_reader = partial(
            tno.PostReader, limits.box_bytes, limits.max_message_size, settings.timing.dead_after
        )
        self._post_readers: dict[tno.PostReceiver, tno.PostReader] = {}
        greeting = settings.timing.greeting
        self.admission = Admission(settings.strangers, greeting, parties_at)
        """The connections whose caller is not known yet."""
        # A caller that sends no complete request within `Timing.greeting` is sent away by the keep-alive timer.
        self._http = HTTPServer(
            self._answer,
            access_log=None,
            keepalive_timeout=greeting,
            lingering_time=0,
            read_bufsize=_BUFFER,
            auto_decompress=False,
            max_line_size=settings.strangers.header_bytes,
            max_field_size=settings.strangers.header_bytes,
            max_headers=settings.strangers.headers,
            log_throttle=self._log_throttle,
        )

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Wait until it is known who calls, of each connection that there is now from these addresses."""
        await self.admission.until_known(addresses)

    async def close(self) -> None:
        """Stop answering; what is still open ends."""
        self._closing = True
        self.admission.close()
        for handshake in self._handshakes:
            handshake.cancel()
        self._http.pre_shutdown()
        await self._http.shutdown(CLOSE_TIMEOUT)

    def receive(self, pending: PendingConnection) -> asyncio.Protocol:
        """Return the protocol for a new connection."""
        if self._authenticator.correspondents:
            # What is read of a posted message until its sender is looked at.
            pending.unread += _READ_AHEAD
        return self._http.receive(pending)

    def sent_away(self, address: IPAddress, reason: str) -> None:
        """Note that a caller was refused before it was known who it is."""
        if self._closing:
            self._log(LogEvent.CONNECTION_CLOSED, "closed a connection from %s: %s", address, reason)
            return
        self._log_throttle.log(f"closed a connection from {address}: {reason}", kind="closed")
        self._authenticator.refused(address, reason)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        pending = pending_of(request)
        address = pending.address
        if request.transport is None:
            return bare(400)  # it has hung up, so that TLS does not know any more who it was
        caller = Caller(address, request.get_extra_info("ssl_object"), self._relayed)
        if "Content-Encoding" in request.headers:
            return self._refuse(address, 415, "a compressed body")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            if request.path == "/" and request.method in ("GET", "HEAD"):
                return bare(200, GREETING)
            why = "a request without an upgrade"
            if request.method == "POST":
                if self._authenticator.correspondents:
                    return await self._take(request, caller, pending)
                why = "a POST, as tno.mpc.communication sends: if it comes from such a party, add that with wire="
            return self._refuse(address, 404 if request.path != PATH else 426, why)
        if request.path != PATH:
            return self._refuse(address, 404, "an upgrade at the wrong path")
        if "Origin" in request.headers:
            # Only browsers send this header: the request comes from a web page, whatever host name it uses.
            return self._refuse(address, 403, "an upgrade on behalf of a web page")
        if request.body_exists:
            return self._refuse(address, 413, "an upgrade with a body")
        try:
            await self._authenticator.expect(caller)
        except NotRecognisedError as error:
            if error.usual:
                self._log(LogEvent.CONNECTION_CLOSED, "refused a request from %s: %s", address, error)
                return bare(403)
            return self._refuse(address, 403, str(error))
        headers = asked_for(request.headers) if request.method == "GET" else None
        if headers is None:
            return self._refuse(address, 400, "a malformed upgrade")
        response = web.StreamResponse(status=101, headers={**_BANNER, **headers})
        await response.prepare(request)
        await self._run(request, caller, pending)
        return response

    async def _run(self, request: web.BaseRequest, caller: Caller, pending: PendingConnection) -> None:
        protocol, transport = request.protocol, request.transport
        if transport is None:
            return
        protocol.keep_alive(False)
        stream = WebSocket(transport, protocol, client=False, counts=pending.count)
        stream.relayed = self._relayed
        # Takes over what arrived together with the request.
        protocol.set_parser(cast(Any, stream))
        stream.take_over()
        try:
            await self._receive_hello(stream, caller, pending)
        finally:
            stream.abort()

    async def _take(self, request: web.BaseRequest, caller: Caller, pending: PendingConnection) -> web.StreamResponse:
        """Take a message from a party that posts them."""
        port = tno.declared_port(request)
        if port is None:
            return self._refuse(caller.address, 400, "it posts, and does not say the port of its server")
        try:
            correspondent = await self._authenticator.correspondent(caller, port)
        except NotRecognisedError as error:
            return self._refuse(caller.address, 401, str(error))
        pending.end()
        if pending.dropped:
            # Its sender posts it again.
            return bare(503)
        reader = self._post_readers.setdefault(correspondent, self._new_post_reader())
        try:
            await reader.receive(request, correspondent, _protocol_of(request).lost)
        except tno.NotTakenError as error:
            return self._refuse(caller.address, error.status, str(error))
        return bare(200)

    def _refuse(self, address: IPAddress, status: int, reason: str) -> web.Response:
        self._log_throttle.log(f"refused a request from {address}: {reason}", kind="refused")
        return bare(status)

    async def _receive_hello(self, stream: Stream, caller: Caller, pending: PendingConnection) -> None:
        """Find out who calls, and hand the stream over to that party."""
        handshake = asyncio.current_task()
        assert handshake is not None
        self._handshakes.add(handshake)
        try:
            take_over = await receive_hello(stream, caller, self._authenticator, pending.deadline)
        except NotRecognisedError as error:
            if error.usual:
                self._log(LogEvent.CONNECTION_CLOSED, "closed a connection from %s: %s", caller.address, error)
            elif not pending.dropped:
                self._log_throttle.log(f"closed a connection from {caller.address}: {error}", kind="unknown")
            stream.close(error.code)
            await stream.ended()
            return
        finally:
            self._handshakes.discard(handshake)
        pending.end()
        await take_over()


class Server(ConnectionHandler):
    """Listens on one socket until it is closed."""

    def __init__(
        self,
        sock: socket.socket,
        authenticator: Authenticator,
        settings: Settings,
        membership: Sharing | None = None,
    ) -> None:
        parties_at = authenticator.parties_at if membership is None else membership.parties_at
        super().__init__(authenticator, settings, parties_at)
        self._socket = sock
        self._membership = membership
        self._listener = Acceptor(
            sock,
            self.admission,
            self.receive,
            lambda: authenticator.answering,
            settings.timing.greeting,
            self.sent_away,
            None if membership is None else membership.choose,
        )

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start()
        if self._membership is not None:
            self._membership.acceptor = self._listener

    async def close(self) -> None:
        """Stop listening; what is still open ends."""
        self._closing = True
        if self._membership is not None:
            self._membership.leave()
        await self._listener.close()
        self._socket.close()
        await super().close()


class HTTPServer(web.Server):
    """aiohttp's server, whose answer to what is no HTTP is a bare status as well."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler)
        self._options = options

    def receive(self, pending: PendingConnection) -> web.RequestHandler:
        """Return the protocol for a new connection."""
        return _Protocol(self, pending=pending, loop=asyncio.get_running_loop(), **self._options)


class _Protocol(web.RequestHandler):
    __slots__ = ("_first", "_log_throttle", "lost", "pending")

    def __init__(
        self, server: web.Server, *, pending: PendingConnection, log_throttle: LogThrottle, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self.pending = pending
        self._log_throttle = log_throttle
        self._first = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.pending.transport = cast(asyncio.WriteTransport, transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._first = self._first or data[:1]
        if self.pending.count(len(data)):
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.pending.end()
        if not self.lost.done():
            self.lost.set_result(None)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        self._log_throttle.failure("answering a request failed", kw.get("exc_info"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what can't be read as HTTP, or what failed in here."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        if status < 500:
            # The text of the exception is not used: it repeats what was sent.
            what = _SPEAKS_TLS if self._first == _TLS_HANDSHAKE else "not HTTP as we know it"
            self._log_throttle.log(f"refused a request from {self.pending.address}: {what}", kind="no HTTP")
        else:
            self._log_throttle.failure("answering a request failed", exc)
        return bare(status)


def pending_of(request: web.BaseRequest) -> PendingConnection:
    """Return the pending connection that a request belongs to."""
    return _protocol_of(request).pending


def _protocol_of(request: web.BaseRequest) -> _Protocol:
    protocol = request.protocol
    assert isinstance(protocol, _Protocol)
    return protocol


def bare(status: int, text: str | None = None) -> web.Response:
    """Return an answer that says nothing but a status, and ends the connection."""
    response = web.Response(status=status, text=text, headers=_BANNER)
    response.force_close()
    return response
