"""pyzmq, blocking, a PAIR socket for each of the others."""

from __future__ import annotations

from typing import Any

import zmq

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place


class Zeromq(Contender):
    blocking = True

    async def listen(self, place: Place) -> None:
        self.place = place
        self.context = zmq.Context()
        self.sockets: dict[int, Any] = {}
        if place.me:
            self.sockets[0] = self._socket()
            self.sockets[0].bind(f"tcp://{HOST}:{place.ports[place.me]}")

    async def connect(self) -> None:
        if not self.place.me:
            for other in self.place.others:
                self.sockets[other] = self._socket()
                self.sockets[other].connect(f"tcp://{HOST}:{self.place.ports[other]}")

    def _socket(self) -> Any:
        socket = self.context.socket(zmq.PAIR)
        # By default it drops nothing here, but blocks at 1,000 messages.
        socket.set_hwm(0)
        return socket

    async def close(self) -> None:
        self.context.destroy(linger=0)

    async def send(self, to: int, value: Any) -> None:
        kind, body = byhand.pack(value)
        self.sockets[to].send_multipart((kind, body), copy=len(body) < 65536)

    async def recv(self, sender: int) -> Any:
        kind, body = self.sockets[sender].recv_multipart(copy=False)
        return byhand.unpack(kind.bytes, body.buffer if body.buffer.nbytes > 65536 else body.bytes)

    async def send_many(self, to: int, value: Any, count: int) -> None:
        for _ in range(count):
            await self.send(to, value)

    async def broadcast(self, to: Any, value: Any) -> None:
        for other in to:
            await self.send(other, value)


def make() -> Contender:
    return Zeromq()
