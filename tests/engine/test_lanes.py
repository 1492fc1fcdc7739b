"""Threads and tasks have numbers, and records learn of those that come later."""

from __future__ import annotations

import asyncio
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
    assert lanes[mine].name == threading.current_thread().name
    assert lanes[mine].maker == -1


async def test_a_task_has_one_and_knows_the_one_that_has_made_it() -> None:
    lanes = Lanes()
    mine = lane()

    async def child() -> tuple[int, int]:
        return lane(), lane()

    first, again = await asyncio.create_task(child(), name="the child")
    assert first == again != mine
    assert lanes[first].maker == mine
    assert lanes[first].name.endswith("/the child")


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


def test_records_are_told_of_those_that_are_made_while_they_are_kept() -> None:
    lanes, later = Lanes(), []
    thread = threading.Thread(target=lambda: later.append(lane()), name="later")
    thread.start()
    thread.join()
    assert lanes[later[0]].name == "later"
