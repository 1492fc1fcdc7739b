"""asyncio's own streams: a future for each message, an acknowledgement for each message, nothing kept for a second try."""

from __future__ import annotations

import asyncio
from collections import deque
from struct import Struct
from typing import Any

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place

_HEAD = Struct("!cQ")
_ACK = _HEAD.pack(b"a", 0)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: deque[asyncio.Future[None]] = deque()
        self.task = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            if kind == b"a":
                self.sent.popleft().set_result(None)
            else:
                self.inbox.put_nowait((kind, await reader.readexactly(size)))
                self.writer.write(_ACK)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))
        self.writer.close()


class Stream(Contender):
    async def listen(self, place: Place) -> None:
        self.place = place
        self.connections: dict[int, _Connection] = {}
        self.complete = asyncio.Event()
        if place.me:
            self.server = await asyncio.start_server(self._answer, HOST, place.ports[place.me])

    async def connect(self) -> None:
        if self.place.me:
            await self.complete.wait()
            return
        for other in self.place.others:
            self.connections[other] = _Connection(*await asyncio.open_connection(HOST, self.place.door(other)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections[0] = _Connection(reader, writer)
        self.complete.set()

    async def close(self) -> None:
        for connection in self.connections.values():
            await connection.close()
        if self.place.me:
            self.server.close()

    async def send(self, to: int, value: Any) -> None:
        connection = self.connections[to]
        kind, body = byhand.pack(value)
        delivered = asyncio.get_running_loop().create_future()
        connection.sent.append(delivered)
        connection.writer.writelines((_HEAD.pack(kind, len(body)), body))
        await connection.writer.drain()
        await delivered

    async def recv(self, sender: int) -> Any:
        return byhand.unpack(*await self.connections[sender].inbox.get())


def make() -> Contender:
    return Stream()
