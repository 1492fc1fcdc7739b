"""The transport of mpccomm without anything on top: aiohttp WebSockets, large messages in frames of 256 KiB.

Plain, a send is over when the bytes are written. ``acknowledged``: each send has a future, and the other side acknowledges
cumulatively, once per turn of its loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from pathlib import Path
from struct import Struct
from typing import Any

import aiohttp
from aiohttp import web

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place

_HEAD = Struct("!cQ")
_DATA, _ACK = b"d", b"a"
_FRAME = 256 * 1024


class Plain(Contender):
    acknowledged = False

    async def listen(self, place: Place) -> None:
        self.place = place
        self.sockets: dict[int, Any] = {}
        self.complete = asyncio.Event()
        self.session: aiohttp.ClientSession | None = None
        if place.me:
            self.runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
            await self.runner.setup()
            context = _context(place, ssl.Purpose.CLIENT_AUTH)
            await web.TCPSite(self.runner, HOST, place.ports[place.me], ssl_context=context).start()

    async def connect(self) -> None:
        if self.place.me:
            await self.complete.wait()
            return
        self.session = aiohttp.ClientSession()
        context = _context(self.place, ssl.Purpose.SERVER_AUTH)
        for other in self.place.others:
            url = f"{'https' if context else 'http'}://{HOST}:{self.place.ports[other]}/"
            socket = await self.session.ws_connect(url, ssl=context or True, compress=0, max_msg_size=0)
            self.attach(other, socket)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        self.attach(0, socket)
        self.complete.set()
        self.over = asyncio.get_running_loop().create_future()
        await self.over
        return socket

    def attach(self, other: int, socket: Any) -> None:
        self.sockets[other] = socket

    async def close(self) -> None:
        await asyncio.gather(*(socket.close() for socket in self.sockets.values()))
        if self.session is not None:
            await self.session.close()
        else:
            self.over.set_result(None)
            await self.runner.cleanup()

    async def send(self, to: int, value: Any) -> None:
        await self._write(self.sockets[to], value)

    @staticmethod
    async def _write(socket: Any, value: Any) -> None:
        kind, body = byhand.pack(value)
        head = _HEAD.pack(kind, len(body))
        if len(body) <= _FRAME:
            await socket.send_bytes(head + body)
            return
        await socket.send_bytes(head)
        view = memoryview(body)
        for at in range(0, len(view), _FRAME):
            await socket.send_bytes(view[at : at + _FRAME])

    async def recv(self, sender: int) -> Any:
        socket = self.sockets[sender]
        return await self._read(socket, (await socket.receive()).data)

    @staticmethod
    async def _read(socket: Any, first: bytes) -> Any:
        kind, size = _HEAD.unpack_from(first)
        if size <= _FRAME:
            return byhand.unpack(kind, first[_HEAD.size :])
        body = bytearray(size)
        at = 0
        while at < size:
            data = (await socket.receive()).data
            body[at : at + len(data)] = data
            at += len(data)
        return byhand.unpack(kind, body)

    async def send_many(self, to: int, value: Any, count: int) -> None:
        for _ in range(count):
            await self.send(to, value)


class Acknowledged(Plain):
    """Small messages only."""

    acknowledged = True

    def attach(self, other: int, socket: Any) -> None:
        super().attach(other, socket)
        self.inbox: deque[Any] = deque()
        self.waiting: asyncio.Future[Any] | None = None
        self.unacknowledged: deque[asyncio.Future[None]] = deque()
        self.received = 0
        self.told = 0
        self.acknowledged_to = 0
        self.wake = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.tasks = [
            self.loop.create_task(self._reader(socket)),
            self.loop.create_task(self._acknowledger(socket)),
        ]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        await super().close()

    async def send(self, to: int, value: Any) -> None:
        delivered = self.loop.create_future()
        self.unacknowledged.append(delivered)
        self.told = self.received
        await self.sockets[to].send_bytes(_HEAD.pack(_DATA, self.received) + value)
        await delivered

    async def recv(self, sender: int) -> Any:
        if self.inbox:
            return self.inbox.popleft()
        self.waiting = self.loop.create_future()
        return await self.waiting

    async def send_many(self, to: int, value: Any, count: int) -> None:
        await Contender.send_many(self, to, value, count)

    async def _reader(self, socket: Any) -> None:
        while True:
            data = (await socket.receive()).data
            kind, position = _HEAD.unpack_from(data)
            while self.acknowledged_to < position:
                self.acknowledged_to += 1
                self.unacknowledged.popleft().set_result(None)
            if kind == _DATA:
                self.received += 1
                self.wake.set()
                if self.waiting is not None and not self.waiting.done():
                    self.waiting.set_result(data[_HEAD.size :])
                else:
                    self.inbox.append(data[_HEAD.size :])

    async def _acknowledger(self, socket: Any) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            # Whoever was woken by the same message goes first: the acknowledgement may ride on the answer.
            await asyncio.sleep(0)
            if self.told < self.received:
                self.told = self.received
                await socket.send_bytes(_HEAD.pack(_ACK, self.received))


def _context(place: Place, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if place.certificates is None:
        return None
    directory = Path(place.certificates)
    context = ssl.create_default_context(purpose, cafile=str(directory / "ca.pem"))
    context.load_cert_chain(directory / f"{place.me}.pem", directory / f"{place.me}.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def make(acknowledged: bool = False) -> Contender:
    return Acknowledged() if acknowledged else Plain()
