"""How much others may say to aiohttp, by bytes and by pings."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mpccomm.transport import bounded
from mpccomm.transport.bounded import Allowance, EndlessAnswerError, _BoundedAnswer, bound


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("mpccomm.transport.bounded.time.monotonic", lambda: clock.now)
    return clock


def test_an_allowance(clock: SimpleNamespace) -> None:
    allowance = Allowance(3, 2)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.now = 0.6
    assert [allowance.take() for _ in range(2)] == [True, False]
    clock.now = 1000.0
    assert [allowance.take(2) for _ in range(2)] == [True, False]
    assert [allowance.take() for _ in range(2)] == [True, False]


class Ends:
    """A transport, and aiohttp's protocol behind it."""

    def __init__(self) -> None:
        self.upgraded = False
        self.told: list[object] = []
        self.protocol: asyncio.Protocol

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.told.append("aborted")

    def data_received(self, data: bytes) -> None:
        self.told.append(len(data))

    def set_exception(self, error: BaseException) -> None:
        self.told.append(type(error))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append(name)


def test_what_is_said_before_an_answer_is_over_is_bounded(clock: SimpleNamespace) -> None:
    ends = Ends()
    _BoundedAnswer(cast(Any, ends), cast(Any, ends))
    for size in (1, bounded._MOST_ANSWERED - 1, 1):
        ends.protocol.data_received(bytes(size))
    assert ends.told == [1, bounded._MOST_ANSWERED - 1, EndlessAnswerError, "aborted"]


def frame(size: int, *, masked: bool = False, kind: int = 0x81) -> bytes:
    width = 0 if size < 126 else 2 if size < 1 << 16 else 8
    heads = bytes([{0: size, 2: 126, 8: 127}[width]]) + size.to_bytes(8, "big")[8 - width :]
    head = bytes([kind, heads[0] | 0x80 * masked]) + heads[1:]
    return head + bytes(4 * masked) + b"\x81" * size


def kept(client: bool) -> Ends:
    """What is left of a connection when it is upgraded."""
    ends = Ends()
    if client:
        _BoundedAnswer(cast(Any, ends), cast(Any, ends))
        ends.protocol.data_received(b"HTTP/1.1 101 Switching\r\n\r\n" + frame(7)[:4])
        ends.upgraded = True
        ends.protocol.data_received(frame(7)[4:])
    else:
        bound(cast(Any, ends), cast(Any, ends))
        ends.protocol.data_received(frame(7, masked=True))
    assert "aborted" not in ends.told
    return ends


@pytest.mark.parametrize("client", [False, True])
def test_bytes_on_a_kept_connection_are_bounded(client: bool, clock: SimpleNamespace) -> None:
    ends = kept(client)
    large = frame(bounded._KEPT - 100)
    ends.protocol.data_received(large)
    ends.protocol.data_received(frame(100))
    assert ends.told[-2:] == [len(large), "aborted"]


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 300])
def test_frames_on_a_kept_connection_are_bounded(client: bool, size: int, clock: SimpleNamespace) -> None:
    """However they arrive."""
    ends, random, one = kept(client), Random(size), frame(size, masked=not client)
    stream = one * bounded._FRAMES
    while stream:
        piece, stream = stream[: (cut := random.randrange(1, 4000))], stream[cut:]
        clock.now += len(piece) / bounded._KEPT_PER_SECOND  # as many bytes may come
        ends.protocol.data_received(piece)
        if "aborted" in ends.told:
            break
    passed = sum(size for size in ends.told if isinstance(size, int)) / len(one)
    allowed = bounded._FRAMES + bounded._FRAMES_PER_SECOND * clock.now
    assert passed == pytest.approx(min(allowed, bounded._FRAMES), abs=4000 / len(one) + 20)


def test_a_large_frame_counts_as_one(clock: SimpleNamespace) -> None:
    ends = kept(client=True)
    found = list(ends.protocol._frames.begun(frame(1 << 16) + frame(1 << 15) + frame(0)))  # type: ignore[attr-defined]
    assert len(found) == 3


def test_one_that_is_upgraded_after_other_answers_is_ended() -> None:
    """Where its frames begin can't be told then."""
    ends = Ends()
    _BoundedAnswer(cast(Any, ends), cast(Any, ends))
    ends.protocol.data_received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n")
    ends.upgraded = True
    ends.protocol.data_received(frame(7))
    assert ends.told[1:] == ["aborted"]


def test_all_else_is_passed_on() -> None:
    ends = Ends()
    bound(cast(Any, ends), cast(Any, ends))
    for call in ("pause_writing", "resume_writing", "eof_received"):
        getattr(ends.protocol, call)()
    ends.protocol.connection_lost(None)
    assert ends.told == ["pause_writing", "resume_writing", "eof_received", "connection_lost"]
    bound(None, cast(Any, ends))
