"""Spans of what is sent and received, as OpenTelemetry has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mpccomm import DecodingError, PartyShutDownError, Pool, PoolClosedError, Serialization, SyncPool
from mpccomm.engine.observer import TRACE_CONTEXT, fields_of
from tests.needs import library
from tests.pools import Log, pools, quick, until

library("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

from mpccomm.spans import instrument  # noqa: E402


class Telemetry:
    """A provider, and the spans that have ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is kind]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


async def exchange(alice: Pool, bob: Pool) -> Any:
    await alice.send("Bob", b"secret", "key")
    return await bob.recv("Alice", "key")


async def test_a_producer_and_a_consumer(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as both:
        for pool in both:
            instrument(pool, telemetry.provider)
        with telemetry.provider.get_tracer("program").start_as_current_span("step") as step:
            assert await exchange(*both) == b"secret"
    (sent,) = telemetry.spans(SpanKind.PRODUCER)
    (received,) = telemetry.spans(SpanKind.CONSUMER)
    assert (sent.name, received.name) == ("send Bob", "receive Alice")
    for span, operation in ((sent, "send"), (received, "receive")):
        assert span.attributes is not None
        assert span.attributes["messaging.system"] == "mpccomm"
        assert span.attributes["messaging.operation.name"] == operation
        assert span.attributes["messaging.message.id"] == "key"
        assert span.parent is not None
        assert span.parent.span_id == step.get_span_context().span_id
        assert "secret" not in str(span.attributes)
    # Nothing of the trace has left the process.
    assert not received.links


@pytest.mark.parametrize("other", [True, False])
async def test_to_instrument_a_pool_again_is_to_do_so_once(telemetry: Telemetry, other: bool) -> None:
    """So a cell of a notebook may run again; what is under way then has its span all the same."""
    latest = Telemetry() if other else telemetry
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(alice, telemetry.provider)
        instrument(bob, telemetry.provider)
        handle = alice.asend("Bob", 1)
        for pool in (alice, bob):
            instrument(pool, latest.provider, propagate=True)
        await handle
        assert [span.name for span in telemetry.spans(SpanKind.PRODUCER)] == ["send Bob"]
        assert await bob.recv("Alice") == 1
        await exchange(alice, bob)
    for kind in (SpanKind.PRODUCER, SpanKind.CONSUMER):
        assert sum(len(one.spans(kind)) for one in {telemetry, latest}) == 2
    received = latest.spans(SpanKind.CONSUMER)
    assert len(received) == 2
    assert [len(span.links) for span in received] == [0, 1]


async def test_a_processor_that_raises_costs_no_message_and_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise ZeroDivisionError

        def on_end(self, span: Any) -> None:
            raise ZeroDivisionError

    log, provider = Log(caplog), TracerProvider()
    provider.add_span_processor(Broken())
    async with pools("Alice", "Bob") as both:
        for pool in both:
            instrument(pool, provider)
        for _ in range(3):
            assert await exchange(*both) == b"secret"
        for pool, other in zip(both, ("Bob", "Alice"), strict=True):
            assert pool._engine.party(other).link.counters.connections == 1
    assert log.lines("what observes the pool raised")


async def test_the_context_travels_when_both_sides_say_so(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as both:
        for pool in both:
            instrument(pool, telemetry.provider, propagate=True)
        await exchange(*both)
    (sent,) = telemetry.spans(SpanKind.PRODUCER)
    (received,) = telemetry.spans(SpanKind.CONSUMER)
    (link,) = received.links
    assert sent.context is not None
    assert link.context.span_id == sent.context.span_id
    assert link.context.trace_id == sent.context.trace_id
    assert link.context.is_remote


@pytest.mark.parametrize(("here", "there"), [(True, False), (False, True), (False, False)])
async def test_otherwise_it_does_not(telemetry: Telemetry, here: bool, there: bool) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(alice, telemetry.provider, propagate=here)
        instrument(bob, telemetry.provider, propagate=there)
        await alice.send("Bob", 1, "key")
        message = bob._engine.parties["Alice"].link.mailbox.look("", "key")
        assert message is not None
        assert (TRACE_CONTEXT in fields_of(message.annotation)) is here
        await bob.recv("Alice", "key")
    assert not telemetry.spans(SpanKind.CONSUMER)[0].links


async def test_a_receive_begins_with_its_call_and_a_send_ends_with_its_delivery(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(bob, telemetry.provider)
        instrument(alice, telemetry.provider)
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", timeout=0.06)
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1
    (sent,) = telemetry.spans(SpanKind.PRODUCER)
    _, received = telemetry.spans(SpanKind.CONSUMER)
    assert sent.start_time is not None
    assert received.start_time is not None
    assert sent.end_time is not None
    assert sent.start_time < sent.end_time
    # The wait that came to nothing is no part of it: that was at least 0.06 s before.
    assert received.start_time > sent.start_time - 50_000_000


async def test_a_send_that_fails_says_why(telemetry: Telemetry) -> None:
    async with pools("Alice") as (alice,):
        alice.add_http_client("Bob", "127.0.0.1", 1)
        instrument(alice, telemetry.provider)
        with pytest.raises(TimeoutError):
            await alice.send("Bob", 1, timeout=0.01)
    (sent,) = telemetry.spans(SpanKind.PRODUCER)
    assert sent.status.status_code is StatusCode.ERROR
    assert sent.attributes is not None
    assert str(sent.attributes["error.type"]).endswith("TimeoutError")


def failures(telemetry: Telemetry) -> dict[str, tuple[str, str | None]]:
    """What the receives that failed were for, and why they failed."""
    found = {}
    for span in telemetry.spans(SpanKind.CONSUMER):
        assert span.attributes is not None
        if span.status.status_code is StatusCode.ERROR:
            assert span.status.description == span.attributes["error.type"]
            key = span.attributes.get("messaging.message.id")
            found[span.name] = str(span.attributes["error.type"]), None if key is None else str(key)
    return found


async def test_a_receive_that_fails_says_why_and_for_how_long_it_waited(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(bob, telemetry.provider)
        with (
            telemetry.provider.get_tracer("program").start_as_current_span("step") as step,
            pytest.raises(TimeoutError),
        ):
            await bob.recv("Alice", "model", timeout=0.05)
        assert failures(telemetry) == {"receive Alice": ("CommunicationTimeoutError", "model")}
        (missed,) = telemetry.spans(SpanKind.CONSUMER)
        assert missed.parent is not None
        assert missed.parent.span_id == step.get_span_context().span_id
        assert missed.start_time is not None
        assert missed.end_time is not None
        assert missed.end_time - missed.start_time >= 40_000_000
        # Who only looks has not missed anything.
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", timeout=0)
        assert len(telemetry.spans(SpanKind.CONSUMER)) == 1
        await alice.send("Bob", 1)
        assert await bob.recv("Alice") == 1


async def test_of_a_call_for_several_those_that_kept_it_waiting(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob", "Carol") as (alice, bob, _):
        instrument(alice, telemetry.provider)
        await bob.send("Alice", 1)
        with pytest.raises(TimeoutError):
            await alice.recv_all(timeout=0.05)
        assert failures(telemetry) == {"receive Carol": ("CommunicationTimeoutError", "#0")}
        assert await alice.recv("Bob") == 1
        with pytest.raises(TimeoutError):
            await alice.recv_any(timeout=0.05)
        assert failures(telemetry).keys() == {"receive Bob", "receive Carol"}


async def test_a_future_that_fails_and_a_wait_that_is_cancelled(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(bob, telemetry.provider)
        with telemetry.provider.get_tracer("program").start_as_current_span("step") as step:
            future = bob.arecv("Alice")
        call = asyncio.create_task(bob.recv("Alice"))
        await until(lambda: len(list(bob._engine.parties["Alice"].link.mailbox.receives())) == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert failures(telemetry) == {"receive Alice": ("CancelledError", "#1")}
        await alice.shutdown()
        with pytest.raises(PartyShutDownError):
            await future
        assert failures(telemetry) == {"receive Alice": ("PartyShutDownError", "#0")}
        missed = telemetry.spans(SpanKind.CONSUMER)[-1]
        assert missed.parent is not None
        assert missed.parent.span_id == step.get_span_context().span_id


@pytest.mark.parametrize("wait", [True, False])
async def test_a_message_that_can_not_be_read_has_a_span_too(telemetry: Telemetry, wait: bool) -> None:
    class Registered:
        def serialize(self, **_: Any) -> int:
            return 1

        @staticmethod
        def deserialize(obj: int, **_: Any) -> None:
            raise ValueError(obj)

    Serialization.register_class(Registered, check_annotations=False, overwrite=True)
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(bob, telemetry.provider)
        if wait:
            call = asyncio.create_task(bob.recv("Alice"))
            await until(lambda: bool(list(bob._engine.parties["Alice"].link.mailbox.receives())))
        await alice.send("Bob", Registered())
        with pytest.raises(DecodingError):
            await (call if wait else bob.recv("Alice"))
    assert failures(telemetry) == {"receive Alice": ("DecodingError", "#0")}


def test_receives_that_fail_on_the_blocking_face(telemetry: Telemetry) -> None:
    with SyncPool(name="Alice", settings=quick()) as alice:
        alice.add_http_client("Bob", "127.0.0.1", 1)
        instrument(alice, telemetry.provider)
        with pytest.raises(TimeoutError):
            alice.recv("Bob", "model", timeout=0.02)
        assert failures(telemetry) == {"receive Bob": ("CommunicationTimeoutError", "model")}
        handle = alice.arecv("Bob", "later")
    with pytest.raises(PoolClosedError):
        handle.result(5)
    assert failures(telemetry)["receive Bob"] == ("PoolClosedError", "later")


async def test_a_send_to_a_party_that_has_ended_has_a_span(telemetry: Telemetry) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        instrument(alice, telemetry.provider)
        await bob.shutdown()
        with pytest.raises(PartyShutDownError):
            await alice.send("Bob", 1)
    (span,) = telemetry.spans(SpanKind.PRODUCER)
    assert span.status.status_code is StatusCode.ERROR
    assert span.name == "send Bob"


def test_the_blocking_face(telemetry: Telemetry) -> None:
    alice, bob = (SyncPool(name=name, settings=quick()) for name in ("Alice", "Bob"))
    with alice, bob:
        for pool in (alice, bob):
            pool.add_http_server(0, "127.0.0.1")
        alice.add_http_client("Bob", "127.0.0.1", bob.port)
        bob.add_http_client("Alice", "127.0.0.1", alice.port)
        instrument(alice, telemetry.provider)
        instrument(bob, telemetry.provider)
        alice.broadcast(1)
        assert bob.recv("Alice") == 1
    assert [span.name for span in telemetry.spans(SpanKind.PRODUCER)] == ["send Bob"]
    assert [span.name for span in telemetry.spans(SpanKind.CONSUMER)] == ["receive Alice"]
