"""The first of several messages, what a message has to be, one deadline for several calls, some of the parties: on all faces."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from inspect import isawaitable
from typing import Any

import numpy as np
import pytest

import mpccomm
from mpccomm import (
    Array,
    CommunicationTimeoutError,
    NotReadyError,
    PartyGoneError,
    Pool,
    SyncPool,
    UnexpectedTypeError,
)
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, Log, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

LIMIT = 100 * UNIT
pytestmark = pytest.mark.usefixtures("both_loops")


# -- whichever comes first -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("msg_id", [None, "id"])
async def test_what_is_here_comes_in_the_order_of_arrival(kind: str, msg_id: str | None) -> None:
    async with faces(kind, "Bob", "Carol", "Dave") as (call, (bob, carol, dave)):
        for number, pool in enumerate((carol, bob, dave, carol)):
            await pool.send("Alice", number, msg_id)
        got = [await call("recv_any", None, msg_id, LIMIT) for _ in range(4)]
        assert got == [("Carol", 0), ("Bob", 1), ("Dave", 2), ("Carol", 3)]


@pytest.mark.parametrize("kind", FACES)
async def test_what_comes_is_given_to_who_waits_and_the_others_stay(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        await call("wait_ready", LIMIT)
        waiting = asyncio.ensure_future(call("recv_any"))
        await carol.send("Alice", "first")
        assert await waiting == ("Carol", "first")
        await bob.send("Alice", "second")
        assert await call("recv", "Bob", timeout=LIMIT) == "second", "its number was not used up"
        await carol.send("Alice", "third")
        assert await call("recv", "Carol", timeout=LIMIT) == "third"


@pytest.mark.parametrize("kind", FACES)
async def test_of_two_at_once_one_stays(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        for number in range(20):
            waiting = asyncio.ensure_future(call("recv_any", timeout=LIMIT))
            await asyncio.gather(bob.send("Alice", number), carol.send("Alice", number))
            first = await waiting
            second = await call("recv_any", timeout=LIMIT)
            assert {first, second} == {("Bob", number), ("Carol", number)}


@pytest.mark.parametrize("kind", FACES)
async def test_whatever_ends_the_wait_moves_nothing(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        for timeout in (0, UNIT):
            with pytest.raises(CommunicationTimeoutError, match="Bob"):
                await call("recv_any", timeout=timeout)
        if kind != "blocking":
            waiting = asyncio.ensure_future(call("recv_any"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        await bob.send("Alice", 1)
        await carol.send("Alice", 2)
        assert await call("recv_all", timeout=LIMIT) == [("Bob", 1), ("Carol", 2)]


@pytest.mark.parametrize("kind", FACES)
async def test_one_that_is_gone_is_no_reason_to_stop_waiting_for_the_others(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        await call("wait_ready", LIMIT)
        waiting = asyncio.ensure_future(call("recv_any"))
        await bob.shutdown()
        await carol.send("Alice", "still here")
        assert await waiting == ("Carol", "still here")
        waiting = asyncio.ensure_future(call("recv_any"))
        await carol.shutdown()
        with pytest.raises(PartyGoneError):
            await waiting


async def test_each_once_in_the_order_of_arrival_and_a_break_leaves_the_rest() -> None:
    async with pools("Alice", "Bob", "Carol", "Dave") as (alice, bob, carol, dave):
        for number, pool in enumerate((carol, bob)):
            await pool.send("Alice", number)
        got = []
        async for name, message in alice.as_received(timeout=LIMIT):
            got.append((name, message))
            if len(got) == 2:
                await carol.send("Alice", "another one")
                await dave.send("Alice", 2)
        assert got == [("Carol", 0), ("Bob", 1), ("Dave", 2)]
        await bob.send("Alice", "last")
        async for pair in alice.as_received(["Carol", "Bob"]):
            assert pair == ("Carol", "another one")
            break
        assert await alice.recv("Bob", timeout=0) == "last"
        with pytest.raises(TypeError, match="did you mean"):
            alice.as_received("Bob")
        with pytest.raises(TypeError, match="a message id"):
            alice.as_received(msg_id=1)  # type: ignore[arg-type]


async def done(result: Any) -> Any:
    """The result of either face."""
    return await result if isawaitable(result) else result


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.recv_all(),
        lambda pool: pool.broadcast(1),
        lambda pool: pool.arecv_all(),
        lambda pool: pool.wait_ready(),
    ],
    ids=["recv_all", "broadcast", "arecv_all", "wait_ready"],
)
async def test_what_is_for_all_parties_of_none_is_told_once(
    face: type[Pool | SyncPool], call: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    pool = face()
    for _ in range(2):
        assert not await done(call(pool))
    assert len(Log(caplog).lines("it has no parties yet; add them", logging.WARNING)) == 1
    await done(pool.shutdown())


@pytest.mark.parametrize("face", [Pool, SyncPool])
async def test_what_is_for_no_party_as_asked_for_is_no_news(
    face: type[Pool | SyncPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = face()
    assert await done(pool.recv_all([])) == []
    assert not Log(caplog).lines("it has no parties yet")
    await done(pool.shutdown())


def test_the_same_blocking() -> None:
    with duo() as (alice, bob):
        for number in range(3):
            alice.send("Bob", number)
        assert list(bob.as_received()) == [("Alice", 0)]
        received: Iterator[tuple[str, Any]] = bob.as_received(["Alice"])
        assert next(received) == ("Alice", 1)
        assert bob.recv("Alice") == 2
        assert next(received, None) is None
        with pytest.raises(CommunicationTimeoutError):
            list(bob.as_received(timeout=0))
        with pytest.raises(ValueError, match="no party"):
            bob.recv_any([])
        alice.channel("x").send("Bob", "there")
        assert bob.channel("x").recv_any() == ("Alice", "there")


# -- what a message has to be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACES)
async def test_what_is_expected_arrives_and_anything_else_is_an_error(kind: str) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        for message, expect in ((1, int), ("x", (int, str)), (2.5, int | float), ([1], list)):
            await bob.send("Alice", message)
            assert await call("recv", "Bob", timeout=LIMIT, expect=expect) == message
        await bob.send("Alice", "text", "id")
        with pytest.raises(
            UnexpectedTypeError, match=r"'id' from Bob .* is str, where int or float was expected"
        ) as caught:
            await call("recv", "Bob", "id", LIMIT, expect=(int, float))
        assert (caught.value.expected, caught.value.found) == ("int or float", "str")
        assert isinstance(caught.value, mpccomm.CommunicationError)
        with pytest.raises(CommunicationTimeoutError):
            await call("recv", "Bob", "id", 0)
        await bob.send("Alice", "text")
        with pytest.raises(UnexpectedTypeError, match=r"#4 from Bob"):
            await call("recv_all", timeout=LIMIT, expect=bytes)
        await bob.send("Alice", "text")
        with pytest.raises(UnexpectedTypeError, match="where list was expected"):
            await call("recv_any", timeout=LIMIT, expect=list)
        for wrong in (list[int], 7, "int", (int, 7)):
            with pytest.raises(TypeError, match="expect= takes a class"):
                await call("recv", "Bob", expect=wrong)


@pytest.mark.parametrize("kind", FACES)
async def test_of_several_the_one_that_is_not_as_expected_counts_as_received(kind: str) -> None:
    async with faces(kind, "Bob", "Carol") as (call, (bob, carol)):
        await carol.send("Alice", "wrong")
        for number in range(2):
            await bob.send("Alice", number)
        await carol.send("Alice", 2)
        with pytest.raises(UnexpectedTypeError, match="from Carol"):
            await call("recv_all", ["Bob", "Carol"], timeout=LIMIT, expect=int)
        assert await call("recv_all", ["Bob", "Carol"], timeout=LIMIT, expect=int) == [("Bob", 0), ("Carol", 2)]
        assert await call("recv", "Bob", timeout=LIMIT) == 1


@pytest.mark.parametrize("kind", FACES)
async def test_arrays(kind: str) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        array = np.arange(20, dtype=np.uint64).reshape(2, 10)
        for expect in (np.ndarray, Array(), Array(np.uint64), Array("uint64", (None, 10)), Array(shape=(2, 10))):
            await bob.send("Alice", array)
            np.testing.assert_array_equal(await call("recv", "Bob", timeout=LIMIT, expect=expect), array)
        for message, expect, text in (
            (array, Array(np.int64), "an array of uint64 and shape .2, 10., where an array of int64 and any shape"),
            (array, Array(shape=(None, 11)), r"where an array of any dtype and shape \(any, 11\)"),
            (array, Array(shape=(None,)), "shape"),
            ([1], Array(), "is list, where an array"),
        ):
            await bob.send("Alice", message)
            with pytest.raises(UnexpectedTypeError, match=text):
                await call("recv", "Bob", timeout=LIMIT, expect=expect)


async def test_futures_too() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        early = bob.arecv("Alice", expect=int)
        await alice.send("Bob", "text")
        with pytest.raises(UnexpectedTypeError):
            await early
        await alice.send("Bob", "text")
        with pytest.raises(UnexpectedTypeError):
            bob.arecv("Alice", expect=int).result()
        await alice.send("Bob", 7)
        number: int = await bob.arecv("Alice", expect=int)
        assert number == 7
    with duo() as (blocking, other):
        handle = other.arecv("Alice", expect=int)
        blocking.send("Bob", "text")
        with pytest.raises(UnexpectedTypeError):
            handle.result(LIMIT)


# -- one deadline --------------------------------------------------------------------------------------------------------


async def test_one_deadline_for_several_calls() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", 1)
        with bob.deadline(2 * UNIT) as deadline:
            start = time.monotonic()
            assert await bob.recv("Alice") == 1
            for _ in range(2):
                with pytest.raises(
                    CommunicationTimeoutError, match="left of the deadline of 0.2 s" if UNIT == 0.1 else "left"
                ):
                    await bob.recv("Alice")
            assert time.monotonic() - start < 20 * UNIT
            await until(lambda: not deadline.left)  # a timer of uvloop's may be some microseconds early
            with pytest.raises(CommunicationTimeoutError, match="nothing was sent"):
                await bob.send("Alice", 1)
            with pytest.raises(CommunicationTimeoutError, match="deadline"):
                await bob.channel("x").recv("Alice")
            with pytest.raises(CommunicationTimeoutError, match="deadline"):
                await bob.group(["Alice", "Bob"]).barrier()
        await bob.send("Alice", "no deadline here")
        assert await alice.recv("Bob", timeout=LIMIT) == "no deadline here"


async def test_deadlines_nest_and_are_of_their_pool() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with (
            bob.deadline(LIMIT),
            bob.deadline(UNIT),
            bob.deadline(LIMIT),
            alice.deadline(0),
            pytest.raises(CommunicationTimeoutError, match=f"deadline of {UNIT:g} s"),
        ):
            await bob.recv("Alice")
        with bob.deadline(LIMIT), pytest.raises(CommunicationTimeoutError, match=f"longer than {UNIT:g} s"):
            await bob.recv("Alice", timeout=UNIT)
    with pytest.raises(ValueError, match="deadline"):
        Pool().deadline(-1)


def test_blocking_deadlines() -> None:
    with duo() as (alice, bob):
        alice.send("Bob", 1)
        with bob.deadline(UNIT):
            assert bob.recv("Alice") == 1
            for call in (bob.recv, lambda name: bob.recv_all([name]), lambda name: bob.recv_any([name])):
                with pytest.raises(CommunicationTimeoutError, match="deadline"):
                    call("Alice")
            bob.add_http_client("nobody", LOCAL, 1)
            with pytest.raises(NotReadyError, match="deadline"):
                bob.wait_ready()


# -- some of the parties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FACES)
async def test_some_of_them_ready(kind: str) -> None:
    async with pools("Bob") as (bob,):
        alice = Pool(settings=quick()) if kind == "asyncio" else SyncPool(settings=quick())
        alice.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port)
        alice.add_http_client("nobody", LOCAL, 1)
        assert alice.parties == ("Bob", "nobody")
        bob.add_http_client("Alice", LOCAL, alice.port)

        async def ready(*arguments: Any) -> None:
            if isinstance(alice, Pool):
                await alice.wait_ready(*arguments)
            elif kind == "blocking":
                await asyncio.to_thread(alice.wait_ready, *arguments)
            else:
                await alice.pool.wait_ready(*arguments)

        await ready(LIMIT, ["Bob"])
        with pytest.raises(NotReadyError, match="nobody"):
            await ready(UNIT)
        with pytest.raises(mpccomm.UnknownPartyError):
            await ready(UNIT, ["Zoe"])
        with pytest.raises(TypeError, match="did you mean"):
            await ready(UNIT, "Bob")
        if isinstance(alice, Pool):
            await alice.shutdown(0)
        else:
            await asyncio.to_thread(alice.shutdown, 0)


async def test_the_shorter_of_two_does_not_stop_the_dialling_for_the_longer() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        port = bob.port
        await bob.shutdown()
        party = alice._engine.party("Bob")
        longer = asyncio.ensure_future(alice.wait_ready(LIMIT))
        await until(lambda: party.expected)
        with pytest.raises(NotReadyError):
            await alice.wait_ready(UNIT / 10)
        assert party.expected
        again = Pool(settings=quick())
        again.add_http_server(port, LOCAL)
        again.add_http_client("Alice", LOCAL, alice.port)
        await longer
        await again.shutdown()
        assert not party.expected
