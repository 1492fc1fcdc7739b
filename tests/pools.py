"""Pools on loopback that know each other, and a view of what they log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mpccomm import Limits, Pool, Retry, Settings, Timing
from tests.timing import UNIT

LOCAL = "127.0.0.1"


def quick(limits: Limits | None = None, *, unreachable_timeout: float | None = None) -> Settings:
    """Return settings in which all waits and intervals are short."""
    timing = Timing(tick=UNIT / 2, deadlock_after=3 * UNIT, waiting_notice=2 * UNIT, greeting=5 * UNIT)
    return Settings(
        limits=limits or Limits(),
        timing=timing,
        retry=Retry(cap=2 * UNIT, give_way=UNIT),
        linger=20 * UNIT,
        unreachable_timeout=unreachable_timeout,
    )


@asynccontextmanager
async def pools(*names: str, settings: Settings | None = None, ready: bool = True) -> AsyncIterator[tuple[Pool, ...]]:
    """One pool per name, each with a server, each knowing all others by name; connected unless ``ready`` is False."""
    made = tuple(Pool(name=name, settings=settings or quick()) for name in names)
    try:
        for pool in made:
            pool.add_http_server(0, LOCAL)
        for pool in made:
            for name, other in zip(names, made, strict=True):
                if other is not pool:
                    pool.add_http_client(name, LOCAL, other.port)
        if ready:
            await asyncio.gather(*(pool.wait_ready(100 * UNIT) for pool in made))
        yield made
    finally:
        await asyncio.gather(*(pool.shutdown(20 * UNIT) for pool in made))


async def exchange(alice: Pool, bob: Pool, message: object = "hello") -> None:
    """Have Alice send Bob something, and Bob send it back."""
    limit = 100 * UNIT
    await alice.send("Bob", message, timeout=limit)
    assert await bob.recv("Alice", timeout=limit) == message
    await bob.send("Alice", message, timeout=limit)
    assert await alice.recv("Bob", timeout=limit) == message


async def until(condition: Callable[[], object], limit: float = 50 * UNIT) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - whatever the condition is, nobody sets an event for it
            await asyncio.sleep(UNIT / 50)


class Log:
    """The lines that were logged, to search in."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="mpccomm")
        self._caplog = caplog

    def lines(self, part: str, level: int = logging.DEBUG) -> list[str]:
        """Return the lines of at least that level with ``part`` in them, in order."""
        # Lines name their pool where there are several, which may be pools of an earlier test.
        return [
            record.getMessage().removeprefix(f"[{record.pool}] ")  # type: ignore[attr-defined]
            for record in self._caplog.records
            if record.name.partition(".")[0] == "mpccomm" and record.levelno >= level and part in record.getMessage()
        ]

    async def seen(self, part: str, level: int = logging.DEBUG, limit: float = 50 * UNIT) -> str:
        """Wait for such a line, and return the first one."""
        await until(lambda: self.lines(part, level), limit)
        return self.lines(part, level)[0]
