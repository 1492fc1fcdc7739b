"""Several pools of one process at one port: real ones on loopback, both faces, each on a loop of its own or on one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from mpccomm import (
    AuthenticationError,
    ConfigurationError,
    Listener,
    MemoryNetwork,
    NotReadyError,
    Pool,
    PortInUseError,
    SyncPool,
)
from tests.certificates import LOCAL, Folder
from tests.pools import Log, until
from tests.timing import UNIT
from tests.transport.test_proxy import PATIENCE, SETTINGS
from tests.transport.test_server_name import PARTIES, pool_of


def add_both(folder: Folder, alice: Pool | SyncPool, port: int) -> None:
    for name in ("Bob", "Carol"):
        server_name = f"{name.lower()}.mpc.example"
        alice.add_http_client(name, LOCAL, port, folder.cert(PARTIES[name]), server_name=server_name)


async def at_one_port(folder: Folder, listener: Listener, stack: AsyncExitStack) -> list[Pool]:
    """Alice, who has no server, and Bob and Carol, whom she does not know yet."""
    made = [await stack.enter_async_context(pool_of(folder, name)) for name in PARTIES]
    for pool in made[1:]:
        pool.add_http_server(listener=listener)
        pool.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
    return made


async def exchange(alice: Pool, name: str, pool: Pool) -> None:
    await alice.send(name, name, timeout=PATIENCE)
    assert await pool.recv("Alice", timeout=PATIENCE) == name
    await pool.send("Alice", bytes(1 << 20), timeout=PATIENCE)
    assert await alice.recv(name, timeout=PATIENCE) == bytes(1 << 20)


async def test_told_apart_by_their_certificates(folder: Folder) -> None:
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            alice, bob, carol = await at_one_port(folder, listener, stack)
            assert bob.port == carol.port == listener.port
            add_both(folder, alice, listener.port)
            for _ in range(3):
                await exchange(alice, "Bob", bob)
                await exchange(alice, "Carol", carol)
            assert len(listener.members) == 2
        assert not listener.members


def test_blocking_pools_each_in_its_thread(folder: Folder) -> None:
    with Listener(0, LOCAL) as listener, ExitStack() as stack:
        alice, bob, carol = [
            stack.enter_context(SyncPool(folder.key(own), folder.cert(own), name=name, settings=SETTINGS))
            for name, own in PARTIES.items()
        ]
        for pool in (bob, carol):
            pool.add_http_server(listener=listener)
            pool.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
        add_both(folder, alice, listener.port)
        for name, pool in (("Bob", bob), ("Carol", carol)):
            alice.send(name, bytes(1 << 20), timeout=PATIENCE)
            assert pool.recv("Alice", timeout=PATIENCE) == bytes(1 << 20)


async def test_one_certificate_and_two_names(folder: Folder) -> None:
    """One organisation takes part in two computations: its pools have names of their own, and one certificate."""
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            pools = [await stack.enter_async_context(pool_of(folder, "Bob")) for _ in range(2)]
            for number, pool in enumerate(pools):
                pool.add_http_server(listener=listener, server_name=f"{number}.mpc.example")
                pool.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
            for number, pool in enumerate(pools):
                alice = await stack.enter_async_context(pool_of(folder, "Alice"))
                certificate = folder.cert(PARTIES["Bob"])
                alice.add_http_client("Bob", LOCAL, listener.port, certificate, server_name=f"{number}.mpc.example")
                await exchange(alice, "Bob", pool)
            other = await stack.enter_async_context(pool_of(folder, "Carol"))
            with pytest.raises(ConfigurationError, match=r"another pool is '0.mpc.example' at port"):
                other.add_http_server(listener=listener, server_name="0.mpc.example")


async def test_by_where_they_call_from(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            alice, bob, carol = [await stack.enter_async_context(pool_of(folder, name)) for name in PARTIES]
            for pool, addr in ((bob, LOCAL), (carol, "192.0.2.1")):
                pool.add_http_server(listener=listener)
                pool.add_http_client("Alice", addr, 0, folder.cert(PARTIES["Alice"]))
            alice.add_http_client("Bob", LOCAL, listener.port, folder.cert(PARTIES["Bob"]))
            await exchange(alice, "Bob", bob)
            third = await stack.enter_async_context(pool_of(folder, "Carol"))
            third.add_http_server(listener=listener)
            third.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
            another = await stack.enter_async_context(pool_of(folder, "Alice"))
            another.add_http_client("Bob", LOCAL, listener.port, folder.cert(PARTIES["Bob"]))
            sending = another.asend("Bob", 1)
            line = await log.seen("asks for no host name, and can't be told to be for one of 2 pools here (Bob, Carol)")
            assert "server_name" in line
            sending.cancel()


async def test_a_name_vouches_for_nothing(folder: Folder) -> None:
    """A caller that is no party of the pool it asks for is not let in there; the one it asks for is not who it expects."""
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            alice, *_ = await at_one_port(folder, listener, stack)
            certificate = folder.cert(PARTIES["Bob"])
            alice.add_http_client("Bob", LOCAL, listener.port, certificate, server_name="carol.mpc.example")
            with pytest.raises(AuthenticationError, match="Bob"):
                await alice.send("Bob", 1, timeout=PATIENCE)


async def test_without_certificates(folder: Folder) -> None:
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            alice, bob, carol = [
                await stack.enter_async_context(Pool(name=name, settings=SETTINGS)) for name in PARTIES
            ]
            alice.add_http_server(0, LOCAL)
            for name, pool in (("Bob", bob), ("Carol", carol)):
                pool.add_http_server(listener=listener, server_name=f"{name.lower()}.mpc.example")
                pool.add_http_client("Alice", LOCAL, alice.port)
            # By address and port the two would be one party to Alice.
            alice.add_http_client("Bob", LOCAL, listener.port, server_name="bob.mpc.example")
            await exchange(alice, "Bob", bob)


async def test_pools_come_and_go(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with Listener(0, LOCAL) as listener:
        async with pool_of(folder, "Alice") as alice, pool_of(folder, "Bob") as bob:
            bob.add_http_server(listener=listener, server_name="bob.mpc.example")
            bob.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
            add_both(folder, alice, listener.port)
            await exchange(alice, "Bob", bob)
            await log.seen("it asks for 'carol.mpc.example', and no pool here is called so (bob.mpc.example)")
            async with pool_of(folder, "Carol") as carol:
                carol.add_http_server(listener=listener, server_name="carol.mpc.example")
                carol.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
                await exchange(alice, "Carol", carol)
                await exchange(alice, "Bob", bob)
            assert [str(member) for member in listener.members] == ["bob.mpc.example"]
            await exchange(alice, "Bob", bob)


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain HTTP"])
async def test_who_asks_for_a_name_that_no_pool_has_is_told_which(folder: Folder, secure: bool) -> None:
    def pool(name: str) -> Pool:
        return pool_of(folder, name) if secure else Pool(name=name, settings=SETTINGS)

    def certificate(name: str) -> Path | None:
        return Path(folder.cert(PARTIES[name])) if secure else None

    with Listener(0, LOCAL) as listener:
        async with pool("Alice") as alice, pool("Bob") as bob:
            bob.add_http_server(listener=listener, server_name="bob.mpc.example")
            bob.add_http_client("Alice", LOCAL, 0, certificate("Alice"))
            alice.add_http_client("Bob", LOCAL, listener.port, certificate("Bob"), server_name="bbo.mpc.example")
            party = alice._engine.party("Bob")
            handle = alice.asend("Bob", 1)
            await until(lambda: "asked for" in party.trouble)
            with pytest.raises(NotReadyError) as caught:
                await alice.wait_ready(2 * UNIT)
            assert "when it was asked for 'bbo.mpc.example'. Does a pool run there that is called 'bbo." in str(
                caught.value
            )
            assert "Is Bob running" not in str(caught.value)
            assert str(caught.value).endswith("No party can call this pool, as it has no server: add_http_server.")
            await alice.shutdown(0)
            assert handle.exception() is not None


async def test_callers_that_say_nothing_or_nonsense_stop_nobody(folder: Folder) -> None:
    with Listener(0, LOCAL) as listener:
        async with AsyncExitStack() as stack:
            alice, bob, carol = await at_one_port(folder, listener, stack)
            strangers = [socket.create_connection((LOCAL, listener.port)) for _ in range(20)]
            for number, stranger in enumerate(strangers):
                stack.enter_context(stranger)
                stranger.sendall(
                    (b"", b"\x16\x03\x01\x02", b"\x16\x03\x01\xff\xff\x01", b"GET / HTTP/1.1\r\n")[number % 4]
                )
            strangers[0].close()
            add_both(folder, alice, listener.port)
            await exchange(alice, "Bob", bob)
            await exchange(alice, "Carol", carol)
            assert alice.stats["Bob"].reconnects == 0


def test_what_can_not_be(folder: Folder) -> None:
    listener = Listener(0, LOCAL)
    with pytest.raises(PortInUseError, match="Choose another port"):
        Listener(listener.port, LOCAL)
    with pytest.raises(ConfigurationError, match="no address of this machine"):
        Listener(0, "192.0.2.1")
    pool = Pool()
    with pytest.raises(ConfigurationError, match="leave out port="):
        pool.add_http_server(listener.port + 1, listener=listener)
    with pytest.raises(ConfigurationError, match="pass it as listener="):
        pool.add_http_server(0, server_name="bob.example")
    with pytest.raises(ConfigurationError, match="not in memory"):
        Pool(network=MemoryNetwork()).add_http_server(listener=listener)
    assert "none yet" in repr(listener)
    listener.close()
    with pytest.raises(ConfigurationError, match="is closed"):
        pool.add_http_server(listener=listener)


async def test_a_pool_that_never_ran_leaves_too(folder: Folder) -> None:
    with Listener(0, LOCAL) as listener:
        pool = pool_of(folder, "Bob")
        await asyncio.to_thread(pool.add_http_server, listener=listener)
        assert len(listener.members) == 1
        await pool.shutdown(UNIT)
        assert not listener.members
