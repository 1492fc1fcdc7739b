"""Classes of the user that keep state from message to message."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mpccomm import DecodingError, Pool, Serialization
from mpccomm.engine.handlers import Handler
from tests.pools import pools
from tests.sync.duo import duo
from tests.timing import UNIT


class Scheme:
    """Its key travels once to each party, afterwards its number alone; as encryption schemes do."""

    log: list[str] = []  # noqa: RUF012 - one for the test
    known: dict[tuple[Handler, int], str] = {}  # noqa: RUF012

    def __init__(self, number: int, key: str) -> None:
        self.number = number
        self.key = key
        self.history: list[Handler] = []

    def serialize(self, *, destination: Handler | list[Handler] | None = None, **_kwargs: Any) -> dict[str, Any]:
        parties = [] if destination is None else destination if isinstance(destination, list) else [destination]
        short = bool(parties) and all(party in self.history for party in parties)
        self.history += [party for party in parties if party not in self.history]
        return {"number": self.number} if short else {"number": self.number, "key": self.key}

    @staticmethod
    def deserialize(obj: dict[str, Any], *, origin: Handler | None = None, **_kwargs: Any) -> "Scheme":
        assert origin is not None
        if "key" in obj:
            Scheme.known[origin, obj["number"]] = obj["key"]
        elif (origin, obj["number"]) not in Scheme.known:
            raise ValueError("a number before its key")
        Scheme.log.append("key" if "key" in obj else "number")
        return Scheme(obj["number"], Scheme.known[origin, obj["number"]])


class Slow:
    """Takes its time to be serialised, and says when."""

    started = threading.Event()
    go_on = threading.Event()

    def __init__(self, value: int) -> None:
        self.value = value

    def serialize(self, **_kwargs: Any) -> int:
        if self.value == 0:
            self.started.set()
            assert self.go_on.wait(50 * UNIT)
        return self.value

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Slow":
        if obj < 0:
            raise RuntimeError("not this one")
        return Slow(obj)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    Scheme.log.clear()
    Scheme.known.clear()
    Slow.started.clear()
    Slow.go_on.clear()
    Serialization.register_class(Scheme)
    Serialization.register_class(Slow)
    yield
    Serialization.clear_serialization_logic()


async def test_the_handler_is_known_to_both_methods() -> None:
    seen: list[Any] = []

    class Curious:
        def serialize(self, **kwargs: Any) -> int:
            seen.append(kwargs)
            return 1

        @staticmethod
        def deserialize(obj: int, **kwargs: Any) -> "Curious":
            seen.append(kwargs)
            return Curious()

    Serialization.register_class(Curious, check_annotations=False)
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await alice.send("Bob", [Curious(), Curious()])
        await bob.recv("Alice")
        handler = alice.pool_handlers["Bob"]
        assert seen == [{"destination": handler}] * 2 + [{"origin": bob.pool_handlers["Alice"]}] * 2
        seen.clear()
        await alice.broadcast(Curious())
        assert seen == [{"destination": [handler, alice.pool_handlers["Carol"]]}], "once for all of them"
        await asyncio.gather(bob.recv("Alice"), carol.recv("Alice"))


async def test_received_in_reverse_deserialised_in_order() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        scheme = Scheme(7, "secret")
        for msg_id in "abc":
            await alice.send("Bob", scheme, msg_id)
        assert [(await bob.recv("Alice", msg_id)).key for msg_id in "cba"] == ["secret"] * 3
        assert Scheme.log == ["key", "number", "number"]


async def test_a_waiting_future_too() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        scheme = Scheme(7, "secret")
        future = bob.arecv("Alice", "second")
        await alice.send("Bob", scheme, "first")
        await alice.send("Bob", scheme, "second")
        assert future.done()
        assert future.result().key == "secret"
        assert (await bob.recv("Alice", "first")).key == "secret"


async def test_one_that_fails_fails_for_its_own_receive() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", Slow(-1), "bad")
        await alice.send("Bob", Slow(2), "good")
        assert (await bob.recv("Alice", "good")).value == 2
        with pytest.raises(DecodingError, match="deserialize of Slow"):
            await bob.recv("Alice", "bad")


async def test_a_large_one_is_not_overtaken() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        scheme = Scheme(7, "secret")
        sent = [alice.asend("Bob", [b"x" * 5_000_000, scheme], "large"), alice.asend("Bob", scheme, "small")]
        assert (await bob.recv("Alice", "small")).key == "secret"
        await asyncio.gather(*sent)
        assert (await bob.recv("Alice", "large"))[1].key == "secret"


async def test_plain_ones_overtake() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        large = alice.asend("Bob", [b"x" * 50_000_000, Scheme(7, "secret")], "large")
        await alice.send("Bob", "plain")
        assert await bob.recv("Alice") == "plain"
        assert not large.done()
        await large
        await bob.recv("Alice", "large")


async def test_a_receive_that_was_cancelled_loses_nothing() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        scheme = Scheme(7, "secret")
        await alice.send("Bob", scheme, "first")
        await alice.send("Bob", scheme, "second")
        with pytest.raises(TimeoutError):
            await bob.recv_all(["Alice"], "third", timeout=0)
        assert bob.pool_handlers["Alice"].buffer["second"].key == "secret"
        assert (await bob.recv("Alice", "second")).key == "secret"
        assert (await bob.recv("Alice", "first")).key == "secret"


def test_serialised_and_numbered_at_once_across_threads() -> None:
    with duo() as (alice, bob):
        first = threading.Thread(target=alice.send, args=("Bob", Slow(0)))
        first.start()
        assert Slow.started.wait(50 * UNIT)
        second = threading.Thread(target=alice.send, args=("Bob", Slow(1)))
        second.start()
        alice.send("Bob", "plain ones don't wait", "plain")
        Slow.go_on.set()
        assert [bob.recv("Alice").value for _ in range(2)] == [0, 1]
        assert bob.recv("Alice", "plain") == "plain ones don't wait"
        first.join()
        second.join()


def test_broadcasts_of_two_threads_do_not_wait_for_each_other() -> None:
    with duo() as (alice, bob):

        def broadcast(number: int) -> None:
            for _ in range(20):
                alice.broadcast(Slow(number))

        everybody = [threading.Thread(target=broadcast, args=(number,), daemon=True) for number in range(1, 4)]
        for one in everybody:
            one.start()
        assert sorted(bob.recv("Alice").value for _ in range(60)) == sorted([1, 2, 3] * 20)
        for one in everybody:
            one.join()


def test_many_threads_receive_what_many_threads_sent() -> None:
    with duo() as (alice, bob):
        scheme = Scheme(7, "secret")
        sent = [alice.asend("Bob", scheme, str(number)) for number in range(50)]
        received: list[str] = []

        def receive(numbers: range) -> None:
            for number in reversed(numbers):
                received.append(bob.recv("Alice", str(number)).key)

        threads = [threading.Thread(target=receive, args=(range(first, 50, 4),)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for future in sent:
            future.result()
        assert received == ["secret"] * 50
        assert Scheme.log == ["key"] + ["number"] * 49


async def test_a_serialize_method_may_send() -> None:
    class Sender:
        def __init__(self, pool: Pool | None) -> None:
            self.pool = pool

        def serialize(self, **_kwargs: Any) -> int:
            assert self.pool is not None
            self.pool.asend("Bob", Scheme(1, "inner"), "inner")
            return 1

        @staticmethod
        def deserialize(obj: int, **_kwargs: Any) -> "Sender":
            return Sender(None)

    Serialization.register_class(Sender)
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", Sender(alice), "outer")
        assert isinstance(await bob.recv("Alice", "outer"), Sender)
        assert (await bob.recv("Alice", "inner")).key == "inner"
