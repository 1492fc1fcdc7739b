"""The parties as programs look at them."""

import asyncio
from types import MappingProxyType

import numpy as np
import pytest

from mpccomm import Pool, SyncPool, UnknownPartyError
from tests.pools import LOCAL, Log, pools, quick
from tests.sync.duo import duo


async def test_the_parties_in_the_order_in_which_they_were_added() -> None:
    pool = Pool()
    for port, name in enumerate(["Zoe", "Adam", "Mia"], 1):
        pool.add_http_client(name, LOCAL, port)
    assert list(pool.pool_handlers) == ["Zoe", "Adam", "Mia"]
    assert isinstance(pool.pool_handlers, MappingProxyType)
    handler = pool.pool_handlers["Adam"]
    assert (handler.name, handler.addr, handler.port) == ("Adam", LOCAL, 2)
    assert handler.msg_prefix is None
    assert handler is pool.pool_handlers["Adam"]
    with pytest.raises(KeyError):
        pool.pool_handlers["Eve"]
    with pytest.raises(UnknownPartyError, match=r"no party 'adam' .*did you mean 'Adam'\?"):
        pool.pool_handlers["adam"]
    assert pool.pool_handlers.get("Eve") is None


async def test_equal_if_address_and_port_are() -> None:
    one, other = Pool(), Pool()
    for pool in (one, other):
        pool.add_http_client("same", LOCAL, 1)
    one.add_http_client("other", LOCAL, 2)
    assert one.pool_handlers["same"] == other.pool_handlers["same"]
    assert hash(one.pool_handlers["same"]) == hash(other.pool_handlers["same"])
    assert one.pool_handlers["same"] != one.pool_handlers["other"]
    assert one.pool_handlers["same"] != (LOCAL, 1)
    assert one.pool_handlers["other"] != other.pool_handlers["same"]


async def test_the_server() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        assert alice.http_server is not None
        assert (alice.http_server.addr, alice.http_server.port) == (LOCAL, alice.port)
        assert alice.http_server.external_port == alice.port
    assert Pool().http_server is None
    pool = Pool()
    pool.add_http_server(0, LOCAL, external_port=4711)
    assert pool.http_server is not None
    assert pool.http_server.external_port == 4711
    await pool.shutdown()


async def test_counters() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        handler = alice.pool_handlers["Bob"]
        assert (handler.msg_send_counter, handler.total_bytes_sent) == (0, 0)
        await alice.send("Bob", b"x" * 1000)
        await alice.send("Bob", 1, "named")
        assert handler.msg_send_counter == 2
        assert 1000 < handler.total_bytes_sent < 1100
        assert bob.pool_handlers["Alice"].msg_recv_counter == 2
        assert alice.stats["Bob"].bytes_sent == handler.total_bytes_sent
        await asyncio.gather(bob.recv("Alice"), bob.recv("Alice", "named"))


async def test_the_buffer_shows_what_nobody_asked_for() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        buffer = bob.pool_handlers["Alice"].buffer
        assert dict(buffer) == {}
        await alice.send("Bob", [1])
        await alice.send("Bob", [2], "x")
        alice.update_msg_prefix("p")
        await alice.send("Bob", [3])
        await alice.send("Bob", [4], "x")
        assert dict(buffer) == {0: [1], "x": [2], "p0": [3], "px": [4]}
        assert "px" in buffer
        assert "y" not in buffer
        with pytest.raises(KeyError):
            buffer["y"]
        with pytest.raises(TypeError):
            buffer["x"] = 1  # type: ignore[index]
        assert "[4]" not in repr(buffer), "no value in what may end up in a log"
        assert await bob.recv("Alice", "x") == [2]
        assert await bob.recv("Alice") == [1]
        bob.update_msg_prefix("p")
        assert await bob.recv("Alice") == [3]
        assert await bob.recv("Alice", "x") == [4]
        assert len(buffer) == 0


async def test_looking_takes_nothing() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        array = np.arange(10_000)
        await alice.send("Bob", array, "x")
        await alice.send("Bob", "second", "x")
        seen = bob.pool_handlers["Alice"].buffer["x"]
        assert len(bob.pool_handlers["Alice"].buffer) == 1
        received = await bob.recv("Alice", "x")
        np.testing.assert_array_equal(received, array)
        assert received is not seen
        assert bob.pool_handlers["Alice"].buffer["x"] == "second"
        assert await bob.recv("Alice", "x") == "second"


async def test_prefixes() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        alice.pool_handlers["Bob"].msg_prefix = "one"
        with pytest.raises(ValueError, match=r"'one' \(Bob\), '' \(Carol\)"):
            await alice.broadcast(1, "x")
        with pytest.raises(ValueError, match="different prefixes"):
            alice.async_broadcast(1, "x")
        await alice.broadcast(2, "x", ["Bob"])
        assert dict(bob.pool_handlers["Alice"].buffer) == {"onex": 2}
        alice.update_msg_prefix(None)
        assert alice.pool_handlers["Bob"].msg_prefix is None
        await alice.broadcast(3, "x")
        assert await bob.recv("Alice", "x") == await carol.recv("Alice", "x") == 3
        bob.update_msg_prefix("one")
        assert await bob.recv("Alice", "x") == 2


async def test_a_held_future_is_done_once_send_has_returned() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for value in (1, b"x" * 1_000_000):
            future = bob.arecv("Alice", "x")
            assert isinstance(future, asyncio.Future)
            assert not future.done()
            await alice.send("Bob", value, "x")
            assert future.done()
            assert future.result() == value


async def test_retries_of_one_call() -> None:
    alice = Pool(settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    patient = alice.asend("Bob", 0)
    with pytest.raises(ConnectionError, match="in 2 attempts"):
        await alice.send("Bob", 1, max_retries=1)
    with pytest.raises(ConnectionError, match="in 1 attempts"):
        await alice.broadcast(1, max_retries=0)
    assert not patient.done()
    patient.cancel()
    await alice.shutdown(0)


async def test_shutdown_logs_the_totals(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        await bob.recv("Alice")
    assert len(log.lines("sent 1 message (1 byte), received 0 (0 bytes)")) == 1
    assert len(log.lines("sent 0 messages (0 bytes), received 1 (1 byte)")) == 1


def test_of_a_blocking_pool() -> None:
    with duo() as (alice, bob):
        alice.send("Bob", "x", "id")
        assert dict(bob.pool_handlers["Alice"].buffer) == {"id": "x"}
        assert bob.http_server is not None
        assert bob.http_server.port == bob.port == alice.pool_handlers["Bob"].port
        assert bob.recv("Alice", "id") == "x"
        needs_connection = SyncPool(settings=quick())
        needs_connection.add_http_client("Nobody", LOCAL, 1)
        with pytest.raises(ConnectionError, match="in 1 attempts"):
            needs_connection.send("Nobody", 1, max_retries=0)
        needs_connection.shutdown(0)


async def test_what_is_done_to_a_look_reaches_no_receive() -> None:
    array = np.arange(3)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", array, "array")
        await alice.send("Bob", {"list": [1]}, "dict")
        buffer = bob.pool_handlers["Alice"].buffer
        buffer["array"][0] = 7
        buffer["dict"]["list"].append(2)
        assert buffer["array"].tolist() == [0, 1, 2]
        assert (await bob.recv("Alice", "array")).tolist() == [0, 1, 2]
        assert await bob.recv("Alice", "dict") == {"list": [1]}
