"""A port of this machine: binding it, the error where it can't be had, and passing it from one pool to another."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from mpccomm.address import join
from mpccomm.errors import ConfigurationError, PortInUseError
from mpccomm.settings import Settings
from mpccomm.transport.handshake import Authenticator

if TYPE_CHECKING:
    from mpccomm.transport.server import Server

BACKLOG = 128
"""How many connections may wait to be accepted."""


_NOT_OUR_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV, errno.EINVAL)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise ``OSError`` where it can't be had. A host name takes its first address."""
    family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, kind, proto)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # On Windows SO_REUSEADDR would let two programs share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6():
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def not_bound(addr: str, port: int, error: OSError | UnicodeError) -> ConfigurationError | PortInUseError:
    """Return the error that says why a port could not be had, and what to do."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    where = join(addr, port)
    if isinstance(error, (socket.gaierror, UnicodeError)) or error.errno in _NOT_OUR_ADDRESS:
        return ConfigurationError(
            f"the server can't listen at {where}, which is no address of this machine ({reason}): give one that is, as addr= "
            'or in a file as listen_addr ("0.0.0.0": all of IPv4, "::": all of IPv6 and IPv4)'
        )
    return PortInUseError(f"the server can't listen at {where}: {reason}. Choose another port (0 takes any free one).")


class BoundSocket:
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
        """Whether no other pool has taken it over."""
        return bool(self._spare)

    def server(self, authenticator: Authenticator, settings: Settings) -> Server:
        """Return the pool that answers there."""
        return self._server(self._socket, authenticator, settings)

    def pass_on(self) -> BoundSocket:
        """Return the same port for another pool.

        :raises OSError: it is closed, or has been passed on
        """
        if (spare := self._take_spare()) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return BoundSocket(spare, self._server)

    def close(self) -> None:
        """Give it back."""
        # The spare is closed last: a pool that finds no spare can then bind the port anew.
        self._socket.close()
        if (spare := self._take_spare()) is not None:
            spare.close()

    close_inherited = close

    def _take_spare(self) -> socket.socket | None:
        try:
            return self._spare.pop()
        except IndexError:
            return None
