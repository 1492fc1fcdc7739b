"""The pool under its names of 4.x."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import mpccomm
from mpccomm.compat import Pool
from mpccomm.compat.httphandlers import HTTPClient
from mpccomm.compat.test.pool_fixtures_http import finish, generate_http_test_pools
from tests.certificates import Folder, self_signed
from tests.pools import LOCAL
from tests.timing import UNIT


async def test_keywords_and_positions() -> None:
    generator = generate_http_test_pools(3)
    one, two, three = await anext(generator)
    await one.send(handler_name="local1", message=[1], msg_id="a")
    await one.send("local1", [2], "b", aiohttp.ClientTimeout(total=5), 3)
    one.asend(handler_name="local1", message=[3], msg_id="c")
    assert [await two.recv(handler_name="local0", msg_id=msg_id) for msg_id in "abc"] == [[1], [2], [3]]
    await one.broadcast(message="all", msg_id="x", handler_names=("local1", "local2"))
    one.async_broadcast("again", "y")
    for pool in (two, three):
        assert await pool.recv("local0", "x") == "all"
        assert await pool.recv("local0", "y") == "again"
    for pool in (two, three):
        await pool.send("local0", pool.name, "back")
    assert await one.recv_all(msg_id="back") == [("local1", "local1"), ("local2", "local2")]
    futures = one.arecv_all(handler_names=["local1"], msg_id="later")
    assert [name for name, _ in futures] == ["local1"]
    assert isinstance(futures[0][1], asyncio.Future)
    await two.send("local0", 1, "later")
    assert futures[0][1].done()
    one.update_msg_prefix(msg_prefix="p")
    assert isinstance(one.pool_handlers["local1"], HTTPClient)
    assert one.pool_handlers["local1"].msg_prefix == "p"
    with pytest.raises(AttributeError, match="nobody"):
        await one.send("nobody", 1)
    with pytest.raises(KeyError):
        await one.recv("nobody")
    with pytest.raises(TypeError, match="takes a list of names; not complex"):
        await one.recv_all(handler_names=1j)  # type: ignore[arg-type]
    await finish(generator)


async def test_an_id_may_be_used_again() -> None:
    generator = generate_http_test_pools(2)
    one, two = await anext(generator)
    for number in range(3):
        await one.send("local1", number, "same")
        assert await two.recv("local0", "same") == number
    await finish(generator)


async def test_coroutines_do_nothing_until_they_are_awaited() -> None:
    generator = generate_http_test_pools(2)
    one, two = await anext(generator)
    sending, receiving = one.send("local1", "late", "x"), two.recv("local0", "x")
    assert asyncio.iscoroutine(sending)
    assert asyncio.iscoroutine(receiving)
    await one.send("local1", "early", "x")
    await sending
    assert [await receiving, await two.recv("local0", "x")] == ["early", "late"]
    await finish(generator)


async def exchange(alice: mpccomm.Pool, bob: mpccomm.Pool) -> Any:
    for pool, other, name in ((alice, bob, "Bob"), (bob, alice, "Alice")):
        assert other.http_server is not None
        pool.add_http_client(name, LOCAL, other.http_server.port)
    try:
        await alice.send("Bob", 1)
        return await bob.recv("Alice")
    finally:
        await asyncio.gather(alice.shutdown(), bob.shutdown())


def made() -> tuple[mpccomm.Pool, mpccomm.Pool]:
    alice, bob = Pool(timeout=aiohttp.ClientTimeout(total=300)), Pool(None, None, None, 300, -1)
    alice.add_http_server(0, LOCAL)
    bob.add_http_server(port=0, addr=LOCAL, external_port=None)
    return alice, bob


def test_made_before_there_is_a_loop() -> None:
    assert asyncio.run(exchange(*made())) == 1


def test_made_while_the_current_loop_does_not_run() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert loop.run_until_complete(exchange(*made())) == 1
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture
def current_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that is the thread's own, and doesn't run."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def known() -> tuple[mpccomm.Pool, mpccomm.Pool]:
    alice, bob = made()
    for pool, other, name in ((alice, bob, "Bob"), (bob, alice, "Alice")):
        assert other.http_server is not None
        pool.add_http_client(name, LOCAL, other.http_server.port)
    return alice, bob


async def shut_down(*pools: mpccomm.Pool) -> None:
    await asyncio.gather(*(pool.shutdown() for pool in pools))


def test_all_pools_of_a_thread_start_with_the_first_loop(current_loop: asyncio.AbstractEventLoop) -> None:
    alice, bob = known()
    # The other pool was never used, and has to answer all the same.
    current_loop.run_until_complete(alice.send("Bob", 42))
    assert current_loop.run_until_complete(bob.recv("Alice")) == 42
    current_loop.run_until_complete(shut_down(alice, bob))


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_however_it_is_run(runner: str) -> None:
    alice, bob = known()

    async def main() -> None:
        await asyncio.wait_for(alice.send("Bob", 42), 300 * UNIT)
        assert await bob.recv("Alice") == 42
        await shut_down(alice, bob)

    factory = asyncio.new_event_loop if runner == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(main())


def test_a_pool_of_another_thread_is_not_started() -> None:
    pools: list[mpccomm.Pool] = []
    thread = threading.Thread(target=lambda: pools.extend(made()))
    thread.start()
    thread.join()
    alice, bob = made()

    async def main() -> list[bool]:
        await alice.shutdown()
        await bob.shutdown()
        return [pool._engine.loop_owner.settled for pool in pools]

    assert asyncio.run(main()) == [False, False]
    for pool in pools:
        asyncio.run(pool.shutdown())


def test_in_ordinary_functions(current_loop: asyncio.AbstractEventLoop) -> None:
    alice, bob = known()
    alice.asend("Bob", 1)
    alice.async_broadcast(2, "all")
    first, ((name, second),) = bob.arecv("Alice"), bob.arecv_all(msg_id="all")
    assert name == "Alice"
    assert [current_loop.run_until_complete(future) for future in (first, second)] == [1, 2]
    current_loop.run_until_complete(shut_down(alice, bob))


async def test_a_message_that_is_here_is_the_message_itself() -> None:
    generator = generate_http_test_pools(2)
    one, two = await anext(generator)
    await one.send("local1", 1, "x")
    await one.send("local1", 2, "y")
    assert two.arecv("local0", "x") == 1
    assert two.arecv_all(["local0"], "y") == [("local0", 2)]
    later = two.arecv("local0", "z")
    assert isinstance(later, asyncio.Future)
    await one.send("local1", 3, "z")
    assert await later == 3
    await finish(generator)


def test_made_in_another_thread() -> None:
    pools: list[tuple[mpccomm.Pool, mpccomm.Pool]] = []
    thread = threading.Thread(target=lambda: pools.append(made()))
    thread.start()
    thread.join()
    assert asyncio.run(exchange(*pools[0])) == 1


@pytest.mark.parametrize(("type_", "encoding"), [(1, Encoding.PEM), (2, Encoding.DER), (1, Encoding.DER)])
def test_the_type_of_a_certificate_need_not_be_said(type_: int, encoding: Encoding, tmp_path: Path) -> None:
    files = Folder(tmp_path)
    own, other = self_signed("Alice", LOCAL), self_signed("Bob", LOCAL)
    pool = Pool(files.key(own), files.cert(own))
    path = tmp_path / "bob.cert"
    path.write_bytes(Path(files.cert(other)).read_bytes() if encoding is Encoding.PEM else other.der)
    pool.add_http_client("Bob", LOCAL, 8443, str(path), type=type_)
    assert list(pool.parties) == ["Bob"]


def test_a_type_that_no_certificate_has() -> None:
    pool = Pool()
    with pytest.raises(mpccomm.ConfigurationError, match="Bob: type=65535 is no type of a certificate"):
        pool.add_http_client("Bob", LOCAL, 8443, type=65535)
    with pytest.raises(TypeError, match="check_hostnames"):
        pool.add_http_client("Bob", LOCAL, 8443, check_hostnames=False)
    pool.add_http_client("Bob", LOCAL, 8443, check_hostname=False)
