"""Engines on a network of the test's own, which has ports, and no way to any other party."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any, Self, cast

from mpccomm import Settings
from mpccomm.address import IPAddress
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.engine import Engine
from mpccomm.engine.party import Party
from mpccomm.transport.network import BoundPort, Network
from mpccomm.transport.reconnect import DialError
from tests.pools import LOCAL, quick


class FakeServer:
    """The server at a port."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def start(self) -> None:
        self.events.append("started")

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Nobody calls."""

    async def close(self) -> None:
        self.events.append("stopped")


class FakePort:
    """A port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = True
        self.events: list[str] = []

    def server(self, *_: object) -> FakeServer:
        return FakeServer(self.events)

    def close(self) -> None:
        self.open = False
        self.events.append("closed")

    def close_inherited(self) -> None:
        self.events.append("closed in the child")


class Nowhere:
    """A network with ports, and no way to anyone."""

    tls = True
    wires = ("mpccomm",)
    clock = staticmethod(perf_counter)

    def elsewhere(self, function: Callable[[], None]) -> Callable[[], None]:
        return function

    def __init__(self) -> None:
        self.bound: list[FakePort] = []
        self.dials: list[tuple[str, int]] = []
        self.error: OSError | None = None

    def bind(self, caller: str, addr: str, port: int) -> BoundPort:
        if self.error is not None:
            raise self.error
        self.bound.append(FakePort(port or 4321))
        return cast(BoundPort, self.bound[-1])

    def connector(self, caller: str, addr: str, port: int, terms: object, **_: object) -> Any:
        network = self

        class Way:
            async def __aenter__(self) -> Self:
                return self

            async def __aexit__(self, *_: object) -> None:
                pass

            async def dial(self) -> Any:
                network.dials.append((addr, port))
                raise DialError("there is no way")

            async def pause(self, seconds: float) -> None:
                await asyncio.sleep(max(seconds, 0))

        return Way()


def new_engine(network: Nowhere | None = None, settings: Settings | None = None) -> Engine:
    return Engine(settings or quick(), Authentication(), cast(Network, network or Nowhere()), "Alice")


def add(
    engine: Engine, name: str = "Bob", addr: str | None = LOCAL, port: int | None = 1, wire: str = "mpccomm"
) -> Party:
    return engine.add(name, addr, port, None, True, wire)
