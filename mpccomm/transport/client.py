"""The dialling end: keeps trying as long as a connection is wanted, with capped and jittered pauses."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Protocol

import aiohttp
from aiohttp import ClientWebSocketResponse
from yarl import URL

from mpccomm.session.states import CloseCode
from mpccomm.settings import Retry
from mpccomm.transport.stream import CLOSE_TIMEOUT, MAX_MESSAGE, PATH, WebSocket
from mpccomm.transport.tls import Verdict, judge, send_alert

_HUNG_UP = "it hung up before it answered"


class Standing(Protocol):
    """When not to dial."""

    @property
    def refusal(self) -> str:
        """Why it would be in vain, unless somebody changes a configuration; empty: it would not."""

    @property
    def not_before(self) -> float:
        """It was misbehaving: no connection to it until then, of `time.monotonic`."""


class Destination(Protocol):
    """Whoever is dialled."""

    addr: str
    port: int
    lonely: asyncio.Event
    urged: asyncio.Event
    failed_dials: int

    @property
    def standing(self) -> Standing:
        """When not to dial."""

    async def attend(self, socket: WebSocket, *, dialled: bool, first: bytes | None = None) -> None:
        """Run the connection to its end. Clears ``lonely`` while it is being greeted, and as long as it serves."""

    def dial_failed(self, trouble: str) -> None:
        """An attempt came to nothing."""

    def refused(self, verdict: Verdict) -> None:
        """An attempt came to nothing because one end does not accept the other."""


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


async def _take_anybody(tls: ssl.SSLObject | None) -> None:
    """Whoever answers is the one that was dialled."""


class Dialler:
    """Dials one party whenever it has no connection."""

    def __init__(
        self,
        destination: Destination,
        retry: Retry,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        failed: Callable[[], None],
        *,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        examine: Callable[[ssl.SSLObject | None], Awaitable[str | None]] = _take_anybody,
    ) -> None:
        self._destination = destination
        self._retry = retry
        self._spawn = spawn
        self._failed = failed
        self._context = context
        self._examine = examine
        self._spares: list[socket.socket] = []

    async def run(self) -> None:
        """Until cancelled."""
        # Neither proxies, nor cookies, nor settings from the environment.
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=None,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=self._new_socket,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(sock_connect=self._retry.connect_timeout),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_stay()],
        ) as session:
            while True:
                await self._destination.lonely.wait()
                await asyncio.sleep(self._destination.standing.not_before - time.monotonic())
                started = time.monotonic()
                await self._attempt(session)
                await self._pause(started)

    async def _attempt(self, session: aiohttp.ClientSession) -> None:
        destination = self._destination
        destination.urged.clear()
        try:
            websocket = await self._dial(session)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            for spare in self._spares:
                send_alert(spare, error)
            verdict = judge(error) or _judge_status(error, self._context() is not None)
            if verdict is None:
                destination.dial_failed(describe(error))
            else:
                destination.refused(verdict)
            self._failed()
            return
        finally:
            while self._spares:
                self._spares.pop().close()
        if reason := await self._examine(websocket.get_extra_info("ssl_object")):
            await websocket.close(code=CloseCode.NOT_RECOGNISED)
            destination.refused(Verdict(reason, theirs=False))
            self._failed()
            return
        destination.lonely.clear()
        self._spawn(destination.attend(websocket, dialled=True))

    async def _dial(self, session: aiohttp.ClientSession) -> ClientWebSocketResponse[Literal[False]]:
        context = self._context()
        scheme = "http" if context is None else "https"
        url = URL.build(scheme=scheme, host=self._destination.addr, port=self._destination.port, path=PATH)
        async with asyncio.timeout(2 * self._retry.connect_timeout):
            return await session.ws_connect(
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

    async def _pause(self, started: float) -> None:
        destination, retry = self._destination, self._retry
        if destination.standing.refusal:
            with suppress(TimeoutError):
                async with asyncio.timeout(retry.refused):
                    await destination.urged.wait()
        pause = random.uniform(0, min(retry.cap, retry.first * 2 ** min(destination.failed_dials, 30)))
        await asyncio.sleep(started + pause - time.monotonic())


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
