"""The proxy itself: each fault is what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import LOCAL, Cut, End, Proxy
from tests.pools import until
from tests.timing import UNIT


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, LOCAL, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if handlers:
            await asyncio.wait(handlers)


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOCAL, port)
    try:
        writer.write(data)
        return await reader.readexactly(len(data))
    finally:
        writer.close()


async def test_unharmed() -> None:
    async with echo() as server, Proxy(record=True) as proxy:
        port = proxy.front(server)
        data = bytes(range(256)) * 10_000
        assert await ask(port, data) == data
        await until(lambda: proxy.recordings)
        assert (proxy.up, proxy.down, proxy.recordings) == (len(data), len(data), [data])


@pytest.mark.parametrize("how", [End.RESET, End.FIN])
@pytest.mark.parametrize("up", [True, False])
async def test_cut_after_so_many_bytes(how: End, up: bool) -> None:
    cut = Cut(up=1000, how=how) if up else Cut(down=1000, how=how)
    async with echo() as server, Proxy(lambda number: cut) as proxy:
        reader, writer = await asyncio.open_connection(LOCAL, proxy.front(server))
        writer.write(bytes(5000))
        if how is End.RESET:
            with pytest.raises(ConnectionResetError):
                while await reader.read(100):
                    pass
        else:
            assert len(await reader.read()) <= 1000
        writer.close()
        assert (proxy.up if up else proxy.down) == 1000


async def test_silence_after_so_many_bytes() -> None:
    async with echo() as server, Proxy(lambda number: Cut(down=1000, how=End.SILENCE)) as proxy:
        reader, writer = await asyncio.open_connection(LOCAL, proxy.front(server))
        writer.write(bytes(5000))
        assert await reader.readexactly(1000) == bytes(1000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(UNIT):
                await reader.read(1)
        writer.close()


async def test_black_hole_and_heal() -> None:
    async with echo() as server, Proxy() as proxy:
        port = proxy.front(server)
        reader, writer = await asyncio.open_connection(LOCAL, port)
        proxy.black_hole()
        writer.write(b"1")
        diallers = [asyncio.ensure_future(ask(port, b"2")) for _ in range(5)]
        done, _ = await asyncio.wait(diallers, timeout=3 * UNIT)
        assert not done
        assert not proxy.up
        proxy.heal(forget=False)
        assert await reader.read(1) == b"1"
        assert b"2" in await asyncio.gather(*diallers)
        writer.close()


async def test_a_black_hole_that_forgets() -> None:
    async with echo() as server, Proxy() as proxy:
        port = proxy.front(server)
        reader, writer = await asyncio.open_connection(LOCAL, port)
        writer.write(b"1")
        await reader.read(1)
        proxy.black_hole()
        proxy.heal()
        writer.write(b"2")
        assert await ask(port, b"3") == b"3"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(UNIT):
                await reader.read(1)
        writer.close()


async def test_refuse_and_welcome() -> None:
    async with echo() as server, Proxy() as proxy:
        port = proxy.front(server)
        assert await ask(port, b"1") == b"1"
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await ask(port, b"2")
        proxy.welcome()
        assert await ask(port, b"3") == b"3"


async def test_delay_and_rate() -> None:
    async with echo() as server, Proxy() as proxy:
        port = proxy.front(server)
        loop = asyncio.get_running_loop()
        proxy.delay = UNIT
        start = loop.time()
        await ask(port, b"1")
        assert 2 * UNIT <= loop.time() - start < 10 * UNIT
        proxy.delay = 0
        proxy.rate = 1_000_000 / UNIT / 10
        start = loop.time()
        await ask(port, bytes(300_000))
        assert loop.time() - start >= 2 * UNIT
