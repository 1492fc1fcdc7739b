"""The native pool inside a `SyncPool`, and a `Pool` from loops that are not its own."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from mpccomm import (
    CommunicationTimeoutError,
    EncodingError,
    MemoryNetwork,
    Pool,
    Serialization,
    SyncPool,
    UnknownPartyError,
)
from tests.pools import Log, pools
from tests.sync.duo import duo
from tests.timing import UNIT

SIZE = 1_000_000
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


async def test_result_and_exception_travel() -> None:
    with duo() as (alice, bob):
        await alice.pool.send("Bob", "hello")
        assert await bob.pool.recv("Alice") == "hello"
        with pytest.raises(UnknownPartyError, match="Zoe"):
            await alice.pool.recv("Zoe")
        with pytest.raises(EncodingError):
            await alice.pool.send("Bob", object())
        with pytest.raises(CommunicationTimeoutError, match="Alice"):
            await bob.pool.recv("Alice", timeout=UNIT / 10)
        await alice.pool.broadcast(1)
        assert await bob.pool.recv_all() == [("Alice", 1)]


async def test_cancellation_travels_and_loses_nothing() -> None:
    with duo() as (alice, bob):
        waiting = asyncio.create_task(bob.pool.recv("Alice"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await alice.pool.send("Bob", "not lost")
        assert await bob.pool.recv("Alice") == "not lost"


async def test_cancelled_at_random_moments_nothing_is_lost() -> None:
    with duo() as (alice, bob):
        count = 300
        handles = [alice.asend("Bob", number) for number in range(count)]
        received: list[int] = []
        while len(received) < count:
            waiting = asyncio.create_task(bob.pool.recv("Alice"))
            for _ in range(len(received) % 4):
                await asyncio.sleep(0)
            if len(received) % 3 == 0 and not waiting.done() and waiting.cancel():
                waiting.uncancel()
                try:
                    received.append(await waiting)
                except asyncio.CancelledError:
                    pass
                else:
                    continue
            received.append(await bob.pool.recv("Alice") if waiting.cancelled() else await waiting)
        assert received == list(range(count))
        for handle in handles:
            await asyncio.wrap_future(handle)


async def test_futures_belong_to_the_loop_of_the_caller() -> None:
    with duo() as (alice, bob):
        future = bob.pool.arecv("Alice")
        assert future.get_loop() is asyncio.get_running_loop()
        sent = alice.pool.asend("Bob", 5)
        assert sent.get_loop() is asyncio.get_running_loop()
        assert await future == 5
        await sent


async def test_context_variables_come_along() -> None:
    with duo() as (alice, bob):
        variable.set("mine")
        Serialization.register(_serialize, _deserialize, _Context, check_annotations=False)
        try:
            await alice.pool.send("Bob", _Context())
            assert await bob.pool.recv("Alice") == ("mine", "mine")
            future = bob.pool.arecv("Alice")
            await alice.pool.send("Bob", _Context())
            assert await future == ("mine", "mine")
        finally:
            Serialization.clear_serialization_logic()


class _Context:
    """Something whose way to the other side depends on the context."""


def _serialize(obj: _Context, **kwargs: object) -> str:
    return variable.get()


MEMBERS = ["Alice", "Bob"]
SENT_AND_RECEIVED: dict[str, tuple[Callable[[Pool, Any], Coroutine[Any, Any, Any]], Callable[[SyncPool], Any]]] = {
    "send": (lambda pool, value: pool.send("Bob", value), lambda bob: bob.recv("Alice")),
    "broadcast": (lambda pool, value: pool.broadcast(value), lambda bob: bob.recv("Alice")),
    "bcast": (
        lambda pool, value: pool.group(MEMBERS).bcast(value, root="Alice"),
        lambda bob: bob.group(MEMBERS).bcast(root="Alice"),
    ),
}


@pytest.mark.parametrize("call", SENT_AND_RECEIVED)
async def test_what_is_cancelled_is_the_callers_again_at_once(call: str) -> None:
    send, receive = SENT_AND_RECEIVED[call]
    network = MemoryNetwork()
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        await asyncio.to_thread(alice.wait_ready)
        network.partition("Alice", "Bob")
        value = bytearray(b"?" * SIZE)
        sending = asyncio.create_task(send(alice.pool, value))
        await asyncio.sleep(UNIT)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        value[:] = b"!" * SIZE
        network.heal()
        assert bytes(await asyncio.to_thread(receive, bob)) == b"?" * SIZE


def _deserialize(obj: str, **kwargs: object) -> tuple[str, str]:
    return obj, variable.get()


def elsewhere(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it on a second loop in a second thread."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(asyncio.run(function()))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result.result()


async def test_a_pool_is_awaited_from_a_second_loop_in_another_thread() -> None:
    async with pools("Alice", "Bob") as (alice, bob):

        async def there() -> Any:
            await alice.send("Bob", "from another loop")
            future = alice.arecv("Bob")
            await bob.send("Alice", "and back")
            with pytest.raises(CommunicationTimeoutError):
                await alice.recv("Bob", "never", timeout=UNIT / 10)
            return await future, await bob.recv("Alice")

        assert await asyncio.to_thread(elsewhere, there) == ("and back", "from another loop")


def test_a_loop_that_is_closed_says_so() -> None:
    pool = Pool()

    async def use() -> None:
        pool.add_http_client("nobody", "127.0.0.1", 1)
        with pytest.raises(CommunicationTimeoutError):
            await pool.recv("nobody", timeout=0)
        await pool.shutdown()

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="shut down"):
        asyncio.run(pool.recv("nobody"))


async def test_a_future_that_is_cancelled_while_its_message_is_on_the_way_gives_it_back() -> None:
    """The pool's loop has handed the message over, and this loop has not taken it yet: no turn of it comes in between."""
    with duo() as (alice, bob):
        for number in range(50):
            future = bob.pool.arecv("Alice")
            # Blocks this loop until the message is at Bob's.
            alice.send("Bob", number)
            while bob.pool_handlers["Alice"].buffer:
                pass
            assert not future.done()
            assert future.cancel()
            await asyncio.sleep(0)
            assert await asyncio.to_thread(bob.recv, "Alice", timeout=50 * UNIT) == number


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("call", ["recv", "recv_all", "recv_any", "as_received", "send", "group"])
def test_a_loop_that_is_closed_while_a_task_waits_loses_nothing_and_costs_no_connection(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with duo() as (alice, bob):
        bob.wait_ready(50 * UNIT)
        native = bob.pool

        async def received() -> None:
            async for _ in native.as_received():
                pass

        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "recv": lambda: native.recv("Alice"),
            "recv_all": lambda: native.recv_all(),
            "recv_any": lambda: native.recv_any(),
            "as_received": received,
            "send": lambda: native.send("Alice", bytes(3_000_000)),
            "group": lambda: native.group().allgather(1),
        }

        async def begin() -> asyncio.Future[Any]:
            task = asyncio.ensure_future(calls[call]())
            await asyncio.sleep(0)
            bob.recv("Alice", "begun", 50 * UNIT)
            return task

        alice.asend("Bob", "begun", "begun")
        loop = asyncio.new_event_loop()
        task = loop.run_until_complete(begin())
        loop.close()
        if call == "send":
            assert len(alice.recv("Bob", timeout=50 * UNIT)) == 3_000_000
        for number in range(3):
            alice.send("Bob", number, timeout=50 * UNIT)
        assert [bob.recv("Alice", timeout=50 * UNIT) for _ in range(3)] == [0, 1, 2]
        assert (alice.stats["Bob"].reconnects, bob.stats["Alice"].reconnects) == (0, 0)
        assert not task.done()
        assert not Log(caplog).lines("", logging.ERROR)
        # asyncio would say of it that it was still pending, which is known.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[attr-defined]
