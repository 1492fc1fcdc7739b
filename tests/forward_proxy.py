"""A small forward proxy on loopback, in a thread of its own: CONNECT, basic authentication, TLS, and refusals on demand."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from contextlib import suppress
from functools import partial
from typing import Self

LOCAL = "127.0.0.1"
_CHUNK = 64 * 1024


class ForwardProxy:
    """Runs until the end of the ``with``.

    :param credentials: ``user:password`` that it asks for; empty: nothing
    :param answer: what it says to everything in the place of making a connection
    :param hosts: names that it alone resolves, to ports of loopback
    """

    def __init__(
        self,
        *,
        credentials: str = "",
        answer: bytes = b"",
        context: ssl.SSLContext | None = None,
        hosts: dict[str, int] | None = None,
        port: int = 0,
    ) -> None:
        self.credentials = credentials
        self.answer = answer
        self.hosts = hosts or {}
        self.asked: list[str] = []
        """The destinations of the connections that were let through."""
        self.heard = bytearray()
        """All that was sent unencrypted after that."""
        self.port = port
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forward proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{LOCAL}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._end = asyncio.Event()
        with socket.create_server((LOCAL, self.port)) as server:
            server.setblocking(False)
            self.port = server.getsockname()[1]
            self._ready.set()
            self._loop.add_reader(server, self._accept, server)
            await self._end.wait()
            self._loop.remove_reader(server)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # No `asyncio.start_server`: its tasks for connections that were just made can't be awaited. Nor `sock_accept`, which loses the
    # connection that came as it was cancelled.
    def _accept(self, server: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = server.accept()
            connection.setblocking(False)
            task = self._loop.create_task(self._attend(connection))
            self._tasks.add(task)
            task.add_done_callback(partial(self._over, connection))

    def _over(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before its first step
            connection.close()

    async def _attend(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
        except (OSError, asyncio.CancelledError):
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":
            return
        request = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        where = request.split()[1]
        expected = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.answer:
            writer.write(self.answer)
            await writer.drain()
            # As a page: it waits for what a browser would ask next.
            await reader.read(_CHUNK)
            return
        if self.credentials and f"Proxy-Authorization: {expected}\r\n" not in request:
            writer.write(b'HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
            return
        host, _, port = where.rpartition(":")
        address, number = (LOCAL, self.hosts[host]) if host in self.hosts else (host.strip("[]"), int(port))
        try:
            above, below = await asyncio.open_connection(address, number)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        self.asked.append(where)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there = asyncio.ensure_future(self._pump(reader, below, self.heard))
        back = asyncio.ensure_future(self._pump(above, writer, bytearray()))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            below.close()
            await asyncio.gather(there, back, return_exceptions=True)
            with suppress(OSError, asyncio.CancelledError):
                await below.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                seen += data
                writer.write(data)
                await writer.drain()
