"""Where a blocking pool lives: its engine and its thread, together to the end, also when the pool itself was forgotten."""

from __future__ import annotations

import atexit
import threading
import warnings
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from mpccomm.engine.engine import Engine
from mpccomm.sync.loop_thread import LoopThread
from mpccomm.sync.notebook_wakeup import keep_notebook_awake
from mpccomm.sync.sigterm import handle_sigterm

_lifetimes: set[LoopLifetime] = set()
"""Those whose thread has been started. Strong: a thread has to be wound up even where nobody remembers its pool."""


class LoopLifetime:
    """An engine that starts a thread of its own at its first use."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._thread = LoopThread(name)
        self._winding_up = False
        engine.launch = self._start
        engine.shut_down_in_background = self._finish

    def _start(self) -> None:
        self._thread.start(self._engine.start)
        _lifetimes.add(self)
        keep_notebook_awake(lambda: self.alive)
        handle_sigterm()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.alive

    @property
    def here(self) -> bool:
        """Whether this is the thread."""
        return self._thread.here

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function on the loop, and block until it is done. An exception here, like Ctrl-C, cancels it."""
        future = self._engine.loop_owner.submit(function)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what ends the pool, then end the thread; idempotent."""
        try:
            if self._thread.alive:
                self.run(function)
            else:
                self._engine.close_unused()
        finally:
            self._thread.stop()
            _lifetimes.discard(self)

    def wind_up(self) -> None:
        """Deliver, say goodbye, close, all of it in the background. Takes no lock: a finalizer may call it."""
        if self._winding_up or not self._thread.alive:
            return
        warnings.warn(f"the pool of thread {self._thread.name!r} was never shut down", ResourceWarning, stacklevel=2)
        self._finish()

    def _finish(self) -> None:
        if not self._winding_up:
            self._winding_up = True
            self._thread.finish(partial(self._engine.shutdown, self._engine.settings.linger), self._ended)

    def _ended(self) -> None:
        _lifetimes.discard(self)

    def join(self) -> None:
        """Wait for the thread to end."""
        self._thread.join()


def _at_exit() -> None:
    """Every pool within its own ``linger``, all at the same time."""
    lifetimes = list(_lifetimes)
    for loop_lifetime in lifetimes:
        loop_lifetime.wind_up()
    for loop_lifetime in lifetimes:
        loop_lifetime.join()


# The first one runs before the interpreter gives up its threads: executors, and with them name look-ups, still work then.
# It isn't public; where it is missing, atexit comes later and does nearly as well.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
