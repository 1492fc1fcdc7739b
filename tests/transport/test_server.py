"""What the server does with callers that are no party, or no pool: a reason in our log, a bare status for them."""

import asyncio
import base64
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from mpccomm import Pool
from mpccomm.protocol import frames
from mpccomm.protocol.frames import Bounds, Hello
from mpccomm.protocol.states import CloseCode
from mpccomm.transport.server import ConnectionHandler
from tests.certificates import Folder, self_signed
from tests.pools import LOCAL, Log, pools, quick
from tests.protocol.links import batch_of
from tests.timing import UNIT


@asynccontextmanager
async def going_on() -> AsyncIterator[Pool]:
    """A pool to be mistreated, which talks to another party before and after."""
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", "before")
        yield alice
        await alice.send("Bob", "after")
        await bob.send("Alice", "and back")
        assert await alice.recv("Bob") == "and back"
        assert [await bob.recv("Alice"), await bob.recv("Alice")] == ["before", "after"]
        assert alice.stats["Bob"].reconnects == 0


async def exchange(port: int | None, request: bytes, *, to_the_end: bool = True) -> bytes:
    """Send raw bytes; what comes back until the other side closes."""
    reader, writer = await asyncio.open_connection(LOCAL, port)
    try:
        writer.write(request)
        return await reader.read() if to_the_end else await reader.readuntil(b"\r\n\r\n")
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def upgrade(path: str = "/mpccomm", **headers: str) -> bytes:
    fields = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


def masked(opcode: int, payload: bytes) -> bytes:
    """A WebSocket frame as a client sends it, with a mask of zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else bytes((0x80 | 127,)) + struct.pack("!Q", size)
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


def hello(port: int, *, version: int = frames.PROTOCOL_VERSION, incarnation: bytes = b"i" * 16) -> bytes:
    bounds = Bounds(2**30, 1000, 2**30, 1000, 1000)
    return batch_of(frames.hello(Hello(version, incarnation, b"n" * 16, port, 0, bounds)))


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def assert_bare(answer: bytes, status: int) -> None:
    """A status, and nothing that tells who or what answers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == status
    assert body == b""
    assert b"Server: mpccomm\r\n" in head + b"\r\n"
    for word in (b"python", b"aiohttp", b"/3."):
        assert word not in answer.lower().replace(b"http/1.1", b"")


# -- HTTP --------------------------------------------------------------------------------------------------------------


async def test_a_person_with_a_browser() -> None:
    async with going_on() as alice:
        for method in (b"GET", b"HEAD"):
            answer = await exchange(alice.port, method + b" / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert status_of(answer) == 200
            assert b"text/plain" in head
            assert body == (b"An mpccomm pool listens here.\n" if method == b"GET" else b"")
            assert b"aiohttp" not in head.lower()
            assert b"python" not in head.lower()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /favicon.ico", 404),
        ("GET /mpccomm", 426),
        ("POST /mpccomm", 426),
        ("POST /", 404),
        ("DELETE /", 404),
        ("GET /../../etc/passwd", 404),
        ("OPTIONS *", 404),
        ("GET http://elsewhere/", 404),
    ],
)
async def test_no_upgrade(request_line: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        answer = await exchange(alice.port, f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        if request_line == "GET http://elsewhere/":
            assert status_of(answer) in (200, 404)
            return
        assert_bare(answer, status)
        (line,) = Log(caplog).lines("refused a request")
        posted = "a POST, as tno.mpc.communication sends: if it comes from such a party, add that with wire="
        why = posted if request_line.startswith("POST") else "a request without an upgrade"
        assert line == f"refused a request from {LOCAL}: {why}"


async def test_a_request_with_a_body_is_not_listened_to() -> None:
    async with going_on() as alice:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        assert_bare(await exchange(alice.port, head + bytes(1000)), 404)


@pytest.mark.parametrize("method", ["GET /", "POST /", "POST /mpccomm"])
@pytest.mark.parametrize("wire", ["mpccomm", "tno4"])
async def test_a_compressed_body_is_refused(method: str, wire: str, caplog: pytest.LogCaptureFixture) -> None:
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, 1, wire=wire)
    try:
        head = f"{method} HTTP/1.1\r\nHost: x\r\nCookie: server_port=1\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
        assert_bare(await exchange(alice.port, head.encode() + bytes(5)), 415)
        assert Log(caplog).lines(f"refused a request from {LOCAL}: a compressed body")
    finally:
        await alice.shutdown(0)


@pytest.mark.usefixtures("both_loops")
async def test_one_that_hangs_up_as_its_request_is_looked_at_is_no_failure_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With TLS it is not known any more then who it was."""
    log, files = Log(caplog), Folder(tmp_path)
    own, other = self_signed("Alice"), self_signed("Bob")
    original = ConnectionHandler._answer
    over = asyncio.Event()

    async def answer(handler: ConnectionHandler, request: web.BaseRequest) -> web.StreamResponse:
        if over.is_set():
            return await original(handler, request)
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert request.transport is None
        try:
            return await original(handler, request)
        finally:
            over.set()

    monkeypatch.setattr(ConnectionHandler, "_answer", answer)
    keys = (files.key(own), files.cert(own)), (files.key(other), files.cert(other))
    async with Pool(*keys[0], settings=quick()) as alice, Pool(*keys[1], settings=quick()) as bob:
        alice.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, 1, files.cert(other))
        bob.add_http_client("Alice", LOCAL, alice.port, files.cert(own))
        await asyncio.gather(alice.wait_ready(100 * UNIT), bob.wait_ready(100 * UNIT))
        assert over.is_set()
        assert not log.lines("", logging.ERROR)


async def test_wrong_path(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        assert_bare(await exchange(alice.port, upgrade("/chat")), 404)
        assert Log(caplog).lines(f"refused a request from {LOCAL}: an upgrade at the wrong path")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1", "null"])
async def test_a_web_page_is_no_party(origin: str, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        assert_bare(await exchange(alice.port, upgrade(Origin=origin)), 403)
        assert Log(caplog).lines(f"refused a request from {LOCAL}: an upgrade on behalf of a web page")


async def test_a_name_in_host_is_not_compared() -> None:
    """Parties and proxies may know us by another name; a web page that was led here by one has an Origin as well."""
    async with going_on() as alice:
        for name in ("alice.example", "127.0.0.1:1"):
            assert status_of(await exchange(alice.port, upgrade(Host=name))) == 101
            assert_bare(await exchange(alice.port, upgrade(Host=name, Origin=f"http://{name}")), 403)


@pytest.mark.parametrize("missing", ["Sec_WebSocket_Key", "Sec_WebSocket_Version", "Connection"])
async def test_malformed_upgrade(missing: str, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        answer = await exchange(alice.port, upgrade(**{missing: ""}))
        assert status_of(answer) in (400, 426)
        assert b"aiohttp" not in answer.lower()
        assert Log(caplog).lines(f"refused a request from {LOCAL}: ")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"\x00" * 100_000,
        b"secret-payload secret-payload secret-payload\r\n\r\n",
        b"GET / HTTP/9.9\r\nsecret-payload\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: secret-payload\r\n" % i for i in range(1000)) + b"\r\n",
        b"GET /" + b"secret-payload" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\nsecret-payload",
    ],
)
async def test_no_http(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        answer = await exchange(alice.port, garbage)
        if answer:
            assert_bare(answer, 400)
        reasons = ("more than 65,536 bytes before saying who it is", "not HTTP as we know it", "it speaks TLS")
        assert any(Log(caplog).lines(f"from {LOCAL}: {reason}") for reason in reasons)
        assert "secret-payload" not in caplog.text
        assert b"secret-payload" not in answer


async def test_whoever_says_nothing_is_sent_away() -> None:
    async with going_on() as alice:
        for start in (b"", b"GET / HTT", upgrade()[:-2]):
            assert await exchange(alice.port, start) == b""


async def test_the_same_complaint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        for _ in range(20):
            await exchange(alice.port, upgrade("/chat"))
    warnings = [r for r in caplog.records if r.levelname == "WARNING" and "wrong path" in r.getMessage()]
    assert len(warnings) == 1


# -- callers that speak WebSocket --------------------------------------------------------------------------------------


@asynccontextmanager
async def caller(pool: Pool) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{LOCAL}:{pool.port}/mpccomm", max_msg_size=2**22) as socket,
    ):
        yield socket


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which the other side closes; whatever it says before."""
    while (await socket.receive()).type is WSMsgType.BINARY:
        pass
    return socket.close_code


async def test_an_unknown_address(caplog: pytest.LogCaptureFixture) -> None:
    alice = Pool(settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", "192.0.2.1", 80)
    assert_bare(await exchange(alice.port, upgrade()), 403)
    assert Log(caplog).lines(f"refused a request from {LOCAL}: no party was added with that address")
    await alice.shutdown(0)


@pytest.mark.parametrize("port", [1, 0])
async def test_an_unknown_port(port: int, caplog: pytest.LogCaptureFixture) -> None:
    # Two parties are at this address, so without a port neither is meant.
    async with pools("Alice", "Bob", "Carol") as (alice, _, _), caller(alice) as socket:
        await socket.send_bytes(hello(port))
        assert await closed(socket) == CloseCode.NOT_RECOGNISED
        where = f"{LOCAL}:1" if port else f"{LOCAL}, without a server of its own"
        assert Log(caplog).lines(f"closed a connection from {LOCAL}: no party was added as {where}")


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"", "a batch of 0 bytes"),
        (batch_of(), "its first frame is not a HELLO"),
        (batch_of(frames.ping(1)), "its first frame is not a HELLO"),
        (b"\xff" * 100, "a frame claims 4,294,967,295 bytes where 68 are left"),
        (batch_of(b"\x01"), "1 bytes left over"),
        (bytes(100_000), "more than 65,536 bytes before saying who it is"),
        (batch_of(b"\1\0\0\0\0\0\0\1\0"), "a frame of 1 bytes where"),
        ("text", "a text message instead of a HELLO"),
        (bytes(10_000), "10,000 bytes before saying who it is"),
    ],
)
async def test_no_hello(first: bytes | str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        if isinstance(first, str):
            await socket.send_str(first)
        else:
            await socket.send_bytes(first)
        code = await closed(socket)
        assert code in (CloseCode.VIOLATION, aiohttp.WSCloseCode.MESSAGE_TOO_BIG, aiohttp.WSCloseCode.ABNORMAL_CLOSURE)
        assert await Log(caplog).seen(f"closed a connection from {LOCAL}: {reason}")


async def test_garbage_after_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice:
        answer = await exchange(alice.port, upgrade() + b"\xff" * 1000)
        assert status_of(answer) == 101
        assert b"aiohttp" not in answer.lower()
        assert await Log(caplog).seen("bytes that are no WebSocket frame instead of a HELLO")


async def test_silence_after_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        assert await closed(socket) == CloseCode.SILENT
        assert Log(caplog).lines(f"closed a connection from {LOCAL}: it did not say who it is")


async def test_shutdown_does_not_wait_for_strangers() -> None:
    alice = Pool()
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, 1)
    async with alice:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(LOCAL, alice.port)
        writer.write(upgrade())
        await reader.readuntil(b"\r\n\r\n")
        idle = await asyncio.open_connection(LOCAL, alice.port)
        start = loop.time()
        await alice.shutdown()
        assert loop.time() - start < 5 * UNIT
        assert await reader.read() == b""
        for end in (writer, idle[1]):
            end.close()


# -- callers that are taken for a party --------------------------------------------------------------------------------


async def as_bob(alice: Pool, socket: aiohttp.ClientWebSocketResponse, **fields: int | bytes) -> None:
    """Call as the party that Alice knows, as far as she can tell from outside."""
    await socket.send_bytes(hello(alice._engine.party("Bob").port, **fields))  # type: ignore[arg-type]


async def test_another_version_of_the_protocol(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        await as_bob(alice, socket, version=9)
        assert await closed(socket) == CloseCode.VERSION
        assert Log(caplog).lines(f"it speaks version 9 of the protocol, we speak version {frames.PROTOCOL_VERSION}")


async def test_frames_before_the_greeting_is_complete(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        await as_bob(alice, socket)
        await socket.send_bytes(batch_of(frames.abort("I am Bob, believe me")))
        assert await closed(socket) == CloseCode.VIOLATION
        assert Log(caplog).lines("closing a connection: ABORT on a connection where")


async def test_a_greeting_that_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        await as_bob(alice, socket)
        assert await closed(socket) == CloseCode.SILENT
        assert Log(caplog).lines("closing a connection: no handshake")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("text", "a text message"),
        (bytes(2**21), "a message of more than 1,048,576 bytes"),
        (batch_of(b"\xffgarbage"), "a frame claims 1,650,550,629 bytes where 0 are left"),
        (batch_of(b"\x63" + bytes(7)), "unknown kind of frame: 99"),
    ],
)
async def test_garbage_from_a_known_address(then: bytes | str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with going_on() as alice, caller(alice) as socket:
        await as_bob(alice, socket)
        await socket.receive_bytes()  # she takes us for him
        if isinstance(then, str):
            await socket.send_str(then)
        else:
            await socket.send_bytes(then)
        await closed(socket)
        assert await Log(caplog).seen(reason)


async def test_many_idle_callers_keep_nobody_out() -> None:
    async with going_on() as alice:
        idle = [await asyncio.open_connection(LOCAL, alice.port) for _ in range(200)]
        answer = await exchange(alice.port, b"GET / HTTP/1.0\r\n\r\n")
        assert status_of(answer) == 200
        for _, writer in idle:
            writer.close()
        await asyncio.gather(*(reader.read() for reader, _ in idle))
