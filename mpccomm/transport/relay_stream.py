"""Two connections that a relay has joined: it passes bytes from one to the other, no faster than that one takes them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Protocol

from mpccomm.transport.pace import drop_at_close, hold_little, waiting
from mpccomm.transport.stream import CLOSE_TIMEOUT
from mpccomm.transport.tunnel import Deframer, closing_frame, frame, pong_frame
from mpccomm.transport.websocket import FramingError, HTTPProtocol, Upgraded

_HIGH = 128 * 1024
_LOW = 32 * 1024
"""Bytes that wait for a slow receiver before its sender is held back, and goes on. One more piece that was read may come on top."""
_SLOW_END = 60.0
"""Seconds that an end has at most to take what is on its way to it, once nothing more comes from the other one."""
_BURST = 0.25
"""Seconds for which a party may send faster than its rate."""
_FULL, _FAST, _BUSY = 1, 2, 4
"""Why nothing is read: the other end has enough; its party sent more than it may for the time; what was read is being unpacked."""


class Slow(Protocol):
    """A connection on which bytes wait."""

    def cut(self) -> None:
        """End it and the one that it is joined to."""


class Meter:
    """What the streams of one party, or all of a relay, have moved and keep waiting.

    :param rate: bytes a second; 0: without limit
    :param most: bytes that may wait; of more, the stream that has waited longest is cut
    :param cut: told of each
    :param whole: that of the relay, which has no rate, where this is one party's
    """

    def __init__(self, rate: int, most: int, cut: Callable[[], None], whole: Meter | None = None) -> None:
        self.moved = 0
        """The number of bytes that have arrived."""
        self.waiting = 0
        """The number of bytes that the other ends have not taken yet."""
        self._rate = rate
        self._most = most
        self._cut = cut
        self._whole = whole
        self._slow: dict[Slow, int] = {}
        self._debt = 0.0
        self._counted = time.monotonic()

    def move(self, size: int) -> float:
        """Count bytes that came in. Returns the seconds until more may come."""
        self.moved += size
        if self._whole is not None:
            self._whole.moved += size
        if not self._rate:
            return 0.0
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._counted) * self._rate) + size
        self._counted = now
        return max(0.0, self._debt / self._rate - _BURST)

    def hold(self, stream: Slow, size: int) -> None:
        """Note that ``size`` bytes wait on this stream."""
        self._slow[stream] = size
        self.waiting += size
        if self.waiting > self._most:
            self._cut()
            next(iter(self._slow)).cut()
        if self._whole is not None:
            self._whole.hold(stream, size)

    def release(self, stream: Slow) -> None:
        """Note that no bytes wait on this stream any more."""
        self.waiting -= self._slow.pop(stream, 0)
        if self._whole is not None:
            self._whole.release(stream)


class JoinedEnd(Upgraded):
    """One of the two connections.

    :param meter: that of the party at this end
    :param transport: what carries it; `take_over` makes it ours
    :param before: what was in charge of it, and is told of its end
    """

    def __init__(self, meter: Meter, transport: asyncio.Transport, before: HTTPProtocol) -> None:
        self._meter = meter
        self._transport = transport
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self._before = before
        self._other: JoinedEnd | None = None
        self._deframer = Deframer(masked=True)
        self._early: list[bytes] = []
        self._held = 0
        self._limit: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_over(self) -> None:
        """Read and write from now on."""
        transport = self._transport
        transport.set_write_buffer_limits(high=_HIGH, low=_LOW)
        hold_little(self._socket, _HIGH)
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)

    def join(self, other: JoinedEnd) -> None:
        """Pass on what comes, in both directions."""
        self._other, other._other = other, self
        for end in (self, other):
            early, end._early = end._early, []
            for data in early:
                end.data_received(data)
            end._go(_FULL)
            if end.ended.done():
                end._part()

    # -- what comes in -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Pass on bytes that have arrived."""
        other, deframer = self._other, self._deframer
        if other is None:
            self._early.append(data)
            self._stop(_FULL)
            return
        if delay := self._meter.move(len(data)):
            self._stop(_FAST)
            asyncio.get_running_loop().call_later(delay, self._go, _FAST)
        if deframer.closed:
            return
        try:
            pieces = deframer.feed(data)
        except FramingError:
            self.cut()
            return
        if pieces:
            size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
            if not other._transport.is_closing():
                frame(other._transport, pieces, size, 0)
        if deframer.ping is not None:
            ping, deframer.ping = deframer.ping, None
            # An end that sends pings without reading the answers gets no more of them.
            if not self._transport.is_closing() and self._transport.get_write_buffer_size() < _HIGH:
                self._transport.write(pong_frame(ping, 0))
        if deframer.closed:
            # It goes on reading, until the other end has got all: that one's end tells it so.
            self._part()
            self._end_if_both_have()
        elif deframer.more:
            self._stop(_BUSY)
            asyncio.get_running_loop().call_soon(self._go, _BUSY)

    def _stop(self, why: int) -> None:
        if not self._held and not self._transport.is_closing():
            self._transport.pause_reading()
        self._held |= why

    def _go(self, why: int) -> None:
        was, self._held = self._held, self._held & ~why
        if not was or self._held or self._transport.is_closing():
            return
        if self._deframer.more:
            # In this turn of the loop, which is its own.
            self.data_received(b"")
        self._read_on()

    def _read_on(self) -> None:
        if not self._held and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- what goes out -------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Hold back the other end, as the buffer of this one is full."""
        if self._other is not None:
            self._other._stop(_FULL)
        self._meter.hold(self, self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Send again: the buffer of this end has room."""
        self._meter.release(self)
        if self._other is not None:
            self._other._go(_FULL)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """End the other one, when it has got what was sent to it: nothing more comes from here."""
        if self._other is not None:
            self._other._finish()

    def _finish(self) -> None:
        """Say that nothing more comes, and leave it to this end to close."""
        if self.ended.done():
            return
        if self._limit is None:
            loop = asyncio.get_running_loop()
            self._limit = loop.call_later(CLOSE_TIMEOUT, self._expired, loop.time() + _SLOW_END)
            if not self._transport.is_closing():
                self._transport.write(closing_frame(1000, 0))
        self._end_if_both_have()

    def _end_if_both_have(self) -> None:
        if self._other is not None and not self._other.ended.done():
            return
        if self._deframer.closed:
            # It has only been waiting for the other one, and is to know before all that is on its way to it has arrived.
            drop_at_close(self._socket)
            self.abort()
        else:
            # What is not read would have the system throw away what it has not sent yet.
            self._go(_FULL)

    def _expired(self, last: float) -> None:
        """Give it more time if something is still on its way to it."""
        loop = asyncio.get_running_loop()
        if loop.time() < last and waiting(self._transport, self._socket):
            self._limit = loop.call_later(CLOSE_TIMEOUT, self._expired, last)
        else:
            self.abort()

    def cut(self) -> None:
        """End both at once."""
        # In a later turn of the loop: this may be called from within a write of the transport.
        loop = asyncio.get_running_loop()
        for end in (self, self._other):
            if end is not None:
                loop.call_soon(end.abort)

    def abort(self) -> None:
        """End this one at once."""
        self._transport.abort()

    def eof_received(self) -> None:
        """End both directions, as this end sends nothing more."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that this end has gone."""
        if self.ended.done():
            return
        while self._deframer.more:
            self.data_received(b"")
        self.ended.set_result(None)
        self._meter.release(self)
        if self._limit is not None:
            self._limit.cancel()
        self._before.connection_lost(exc)
        self._part()
