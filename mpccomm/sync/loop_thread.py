"""An event loop in a daemon thread. Knows nothing of pools."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any


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
        self.name = name
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
                self._thread = threading.Thread(target=self._run, args=(loop,), name=self.name, daemon=True)
                self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End the loop and the thread; idempotent. Not to be called on the thread itself."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()

    def finish(self, last: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], None]) -> None:
        """Let the loop run one more coroutine function, then end, without waiting for it here."""
        loop = self._loop
        assert loop is not None

        def begin() -> None:
            task = loop.create_task(last())
            task.add_done_callback(end)

        def end(task: asyncio.Task[None]) -> None:
            ended()
            loop.stop()

        with contextlib.suppress(RuntimeError):  # it is closed already
            loop.call_soon_threadsafe(begin)

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
