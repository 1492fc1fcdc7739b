"""HTTP as the network of a pool: aiohttp on sockets."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from mpccomm.codec.wire_format import WIRE_FORMATS
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.transport.client import Client
from mpccomm.transport.network import RelayUser
from mpccomm.transport.port import BoundSocket, bind
from mpccomm.transport.reconnect import DialTerms

if TYPE_CHECKING:
    from mpccomm.transport.relay_client import RelayLine


class Web:
    """The network of pools by default: HTTP, with aiohttp on sockets."""

    tls = True
    wires = WIRE_FORMATS
    clock = staticmethod(perf_counter)

    def elsewhere(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return the function."""
        return function

    def bind(self, caller: str, addr: str, port: int) -> BoundSocket:
        """Return a listening socket."""
        # Imported where a server is wanted, as it imports aiohttp's; and not later on the loop, which would be held up.
        from mpccomm.transport.server import Server

        return BoundSocket(bind(addr, port), Server)

    def relay_access(self, caller: str, relay: Relay, user: RelayUser) -> RelayLine:
        """Return a connection to the relay, and what goes through it."""
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
        """Return a client for that address."""
        return Client(addr, port, terms, proxy, server_name)


WEB = Web()
