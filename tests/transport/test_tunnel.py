"""Frames off a stream of bytes, cut anywhere; tunnels as a whole are tested through relays."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpccomm.transport.tunnel import _AT_ONCE, Deframer, Tunnel, closing_frame, frame, pong_frame
from mpccomm.transport.websocket import FramingError, head_of

FIN, CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASKED = 0x80


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def writelines(self, data: list[bytes]) -> None:
        self.writes += map(bytes, data)

    @property
    def transport(self) -> asyncio.WriteTransport:
        return cast(asyncio.WriteTransport, self)


def framed(*pieces: bytes, masked: int = 0) -> bytes:
    wire = Wire()
    frame(wire.transport, pieces, sum(map(len, pieces)), masked)
    return b"".join(wire.writes)


def by_hand(kind: int, payload: bytes, mask: bytes = b"") -> bytes:
    head = bytes((kind, len(payload) | (MASKED if mask else 0)))
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else head + payload


def taken(deframer: Deframer, data: bytes, cuts: list[int]) -> bytes:
    """What comes out where the bytes arrive in pieces."""
    found, before = b"", 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += fed(deframer, data[before:cut])
        before = cut
    return found


def fed(deframer: Deframer, data: bytes) -> bytes:
    """What comes out of that, in as many turns of the loop as it takes."""
    found = b"".join(map(bytes, deframer.feed(data)))
    while deframer.more:
        found += b"".join(map(bytes, deframer.feed(b"")))
    return found


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=8), st.booleans())
def test_what_was_framed_comes_out_wherever_it_is_cut(messages: list[bytes], cuts: list[int], masked: bool) -> None:
    data = b"".join(framed(message, masked=MASKED if masked else 0) for message in messages)
    assert taken(Deframer(masked=masked), data, cuts) == b"".join(messages)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 200), max_size=8))
def test_a_mask_goes_on_over_pieces(payload: bytes, mask: bytes, cuts: list[int]) -> None:
    assert taken(Deframer(masked=True), by_hand(FIN | BINARY, payload, mask), cuts) == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_messages_of_all_widths(size: int) -> None:
    message = bytes(range(256)) * (size // 256 + 1)
    assert taken(Deframer(masked=False), framed(message[:size]), [1, 3, 7]) == message[:size]


def test_a_large_message_is_not_copied() -> None:
    wire, large = Wire(), bytes(100_000)
    frame(wire.transport, (large, b"end"), len(large) + 3, 0)
    assert wire.writes[1:] == [large, b"end"]
    frame(wire.transport, (b"a", b"b"), 2, 0)
    assert len(wire.writes) == 4, "a small one is one write"


def test_messages_may_be_continued() -> None:
    data = by_hand(BINARY, b"one") + by_hand(CONTINUED, b"two") + by_hand(FIN | CONTINUED, b"three")
    assert taken(Deframer(masked=False), data, []) == b"onetwothree"


def test_a_ping_in_between_is_noted_and_its_answer_is_one() -> None:
    deframer = Deframer(masked=True)
    data = framed(b"one", masked=MASKED) + by_hand(FIN | PING, b"there?", b"mask") + framed(b"two", masked=MASKED)
    assert taken(deframer, data, [9]) == b"onetwo"
    assert deframer.ping == b"there?"
    assert pong_frame(b"there?", 0) == by_hand(FIN | PONG, b"there?")


def test_nothing_counts_after_the_close() -> None:
    deframer = Deframer(masked=False)
    assert taken(deframer, framed(b"one") + closing_frame(1000, 0) + framed(b"two") + b"nonsense", []) == b"one"
    assert deframer.closed
    assert deframer.feed(framed(b"three")) == []


@pytest.mark.parametrize(
    ("masked", "data"),
    [
        (True, framed(b"no mask")),
        (False, framed(b"mask", masked=MASKED)),
        (False, by_hand(FIN | 0x40 | BINARY, b"compressed")),
        (False, by_hand(FIN | TEXT, b"text")),
        (False, by_hand(FIN | 0x3, b"unknown")),
        (False, by_hand(PING, b"a ping in pieces")),
        (False, head_of(FIN | PING, 126, 0) + bytes(126)),
    ],
    ids=["unmasked", "masked", "compressed", "text", "unknown", "pieces", "long"],
)
def test_what_may_not_come_is_an_error(masked: bool, data: bytes) -> None:
    with pytest.raises(FramingError):
        Deframer(masked=masked).feed(data)


@pytest.mark.parametrize("idle", [framed(b""), by_hand(FIN | PONG, b"x")])
def test_frames_that_carry_nothing_are_counted(idle: bytes) -> None:
    deframer = Deframer(masked=False)
    for _ in range(3):
        fed(deframer, idle * 1000)
        fed(deframer, framed(b"something"))
    with pytest.raises(FramingError, match="1001 WebSocket frames in a row that carry nothing"):
        fed(deframer, idle * 1001)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_so_many_at_once_are_unpacked_and_the_rest_later(cut: int) -> None:
    deframer, count = Deframer(masked=False), 2000
    first = b"".join(map(bytes, deframer.feed(framed(b"x") * count + framed(b"in two parts")[:cut])))
    assert 0 < len(first) <= _AT_ONCE
    assert deframer.more
    # More may come before the rest is asked for.
    assert first + fed(deframer, framed(b"in two parts")[cut:]) == b"x" * count + b"in two parts"
    assert not deframer.more
    assert fed(deframer, framed(b"x") * count + by_hand(FIN | CLOSE, b"") + framed(b"ignored")) == b"x" * count
    assert deframer.closed
    assert not deframer.more


@pytest.mark.usefixtures("loop_factory")
async def test_a_relay_that_floods_a_tunnel_has_its_turn_and_others_theirs() -> None:
    """Nothing more is read until all is unpacked, nor while what is above takes nothing."""

    class Below(Wire):
        reading, aborted = True, False

        def is_closing(self) -> bool:
            return self.aborted

        def pause_reading(self) -> None:
            self.reading = False

        def resume_reading(self) -> None:
            self.reading = True

        def abort(self) -> None:
            self.aborted = True

        close = abort

    below, before = Below(), SimpleNamespace(connection_lost=lambda _: None)
    transport = cast(asyncio.Transport, below)
    tunnel = Tunnel(transport, before, ssl.create_default_context(), asyncio.Protocol, server_side=False)
    many = (by_hand(FIN | PONG, b"") * 900 + framed(b"")) + by_hand(FIN | PONG, b"")[:1]
    tunnel.data_received(many)
    assert not below.reading
    tunnel.pause_reading()
    for _ in range(3):
        await asyncio.sleep(0)
    assert tunnel._deframer.more
    assert not tunnel.is_reading()
    tunnel.resume_reading()
    assert tunnel.is_reading()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not tunnel._deframer.more
    assert below.reading
    # One frame more that carries nothing is one too many.
    tunnel.data_received(by_hand(FIN | PONG, b"")[1:] + by_hand(FIN | PONG, b"") * 200)
    assert below.aborted
    tunnel.connection_lost(None)
