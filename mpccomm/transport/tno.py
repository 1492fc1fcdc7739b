"""The HTTP of tno.mpc.communication 4.x and 5.x: a POST per message, which is answered when the message is held."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from mpccomm.errors import DecodingError
from mpccomm.transport.client import describe
from mpccomm.transport.dialling import DirectConnector, end, new_session
from mpccomm.transport.reconnect import DialError
from mpccomm.transport.tls import Verdict, judge

_COOKIE = "server_port"
_TIMEOUT = 300.0
"""Seconds for one attempt, as in that package."""


class StrangerError(aiohttp.ClientError):
    """Raised where the server that answers is not the party."""


class Poster:
    """Posts messages to one party. ``context`` is for TLS, ``unacceptable`` says why the one that answers is not that party."""

    tls: ssl.SSLObject | None = None
    """TLS of the latest connection."""

    def __init__(
        self,
        addr: str,
        port: int,
        context: Callable[[], ssl.SSLContext | None],
        unacceptable: Callable[[ssl.SSLObject | None], str | None],
    ) -> None:
        self._addr = addr
        self._port = port
        self._context = context
        self._session = new_session(_Connector(self._examine), total=_TIMEOUT)
        self._unacceptable = unacceptable

    async def probe(self, own_port: int, limit: float) -> None:
        """Return when the party has answered: that package answers any GET. Raise `DialError` after ``limit`` seconds at most."""
        async with self._answer("GET", own_port, None, limit):
            pass

    async def post(self, body: bytes, own_port: int) -> str:
        """Post a message. Return why the party does not hold it; empty: it does. Raises `DialError`."""
        async with self._answer("POST", own_port, body, _TIMEOUT) as status:
            return _REFUSALS.get(status, f"HTTP status {status}") if status != 200 else ""

    @asynccontextmanager
    async def _answer(self, method: str, own_port: int, body: bytes | None, limit: float) -> AsyncIterator[int]:
        context = self._context()
        url = URL.build(scheme="http" if context is None else "https", host=self._addr, port=self._port, path="/")
        headers = {"Cookie": f"{_COOKIE}={own_port}"}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        try:
            async with self._session.request(
                method,
                url,
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                ssl=context or True,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=limit),
            ) as response:
                yield response.status
        except StrangerError as error:
            raise DialError(str(error), Verdict(str(error), theirs=False)) from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise DialError(describe(error), judge(error)) from error

    def _examine(self, tls: ssl.SSLObject | None) -> str | None:
        self.tls = tls
        return self._unacceptable(tls)

    async def close(self) -> None:
        """Close the connections."""
        await end(self._session)


_REFUSALS = {
    401: "it does not recognise us: add this party there, under the address and port that it sees",
    500: "it can't read the message: are all classes registered there?",
}


class _Connector(DirectConnector):
    """A connector that sends nothing before it is known who answers."""

    def __init__(self, unacceptable: Callable[[ssl.SSLObject | None], str | None]) -> None:
        super().__init__()
        self._unacceptable = unacceptable

    async def connect(self, req: ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        if reason := self._unacceptable(transport.get_extra_info("ssl_object") if transport else None):
            connection.close()
            raise StrangerError(reason)
        return connection


class PostReceiver(Protocol):
    """What takes the messages that a party posts."""

    async def take(self, body: bytes, tls: ssl.SSLObject | None) -> None:
        """Hold a message.

        :raises DecodingError: it is none
        """


def declared_port(request: web.BaseRequest) -> int | None:
    """Return the port of the sender's own server, as it says; None: it doesn't."""
    text = request.cookies.get(_COOKIE, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


class PostReader:
    """Reads the messages that one party posts: at a time not more than ``room`` bytes together, or a single larger message."""

    def __init__(self, room: int, largest: int, timeout: float) -> None:
        self._admission = self._free = room
        self._largest = largest
        self._timeout = timeout
        self._cleared = asyncio.Condition()

    async def receive(self, request: web.BaseRequest, correspondent: PostReceiver) -> int:
        """Read a message, and hand it on; the HTTP status to answer with."""
        size = request.content_length
        if size is None:
            return 411
        if size > self._largest:
            return 413
        async with self._space(size):
            try:
                body = await self._read(request)
                await correspondent.take(body, request.get_extra_info("ssl_object"))
            except TimeoutError:
                return 408
            except DecodingError:
                return 500
        return 200

    @asynccontextmanager
    async def _space(self, size: int) -> AsyncIterator[None]:
        size = min(size, self._admission)
        async with self._cleared:
            await self._cleared.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            async with self._cleared:
                self._cleared.notify_all()

    async def _read(self, request: web.BaseRequest) -> bytes:
        body = bytearray()
        while True:
            async with asyncio.timeout(self._timeout):
                data = await request.content.readany()
            if not data:
                return bytes(body)
            body += data
