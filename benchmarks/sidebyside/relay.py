"""A long line: ``python -m sidebyside.relay SECONDS PORT...`` forwards TCP connections, every byte so much later.

Prints the ports at which it takes connections, as a line of JSON, and goes on until its input ends. What is under way on the
line is not limited by more than what a TCP window would be on a line of this length.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Sequence

HOST = "127.0.0.1"
_CHUNK = 256 * 1024
_CAPACITY = 64
"""So many chunks may be under way in each direction."""


async def _pump(source: socket.socket, sink: socket.socket, delay: float) -> None:
    """Carry one direction until its source ends."""
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CAPACITY)

    async def deliver() -> None:
        while True:
            due, data = await line.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, data)

    async def take() -> None:
        data = b"first"
        while data:
            data = await loop.sock_recv(source, _CHUNK)
            await line.put((loop.time() + delay, data))

    await asyncio.gather(take(), deliver())


async def _serve(dialler: socket.socket, port: int, delay: float) -> None:
    with dialler, socket.socket() as server:
        server.setblocking(False)
        await asyncio.get_running_loop().sock_connect(server, (HOST, port))
        for sock in (dialler, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            await asyncio.gather(_pump(dialler, server, delay), _pump(server, dialler, delay))


async def _accept(listener: socket.socket, port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as connections:
        while True:
            dialler, _ = await loop.sock_accept(listener)
            dialler.setblocking(False)
            connections.create_task(_serve_or_hang_up(dialler, port, delay))


async def _serve_or_hang_up(dialler: socket.socket, port: int, delay: float) -> None:
    with contextlib.suppress(OSError):
        await _serve(dialler, port, delay)


async def run(delay: float, ports: Sequence[int]) -> None:
    """Forward until the input ends."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in ports]
        for listener in listeners:
            listener.setblocking(False)
        tasks = [
            asyncio.ensure_future(_accept(listener, port, delay))
            for listener, port in zip(listeners, ports, strict=True)
        ]
        print(json.dumps([listener.getsockname()[1] for listener in listeners]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(run(float(sys.argv[1]), list(map(int, sys.argv[2:]))))
    else:
        uvloop.run(run(float(sys.argv[1]), list(map(int, sys.argv[2:]))))
