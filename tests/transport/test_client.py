"""Why a dial failed, in words; and how often one is made."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from mpccomm import Pool, Retry, Settings
from mpccomm.transport.client import describe
from tests.pools import LOCAL, quick, until
from tests.timing import UNIT

KEY = ConnectionKey("bob", 1, False, True, None, None, None)
REFUSED = aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 1)"))
SEVERAL = aiohttp.ClientConnectorError(
    KEY,
    OSError(
        f"Multiple exceptions: [Errno {errno.ENETUNREACH}] Connect call failed ('2001:db8::1', 1), "
        f"[Errno {errno.ECONNREFUSED}] Connect call failed ('10.0.0.1', 1)"
    ),
)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """A server that is no pool and gives every request that answer: its port, and the heads of all requests."""
    heard = bytearray()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(server)
            with connection, suppress(ConnectionError):
                request = bytearray()
                while b"\r\n\r\n" not in request and (data := await loop.sock_recv(connection, 1 << 16)):
                    request += data
                heard.extend(request.partition(b"\r\n\r\n")[0])
                await loop.sock_sendall(connection, answer)

    # One task of our own, and no `asyncio.start_server`: its tasks for connections that were just made can't be awaited.
    with socket.create_server((LOCAL, 0)) as server:
        server.setblocking(False)
        serving = asyncio.ensure_future(serve())
        try:
            yield server.getsockname()[1], heard
        finally:
            serving.cancel()
            await asyncio.wait([serving])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 1)")),
            "connection refused",
        ),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "x")), "no route to host"),
        (SEVERAL, "network is unreachable or connection refused"),
        (aiohttp.ClientConnectorError(KEY, ConnectionAbortedError("handshake")), "it hung up before it answered"),
        (
            aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name or service not known")),
            "its host name can't be resolved",
        ),
        (TimeoutError(), "no answer in time"),
        (aiohttp.ServerTimeoutError(), "no answer in time"),
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), "it hung up before it answered"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "x"), "connection reset by peer"),
        (ValueError("port 99999"), "ValueError: port 99999"),
    ],
)
def test_in_words(error: Exception, words: str) -> None:
    assert describe(error) == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "it does not recognise us"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "something else answers there (HTTP status 404)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "something else answers there (HTTP status 200)"),
        (
            b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
            "a proxy answers there, and does not reach what is behind it",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "something else answers there (not HTTP)"),
        (b"", "it hung up before it answered"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "(HTTP status 301)"),
        (b"HTTP/1.1 307 Moved\r\nLocation: http://localhost:1/\r\n\r\nwith a body", "(HTTP status 307)"),
    ],
)
async def test_something_else_answers(answer: bytes, words: str) -> None:
    async with answering(answer) as (port, _), Pool(settings=quick()) as alice:
        alice.add_http_client("Other", LOCAL, port)
        handle = alice.asend("Other", 1)
        party = alice._engine.party("Other")
        await until(lambda: party.failed_dials > 1)
        assert words in party.trouble
        assert "SSH" not in party.trouble
        await alice.shutdown(0)
        assert handle.exception() is not None


@pytest.mark.parametrize("wire", ["mpccomm", "tno4", "tno5"])
@pytest.mark.parametrize("what", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_an_answer_without_end_is_cut_off(what: bytes, wire: str) -> None:
    async with answering(what * 8000) as (port, _), Pool(settings=quick()) as alice:
        alice.add_http_server(0, LOCAL)
        alice.add_http_client("Other", LOCAL, port, wire=wire)
        handle = alice.asend("Other", 1)
        party = alice._engine.party("Other")
        await until(lambda: party.failed_dials > 1)
        assert party.trouble == "something else answers there (its answer has no end)"
        await alice.shutdown(0)
        assert handle.exception() is not None


async def test_dials_become_rare() -> None:
    with socket.socket() as nobody:
        nobody.bind((LOCAL, 0))
        settings = Settings(retry=Retry(first=UNIT / 10, cap=2 * UNIT), linger=0)
        alice = Pool(settings=settings)
        alice.add_http_client("Bob", LOCAL, nobody.getsockname()[1])
        handle = alice.asend("Bob", 1)
        party = alice._engine.party("Bob")
        await asyncio.sleep(20 * UNIT)
        # The first eight or so come quickly; later ones with a pause of one unit on average.
        assert 8 <= party.failed_dials < 60
        await alice.shutdown()
        assert handle.exception() is not None


async def test_settings_of_the_environment_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    await asyncio.gather(alice.wait_ready(50 * UNIT), bob.wait_ready(50 * UNIT))
    await asyncio.gather(alice.shutdown(), bob.shutdown())


@pytest.mark.parametrize("wire", ["mpccomm", "tno4"])
async def test_no_version_is_told_to_whoever_answers(wire: str) -> None:
    async with answering(b"") as (port, heard), Pool(settings=quick()) as alice:
        alice.add_http_server(0, LOCAL)
        alice.add_http_client("Other", LOCAL, port, wire=wire)
        handle = alice.asend("Other", 1)
        await until(lambda: heard)
        await alice.shutdown(0)
        assert handle.exception() is not None
    for banner in (b"aiohttp", b"python", b"user-agent", b"accept-encoding", b"mpccomm/"):
        assert banner not in heard.lower()
