"""The shortest relay: ``python bare_relay.py PORT TARGET`` passes on what comes to one port to the other, and back.

It knows nobody, limits nothing and counts nothing: what a relay in Python costs at least. What is left is that a process is
woken, reads and writes.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from typing import cast

HOST = "127.0.0.1"


class End(asyncio.Protocol):
    """One of two connections."""

    transport: asyncio.Transport
    other: End

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other one as well."""
        self.other.transport.close()


async def _serve(port: int, target: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server((HOST, port)) as server:
        server.setblocking(False)
        while True:
            sock, _ = await loop.sock_accept(server)
            caller, called = End(), End()
            caller.other, called.other = called, caller
            try:
                await loop.create_connection(lambda end=called: end, HOST, target)  # type: ignore[misc]
            except OSError:
                sock.close()
                continue
            await loop.connect_accepted_socket(lambda end=caller: end, sock)  # type: ignore[misc]


if __name__ == "__main__":
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_serve(*map(int, sys.argv[1:])))
