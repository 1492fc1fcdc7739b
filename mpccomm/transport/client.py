"""The dialling end: keeps trying as long as a connection is wanted, with capped and jittered pauses."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import aiohttp
from yarl import URL

from mpccomm.settings import Retry
from mpccomm.transport.stream import CLOSE_TIMEOUT, MAX_MESSAGE, PATH, WebSocket


class Destination(Protocol):
    """Whoever is dialled."""

    addr: str
    port: int
    lonely: asyncio.Event
    failed_dials: int

    async def attend(self, socket: WebSocket, *, dialled: bool, first: bytes | None = None) -> None:
        """Run the connection to its end. Clears ``lonely`` while it is being greeted, and as long as it serves."""

    def dial_failed(self, trouble: str) -> None:
        """An attempt came to nothing."""


def new_session() -> aiohttp.ClientSession:
    """The HTTP client of a pool: no proxies, cookies or settings from the environment."""
    connector = aiohttp.TCPConnector(
        limit=0, ttl_dns_cache=None, use_dns_cache=False, resolver=aiohttp.ThreadedResolver()
    )
    return aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar())


class Dialler:
    """Dials one party whenever it has no connection."""

    def __init__(
        self,
        destination: Destination,
        session: aiohttp.ClientSession,
        retry: Retry,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        failed: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._session = session
        self._retry = retry
        self._spawn = spawn
        self._failed = failed

    async def run(self) -> None:
        """Until cancelled."""
        destination = self._destination
        while True:
            await destination.lonely.wait()
            try:
                socket = await self._dial()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                destination.dial_failed(describe(error))
                self._failed()
            else:
                destination.lonely.clear()
                self._spawn(destination.attend(socket, dialled=True))
            await asyncio.sleep(self._pause(destination.failed_dials))

    async def _dial(self) -> WebSocket:
        url = URL.build(scheme="http", host=self._destination.addr, port=self._destination.port, path=PATH)
        async with asyncio.timeout(2 * self._retry.connect_timeout):
            return await self._session.ws_connect(
                url,
                compress=0,
                max_msg_size=MAX_MESSAGE,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )

    def _pause(self, failures: int) -> float:
        retry = self._retry
        return random.uniform(0, min(retry.cap, retry.first * 2 ** min(failures, 30)))


def describe(error: BaseException) -> str:
    """Why a dial failed, in words."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name can't be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        # Not the text of the exception: asyncio puts the call and its arguments there.
        number = error.os_error.errno
        return os.strerror(number).lower() if number else str(error.os_error)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status == 403:
            return "it does not recognise us: add this party there, under the address that it sees"
        return f"something else answers there (HTTP status {error.status})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"
