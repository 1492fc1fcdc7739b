"""Sending to and receiving from several parties through `Pool`, and the prefix that is for all of them."""

import asyncio

import pytest

from mpccomm import CommunicationTimeoutError, Pool
from tests.pools import LOCAL, pools, quick
from tests.timing import UNIT


async def test_broadcast_and_receive_from_all() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await alice.broadcast("to all")
        await alice.broadcast("to one", handler_names=["Carol"])
        await alice.async_broadcast(["later"], "id")
        for pool, name in ((bob, "Bob"), (carol, "Carol")):
            assert await pool.recv("Alice") == "to all"
            assert await pool.recv("Alice", "id") == ["later"]
            await pool.send("Alice", name)
        assert await carol.recv("Alice") == "to one"
        assert await alice.recv_all() == [("Bob", "Bob"), ("Carol", "Carol")]


async def test_receive_from_all_keeps_the_order_asked_for() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await bob.send("Alice", 1, "x")
        await carol.send("Alice", 2, "x")
        assert await alice.recv_all(["Carol", "Bob"], "x") == [("Carol", 2), ("Bob", 1)]
        assert await alice.recv_all([]) == []


async def test_receive_from_all_takes_all_or_none() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await bob.send("Alice", "kept")
        for timeout in (0, UNIT):
            with pytest.raises(CommunicationTimeoutError, match="Carol"):
                await alice.recv_all(timeout=timeout)
        cancelled = asyncio.ensure_future(alice.recv_all())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await carol.send("Alice", "came")
        await bob.send("Alice", "next")
        assert await alice.recv_all(timeout=0) == [("Bob", "kept"), ("Carol", "came")]
        assert await alice.recv("Bob", timeout=0) == "next"


async def test_arecv_from_all() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        await bob.send("Alice", "there")
        (first, message), (second, future) = alice.arecv_all()
        assert (first, message.result(), second) == ("Bob", "there", "Carol")
        await carol.send("Alice", "later")
        assert await future == "later"


async def test_a_single_string_is_no_list_of_names() -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        with pytest.raises(TypeError, match=r"did you mean \['Bob'\]"):
            await alice.broadcast(1, handler_names="Bob")
        with pytest.raises(TypeError, match="did you mean"):
            await alice.recv_all("Bob")


async def test_a_broadcast_tells_every_failure() -> None:
    alice = Pool(settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    alice.add_http_client("Carol", LOCAL, 2)
    with pytest.raises(CommunicationTimeoutError, match=r"sending #0 to Bob \(.+\), Carol \("):
        await alice.broadcast(1, timeout=UNIT)
    await alice.shutdown(0)


async def test_the_prefix_is_for_both_directions() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "before")
        for pool in (alice, bob):
            pool.update_msg_prefix("round 2/")
        await alice.send("Bob", "numbered")
        await alice.send("Bob", "named", "x")
        assert await bob.recv("Alice", "x") == "named"
        assert await bob.recv("Alice") == "numbered"
        bob.update_msg_prefix("")
        assert await bob.recv("Alice") == "before"
        await alice.send("Bob", "outside", "x")
        assert await bob.recv("Alice", "round 2/x") == "outside"


async def test_the_prefix_reaches_parties_added_later() -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.update_msg_prefix("p")
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    bob.update_msg_prefix("")
    await alice.send("Bob", 1, "x")
    assert await bob.recv("Alice", "px") == 1
    await asyncio.gather(alice.shutdown(), bob.shutdown())
