"""The threads and tasks of the program by numbers, which traces call lanes.

Looking up the lane of a call has to cost next to nothing, since each message does it. So a lane is made on its first call, and
told then to all records that are being made.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import _get_running_loop
from collections.abc import Mapping
from contextvars import Context, ContextVar
from itertools import count
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary


class Lane(NamedTuple):
    """A thread, or a task in one."""

    number: int
    maker: int
    """The number of the lane that has made it; -1: it is a thread, or was made by something that has no lane."""
    name: str


class Lanes(dict[int, Lane]):
    """All lanes by their numbers, also those that are made later."""

    def __init__(self) -> None:
        super().__init__()
        _told[id(self)] = self
        for lane in (*list(_of_threads.values()), *list(_made.values())):
            self[lane.number] = lane

    def close(self) -> None:
        """Hear of no further ones."""
        _told.pop(id(self), None)


_numbers = count(1)
_told: WeakValueDictionary[int, Lanes] = WeakValueDictionary()
_here: ContextVar[Lane | None] = ContextVar("mpccomm.lane", default=None)
"""The lane of this context. A task begins with a copy of the context of its maker."""
_of_threads: WeakKeyDictionary[threading.Thread, Lane] = WeakKeyDictionary()
_thread = threading.local()
"""With the ``number`` of the lane of this thread, once it has one."""
_made: dict[object, Lane] = {}


of_tasks: dict[object, int] = {}
"""The numbers of tasks, until they have ended. One that runs may have none yet."""
running: Mapping[object, object] = getattr(asyncio.tasks, "_current_tasks", {})
"""The task that runs on each loop, as `asyncio.current_task` finds it. Where Python keeps it elsewhere there is none in here."""
lane_of, task_on = of_tasks.get, running.get
"""The methods themselves: to look one up on an imported name takes longer than the call."""


def lane() -> int:
    """Return the number of the lane that calls.

    On the thread of a loop that runs, ``lane_of(task_on(loop))`` is the same in fewer steps, where it is not None. (What asks for
    the running loop costs as much as all the rest: before Python 3.12 it asks the system for the process.)
    """
    loop = _get_running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    try:
        return _thread.number if task is None else of_tasks[task]
    except (AttributeError, KeyError):
        return _make(task)


def _make(task: asyncio.Task[Any] | None) -> int:
    thread = threading.current_thread()
    found = _of_threads.get(thread) if task is None else _made.get(task)
    if found is None:
        name = thread.name.replace("/", "_")
        maker = None if task is None else _here.get()
        number = next(_numbers)
        found = Lane(
            number, -1 if maker is None else maker.number, name if task is None else f"{name}/{task.get_name()}"
        )
        _here.set(found)
        if task is None:
            _of_threads[thread] = found
            _thread.number = number
        else:
            _made[task] = found
            of_tasks[task] = number
            # In a context of its own: that of the caller would keep all that is in it, as long as the task lives.
            task.add_done_callback(_forget, context=Context())
        for lanes in list(_told.values()):
            lanes[number] = found
    return found.number


def _forget(task: object) -> None:
    of_tasks.pop(task, None)
    _made.pop(task, None)
