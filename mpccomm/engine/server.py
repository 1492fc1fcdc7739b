"""The server of a pool: a port of its own, or one that it shares or takes over from an older pool, and what answers there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mpccomm.address import IPAddress, check_host, check_port, check_server_name, join
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.handlers import ServerHandle
from mpccomm.errors import ConfigurationError
from mpccomm.protocol.frames import NO_PORT
from mpccomm.settings import Settings
from mpccomm.transport.network import BoundPort, Network, NetworkServer
from mpccomm.transport.port import not_bound
from mpccomm.transport.shared_port import Listener


class PoolServer:
    """The server of one pool; there is none before `listen`.

    :param take_over: makes older pools of this session end that listen at an address, and returns what they have bound there
    """

    where = ""
    """Where it listens; empty: nowhere."""
    port: int | None = None
    """The port that it is bound to."""
    declared_port = NO_PORT
    """The port under which the others know it."""
    handle: ServerHandle | None = None
    """What programs see of it."""

    def __init__(
        self,
        name: str,
        network: Network,
        authentication: Authentication,
        take_over: Callable[[str], Sequence[BoundPort]],
    ) -> None:
        self._name = name
        self._network = network
        self._authentication = authentication
        self._take_over = take_over
        self._bound_port: BoundPort | None = None
        self._running: NetworkServer | None = None

    def listen(
        self, addr: str, port: int | None, external_port: int | None, listener: Listener | None, server_name: str | None
    ) -> None:
        """Bind the port, or share one.

        :raises ConfigurationError: the address is not one of this machine
        :raises PortInUseError: the port can't be had
        """
        if self._bound_port is not None:
            raise ConfigurationError(f"this pool has a server already, at port {self.port}")
        external_port = None if external_port is None else check_port(external_port, "external_port")
        if listener is not None:
            self._bound_port, addr = self._share(listener, port, server_name), listener.addr
        elif server_name is not None:
            raise ConfigurationError("server_name= is for pools that share a Listener: pass it as listener=")
        else:
            addr = check_host(addr)
            port = self._authentication.default_port if port is None else check_port(port, zero="any that is free")
            try:
                self._bound_port = self._bind(addr, port)
            except (OSError, UnicodeError) as error:
                raise not_bound(addr, port, error) from error
        self.port = self._bound_port.port
        self.where = join(addr, self.port)
        self.declared_port = external_port or self.port
        self.handle = ServerHandle(addr, self.port, self.declared_port)

    def _share(self, listener: Listener, port: int | None, server_name: str | None) -> BoundPort:
        if port not in (None, listener.port):
            raise ConfigurationError(f"the listener has its port already, {listener.port}: leave out port=")
        if not self._network.tls:
            raise ConfigurationError("a Listener is for pools on the network, and not in memory")
        name = "" if server_name is None else check_server_name(server_name)
        return listener.join(self._name, self._authentication, name)

    def _bind(self, addr: str, port: int) -> BoundPort:
        handed_over = self._take_over(join(addr, port))
        for superfluous in handed_over[1:]:
            superfluous.close()
        return handed_over[0] if handed_over else self._network.bind(self._name, addr, port)

    @property
    def listening(self) -> bool:
        """Whether the port is ours."""
        return self._bound_port is not None and self._bound_port.open

    def pass_on(self) -> BoundPort | None:
        """Return the port, for a new pool that takes the place of this one. None: it is closed, or has been passed on."""
        assert self._bound_port is not None
        try:
            return self._bound_port.pass_on()
        except OSError:
            return None

    def start(self, settings: Settings) -> None:
        """Begin to answer, on the running loop, if there is a port and it was not begun already."""
        if self._bound_port is not None and self._running is None:
            self._running = self._bound_port.server(self._authentication, settings)
            self._running.start()

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Wait until it is known who calls, of each connection that there is now from these addresses."""
        if self._running is not None:
            await self._running.until_known(addresses)

    async def close(self) -> None:
        """Stop answering; what is still open ends. The port remains, for `close_port`."""
        if self._running is not None:
            await self._running.close()

    def close_port(self) -> None:
        """Give the port back."""
        if self._bound_port is not None:
            self._bound_port.close()

    def close_inherited(self) -> None:
        """Close the port in a forked process; in the parent it stays open."""
        if self._bound_port is not None:
            self._bound_port.close_inherited()
