"""The server of a pool: a port that is bound, shared, or passed on."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from mpccomm import ConfigurationError, Listener, PortInUseError
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.server import PoolServer
from mpccomm.transport.network import BoundPort, Network
from tests.engine.nowhere import FakePort, Nowhere, add, new_engine
from tests.pools import LOCAL, quick


def new_server(network: Nowhere, take_over: Callable[[str], Sequence[BoundPort]] = lambda _: ()) -> PoolServer:
    return PoolServer("Alice", cast(Network, network), Authentication(), take_over)


def listen(server: PoolServer, port: int | None = 1234, listener: Listener | None = None) -> None:
    server.listen(LOCAL, port, None, listener, None)


def test_the_port_is_told_to_parties_that_were_added_before_and_after() -> None:
    engine = new_engine()
    before = add(engine)
    assert before.link.port == 0
    engine.listen(LOCAL, 1234, 443)
    after = add(engine, "Carol", port=2)
    assert (engine.server.port, engine.server.where) == (1234, f"{LOCAL}:1234")
    assert before.link.port == after.link.port == 443
    with pytest.raises(ConfigurationError, match="has a server already, at port 1234"):
        engine.listen(LOCAL, 1235, None)
    engine.close_unused()


def test_a_port_that_can_not_be_had_leaves_the_pool_without_a_server() -> None:
    network = Nowhere()
    engine = new_engine(network)
    network.error = OSError(errno.EADDRINUSE, "taken")
    with pytest.raises(PortInUseError):
        engine.listen(LOCAL, 1234, None)
    with pytest.raises(ConfigurationError, match="server_name= is for pools that share a Listener"):
        engine.listen(LOCAL, 1234, None, server_name="alice.example")
    assert (engine.server.port, engine.server.listening) == (None, False)
    network.error = None
    engine.listen(LOCAL, 1234, None)
    assert engine.server.listening
    engine.close_unused()


def test_of_several_ports_that_older_pools_hand_over_one_is_kept() -> None:
    network, asked = Nowhere(), list[str]()
    older = [FakePort(1234), FakePort(1234)]

    def take_over(where: str) -> Sequence[BoundPort]:
        asked.append(where)
        return cast(list[BoundPort], older)

    server = new_server(network, take_over)
    listen(server)
    assert asked == [f"{LOCAL}:1234"]
    assert not network.bound, "nothing is bound anew"
    assert [port.events for port in older] == [[], ["closed"]]


def test_a_port_that_is_closed_can_not_be_passed_on() -> None:
    def pass_on() -> BoundPort:
        raise OSError(errno.EBADF, "closed")

    network = Nowhere()
    server = new_server(network)
    listen(server)
    network.bound[0].pass_on = pass_on  # type: ignore[attr-defined]
    assert server.pass_on() is None


def test_a_shared_port_is_the_listeners() -> None:
    network = Nowhere()
    with Listener(0, LOCAL) as listener:
        with pytest.raises(ConfigurationError, match=rf"the listener has its port already, {listener.port}: leave out"):
            listen(new_server(network), listener.port % 65535 + 1, listener)
        server = new_server(network)
        listen(server, None, listener)
        assert (server.port, server.where) == (listener.port, f"{LOCAL}:{listener.port}")
        server.close_port()
        network.tls = False
        with pytest.raises(ConfigurationError, match="for pools on the network, and not in memory"):
            listen(new_server(network), None, listener)


async def test_it_answers_once_it_is_started_and_gives_the_port_back() -> None:
    network = Nowhere()
    server = new_server(network)
    server.start(quick())
    await server.close()
    assert network.bound == [], "there is no server"
    listen(server)
    for _ in range(2):
        server.start(quick())
    await server.close()
    assert network.bound[0].events == ["started", "stopped"]
    server.close_port()
    assert network.bound[0].events == ["started", "stopped", "closed"]
    assert not server.listening
    await asyncio.sleep(0)
