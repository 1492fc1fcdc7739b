"""A party that misbehaves loses its connection, and in the end its place. The others notice nothing."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mpccomm import PartyGoneError
from mpccomm.protocol import frames
from mpccomm.protocol.frames import Bounds, Hello, Kind, Resume, encode_key, parse
from mpccomm.protocol.states import CloseCode
from mpccomm.settings import Strangers
from mpccomm.transport.identity import read_certificates
from mpccomm.transport.tls import Credentials
from tests.pools import LOCAL, Log, until
from tests.protocol.links import batch_of
from tests.timing import UNIT
from tests.transport.hostile import IDENTITIES, NOBODY, SLACK, Place, Watch, place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

MIB = 2**20
NONCE = b"n" * 16
KEY = encode_key("id")
OFFENCES = Strangers().offences


@asynccontextmanager
async def call(where: Place, name: str = "Mallory") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Connect to Alice by hand, with the certificate of some party."""
    context: ssl.SSLContext | bool = True
    if where.certified:
        credentials = Credentials(where.files.key(IDENTITIES[name]), where.certs[name], None)
        credentials.trust(read_certificates(where.certs["Alice"]))
        context = credentials.dialling
    scheme = "https" if where.certified else "http"
    async with aiohttp.ClientSession() as session:
        url = f"{scheme}://{LOCAL}:{where.alice.port}/mpccomm"
        async with session.ws_connect(
            url, ssl=context, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=UNIT)
        ) as socket:
            connection = socket._response.connection
            assert connection is not None
            transport = connection.transport
            try:
                yield socket
            finally:
                # What is still to be sent does not matter.
                assert isinstance(transport, asyncio.WriteTransport)
                transport.abort()


def hello(incarnation: bytes = b"i" * 16) -> bytes:
    bounds = Bounds(2**30, 1000, 2**30, 1000, 1000)
    return batch_of(frames.hello(Hello(frames.PROTOCOL_VERSION, incarnation, NONCE, NOBODY, 0, bounds)))


async def greet(socket: aiohttp.ClientWebSocketResponse) -> None:
    """As a well-behaved party does it."""
    await socket.send_bytes(hello())
    theirs: Hello | None = None
    while theirs is None:
        for frame in parse(await socket.receive_bytes(timeout=50 * UNIT), max_id_size=1024):
            theirs = frame if isinstance(frame, Hello) else theirs
    await socket.send_bytes(batch_of(frames.resume(Resume(theirs.nonce, True, 0, 0, 0))))


async def ended(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which Alice closes."""
    while True:
        message = await socket.receive(timeout=50 * UNIT)
        if message.type is aiohttp.WSMsgType.CLOSE:
            return int(message.data)
        if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            return socket.close_code


def start(seq: int, total: int, data: bytes = b"", segments: int = 1, size: int | None = None) -> bytes:
    return frames.start_head(seq, KEY, False, segments, total, len(data) if size is None else size) + data


def part(seq: int, number: int, data: bytes, size: int | None = None) -> bytes:
    return frames.part_head(seq, number, len(data) if size is None else size) + data


def raw(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    return bytes((kind, 0, 0, 0)) + (len(body) if length is None else length).to_bytes(4, "big") + body


VIOLATIONS: dict[str, list[bytes | str]] = {
    "an unknown kind": [raw(99)],
    "a length beyond the batch": [raw(Kind.PING, bytes(8), 2**32 - 1)],
    "a length short of the frame": [raw(Kind.PING, bytes(3))],
    "something left over": [frames.ping(1) + b"\x04"],
    "a gap": [start(2, 1, b"x")],
    "a gap of 2 ** 63": [start(2**63, 1, b"x")],
    "a piece of nothing": [part(1, 7, b"x")],
    "more than announced": [start(1, 10, b"x"), part(2, 1, b"y" * 10)],
    "more than announced, at once": [start(1, 1, b"xyz")],
    "a message of 2 ** 60 bytes": [start(1, 2**60, b"x")],
    "a message of 2 ** 64 - 1 bytes": [start(1, 2**64 - 1, b"x")],
    "2 ** 30 segments": [start(1, 2**40, b"x", segments=2**30)],
    "segments that don't add up": [start(1, 24, (5).to_bytes(8, "big") * 2 + b"x" * 8, segments=2)],
    "no segments": [start(1, 1, b"x", segments=0)],
    "a full box": [start(number, 700 * MIB) for number in (1, 2)],
    "another HELLO": [hello()[frames.BATCH_HEAD :]],
    "a key that is no text": [
        b"\4\0\0\4" + (32).to_bytes(4, "big") + bytes(7) + b"\1" + bytes(11) + b"\1" + bytes(8) + b"\xff" * 4
    ],
    "an id of 64 KB": [frames.start_head(1, (0, 0, b"k" * 65535), False, 1, 0, 0)],
    "a batch of 2 MiB": [bytes(2 * MIB)],
    "a text": ["secret-payload"],
    "bytes at random": [b"secret-payload" * 100],
}
FLOODS = {
    "pings": frames.ping(1),
    "pongs": raw(Kind.PONG, bytes(8)),
    "repetitions": start(1, 1, b"x"),
    "farewells": frames.farewell(),
    "held back": raw(Kind.BLOCKED, bytes(28)),
    "deadlocks": frames.deadlock(False, True),
    "messages": b"",
}


def prepared(saying: list[bytes | str]) -> list[bytes | str]:
    """What is said, in the batches in which it is sent."""
    return [said if isinstance(said, str) else batch_of(said) for said in saying]


async def misbehave(where: Place, saying: list[bytes | str]) -> int | None:
    async with call(where) as socket:
        await greet(socket)
        for said in saying:
            try:
                await (socket.send_str(said) if isinstance(said, str) else socket.send_bytes(said))
            except (ConnectionError, aiohttp.ClientError):
                break
        return await ended(socket)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_what_breaks_the_protocol(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    saying = prepared(VIOLATIONS[name])
    with place(tmp_path) as where:
        with Watch(where) as watch:
            code = asyncio.run(misbehave(where, saying))
        closed = (CloseCode.VIOLATION, aiohttp.WSCloseCode.MESSAGE_TOO_BIG, aiohttp.WSCloseCode.ABNORMAL_CLOSURE)
        assert code in closed
        asyncio.run(log.seen(f"Mallory ({LOCAL}:{NOBODY}): clos", logging.WARNING))
        assert not log.lines("", logging.ERROR)
        assert "secret-payload" not in caplog.text
        assert where.alice.stats["Bob"].reconnects == 0
        assert where.alice.stats["Mallory"].messages_received == 0
        watch.assert_calm()
    # In this process is also what Mallory itself takes: a copy of the largest of these batches, masked, and on its way.
    assert watch.memory <= 3 * SLACK


@pytest.mark.parametrize("name", FLOODS)
def test_floods(name: str, tmp_path: Path) -> None:
    frame = FLOODS[name]
    batches = [frame * ((MIB - 100) // len(frame))] * 8 if frame else messages(8)

    async def flood(where: Place) -> None:
        async with call(where) as socket:
            await greet(socket)
            try:
                for batch in batches:
                    await socket.send_bytes(batch_of(batch))
            except (ConnectionError, aiohttp.ClientError):
                pass

    with place(tmp_path) as where, Watch(where) as watch:
        asyncio.run(flood(where))
        watch.look()
        assert where.alice.stats["Bob"].reconnects == 0
        watch.assert_calm(name)
    assert watch.memory <= 8 * SLACK


def messages(count: int) -> list[bytes]:
    """Batches of as many messages as fit."""
    size = len(start(1, 1, b"x"))
    each = (MIB - 100) // size
    return [b"".join(start(batch * each + i + 1, 1, b"x") for i in range(each)) for batch in range(count)]


# -- what is no WebSocket ----------------------------------------------------------------------------------------------


def websocket(first: int, payload: bytes, length: int | None = None) -> bytes:
    """A frame as it is on the wire, with a mask of zeros."""
    size = len(payload) if length is None else length
    return bytes((first, 0x80 | 127)) + size.to_bytes(8, "big") + bytes(4) + payload


FIN, COMPRESSED, CONTINUED, BINARY, PING = 0x80, 0x40, 0, 2, 9
NO_WEBSOCKET = {
    "a compressed frame": websocket(FIN | COMPRESSED | BINARY, b"secret-payload"),
    "a kind that there isn't": websocket(FIN | 3, b"secret-payload"),
    "fragments without end": websocket(BINARY, bytes(MIB // 4)) + websocket(CONTINUED, bytes(MIB // 4)) * 4,
    "a frame of 2 ** 63 - 1 bytes": websocket(FIN | BINARY, bytes(1000), 2**63 - 1),
    "a frame of 2 ** 64 - 1 bytes": websocket(FIN | BINARY, bytes(1000), 2**64 - 1),
    "a ping of 64 KB": websocket(FIN | PING, bytes(65536)),
    "the rest of nothing": websocket(FIN | CONTINUED, b"secret-payload"),
    "a fragment within a fragment": websocket(BINARY, b"x") + websocket(BINARY, b"x"),
}
PINGS = bytes((FIN | PING, 0x80 | 125)) + bytes(4 + 125)


async def abuse(where: Place, said: bytes, times: int = 1) -> int | None:
    async with call(where) as socket:
        await greet(socket)
        connection = socket._response.connection
        assert connection is not None
        transport = connection.transport
        assert isinstance(transport, asyncio.WriteTransport)
        for _ in range(times):
            transport.write(said)
            await asyncio.sleep(0)
        return await ended(socket) if times == 1 else None


@pytest.mark.parametrize("name", NO_WEBSOCKET)
def test_what_is_no_websocket(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with place(tmp_path) as where:
        with Watch(where) as watch:
            assert asyncio.run(abuse(where, NO_WEBSOCKET[name])) is not None
        asyncio.run(log.seen(f"Mallory ({LOCAL}:{NOBODY}): clos", logging.WARNING))
        assert not log.lines("", logging.ERROR)
        assert "secret-payload" not in caplog.text
        assert where.alice.stats["Bob"].reconnects == 0
        watch.assert_calm(name)
    assert watch.memory <= 2 * SLACK


def test_websocket_pings_that_nobody_waits_for(tmp_path: Path) -> None:
    with place(tmp_path) as where, Watch(where) as watch:
        asyncio.run(abuse(where, PINGS * 1000, 100))
        watch.look()
        watch.assert_calm()
        assert where.alice.stats["Bob"].reconnects == 0
    assert watch.memory <= 8 * SLACK


# -- the end of patience -----------------------------------------------------------------------------------------------


def test_after_some_offences_it_stays_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with place(tmp_path) as where:
        waiting = where.alice.arecv("Mallory")
        for _ in range(OFFENCES):
            where.alice._engine.party(
                "Mallory"
            ).reputation.not_before = 0  # the pause after each is another test's matter
            assert asyncio.run(misbehave(where, prepared([raw(99)]))) in (CloseCode.VIOLATION, CloseCode.BARRED)
        with pytest.raises(PartyGoneError, match=r"it broke the protocol 5 times.*readmit\('Mallory'\)"):
            waiting.result(50 * UNIT)
        with pytest.raises(PartyGoneError, match="kept out"):
            where.alice.send("Mallory", "x")
        assert log.lines("Mallory (127.0.0.1:1) is kept out until readmit('Mallory') is called", logging.ERROR)
        assert asyncio.run(first_answer(where)) == CloseCode.BARRED
        where.bob.send("Alice", "all is well")
        assert where.alice.recv("Bob") == "all is well"
        where.alice.readmit("Mallory")
        received = where.alice.arecv("Mallory", "id")
        asyncio.run(behave(where))
        assert received.result(50 * UNIT) == ord("x")


async def first_answer(where: Place) -> int | None:
    async with call(where) as socket:
        await socket.send_bytes(hello())
        return await ended(socket)


async def behave(where: Place) -> None:
    async with call(where) as socket:
        await greet(socket)
        await socket.send_bytes(batch_of(start(1, 1, b"x")))
        await until(lambda: where.alice.stats["Mallory"].messages_received)


def test_on_plain_http_only_connections_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with place(tmp_path, certified=False) as where:
        reputation = where.alice._engine.party("Mallory").reputation
        pauses = []
        for _ in range(2 * OFFENCES):
            reputation.not_before = 0
            assert asyncio.run(misbehave(where, prepared([raw(99)]))) == CloseCode.VIOLATION
            pauses.append(reputation.not_before)
        assert where.alice._engine.party("Mallory").closed is None
        assert asyncio.run(first_answer(where)) == CloseCode.VIOLATION
        assert Log(caplog).lines("broke the protocol a moment ago")
        reputation.not_before = 0
        asyncio.run(behave(where))
