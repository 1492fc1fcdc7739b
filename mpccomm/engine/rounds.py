"""How deep the chains of messages are that a program has received: what it sends next is one deeper.

Each asyncio task goes on from where the task that made it is when the new one first sends, has received, or enters a phase, since
nothing tells when it was made; what it has received counts for its maker as soon as it has ended. So protocols that run side by
side in tasks don't add up. A task that has done none of that is passed over: the tasks that it makes then count as made by its own
maker. What threads receive counts for the whole program at once, as it can't be known which of them wait for each other; and so
does, when it has ended, what a task has received where no task above it had anything to do with the pool when it was made.
"""

from __future__ import annotations

import threading
from asyncio import Task, _get_running_loop, current_task
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from threading import get_ident
from typing import Any
from weakref import ref

from mpccomm.engine.lanes import task_on
from mpccomm.engine.loop_owner import LoopOwner


class _Scope:
    """What one task has received, and the tasks that it has made."""

    __slots__ = ("depths", "made", "task")

    def __init__(self, task: Task[Any] | None, depths: Mapping[str, int]) -> None:
        self.task = task
        self.depths = dict(depths)
        self.made: dict[_Scope, None] = {}
        """The scopes of the tasks that it has made, as long as they are not known to have ended."""

    def settle(self) -> None:
        """Take over the depths of the tasks that have ended."""
        for scope in list(self.made):
            if scope.task is None or scope.task.done():
                self.made.pop(scope, None)
                scope.settle()
                self.made.update(scope.made)
                for path, depth in scope.depths.items():
                    self.raise_to(path, depth)

    def raise_to(self, path: str, depth: int) -> None:
        if depth > self.depths.get(path, 0):
            self.depths[path] = depth


_scopes: ContextVar[Mapping[ref[Depths], _Scope]] = ContextVar("mpccomm.depths", default={})  # noqa: B039 - nothing changes it
"""By pool. The references are weak: what a task has in its context, it has as long as it lives."""


class Depths:
    """The depths of one pool, for each path of phases."""

    def __init__(self, owner: LoopOwner) -> None:
        self._owner = owner
        self._key = ref(self)
        self._of_tasks: dict[object, _Scope] = {}
        """The scopes of tasks that have not ended."""
        self._here = threading.local()
        self._threads: list[tuple[threading.Thread, _Scope]] = []

    def at(self, path: str) -> int:
        """Return the depth of what the calling task, or thread, has received."""
        owner = self._owner
        # As `scope`, without a call.
        known = self._of_tasks.get(task_on(owner.home)) if get_ident() == owner.thread else None
        scope = known or self._find_scope()
        if scope.made:
            scope.settle()
        found = scope.depths.get(path, 0)
        for _, other in self._threads:
            # Other threads settle their own scopes.
            depth = other.depths.get(path, 0)
            if depth > found:
                found = depth
        return found

    def scope(self) -> _Scope:
        """Return the scope of the calling task or thread; it is made on first use."""
        owner = self._owner
        # A task on the pool's loop that has a scope already: found without looking for the running loop, which takes longer.
        known = self._of_tasks.get(task_on(owner.home)) if get_ident() == owner.thread else None
        return known or self._find_scope()

    def _find_scope(self) -> _Scope:
        loop = _get_running_loop()
        task = None if loop is None else current_task(loop)
        scopes = _scopes.get()
        found = scopes.get(self._key)
        if found is not None and (task is None or found.task is task):
            return found
        thread = self._of_thread()
        if task is None:
            return thread
        if found is not None:
            # It may have made a task that was made through this one, and has ended since.
            found.settle()
        made = _Scope(task, {} if found is None else found.depths)
        maker = found or thread
        maker.made[made] = None
        _scopes.set({key: scope for key, scope in scopes.items() if key() is not None} | {self._key: made})
        self._of_tasks[task] = made
        # In a context of its own: that of the caller would keep all that is in it, as long as the task lives.
        task.add_done_callback(partial(_end, self._key, maker), context=Context())
        return made

    def _of_thread(self) -> _Scope:
        try:
            found: _Scope = self._here.scope
        except AttributeError:
            found = self._here.scope = _Scope(None, {})
            self._threads.append((threading.current_thread(), found))
            self._take_over_from_the_dead(found)
        found.settle()
        return found

    def _take_over_from_the_dead(self, scope: _Scope) -> None:
        """Have one scope for all threads that have ended, so that a program may start any number of them."""
        ended = [one for one in self._threads if not one[0].is_alive()]
        for _, other in ended:
            other.settle()
            for path, depth in other.depths.items():
                scope.raise_to(path, depth)
        # Removed last, so that their depths are found in one place or the other at any time.
        for one in ended:
            with suppress(ValueError):  # another new thread was first
                self._threads.remove(one)

    def forget(self, task: object) -> None:
        """Let go of a task that has ended: its result is not kept until the next call."""
        self._of_tasks.pop(task, None)


def _end(depths: ref[Depths], maker: _Scope, task: object) -> None:
    """Called at the end of a task. It may live longer than the pool, which it does not keep."""
    found = depths()
    if found is not None:
        found.forget(task)
    maker.settle()
