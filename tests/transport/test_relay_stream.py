"""The two ends of a call at a relay, one of which takes what was sent to it slowly, or ends."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from mpccomm.transport import relay_stream
from mpccomm.transport.relay_stream import JoinedEnd, Meter
from mpccomm.transport.tunnel import _AT_ONCE, Deframer, closing_frame, frame
from mpccomm.transport.websocket import MASKED
from tests.certificates import LOCAL
from tests.pools import until
from tests.timing import UNIT

SIZE = 4 << 20
"""Bytes; the relay and the systems between the two hold less."""
_IN_THE_SYSTEM = 1 << 17
"""Bytes that arrived for a party, and were not read, at most."""
pytestmark = pytest.mark.usefixtures("loop_factory")


class Before:
    """What was in charge of a connection."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Not needed any more."""


class Party:
    """The socket of a party, which reads only when it is told to."""

    def __init__(self, sock: socket.socket, end: JoinedEnd) -> None:
        self.sock = sock
        self.end = end
        self.deframer = Deframer(masked=False)
        self.got = 0

    async def send(self, payload: bytes) -> None:
        """Send a message."""
        await asyncio.get_running_loop().sock_sendall(self.sock, self.framed(payload))

    @staticmethod
    def framed(payload: bytes) -> bytes:
        """Return a message as it is sent."""
        written: list[bytes] = []
        writer: Any = type("Writer", (), {"write": written.append, "writelines": written.extend})
        frame(writer, (payload,), len(payload), MASKED)
        return b"".join(written)

    async def say_end(self) -> None:
        """Say that no more comes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, closing_frame(1000, MASKED))

    async def read(self) -> bool:
        """Take some of what is there. False: the connection has ended."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        except ConnectionResetError:
            return False
        self.got += sum(map(len, self.deframer.feed(data)))
        return bool(data)

    def is_reset(self) -> bool:
        """Return whether the relay has reset the connection, whatever was to be read on it."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return any(event & select.POLLERR for _, event in poller.poll(0))


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Party, Party]]:
    """Two parties that a relay has joined."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((LOCAL, 0)))
        parties = []
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
            sock.connect(listener.getsockname())
            sock.setblocking(False)
            accepted, _ = listener.accept()
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
            end = JoinedEnd(Meter(0, 1 << 30, lambda: None), transport, Before())
            end.take_over()
            parties.append(Party(sock, end))
        parties[0].end.join(parties[1].end)
        try:
            yield parties[0], parties[1]
        finally:
            for party in parties:
                party.end.abort()
                await party.end.ended


@pytest.fixture(autouse=True)
def quick_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_stream, "CLOSE_TIMEOUT", UNIT)


async def test_one_that_is_slow_gets_all_that_was_sent_before_the_other_said_that_it_ends() -> None:
    """That one is there until it has, as it learns from the relay, and what the slow one says meanwhile disturbs nothing."""
    async with joined() as (sender, receiver):
        sending = asyncio.ensure_future(sender.send(bytes(SIZE)))
        sending.add_done_callback(lambda _: asyncio.ensure_future(sender.say_end()))
        for turn in range(10):
            await receiver.send(bytes(turn))
            await receiver.read()
            await asyncio.sleep(UNIT / 2)  # the time limit of a connection that closes passes, more than once
        while not receiver.deframer.closed:
            # When the receiver's system has all, the relay waits no longer than a connection may take to close.
            assert not sender.end.ended.done() or receiver.got > SIZE - _IN_THE_SYSTEM
            with suppress(ConnectionError):  # the relay has gone
                await receiver.send(b"more")
            assert await receiver.read()
        assert receiver.got == SIZE
        assert sending.done()
        receiver.sock.close()
        while await sender.read():
            pass


async def test_one_that_is_slow_gets_what_was_sent_before_the_other_vanished() -> None:
    async with joined() as (sender, receiver):
        await sender.send(bytes(SIZE // 16))
        await until(lambda: sender.end._meter.moved > SIZE // 16)
        sender.sock.close()
        await sender.end.ended
        for _ in range(4):
            await receiver.send(b"nobody reads this")
            await asyncio.sleep(UNIT)  # as above
        while not receiver.deframer.closed:
            assert await receiver.read()
        assert receiver.got == SIZE // 16


async def test_one_that_has_said_that_it_ends_learns_at_once_that_the_other_has() -> None:
    """Whatever is still on its way to it."""
    async with joined() as (sender, receiver):
        sending = asyncio.ensure_future(sender.send(bytes(SIZE)))
        await until(lambda: bool(sender.end._held))
        await receiver.say_end()
        while not sender.deframer.closed:
            await sender.read()
        sending.cancel()
        assert not receiver.is_reset()
        sender.sock.close()
        await until(receiver.is_reset)


async def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_stream, "_SLOW_END", 5 * UNIT)
    async with joined() as (sender, receiver):
        await sender.send(bytes(SIZE // 16))
        await sender.say_end()
        await until(receiver.end.ended.done)
        while await sender.read():
            pass


async def test_small_frames_are_passed_on_a_few_at_a_time() -> None:
    """However many were read at once, others have their turn in between, and none is lost at the end of who sent them."""
    turns, over = 0, False

    async def count_turns() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    async with joined() as (sender, receiver):
        counting = asyncio.ensure_future(count_turns())
        small = Party.framed(b"x") * 10_000
        await asyncio.get_running_loop().sock_sendall(sender.sock, small)
        sender.sock.close()
        before = turns
        while not receiver.deframer.closed:
            assert await receiver.read()
        assert receiver.got == 10_000
        assert turns - before >= 10_000 // _AT_ONCE / 2
        assert sender.end._meter.moved == len(small)
        over = True
        await counting
