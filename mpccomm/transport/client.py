"""The dialling end, with aiohttp: one attempt at a connection, and why it failed."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

from mpccomm.address import join
from mpccomm.protocol.states import CloseCode
from mpccomm.proxies import Proxy
from mpccomm.transport.bounded import EndlessAnswerError
from mpccomm.transport.dialling import DirectConnector, end, new_session, new_socket
from mpccomm.transport.proxy import ProxyConnector, ProxyError
from mpccomm.transport.reconnect import DialError, DialTerms
from mpccomm.transport.stream import PATH, Stream
from mpccomm.transport.tls import Verdict, judge, send_alert
from mpccomm.transport.websocket import HTTPProtocol, WebSocket, asking, granted, new_key

U = TypeVar("U")

_HUNG_UP = "it hung up before it answered"
_ENDED = {_HUNG_UP, *(os.strerror(number).lower() for number in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE))}
"""What is said of a connection that was ended before it was of use."""
_OPENED = "if the {} opens TLS, have its operator except this host"


class Client:
    """Dials one address, as often as it is asked to; through a proxy, if there is one."""

    def __init__(
        self,
        addr: str,
        port: int,
        terms: DialTerms,
        proxy: Proxy | None = None,
        server_name: str = "",
    ) -> None:
        self._addr = addr
        self._port = port
        self._connect_timeout, self._context, self._examine = terms
        self._proxy = proxy
        self._server_name = server_name
        self._spares: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        self._session = new_session(self._new_connector(), sock_connect=self._connect_timeout)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await end(self._session)

    async def dial(self) -> Stream:
        """Return a new connection to the party that is meant to be there."""
        try:
            stream = await self._connect()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            for spare in self._spares:
                send_alert(spare, error)
            raise self._failed(error, self._judge(error)) from error
        finally:
            while self._spares:
                self._spares.pop().close()
        if reason := await self._examine(stream.tls):
            stream.close(CloseCode.NOT_RECOGNISED)
            await stream.ended()
            raise DialError(reason, Verdict(reason, theirs=False))
        return stream

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(seconds)

    async def _connect(self) -> Stream:
        context = self._context()
        scheme = "http" if context is None else "https"
        url = URL.build(scheme=scheme, host=self._addr, port=self._port, path=PATH)
        async with asyncio.timeout(2 * self._connect_timeout):
            stream = await upgrade(
                self._session, url, context, lambda *ends: WebSocket(*ends, client=True), server_name=self._server_name
            )
        stream.proxied = self._proxy is not None
        stream.take_over()
        return stream

    def _new_connector(self) -> aiohttp.BaseConnector:
        """Return what finds the way to the address."""
        if self._proxy is not None:
            return ProxyConnector(self._proxy, self._connect_timeout, self._new_socket)
        return DirectConnector(self._new_socket)

    def _judge(self, error: BaseException) -> Verdict | None:
        if isinstance(error, ProxyError):
            return error.verdict
        verdict = judge(error) or _judge_status(error, self._context() is not None)
        if verdict is None or self._proxy is None:
            return verdict
        # The proxy may have led to another host. Like a refusal by the other end, this counts only if it goes on.
        opened = f"{_OPENED.format(self._proxy)}; {verdict.unpinned}" if verdict.unseen and verdict.unpinned else ""
        return verdict._replace(theirs=True, unpinned=opened or verdict.unpinned)

    def _failed(self, error: BaseException, verdict: Verdict | None) -> DialError:
        if isinstance(error, ProxyError):
            return DialError(str(error), verdict, error.step)
        text, name = describe(error), self._server_name
        if not name or verdict is not None or text not in _ENDED:
            return DialError(text, verdict)
        # What tells parties apart by their names ends what is for none of them, and nothing else is said of the reason.
        step = f"Does a pool run there that is called {name!r}, by its server_name= or in its certificate? The log there knows."
        return DialError(f"{text} when it was asked for {name!r}", step=step)

    def _new_socket(self, info: tuple[Any, ...]) -> socket.socket:
        sock = new_socket(info)
        if self._context() is not None:
            # To tell the other end why, should the handshake fail.
            self._spares.append(sock.dup())
        return sock


async def upgrade(
    session: aiohttp.ClientSession,
    url: URL,
    context: ssl.SSLContext | None,
    make: Callable[[asyncio.Transport, HTTPProtocol], U],
    headers: Mapping[str, str] | None = None,
    server_name: str = "",
) -> U:
    """Ask for an upgrade to WebSocket, and return what ``make`` returns, which has to take over the connection at once.

    :param make: gets the transport, and what is to be told of its end
    :param server_name: whom to ask for, if not the host in the URL; which certificate is good does not depend on it
    """
    key = new_key()
    named = {"Host": join(server_name, None if url.is_default_port() else url.port)} if server_name else {}
    # Redirects are not followed.
    response = await session.get(
        url,
        ssl=context or True,
        server_hostname=server_name or None,
        headers={**asking(key), **named, **(headers or {})},
        allow_redirects=False,
    )
    try:
        if response.status != 101 or not granted(response.headers, key):
            raise aiohttp.WSServerHandshakeError(
                response.request_info, response.history, status=response.status, headers=response.headers
            )
        connection = response.connection
        if connection is None or connection.transport is None or connection.protocol is None:
            raise aiohttp.ServerDisconnectedError
        made = make(connection.transport, _HTTPSide(response, connection.protocol))
        # What the other end sends before we have sent anything.
        connection.protocol.set_parser(made, None)
    except BaseException:
        response.close()
        raise
    return made


class _HTTPSide:
    """What stays of HTTP on an upgraded connection: it is told of the end."""

    def __init__(self, response: aiohttp.ClientResponse, protocol: asyncio.BaseProtocol) -> None:
        self._response = response
        self._protocol = protocol

    def connection_lost(self, exc: BaseException | None) -> None:
        # The error is not passed on: no call waits any more that would look at it.
        self._protocol.connection_lost(None)
        self._response.close()


def _judge_status(error: BaseException, certified: bool) -> Verdict | None:
    if not isinstance(error, aiohttp.WSServerHandshakeError):
        return None
    if error.status == 403 and certified:
        return Verdict(
            "it does not recognise our certificate: add it there as cert=, or under an address that is in it", True
        )
    if error.status == 426 and error.headers and error.headers.get("Upgrade", "").startswith("TLS"):
        return Verdict("it expects TLS: give this pool key=, cert= and ca_cert= as well", True)
    return None


def describe(error: BaseException) -> str:
    """Return why a dial failed, in words."""
    if isinstance(error, ProxyError):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name can't be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _HUNG_UP if isinstance(error.os_error, ssl.SSLError) else _in_system_words(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _HUNG_UP
    if isinstance(error, EndlessAnswerError):
        return "something else answers there (its answer has no end)"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status == 403:
            return "it does not recognise us: add this party there, under the address and port that it sees"
        if error.status in (502, 503, 504):
            return f"a proxy answers there, and does not reach what is behind it, which may just start (HTTP status {error.status})"
        return f"something else answers there (HTTP status {error.status})"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text is not used: it repeats what was received.
        return "something else answers there (not HTTP)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return _in_system_words(error)
    return f"{type(error).__name__}: {error}"


def _in_system_words(error: OSError) -> str:
    # Not the text of the exception: asyncio puts the call and its arguments there. Only where a name has several
    # addresses, which failed in different ways, the numbers have to be looked for in it.
    numbers = [error.errno] if error.errno else map(int, re.findall(r"\[Errno (\d+)\]", str(error)))
    return " or ".join(dict.fromkeys(os.strerror(number).lower() for number in numbers)) or _HUNG_UP
