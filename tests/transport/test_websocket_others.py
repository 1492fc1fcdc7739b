"""WebSocket messages over real connections: other libraries at the other end, on both loops, plain and with TLS."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import WSMsgType, web

from mpccomm.settings import DEFAULTS
from mpccomm.sync.loop_thread import new_event_loop
from mpccomm.transport.client import Client
from mpccomm.transport.handshake import Caller
from mpccomm.transport.pace import unsent
from mpccomm.transport.reconnect import DialTerms
from mpccomm.transport.server import Server
from mpccomm.transport.stream import MAX_MESSAGE, Stream
from mpccomm.transport.websocket import WebSocket, accept
from tests.certificates import LOCAL, root
from tests.pools import pools, until
from tests.timing import UNIT
from tests.transport.test_server import hello, masked, upgrade
from tests.transport.test_websocket import Peer, message

BINARY = 2


# -- other libraries at the other end, on both loops, plain and with TLS -----------------------------------------------

LOOPS = {"asyncio": asyncio.new_event_loop, "private": new_event_loop}
"""The second one is uvloop where that is installed."""


def on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(200 * UNIT):
            await main()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(limited())


both_loops = pytest.mark.parametrize("loop", LOOPS)
plain_and_tls = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
SIZES = [1, 125, 126, 65535, 65536, 300_000, MAX_MESSAGE]


def contexts(tmp_path: Any, secure: bool) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For a server and for its clients."""
    if not secure:
        return None, None
    authority = root()
    identity = authority.issue("Server", LOCAL)
    (tmp_path / "key.pem").write_bytes(identity.key_bytes())
    (tmp_path / "cert.pem").write_bytes(identity.pem())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cadata=authority.pem().decode())
    return server, client


class Echo:
    """A server that accepts every caller, and sends back what it gets."""

    correspondents: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.answering = context
        self.streams: list[Stream] = []

    def called(self, name: str) -> bool:
        return True

    def parties_at(self, address: object) -> int:
        return 1

    async def expect(self, caller: Caller) -> None:
        pass

    async def correspondent(self, caller: Caller, port: int) -> Any:
        raise AssertionError

    async def identify(self, caller: Caller, port: int) -> Callable[[Stream], Awaitable[None]]:
        return self.run

    async def run(self, stream: Stream) -> None:
        self.streams.append(stream)
        await stream.run(Echoing(stream))

    def knows(self, fingerprint: str) -> bool:
        return False

    def refused(self, address: object, reason: str) -> None:
        raise AssertionError(reason)


class Echoing(Peer):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def batch_received(self, batch: bytes | memoryview) -> None:
        self.batches.append(bytes(batch))
        self.stream.wake()


async def serving(main: Callable[[int, Echo], Awaitable[None]], context: ssl.SSLContext | None) -> None:
    sock = socket.create_server((LOCAL, 0))
    sock.setblocking(False)
    echo = Echo(context)
    server = Server(sock, echo, DEFAULTS)
    port = sock.getsockname()[1]
    server.start()
    try:
        await main(port, echo)
    finally:
        await server.close()


@both_loops
@plain_and_tls
def test_with_the_client_of_aiohttp(loop: str, secure: bool, tmp_path: Any) -> None:
    server, client = contexts(tmp_path, secure)

    async def main(port: int, echo: Echo) -> None:
        url = f"{'https' if secure else 'http'}://{LOCAL}:{port}/mpccomm"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, ssl=client or True, max_msg_size=0) as socket,
        ):
            await socket.send_bytes(hello(1))
            assert await socket.receive_bytes() == hello(1)
            for size in SIZES:
                await socket.send_bytes(bytes(size))
                assert await socket.receive_bytes() == bytes(size)
            await socket.ping(b"there?")
            await socket.close(code=4007)
            assert socket.close_code == 4007
        await echo.streams[0].ended()
        assert echo.streams[0].ended_with == 4007
        assert (echo.streams[0].tls is not None) is secure

    on(loop, lambda: serving(main, server))


@both_loops
@plain_and_tls
def test_with_the_client_of_websockets(loop: str, secure: bool, tmp_path: Any) -> None:
    server, client = contexts(tmp_path, secure)

    async def main(port: int, echo: Echo) -> None:
        url = f"{'wss' if secure else 'ws'}://{LOCAL}:{port}/mpccomm"
        async with websockets.connect(url, ssl=client, compression=None, max_size=None, proxy=None) as socket:
            await socket.send(hello(1))
            assert await socket.recv() == hello(1)
            for size in SIZES:
                data = os.urandom(size)
                await socket.send(data)
                assert await socket.recv() == data
            await socket.send([b"in ", b"three ", b"pieces"])
            assert await socket.recv() == b"in three pieces"
            await (await socket.ping(b"there?"))
            # It closes from its side, and is answered.
            echo.streams[0].close(4008)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4008
        await echo.streams[0].ended()

    on(loop, lambda: serving(main, server))


async def dialled(port: int, context: ssl.SSLContext | None, main: Callable[[Stream], Awaitable[None]]) -> None:
    async def examine(tls: ssl.SSLObject | None) -> None:
        assert (tls is not None) is (context is not None)

    async with Client(LOCAL, port, DialTerms(50 * UNIT, lambda: context, examine)) as client:
        stream = await client.dial()
        try:
            await main(stream)
        finally:
            stream.abort()
            await stream.ended()


async def exchange(stream: Stream) -> None:
    peer = Peer(*(bytes((size % 251,)) * size for size in SIZES))
    expected = list(peer.batches)
    running = asyncio.ensure_future(stream.run(peer))
    await until(lambda: len(peer.received) == len(expected))
    assert peer.received == expected
    stream.close(4009)
    await running


@both_loops
@plain_and_tls
def test_with_the_server_of_aiohttp(loop: str, secure: bool, tmp_path: Any) -> None:
    server, client = contexts(tmp_path, secure)
    codes: list[int | None] = []

    async def answer(request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await socket.ping(b"there?")
        async for said in socket:
            assert said.type is WSMsgType.BINARY
            await socket.send_bytes(said.data)
        codes.append(socket.close_code)
        return socket

    async def main() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, LOCAL, 0, ssl_context=server).start()
        await dialled(runner.addresses[0][1], client, exchange)
        await runner.cleanup()
        assert codes == [4009]

    on(loop, main)


@both_loops
@plain_and_tls
def test_with_the_server_of_websockets(loop: str, secure: bool, tmp_path: Any) -> None:
    server, client = contexts(tmp_path, secure)
    codes: list[int | None] = []

    async def answer(connection: websockets.ServerConnection) -> None:
        try:
            async for said in connection:
                assert isinstance(said, bytes)
                middle = len(said) // 2
                await connection.send([said[:middle], said[middle:]])
        except websockets.ConnectionClosedError:
            codes.append(connection.close_code)

    async def main() -> None:
        async with websockets.serve(answer, LOCAL, 0, ssl=server, max_size=None) as serving:
            port = next(iter(serving.sockets)).getsockname()[1]
            await dialled(port, client, exchange)
        assert codes == [4009]

    on(loop, main)


@both_loops
def test_what_comes_in_the_same_segment_as_the_upgrade(loop: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        answer = accept(key.split(b": ")[1].decode()).encode()
        head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + answer
        writer.write(head + b"\r\n\r\n" + message(b"at once") + message(b"and more") + b"\x82")
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, LOCAL, 0)
        port = server.sockets[0].getsockname()[1]

        async def check(stream: Stream) -> None:
            peer = Peer()
            running = asyncio.ensure_future(stream.run(peer))
            await until(lambda: len(peer.received) == 2)
            assert peer.received == [b"at once", b"and more"]
            stream.abort()
            await running

        await dialled(port, None, check)
        server.close()

    on(loop, main)

    async def call(port: int, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection(LOCAL, port)
        writer.write(upgrade(Host=LOCAL) + masked(BINARY, hello(1)) + masked(BINARY, b"too"))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(message(hello(1)))) == message(hello(1))
        assert await reader.readexactly(5) == message(b"too")
        writer.close()
        await writer.wait_closed()

    on(loop, lambda: serving(call, None))


@both_loops
@plain_and_tls
def test_half_closed_and_reset_connections(loop: str, secure: bool, tmp_path: Any, caplog: Any) -> None:
    server, client = contexts(tmp_path, secure)

    async def main(port: int, echo: Echo) -> None:
        for how in ("eof", "close", "reset"):
            reader, writer = await asyncio.open_connection(LOCAL, port, ssl=client)
            writer.write(upgrade() + masked(BINARY, hello(1)))
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda: echo.streams)
            stream = echo.streams.pop()
            if how == "eof" and not secure:
                writer.write_eof()
            elif how == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.transport.abort()
            else:
                writer.close()
            await stream.ended()
            assert stream.ended_with is None
            stream.wake()
            stream.close(1000)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    on(loop, lambda: serving(main, server))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@both_loops
@plain_and_tls
def test_whoever_does_not_read_is_left_in_time(
    loop: str, secure: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpccomm.transport.stream.CLOSE_TIMEOUT", 2 * UNIT)
    server, client = contexts(tmp_path, secure)

    async def main(port: int, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection(LOCAL, port, ssl=client, limit=1024)
        writer.write(upgrade() + masked(BINARY, hello(1)))
        await reader.readuntil(b"\r\n\r\n")
        transport: Any = writer.transport
        transport.pause_reading()
        await until(lambda: echo.streams)
        stream: Any = echo.streams[0]
        batches = stream._peer.batches
        batches += [bytes(MAX_MESSAGE)] * 32
        stream.wake()
        await until(lambda: stream._full)
        assert len(batches) > 4
        start = asyncio.get_running_loop().time()
        stream.close(4000)
        await stream.ended()
        assert asyncio.get_running_loop().time() - start < 12 * UNIT
        writer.transport.abort()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    on(loop, lambda: serving(main, server))


class Endless(Peer):
    """Sends batches of one size until it is stopped."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.stopped = False
        self.sent = 0
        self._batch = bytes(size)

    @property
    def more(self) -> bool:
        return not self.stopped

    def batch_to_send(self, budget: int) -> bytes:
        if self.stopped:
            return b""
        self.sent += len(self._batch)
        return self._batch


class Before:
    """The HTTP side."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has nothing to do."""


def connected() -> tuple[socket.socket, socket.socket]:
    """Return two ends, the second of which has room for much before its system says that it has none."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        listening.bind((LOCAL, 0))
        listening.listen()
        here = socket.create_connection(listening.getsockname())
        there, _ = listening.accept()
    there.setblocking(False)
    return here, there


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much it has not sent")
@both_loops
@pytest.mark.parametrize("size", [100, 4000])
def test_the_system_is_not_given_all_that_it_takes(loop: str, size: int) -> None:
    """It adds to the packet that waits until that has 64 KiB, however little it was told to take: seconds of a slow line."""

    async def main() -> None:
        running_loop = asyncio.get_running_loop()
        here, there = connected()
        transport, _ = await running_loop.create_connection(asyncio.Protocol, sock=here)
        stream, peer = WebSocket(transport, Before(), client=True), Endless(size)
        stream.take_over()
        running = asyncio.ensure_future(stream.run(peer))
        with there:
            for _ in range(3):
                await until(lambda: stream._full)
                sent = peer.sent
                assert not transport.get_write_buffer_size(), "it is not the transport that has taken no more"
                assert not stream._stuck
                assert unsent(transport.get_extra_info("socket")) < 2 * stream.budget
                for _ in range(10):
                    await asyncio.sleep(0)
                assert peer.sent == sent
                while peer.sent == sent:
                    await running_loop.sock_recv(there, 64 * 1024)
            peer.stopped = True
            stream.abort()
            await running

    on(loop, main)


# -- with a pool on top ------------------------------------------------------------------------------------------------


def streams(pool: object, name: str) -> list[WebSocket]:
    return list(pool._engine.party(name).connections.streams)  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system can't be told")
async def test_little_waits_in_the_buffer_of_the_system() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await until(lambda: len(streams(alice, "Bob")) == len(streams(bob, "Alice")) == 1)
        for stream in streams(alice, "Bob") + streams(bob, "Alice"):
            sock: Any = stream.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == stream._pace._told
            # And no batch waits for another one to come.
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_was_to_be_sent_goes_out_before_the_end() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await until(lambda: len(streams(alice, "Bob")) == len(streams(bob, "Alice")) == 1)
        (stream,) = streams(alice, "Bob")
        alice.asend("Bob", bytes(1_000_000)).cancel()
        stream.close(1000)
        assert stream.closing
        assert len(await bob.recv("Alice")) == 1_000_000
        await asyncio.gather(*(pool.wait_ready() for pool in (alice, bob)))
