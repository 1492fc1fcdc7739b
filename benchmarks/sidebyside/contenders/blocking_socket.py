"""The limit of the machine: a TCP socket, a length before each message."""

from __future__ import annotations

import socket
from struct import Struct
from typing import Any

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place

_HEAD = Struct("!cQ")
_SMALL = 4096


class Blocking(Contender):
    blocking = True

    async def listen(self, place: Place) -> None:
        self.place = place
        self.sockets: dict[int, socket.socket] = {}
        self.buffers: dict[int, Any] = {}
        if place.me:
            self.server = socket.create_server((HOST, place.ports[place.me]))

    async def connect(self) -> None:
        if self.place.me:
            self._attach(0, self.server.accept()[0])
            return
        for other in self.place.others:
            self._attach(other, socket.create_connection((HOST, self.place.ports[other])))

    def _attach(self, other: int, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets[other] = sock
        self.buffers[other] = sock.makefile("rb", buffering=65536)

    async def close(self) -> None:
        for other, sock in self.sockets.items():
            self.buffers[other].close()
            sock.close()
        if self.place.me:
            self.server.close()

    async def send(self, to: int, value: Any) -> None:
        kind, body = byhand.pack(value)
        head = _HEAD.pack(kind, len(body))
        if len(body) <= _SMALL:
            self.sockets[to].sendall(head + body)
        else:
            self.sockets[to].sendall(head)
            self.sockets[to].sendall(body)

    async def recv(self, sender: int) -> Any:
        buffer = self.buffers[sender]
        kind, size = _HEAD.unpack(buffer.read(_HEAD.size))
        if size <= _SMALL:
            return byhand.unpack(kind, buffer.read(size))
        body = bytearray(size)
        buffer.readinto(body)
        return byhand.unpack(kind, body)

    async def send_many(self, to: int, value: Any, count: int) -> None:
        for _ in range(count):
            await self.send(to, value)

    async def broadcast(self, to: Any, value: Any) -> None:
        for other in to:
            await self.send(other, value)


def make() -> Contender:
    return Blocking()
