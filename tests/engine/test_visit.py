"""A pool that has come to look: the program of the other party takes no note of it, on either face."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mpccomm import Pool, SyncPool
from mpccomm.engine.base_pool import visiting
from mpccomm.pytest_plugin.relays import LocalRelay
from tests.certificates import Folder, self_signed
from tests.engine.faces import FACES
from tests.pools import LOCAL, quick, until
from tests.ports import free_ports
from tests.timing import UNIT

LIMIT = 100 * UNIT
WAYS = ("plain", "tls", "relay")


class Setting:
    """Two parties, Alice and Bob: pools of either, as often as they are wanted."""

    def __init__(self, folder: Path, way: str, relay: LocalRelay | None) -> None:
        self.ports = dict(zip(("Alice", "Bob"), free_ports(2), strict=True))
        self.way = way
        self.relay = relay
        files = Folder(folder)
        shown = {} if way == "plain" else {name: self_signed(name, LOCAL) for name in self.ports}
        self.files = {name: (files.key(one), files.cert(one)) for name, one in shown.items()}

    def make(self, face: Callable[..., Any], name: str) -> Any:
        """A pool of that party."""
        relay = None if self.relay is None else self.relay.relay
        pool = face(*self.files.get(name, ()), name=name, settings=quick(), relay=relay)
        (other,) = {*self.ports} - {name}
        there = None if self.way == "relay" else LOCAL
        pool.add_http_client(other, there, self.ports[other], self.files[other][1] if self.files else None)
        if self.way != "relay":
            pool.add_http_server(self.ports[name], LOCAL)
        return pool


@asynccontextmanager
async def setting(folder: Path, way: str) -> AsyncIterator[Setting]:
    if way != "relay":
        yield Setting(folder, way, None)
        return
    with LocalRelay(folder) as relay:
        yield Setting(folder, way, relay)


def caller(pool: Any, kind: str) -> Callable[..., Any]:
    if kind == "blocking":
        return lambda method, *args, **options: asyncio.to_thread(getattr(pool, method), *args, **options)
    native = pool if kind == "asyncio" else pool.pool
    return lambda method, *args, **options: getattr(native, method)(*args, **options)


def said_of_bob(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What Alice's log says of connections with him, to those who are content with INFO."""
    topic = "mpccomm.connections"
    said = [one for one in caplog.records if one.name == topic and one.levelno >= logging.INFO]
    return [one.getMessage() for one in said if one.pool == "Alice" and one.party == "Bob"]  # type: ignore[attr-defined]


def was_answered(visitor: Pool) -> bool:
    return visitor.stats["Alice"].round_trip is not None


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("way", WAYS)
async def test_who_waits_goes_on_waiting(tmp_path: Path, way: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mpccomm")
    async with setting(tmp_path, way) as parties:
        alice = parties.make(Pool if kind == "asyncio" else SyncPool, "Alice")
        call = caller(alice, kind)
        waiting = [asyncio.ensure_future(call("recv", "Bob", name)) for name in ("x", "y")]
        sending = asyncio.ensure_future(call("send", "Bob", "to the real one"))
        ready = asyncio.ensure_future(call("wait_ready", LIMIT))
        bob = None
        try:
            for _ in range(2):
                async with parties.make(visiting(Pool), "Bob") as visitor:
                    await visitor.wait_ready(LIMIT)
                    await until(partial(was_answered, visitor), LIMIT)
                    assert not alice.stats["Bob"].connected
            assert not any(one.done() for one in (*waiting, sending, ready))
            assert (alice.stats["Bob"].reconnects, alice.stats["Bob"].round_trip) == (0, None)
            assert not said_of_bob(caplog)
            bob = parties.make(Pool, "Bob")
            await bob.wait_ready(LIMIT)
            assert await bob.recv("Alice", timeout=LIMIT) == "to the real one"
            await sending
            await ready
            async with asyncio.timeout(LIMIT):
                for name, one in zip(("x", "y"), waiting, strict=True):
                    await bob.send("Alice", name, name)
                    assert await one == name
            assert alice.stats["Bob"].reconnects == 0
        finally:
            for one in (*waiting, sending, ready):
                one.cancel()
            if bob is not None:
                await bob.shutdown()
            await caller(alice, kind)("shutdown")


@pytest.mark.parametrize("way", ["relay", "tls"])
async def test_the_party_is_connected_meanwhile(tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its program has no server, or is reached through a relay: then something else can be there in its place."""
    async with setting(tmp_path, way) as parties:
        alice, bob = parties.make(Pool, "Alice"), parties.make(Pool, "Bob")
        if way == "tls":
            await bob.shutdown(linger=0)  # Alice has not met it, and does not hear of it
            bob = Pool(*parties.files["Bob"], name="Bob", settings=quick())
            bob.add_http_client("Alice", LOCAL, parties.ports["Alice"], parties.files["Alice"][1])
            bob.add_http_server(0, LOCAL)
        try:
            await asyncio.gather(alice.wait_ready(LIMIT), bob.wait_ready(LIMIT))
            caplog.set_level(logging.INFO, logger="mpccomm")
            caplog.clear()
            waiting = asyncio.ensure_future(alice.recv("Bob", timeout=LIMIT))
            async with parties.make(visiting(Pool), "Bob") as visitor:
                await visitor.wait_ready(LIMIT)
                await bob.send("Alice", 1, timeout=LIMIT)
                assert await waiting == 1
            assert alice.stats["Bob"].connected
            assert bob.stats["Alice"].reconnects == alice.stats["Bob"].reconnects == 0
            assert not said_of_bob(caplog)
        finally:
            await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_two_that_visit_each_other_talk(tmp_path: Path) -> None:
    async with setting(tmp_path, "plain") as parties:
        alice, bob = (parties.make(visiting(Pool), name) for name in parties.ports)
        await alice.send("Bob", 1, timeout=LIMIT)
        assert await bob.recv("Alice", timeout=LIMIT) == 1
        await asyncio.gather(alice.shutdown(), bob.shutdown())
