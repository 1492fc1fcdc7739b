"""How aiohttp dials: in sessions that tell nothing of this machine, by sockets that close only what is theirs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import aiohttp

from mpccomm.transport.bounded import BoundedConnector
from mpccomm.transport.resolver import Resolver

TELLING = ("User-Agent", "Accept-Encoding")
"""Otherwise aiohttp would tell every caller its version and Python's, and which libraries it finds."""


class DialledSocket(socket.socket):
    """A socket that closes its file descriptor only as long as that is its own.

    uvloop 0.23 closes the descriptor of a connection that is reset at its first write, as a TLS dial is where the other
    process was just killed, and the socket does not learn of it. When that is collected, it would close whichever
    connection or file has the number by then.
    """

    _inode: int | None = None
    """None: what a signal handler raised has ended `__init__`."""

    def __init__(self, family: int = -1, kind: int = -1, protocol: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, kind, protocol, fileno)
        self._inode = os.fstat(self.fileno()).st_ino

    def close(self) -> None:
        """Close it."""
        self._check()
        super().close()

    def __del__(self) -> None:
        self._check()
        super().__del__()  # type: ignore[misc]

    def _check(self) -> None:
        """Part with the descriptor if it has been closed elsewhere."""
        if (number := self.fileno()) >= 0:
            try:
                lost = self._inode not in (None, os.fstat(number).st_ino)
            except OSError:
                lost = True
            if lost:
                self.detach()


NewSocket = Callable[[tuple[Any, ...]], socket.socket]
"""Makes a socket for an address, given as by `socket.getaddrinfo`."""


def new_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket to dial that address with."""
    kind = socket.socket if sys.platform == "win32" else DialledSocket  # there are neither inodes nor uvloop
    return kind(*info[:3])


class DirectConnector(BoundedConnector, aiohttp.TCPConnector):
    """A connector that dials the address itself, each time as it is then."""

    def __init__(self, make: NewSocket = new_socket) -> None:
        super().__init__(limit=0, ttl_dns_cache=None, use_dns_cache=False, resolver=Resolver(), socket_factory=make)


def new_session(connector: aiohttp.BaseConnector, **times: float) -> aiohttp.ClientSession:
    """Return a session without cookies, without settings from the environment, and with no proxy but that of the connector.

    :param times: time limits, as `aiohttp.ClientTimeout` names them
    """
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(**times),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=TELLING,
    )


async def end(session: aiohttp.ClientSession) -> None:
    """Close a session."""
    if isinstance(sys.exception(), GeneratorExit):
        # Its loop is closed already, so nothing can be awaited.
        session.detach()
    else:
        await session.close()
