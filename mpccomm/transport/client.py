"""The dialling end, by aiohttp: one attempt at a connection, and why it failed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Self

import aiohttp
from aiohttp import ClientWebSocketResponse
from yarl import URL

from mpccomm.protocol.states import CloseCode
from mpccomm.transport.address import Resolver
from mpccomm.transport.reconnect import DialError
from mpccomm.transport.stream import CLOSE_TIMEOUT, MAX_MESSAGE, PATH, WebSocket
from mpccomm.transport.tls import Verdict, judge, send_alert

TELLING = ("User-Agent", "Accept-Encoding")
"""Otherwise aiohttp would tell everybody its version and Python's, and which libraries it finds."""
_HUNG_UP = "it hung up before it answered"


def _stay() -> aiohttp.TraceConfig:
    """aiohttp follows redirections in an upgrade, and can't be told otherwise: nobody sends us to another address."""
    trace: aiohttp.TraceConfig = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirection)
    return trace


async def _refuse_redirection(session: object, context: object, seen: aiohttp.TraceRequestRedirectParams) -> None:
    response = seen.response
    response.close()
    raise aiohttp.WSServerHandshakeError(
        response.request_info, response.history, status=response.status, headers=response.headers
    )


class Client:
    """Dials one address, time and again."""

    def __init__(
        self,
        addr: str,
        port: int,
        connect_timeout: float,
        context: Callable[[], ssl.SSLContext | None],
        examine: Callable[[ssl.SSLObject | None], Awaitable[str | None]],
    ) -> None:
        self._addr = addr
        self._port = port
        self._connect_timeout = connect_timeout
        self._context = context
        self._examine = examine
        self._spares: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        # Neither proxies, nor cookies, nor settings from the environment.
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=None,
            use_dns_cache=False,
            resolver=Resolver(),
            socket_factory=self._new_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(sock_connect=self._connect_timeout),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=TELLING,
            trace_configs=[_stay()],
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def dial(self) -> WebSocket:
        """A new connection to whoever is meant to be there."""
        try:
            websocket = await self._connect()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            for spare in self._spares:
                send_alert(spare, error)
            verdict = judge(error) or _judge_status(error, self._context() is not None)
            raise DialError(describe(error), verdict) from error
        finally:
            while self._spares:
                self._spares.pop().close()
        if reason := await self._examine(websocket.get_extra_info("ssl_object")):
            await websocket.close(code=CloseCode.NOT_RECOGNISED)
            raise DialError(reason, Verdict(reason, theirs=False))
        return websocket

    async def _connect(self) -> ClientWebSocketResponse[Literal[False]]:
        context = self._context()
        scheme = "http" if context is None else "https"
        url = URL.build(scheme=scheme, host=self._addr, port=self._port, path=PATH)
        async with asyncio.timeout(2 * self._connect_timeout):
            return await self._session.ws_connect(
                url,
                ssl=context or True,
                compress=0,
                max_msg_size=MAX_MESSAGE,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )

    def _new_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = info
        sock = socket.socket(family, kind, protocol)
        if self._context() is not None:
            # To tell the other end why, should the handshake fail.
            self._spares.append(sock.dup())
        return sock


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
    """Why a dial failed, in words."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name can't be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _HUNG_UP if isinstance(error.os_error, ssl.SSLError) else _in_system_words(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _HUNG_UP
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status == 403:
            return "it does not recognise us: add this party there, under the address that it sees"
        return f"something else answers there (HTTP status {error.status})"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text repeats what was received.
        return "something else answers there (not HTTP)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"


def _in_system_words(error: OSError) -> str:
    # Not the text of the exception: asyncio puts the call and its arguments there. Only where a name has several
    # addresses, which failed in different ways, the numbers have to be looked for in it.
    numbers = [error.errno] if error.errno else map(int, re.findall(r"\[Errno (\d+)\]", str(error)))
    return " or ".join(dict.fromkeys(os.strerror(number).lower() for number in numbers)) or _HUNG_UP
