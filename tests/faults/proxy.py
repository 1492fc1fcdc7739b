"""A TCP proxy on loopback with the faults of a network: cuts, black holes, delay, narrow lines, refusals, replays.

The bytes themselves always arrive unchanged and in order: that is what TCP promises, and all that it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

LOCAL = "127.0.0.1"
_CHUNK = 64 * 1024
_LINE = 4
"""The largest number of chunks on the line at once."""


class End(Enum):
    """How a connection is cut."""

    RESET = "both ends get an RST"
    FIN = "both ends are closed as by a program that is done"
    SILENCE = "nothing comes through any more, and nobody is told"


@dataclass(frozen=True)
class Cut:
    """The end of a connection after a number of bytes: ``up`` is towards the server, ``down`` towards the dialler."""

    up: float = float("inf")
    down: float = float("inf")
    how: End = End.RESET


@dataclass(eq=False)
class Connection:
    """One connection through the proxy, with all that its dialler sent where the proxy records."""

    number: int
    dialler: socket.socket
    server: socket.socket
    cut: Cut
    up: int = 0
    down: int = 0
    recording: bytearray = field(default_factory=bytearray)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    """Whether nothing gets through any more, as after a black hole that forgets."""

    def end(self, how: End) -> None:
        """Cut it now."""
        if how is End.SILENCE:
            self.lost = True
            return
        for sock in (self.dialler, self.server):
            if how is End.RESET and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.done.set()


class Proxy:
    """Forwards connections from its own ports to others; the knobs are for all of them together.

    ``async with Proxy() as proxy: port = proxy.front(server_port)``
    """

    def __init__(self, cut: Callable[[int], Cut] = lambda number: Cut(), *, record: bool = False) -> None:
        self.connections: list[Connection] = []
        """The connections that are open."""
        self.accepted = 0
        self.up = 0
        self.down = 0
        """Bytes that have crossed in either direction, over all connections."""
        self.taken = 0
        """Bytes that were sent, whether they have crossed or were under way when their connection was cut."""
        self.delay = 0.0
        """Seconds that each byte is under way."""
        self.rate: float | None = None
        """Bytes per second and direction."""
        self.recordings: list[bytes] = []
        """What the diallers of the connections that have ended sent, where ``record`` is set."""
        self._cut = cut
        self._record = record
        self._passing = asyncio.Event()
        self._passing.set()
        self._listeners: dict[int, socket.socket] = {}
        self._targets: dict[int, int | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for listener in self._listeners.values():
            listener.close()

    # -- knobs ---------------------------------------------------------------------------------------------------------

    def front(self, target: int | None = None) -> int:
        """Return a new port in front of the port ``target``, which can be given later with `aim`."""
        listener = self._listen(0)
        port: int = listener.getsockname()[1]
        self._targets[port] = target
        return port

    def aim(self, port: int, target: int | None) -> None:
        """Forward what is dialled at ``port`` to ``target``."""
        self._targets[port] = target

    def cut_all(self, how: End = End.RESET) -> None:
        """End every connection."""
        for connection in list(self.connections):
            connection.end(how)

    def black_hole(self) -> None:
        """From now on nothing gets through, neither end is told, and new connections hang while they open."""
        self._passing.clear()

    def heal(self, *, forget: bool = True) -> None:
        """End a black hole. Where it forgets, as most routers do, connections from before stay dead, and neither end is told."""
        for connection in self.connections:
            connection.lost = connection.lost or forget
        self._passing.set()

    async def refuse(self) -> None:
        """End every connection, and refuse new ones."""
        accepting = [task for task in self._tasks if task.get_name().startswith("accept")]
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        for listener in self._listeners.values():
            listener.close()
        self.cut_all()

    def welcome(self) -> None:
        """Take connections again, at the same ports."""
        for port in list(self._listeners):
            self._listen(port)

    async def replay(self, recording: bytes, port: int) -> bytes:
        """Dial that port and send what was recorded; what the other side answers until it closes."""
        reader, writer = await asyncio.open_connection(LOCAL, self._targets[port])
        with contextlib.closing(writer):
            writer.write(recording)
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""

    # -- forwarding ----------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The system would buffer megabytes on loopback, which would not be like the emulated network.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
        listener.bind((LOCAL, port))
        # A short queue: while no call accepts, the system soon drops new connections, as a black hole does.
        listener.listen(1)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        self._listeners[port] = listener
        self._spawn(f"accept at {port}", self._accept(port, listener))
        return listener

    async def _accept(self, port: int, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._passing.wait()
            dialler, _ = await loop.sock_accept(listener)
            dialler.setblocking(False)
            self._spawn(f"connection at {port}", self._serve(port, dialler))

    async def _serve(self, port: int, dialler: socket.socket) -> None:
        with dialler, socket.socket() as server:
            server.setblocking(False)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
            await self._passing.wait()
            try:
                await asyncio.get_running_loop().sock_connect(server, (LOCAL, self._targets[port]))
            except OSError:
                return
            for sock in (dialler, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self.accepted, dialler, server, self._cut(self.accepted))
            self.accepted += 1
            self.connections.append(connection)
            pumps = [
                asyncio.ensure_future(self._pump(connection, dialler, server, up=True)),
                asyncio.ensure_future(self._pump(connection, server, dialler, up=False)),
                asyncio.ensure_future(connection.done.wait()),
            ]
            try:
                await asyncio.wait(pumps[2:])
            finally:
                self.connections.remove(connection)
                self.recordings.append(bytes(connection.recording))
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)

    async def _pump(self, connection: Connection, source: socket.socket, sink: socket.socket, *, up: bool) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_LINE)
        writer = asyncio.ensure_future(self._deliver(connection, line, sink, up=up))
        loop = asyncio.get_running_loop()
        try:
            while True:
                data = await loop.sock_recv(source, _CHUNK)
                self.taken += len(data)
                await line.put((loop.time() + self.delay, data))
                if not data:
                    await writer
                    return
        except OSError:
            connection.end(End.RESET)
        finally:
            writer.cancel()
            await asyncio.wait((writer,))

    async def _deliver(
        self, connection: Connection, line: asyncio.Queue[tuple[float, bytes]], sink: socket.socket, *, up: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - loop.time())
            await self._passing.wait()
            if connection.lost:
                await asyncio.Event().wait()
            if connection.done.is_set():
                return
            if not data:
                # Half closed would be possible; everybody here closes both directions at once.
                connection.end(End.FIN)
                return
            allowed = (connection.cut.up - connection.up) if up else (connection.cut.down - connection.down)
            last = len(data) >= allowed
            if last:
                data = data[: int(allowed)]
            self._count(connection, data, up=up)
            try:
                await loop.sock_sendall(sink, data)
            except OSError:
                connection.end(End.RESET)
                return
            if last:
                connection.end(connection.cut.how)
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)

    def _count(self, connection: Connection, data: bytes, *, up: bool) -> None:
        if up:
            connection.up += len(data)
            self.up += len(data)
            if self._record:
                connection.recording += data
        else:
            connection.down += len(data)
            self.down += len(data)
