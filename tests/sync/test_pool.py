"""Blocking calls."""

import asyncio
import concurrent.futures
import inspect
import threading
import typing

import numpy as np
import pytest

from mpccomm import (
    CommunicationTimeoutError,
    NotReadyError,
    PartyShutDownError,
    Pool,
    PoolClosedError,
    PortInUseError,
    SyncPool,
    UnknownPartyError,
    WrongThreadError,
)
from mpccomm.pool.groups import Group
from mpccomm.sync.groups import SyncGroup
from tests.pools import LOCAL, quick
from tests.sync.duo import duo, introduce
from tests.timing import UNIT


def test_a_message_arrives() -> None:
    with duo() as (alice, bob):
        alice.send("Bob", {"x": [1, None, 2**100]})
        assert bob.recv("Alice") == {"x": [1, None, 2**100]}


def test_a_large_array_arrives() -> None:
    with duo() as (alice, bob):
        sent = np.arange(1 << 20, dtype=np.float64)
        alice.asend("Bob", sent)
        received = bob.recv("Alice")
        assert np.array_equal(received, sent)
        assert received.flags.writeable


def test_broadcast_and_recv_all() -> None:
    with SyncPool(settings=quick()) as carol, duo() as (alice, bob):
        carol.add_http_server(0, LOCAL)
        for name, pool in (("Alice", alice), ("Bob", bob)):
            carol.add_http_client(name, LOCAL, pool.port)
            pool.add_http_client("Carol", LOCAL, carol.port)
        carol.broadcast("to all", "b")
        assert alice.recv("Carol", "b") == bob.recv("Carol", "b") == "to all"
        carol.async_broadcast(1).result(50 * UNIT)
        alice.send("Carol", "a")
        bob.send("Carol", "b")
        assert carol.recv_all() == [("Alice", "a"), ("Bob", "b")]
        bob.send("Carol", 2)
        assert carol.recv_all(["Bob"], timeout=50 * UNIT) == [("Bob", 2)]
        handles = carol.arecv_all(["Bob", "Alice"])
        alice.send("Carol", 3)
        bob.send("Carol", 4)
        assert [(name, handle.result(50 * UNIT)) for name, handle in handles] == [("Bob", 4), ("Alice", 3)]


def test_recv_all_takes_all_or_none() -> None:
    with SyncPool(settings=quick()) as carol, duo() as (alice, bob):
        carol.add_http_server(0, LOCAL)
        for name, pool in (("Alice", alice), ("Bob", bob)):
            carol.add_http_client(name, LOCAL, pool.port)
            pool.add_http_client("Carol", LOCAL, carol.port)
        alice.send("Carol", "kept")
        with pytest.raises(CommunicationTimeoutError, match="Bob"):
            carol.recv_all(timeout=UNIT)
        bob.send("Carol", "late")
        assert carol.recv_all(timeout=50 * UNIT) == [("Alice", "kept"), ("Bob", "late")]


def test_a_timeout_leaves_no_trace() -> None:
    with duo() as (alice, bob):
        alice.wait_ready(50 * UNIT)
        for limit in (0, UNIT / 10):
            with pytest.raises(CommunicationTimeoutError, match="Alice"):
                bob.recv("Alice", timeout=limit)
        alice.send("Bob", "first")
        alice.send("Bob", "second")
        assert [bob.recv("Alice"), bob.recv("Alice")] == ["first", "second"]


def test_handles() -> None:
    with duo() as (alice, bob):
        receives = [bob.arecv("Alice") for _ in range(5)]
        sends = [alice.asend("Bob", number) for number in range(5)]
        done = concurrent.futures.wait(sends + receives, timeout=50 * UNIT)
        assert not done.not_done
        assert [handle.result() for handle in receives] == list(range(5))
        assert {handle.result() for handle in concurrent.futures.as_completed(sends)} == {None}


def test_a_cancelled_handle_leaves_the_message() -> None:
    with duo() as (alice, bob):
        first, second = bob.arecv("Alice"), bob.arecv("Alice")
        assert first.cancel()
        alice.send("Bob", "zero")
        alice.send("Bob", "one")
        assert second.result(50 * UNIT) == "one"
        assert bob.recv("Alice", timeout=50 * UNIT) == "zero"


async def test_a_handle_can_be_awaited() -> None:
    with duo() as (alice, bob):
        handle = asyncio.wrap_future(bob.arecv("Alice"))
        alice.send("Bob", "here")
        assert await handle == "here"


def test_errors_are_raised_at_the_call() -> None:
    with duo() as (alice, _bob):
        with pytest.raises(UnknownPartyError, match="Zoe"):
            alice.send("Zoe", 1)
        with pytest.raises(TypeError, match="object"):
            alice.send("Bob", object())
        with pytest.raises(ValueError, match="0 seconds"):
            alice.send("Bob", 1, timeout=0)
        alice.send("Bob", "numbered 0")
        with pytest.raises(NotReadyError, match="nobody"), SyncPool(settings=quick()) as needs_connection:
            needs_connection.add_http_client("nobody", LOCAL, 1)
            needs_connection.wait_ready(UNIT)


def test_a_party_that_shuts_down_wakes_those_who_wait() -> None:
    with duo() as (alice, bob):
        waiting = bob.arecv("Alice")
        alice.send("Bob", "contact", "c")
        alice.shutdown()
        with pytest.raises(PartyShutDownError, match="Alice"):
            waiting.result(50 * UNIT)
        assert bob.recv("Alice", "c") == "contact"


def test_shutting_down_wakes_a_waiting_thread() -> None:
    with duo() as (alice, bob):
        alice.wait_ready(50 * UNIT)
        raised: list[BaseException] = []
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            try:
                bob.recv("Alice")
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        bob.shutdown()
        thread.join(50 * UNIT)
        assert not thread.is_alive()
        assert isinstance(raised[0], PoolClosedError)
        with pytest.raises(PoolClosedError, match="new one"):
            bob.recv("Alice")
        bob.shutdown()


def test_many_threads_share_a_pool() -> None:
    with duo() as (alice, bob), concurrent.futures.ThreadPoolExecutor(8) as threads:

        def talk(number: int) -> list[int]:
            for i in range(50):
                alice.send("Bob", i, f"{number}")
            return [bob.recv("Alice", f"{number}") for _ in range(50)]

        assert list(threads.map(talk, range(8))) == [list(range(50))] * 8


def test_no_thread_before_the_first_use() -> None:
    before = set(threading.enumerate())
    with duo() as (alice, _):
        with pytest.raises(PortInUseError, match=f"{alice.port}"):
            SyncPool(settings=quick()).add_http_server(alice.port or 0, LOCAL)
        unused = SyncPool(settings=quick())
        unused.add_http_client("somebody", LOCAL, 1)
        unused.shutdown()
        assert len(set(threading.enumerate()) - before) == 2
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("name", ["Alice", None])
def test_threads_are_called_by_the_name_of_the_pool_or_its_port(name: str | None) -> None:
    before = set(threading.enumerate())
    with SyncPool(name=name, settings=quick()) as pool, SyncPool(settings=quick()) as other:
        pool.add_http_server(0, LOCAL)
        pool.add_http_client("other", LOCAL, 0)
        other.add_http_client("pool", LOCAL, pool.port)
        called = "mpccomm Alice" if name else f"mpccomm at port {pool.port}"
        messages = [pool.arecv("other") for _ in range(2)]
        said: concurrent.futures.Future[str] = concurrent.futures.Future()
        messages[0].add_done_callback(lambda _: said.set_result(threading.current_thread().name))
        other.send("pool", 1)
        other.send("pool", bytes(2**20))
        assert said.result(50 * UNIT) == f"{called}, callbacks"
        assert len(messages[1].result(50 * UNIT)) == 2**20
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert {called, "mpccomm", f"{called}, decoding_0"} < names


def test_a_blocking_call_on_the_own_thread_raises() -> None:
    with duo() as (alice, _):
        raised: concurrent.futures.Future[None] = concurrent.futures.Future()

        def call() -> None:
            try:
                alice.recv("Bob")
            except WrongThreadError as error:
                raised.set_exception(error)

        alice.pool._engine.loop_owner.post(call)
        with pytest.raises(WrongThreadError, match="await"):
            raised.result(50 * UNIT)


async def test_a_blocking_call_inside_a_foreign_running_loop_works() -> None:
    with duo() as (alice, bob):
        alice.asend("Bob", 1)
        assert bob.recv("Alice") == 1


def test_never_shut_down_is_a_resource_warning() -> None:
    pool = SyncPool(settings=quick())
    pool.add_http_server(0, LOCAL)
    (thread,) = pool._loop_lifetime._thread._threads
    with pytest.warns(ResourceWarning, match="never shut down"):
        del pool
    thread.join(50 * UNIT)
    assert not thread.is_alive()


PUBLIC = [name for name in dir(SyncPool) if not name.startswith("_") and name not in ("pool")]


def test_the_two_faces_have_the_same_names() -> None:
    assert [name for name in dir(Pool) if not name.startswith("_")] == PUBLIC


@pytest.mark.parametrize("name", ["__init__", *PUBLIC])
def test_the_two_faces_have_the_same_signatures(name: str) -> None:
    ours, theirs = getattr(SyncPool, name), getattr(Pool, name)
    if isinstance(ours, property):
        ours, theirs = ours.fget, theirs.fget
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert name == "__init__" or inspect.getdoc(getattr(SyncPool, name))
    later = {"Group": Group, "SyncGroup": SyncGroup}  # imported when there is one
    returned, expected = (typing.get_type_hints(method, localns=later)["return"] for method in (ours, theirs))
    if expected is asyncio.Future or typing.get_origin(expected) is asyncio.Future:
        assert typing.get_origin(returned) is concurrent.futures.Future
        assert typing.get_args(returned) == typing.get_args(expected)


def test_introduced_pools_are_ready() -> None:
    alice, bob = SyncPool(settings=quick()), SyncPool(settings=quick())
    try:
        introduce(alice, bob)
        alice.wait_ready(50 * UNIT)
        bob.wait_ready(50 * UNIT)
        assert alice.stats["Bob"].connected
    finally:
        alice.shutdown()
        bob.shutdown()
