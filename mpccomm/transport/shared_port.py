"""One port for several pools of a process. Callers mean one of them: by the host name that they ask for, or where they call from.

All pools accept at the same socket, each on its own loop. What a caller says first is looked at, not taken; then the pool that is
meant takes the connection, and with it everything else: TLS, the certificates, and whether the caller is let in at all.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Self

from mpccomm.address import IPAddress, check_host, check_port, join
from mpccomm.errors import ConfigurationError
from mpccomm.settings import Settings
from mpccomm.transport.handshake import Authenticator
from mpccomm.transport.listener import Acceptor
from mpccomm.transport.port import bind, not_bound

if TYPE_CHECKING:
    from mpccomm.transport.server import Server

_LONGEST = 80
"""Characters of what a caller asks for that are in the log."""


class Listener:
    """A port that several pools of this process share: ``pool.add_http_server(listener=listener)``.

    Each caller is given to the pool whose ``server_name``, or else whose certificate, has the host name that the caller asks for:
    that is the address under which it has added the party, or the ``server_name`` there. Where that tells nothing, it is the one
    that has a party at the address of the caller; a pool with a ``server_name`` takes none that ask for another.
    ``with Listener(443) as listener: ...`` closes it at the end.

    :param port: the port to listen at; 0 takes any that is free, see `port`
    :param addr: the address to listen at; ``"::"`` for IPv6 and IPv4
    :raises ConfigurationError: the address is not one of this machine
    :raises PortInUseError: the port can't be bound
    """

    def __init__(self, port: int, addr: str = "0.0.0.0") -> None:
        self.addr: str = check_host(addr)
        port = check_port(port, zero="any that is free")
        try:
            self._socket = bind(self.addr, port)
        except (OSError, UnicodeError) as error:
            raise not_bound(self.addr, port, error) from error
        self.port: int = self._socket.getsockname()[1]
        """The port that it is bound to."""
        self._members: tuple[Membership, ...] = ()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Listener at {join(self.addr, self.port)}, pools: {', '.join(map(str, self._members)) or 'none yet'}>"

    def close(self) -> None:
        """Close the port. No pool can join any more, and those that have been shut down leave no trace."""
        # Not while a thread joins: it would duplicate whatever has the descriptor by then.
        with self._lock:
            self._socket.close()

    def join(self, pool: str, authenticator: Authenticator, server_name: str) -> Membership:
        """Add a pool.

        :raises ConfigurationError: the listener is closed, or another pool has that name here
        """
        with self._lock:
            if self._socket.fileno() < 0:
                raise ConfigurationError(f"the listener at {join(self.addr, self.port)} is closed: make a new one")
            if server_name and any(member.server_name == server_name for member in self._members):
                raise ConfigurationError(
                    f"another pool is {server_name!r} at port {self.port} already: callers could not tell them apart"
                )
            made = Membership(self, self._socket.dup(), pool, authenticator, server_name)
            self._members = (*self._members, made)
        return made

    def leave(self, member: Membership) -> None:
        """Remove a pool."""
        with self._lock:
            self._members = tuple(one for one in self._members if one is not member)

    @property
    def members(self) -> tuple[Membership, ...]:
        """The pools that take part."""
        return self._members

    def choose(self, name: str, address: IPAddress) -> Acceptor:
        """Return the pool that a caller means.

        :raises LookupError: it can't be told, or it does not run yet
        """
        found = [member for member in self._members if name and member.is_called(name)]
        if not found:
            found = [member for member in self._members if not (name and member.server_name)]
        if len(found) > 1:
            found = [member for member in found if member.authenticator.parties_at(address)] or found
        if len(found) != 1:
            asked = f"it asks for {name[:_LONGEST]!r}" if name else "it asks for no host name"
            pools = ", ".join(map(str, found or self._members))
            if not found:
                raise LookupError(f"{asked}, and no pool here is called so ({pools})")
            raise LookupError(
                f"{asked}, and can't be told to be for one of {len(found)} pools here ({pools}): give each a server_name, "
                "and the party there the same, or as its address"
            )
        if found[0].acceptor is None:
            raise LookupError(f"it is for {found[0]}, which does not run yet")
        return found[0].acceptor

    def close_inherited(self) -> None:
        """Give up what a forked process has of it."""
        if (handle := self._socket.detach()) >= 0:
            os.close(handle)


class Membership:
    """The membership of one pool in a listener. To the pool it is its port."""

    open = False
    """False: a later pool can't take it over."""
    acceptor: Acceptor | None = None
    """What takes the pool's connections, once it runs."""

    def __init__(
        self, listener: Listener, sock: socket.socket, pool: str, authenticator: Authenticator, server_name: str
    ) -> None:
        self.authenticator = authenticator
        self.server_name = server_name
        self.port = listener.port
        self._listener = listener
        self._socket = sock
        self._pool = pool

    def __str__(self) -> str:
        return self.server_name or self._pool or "a pool without a name"

    def is_called(self, name: str) -> bool:
        """Return whether a caller that asks for that host name means this pool."""
        return self.server_name == name if self.server_name else self.authenticator.called(name)

    def parties_at(self, address: IPAddress) -> int:
        """Return how many parties call from there: of all pools, since any of them may accept a connection."""
        return sum(member.authenticator.parties_at(address) for member in self._listener.members)

    def choose(self, name: str, address: IPAddress) -> Acceptor:
        """Return the pool that a caller means; see `Listener.choose`."""
        return self._listener.choose(name, address)

    def server(self, authenticator: Authenticator, settings: Settings) -> Server:
        """Return the pool that answers there."""
        from mpccomm.transport.server import Server

        return Server(self._socket, authenticator, settings, self)

    def pass_on(self) -> Membership:
        """Raise: it can't be passed on to another pool."""
        raise OSError("it is shared already")

    def leave(self) -> None:
        """Leave the listener."""
        self._listener.leave(self)

    def close(self) -> None:
        """Leave the listener; the pool never ran."""
        self.leave()
        self._socket.close()

    def close_inherited(self) -> None:
        """Give up what a forked process has of it."""
        self._listener.close_inherited()
        if (handle := self._socket.detach()) >= 0:
            os.close(handle)
