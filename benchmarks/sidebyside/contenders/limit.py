"""The bare lower limits: as little as Python can do for a small message that is acknowledged, and for a large one that is not.

Small: messages are numbered, acknowledged cumulatively with what was taken, known by an id, of which there may be several in a row,
and kept until they are acknowledged; they travel in WebSocket messages, one per turn of the loop. A call may be cancelled. There is
no resuming, no bound, no check of anything, no ending.

Large: the size, and the bytes, read into the memory where they stay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

import ormsgpack

from sidebyside.contenders import byhand
from sidebyside.contenders.base import HOST, Contender, Place

_FRAME = Struct("!QQQQHI")
"""Its number (0: acknowledgement alone), held up to, messages taken and bytes taken, size of the id, size of the value."""
_SHORT, _LONG = Struct("!BB"), Struct("!BBQ")
_NO_MASK = bytes(4)
_PIECE = 256 * 1024


class _Link(asyncio.Protocol):
    """One end of a connection for small messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Callable[[Any], None], *, client: bool) -> None:
        self.loop, self.ready, self.masked = loop, ready, 0x80 * client
        self.transport: Any = None
        self.sent = self.held = self.heard = self.taken = self.taken_bytes = self.asked = self.named = 0
        self.kept: deque[tuple[int, bytes, asyncio.Future[None]]] = deque()
        self.box: dict[bytes, deque[bytes]] = {}
        self.wanted: dict[bytes, deque[asyncio.Future[bytes]]] = {}
        self.out: list[bytes] = []
        self.due = self.awake = False
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ready(self)

    async def send(self, value: Any) -> None:
        body = ormsgpack.packb(value)
        name = b"%d" % self.named
        self.named += 1
        self.sent = number = self.sent + 1
        frame = _FRAME.pack(number, self.held, self.taken, self.taken_bytes, len(name), len(body)) + name + body
        delivered = self.loop.create_future()
        self.kept.append((number, frame, delivered))
        self.out.append(frame)
        self.due = False
        self.wake()
        await delivered

    async def recv(self) -> Any:
        name = b"%d" % self.asked
        self.asked += 1
        there = self.box.get(name)
        if there is None:
            arrives = self.loop.create_future()
            self.wanted.setdefault(name, deque()).append(arrives)
            body = await arrives
        else:
            body = there.popleft()
            if not there:
                del self.box[name]
            self.taken += 1
            self.taken_bytes += len(body)
        return ormsgpack.unpackb(body)

    def wake(self) -> None:
        if not self.awake:
            self.awake = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self.awake = False
        if self.due:
            self.due = False
            self.out.append(_FRAME.pack(0, self.held, self.taken, self.taken_bytes, 0, 0))
        batch = b"".join(self.out)
        self.out.clear()
        size = len(batch)
        head = (
            _SHORT.pack(0x82, self.masked | size) if size < 126 else _LONG.pack(0x82, self.masked | 127, size)
        ) + _NO_MASK * bool(self.masked)
        self.transport.write(head + batch)

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data, self.rest = self.rest + data, b""
        at, end = 0, len(data)
        while at < end:
            start = at + 10 + 4 - bool(self.masked) * 4
            size = data[at + 1] & 127 if end - at > 1 else 127
            if size < 126:
                start -= 8
            elif end < start:
                break
            else:
                size = int.from_bytes(data[at + 2 : at + 10], "big")
            if end < start + size:
                break
            self.batch(data, start, start + size)
            at = start + size
        self.rest = data[at:]

    def batch(self, data: bytes, at: int, end: int) -> None:
        while at < end:
            number, held, _, _, named, size = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            if held > self.heard:
                self.heard, kept = held, self.kept
                while kept and kept[0][0] <= held:
                    delivered = kept.popleft()[2]
                    if not delivered.done():
                        delivered.set_result(None)
            if number == self.held + 1:
                self.held = number
                name, body = data[at : at + named], data[at + named : at + named + size]
                waiting = self.wanted.get(name)
                if waiting is None:
                    self.box.setdefault(name, deque()).append(body)
                else:
                    arrives = waiting.popleft()
                    if not waiting:
                        del self.wanted[name]
                    self.taken += 1
                    self.taken_bytes += size
                    arrives.set_result(body)
                self.due = True
                self.wake()
            at += named + size


class _Transfer(asyncio.BufferedProtocol):
    """One end of a connection for large messages: one at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Callable[[Any], None]) -> None:
        self.loop, self.ready = loop, ready
        self.transport: Any = None
        self.arrived: asyncio.Queue[bytearray] = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()
        self.begin(bytearray(9), head=True)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ready(self)

    def begin(self, memory: bytearray, *, head: bool) -> None:
        self.memory, self.free, self.head = memory, memoryview(memory), head

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.free

    def buffer_updated(self, count: int) -> None:
        self.free = self.free[count:]
        if len(self.free):
            return
        if self.head:
            self.kind = bytes(self.memory[:1])
            self.begin(bytearray(int.from_bytes(self.memory[1:], "big")), head=False)
        else:
            self.arrived.put_nowait(self.memory)
            self.begin(bytearray(9), head=True)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    async def send(self, value: Any) -> None:
        kind, body = byhand.pack(value)
        view = memoryview(body)
        self.transport.write(kind + len(view).to_bytes(8, "big"))
        # Not all at once: asyncio moves what is left after each part that the system has taken.
        for at in range(0, len(view), _PIECE):
            self.transport.write(view[at : at + _PIECE])
            await self.room.wait()

    async def recv(self) -> Any:
        body = await self.arrived.get()
        return byhand.unpack(self.kind, body)


class Limit(Contender):
    """Two parties, over plain TCP."""

    def __init__(self, *, large: bool) -> None:
        self.large = large

    async def listen(self, place: Place) -> None:
        self.place = place
        loop = asyncio.get_running_loop()
        self.link: asyncio.Future[Any] = loop.create_future()
        if place.me:
            self.server = await loop.create_server(lambda: self._end(loop, client=False), HOST, place.ports[place.me])

    async def connect(self) -> None:
        if not self.place.me:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self._end(loop, client=True), HOST, self.place.door(1))
        await self.link

    def _end(self, loop: asyncio.AbstractEventLoop, *, client: bool) -> asyncio.BaseProtocol:
        if self.large:
            return _Transfer(loop, self.link.set_result)
        return _Link(loop, self.link.set_result, client=client)

    async def close(self) -> None:
        self.link.result().transport.close()
        if self.place.me:
            self.server.close()

    async def send(self, to: int, value: Any) -> None:
        await self.link.result().send(value)

    async def recv(self, sender: int) -> Any:
        return await self.link.result().recv()


def make(large: bool = False) -> Contender:
    return Limit(large=large)
