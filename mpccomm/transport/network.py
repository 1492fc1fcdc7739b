"""What pools reach each other through. There is HTTP (`mpccomm.transport.http`), and a network in memory, for tests."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from mpccomm.settings import Settings
from mpccomm.transport.handshake import Authenticator
from mpccomm.transport.reconnect import Connector


class NetworkServer(Protocol):
    """The server of a pool."""

    def start(self) -> None:
        """Begin to answer, on the running loop."""

    def hand_over(self) -> None:
        """Another one goes on listening there."""

    async def close(self) -> None:
        """Stop listening; what is still open ends."""


class BoundPort(Protocol):
    """A port that belongs to a pool."""

    @property
    def port(self) -> int:
        """Its number."""

    @property
    def open(self) -> bool:
        """Whether it still does."""

    def server(self, authenticator: Authenticator, settings: Settings) -> NetworkServer:
        """The pool that answers there."""

    def share(self) -> BoundPort:
        """The same port for another pool; closing this one then leaves it open.

        :raises OSError: it is closed
        """

    def close(self) -> None:
        """Give it back."""

    def close_inherited(self) -> None:
        """Give up what a forked process has of it."""


class Network(Protocol):
    """Has ports, and ways to them."""

    @property
    def tls(self) -> bool:
        """Whether certificates can be shown."""

    @property
    def wires(self) -> Collection[str]:
        """What can be spoken, as in ``add_http_client(wire=)``."""

    def bind(self, caller: str, addr: str, port: int) -> BoundPort:
        """A port for the pool of that name; 0 takes any that is free.

        :raises OSError: it can't be had
        """

    def connector(
        self,
        caller: str,
        addr: str,
        port: int,
        *,
        connect_timeout: float,
        context: Callable[[], ssl.SSLContext | None],
        examine: Callable[[ssl.SSLObject | None], Awaitable[str | None]],
    ) -> Connector:
        """A way to the party at that address, for the pool of that name.

        :param connect_timeout: seconds
        :param context: for TLS, as of now; None: without
        :param examine: why the one that answers is not the one that was meant, by what TLS knows of it
        """
