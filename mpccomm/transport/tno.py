"""The HTTP of tno.mpc.communication 4.x and 5.x: a POST per message, which is answered when the message is held."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from mpccomm.errors import DecodingError
from mpccomm.transport.client import describe
from mpccomm.transport.dialling import DirectConnector, end, new_session
from mpccomm.transport.reconnect import DialError
from mpccomm.transport.tls import Verdict, judge

_COOKIE = "server_port"
_TIMEOUT = 300.0
"""Seconds for one attempt, as in that package."""
MOST_POSTS = 128
"""Connections of one party at a time: its HTTP client opens 100."""
_LEAST = 1024
"""Bytes of a message that have to come within the time limit, where it has as many left: a line may be slow."""
_HUNG_UP = "it hung up in the middle of a message"


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


class NotTakenError(Exception):
    """Raised where a message is not taken; its sender gets an HTTP status, and the log the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class PostReceiver(Protocol):
    """What takes the messages that a party posts."""

    async def take(self, body: bytes, tls: ssl.SSLObject | None) -> None:
        """Hold a message.

        :raises DecodingError: it is none
        :raises NotTakenError: it can't be held
        """


def declared_port(request: web.BaseRequest) -> int | None:
    """Return the port of the sender's own server, as it says; None: it doesn't."""
    text = request.cookies.get(_COOKIE, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


class _Post:
    """One message with its connection, until both have come to their end."""

    def __init__(self, transport: asyncio.WriteTransport, patience: asyncio.Timeout) -> None:
        self._transport = transport
        self._patience = patience
        self.waiting = True
        """Whether it waits for room, or for more of it."""
        self.held = False
        """Whether it is handed on, and can't be taken back."""
        self.given_up = ""
        """Why it is not waited for any more."""

    def give_up(self, why: str) -> None:
        if self.waiting and not self.given_up:
            self.given_up = why
            self._patience.reschedule(asyncio.get_running_loop().time())

    def drop(self) -> None:
        self.give_up(f"more than {MOST_POSTS} messages at once: this one had been still for the longest time")
        self._transport.abort()


class PostReader:
    """Reads the messages that one party posts: at a time not more than ``room`` bytes together, or a single larger message.

    It has at most `MOST_POSTS` connections. With one more, that one goes which has been still for the longest time.

    :param timeout: seconds in which something of a message has to come
    """

    def __init__(self, room: int, largest: int, timeout: float) -> None:
        self._admission = self._free = room
        self._largest = largest
        self._timeout = timeout
        self._cleared = asyncio.Condition()
        self._posts: OrderedDict[_Post, None] = OrderedDict()
        """In the order in which something of each has come last."""

    async def receive(self, request: web.BaseRequest, correspondent: PostReceiver, lost: asyncio.Future[None]) -> None:
        """Read a message, and hand it on; return when it is held.

        :param lost: done when the connection has ended
        :raises NotTakenError: it is not held
        """
        self._make_room(request)
        async with self._place(request, lost) as post:
            size = request.content_length
            if size is None:
                raise NotTakenError(411, "a message that does not say how long it is")
            if size > self._largest:
                limit = f"{self._largest} are the limit (Limits.max_message_size)"
                raise NotTakenError(413, f"a message of {size} bytes: {limit}")
            async with self._space(size):
                body = await self._read(request, size, post)
                if post.given_up:
                    raise NotTakenError(408, post.given_up)
                post.waiting, post.held = False, True
                try:
                    await correspondent.take(body, request.get_extra_info("ssl_object"))
                except DecodingError as error:
                    raise NotTakenError(500, f"a message that can't be read: {error}") from None
                finally:
                    post.held = False

    def _make_room(self, request: web.BaseRequest) -> None:
        if len(self._posts) < MOST_POSTS:
            return
        still = next((post for post in self._posts if not post.held), None)
        if still is None:
            if request.transport is not None:
                # To end it in good order would take time, in which it counts nowhere.
                request.transport.abort()
            raise NotTakenError(
                503, f"more than {MOST_POSTS} messages at once, and no receive asks for those that are here"
            )
        del self._posts[still]
        still.drop()

    @asynccontextmanager
    async def _place(self, request: web.BaseRequest, lost: asyncio.Future[None]) -> AsyncIterator[_Post]:
        if request.transport is None:
            raise NotTakenError(400, _HUNG_UP)
        patience = asyncio.timeout(None)
        post = _Post(request.transport, patience)
        self._posts[post] = None
        lost.add_done_callback(partial(self._lost, post))
        try:
            async with patience:
                yield post
        except TimeoutError:
            raise NotTakenError(408, post.given_up) from None
        finally:
            post.waiting = False
            if lost.done():
                self._posts.pop(post, None)

    def _lost(self, post: _Post, lost: asyncio.Future[None]) -> None:
        post.give_up(_HUNG_UP)
        if not (post.waiting or post.held):
            self._posts.pop(post, None)

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

    async def _read(self, request: web.BaseRequest, size: int, post: _Post) -> bytes:
        body = bytearray()
        try:
            while len(body) < size:
                least = min(len(body) + _LEAST, size)
                async with asyncio.timeout(self._timeout):
                    while len(body) < least:
                        body += await self._more(request, post)
        except TimeoutError:
            raise NotTakenError(408, f"less than {_LEAST} bytes of a message within {self._timeout:g} s") from None
        except (OSError, web.RequestPayloadError, HttpProcessingError):
            raise NotTakenError(400, _HUNG_UP) from None
        return bytes(body)

    async def _more(self, request: web.BaseRequest, post: _Post) -> bytes:
        data = await request.content.readany()
        if not data:
            raise ConnectionResetError
        if post in self._posts:
            self._posts.move_to_end(post)
        return data
