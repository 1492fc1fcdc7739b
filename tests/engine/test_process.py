"""The pools of one process together: the list of them, and those that wait for a loop of their thread.

What a fork and SIGTERM do to them is tested with programs, in `tests.sync.test_endings` and `tests.cli.test_run`.
"""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from mpccomm.engine.engine import ENGINES
from mpccomm.engine.lifecycle import PoolState
from tests.engine.nowhere import new_engine

pytestmark = pytest.mark.usefixtures("loop_factory")


def test_those_of_this_process_that_can_be_used() -> None:
    engine = new_engine()
    assert engine in ENGINES.usable()
    engine.close_unused()
    assert engine not in ENGINES.usable()
    number = len(ENGINES.all())
    del engine
    gc.collect()
    assert len(ENGINES.all()) < number, "the list keeps none alive"


def test_one_that_was_set_up_before_a_loop_ran_starts_with_the_next_that_does() -> None:
    first, second = new_engine(), new_engine()
    first.await_loop()

    async def main() -> None:
        second.launch()
        assert first.lifecycle.state is PoolState.RUNNING
        await asyncio.gather(first.ending.shutdown(0), second.ending.shutdown(0))

    asyncio.run(main())


def test_one_that_was_set_up_in_another_thread_does_not() -> None:
    first, second = new_engine(), new_engine()
    thread = threading.Thread(target=first.await_loop)
    thread.start()
    thread.join()

    async def main() -> None:
        second.launch()
        assert first.lifecycle.state is PoolState.NEW
        await second.ending.shutdown(0)

    asyncio.run(main())
    first.close_unused()
