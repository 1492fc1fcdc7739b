"""Handles of sends that nobody blocks for, and the failures among them that nobody has looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

from mpccomm.display import plural
from mpccomm.engine.futures import resolving
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.thread_future import ThreadFuture

logger = logging.getLogger("mpccomm")

_LISTED = 8
_PAUSE = 0.5
"""Seconds between two lines of the log."""
_KEPT = 1000
"""So many failures are remembered until somebody looks; of further ones only the number."""


class _Watched:
    """A future that notes whether anybody has asked how it ended, or will be told."""

    looked_at = False

    def result(self, *timeout: float | None) -> Any:
        self.looked_at = True
        return super().result(*timeout)  # type: ignore[misc]

    def exception(self, *timeout: float | None) -> Any:
        self.looked_at = True
        return super().exception(*timeout)  # type: ignore[misc]

    def add_done_callback(self, *callback: Any, **context: Any) -> None:
        self.looked_at = True
        super().add_done_callback(*callback, **context)  # type: ignore[misc]


class LoopHandle(_Watched, asyncio.Future[None]):
    """For asyncio callers."""

    def __init__(self, failures: Failures) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._failures = failures

    def resolve(self, value: None, error: Exception | None) -> None:
        """Its sends have ended."""
        resolving(self, self.get_loop(), self._failures.loop_owner)(value, error)
        if error is not None:
            self._failures.note(self, error)

    def __await__(self) -> Generator[Any, None, None]:
        self.looked_at = True
        return super().__await__()

    __iter__ = __await__


class ThreadHandle(_Watched, ThreadFuture[None]):
    """For callers that block."""

    def __init__(self, failures: Failures) -> None:
        super().__init__()
        self._failures = failures

    def resolve(self, value: None, error: Exception | None) -> None:
        """Its sends have ended."""
        super().resolve(value, error)
        if error is not None:
            self._failures.note(self, error)


Handle: TypeAlias = LoopHandle | ThreadHandle


class Failures:
    """Those of one pool. Each is logged when it happens, unless somebody waits for it; and again at the end."""

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.loop_owner = loop_owner
        self._new: list[tuple[Handle, Exception]] = []
        self._old: list[tuple[Handle, Exception]] = []
        self._more = 0
        self._next_line = 0.0

    def note(self, handle: Handle, error: Exception) -> None:
        """The sends behind that handle failed."""
        if handle.cancelled():
            return
        # Many may fail one after the other, and whoever waits needs a turn of the loop to hear of it.
        if not self._new:
            loop = self.loop_owner.loop
            loop.call_later(max(self._next_line - loop.time(), 0), self._settle)
        self._new.append((handle, error))

    def report(self) -> None:
        """The pool is shut down: log what nobody has looked at until now."""
        failed = [*self._old, *self._new]
        self._old, self._new = [], []
        self._log(logging.ERROR, failed, "nobody looked at their handles")
        _forget(failed)

    def _settle(self) -> None:
        self._next_line = self.loop_owner.loop.time() + _PAUSE
        failed, self._new = self._new, []
        self._log(logging.WARNING, failed, "nobody waits for their handles")
        failed = [(handle, error) for handle, error in [*self._old, *failed] if not handle.looked_at]
        self._old, forgotten = failed[:_KEPT], failed[_KEPT:]
        self._more += len(forgotten)
        _forget(forgotten)

    def _log(self, level: int, failed: Sequence[tuple[Handle, Exception]], what: str) -> None:
        errors = [str(error) for handle, error in failed if not handle.looked_at]
        number = len(errors) + (self._more if level == logging.ERROR else 0)
        if number:
            more = f"; and {number - _LISTED} more" if number > _LISTED else ""
            failures = plural(number, "send")
            logger.log(level, "%s failed, and %s: %s%s", failures, what, "; ".join(errors[:_LISTED]), more)


def _forget(failed: Sequence[tuple[Handle, Exception]]) -> None:
    for handle, _ in failed:
        if handle.done() and not handle.cancelled():
            handle.exception()  # otherwise asyncio would say it once more when the handle goes
