"""A party that posts its messages, played by a few lines of HTTP."""

import asyncio
import logging
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from logging import ERROR, WARNING
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import ormsgpack
import pytest
from aiohttp import web

from mpccomm import AuthenticationError, ConfigurationError, EncodingError, Limits, NotReadyError, Pool, Serialization
from tests.certificates import Folder, root
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT

NOBODY = 1
"""A port at which no server listens."""


class Peer:
    """Answers posts with ``status``, and keeps what they said."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.cookies: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.Response(text="there")
        assert request.method == "POST"
        assert request.content_length is not None
        self.cookies.append(dict(request.cookies))
        self.bodies.append(ormsgpack.unpackb(await request.read()))
        return web.Response(status=self.status)

    @asynccontextmanager
    async def playing(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        """Listen at the port, or at any if there is none yet."""
        runner = web.ServerRunner(web.Server(self.answer))
        await runner.setup()
        await web.TCPSite(runner, LOCAL, self.port, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def post(self, pool: Pool, body: object, cookie: str | None = "", **options: Any) -> int:
        headers = {} if cookie is None else {"Cookie": cookie or f"server_port={self.port}"}
        data = body if isinstance(body, bytes) or "chunks" in options else ormsgpack.packb(body)
        async with aiohttp.ClientSession() as session:
            url = f"http://{LOCAL}:{pool.port}/anything"
            async with session.post(url, data=options.get("chunks", data), headers=headers) as response:
                return response.status


@asynccontextmanager
async def peer(wire: str = "tno4", limits: Limits | None = None) -> AsyncIterator[tuple[Pool, Peer]]:
    """A pool, and the party ``peer`` of it."""
    played = Peer(0)
    pool = Pool(settings=quick(limits))
    pool.add_http_server(0, LOCAL)
    async with played.playing():
        pool.add_http_client("peer", LOCAL, played.port, wire=wire)
        try:
            yield pool, played
        finally:
            await pool.shutdown()


async def test_what_is_posted() -> None:
    async with peer() as (pool, played):
        await pool.send("peer", [1, (2,)])
        await pool.send("peer", 2**70, "named")
        pool.update_msg_prefix("p")
        await pool.send("peer", None)
        assert played.cookies == [{"server_port": str(pool.port)}] * 3
        assert played.bodies == [
            {"object": [1, {"type": "tuple", "data": [2]}], "id": 0},
            {"object": {"type": "int", "data": (2**70).to_bytes(9, "little")}, "id": "named"},
            {"object": None, "id": "p2"},
        ]


async def test_what_is_posted_in_5() -> None:
    async with peer("tno5") as (pool, played):
        await pool.send("peer", [1])
        await pool.send("peer", b"x", "named")
        await pool.send("peer", 2)
        assert played.bodies == [
            {"object": b"\x91\x01", "id": "0"},
            {"object": b"\xc4\x01x", "id": "named"},
            {"object": b"\x02", "id": "2"},
        ]


async def test_what_they_post() -> None:
    async with peer() as (pool, played):
        future = pool.arecv("peer", "named")
        assert await played.post(pool, {"object": {"type": "tuple", "data": [1]}, "id": "named"}) == 200
        assert future.done()
        assert future.result() == (1,)
        assert await played.post(pool, {"object": 1, "id": 1}) == 200
        assert await played.post(pool, {"object": 2, "id": 2}) == 200
        assert dict(pool.pool_handlers["peer"].buffer) == {1: 1, 2: 2}
        assert [await pool.recv("peer"), await pool.recv("peer")] == [1, 2]


@pytest.mark.parametrize("wire", ["tno4", "tno5"])
async def test_what_happens_to_it_is_told_once(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the end of the connection that stands for it as well, to which we are the party that comes and goes."""
    caplog.set_level(logging.INFO, logger="mpccomm")
    async with peer(wire) as (pool, _):
        await pool.send("peer", 1)
    events = [record.event for record in caplog.records if getattr(record, "party", "") == "peer"]  # type: ignore[attr-defined]
    assert events.count("connected") == 1
    assert "party_ended" not in events


async def test_it_is_in_no_group() -> None:
    async with peer() as (pool, _):
        for names in (None, ["Alice", "peer"]):
            with pytest.raises(ConfigurationError, match=r"'peer' runs .* which knows no groups"):
                pool.group(names, me="Alice")


async def test_what_they_post_in_5() -> None:
    async with peer("tno5") as (pool, played):
        assert await played.post(pool, {"object": b"\x91\x01", "id": "0"}) == 200
        assert await played.post(pool, {"object": [1], "id": "1"}) == 500
        assert await played.post(pool, {"object": b"\xc1", "id": "1"}) == 200
        assert await pool.recv("peer") == [1]
        with pytest.raises(ValueError, match="malformed"):
            await pool.recv("peer")


async def test_what_is_refused() -> None:
    async with peer(limits=Limits(max_message_size=1000)) as (pool, played):
        good = {"object": 1, "id": "x"}
        assert await played.post(pool, good, cookie=None) == 400
        assert await played.post(pool, good, cookie="server_port=none") == 400
        assert await played.post(pool, good, cookie=f"server_port={played.port + 1}") == 401
        assert await played.post(pool, b"\xc1") == 500
        assert await played.post(pool, {"object": 1}) == 500
        assert await played.post(pool, {"object": b"x" * 1000, "id": "x"}) == 413

        async def chunks() -> AsyncIterator[bytes]:
            yield ormsgpack.packb(good)

        assert await played.post(pool, None, chunks=chunks()) == 411
        assert not pool.pool_handlers["peer"].buffer
        assert await played.post(pool, good) == 200
        assert await pool.recv("peer", "x") == 1


@pytest.mark.parametrize("number", [-1, -(2**63), 2**62, 2**64 - 1])
async def test_a_number_that_is_no_automatic_one_is_an_id_like_any_other(number: int) -> None:
    async with peer() as (pool, played):
        assert await played.post(pool, {"object": "named", "id": number}) == 200
        assert await played.post(pool, {"object": "first", "id": 0}) == 200
        assert await pool.recv("peer") == "first"
        assert await pool.recv("peer", str(number)) == "named"
        await pool.send("peer", 1)


@pytest.mark.parametrize("size", [1025, 60_000, 70_000])
@pytest.mark.parametrize("wire", ["tno4", "tno5"])
async def test_an_id_that_is_too_long_is_refused(wire: str, size: int, caplog: pytest.LogCaptureFixture) -> None:
    async with peer(wire) as (pool, played):
        await pool.send("peer", 1)
        assert await played.post(pool, {"object": b"\x01", "id": "x" * size}) == 413
        assert await played.post(pool, {"object": b"\x01", "id": "x" * 1024}) == 200
        assert Log(caplog).lines(
            f"a message with an id of {size} bytes: 1024 are the limit (Limits.max_id_size)", WARNING
        )
        assert not Log(caplog).lines("does not take messages that large")


async def test_what_is_too_large_only_here_is_refused() -> None:
    async with peer(limits=Limits(max_message_size=1000)) as (pool, played):
        # Numbers of 32 bits are kept with 64.
        assert await played.post(pool, b"\x82\xa2id\xa1x\xa6object\xdc\x00\x96" + 150 * b"\xca\x3f\x80\x00\x00") == 413
        assert not pool.pool_handlers["peer"].buffer


async def test_what_is_nested_too_deeply_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with peer() as (pool, played):
        assert await played.post(pool, b"\x82\xa2id\xa1x\xa6object" + 300 * b"\x91" + b"\x01") == 500
        assert Log(caplog).lines("a message that can't be read: the message can't be kept", WARNING)
        assert not Log(caplog).lines("", ERROR)


async def test_what_is_not_held_at_the_end_is_not_acknowledged() -> None:
    async with peer(limits=Limits(box_messages=1)) as (pool, played):
        assert await played.post(pool, {"object": 1, "id": 0}) == 200
        waiting = asyncio.ensure_future(played.post(pool, {"object": 2, "id": 1}))
        proxy = pool._engine.authentication.correspondents["peer"]._proxy  # type: ignore[attr-defined]
        await until(lambda: proxy.link.sender.queue)
        await pool.shutdown()
        assert await waiting == 503


async def test_each_event_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with peer() as (pool, _):
        await pool.wait_ready(300 * UNIT)
    assert len(log.lines(": connected")) == 1


async def test_what_fails_inside_is_tried_again_after_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An id that no frame can hold.
    monkeypatch.setattr("mpccomm.engine.tno_bridge.key_of", lambda _: ("", -1), raising=False)
    async with peer() as (pool, played):
        waiting = asyncio.ensure_future(played.post(pool, {"object": 1, "id": -1}))
        counters = pool._engine.parties["peer"].link.counters
        await until(lambda: counters.connections >= 3)
        before = counters.connections
        await asyncio.sleep(10 * UNIT)
        assert counters.connections - before <= 6
        assert len(Log(caplog).lines("a part of the pool failed", ERROR)) == 1
        await pool.shutdown(0)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await waiting


async def test_nobody_posts_where_nobody_is_to() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        assert await Peer(1).post(alice, {"object": 1, "id": 0}) == 404


async def test_a_pool_of_ours_is_not_taken_for_one_of_theirs() -> None:
    async with peer() as (pool, _):
        other = Pool(settings=quick())
        assert pool.port is not None
        other.add_http_client("pool", LOCAL, pool.port)
        with pytest.raises(TimeoutError):
            await other.wait_ready(3 * UNIT)
        await other.shutdown(0)


async def test_it_is_posted_again_until_it_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with peer() as (pool, played):
        played.status = 500
        with pytest.raises(ConnectionError, match=r"can't read the message.*in 1 attempts"):
            await pool.send("peer", 1, max_retries=0)
        waiting = pool.asend("peer", 2)
        assert await log.seen("#0 was not taken: it can't read the message")
        played.status = 200
        await waiting
        assert played.bodies[0] == {"object": 1, "id": 0}
        assert played.bodies[-1] == {"object": 2, "id": 1}


async def test_without_a_server_it_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    pool = Pool(settings=quick())
    pool.add_http_client("peer", LOCAL, 1, wire="tno4")
    waiting = pool.asend("peer", 1)
    assert await log.seen("this pool has no server")
    waiting.cancel()
    await pool.shutdown(0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.arange(3), r"int64.*array\.tolist\(\)"),
        (np.float64(1), r"value\.item\(\)"),
        ({1, 2}, r"builtins\.set"),
        ({1: 2}, "key that is not a string"),
        ([{"type": 1, "data": 2}], r'\[0\].*"type" and "data"'),
        (bytearray(b"x"), "bytearray"),
        (1j, "complex"),
    ],
)
async def test_what_would_be_mangled_is_refused(value: object, reason: str) -> None:
    async with peer() as (pool, played):
        with pytest.raises(EncodingError, match=reason):
            await pool.send("peer", value)
        await pool.send("peer", 1)
        assert played.bodies == [{"object": 1, "id": 0}]


async def test_a_broadcast_to_both_kinds() -> None:
    async with peer() as (pool, played), pools("Alice") as (alice,):
        assert alice.port is not None
        assert pool.port is not None
        alice.add_http_client("pool", LOCAL, pool.port)
        pool.add_http_client("Alice", LOCAL, alice.port)
        await pool.broadcast((1,), "x")
        assert await alice.recv("pool", "x") == (1,)
        assert played.bodies == [{"object": {"type": "tuple", "data": [1]}, "id": "x"}]


class Stateful:
    """Knows its values by number, once they were told."""

    seen: list[int] = []  # noqa: RUF012

    def serialize(self, **_kwargs: Any) -> int:
        return 1

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Stateful":
        Stateful.seen.append(obj)
        return Stateful()


@pytest.fixture
def _stateful() -> Iterator[None]:
    Serialization.register_class(Stateful)
    Stateful.seen.clear()
    yield
    Serialization.clear_serialization_logic()


@pytest.mark.usefixtures("_stateful")
async def test_classes_of_the_user_in_order() -> None:
    async with peer() as (pool, played):
        for number in range(3):
            assert await played.post(pool, {"object": {"type": "Stateful", "data": number}, "id": str(number)}) == 200
        for number in (2, 0, 1):
            assert isinstance(await pool.recv("peer", str(number)), Stateful)
        assert Stateful.seen == [0, 1, 2]
        await pool.send("peer", [Stateful()])
        assert played.bodies == [{"object": [{"type": "Stateful", "data": 1}], "id": 0}]


async def test_no_such_wire() -> None:
    with pytest.raises(ConfigurationError, match="'tno3' of peer: there are 'mpccomm', 'tno4', 'tno5'"):
        Pool().add_http_client("peer", LOCAL, 1, wire="tno3")


async def test_shutdown_waits_for_what_is_still_to_be_posted() -> None:
    async with peer() as (pool, played):
        for number in range(20):
            pool.asend("peer", number)
        await pool.shutdown()
        assert [body["object"] for body in played.bodies] == list(range(20))
        with pytest.raises(aiohttp.ClientConnectionError):
            await played.post(pool, {"object": 1, "id": 0})


async def test_a_pool_without_a_server_does_not_ask_whether_the_party_runs() -> None:
    async with Pool(settings=quick()) as pool:
        pool.add_http_client("peer", LOCAL, NOBODY, wire="tno4")
        with pytest.raises(NotReadyError, match=r"would know us: add_http_server$"):
            await pool.wait_ready(5 * UNIT)
        with pytest.raises(TimeoutError, match=r"the next receive gets it\.$"):
            await pool.recv("peer", timeout=UNIT)
        await pool.abort()


async def test_one_that_is_not_there_is_not_connected() -> None:
    pool = Pool(settings=quick())
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("peer", LOCAL, NOBODY, wire="tno4")
    with pytest.raises(NotReadyError, match=r"peer at .*connection refused"):
        await pool.wait_ready(3 * UNIT)
    with pytest.raises(TimeoutError, match="it is not connected: connection refused"):
        await pool.send("peer", 1, timeout=3 * UNIT)
    with pytest.raises(TimeoutError, match="it is not connected: connection refused"):
        await pool.recv("peer", timeout=3 * UNIT)
    assert not pool.stats["peer"].connected
    await pool.shutdown(0)


async def test_one_that_answers_is_connected() -> None:
    async with peer() as (pool, played):
        await pool.wait_ready(300 * UNIT)
        assert pool.stats["peer"].connected
        assert not played.bodies
        played.status = 401
        with pytest.raises(TimeoutError, match="it is there, but does not take what is sent: it does not recognise us"):
            await pool.send("peer", 1, timeout=10 * UNIT)
        played.status = 200
        await pool.send("peer", 2)


async def test_one_that_goes_is_not_connected_any_more(caplog: pytest.LogCaptureFixture) -> None:
    played = Peer(0)
    pool = Pool(settings=quick())
    pool.add_http_server(0, LOCAL)
    async with played.playing():
        pool.add_http_client("peer", LOCAL, played.port, wire="tno4")
        await pool.send("peer", 1)
        assert pool.stats["peer"].connected
    with pytest.raises(TimeoutError, match="it is not connected: connection refused"):
        await pool.send("peer", 2, timeout=20 * UNIT)
    assert not pool.stats["peer"].connected
    # What it posts shows that it is there, and arrives.
    assert await played.post(pool, {"object": 3, "id": 0}) == 200
    assert await pool.recv("peer") == 3
    async with played.playing():
        await pool.send("peer", 4)
        await pool.shutdown()
    assert [body["object"] for body in played.bodies] == [1, 2, 4]


async def test_certificates_that_are_read_again(tmp_path: Path) -> None:
    authority, folder = root(), Folder(tmp_path)
    ours, theirs, others = (authority.issue(name, LOCAL) for name in ("ours", "theirs", "others"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder.cert(authority))
    tls.load_cert_chain(folder.cert(theirs), folder.key(theirs))
    pinned = tmp_path / "pinned.crt"
    shutil.copy(folder.cert(theirs), pinned)
    played = Peer(0)
    pool = Pool(folder.key(ours), folder.cert(ours), folder.cert(authority), settings=quick())
    pool.add_http_server(0, LOCAL)
    async with played.playing(tls):
        pool.add_http_client("peer", LOCAL, played.port, pinned, wire="tno4")
        await pool.send("peer", 1)
        pool.reload_certificates()
        await pool.send("peer", 2)
        shutil.copy(folder.cert(others), pinned)
        pool.reload_certificates()
        with pytest.raises(AuthenticationError, match="peer"):
            await pool.send("peer", 3, timeout=300 * UNIT)
        assert not pool.stats["peer"].connected
        shutil.copy(folder.cert(theirs), pinned)
        pool.reload_certificates()
        await pool.send("peer", 4)
        await pool.shutdown()
    assert [body["object"] for body in played.bodies] == [1, 2, 3, 4]


async def test_unreachable_for_too_long() -> None:
    pool = Pool(settings=replace(quick(), unreachable_timeout=2 * UNIT))
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("peer", LOCAL, NOBODY, wire="tno5")
    with pytest.raises(ConnectionError, match="connection refused"):
        await pool.recv("peer", timeout=300 * UNIT)
    await pool.shutdown(0)


async def test_many_at_once() -> None:
    async with peer() as (pool, played):
        await asyncio.gather(*(played.post(pool, {"object": n, "id": str(n)}) for n in range(50)))
        assert [await pool.recv("peer", str(n)) for n in range(50)] == list(range(50))
