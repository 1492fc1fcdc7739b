"""Sending and receiving through `Pool`."""

import asyncio
import gc
import time

import numpy as np
import pytest

from mpccomm import (
    CommunicationError,
    CommunicationTimeoutError,
    DecodingError,
    EncodingError,
    Limits,
    MessageTooLargeError,
    Pool,
    PoolClosedError,
    UnknownPartyError,
)
from mpccomm.engine.requests import ReceiveCall, Waiter
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT


async def test_a_message_arrives() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", {"x": [1, 2.5, "three"]})
        assert await bob.recv("Alice") == {"x": [1, 2.5, "three"]}


async def test_both_directions_at_once() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await asyncio.gather(*(alice.send("Bob", i) for i in range(50)), *(bob.send("Alice", -i) for i in range(50)))
        assert [await bob.recv("Alice") for _ in range(50)] == list(range(50))
        assert [await alice.recv("Bob") for _ in range(50)] == [-i for i in range(50)]


async def test_send_returns_when_the_message_is_held() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "here", "x")
        assert await bob.recv("Alice", "x", timeout=0) == "here"


async def test_none_is_a_message() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", None)
        await alice.send("Bob", None, "n")
        assert await bob.recv("Alice", timeout=0) is None
        assert bob.arecv("Alice", "n").result() is None
        with pytest.raises(CommunicationTimeoutError):
            await bob.recv("Alice", "n", timeout=0)


async def test_explicit_and_automatic_ids_are_apart() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "automatic 0")
        await alice.send("Bob", "explicit", "0")
        await alice.send("Bob", "automatic 1")
        await alice.send("Bob", "empty", "")
        assert await bob.recv("Alice", "0") == "explicit"
        assert await bob.recv("Alice") == "automatic 0"
        assert await bob.recv("Alice") == "automatic 1"
        assert await bob.recv("Alice", "") == "empty"


async def test_explicit_ids_can_be_asked_for_in_any_order() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for msg_id in "abc":
            await alice.send("Bob", msg_id * 2, msg_id)
        assert [await bob.recv("Alice", msg_id) for msg_id in "cab"] == ["cc", "aa", "bb"]


@pytest.mark.parametrize("receive_first", [False, True])
async def test_the_same_id_is_a_queue(receive_first: bool) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        if receive_first:
            received = [bob.arecv("Alice", "x") for _ in range(5)]
            for i in range(5):
                await alice.send("Bob", i, "x")
            assert await asyncio.gather(*received) == list(range(5))
        else:
            await asyncio.gather(*(alice.send("Bob", i, "x") for i in range(5)))
            assert [await bob.recv("Alice", "x") for _ in range(5)] == list(range(5))


async def test_a_large_and_a_small_message_of_one_id_keep_their_order() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        large = np.arange(500_000)
        sent = [alice.asend("Bob", large, "x"), alice.asend("Bob", "small", "x")]
        assert np.array_equal(await bob.recv("Alice", "x"), large)
        assert await bob.recv("Alice", "x") == "small"
        await asyncio.gather(*sent)


# -- handles -----------------------------------------------------------------------------------------------------------


async def test_asend_returns_at_once_and_its_handle_later() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        handle = alice.asend("Bob", "x")
        assert not handle.done()
        await handle
        assert await bob.recv("Alice", timeout=0) == "x"


async def test_asend_takes_a_snapshot() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        array, raw, nested = np.arange(100_000), bytearray(b"a" * 100_000), [[1], {"k": [2]}]
        handles = [alice.asend("Bob", value) for value in (array, raw, nested)]
        array[:] = -1
        raw[:] = b"b" * 100_000
        nested.append("late")
        assert np.array_equal(await bob.recv("Alice"), np.arange(100_000))
        assert await bob.recv("Alice") == b"a" * 100_000
        assert await bob.recv("Alice") == [[1], {"k": [2]}]
        await asyncio.gather(*handles)


async def test_arecv_is_always_a_future() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "first")
        assert bob.arecv("Alice").result() == "first"
        future = bob.arecv("Alice")
        assert not future.done()
        await alice.send("Bob", "second")
        assert await future == "second"


async def test_the_value_is_there_when_send_returns() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        future = bob.arecv("Alice")
        await alice.send("Bob", np.ones(300_000))
        assert future.done()
        assert future.result().sum() == 300_000


async def test_cancelling_a_handle_withdraws_nothing() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        alice.asend("Bob", "first").cancel()
        await alice.send("Bob", "second")
        assert [await bob.recv("Alice"), await bob.recv("Alice")] == ["first", "second"]


# -- receives that end without a message -------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, UNIT / 10])
async def test_a_receive_that_timed_out_leaves_no_trace(timeout: float) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for _ in range(3):
            why = f"took longer than {timeout:g} s" if timeout else "found no message"
            with pytest.raises(CommunicationTimeoutError, match=rf"receiving #0 from Alice \(127.0.0.1:\d+\) {why}"):
                await bob.recv("Alice", timeout=timeout)
            with pytest.raises(TimeoutError, match="'x'"):
                await bob.recv("Alice", "x", timeout=timeout)
        for i in range(3):
            await alice.send("Bob", i)
            await alice.send("Bob", -i, "x")
        assert [await bob.recv("Alice", timeout=0) for _ in range(3)] == [0, 1, 2]
        assert [await bob.recv("Alice", "x", timeout=0) for _ in range(3)] == [0, -1, -2]


async def test_a_cancelled_receive_leaves_no_trace() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = [asyncio.ensure_future(bob.recv("Alice")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        late = bob.arecv("Alice")  # takes the lowest number that nobody holds
        for i in range(3):
            await alice.send("Bob", i)
        assert [await late, *await asyncio.gather(*waiting[1:])] == [0, 1, 2]


async def test_whoever_cancels_may_ask_again_in_the_same_breath() -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        for cancelled in (bob.recv("Alice"), bob.recv("Alice", timeout=50 * UNIT), bob.recv_all()):
            task = asyncio.ensure_future(cancelled)
            await asyncio.sleep(0)
            task.cancel()
            asking = bob.arecv_all()
            await asyncio.gather(alice.send("Bob", "a"), carol.send("Bob", "c"))
            assert [(name, await future) for name, future in asking] == [("Alice", "a"), ("Carol", "c")]
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_nothing_is_left_for_the_collector() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                waiting = asyncio.ensure_future(bob.recv("Alice"))
                handle = bob.arecv("Alice", "x")
                await asyncio.gather(alice.send("Bob", number), alice.send("Bob", number, "x"))
                assert (await waiting, await handle) == (number, number)
                await alice.send("Bob", number, "here")
                assert bob.arecv("Alice", "here").result() == number
                if number == 3:
                    gc.collect()
            del waiting, handle
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [item for item in gc.garbage if type(item).__module__.startswith("mpccomm")]
            assert left == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


async def test_a_receive_cancelled_with_its_message_in_hand_gives_it_back() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = asyncio.ensure_future(bob.recv("Alice"))
        await asyncio.sleep(0)
        (receive,) = bob._engine.party("Alice").link.mailbox.receives()
        assert isinstance(receive, ReceiveCall)
        told: Waiter = receive.waiter  # type: ignore[assignment]

        class HandOverAndCancel:
            def resolve(self, value: object, error: Exception | None) -> None:
                told.resolve(value, error)
                waiting.cancel()  # before the task could run and take it

        receive.waiter = HandOverAndCancel()
        await alice.send("Bob", "kept")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await bob.recv("Alice", timeout=0) == "kept"


async def test_a_cancelled_future_of_arecv_leaves_the_message() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        # In the same breath: nobody has to wait for a turn of the loop before the number is free again.
        bob.arecv("Alice").cancel()
        second = bob.arecv("Alice")
        third = bob.arecv("Alice")
        for i in range(2):
            await alice.send("Bob", i)
        assert [await second, await third] == [0, 1]
        await alice.send("Bob", 2)
        assert bob.arecv("Alice").result() == 2


async def test_numbering_survives_any_mix_of_endings() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for round_ in range(30):
            with pytest.raises(CommunicationTimeoutError):
                await bob.recv("Alice", timeout=0)
            cancelled = asyncio.ensure_future(bob.recv("Alice"))
            await asyncio.sleep(0)
            if round_ % 2:
                cancelled.cancel()
                await asyncio.wait([cancelled])
                await alice.send("Bob", round_)
                assert await bob.recv("Alice", timeout=0) == round_
            else:
                await alice.send("Bob", round_)
                assert await cancelled == round_


@pytest.mark.parametrize("timeout", [-1, float("nan")])
async def test_impossible_time_limits_of_a_receive(timeout: float) -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        with pytest.raises(ValueError, match="a receive can't take"):
            await alice.recv("Bob", timeout=timeout)


# -- sends that end without an acknowledgement ---------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_impossible_time_limits_of_a_send(timeout: float) -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        with pytest.raises(ValueError, match="a send can't take"):
            await alice.send("Bob", 1, timeout=timeout)


async def late_pair() -> tuple[Pool, Pool]:
    """Alice is there; Bob is added to her, and has a port, and does not answer before he is used."""
    alice, bob = Pool(settings=quick()), await asyncio.to_thread(Pool, settings=quick())
    alice.add_http_server(0, LOCAL)
    await asyncio.to_thread(bob.add_http_server, 0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    await asyncio.to_thread(bob.add_http_client, "Alice", LOCAL, alice.port)
    return alice, bob


async def test_a_send_that_timed_out_or_was_cancelled_withdraws_nothing() -> None:
    alice, bob = await late_pair()
    array = np.arange(10)
    with pytest.raises(CommunicationTimeoutError, match=r"sending #0 to Bob .* the message may still arrive"):
        await alice.send("Bob", array, timeout=UNIT)
    array[:] = -1  # ours again
    cancelled = asyncio.ensure_future(alice.send("Bob", array))
    await asyncio.sleep(UNIT / 10)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    array[:] = -2
    handle = alice.asend("Bob", "third", timeout=UNIT)
    with pytest.raises(TimeoutError, match="may still arrive"):
        await handle
    assert np.array_equal(await bob.recv("Alice"), np.arange(10))
    assert np.array_equal(await bob.recv("Alice"), -np.ones(10))
    assert await bob.recv("Alice") == "third"
    await alice.send("Bob", "fourth")
    assert await bob.recv("Alice") == "fourth"
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_the_pools_own_time_limit_is_for_sends_only() -> None:
    alice = Pool(timeout=UNIT, settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    with pytest.raises(CommunicationTimeoutError):
        await alice.send("Bob", 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * UNIT):
            await alice.recv("Bob")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * UNIT):
            await alice.send("Bob", 1, timeout=None)
    await alice.shutdown(0)


async def test_max_retries() -> None:
    alice = Pool(max_retries=2, settings=quick())
    alice.add_http_client("Bob", LOCAL, 1)
    with pytest.raises(
        CommunicationError, match=r"Bob \(127.0.0.1:1\).*refused.*in 3 attempts; the message may still arrive"
    ) as caught:
        await alice.send("Bob", 1)
    assert isinstance(caught.value, ConnectionError)
    await alice.shutdown(0)


async def test_unreachable_timeout() -> None:
    alice = Pool(settings=quick(unreachable_timeout=3 * UNIT))
    alice.add_http_client("Bob", LOCAL, 1)
    results = await asyncio.gather(alice.send("Bob", 1), alice.recv("Bob"), return_exceptions=True)
    for result in results:
        assert isinstance(result, ConnectionError)
        assert "can't be reached" in str(result)
        assert "refused" in str(result)
    await alice.shutdown(0)


async def test_an_encoding_error_consumes_no_number() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with pytest.raises(EncodingError):
            await alice.send("Bob", object())
        with pytest.raises(EncodingError):
            alice.asend("Bob", [lambda: None])
        await alice.send("Bob", "first")
        assert await bob.recv("Alice", timeout=0) == "first"


async def test_a_message_beyond_the_limit_of_the_other_side() -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick(Limits(max_message_size=1000)))
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    await asyncio.gather(alice.wait_ready(), bob.wait_ready())
    with pytest.raises(MessageTooLargeError, match=r"Bob .*at most 1,000"):
        await alice.send("Bob", bytes(2000))
    await alice.send("Bob", bytes(500))
    assert await bob.recv("Alice") == bytes(500)
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_a_party_that_takes_only_small_messages_keeps_none_from_the_others() -> None:
    names = ("Alice", "Bob", "Carol")
    made = [Pool(settings=quick(Limits(max_message_size=10) if name == "Bob" else None)) for name in names]
    for pool in made:
        pool.add_http_server(0, LOCAL)
    for pool in made:
        for name, other in zip(names, made, strict=True):
            if other is not pool:
                pool.add_http_client(name, LOCAL, other.port)
    await asyncio.gather(*(pool.wait_ready() for pool in made))
    alice, bob, carol = made
    with pytest.raises(MessageTooLargeError, match="Bob"):
        await alice.broadcast(bytes(2000))
    assert await carol.recv("Alice") == bytes(2000)
    with pytest.raises(DecodingError):
        await bob.recv("Alice")
    await alice.broadcast("small")
    assert [await pool.recv("Alice") for pool in (bob, carol)] == ["small", "small"]
    await asyncio.gather(*(pool.shutdown() for pool in made))


# -- wrong calls -------------------------------------------------------------------------------------------------------


async def test_unknown_party() -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        for call in (
            alice.send("Eve", 1),
            alice.recv("Eve"),
            alice.recv_all(["Bob", "Eve"]),
            alice.broadcast(1, handler_names=["Eve"]),
        ):
            with pytest.raises(UnknownPartyError, match=r"no party 'Eve' .*there are: 'Bob'.*add_http_client"):
                await call
        for function in (alice.arecv, alice.accept_restart):
            with pytest.raises(UnknownPartyError, match="Eve"):
                function("Eve")
        with pytest.raises(KeyError):
            alice.asend("Eve", 1)
        with pytest.raises(AttributeError):
            alice.async_broadcast(1, handler_names=["Eve"])


async def test_a_pool_that_was_shut_down() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        await alice.shutdown()
        await alice.shutdown()
        for call in (alice.send("Bob", 1), alice.recv("Bob"), alice.wait_ready(), alice.recv_all(), alice.broadcast(1)):
            with pytest.raises(PoolClosedError, match="shut down"):
                await call
        for function in (alice.asend, alice.add_http_client):
            with pytest.raises(RuntimeError, match="shut down"):
                function("Bob", "x")
        with pytest.raises(PoolClosedError):
            alice.arecv("Bob")
        with pytest.raises(PoolClosedError):
            alice.add_http_server(0, LOCAL)
        with pytest.raises(PoolClosedError):
            async with alice:
                pass


async def test_an_undecodable_message_raises_at_its_receive_and_nowhere_else() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        from mpccomm.codec import Encoded
        from mpccomm.codec.wire_format import OURS, WireFormat

        party = alice._engine.party("Bob")
        party.wire_format = WireFormat(
            "garbage", lambda *args, **kwargs: Encoded((b"\xc1garbage",), False), OURS.decode
        )
        await alice.send("Bob", "never encoded")
        party.wire_format = OURS
        await alice.send("Bob", "next")
        with pytest.raises(DecodingError) as caught:
            await bob.recv("Alice")
        assert str(caught.value).startswith(f"#0 from Alice (127.0.0.1:{alice.port}): the message ")
        assert not hasattr(caught.value, "__notes__")
        assert await bob.recv("Alice") == "next"


# -- figures -----------------------------------------------------------------------------------------------------------


async def test_stats() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for _ in range(10):
            await alice.send("Bob", bytes(1000))
        for _ in range(10):
            await bob.recv("Alice")
        await until(lambda: alice.stats["Bob"].round_trip)
        sent, received = alice.stats["Bob"], bob.stats["Alice"]
        assert (sent.messages_sent, sent.messages_received) == (10, 0)
        assert (received.messages_sent, received.messages_received) == (0, 10)
        assert sent.bytes_sent == received.bytes_received
        assert 10_000 <= sent.bytes_sent <= 10_200
        assert (sent.retries, sent.reconnects, sent.connected) == (0, 0, True)
        assert sent.round_trip is not None
        assert 0 < sent.round_trip < 5 * UNIT


async def test_a_small_message_overtakes_a_large_one(caplog: pytest.LogCaptureFixture) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        large = np.zeros(256 * 1024 * 1024 // 8)
        start = time.monotonic()
        first, second = bob.arecv("Alice", "large"), bob.arecv("Alice", "small")
        sending = asyncio.ensure_future(alice.send("Bob", large, "large"))
        box = alice._engine.party("Bob").link.sender
        await until(lambda: any(message.sent > 50_000_000 for message in box.pending()))
        handle = alice.asend("Bob", bytes(100), "small")
        assert await second == bytes(100)
        overtook = time.monotonic() - start
        assert not first.done()
        await handle
        assert not sending.done()
        assert (await first).shape == large.shape
        await sending
        assert overtook < 0.7 * (time.monotonic() - start)
    assert not Log(caplog).lines("no sign of life")


@pytest.mark.parametrize("msg_id", ["\ud800", "x" * 2000])
async def test_an_id_that_cannot_be_sent(msg_id: str) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with pytest.raises(ValueError, match="message id"):
            await alice.send("Bob", 1, msg_id)
        with pytest.raises(ValueError, match="message id"):
            await bob.recv("Alice", msg_id)
        await alice.send("Bob", "goes on")
        assert await bob.recv("Alice") == "goes on"


def test_entered_without_async_it_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"async with.*SyncPool"), Pool():
        pass
