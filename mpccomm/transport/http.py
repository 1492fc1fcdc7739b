"""HTTP as the network of a pool: sockets, and aiohttp on them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from mpccomm.codec.wire_format import WIRE_FORMATS
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.address import BACKLOG, bind
from mpccomm.transport.client import Client
from mpccomm.transport.handshake import Authenticator
from mpccomm.transport.network import RelayUser
from mpccomm.transport.reconnect import DialTerms

if TYPE_CHECKING:
    from mpccomm.transport.relay_client import RelayLine
    from mpccomm.transport.server import Server


class _BoundPort:
    """A listening socket."""

    def __init__(self, sock: socket.socket, server: type[Server]) -> None:
        self._socket = sock
        self._server = server
        self.port: int = sock.getsockname()[1]

    @property
    def open(self) -> bool:
        return self._socket.fileno() >= 0

    def server(self, authenticator: Authenticator, settings: Settings) -> Server:
        # Once more: a pool whose place this one takes may have shut it down before it knew.
        self._socket.listen(BACKLOG)
        return self._server(self._socket, authenticator, settings)

    def share(self) -> _BoundPort:
        return _BoundPort(self._socket.dup(), self._server)

    def close(self) -> None:
        self._socket.close()

    def close_inherited(self) -> None:
        # Not close(): a loop that uses the socket keeps it open until the loop itself lets go, which it never will here.
        if (handle := self._socket.detach()) >= 0:
            os.close(handle)


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
