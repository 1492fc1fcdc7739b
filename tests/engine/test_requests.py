"""What a caller waits for: how it ends, on both faces."""

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mpccomm import (
    CommunicationTimeoutError,
    DecodingError,
    Limits,
    PartyGoneError,
    Pool,
    Serialization,
    Settings,
    SyncPool,
)
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.requests import ReceiveCall, SendCall
from mpccomm.engine.several import TaskCall
from mpccomm.engine.states import OVER
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

LIMIT = 100 * UNIT
pytestmark = pytest.mark.usefixtures("both_loops")


class Bad:
    """Can't be deserialised."""

    def serialize(self, **_kwargs: Any) -> int:
        return 1

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Bad":
        raise RuntimeError("not this one")


async def test_what_is_done_is_not_left_to_the_collector() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        gc.collect()
        gc.disable()
        try:
            await alice.send("Bob", bytes(100))
            await bob.recv("Alice")
            _, received = await asyncio.gather(alice.send("Bob", "later"), bob.recv("Alice"))
            assert received == "later"
            await alice.broadcast("to all")
            assert await bob.recv_all() == [("Alice", "to all")]
            handle = alice.asend("Bob", "not awaited")
            assert await bob.recv("Alice") == "not awaited"
            await handle
            assert not [thing for thing in gc.get_objects() if isinstance(thing, SendCall | ReceiveCall)]
        finally:
            gc.enable()


# -- several -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACES)
async def test_of_several_one_that_cannot_be_read_is_gone_and_the_others_stay(kind: str) -> None:
    Serialization.register_class(Bad)
    try:
        async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
            await bob.send("Alice", Bad())
            await carol.send("Alice", "good")
            for names in (["Bob", "Carol"], ["Carol", "Bob"]):
                with pytest.raises(DecodingError, match="deserialize of Bad"):
                    await call("recv_all", names, timeout=LIMIT)
                await bob.send("Alice", Bad())
            with pytest.raises(DecodingError, match="deserialize of Bad"):
                await call("recv", "Bob", timeout=LIMIT)
            assert await call("recv", "Carol", timeout=0) == "good"
    finally:
        Serialization.clear_serialization_logic()


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("names", [["Bob", "Carol"], ["Carol", "Bob"]])
async def test_of_several_one_that_is_gone_ends_the_wait_for_all(kind: str, names: list[str]) -> None:
    async with faces(kind, "Bob", "Carol", "Dave") as (call, (bob, carol, dave)):
        await call("wait_ready", LIMIT)
        await dave.send("Alice", "stays")
        waiting = asyncio.ensure_future(call("recv_all", [*names, "Dave"]))
        await until(lambda: not dave._engine.party("Alice").link.sender.unacknowledged)
        await carol.shutdown()
        with pytest.raises(PartyGoneError, match="Carol"):
            await waiting
        assert await call("recv", "Dave", timeout=0) == "stays"
        await bob.send("Alice", "the first")
        assert await call("recv", "Bob", timeout=LIMIT) == "the first"
        # Carol is gone, so the call fails at once: it does not wait for Bob, who is silent.
        with pytest.raises(PartyGoneError, match="Carol"):
            await call("broadcast", 1, handler_names=names)
        assert await bob.recv("Alice", timeout=LIMIT) == 1, "it was numbered and sent all the same"


@pytest.mark.parametrize("kind", FACES)
async def test_a_broadcast_ends_when_one_party_is_gone_though_another_is_silent(kind: str) -> None:
    async with faces(kind, "Bob", "Carol", settings=quick(Limits(box_messages=1))) as (call, (bob, carol)):
        await call("wait_ready", LIMIT)
        await call("broadcast", "fills their boxes")
        waiting = asyncio.ensure_future(call("broadcast", "held back"))
        await until(lambda: bob._engine.party("Alice").link.counters.messages_received == 1)
        await asyncio.sleep(UNIT)
        assert not waiting.done()
        await carol.shutdown()
        with pytest.raises(PartyGoneError, match="Carol"):
            await waiting
        assert [await bob.recv("Alice", timeout=LIMIT) for _ in range(2)] == ["fills their boxes", "held back"]


@pytest.mark.parametrize("kind", FACES)
async def test_when_time_is_up_the_error_names_all_that_are_missing(kind: str) -> None:
    async with faces(kind, "Bob", "Carol", "Dave") as (call, (bob, _, _)):
        await bob.send("Alice", "stays")
        for timeout in (0, UNIT):
            with pytest.raises(CommunicationTimeoutError, match=r"#0 from Carol \(.+\), Dave \(") as caught:
                await call("recv_all", ["Bob", "Carol", "Dave"], timeout=timeout)
            assert "Bob" not in str(caught.value), "that one is here"
            with pytest.raises(CommunicationTimeoutError, match=r"any of #0 from Carol \(.+\), Dave \("):
                await call("recv_any", ["Carol", "Dave"], timeout=timeout)
        assert await call("recv", "Bob", timeout=0) == "stays"


@pytest.mark.parametrize("kind", FACES)
async def test_one_that_is_gone_is_named_beside_one_that_is_late(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        await call("wait_ready", LIMIT)
        await carol.shutdown()
        with pytest.raises(CommunicationTimeoutError, match=r"(?s)#0 from Bob \(.+; and .+Carol .+shut down"):
            await call("recv_any", timeout=UNIT)
        with pytest.raises(PartyGoneError, match=r"Carol"):
            await call("recv_all", timeout=UNIT)
        await bob.shutdown()
        with pytest.raises(PartyGoneError, match=r"(?s)Bob .+shut down.+Carol .+shut down"):
            await call("recv_any", timeout=UNIT)


# -- what fails on the loop reaches the caller ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("msg_id", [0, False, b"", 7, 1.5, ("a",)])
async def test_an_id_that_is_no_text_is_refused_at_the_call(kind: str, msg_id: Any) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        calls: list[tuple[str, tuple[object, ...]]] = [
            *((method, ("Bob", 1)) for method in ("send", "asend")),
            *((method, ("Bob",)) for method in ("recv", "arecv")),
            *((method, (1,)) for method in ("broadcast", "async_broadcast")),
            *((method, ()) for method in ("recv_all", "arecv_all")),
        ]
        for method, arguments in calls:
            with pytest.raises(TypeError, match="a message id is a text"):
                await call(method, *arguments, msg_id=msg_id)
        # No number was consumed.
        await call("send", "Bob", "first")
        assert await bob.recv("Alice", timeout=LIMIT) == "first"


@pytest.mark.parametrize("kind", FACES)
async def test_limits_of_the_wrong_type_are_refused_at_the_call(kind: str) -> None:
    async with faces(kind, "Bob") as (call, _):
        for retries in ("3", 1.5, True, None.__class__):
            with pytest.raises(TypeError, match="max_retries is a whole number"):
                await call("send", "Bob", 1, max_retries=retries)
        timeouts: tuple[object, ...] = ("1", b"", [], True)
        for timeout in timeouts:
            with pytest.raises(TypeError, match="a time limit is a number"):
                await call("send", "Bob", 1, timeout=timeout)
            with pytest.raises(TypeError, match="a time limit is a number"):
                await call("recv", "Bob", timeout=timeout)


def test_those_of_the_pool_too() -> None:
    makers: tuple[Callable[..., object], ...] = (Pool, SyncPool)
    for make in makers:
        with pytest.raises(TypeError, match="max_retries is a whole number"):
            make(max_retries="3")
        with pytest.raises(TypeError, match="a time limit is a number"):
            make(timeout="3")


async def test_what_a_time_limit_says_of_the_next_step() -> None:
    async with pools("Alice", "Bob", settings=Settings(limits=Limits(box_messages=1), linger=UNIT)) as (alice, bob):
        group = alice.group(["Alice", "Bob"])
        with pytest.raises(
            CommunicationTimeoutError, match=r"not lost: resume\(\) of the group goes on with this call\."
        ):
            await group.allgather(1, timeout=UNIT / 10)
        with pytest.raises(CommunicationTimeoutError, match="not lost: the next receive gets it"):
            await alice.recv("Bob", timeout=UNIT / 10)
        await until(lambda: bob.pool_handlers["Alice"].buffer)
        with pytest.raises(CommunicationTimeoutError, match="its box is full: it has to receive what is there first"):
            await alice.send("Bob", "no room for that", timeout=UNIT)


@pytest.mark.parametrize("kind", FACES)
async def test_an_error_on_the_loop_reaches_the_caller(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("broken")

    async with faces(kind, "Bob") as (call, (bob,)):
        await call("wait_ready", LIMIT)
        with monkeypatch.context() as patch:
            patch.setattr("mpccomm.protocol.link.Link.receive", broken)
            with pytest.raises(ZeroDivisionError):
                await call("recv", "Bob", timeout=LIMIT)
            with pytest.raises(ZeroDivisionError):
                await call("recv_all", ["Bob"], timeout=LIMIT)
        await bob.send("Alice", "the first")
        assert await call("recv", "Bob", timeout=LIMIT) == "the first"
        with monkeypatch.context() as patch:
            patch.setattr("mpccomm.protocol.sender.Sender.add", broken)
            patch.setattr("mpccomm.protocol.sender.Sender.add_plain", broken)
            with pytest.raises(ZeroDivisionError):
                await call("send", "Bob", 1)


# -- chains of callbacks -------------------------------------------------------------------------------------------------


def test_chains_of_callbacks_lose_nothing() -> None:
    count = 1000
    with duo() as (alice, bob):
        echoed = threading.Semaphore(0)

        def echo(future: concurrent.futures.Future[Any]) -> None:
            bob.asend("Alice", future.result())
            echoed.release()
            ask()

        def ask() -> None:
            if not stopped:
                waiting.append(bob.arecv("Alice"))
                waiting[-1].add_done_callback(echo)

        stopped = False
        waiting: list[concurrent.futures.Future[Any]] = []
        for number in range(count):
            alice.asend("Bob", number)
        alice.send("Bob", count)
        # All are here by now: each callback finds the next message in the box.
        ask()
        assert [alice.recv("Bob", timeout=LIMIT) for _ in range(count + 1)] == list(range(count + 1))
        stopped = True
        waiting[-1].add_done_callback(lambda _: None)
        waiting[-1].cancel()


def test_a_message_that_is_here_reaches_a_future_asked_for_in_a_callback() -> None:
    with duo() as (alice, bob):
        alice.send("Bob", "first")
        alice.send("Bob", "second")
        inner: list[concurrent.futures.Future[Any]] = []
        done = threading.Event()

        def ask(_: object) -> None:
            inner.append(bob.arecv("Alice"))
            done.set()

        outer = bob.arecv("Alice")
        outer.add_done_callback(ask)
        assert outer.result(LIMIT) == "first"
        assert done.wait(LIMIT)
        assert inner[0].result(LIMIT) == "second"


async def test_arecv_is_a_future_also_where_another_thread_has_posted_something() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        owner = bob._engine.loop_owner
        thread = threading.Thread(target=owner.post, args=(lambda: None,))
        thread.start()
        thread.join()
        assert bob.arecv("Alice").result() == 1


def test_posted_calls_do_not_nest() -> None:
    owner = LoopOwner()
    depth, deepest, left = 0, 0, 2000
    loop = asyncio.new_event_loop()

    def call() -> None:
        nonlocal depth, deepest, left
        depth += 1
        deepest = max(depth, deepest)
        left -= 1
        if left:
            owner.post_soon(call)
        else:
            loop.call_soon(loop.stop)
        depth -= 1

    def fail() -> None:
        raise ZeroDivisionError

    owner.settle_in(loop)
    failed: list[Any] = []
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    owner.post_soon(fail)
    owner.post_soon(call)
    loop.run_forever()
    loop.close()
    assert (deepest, left) == (1, 0)
    assert [type(error) for error in failed] == [ZeroDivisionError]


# -- decoding ------------------------------------------------------------------------------------------------------------


async def test_large_messages_for_futures_do_not_need_the_executor_of_the_loop() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        released = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        blocked = loop.run_in_executor(None, released.wait)
        try:
            future = bob.arecv("Alice")
            await alice.send("Bob", bytes(1_000_000), timeout=LIMIT)
            assert len(await future) == 1_000_000
        finally:
            released.set()
            await blocked


# -- tasks ---------------------------------------------------------------------------------------------------------------


async def test_a_task_cancelled_before_it_began_never_runs() -> None:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    ran = []

    async def run() -> None:
        ran.append(1)

    call = TaskCall(owner, run)
    call.cancel()
    call.start()
    await asyncio.sleep(0)
    assert not ran


async def test_what_a_task_raises_is_its_error() -> None:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())

    async def fail() -> None:
        raise ZeroDivisionError

    call = TaskCall(owner, fail)
    call.start()
    await until(lambda: call.state in OVER)
    assert isinstance(call.error, ZeroDivisionError)


# -- order among classes of the user ---------------------------------------------------------------------------------------


class Sending:
    """Sends something else, to another party or through another pool, while it is serialised."""

    met: threading.Barrier

    def __init__(self, pool: SyncPool | None = None, to: str = "") -> None:
        self.pool = pool
        self.to = to

    def serialize(self, **_kwargs: Any) -> int:
        if self.pool is not None:
            # Where there is one lock for both only one of the threads comes here.
            with contextlib.suppress(threading.BrokenBarrierError):
                self.met.wait(2 * UNIT)
            self.pool.asend(self.to, Sending())
        return 1

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Sending":
        return Sending()


@pytest.fixture
def sending() -> Iterator[None]:
    Serialization.register_class(Sending)
    Sending.met = threading.Barrier(2)
    yield
    Serialization.clear_serialization_logic()


def sent_at_once(*sends: tuple[SyncPool, str, Sending]) -> None:
    """Each of them by a thread of its own, and all end."""
    threads = [threading.Thread(target=pool.send, args=(to, what), daemon=True) for pool, to, what in sends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


@pytest.mark.usefixtures("sending")
def test_two_serialize_methods_that_send_to_each_others_party() -> None:
    with duo() as (alice, bob), SyncPool(name="Carol", settings=quick()) as carol:
        carol.add_http_server(0, LOCAL)
        assert carol.port is not None
        assert alice.port is not None
        alice.add_http_client("Carol", LOCAL, carol.port)
        carol.add_http_client("Alice", LOCAL, alice.port)
        sent_at_once((alice, "Bob", Sending(alice, "Carol")), (alice, "Carol", Sending(alice, "Bob")))
        for pool in (bob, carol):
            assert [type(pool.recv("Alice", timeout=LIMIT)) for _ in range(2)] == [Sending] * 2


@pytest.mark.usefixtures("sending")
def test_two_serialize_methods_that_send_through_each_others_pool() -> None:
    with duo() as (alice, bob):
        sent_at_once((alice, "Bob", Sending(bob, "Alice")), (bob, "Alice", Sending(alice, "Bob")))
        for pool, other in ((alice, "Bob"), (bob, "Alice")):
            assert [type(pool.recv(other, timeout=LIMIT)) for _ in range(2)] == [Sending] * 2


@pytest.mark.usefixtures("sending")
def test_three_serialize_methods_that_send_through_each_others_pool() -> None:
    Sending.met = threading.Barrier(3)
    with duo() as (alice, bob), duo() as (other_alice, other_bob):
        sent_at_once(
            (alice, "Bob", Sending(bob, "Alice")),
            (bob, "Alice", Sending(other_bob, "Alice")),
            (other_bob, "Alice", Sending(alice, "Bob")),
        )
        assert [type(bob.recv("Alice", timeout=LIMIT)) for _ in range(2)] == [Sending] * 2
        assert [type(alice.recv("Bob", timeout=LIMIT)) for _ in range(2)] == [Sending] * 2
        assert [type(other_alice.recv("Bob", timeout=LIMIT)) for _ in range(2)] == [Sending] * 2
