"""Whom a pool asks for where several parties are behind one address; and HAProxy and nginx, which go by that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mpccomm import AuthenticationError, ConfigurationError, Pool
from mpccomm.transport.client_hello import IncompleteError, asked_for
from tests.certificates import LOCAL, Folder, root
from tests.ports import free_ports
from tests.servers import haproxy_by_name, nginx_by_name
from tests.transport.test_proxy import PATIENCE, SETTINGS

CA = root()
PARTIES = {name: CA.issue(name, f"{name.lower()}.mpc.example") for name in ("Alice", "Bob", "Carol")}


def pool_of(folder: Folder, name: str) -> Pool:
    own = PARTIES[name]
    return Pool(folder.key(own), folder.cert(own), name=name, settings=SETTINGS)


async def asked(pool: Pool, addr: str, server_name: str | None, cert: str | None) -> str:
    """Whom the pool asks for when it dials Bob there."""
    loop = asyncio.get_running_loop()
    with socket.create_server((LOCAL, 0)) as server:
        server.setblocking(False)
        pool.add_http_client("Bob", addr, server.getsockname()[1], cert, server_name=server_name)
        async with pool:
            connection, _ = await loop.sock_accept(server)
            with connection:
                data = b""
                while True:
                    data += await loop.sock_recv(connection, 1 << 16)
                    try:
                        return asked_for(data)
                    except IncompleteError:
                        pass


@pytest.mark.parametrize(
    ("addr", "server_name", "expected"),
    [
        (LOCAL, None, ""),
        ("localhost", None, "localhost"),
        (LOCAL, "Bob.mpc.example.", "bob.mpc.example"),
        ("localhost", "bob.mpc.example", "bob.mpc.example"),
        (LOCAL, "b\xfccher.example", "xn--bcher-kva.example"),
    ],
)
async def test_by_tls(folder: Folder, addr: str, server_name: str | None, expected: str) -> None:
    assert await asked(pool_of(folder, "Alice"), addr, server_name, folder.cert(PARTIES["Bob"])) == expected


async def test_by_http() -> None:
    assert await asked(Pool(settings=SETTINGS), LOCAL, None, None) == LOCAL
    assert await asked(Pool(settings=SETTINGS), LOCAL, "bob.mpc.example", None) == "bob.mpc.example"


@pytest.mark.parametrize("name", ["", "192.0.2.1", "a b", "a" * 64, "https://bob.example", "bob.example:443"])
def test_what_is_no_host_name(name: str) -> None:
    pool = Pool()
    with pytest.raises(ConfigurationError, match="server_name"):
        pool.add_http_client("Bob", LOCAL, server_name=name)
    assert pool.parties == ()


def test_a_party_on_another_wire_is_asked_for_by_no_other_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Bob runs tno\.mpc\.communication, .*leave out server_name="):
        Pool().add_http_client("Bob", LOCAL, 1, wire="tno4", server_name="bob.example")


@asynccontextmanager
async def behind_one_address(folder: Folder, route: object) -> AsyncIterator[tuple[Pool, Pool, Pool]]:
    """Bob and Carol listen at ports of their own; Alice finds both at one, and tells them apart by name."""
    async with AsyncExitStack() as stack:
        bob, carol = [await stack.enter_async_context(pool_of(folder, name)) for name in ("Bob", "Carol")]
        for pool in (bob, carol):
            pool.add_http_server(0, LOCAL)
            pool.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
        (port,) = free_ports(1)
        stack.enter_context(route(port, bob.port, carol.port))  # type: ignore[operator]
        alice = await stack.enter_async_context(pool_of(folder, "Alice"))
        for name in ("Bob", "Carol"):
            certificate = folder.cert(PARTIES[name])
            alice.add_http_client(name, LOCAL, port, certificate, server_name=f"{name.lower()}.mpc.example")
        yield alice, bob, carol


async def check(folder: Folder, route: object) -> None:
    async with behind_one_address(folder, route) as (alice, bob, carol):
        for name, pool in (("Bob", bob), ("Carol", carol)):
            await alice.send(name, name, timeout=PATIENCE)
            assert await pool.recv("Alice", timeout=PATIENCE) == name
            await pool.send("Alice", bytes(1 << 20), timeout=PATIENCE)
            assert await alice.recv(name, timeout=PATIENCE) == bytes(1 << 20)


def at(port: int) -> tuple[str, int]:
    return LOCAL, port


@pytest.mark.parametrize("by_name", [haproxy_by_name, nginx_by_name])
async def test_by_name(folder: Folder, tmp_path: Path, by_name: Callable[..., object]) -> None:
    await check(folder, lambda *ports: by_name(tmp_path, *map(at, ports)))


async def test_routed_to_another_party(folder: Folder, tmp_path: Path) -> None:
    """A name does not vouch for anything: a server that routes it wrongly is found out by the certificate."""
    with pytest.raises(AuthenticationError, match="Carol"):
        await check(folder, lambda port, bob, carol: nginx_by_name(tmp_path, at(port), at(bob), at(bob)))
