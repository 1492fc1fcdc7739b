"""An event loop in a daemon thread. Knows nothing of pools."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, otherwise asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """Runs a loop from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._started = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def here(self) -> bool:
        """Whether this is the thread."""
        return self._thread is not None and threading.current_thread() is self._thread

    def start(self, first: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Start the thread; ``first`` is the first thing that runs in it, before this returns. Once: later calls do nothing."""
        with self._starting:
            if self._thread is None:
                loop = self._loop = new_event_loop()

                def begin() -> None:
                    first(loop)
                    self._started.set()

                loop.call_soon(begin)
                self._thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
                self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End the loop and the thread; idempotent. Not to be called on the thread itself."""
        self.abandon()
        if self._thread is not None:
            self._thread.join()

    def abandon(self) -> None:
        """Ask the loop to end, without waiting; takes no lock, so that a finalizer may call it."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            _cancel_all(loop)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
