"""What is posted to a pool by one party takes a bounded amount of memory, and of time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from logging import ERROR, WARNING
from typing import Any

import ormsgpack
import pytest
from aiohttp import StreamReader

from mpccomm import Limits, Pool
from mpccomm.transport.tno import MOST_POSTS
from tests.pools import LOCAL, Log, quick, until
from tests.timing import UNIT

KB = 1000
NOBODY = 1


@asynccontextmanager
async def alice(limits: Limits | None = None, **timing: float) -> AsyncIterator[Pool]:
    """A pool to which Bob posts."""
    settings = quick(limits or Limits(box_bytes=100 * KB, max_message_size=200 * KB))
    pool = Pool(settings=replace(settings, timing=replace(settings.timing, **timing)))
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, NOBODY, wire="tno4")
    try:
        yield pool
    finally:
        await pool.shutdown(0)


def contents(pool: Pool) -> list[StreamReader]:
    """Return the bodies of the requests that are being answered."""
    handlers: Any = pool._engine.server._running
    return [one._current_request.content for one in handlers._http.connections if one._current_request is not None]


async def sent_to(pool: Pool, size: int) -> None:
    """Wait until so much of these has come."""
    await until(lambda: sum(content.total_bytes for content in contents(pool)) == size)


def message(number: int, size: int) -> bytes:
    return ormsgpack.packb({"object": bytes(size), "id": number})


class Post:
    """A message on its way, which is sent as it is wanted."""

    def __init__(self, port: int | None, body: bytes) -> None:
        self._port = port
        self._body = body

    async def begin(self, sent: int = 0) -> None:
        self._reader, self._writer = await asyncio.open_connection(LOCAL, self._port)
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nCookie: server_port={NOBODY}\r\nContent-Length: {len(self._body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + self._body[:sent])
        self._body = self._body[sent:]

    async def send(self, size: int) -> None:
        self._writer.write(self._body[:size])
        self._body = self._body[size:]
        await self._writer.drain()

    async def is_over(self) -> bool:
        """Wait for the end of the connection. Return whether it came without an answer."""
        try:
            async with asyncio.timeout(100 * UNIT):
                return await self._reader.read() == b""
        except ConnectionError:
            return True
        finally:
            self._writer.close()

    async def end(self) -> int:
        self._writer.write(self._body)
        return await self.status()

    async def status(self) -> int:
        try:
            # Not all until the end: whoever still sends when the answer comes, is sent a reset after it.
            return int((await self._reader.readline()).split()[1])
        finally:
            self._writer.close()


async def test_what_does_not_fit_waits() -> None:
    async with alice() as pool:
        first, second, third = (Post(pool.port, message(number, 60 * KB)) for number in range(3))
        await first.begin(sent=1)
        await asyncio.sleep(UNIT / 2)
        await second.begin()
        waiting = asyncio.ensure_future(second.end())
        await asyncio.wait((waiting,), timeout=UNIT)
        assert not waiting.done()
        assert await first.end() == 200
        assert len(await pool.recv("Bob")) == 60 * KB
        assert await waiting == 200
        assert len(await pool.recv("Bob")) == 60 * KB
        await third.begin()
        assert await third.end() == 200


async def test_one_that_is_larger_than_the_room_has_it_alone() -> None:
    async with alice() as pool:
        larger = Post(pool.port, message(0, 150 * KB))
        await larger.begin()
        assert await larger.end() == 200
        assert len(await pool.recv("Bob")) == 150 * KB


async def test_whoever_stops_in_the_middle_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    async with alice(dead_after=5 * UNIT, heartbeat=UNIT) as pool:
        stalled, next_one = (Post(pool.port, message(number, 60 * KB)) for number in range(2))
        await stalled.begin(sent=30 * KB)
        await asyncio.sleep(UNIT / 2)
        await next_one.begin()
        assert await next_one.end() == 200
        assert await stalled.status() == 408
        assert Log(caplog).lines("less than 1024 bytes of a message within ", WARNING)


async def test_whoever_drips_makes_room() -> None:
    async with alice(dead_after=3 * UNIT, heartbeat=UNIT) as pool:
        dripping = Post(pool.port, message(0, 60 * KB))
        await dripping.begin(sent=1)

        async def drip() -> None:
            with suppress(ConnectionError):
                while True:
                    await dripping.send(1)
                    await asyncio.sleep(UNIT / 2)

        drops = asyncio.ensure_future(drip())
        async with asyncio.timeout(50 * UNIT):
            assert await dripping.status() == 408
        drops.cancel()


async def test_whoever_is_slow_has_time() -> None:
    async with alice(dead_after=4 * UNIT, heartbeat=UNIT) as pool:
        slow = Post(pool.port, message(0, 12 * KB))
        await slow.begin()
        for _ in range(10):
            await slow.send(1200)
            await asyncio.sleep(UNIT)
        assert await slow.end() == 200


async def test_whoever_hangs_up_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    async with alice() as pool:
        for number in range(5):
            gone = Post(pool.port, message(number, 60 * KB))
            await gone.begin(sent=30 * KB)
            await asyncio.sleep(UNIT / 4)
            gone._writer.close()
        last = Post(pool.port, message(0, 60 * KB))
        await last.begin()
        assert await last.end() == 200
    assert len(Log(caplog).lines("it hung up in the middle of a message", WARNING)) == 1, "the others are repetitions"
    assert not Log(caplog).lines("", ERROR)


async def test_the_connections_of_a_party_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with alice(Limits()) as pool:
        posts = [Post(pool.port, message(number, KB)) for number in range(MOST_POSTS + 20)]
        for post in posts:
            await post.begin(sent=1)
        for post in posts[:20]:
            assert await post.is_over()
        waiting = [asyncio.ensure_future(post.end()) for post in posts[20:]]
        assert set(await asyncio.gather(*waiting)) == {200}
        last = Post(pool.port, message(0, KB))
        await last.begin()
        assert await last.end() == 200
    assert Log(caplog).lines("more than 128 messages at once: this one had been still for the longest time", WARNING)


async def test_the_one_goes_that_has_been_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.transport.tno.MOST_POSTS", 2)
    async with alice(heartbeat=UNIT) as pool:
        active, still, newcomer = (Post(pool.port, message(number, 10 * KB)) for number in range(3))
        await active.begin(sent=1)
        await sent_to(pool, 1)
        await still.begin(sent=1)
        await sent_to(pool, 2)
        await active.send(2 * KB)
        await sent_to(pool, 2 + 2 * KB)
        await newcomer.begin()
        assert await still.is_over()
        assert await active.end() == 200
        assert await newcomer.end() == 200


async def test_what_is_handed_on_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mpccomm.transport.tno.MOST_POSTS", 1)
    async with alice() as pool:
        first, second, third = (Post(pool.port, message(number, 90 * KB)) for number in range(3))
        await first.begin()
        assert await first.end() == 200
        await second.begin()
        waiting = asyncio.ensure_future(second.end())
        await until(lambda: any(content.is_eof() for content in contents(pool)))
        await third.begin()
        assert await third.is_over()
        assert Log(caplog).lines("more than 1 messages at once, and no receive asks for those that are here", WARNING)
        for _ in range(2):
            await pool.recv("Bob")
        assert await waiting == 200


async def test_little_is_read_before_there_is_room() -> None:
    async with alice(Limits(box_bytes=100 * KB, max_message_size=2000 * KB)) as pool:
        first, second = Post(pool.port, message(0, 99 * KB)), Post(pool.port, message(1, 1500 * KB))
        await first.begin(sent=1)
        await sent_to(pool, 1)
        await second.begin(sent=1500 * KB)
        await until(lambda: len(contents(pool)) == 2 and contents(pool)[-1].total_bytes > 64 * KB)
        # As long as the loop reads, something comes.
        while (before := contents(pool)[-1].total_bytes) is not None:
            await asyncio.sleep(UNIT)
            if contents(pool)[-1].total_bytes == before:
                break
        assert before <= 2 * 32 * 1024 + 256 * 1024
        assert await first.end() == 200
        await pool.recv("Bob")
        assert await second.end() == 200


async def test_what_was_dropped_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with alice() as pool:
        authentication: Any = pool._engine.authentication
        server: Any = pool._engine.server
        correspondent = authentication.correspondent

        async def and_drop(*arguments: Any) -> Any:
            found = await correspondent(*arguments)
            server._running.admission.close()
            return found

        post = Post(pool.port, message(0, KB))
        with monkeypatch.context() as patch:
            patch.setattr(authentication, "correspondent", and_drop)
            await post.begin(sent=2 * KB)
            assert await post.is_over()
        again = Post(pool.port, message(0, KB))
        await again.begin()
        assert await again.end() == 200
        await pool.recv("Bob")
        assert not pool.pool_handlers["Bob"].buffer
