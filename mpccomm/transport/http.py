"""HTTP as the network of a pool: sockets, and aiohttp on them."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from mpccomm.codec.wire_format import WIRE_FORMATS
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.address import bind
from mpccomm.transport.client import Client
from mpccomm.transport.handshake import Authenticator
from mpccomm.transport.network import RelayUser
from mpccomm.transport.reconnect import DialTerms

if TYPE_CHECKING:
    from mpccomm.transport.relay_client import RelayLine
    from mpccomm.transport.server import Server


class _BoundPort:
    """A listening socket: one to listen with, and a duplicate to pass on.

    The pool that takes over may run in another thread. It must duplicate nothing that this one closes meanwhile, since the
    system gives the descriptor to the next that asks for one. So it takes the spare out, and each has only what is its own.
    """

    def __init__(self, sock: socket.socket, server: type[Server]) -> None:
        try:
            self._spare = deque((sock.dup(),))
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        self._server = server
        self.port: int = sock.getsockname()[1]

    @property
    def open(self) -> bool:
        return bool(self._spare)

    def server(self, authenticator: Authenticator, settings: Settings) -> Server:
        return self._server(self._socket, authenticator, settings)

    def pass_on(self) -> _BoundPort:
        if (spare := self._take_spare()) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return _BoundPort(spare, self._server)

    def close(self) -> None:
        # The spare last: a pool that finds none can bind the port anew.
        self._socket.close()
        if (spare := self._take_spare()) is not None:
            spare.close()

    close_inherited = close

    def _take_spare(self) -> socket.socket | None:
        try:
            return self._spare.pop()
        except IndexError:
            return None


class Web:
    """The network that there is."""

    tls = True
    wires = WIRE_FORMATS

    def bind(self, caller: str, addr: str, port: int) -> _BoundPort:
        """A listening socket."""
        # Not before a server is wanted, and aiohttp's comes along; nor later, on the loop, which would stand still.
        from mpccomm.transport.server import Server

        return _BoundPort(bind(addr, port), Server)

    def relay_access(self, caller: str, relay: Relay, user: RelayUser) -> RelayLine:
        """A connection to the relay, and what goes through it."""
        from mpccomm.transport.relay_client import RelayLine

        return RelayLine(relay, user)

    def connector(
        self,
        caller: str,
        addr: str,
        port: int,
        terms: DialTerms,
        *,
        proxy: Proxy | None = None,
        server_name: str = "",
    ) -> Client:
        """A client for that address."""
        return Client(addr, port, terms, proxy, server_name)


WEB = Web()
