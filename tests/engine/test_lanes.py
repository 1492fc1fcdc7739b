"""Threads and tasks have numbers, and records learn of those that come later."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from mpccomm.engine.lanes import Lanes, lane, lane_of, of_tasks, running, task_on


def test_a_thread_has_one_and_another_thread_another() -> None:
    mine = lane()
    with ThreadPoolExecutor(1, thread_name_prefix="a/b") as threads:
        theirs = threads.submit(lane).result()
        assert threads.submit(lane).result() == theirs
    assert lane() == mine != theirs
    lanes = Lanes()
    assert lanes.names[mine] == threading.current_thread().name
    assert lanes.makers[mine] == -1


async def test_a_task_has_one_and_knows_the_one_that_has_made_it() -> None:
    lanes = Lanes()
    mine = lane()

    async def child() -> tuple[int, int]:
        return lane(), lane()

    first, again = await asyncio.create_task(child(), name="the child")
    assert first == again != mine
    assert lanes.makers[first] == mine
    assert lanes.names[first].endswith("/the child")


async def test_what_is_running_is_found_without_a_call_until_it_has_ended() -> None:
    async def child() -> tuple[object, int, int | None]:
        number = lane()
        task = running.get(asyncio.get_running_loop(), asyncio.current_task())
        assert lane_of(task_on(asyncio.get_running_loop())) == (number if running else None)
        return task, number, of_tasks.get(task)

    task, number, found = await asyncio.create_task(child())
    assert found == number
    await asyncio.sleep(0)
    assert task not in of_tasks


async def test_of_many_tasks_few_are_remembered() -> None:
    async def child() -> int:
        return lane()

    mine = lane()
    lanes = Lanes()
    numbers = [await asyncio.create_task(child()) for _ in range(3000)]
    assert [lanes.makers[number] for number in numbers] == [mine] * 3000
    later = Lanes()
    assert len(later.names) == len(later.makers) < 3000
    assert later.names[mine] == lanes.names[mine]


async def test_a_task_that_nobody_keeps_is_in_records_that_begin_while_it_runs() -> None:
    begun, end = asyncio.Event(), asyncio.Event()
    over = asyncio.Event()
    numbers = []

    async def child() -> None:
        numbers.append(lane())
        begun.set()
        await end.wait()
        numbers.append(lane())
        over.set()

    asyncio.create_task(child(), name="long")  # noqa: RUF006
    await begun.wait()
    lanes = Lanes()
    end.set()
    await over.wait()
    assert numbers[0] == numbers[1]
    assert lanes.names[numbers[0]].endswith("/long")


def test_records_are_told_of_those_that_are_made_while_they_are_kept() -> None:
    lanes, later = Lanes(), []
    thread = threading.Thread(target=lambda: later.append(lane()), name="later")
    thread.start()
    thread.join()
    assert lanes.names[later[0]] == "later"


def test_records_that_begin_and_end_in_many_threads_miss_none() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(50):
                kept = list(threads.map(lambda _: Lanes(), range(16)))
                list(threads.map(Lanes.close, kept[::2]))
                thread = threading.Thread(target=lane)
                thread.start()
                thread.join()
                heard = [max(lanes.names) for lanes in kept[1::2]]
                assert len(set(heard)) == 1
                assert max(max(lanes.names) for lanes in kept[::2]) < heard[0]
                del kept
    finally:
        sys.setswitchinterval(interval)
