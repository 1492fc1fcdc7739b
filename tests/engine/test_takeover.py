"""The cell that makes a pool is run again: in an interactive session the new pool takes the place of the old one."""

import asyncio
import gc
import logging
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mpccomm import (
    CommunicationTimeoutError,
    NotReadyError,
    PartyRestartedError,
    PartyShutDownError,
    Pool,
    PoolClosedError,
    PortInUseError,
    SyncPool,
)
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.takeover import Takeover
from tests.pools import LOCAL, Log, quick, until
from tests.ports import free_ports
from tests.timing import UNIT

LIMIT = 100 * UNIT
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a socket can't be handed over")


@pytest.fixture
def interactive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def blocking(port: int = 0) -> SyncPool:
    pool = SyncPool(settings=quick())
    pool.add_http_server(port, LOCAL)
    return pool


def port_of(pool: SyncPool | Pool) -> int:
    assert pool.port is not None
    return pool.port


@pytest.mark.usefixtures("interactive")
def test_the_others_see_a_first_contact(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    bob = blocking()
    alice = old = blocking()
    port = port_of(alice)
    bob.add_http_client("Alice", LOCAL, port)
    try:
        for run in range(3):
            if run:
                alice = blocking(port)
            alice.add_http_client("Bob", LOCAL, port_of(bob))
            alice.send("Bob", run)
            assert bob.recv("Alice") == run
            bob.send("Alice", -run)
            assert alice.recv("Bob") == -run
        assert len(log.lines("a new one takes its place", logging.WARNING)) == 2
        with pytest.raises(PoolClosedError):
            old.send("Bob", 1)
        assert "shut down" in repr(old)
        assert bob.stats["Alice"].messages_received == 3
    finally:
        alice.shutdown()
        old.shutdown()
        bob.shutdown()


class Cell:
    """A cell that makes Alice's pool, on either face, and Bob, who stays."""

    def __init__(self, face: type[SyncPool] | type[Pool]) -> None:
        self.face = face
        self.bob = face(name="Bob", settings=quick())
        self.bob.add_http_server(0, LOCAL)
        self.pools: list[SyncPool | Pool] = []
        self.port = 0
        self.run()
        self.bob.add_http_client("Alice", LOCAL, self.port)

    def run(self) -> SyncPool | Pool:
        """Run the cell, once more."""
        pool = self.face(name="Alice", settings=quick())
        pool.add_http_server(self.port, LOCAL)
        self.port = port_of(pool)
        pool.add_http_client("Bob", LOCAL, port_of(self.bob))
        self.pools.append(pool)
        return pool

    async def call(self, pool: SyncPool | Pool, method: str, *arguments: Any, **options: Any) -> Any:
        if isinstance(pool, SyncPool):
            return await asyncio.to_thread(getattr(pool, method), *arguments, **options)
        return await getattr(pool, method)(*arguments, **options)

    def begin(self, method: str, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        """A call of Bob's that will wait."""
        return asyncio.ensure_future(self.call(self.bob, method, *arguments, **options))

    async def meet(self) -> None:
        await self.call(self.pools[-1], "wait_ready", LIMIT)
        await self.call(self.bob, "wait_ready", LIMIT)

    async def waits(self, number: int) -> None:
        """Until that many receives of Bob's wait."""
        party = engine_of(self.bob).party("Alice")
        await until(lambda: len(list(party.link.mailbox.receives())) == number, LIMIT)

    async def end(self) -> None:
        for pool in (*self.pools[::-1], self.bob):
            await self.call(pool, "shutdown")


@asynccontextmanager
async def cell(face: type[SyncPool] | type[Pool]) -> AsyncIterator[Cell]:
    made = Cell(face)
    try:
        await made.meet()
        yield made
    finally:
        await made.end()


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_who_waits_goes_on_waiting_for_the_new_one(
    face: type[SyncPool] | type[Pool], caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    async with cell(face) as one:
        await one.call(one.pools[0], "send", "Bob", "of the first")
        assert await one.call(one.bob, "recv", "Alice") == "of the first"
        calls = {
            "recv": one.begin("recv", "Alice"),
            "named": one.begin("recv", "Alice", "x"),
            "any": one.begin("recv_any", msg_id="y"),
        }
        await one.waits(3)
        for _ in range(3):
            one.run()
            await one.meet()
        assert not any(call.done() for call in calls.values())
        new = one.pools[-1]
        await one.call(new, "send", "Bob", "of the last")
        await one.call(new, "send", "Bob", "named", "x")
        await one.call(new, "send", "Bob", "any", "y")
        async with asyncio.timeout(LIMIT):
            assert await calls["recv"] == "of the last"
            assert await calls["named"] == "named"
            assert await calls["any"] == ("Alice", "any")
        assert log.lines("its pool is replaced by another one of its process")
        assert not log.lines("was restarted")
        await one.call(one.bob, "send", "Alice", "back")
        assert await one.call(new, "recv", "Bob") == "back"


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_a_group_whose_members_meet_anew(face: type[SyncPool] | type[Pool]) -> None:
    """A call that had not begun with the old one begins with the new one, and both go on counting from there."""
    async with cell(face) as one:
        group = one.bob.group(("Alice", "Bob"))

        def of_bob() -> asyncio.Task[Any]:
            made = asyncio.to_thread(group.bcast, root="Alice") if face is SyncPool else group.bcast(root="Alice")
            return asyncio.ensure_future(made)

        async def of_alice(value: int) -> None:
            other = one.pools[-1].group(("Alice", "Bob"))
            made = (
                asyncio.to_thread(other.bcast, value, root="Alice")
                if face is SyncPool
                else other.bcast(value, root="Alice")
            )
            async with asyncio.timeout(LIMIT):
                await made

        waiting = of_bob()
        await one.waits(1)
        one.run()
        await one.meet()
        async with asyncio.timeout(LIMIT):
            for value in range(3):
                await of_alice(value)
                assert await waiting == value
                waiting = of_bob()
                await one.waits(1)
        # The next call of the old ones would be another one to the new ones.
        one.run()
        with pytest.raises(PartyShutDownError):
            await asyncio.wait_for(waiting, LIMIT)
        await one.meet()
        waiting = of_bob()
        await of_alice(7)
        assert await asyncio.wait_for(waiting, LIMIT) == 7


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_one_that_does_not_come_is_waited_for_as_one_that_has_not_started(
    face: type[SyncPool] | type[Pool], caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    async with cell(face) as one:
        waiting = one.begin("recv", "Alice")
        await one.waits(1)
        other = face(settings=quick())
        other.add_http_server(one.port, LOCAL)
        await one.call(one.pools[0], "shutdown")
        await one.call(other, "shutdown")
        await log.seen("whose pool made way for another one that has not come yet", logging.WARNING)
        assert not waiting.done()
        with pytest.raises(NotReadyError):
            await one.call(one.bob, "wait_ready", UNIT)
        ready = one.begin("wait_ready", LIMIT)
        one.run()
        await ready
        await one.call(one.pools[-1], "send", "Bob", 1)
        assert await asyncio.wait_for(waiting, LIMIT) == 1


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_a_cell_that_shuts_down_first_says_an_end(face: type[SyncPool] | type[Pool]) -> None:
    """Nobody knows then that another pool follows. It is a first contact all the same."""
    async with cell(face) as one:
        waiting = one.begin("recv", "Alice")
        await one.waits(1)
        await one.call(one.pools[0], "shutdown")
        one.run()
        with pytest.raises(PartyShutDownError):
            await asyncio.wait_for(waiting, LIMIT)
        await one.meet()
        await one.call(one.pools[-1], "send", "Bob", 1)
        assert await one.call(one.bob, "recv", "Alice") == 1


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_a_cell_that_is_run_again_with_something_under_way(face: type[SyncPool] | type[Pool]) -> None:
    """The first error says how to go on already, and it is so."""
    async with cell(face) as one:
        waiting = one.begin("recv", "Alice", "x")
        await one.waits(1)
        await one.call(one.pools[0], "send", "Bob", 3, "y")
        one.run()
        text = r"it has shut down\. Something was under way: .* receive what it sent before, and call accept_restart\('Alice'\)"
        with pytest.raises(PartyShutDownError, match=text):
            await asyncio.wait_for(waiting, LIMIT)
        assert await one.call(one.bob, "recv", "Alice", "y") == 3
        one.bob.accept_restart("Alice")
        await one.meet()
        await one.call(one.pools[-1], "send", "Bob", 4, "x")
        assert await one.call(one.bob, "recv", "Alice", "x", timeout=LIMIT) == 4


@pytest.mark.usefixtures("interactive")
def test_what_the_old_one_has_sent_is_delivered() -> None:
    bob = blocking()
    old = blocking()
    port = port_of(old)
    old.add_http_client("Bob", LOCAL, port_of(bob))
    handle = old.asend("Bob", "from the old one")
    new = blocking(port)
    new.add_http_client("Bob", LOCAL, port_of(bob))
    asking = new.arecv("Bob")
    bob.add_http_client("Alice", LOCAL, port)
    try:
        assert bob.recv("Alice") == "from the old one"
        assert handle.result(50 * UNIT) is None
        # Bob is ready for the new one once it has begun, which is when he has heard the goodbye of the old one.
        new.wait_ready(100 * UNIT)
        bob.wait_ready(100 * UNIT)
        bob.send("Alice", "to the new one")
        assert asking.result(50 * UNIT) == "to the new one"
    finally:
        new.shutdown()
        old.shutdown()
        bob.shutdown()


@pytest.mark.parametrize("server_first", [True, False])
@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.usefixtures("interactive")
async def test_a_cell_whose_address_was_corrected_waits_for_nothing(
    face: type[SyncPool] | type[Pool], server_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent to a wrong port can't be delivered any more: the new pool begins at once, however long the old one may take."""
    log = Log(caplog)
    async with cell(face) as one:
        await one.call(one.pools[-1], "shutdown")
        handles = []
        for run, port in enumerate((*free_ports(2), port_of(one.bob))):
            pool = face(name="Alice", settings=replace(quick(), linger=2 * LIMIT))
            one.pools.append(pool)
            if server_first:
                pool.add_http_server(one.port, LOCAL)
            pool.add_http_client("Bob", LOCAL, port)
            if not server_first:
                pool.add_http_server(one.port, LOCAL)
            handles.append(pool.asend("Bob", run))
        await one.meet()
        assert await one.call(one.bob, "recv", "Alice", timeout=LIMIT) == 2
        ends = [asyncio.wrap_future(handle) if isinstance(handle, Future) else handle for handle in handles]
        outcomes = await asyncio.gather(*ends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PoolClosedError, PoolClosedError, type(None)]
        assert all("Bob (127.0.0.1:" in line for line in log.lines("1 message could not be delivered: #0"))
        assert len(log.lines("1 message could not be delivered: #0")) == 2


@pytest.mark.usefixtures("interactive")
def test_the_cell_is_run_again_before_the_other_has_received(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that was acknowledged is lost; the error of the one and the log of the other say what is to be done."""
    log = Log(caplog)
    bob, old = blocking(), blocking()
    port = port_of(old)
    bob.add_http_client("Alice", LOCAL, port)
    old.add_http_client("Bob", LOCAL, port_of(bob))
    old.send("Bob", "from the old one")
    new = blocking(port)
    new.add_http_client("Bob", LOCAL, port_of(bob))
    remedy = r"its program has to receive what was sent then, and then to call accept_restart\(\)"
    try:
        sent = new.asend("Bob", "from the new one")
        told = time.monotonic() + 100 * UNIT
        while not log.lines("talked to an earlier process of ours", logging.WARNING):
            assert time.monotonic() < told
        with pytest.raises(CommunicationTimeoutError, match=remedy):
            new.send("Bob", "and another", timeout=UNIT)
        with pytest.raises(CommunicationTimeoutError, match=remedy):
            new.recv("Bob", timeout=UNIT)
        with pytest.raises(NotReadyError, match=remedy):
            new.wait_ready(UNIT)
        (line,) = log.lines("was restarted: what its old process sent", logging.WARNING)
        assert "accept_restart('Alice') goes on" in line
        assert bob.recv("Alice") == "from the old one"
        with pytest.raises(PartyRestartedError, match=r"accept_restart\('Alice'\)"):
            bob.recv("Alice")
        bob.accept_restart("Alice")
        assert [bob.recv("Alice", timeout=100 * UNIT) for _ in range(2)] == ["from the new one", "and another"]
        assert sent.result(100 * UNIT) is None
    finally:
        new.shutdown()
        old.shutdown()
        bob.shutdown()


@pytest.mark.usefixtures("interactive")
async def test_on_one_loop() -> None:
    bob, old, new = (Pool(settings=quick()) for _ in range(3))
    bob.add_http_server(0, LOCAL)
    old.add_http_server(0, LOCAL)
    old.add_http_client("Bob", LOCAL, port_of(bob))
    bob.add_http_client("Alice", LOCAL, port_of(old))
    await old.send("Bob", 1)
    assert await bob.recv("Alice") == 1
    new.add_http_server(port_of(old), LOCAL)
    assert new.port == old.port
    new.add_http_client("Bob", LOCAL, port_of(bob))
    await new.send("Bob", 2)
    assert await bob.recv("Alice") == 2
    await asyncio.gather(new.shutdown(), bob.shutdown())


@pytest.mark.usefixtures("interactive")
async def test_several_in_a_row_before_the_first_is_closed() -> None:
    bob, *row = (Pool(settings=quick()) for _ in range(5))
    bob.add_http_server(0, LOCAL)
    row[0].add_http_server(0, LOCAL)
    bob.add_http_client("Alice", LOCAL, port_of(row[0]))
    row[0].add_http_client("Bob", LOCAL, port_of(bob))
    await row[0].send("Bob", 0)
    assert await bob.recv("Alice") == 0
    for pool in row[1:]:
        pool.add_http_server(port_of(row[0]), LOCAL)
        pool.add_http_client("Bob", LOCAL, port_of(bob))
    await row[-1].send("Bob", 1)
    assert await bob.recv("Alice") == 1
    await asyncio.gather(row[-1].shutdown(), bob.shutdown())


@pytest.mark.usefixtures("interactive")
def test_several_in_quick_succession_have_the_same_port() -> None:
    """Whichever of the older ones has been closed by then, in a thread of its own, and although the system chose the port."""
    for _ in range(5):
        pools = [blocking()]
        port = port_of(pools[0])
        try:
            pools[0].add_http_client("Bob", LOCAL, 1)
            for _ in range(4):
                pools.append(blocking(port))
                pools[-1].add_http_client("Bob", LOCAL, 1)
            assert {port_of(pool) for pool in pools} == {port}
            for older in pools[:-1]:
                older.shutdown()
            engine = engine_of(pools[-1])
            assert engine.server.listening
            socket.create_connection((LOCAL, port)).close()
        finally:
            for pool in pools[::-1]:
                pool.shutdown()


@pytest.mark.usefixtures("interactive")
def test_one_that_never_ran() -> None:
    old, new = Pool(), Pool()
    old.add_http_server(0, LOCAL)
    new.add_http_server(old.port, LOCAL)
    assert new.port == old.port
    assert "shut down" in repr(old)
    new._engine.close_unused()


@pytest.mark.usefixtures("interactive")
def test_one_whose_loop_is_gone() -> None:
    old = Pool(settings=quick())

    async def forgotten() -> None:
        old.add_http_server(0, LOCAL)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(forgotten())
    new = blocking(port_of(old))
    assert new.port == old.port
    new.shutdown()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.usefixtures("interactive")
def test_another_address_is_another_place() -> None:
    old = blocking()
    with pytest.raises(PortInUseError):
        SyncPool().add_http_server(old.port, "0.0.0.0")
    old.shutdown()


def test_a_program_gets_an_error() -> None:
    assert not hasattr(sys, "ps1")
    old = blocking()
    with pytest.raises(PortInUseError):
        blocking(port_of(old))
    assert "listening" in repr(old)
    old.shutdown()


async def test_order() -> None:
    loop_owner = LoopOwner()
    loop_owner.settle_in(asyncio.get_running_loop())
    first, second, third = (Takeover(loop_owner) for _ in range(3))
    third.follow(first)
    third.follow(second)
    done: Future[None] = Future()
    third.then(lambda: done.set_result(None))
    second.end()
    second.end()
    await asyncio.sleep(0)
    assert not done.done()
    first.end()
    assert done.done()


@pytest.mark.usefixtures("interactive")
def test_the_cell_is_run_again_and_again_and_each_pool_delivers() -> None:
    """Several in quick takeover, one message each; the receiver goes on with the next as soon as it hears that one left."""
    bob = blocking()
    got: list[int] = []

    def receive() -> None:
        while len(got) < 5:
            try:
                got.append(bob.recv("Alice", timeout=200 * UNIT))
            except PartyShutDownError:
                time.sleep(UNIT / 10)
            except PartyRestartedError:  # it left before its message was received
                bob.accept_restart("Alice")

    alices = [alice := blocking()]
    bob.add_http_client("Alice", LOCAL, port := port_of(alice))
    receiving = threading.Thread(target=receive)
    receiving.start()
    try:
        for run in range(5):
            if run:
                alices.append(blocking(port))
            alices[-1].add_http_client("Bob", LOCAL, port_of(bob))
            alices[-1].asend("Bob", run)
        receiving.join(300 * UNIT)
        assert got == [*range(5)]
    finally:
        for pool in (*alices[::-1], bob):
            pool.shutdown()


@pytest.mark.usefixtures("interactive")
def test_a_cell_that_drops_its_pool_before_it_has_the_port() -> None:
    """As ``pool = SyncPool(...)`` does: the old one is gone before the new one is told where to listen."""
    bob = blocking()
    kept = [blocking()]
    port = port_of(kept[0])
    bob.add_http_client("Alice", LOCAL, port)
    kept[0].add_http_client("Bob", LOCAL, port_of(bob))
    kept[0].wait_ready(LIMIT)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(bob.recv, "Alice", timeout=LIMIT)
        for _ in range(2):
            new = SyncPool(settings=quick())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                kept[0] = new
                gc.collect()
            new.add_http_server(port, LOCAL)
            new.add_http_client("Bob", LOCAL, port_of(bob))
            new.wait_ready(LIMIT)
            assert not waiting.done()
        new.send("Bob", "from the last one")
        assert waiting.result(LIMIT) == "from the last one"
    new.shutdown()
    bob.shutdown()
