"""What is posted to a pool by one party takes a bounded amount of memory, and of time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import ormsgpack
import pytest

from mpccomm import Limits, Pool
from tests.pools import LOCAL, Log, quick
from tests.timing import UNIT

KB = 1000
NOBODY = 1


@asynccontextmanager
async def alice(**timing: float) -> AsyncIterator[Pool]:
    """A pool to which Bob posts."""
    settings = quick(Limits(box_bytes=100 * KB, max_message_size=200 * KB))
    pool = Pool(settings=replace(settings, timing=replace(settings.timing, **timing)))
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, NOBODY, wire="tno4")
    try:
        yield pool
    finally:
        await pool.shutdown(0)


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

    async def end(self) -> int:
        self._writer.write(self._body)
        return await self.status()

    async def status(self) -> int:
        try:
            return int((await self._reader.read()).split()[1])
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
        assert Log(caplog).lines("a message that can't be read")


async def test_whoever_hangs_up_makes_room() -> None:
    async with alice() as pool:
        for number in range(5):
            gone = Post(pool.port, message(number, 60 * KB))
            await gone.begin(sent=30 * KB)
            await asyncio.sleep(UNIT / 4)
            gone._writer.close()
        last = Post(pool.port, message(0, 60 * KB))
        await last.begin()
        assert await last.end() == 200
