"""WebSocket messages on a transport of our own: framing, other libraries at the other end, and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from mpccomm.protocol.states import CloseCode
from mpccomm.transport.stream import MAX_MESSAGE
from mpccomm.transport.websocket import (
    Upgraded,
    WebSocket,
    accept,
    asked_for,
    asking,
    granted,
    head_of,
    new_key,
    unmask,
)
from tests.certificates import LOCAL
from tests.pools import until

FIN, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"


def frame(first: int, payload: bytes = b"", mask: bytes | None = None) -> bytes:
    """As it is on the wire."""
    head = head_of(first, len(payload), 0 if mask is None else 0x80)
    return head + payload if mask is None else head[:-4] + mask + unmask(payload, mask)


def message(payload: bytes, mask: bytes | None = None) -> bytes:
    return frame(FIN | BINARY, payload, mask)


# -- masks and heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1000, 70001])
def test_a_mask(size: int) -> None:
    data = Random(size).randbytes(size)
    hidden = unmask(data, MASK)
    assert hidden == bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data))
    assert unmask(memoryview(hidden), MASK) == data
    assert unmask(data, bytes(4)) == data


def test_what_is_asked_and_granted() -> None:
    # The example of RFC 6455.
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    key = new_key()
    answer = asked_for(asking(key))
    assert answer is not None
    assert granted(answer, key)
    assert not granted(answer, new_key())
    for name in answer:
        assert not granted({**answer, name: "x"}, key)
    assert not granted({**answer, "Sec-WebSocket-Extensions": "permessage-deflate"}, key)
    for name, wrong in (
        ("Connection", "keep-alive"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "AAAA"),
        ("Sec-WebSocket-Key", "ä" * 24),
        ("Sec-WebSocket-Key", "!" * 24),
    ):
        assert asked_for({**asking(key), name: wrong}) is None
    assert asked_for({**asking(key), "Connection": "keep-alive, Upgrade"})


# -- framing -----------------------------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.ended: str | None = None
        self.protocol: asyncio.BaseProtocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (LOCAL, 1), "socket": None}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.ended is not None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert self.ended is None
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def get_write_buffer_size(self) -> int:
        # As one of asyncio's with TLS that was closed twice.
        assert self.ended is None, "asked of a transport that is gone"
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def _end(self, how: str) -> None:
        if self.ended is None:
            self.ended = how
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")


class Before:
    """The HTTP side."""

    lost = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost += 1


class Peer:
    """Notes what arrives, and sends what it is given."""

    def __init__(self, *batches: bytes) -> None:
        self.received: list[bytes] = []
        self.batches = list(batches)
        self.signs = 0
        self.deaf = 0

    def batch_received(self, batch: bytes | memoryview) -> None:
        self.received.append(bytes(batch))

    def heard(self) -> None:
        self.signs += 1

    def closed(self) -> None:
        self.deaf += 1

    @property
    def more(self) -> bool:
        return bool(self.batches)

    def batch_to_send(self, budget: int) -> bytes:
        return self.batches.pop(0) if self.batches else b""


class Bench:
    """A stream whose other end is the test."""

    def __init__(self, *, client: bool = True, peer: Peer | None = None) -> None:
        self.wire, self.before, self.peer = Wire(), Before(), peer or Peer()
        self.stream = WebSocket(self.wire, self.before, client=client)
        self.stream.take_over()
        self.running = asyncio.ensure_future(self.stream.run(self.peer))

    async def feed(self, data: bytes, cuts: Callable[[int], int] | None = None) -> None:
        await asyncio.sleep(0)
        while data:
            size = cuts(len(data)) if cuts else len(data)
            piece, data = data[:size], data[size:]
            if self.wire.ended is None:
                self.stream.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)

    async def end(self) -> None:
        self.wire.abort()
        await self.running
        assert self.before.lost == 1


ANYHOW = Random(1)
CUTS: dict[str, Callable[[int], int] | None] = {
    "at once": None,
    "by the byte": lambda left: 1,
    "anyhow": lambda left: ANYHOW.randint(1, 40000),
}
PAYLOADS = [b"x", b"y" * 125, b"z" * 126, b"a" * 65535, b"b" * 65536, os.urandom(20000), b"c"]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("mask", [None, bytes(4), MASK], ids=["bare", "zeros", "masked"])
async def test_messages_in_any_pieces(mask: bytes | None, cuts: str) -> None:
    bench = Bench(client=mask is None)
    payloads = PAYLOADS if cuts != "by the byte" else [payload[:20000] for payload in PAYLOADS]
    await bench.feed(b"".join(message(payload, mask) for payload in payloads), CUTS[cuts])
    assert bench.peer.received == payloads
    assert not bench.wire.written
    await bench.end()


SIZES = [0, 1, 2, 5, 6, 7, 8, 124, 125, 126, 127, 128, 129, 130, 131, 255, 256, 16383, 16384, 65535, 65536]


@pytest.mark.parametrize("mask", [None, bytes(4), MASK], ids=["bare", "zeros", "masked"])
async def test_messages_of_any_size_that_arrive_one_by_one(mask: bytes | None) -> None:
    bench = Bench(client=mask is None)
    payloads = [os.urandom(size) for size in SIZES]
    for payload in payloads:
        await bench.feed(message(payload, mask))
    assert bench.peer.received == payloads
    await bench.end()


async def test_no_head_is_taken_for_a_shorter_one() -> None:
    """By its size alone each of these would be a whole message: of 127 bytes and more the size stands elsewhere."""
    for size in (127, 128, 129, 254, 255):
        for before in (b"", message(b"x")):
            bench = Bench()
            await bench.feed(before)
            await bench.feed(before + bytes((0x82, size)) + bytes(size))
            assert not any(map(any, bench.peer.received[2 * bool(before) :]))
            await bench.end()


@pytest.mark.parametrize("mask", [None, bytes(4), MASK], ids=["bare", "zeros", "masked"])
async def test_two_messages_that_are_read_together(mask: bytes | None) -> None:
    bench = Bench(client=mask is None)
    await bench.feed(message(b"first", mask))
    sizes = [1, 25, 125, 126, 4096, 20000]
    pairs = [(os.urandom(one), os.urandom(other)) for one in sizes for other in sizes]
    for pair in pairs:
        await bench.feed(b"".join(message(payload, mask) for payload in pair))
    assert bench.peer.received == [b"first", *(payload for pair in pairs for payload in pair)]
    assert bench.stream._clear
    await bench.end()


async def test_what_the_first_of_two_messages_ends_does_not_get_the_second() -> None:
    class Ending(Peer):
        def batch_received(self, batch: bytes | memoryview) -> None:
            super().batch_received(batch)
            if batch == b"the end":
                bench.stream.abort()

    bench = Bench(peer=Ending())
    await bench.feed(message(b"a message"))
    await bench.feed(message(b"the end") + message(b"too late"))
    assert bench.peer.received == [b"a message", b"the end"]
    await bench.running


async def test_what_is_under_way_is_not_overtaken() -> None:
    bench = Bench()
    whole, late = message(b"whole"), message(b"late")
    await bench.feed(whole)
    await bench.feed(late[:3])
    await bench.feed(late[3:] + whole)
    await bench.feed(bytes((0x02, 1)) + b"a")
    await bench.feed(bytes((0x80, 1)) + b"b")
    await bench.feed(bytes((0x89, 0)))
    assert not bench.stream._clear, "useless frames are counted until a message comes"
    await bench.feed(whole)
    assert bench.peer.received == [b"whole", b"late", b"whole", b"ab", b"whole"]
    assert bench.stream._clear
    await bench.end()


@pytest.mark.parametrize("cuts", CUTS)
async def test_fragments_with_pings_between_them(cuts: str) -> None:
    bench = Bench(client=False)
    pieces = [frame(BINARY, b"one ", MASK), frame(0, b"", MASK), frame(0, b"two ", MASK), frame(FIN, b"three", MASK)]
    await bench.feed(frame(FIN | PING, b"42", MASK).join(pieces) + message(b"four", MASK), CUTS[cuts])
    assert bench.peer.received == [b"one two three", b"four"]
    # As many as were asked for, or only the last where they come together.
    pong = frame(FIN | PONG, b"42")
    assert bytes(bench.wire.written) in (pong, pong * 2, pong * 3)
    await bench.end()


async def test_every_byte_is_a_sign_of_life() -> None:
    bench = Bench()
    await bench.feed(message(b"x" * 100_000)[:-1], lambda left: 1000)
    assert bench.peer.signs >= 100
    assert not bench.peer.received
    await bench.feed(b"x")
    assert bench.peer.received == [b"x" * 100_000]
    await bench.end()


VIOLATIONS = {
    "a text message": frame(FIN | TEXT, b"secret", MASK),
    f"a message of more than {MAX_MESSAGE:,} bytes": head_of(FIN | BINARY, MAX_MESSAGE + 1, 0x80),
    "a WebSocket frame without a mask": message(b"secret"),
    "1001 WebSocket frames in a row that carry nothing": frame(FIN | PONG, b"", MASK) * 1001,
}
NO_FRAMES = {
    "a reserved bit": frame(FIN | 0x40 | BINARY, b"secret", MASK),
    "an unknown kind": frame(FIN | 3, b"secret", MASK),
    "an unknown kind of control": frame(FIN | 11, b"secret", MASK),
    "a ping in fragments": frame(PING, b"secret", MASK),
    "a long ping": frame(FIN | PING, b"s" * 126, MASK),
    "a continuation of nothing": frame(FIN, b"secret", MASK),
    "another message among fragments": frame(BINARY, b"secret", MASK) + message(b"secret", MASK),
    "a length of 2 ** 64 - 1": b"\x82\xff" + b"\xff" * 12,
    "a close of one byte": frame(FIN | CLOSE, b"s", MASK),
}
TOO_LONG = {
    "fragments": b"".join(frame(BINARY if not i else 0, bytes(MAX_MESSAGE // 4), MASK) for i in range(5)),
    "empty fragments": frame(BINARY, b"", MASK) + frame(0, b"", MASK) * 1001,
    "empty messages": frame(FIN | BINARY, b"", MASK) * 1001,
    "pings": frame(FIN | PING, b"", MASK) * 1001,
}


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("name", [*VIOLATIONS, *NO_FRAMES, *TOO_LONG])
async def test_what_is_no_batch_ends_it(name: str, cuts: str) -> None:
    data = {**VIOLATIONS, **NO_FRAMES, **TOO_LONG}[name]
    bench = Bench(client=False)
    await bench.feed(data + message(b"afterwards", MASK), CUTS[cuts] if len(data) < 20_000 else None)
    for _ in range(40):
        await asyncio.sleep(0)
    if name in VIOLATIONS:
        assert bench.stream.violation == name
    elif name in NO_FRAMES and not name.startswith("a length"):
        assert bench.stream.violation == "bytes that are no WebSocket frame"
    assert bench.stream.violation
    assert b"afterwards" not in b"".join(bench.peer.received)
    assert bytes(bench.wire.written).endswith(frame(FIN | CLOSE, int(CloseCode.VIOLATION).to_bytes(2, "big")))
    assert "secret" not in bench.stream.violation
    await bench.end()


async def test_a_masked_frame_from_a_server_ends_it() -> None:
    bench = Bench()
    await bench.feed(message(b"secret", MASK))
    assert bench.stream.violation == "a WebSocket frame with a mask"
    await bench.end()


async def test_noise_ends_it_and_nothing_worse() -> None:
    """Frames, some bytes of which were changed, in any pieces: a violation or a message, and never more than was sent."""
    random = Random(2)
    valid = b"".join(
        (message(b"x" * 200, MASK), frame(FIN | PING, b"p", MASK), frame(BINARY, b"f", MASK), frame(FIN, b"g", MASK))
    )
    outcomes = set()
    for _ in range(1500):
        bench = Bench(client=False)
        data = bytearray(valid * random.randint(1, 3))
        for _ in range(random.randint(0, 6)):
            data[random.randrange(len(data))] = random.choice(
                (0, 1, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF, random.randrange(256))
            )
        await bench.feed(bytes(data), lambda left: random.randint(1, 300))
        assert sum(map(len, bench.peer.received)) <= len(data)
        outcomes.add(bench.stream.violation)
        await bench.end()
    assert len(outcomes) >= 5


async def test_many_small_messages_leave_the_loop_to_others() -> None:
    bench = Bench()
    await asyncio.sleep(0)
    bench.stream.data_received(message(b"x") * 1000)
    assert len(bench.peer.received) < 200
    assert not bench.wire.reading
    await until(lambda: len(bench.peer.received) == 1000)
    assert bench.wire.reading
    await bench.end()


async def test_much_at_once_leaves_the_loop_to_others() -> None:
    bench = Bench()
    await asyncio.sleep(0)
    batches = [bytes([number]) * 10_000 for number in range(30)]
    bench.stream.data_received(b"".join(map(message, batches[:10])))
    assert bench.peer.received == batches[:10]
    assert not bench.wire.reading
    bench.stream.data_received(b"".join(map(message, batches[10:])))  # what was read before it was asked to stop
    assert bench.peer.received == batches[:10]
    await until(lambda: bench.peer.received == batches)
    await until(lambda: bench.wire.reading)
    await bench.end()


async def test_only_the_first_batch_before_somebody_takes_it() -> None:
    wire = Wire()
    stream = WebSocket(wire, Before(), client=True)
    stream.take_over()
    stream.data_received(message(b"one") + message(b"two") + message(b"three")[:3])
    assert await stream.first() == b"one"
    assert not wire.reading
    peer = Peer()
    running = asyncio.ensure_future(stream.run(peer))
    await asyncio.sleep(0)
    assert peer.received == [b"one", b"two"]
    stream.data_received(message(b"three")[3:])
    assert peer.received[2:] == [b"three"]
    wire.abort()
    await running
    assert await stream.first() is None


async def test_what_counts_may_end_it() -> None:
    wire = Wire()
    left = [10]

    def counts(size: int) -> bool:
        left[0] -= size
        return left[0] >= 0

    stream = WebSocket(wire, Before(), client=False, counts=counts)
    stream.take_over()
    stream.data_received(b"\x82\x90")
    assert wire.ended is None
    stream.data_received(bytes(9))
    assert wire.ended == "aborted"
    assert await stream.first() is None


async def test_nothing_is_sent_into_a_full_transport() -> None:
    bench = Bench(peer=Peer(b"one", b"two", b"three"))
    await asyncio.sleep(0)
    bench.stream.pause_writing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not bench.wire.written
    await bench.feed(frame(FIN | PING, b"1"))
    bench.stream.resume_writing()
    assert not bench.wire.written, "asyncio can't stand that from within"
    await until(lambda: not bench.peer.batches)
    assert bytes(bench.wire.written).startswith(frame(FIN | PONG, b"1", bytes(4)))
    assert bytes(bench.wire.written[7:]) == b"".join(message(said, bytes(4)) for said in (b"one", b"two", b"three"))
    await bench.end()


async def test_whoever_may_look_in_sees_a_mask() -> None:
    class Public(Wire):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return {"peername": ("192.0.2.1", 80)}.get(name)

    wire = Public()
    stream = WebSocket(wire, Before(), client=True)
    stream.take_over()
    running = asyncio.ensure_future(stream.run(Peer(b"one" * 100, b"two" * 30_000)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert b"one" not in wire.written
    at, found = 0, []
    for size, head in ((300, 4), (90_000, 10)):
        mask = bytes(wire.written[at + head : at + head + 4])
        assert mask != bytes(4)
        at += head + 4
        found.append(unmask(bytes(wire.written[at : at + size]), mask))
        at += size
    assert found == [b"one" * 100, b"two" * 30_000]
    wire.abort()
    await running


# -- how it ends -------------------------------------------------------------------------------------------------------


async def test_the_other_side_closes() -> None:
    for payload, code in ((b"\x0f\xa1why", 4001), (b"", 1005)):
        bench = Bench()
        await bench.feed(frame(FIN | CLOSE, payload) + message(b"late"))
        assert bench.stream.ended_with == code
        assert bytes(bench.wire.written) == frame(FIN | CLOSE, payload[:2], bytes(4))
        assert bench.wire.ended == "closed"
        assert bench.peer.deaf == 1
        assert not bench.stream.closing
        await bench.running
        assert not bench.peer.received


async def test_that_it_closes_is_known_before_what_was_sent_has_got_through(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.wire, "close", lambda: None)  # as on a slow line, with much under way
    await bench.feed(frame(FIN | CLOSE, b"\x0f\xa2"))
    assert bench.peer.deaf == 1
    assert not bench.running.done()
    bench.stream.abort()
    await bench.running


async def test_this_side_closes() -> None:
    bench = Bench(peer=Peer(b"last", b"words"))
    bench.stream.close(4002)
    bench.stream.close(4003)  # the first word counts
    await until(lambda: bench.wire.written.endswith(b"\x0f\xa2"))
    assert b"words" in bench.wire.written
    assert bench.wire.ended is None
    await bench.feed(message(b"late") + frame(FIN | CLOSE, b"\x0f\xa2"))
    assert bench.wire.ended == "closed"
    await bench.running
    assert bench.stream.closing
    assert not bench.peer.received


async def test_one_that_has_ended_moves_nothing() -> None:
    """Until its task has a turn, the clock of the pool may ask."""
    bench = Bench()
    await bench.feed(b"")
    assert bench.stream.moving(1.0) is None
    bench.wire.ended = "lost"
    bench.stream.connection_lost(None)
    assert bench.stream.moving(1.0) is None
    await bench.running


async def test_whoever_runs_it_is_told_what_breaks() -> None:
    class Broken(Peer):
        def batch_received(self, batch: bytes | memoryview) -> None:
            raise RuntimeError("cannot take it")

        def batch_to_send(self, budget: int) -> bytes:
            raise RuntimeError("cannot say it")

    bench = Bench(peer=Broken())
    with pytest.raises(RuntimeError, match="cannot say it"):
        await bench.running
    bench = Bench(peer=Broken())
    await asyncio.sleep(0)
    bench.stream.data_received(message(b"x"))
    with pytest.raises(RuntimeError, match="cannot take it"):
        await bench.running


async def test_whoever_cancels_ends_it_at_once() -> None:
    bench = Bench()
    await asyncio.sleep(0)
    bench.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.running
    assert bench.wire.ended == "aborted"
    await bench.stream.ended()


# -- large messages ----------------------------------------------------------------------------------------------------


class Reading(Bench):
    """Hands over what arrives as a transport does: by the call that its protocol wants, and nothing while it is paused."""

    async def feed(self, data: bytes, cuts: Callable[[int], int] | None = None) -> None:
        await asyncio.sleep(0)
        while data and self.wire.ended is None:
            if not self.wire.reading:
                await asyncio.sleep(0)
                continue
            size = cuts(len(data)) if cuts else len(data)
            protocol = self.wire.protocol
            if isinstance(protocol, asyncio.BufferedProtocol):
                memory = memoryview(protocol.get_buffer(-1))
                size = min(size, len(memory))
                assert size, "there is always room"
                memory[:size] = data[:size]
                protocol.buffer_updated(size)
            else:
                assert isinstance(protocol, asyncio.Protocol)
                protocol.data_received(data[:size])
            data = data[size:]
        for _ in range(3):
            await asyncio.sleep(0)

    @property
    def buffered(self) -> bool:
        return isinstance(self.wire.protocol, asyncio.BufferedProtocol)


@pytest.mark.parametrize("piece", [1000, 100_000, 262_144, 10**9])
@pytest.mark.parametrize("mask", [None, bytes(4), MASK], ids=["bare", "zeros", "masked"])
async def test_large_messages_are_read_into_one_memory(mask: bytes | None, piece: int) -> None:
    bench = Reading(client=mask is None)
    payloads = [os.urandom(size) for size in (5, 300_000, 262_168, 262_168, 7, 1_000_000, 262_168, 20_000, 126, 1)]
    await bench.feed(b"".join(message(payload, mask) for payload in payloads), lambda left: min(left, piece))
    assert bench.peer.received == payloads
    await bench.feed(message(b"small", mask))
    assert bench.peer.received[-1] == b"small"
    assert not bench.buffered
    await bench.end()


async def test_a_large_message_is_a_sign_of_life_from_its_first_bytes_on() -> None:
    bench = Reading()
    whole = message(bytes(200_000))
    for at in range(0, 200_000, 50_000):
        await bench.feed(whole[at : at + 50_000])
    assert bench.buffered
    assert bench.peer.signs == 4
    await bench.feed(whole[200_000:])
    assert [len(batch) for batch in bench.peer.received] == [200_000]
    await bench.end()


async def test_what_is_wrong_behind_a_large_message_ends_the_connection() -> None:
    bench = Reading()
    await bench.feed(message(bytes(100_000))[:50_000])
    await bench.feed(bytes(50_000) + bytes(20) + b"\xff" * 20)
    assert bench.stream.violation
    assert [len(batch) for batch in bench.peer.received] == [100_000]
    assert bench.wire.ended is None or bench.wire.ended == "closed"
    await bench.end()


async def test_what_comes_after_a_violation_is_read_and_passed_over() -> None:
    bench = Reading()
    await bench.feed(message(bytes(2**21)) + message(b"x") * 1000)
    assert "a message of more than" in bench.stream.violation
    assert not bench.peer.received
    assert bench.wire.reading, "the other side gets to read our close"
    await bench.end()


async def test_what_comes_after_a_violation_takes_no_memory() -> None:
    bench = Reading()
    await bench.feed(message(bytes(100_000))[:50_000])
    await bench.feed(bytes(50_000) + bytes(20) + b"\xff" * 20)
    intake = bench.wire.protocol
    assert isinstance(intake, asyncio.BufferedProtocol)
    size = len(memoryview(intake.get_buffer(-1)))
    await bench.feed(bytes(2**22))
    assert len(memoryview(intake.get_buffer(-1))) >= size
    assert len(memoryview(intake.get_buffer(-1))) <= 2**20
    await bench.end()


async def test_a_connection_that_ends_in_the_middle_of_a_large_message() -> None:
    bench = Reading()
    await bench.feed(message(bytes(100_000))[:50_000])
    assert bench.buffered
    await bench.end()
    assert not bench.peer.received


async def test_a_peer_that_breaks_in_a_large_message_is_told_of() -> None:
    class Broken(Peer):
        def batch_received(self, batch: bytes | memoryview) -> None:
            raise ZeroDivisionError

    bench = Reading(peer=Broken())
    whole = message(bytes(100_000))
    await bench.feed(whole[:50_000])
    await bench.feed(whole[50_000:])
    with pytest.raises(ZeroDivisionError):
        await bench.running


def test_what_came_with_the_upgrade_is_received_and_is_not_for_the_parser() -> None:
    received: list[bytes] = []

    class Protocol(Upgraded):
        def data_received(self, data: bytes) -> None:
            received.append(data)

    protocol = Protocol()
    assert protocol.feed_data(b"") == protocol.feed_data(b"early") == (False, b"")
    protocol.feed_eof()
    assert received == [b"early"]
