"""How calls and pools end while the connection is down, or the other side is silent; on both faces and loops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mpccomm import (
    Limits,
    PartyAbortedError,
    PartyShutDownError,
    PartyUnreachableError,
    Pool,
    Settings,
    SyncPool,
    Timing,
)
from tests.faults.proxy import End, Proxy
from tests.pools import LOCAL, Log, quick, until
from tests.timing import UNIT

LIMIT = 100 * UNIT
Face = type[Pool | SyncPool]

pytestmark = [pytest.mark.parametrize("face", [Pool, SyncPool]), pytest.mark.usefixtures("both_loops")]


async def do(pool: Pool | SyncPool, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of either face."""
    if isinstance(pool, SyncPool):
        return await asyncio.to_thread(getattr(pool, method), *arguments, **options)
    return await getattr(pool, method)(*arguments, **options)


class Line:
    """Alice, called through one of the faces, dials Bob through a network that can be cut."""

    def __init__(self, proxy: Proxy, face: Face, settings: Settings) -> None:
        self.proxy = proxy
        self.alice, self.bob = face(name="Alice", settings=settings), Pool(name="Bob", settings=settings)
        ours, self._port = proxy.front(), proxy.front()
        self.alice.add_http_server(0, LOCAL, external_port=ours)
        self.bob.add_http_server(0, LOCAL, external_port=self._port)
        proxy.aim(ours, 1)  # nothing listens there: Bob can't dial
        self.heal()
        self.alice.add_http_client("Bob", LOCAL, self._port)
        self.bob.add_http_client("Alice", LOCAL, ours)

    def cut(self, how: End = End.RESET) -> None:
        for connection in list(self.proxy.connections):
            connection.end(how)

    def close(self) -> None:
        """Nothing comes through any more, and that is told."""
        self.proxy.aim(self._port, 1)
        self.cut()

    def heal(self) -> None:
        assert self.bob.port is not None
        self.proxy.aim(self._port, self.bob.port)


@contextlib.asynccontextmanager
async def line(face: Face, settings: Settings | None = None) -> AsyncIterator[Line]:
    async with Proxy() as proxy:
        made = Line(proxy, face, settings or quick())
        try:
            await asyncio.gather(do(made.alice, "wait_ready", LIMIT), made.bob.wait_ready(LIMIT))
            yield made
        finally:
            await asyncio.gather(do(made.alice, "shutdown", 0), made.bob.shutdown(0))


def _is_back(pool: Pool | SyncPool, before: int) -> bool:
    return pool.stats["Bob"].reconnects > before


async def test_losses_that_are_over_do_not_count(face: Face) -> None:
    async with line(face, quick(unreachable_timeout=8 * UNIT)) as between:
        waiting = asyncio.ensure_future(do(between.alice, "recv", "Bob"))
        begun = time.monotonic()
        for _ in range(6):
            before = between.alice.stats["Bob"].reconnects
            between.cut()
            await until(partial(_is_back, between.alice, before))
            await asyncio.sleep(2 * UNIT)
        assert time.monotonic() - begun > 8 * UNIT
        assert not waiting.done()
        between.close()
        lost = time.monotonic()
        with pytest.raises(PartyUnreachableError, match=r"for \d"):
            await waiting
        assert time.monotonic() - lost > 7 * UNIT


@pytest.mark.parametrize(("way", "told"), [("abort", PartyAbortedError), ("shutdown", PartyShutDownError)])
async def test_the_end_is_told_when_the_connection_is_back(face: Face, way: str, told: type[Exception]) -> None:
    async with line(face) as between:
        waiting = asyncio.ensure_future(between.bob.recv("Alice"))
        between.close()
        await until(lambda: not between.alice.stats["Bob"].connected)
        ending = asyncio.ensure_future(do(between.alice, way, linger=LIMIT))
        await asyncio.sleep(2 * UNIT)
        assert not ending.done()
        between.heal()
        with pytest.raises(told):
            await waiting
        await ending


@pytest.mark.parametrize("way", ["abort", "shutdown"])
@pytest.mark.parametrize("how", [End.RESET, End.SILENCE])
async def test_it_lasts_no_longer_than_it_may(face: Face, way: str, how: End) -> None:
    async with line(face) as between:
        if how is End.RESET:
            between.close()
        else:
            between.cut(how)
        for _ in range(5):
            between.alice.asend("Bob", bytes(1_000_000)).cancel()
        begun = time.monotonic()
        await do(between.alice, way, linger=5 * UNIT)
        # Half a second to say goodbye in, where there is a connection; one that takes nothing has six times as long.
        assert time.monotonic() - begun < 0.5 + (15 if how is End.RESET else 50) * UNIT


async def test_both_send_and_leave_at_once(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with line(face) as between:
        for _ in range(3):
            between.alice.asend("Bob", "the last")
            between.bob.asend("Alice", "the last")
        begun = time.monotonic()
        await asyncio.gather(do(between.alice, "shutdown", LIMIT), between.bob.shutdown(LIMIT))
        assert time.monotonic() - begun < 20 * UNIT
    assert not log.lines("could not be delivered")
    assert not log.lines("dialling again"), "it is we who have left"


async def test_a_receive_on_one_channel_while_the_program_is_busy_with_another(face: Face) -> None:
    limits, timing = Limits(box_messages=10), Timing(tick=UNIT / 2, waiting_notice=UNIT, deadlock_after=None)
    async with line(face, replace(quick(limits), timing=timing)) as between:
        sends = [between.bob.channel("one").asend("Alice", number) for number in range(20)]
        sends.append(between.bob.channel("two").asend("Alice", "two"))
        one, two = between.alice.channel("one"), between.alice.channel("two")

        async def receive(channel: Any) -> Any:
            found = (
                channel.recv("Bob", timeout=LIMIT)
                if face is Pool
                else asyncio.to_thread(channel.recv, "Bob", None, LIMIT)
            )
            return await found

        waiting = asyncio.ensure_future(receive(two))
        await asyncio.sleep(5 * UNIT)
        assert not waiting.done()
        assert [await receive(one) for _ in range(20)] == list(range(20))
        assert await waiting == "two"
        await asyncio.gather(*sends)


@pytest.mark.parametrize("size", [1016, 1017, 1020, 1023, 1024, 1025])
async def test_ids_up_to_the_limit_are_carried(face: Face, size: int) -> None:
    async with line(face) as between:
        channel = between.bob.channel("one")
        for to, of, name in (
            (between.bob, between.alice, "x" * size),
            (channel, between.alice.channel("one"), "x" * (size - len("@[one]"))),
        ):
            if size > 1024:
                with pytest.raises(ValueError, match="1,025 bytes, prefix included: 1,024 are the limit"):
                    await to.send("Alice", 1, name)
                continue
            await to.send("Alice", size, name, LIMIT)
            received = of.recv("Bob", name, LIMIT) if face is Pool else asyncio.to_thread(of.recv, "Bob", name, LIMIT)
            assert await received == size
