"""A party is removed from a pool, and perhaps added again."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpccomm import (
    CommunicationError,
    Limits,
    MemoryNetwork,
    PartyGoneError,
    PartyRestartedError,
    PartyShutDownError,
    Pool,
    Settings,
    SyncPool,
    UnknownPartyError,
)
from tests.certificates import Folder, root
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT

LIMIT = 100 * UNIT


@pytest.mark.parametrize("kind", FACES)
async def test_what_was_sent_is_delivered_and_then_it_is_told_that_we_left(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        await call("wait_ready", LIMIT)
        await call("asend", "Bob", "the last one")
        await call("remove_http_client", "Bob")
        assert await bob.recv("Alice", timeout=LIMIT) == "the last one"
        with pytest.raises(PartyShutDownError, match="Alice"):
            await bob.recv("Alice", timeout=LIMIT)
        with pytest.raises(UnknownPartyError, match="there are: 'Carol'"):
            await call("send", "Bob", 1)
        with pytest.raises(UnknownPartyError):
            await call("remove_http_client", "Bob")
        await call("broadcast", "for all that are left", timeout=LIMIT)
        assert await carol.recv("Alice", timeout=LIMIT) == "for all that are left"


@pytest.mark.parametrize("kind", FACES)
async def test_receives_that_wait_end(kind: str) -> None:
    async with faces(kind, "Bob") as (call, _):
        await call("wait_ready", LIMIT)
        waiting = [asyncio.ensure_future(call(method, *names)) for method, *names in (("recv", "Bob"), ("recv_any",))]
        for _ in range(2 if kind != "blocking" else 200):
            await asyncio.sleep(0)
        await call("remove_http_client", "Bob")
        for one in waiting:
            with pytest.raises((PartyGoneError, UnknownPartyError), match=r"Bob.* was removed|no party 'Bob'"):
                await asyncio.wait_for(one, LIMIT)


async def test_it_is_added_again_and_starts_from_nothing() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        assert bob.port is not None
        for number in range(3):
            await alice.send("Bob", number)
            assert await bob.recv("Alice", timeout=LIMIT) == number
            alice.remove_http_client("Bob")
            alice.add_http_client("Bob", LOCAL, bob.port)
            with pytest.raises(PartyShutDownError):
                await bob.recv("Alice", timeout=LIMIT)
            await asyncio.gather(*(pool.wait_ready(LIMIT) for pool in (alice, bob)))
        assert alice.stats["Bob"].messages_sent == 0
        await bob.send("Alice", "for the new one")
        assert await alice.recv("Bob", timeout=LIMIT) == "for the new one"


async def test_what_nobody_received_is_dropped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        assert bob.port is not None
        await bob.send("Alice", "not wanted any more")
        alice.remove_http_client("Bob")
        await log.seen("was removed without receiving everything from it; here from it are #0", logging.WARNING)
        alice.add_http_client("Bob", LOCAL, bob.port)
        with pytest.raises(TimeoutError):
            await alice.recv("Bob", timeout=0)


async def test_one_that_never_came_and_a_pool_that_never_ran(caplog: pytest.LogCaptureFixture) -> None:
    async with pools("Alice", settings=replace(quick(), linger=UNIT), ready=False) as (alice,):
        alice.add_http_client("Nobody", LOCAL, 1)
        handle = alice.asend("Nobody", 1)
        alice.remove_http_client("Nobody")
        with pytest.raises(CommunicationError, match="was removed"):
            await asyncio.wait_for(handle, LIMIT)
        await until(lambda: not alice._engine.removals.leaving)
        assert alice.parties == ()
    pool = Pool()
    pool.add_http_client("Nobody", LOCAL, 1)
    pool.remove_http_client("Nobody")
    pool.add_http_client("Nobody", LOCAL, 1)
    await pool.shutdown()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("end", ["shutdown", "abort"])
def test_the_end_of_the_pool_waits_for_the_goodbye(end: str) -> None:
    network = MemoryNetwork(delay=0.05, rate="10mbit")

    async def main() -> None:
        async with Pool(name="Alice", network=network) as alice, Pool(name="Bob", network=network) as bob:
            network.connect(alice, bob)
            await alice.wait_ready()
            handle = alice.asend("Bob", bytes(1 << 20))
            alice.remove_http_client("Bob")
            await getattr(alice, end)()
            await handle
            assert len(await bob.recv("Alice", timeout=LIMIT)) == 1 << 20
            with pytest.raises(PartyShutDownError):
                await bob.recv("Alice", timeout=LIMIT)

    network.run(main())


@pytest.mark.parametrize("end", ["shutdown", "abort"])
def test_the_end_of_the_pool_bounds_what_is_still_delivered(end: str, caplog: pytest.LogCaptureFixture) -> None:
    """By the time that the call gives, also where it is cancelled; the log says for whom it waits."""
    network = MemoryNetwork()

    async def main() -> list[float]:
        took = []
        for linger, limit in ((0, None), (3, None), (10, 1)):
            alice = Pool(name="Alice", network=network, settings=Settings(linger=100))
            alice.add_http_client("Bob", LOCAL, 1)
            handle = alice.asend("Bob", "in vain")
            alice.remove_http_client("Bob")
            loop = asyncio.get_running_loop()
            start = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(getattr(alice, end)(linger=linger), limit)
            await asyncio.wait((handle,))
            assert isinstance(handle.exception(), CommunicationError)
            took.append(loop.time() - start)
        return took

    before = time.monotonic()
    at_once, lingering, cancelled = network.run(main())
    real = time.monotonic() - before
    assert at_once < 1 + real
    assert 3 <= lingering < 4 + real
    assert 1 <= cancelled < 3 + real
    assert Log(caplog).lines("this pool is ending, and waits up to 2 s more: Bob", logging.WARNING)


def test_from_a_thread_of_its_own() -> None:
    with SyncPool(name="Alice") as alice, SyncPool(name="Bob") as bob:
        for pool in (alice, bob):
            pool.add_http_server(0, LOCAL)
        assert alice.port is not None
        assert bob.port is not None
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        alice.send("Bob", 1)
        alice.remove_http_client("Bob")
        assert bob.recv("Alice") == 1
        with pytest.raises(PartyShutDownError):
            bob.recv("Alice", timeout=LIMIT)


@pytest.mark.parametrize("kind", FACES)
async def test_again_and_again_while_messages_are_under_way(kind: str) -> None:
    """Each entry delivers what was sent to it, and says goodbye, before the one that was added after it begins."""
    async with faces(kind, "Bob") as (call, (bob,)):
        await call("wait_ready", LIMIT)
        handles: list[Awaitable[None]] = []
        for number in range(5):
            handle = call("asend", "Bob", number)
            handles.append(asyncio.wrap_future(await handle) if kind == "blocking" else handle)
            if number < 4:
                await call("remove_http_client", "Bob")
                await call("add_http_client", "Bob", LOCAL, bob.port)
        received: list[object] = []
        while len(received) < 5:
            try:
                received.append(await bob.recv("Alice", timeout=LIMIT))
            except PartyShutDownError:
                await bob.wait_ready(LIMIT)
            except PartyRestartedError:  # the next one was there before he had read what this one sent
                bob.accept_restart("Alice")
        assert received == [*range(5)]
        await asyncio.wait_for(asyncio.gather(*handles), LIMIT)


@pytest.mark.parametrize("add_again", [False, True])
@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_one_that_is_removed_while_messages_come_one_by_one_is_gone(
    kind: type[Pool | SyncPool], add_again: bool
) -> None:
    """Also where another party has its name by then."""
    network = MemoryNetwork()
    pool = kind(name="Alice", settings=quick(), network=network)
    bob, carol = (Pool(name=name, settings=quick(), network=network) for name in ("Bob", "Carol"))
    network.connect(pool, bob, carol)
    arriving: Any = pool.as_received(timeout=LIMIT)

    async def step() -> Any:
        return await (anext(arriving) if isinstance(pool, Pool) else asyncio.to_thread(next, arriving))

    try:
        await bob.send("Alice", 1)
        assert await step() == ("Bob", 1)
        pool.remove_http_client("Carol")
        if add_again:
            pool.add_http_client("Carol", LOCAL, carol.port)
        with pytest.raises(PartyGoneError, match=r"Carol.*was removed"):
            await step()
    finally:
        await asyncio.gather(*(one.shutdown(0) for one in (bob, carol)))
        await (pool.shutdown(0) if isinstance(pool, Pool) else asyncio.to_thread(pool.shutdown, 0))


async def test_it_is_still_known_by_its_certificate_while_it_delivers(tmp_path: Path) -> None:
    """Also where another entry has that certificate by then, and all certificates are looked at again."""
    authority, folder = root(), Folder(tmp_path)
    own = {name: authority.issue(name, LOCAL) for name in ("Alice", "Bob")}
    certs = {name: folder.cert(identity) for name, identity in own.items()}
    settings = quick(Limits(box_messages=2))
    alice, bob = (
        Pool(folder.key(identity), certs[name], name=name, settings=settings) for name, identity in own.items()
    )
    try:
        for pool in (alice, bob):
            pool.add_http_server(0, LOCAL)
        bob.add_http_client("Alice", LOCAL, alice.port, certs["Alice"])
        alice.add_http_client("Bob", LOCAL, bob.port, certs["Bob"])
        await alice.wait_ready(LIMIT)
        handles = [alice.asend("Bob", number) for number in range(6)]
        await handles[1]
        alice.remove_http_client("Bob")
        alice.add_http_client("Bob", LOCAL, bob.port, certs["Bob"])
        alice.reload_certificates()
        assert [await bob.recv("Alice", timeout=LIMIT) for _ in handles] == [*range(6)]
        await asyncio.gather(*handles)
    finally:
        await asyncio.gather(alice.shutdown(0), bob.shutdown(0))
