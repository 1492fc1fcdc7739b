"""A loop whose time leaps over what would be waiting."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from mpccomm.transport.skipping import SkippingClock, SkippingLoop
from tests.timing import UNIT


def run(main: Callable[[], Awaitable[Any]]) -> tuple[Any, float, float]:
    """The result, and the seconds that passed on the loop's clock and on the wall."""
    with asyncio.Runner(loop_factory=partial(SkippingLoop, SkippingClock())) as runner:
        loop = runner.get_loop()
        before, begun = loop.time(), time.monotonic()

        async def awaited() -> Any:
            return await main()

        result = runner.run(awaited())
        return result, loop.time() - before, time.monotonic() - begun


def test_what_is_waited_for_is_there_at_once_and_in_order() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def later(seconds: int) -> None:
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(*(later(seconds) for seconds in (3000, 1000, 2000)))
        return order

    order, passed, waited = run(main)
    assert order == [1000, 2000, 3000]
    assert passed == pytest.approx(3000, abs=60)
    assert waited < 60


def test_time_is_skipped_again_when_a_thread_is_done() -> None:
    """Also where the loop has looked before it was quite done."""
    told = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        here = asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(here.set)
            told.wait()

        threading.Thread(target=loop.clock.elsewhere(work)).start()
        await here.wait()
        # When this is called, the loop has waited in real time for a while.
        timer = threading.Timer(UNIT, told.set)
        timer.start()
        await asyncio.sleep(1000)
        timer.join()

    _, passed, waited = run(main)
    assert passed >= 1000
    assert waited < 60


def test_a_time_limit_passes_too() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.get_running_loop().create_future()

    _, passed, _ = run(main)
    assert passed >= 1000


def test_time_is_real_while_something_runs_in_a_thread() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(None, time.sleep, 0.05)
        limit = asyncio.ensure_future(asyncio.sleep(1000))
        await asyncio.wait((working, limit), return_when=asyncio.FIRST_COMPLETED)
        first = "thread" if working.done() and not limit.done() else "limit"
        await limit
        return first

    first, passed, waited = run(main)
    assert first == "thread", "it would have taken 1000 s on the loop's clock"
    assert passed >= 1000
    assert 0.05 <= waited < 60


def test_what_is_ready_comes_before_time_is_skipped() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            loop.add_reader(ours, readable.set)
            theirs.send(b"x")
            try:
                async with asyncio.timeout(1000):
                    await readable.wait()
            finally:
                loop.remove_reader(ours)
        return True

    done, passed, _ = run(main)
    assert done
    assert passed < 1000
