"""The callbacks that programs add to handles. They run in a thread of their own, never on the pool's loop."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sized
from concurrent.futures import Future
from contextvars import Context
from queue import SimpleQueue
from typing import Any, NamedTuple

from mpccomm.display import plural
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.logs import LogEvent


class Callback(NamedTuple):
    """What is called with a handle, in which context."""

    function: Callable[[Any], object]
    context: Context


class Callbacks:
    """Runs the callbacks of the handles of one pool, in the order in which the handles were done, in a thread of its own.

    They are the program's: they may block, raise what they like, or call the pool. The loop goes on meanwhile; other callbacks
    wait, which `notice` tells.
    """

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.loop_owner = loop_owner
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._at_work = 0
        """The number of the thread, once it runs."""
        self._running: _Running | None = None
        """The callback that runs in it."""

    def call(self, callback: Callback, handle: Future[Any], later: Sized) -> None:
        """Run a callback here; those in ``later`` have to wait for it."""
        if threading.get_ident() != self._at_work:
            self._call(callback, handle)
            return
        # A callback may add another one to a handle that is done already: that one runs inside the first.
        around = self._running
        self._running = _Running(callback.function, time.monotonic(), later)
        try:
            self._call(callback, handle)
        finally:
            self._running = around

    def _call(self, callback: Callback, handle: Future[Any]) -> None:
        try:
            callback.context.run(callback.function, handle)
        except BaseException as error:
            # `sys.exit` ends a thread that is the program's own; but further callbacks need the one that is for them.
            if not isinstance(error, Exception) and threading.get_ident() != self._at_work:
                raise
            self.loop_owner.log(LogEvent.CALLBACK_FAILED, "a callback of %r raised", handle, exc_info=True)

    def notice(self, after: float) -> None:
        """Tell of a callback that has held up others for as many seconds, or twice as long as when that was told before."""
        running = self._running
        if running is None:
            return
        lasted = time.monotonic() - running.since
        waiting = self._waiting.qsize() + len(running.later)
        if waiting and lasted >= max(after, 2 * running.told):
            running.told = lasted
            self.loop_owner.log(
                LogEvent.CALLBACK_BLOCKS,
                "the callback %s has been running for %.0f s, and holds up %s: one thread runs those of all handles of this pool, "
                "one after the other. What takes long belongs in a thread or an executor of your own",
                _name(running.callback),
                lasted,
                plural(waiting, "other callback"),
            )

    def run(self, function: Callable[[], None]) -> None:
        """Run it in that thread. Called on the pool's loop."""
        self._waiting.put(function)
        if self._thread is None:
            name = f"{self.loop_owner.title}, callbacks"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is about to end, and can't start threads any more.
                self._waiting.put(None)
                self._work()
            else:
                self._thread = thread

    def end(self) -> None:
        """Let the thread end when it has done what it was given."""
        if self._thread is not None:
            self._waiting.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, but only for that time: a callback can't be stopped."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive():
                self.loop_owner.log(
                    LogEvent.ENDING_LATE,
                    "the pool is shut down, and a callback of one of its handles still runs in %s",
                    thread.name,
                )

    def _work(self) -> None:
        self._at_work = threading.get_ident()
        while (function := self._waiting.get()) is not None:
            try:
                function()
            except BaseException:
                # For example `sys.exit`, which ends the thread that calls it: but further callbacks need this thread.
                self.loop_owner.log(LogEvent.CALLBACK_FAILED, "a callback of a handle raised", exc_info=True)
            finally:
                del function  # it keeps the handle, which the program may have forgotten


class _Running:
    """A callback that runs."""

    __slots__ = ("callback", "later", "since", "told")

    def __init__(self, callback: Callable[[Any], object], since: float, later: Sized) -> None:
        self.callback = callback
        self.since = since
        self.later = later
        self.told = 0.0
        """How long it had been running when the log last told of it, in seconds; 0: the log did not yet."""


def _name(callback: object) -> str:
    """Return module and name of a function. Its arguments are left out: they may be secret."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{named.__module__}.{named.__qualname__}"
