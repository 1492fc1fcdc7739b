"""The threads and tasks of the program by numbers, which traces call lanes.

Looking up the lane of a call has to cost next to nothing, since each message does it. So a lane is made on its first call, and
told then to all records that are being made.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import _get_running_loop
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, ref

_SPARE = 1000
"""How many lanes that have ended are remembered, in any case, by name."""


class _Known:
    """What is known of lanes, by their numbers.

    (In two dicts, without an object for each: many of those would set off the garbage collector.)
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.makers: dict[int, int] = {}
        """The number of the lane that has made it; -1: it is a thread, or was made by something that has no lane."""

    def add(self, number: int, maker: int, name: str) -> None:
        """Take note of one."""
        self.makers[number] = maker
        self.names[number] = name


class Lanes(_Known):
    """What is known of all lanes, also of those that are made later."""

    def __init__(self) -> None:
        super().__init__()
        for told in _told[:]:
            if told() is None:
                _tell_no_more(told)
        _told.append(ref(self))
        self.makers.update(_living.makers)
        self.names.update(_living.names)

    def close(self) -> None:
        """Hear of no further ones."""
        _tell_no_more(ref(self))


def _tell_no_more(told: ref[Lanes]) -> None:
    with suppress(ValueError):  # another thread has done so
        _told.remove(told)


_numbers = count(1)
_told: list[ref[Lanes]] = []
"""Changed in single steps of C code, since traces begin and end in any thread."""
_living = _Known()
"""Those of threads and tasks that have not ended, and some others."""
_here: ContextVar[int] = ContextVar("mpccomm.lane", default=-1)
"""The lane of this context. A task begins with a copy of the context of its maker."""
_of_threads: WeakKeyDictionary[threading.Thread, int] = WeakKeyDictionary()
_thread = threading.local()
"""With the ``number`` of the lane of this thread, once it has one; for its tasks with its ``name``, and an empty ``context``."""

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
        return _find_for_thread() if task is None else _make_for(task)


def _find_for_thread() -> int:
    thread = threading.current_thread()
    number = _of_threads.get(thread)
    if number is None:
        number = next(_numbers)
        _tell(number, -1, thread.name.replace("/", "_"))
        _of_threads[thread] = number
    _thread.number = number
    return number


def _make_for(task: asyncio.Task[Any]) -> int:
    """Make one: in few steps, since a program may make a task for each message."""
    here = _thread
    try:
        name, context = here.name, here.context
    except AttributeError:
        name = here.name = threading.current_thread().name.replace("/", "_")
        context = here.context = Context()
    number = next(_numbers)
    _tell(number, _here.get(), f"{name}/{task.get_name()}")
    of_tasks[task] = number
    # In an empty context: that of the caller would keep all that is in it, as long as the task lives.
    task.add_done_callback(of_tasks.pop, context=context)
    return number


def _tell(number: int, maker: int, name: str) -> None:
    _here.set(number)
    _living.add(number, maker, name)
    for told in _told[:]:
        lanes = told()
        if lanes is not None:
            lanes.add(number, maker, name)
    if len(_living.names) > 2 * (len(of_tasks) + len(_of_threads) + _SPARE):
        _forget_the_dead(number - _SPARE)


def _forget_the_dead(before: int) -> None:
    """Forget the lanes of lower numbers that have ended. (One of a higher number may be about to be known for one that lives.)"""
    alive = {*list(of_tasks.values()), *list(_of_threads.values())}
    for number in list(_living.names):
        if number < before and number not in alive:
            _living.names.pop(number, None)
            _living.makers.pop(number, None)
