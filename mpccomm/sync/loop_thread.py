"""An event loop in a daemon thread. Knows nothing of pools."""

from __future__ import annotations

import asyncio
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
        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def here(self) -> bool:
        """Whether this is the thread."""
        return threading.current_thread() is self._thread

    def start(self, first: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Start the thread; ``first`` is the first thing that runs in it, before this returns."""
        started = threading.Event()

        def begin() -> None:
            first(self.loop)
            started.set()

        self.loop.call_soon(begin)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """End the loop and the thread; idempotent. Not to be called on the thread itself."""
        if not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def abandon(self) -> None:
        """Ask the loop to end, without waiting; takes no lock, so that a finalizer may call it."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            self.loop.close()
