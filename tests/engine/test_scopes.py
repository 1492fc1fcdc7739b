"""Blocks that end elsewhere, or in another order, than they began; for phases and deadlines, on both faces."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, aclosing
from typing import Any

import pytest

from mpccomm import Pool, SyncPool
from mpccomm.engine.deadlines import RemainingTime, tightened
from mpccomm.engine.report import _stays_of
from mpccomm.engine.scopes import Block, Stay, Stays
from tests.pools import pools, until

ALL: Stays[Stay] = Stays("test")


class Some(Block[Stay]):
    """A block that only has a name."""

    def __init__(self, name: str) -> None:
        super().__init__(ALL, name)

    def _begin(self, outer: Stay | None) -> Stay:
        return Stay(self, outer, time.perf_counter)


def here() -> list[str]:
    """What goes on, from the innermost outwards."""
    return [repr(stay.block) for stay in ALL]


def inside(block: AbstractContextManager[Any]) -> Generator[None, None, None]:
    with block:
        yield


async def inside_async(block: Any) -> AsyncGenerator[None, None]:
    async with block:
        yield


def test_they_nest() -> None:
    outer, inner = Some("outer"), Some("inner")
    with outer:
        with inner:
            assert here() == ["inner", "outer"]
        assert here() == ["outer"]
    assert here() == []
    assert ALL.last() is None


def test_one_block_is_entered_again_inside_of_itself() -> None:
    block = Some("again")
    with block, block:
        assert here() == ["again", "again"]
    assert here() == []


def test_it_ends_in_whichever_order() -> None:
    first, second = inside(Some("first")), inside(Some("second"))
    next(first)
    next(second)
    first.close()
    assert here() == ["second"]
    second.close()
    assert here() == []


def test_it_may_end_in_another_context() -> None:
    generator = inside(Some("there"))
    there = contextvars.copy_context()
    there.run(next, generator)
    assert (here(), there.run(here)) == ([], ["there"])
    generator.close()
    assert (here(), there.run(here)) == ([], [])


def test_blocks_that_overlap_without_end_take_no_memory() -> None:
    last = inside(Some("0"))
    next(last)
    for number in range(100):
        following = inside(Some(str(number)))
        next(following)
        last.close()
        last = following
    gc.collect()
    assert sum(isinstance(one, Stay) and isinstance(one.block, Some) for one in gc.get_objects()) < 5
    last.close()


def test_threads_in_the_same_block_leave_their_own() -> None:
    block = Some("shared")
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with block:
            entered.set()
            left.wait()

    thread = threading.Thread(target=other)
    with block:
        thread.start()
        entered.wait()
    assert here() == []
    assert len(block._entered) == 1
    left.set()
    thread.join()
    assert not block._entered


async def test_an_asynchronous_generator_that_is_left_by_break() -> None:
    async for _ in inside_async(Some("left")):
        break
    gc.collect()
    await until(lambda: not here())


async def test_tasks_pass_over_what_is_over() -> None:
    gone = asyncio.Event()

    async def later() -> list[str]:
        assert here() == ["maker"]
        gone.set()
        await asyncio.sleep(0)
        await gone_too.wait()
        return here()

    gone_too = asyncio.Event()
    async with Some("maker"):
        task = asyncio.create_task(later())
        await gone.wait()
    gone_too.set()
    assert await task == []


# -- on a pool ---------------------------------------------------------------------------------------------------------


def in_phase(pool: Pool | SyncPool) -> list[str]:
    return [stay.path for stay in _stays_of(pool._engine.count())]


def bounded(pool: Pool | SyncPool) -> list[float]:
    limit = tightened(pool._engine.loop_owner, None)
    return [limit.of] if isinstance(limit, RemainingTime) else []


KINDS: list[tuple[Callable[[Any, int], Any], Callable[[Any], list[Any]], list[Any]]] = [
    (lambda pool, number: pool.phase(f"number {number}"), in_phase, ["number 1", "number 1/number 2"]),
    (lambda pool, number: pool.deadline(100 * number), bounded, [100.0, 200.0]),
]


@pytest.mark.parametrize(("block", "found", "names"), KINDS, ids=["phase", "deadline"])
@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_generators(kind: type[Pool | SyncPool], block: Any, found: Any, names: list[Any]) -> None:
    pool = kind(name="alice")
    try:
        first, second = inside(block(pool, 1)), inside(block(pool, 2))
        next(first)
        next(second)
        first.close()
        assert found(pool) == names[1:]
        second.close()
        assert found(pool) == []
        async with aclosing(inside_async(block(pool, 1))) as generator:
            await asyncio.create_task(anext(generator))
        assert found(pool) == []
        async for _ in inside_async(block(pool, 1)):
            assert found(pool) == names[:1]
            break
        gc.collect()
        await until(lambda: not found(pool))
    finally:
        await (pool.shutdown() if isinstance(pool, Pool) else asyncio.to_thread(pool.shutdown))


async def test_what_is_sent_after_the_end_of_a_phase_is_not_in_it() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        outer, inner = inside(alice.phase("outer")), inside(alice.phase("inner"))
        with alice.trace() as trace:
            next(outer)
            await alice.send("Bob", 1)
            next(inner)
            await alice.send("Bob", 2)
            outer.close()
            await alice.send("Bob", 3)
            inner.close()
            await alice.send("Bob", 4)
        for _ in range(4):
            await bob.recv("Alice")
        report = alice.report()
    assert {path: figures.messages_sent for path, figures in report.items()} == {"": 4, "outer": 2, "outer/inner": 2}
    (party,) = trace.record.parties
    assert sorted(phase.path for phase in party.phases) == ["outer", "outer/inner"]
    assert [phase.ended < party.end for phase in party.phases] == [True, True]


async def test_a_phase_that_ends_in_another_lane_is_over_in_a_trace() -> None:
    async with pools("Alice") as (alice,):
        generator = inside_async(alice.phase("there"))
        with alice.trace() as trace:
            await asyncio.create_task(anext(generator))
            await generator.aclose()
            (phase,) = trace.record.parties[0].phases
            assert phase.ended < trace.record.parties[0].end


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize("entered", [0, 1, 2])
async def test_left_more_often_than_entered(face: type[Pool | SyncPool], entered: int) -> None:
    pool = face(name="Alice")
    for block, text in ((pool.deadline(30), "<a deadline of 30 s>"), (pool.phase("sums"), "<the phase 'sums'>")):
        for leave in (
            lambda b: asyncio.sleep(0, b.__exit__(None, None, None)),
            lambda b: b.__aexit__(None, None, None),
        ):
            for _ in range(entered):
                block.__enter__()
            for _ in range(entered):
                await leave(block)
            with pytest.raises(RuntimeError, match=f"{text} is left more often than it was entered: let a `with`"):
                await leave(block)
            with block:  # and it can be entered again
                pass
    await (pool.shutdown() if isinstance(pool, Pool) else asyncio.to_thread(pool.shutdown))


@pytest.mark.parametrize("face", [Pool, SyncPool])
def test_a_block_that_is_never_entered_warns_where_it_was_made(face: type[Pool] | type[SyncPool]) -> None:
    pool = face()
    for make, text in (
        (lambda: pool.deadline(30), "<a deadline of 30 s>"),
        (lambda: pool.phase("x"), "<the phase 'x'>"),
    ):
        with pytest.warns(RuntimeWarning, match=f"^{text} was never entered.*`with`") as caught:
            make()
        assert caught[0].filename == __file__


async def test_a_block_that_was_entered_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    pool = Pool()
    with pool.phase("offline"):
        async with pool.deadline(30):
            pass
    with pytest.raises(ValueError, match="seconds away"):
        pool.deadline(-1)
    del pool
    gc.collect()
    assert not recwarn.list
