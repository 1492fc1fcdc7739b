"""The protocols of a network. There are two: HTTP (`mpccomm.transport.http`), and a network in memory, for tests."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from mpccomm.address import IPAddress
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.handshake import Authenticator
from mpccomm.transport.reconnect import Connector, DialTerms
from mpccomm.transport.tls import Credentials


class NetworkServer(Protocol):
    """The server of a pool."""

    def start(self) -> None:
        """Begin to answer, on the running loop."""

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Wait until it is known who calls, of each connection that there is now from these addresses."""

    async def close(self) -> None:
        """Stop listening; what is still open ends."""


class BoundPort(Protocol):
    """A port that belongs to a pool."""

    @property
    def port(self) -> int:
        """The number of the port."""

    @property
    def open(self) -> bool:
        """Whether no other pool has taken it over."""

    def server(self, authenticator: Authenticator, settings: Settings) -> NetworkServer:
        """Return the pool that answers there."""

    def pass_on(self) -> BoundPort:
        """Return the same port for another pool, which may run in another thread; closing this one then leaves it open.

        :raises OSError: it is closed, or has been passed on
        """

    def close(self) -> None:
        """Close the port, so that others can have it."""

    def close_inherited(self) -> None:
        """Close the port in a forked process; in the parent it stays open."""


class Wanted(NamedTuple):
    """The party to ask a relay for: one with one of these certificates, or else one whose certificate is for this address."""

    fingerprints: tuple[str, ...]
    addr: str
    port: int
    """0: any."""


class RelayUser(NamedTuple):
    """A pool, as far as a connection to a relay needs to know it."""

    authenticator: Authenticator
    settings: Settings
    credentials: Callable[[], Credentials]
    """Returns the present credentials of this party."""
    port: Callable[[], int]
    """Returns the port that this party declares; 0: it has no server."""
    proxy: Proxy | None = None
    """The forward proxy on the way to the relay; None: there is none."""


class RelayAccess(Protocol):
    """The way through one relay, for one pool: to the parties there, and from them to this one."""

    @property
    def trouble(self) -> str:
        """Why the relay can't be used now; empty: it can."""

    async def run(self) -> None:
        """Keep the connection to the relay, until cancelled."""

    async def close(self) -> None:
        """End the calls that came in; `run` has ended."""

    def renew(self) -> None:
        """Show the relay the certificate that this party has now."""

    def connector(self, wanted: Callable[[], Wanted], terms: DialTerms) -> Connector:
        """Return a way to one party."""


class Network(Protocol):
    """What binds ports for pools, and connects to them."""

    @property
    def clock(self) -> Callable[[], float]:
        """The monotonic clock of what happens there, in seconds; also until when its pools wait."""

    def elsewhere(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function that does the same, in another thread than that of the pool; until its end no time is skipped."""

    @property
    def tls(self) -> bool:
        """Whether certificates can be shown."""

    @property
    def wires(self) -> Collection[str]:
        """What can be spoken, as in ``add_http_client(wire=)``."""

    def bind(self, caller: str, addr: str, port: int) -> BoundPort:
        """Return a port for the pool of that name; 0 takes any that is free.

        :raises OSError: it can't be had
        """

    def relay_access(self, caller: str, relay: Relay, user: RelayUser) -> RelayAccess:
        """Return the way through a relay, for the pool of that name."""

    def connector(
        self,
        caller: str,
        addr: str,
        port: int,
        terms: DialTerms,
        *,
        proxy: Proxy | None = None,
        server_name: str = "",
    ) -> Connector:
        """Return a way to the party at that address, for the pool of that name.

        :param proxy: to go through; None: directly
        :param server_name: whom to ask for there, if not ``addr``
        """
