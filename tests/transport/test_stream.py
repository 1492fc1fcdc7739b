"""One WebSocket as a stream: what is no batch, what waits in the system's buffer, and how it ends."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType

from mpccomm.transport.stream import MAX_MESSAGE, Stream, violation_of
from tests.pools import pools, until


@pytest.mark.parametrize(
    ("kind", "data", "what"),
    [
        (WSMsgType.TEXT, b"hello", "a text message"),
        (
            WSMsgType.ERROR,
            aiohttp.WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "x"),
            f"a message of more than {MAX_MESSAGE} bytes",
        ),
        (
            WSMsgType.ERROR,
            aiohttp.WebSocketError(WSCloseCode.PROTOCOL_ERROR, "secret"),
            "bytes that are no WebSocket frame",
        ),
        (WSMsgType.ERROR, ConnectionResetError(104, "reset"), ""),
        (WSMsgType.ERROR, aiohttp.ClientConnectionError(), ""),
        (WSMsgType.CLOSE, 1000, ""),
        (WSMsgType.CLOSED, None, ""),
        (WSMsgType.BINARY, b"x", ""),
    ],
)
def test_what_is_no_batch(kind: WSMsgType, data: object, what: str) -> None:
    assert violation_of(kind, data) == what


def streams(pool: object, name: str) -> list[Stream]:
    return list(pool._engine.party(name).connections.streams)  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system can't be told")
async def test_little_waits_in_the_buffer_of_the_system() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        for stream in streams(alice, "Bob") + streams(bob, "Alice"):
            sock = stream._socket.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 * 1024
            # And no batch waits for another one to come.
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_was_to_be_sent_goes_out_before_the_end() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await until(lambda: len(streams(alice, "Bob")) == len(streams(bob, "Alice")) == 1)
        (stream,) = streams(alice, "Bob")
        alice.asend("Bob", bytes(1_000_000)).cancel()
        stream.close(1000)
        stream.close(4000)  # the first word counts
        assert stream.closing
        assert len(await bob.recv("Alice")) == 1_000_000
        await asyncio.gather(*(pool.wait_ready() for pool in (alice, bob)))
