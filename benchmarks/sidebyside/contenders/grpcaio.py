"""gRPC's asyncio flavour: one bidirectional stream for each pair, bytes without protobuf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place

_PATH = "/benchmark.Carrier/Carry"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcAio(Contender):
    async def listen(self, place: Place) -> None:
        self.place = place
        self.streams: dict[int, Any] = {}
        self.channels: list[Any] = []
        self.complete = asyncio.Event()
        self.over = asyncio.Event()
        self.server: Any = None
        if place.me:
            self.server = grpc.aio.server(options=_UNLIMITED)
            handler = grpc.stream_stream_rpc_method_handler(self._carry)
            service, _, method = _PATH[1:].partition("/")
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
            self.server.add_insecure_port(f"{HOST}:{place.ports[place.me]}")
            await self.server.start()

    async def connect(self) -> None:
        if self.place.me:
            await self.complete.wait()
            return
        for other in self.place.others:
            channel = grpc.aio.insecure_channel(f"{HOST}:{self.place.ports[other]}", options=_UNLIMITED)
            stream = channel.stream_stream(_PATH)()
            await stream.write(b"")
            self.channels.append(channel)
            self.streams[other] = stream

    async def _carry(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await context.read()
        self.streams[0] = context
        self.complete.set()
        await self.over.wait()

    async def close(self) -> None:
        self.over.set()
        for channel in self.channels:
            await channel.close()
        if self.server is not None:
            await self.server.stop(None)

    async def send(self, to: int, value: Any) -> None:
        kind, body = byhand.pack(value)
        await self.streams[to].write(b"".join((kind, body)))

    async def recv(self, sender: int) -> Any:
        data = await self.streams[sender].read()
        view = memoryview(data)
        return byhand.unpack(data[:1], bytes(view[1:]) if data[:1] == b"b" else view[1:])

    async def send_many(self, to: int, value: Any, count: int) -> None:
        # A stream takes one write at a time.
        for _ in range(count):
            await self.send(to, value)


def make() -> Contender:
    return GrpcAio()
