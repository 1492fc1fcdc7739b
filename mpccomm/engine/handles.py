"""The handles of sends, and the failures of sends whose handles the program has not looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

from mpccomm.display import plural
from mpccomm.engine.callbacks import Callbacks
from mpccomm.engine.futures import fail_if_inherited, resolve_on
from mpccomm.engine.loop_owner import LoopOwner, running_loop
from mpccomm.engine.observer import Involved, Observers
from mpccomm.engine.thread_futures import ThreadFuture
from mpccomm.errors import PoolClosedError
from mpccomm.logs import EventLog, LogEvent

_MOST_LISTED = 4
_PAUSE = 0.5
"""Seconds between two lines of the log."""
_KEPT = 1000
"""How many failures are remembered until the program looks at them. Further ones are only counted."""


class _Watched:
    """A future that notes whether the program has asked for its outcome, or has a callback that gets it."""

    looked_at = False
    involved: Involved = ()
    """The parties that its sends are for."""

    def result(self, *arguments: Any, **options: Any) -> Any:
        """Return the result, or raise the error, as any future of this kind does."""
        self._look()
        return super().result(*arguments, **options)  # type: ignore[misc]

    def exception(self, *arguments: Any, **options: Any) -> Any:
        """Return the error, or None, as any future of this kind does."""
        self._look()
        return super().exception(*arguments, **options)  # type: ignore[misc]

    def add_done_callback(self, *arguments: Any, **options: Any) -> None:
        """Have a function called with the handle when it is done, as any future of this kind does."""
        self._look()
        super().add_done_callback(*arguments, **options)  # type: ignore[misc]

    def _look(self) -> None:
        """Note that the program looks."""
        self.looked_at = True


class LoopHandle(_Watched, asyncio.Future[None]):
    """The handle of a send on the asyncio face."""

    __slots__ = ("owner",)

    def __init__(self, failures: Failures) -> None:
        super().__init__(loop=running_loop())
        self._failures = failures
        self.owner = failures.loop_owner

    def resolve(self, value: None, error: Exception | None) -> None:
        """Take the outcome of its sends."""
        resolve_on(self, self._failures.loop_owner, value, error)
        if error is not None:
            self._failures.note(self, error)

    def done(self) -> bool:
        """Do as any future does."""
        fail_if_inherited(self, self.owner)
        return super().done()

    def _look(self) -> None:
        super()._look()
        fail_if_inherited(self, self.owner)

    def __await__(self) -> Generator[Any, None, None]:
        self.looked_at = True
        if self.owner.inherited:
            fail_if_inherited(self, self.owner)
        observers = self._failures.loop_owner.observers
        if observers is None or self.done():
            return super().__await__()
        return self._await_observed(observers)

    def _await_observed(self, observers: Observers) -> Generator[Any, None, None]:
        end = observers.begin_wait(self.involved, further=True)
        try:
            return (yield from super().__await__())
        finally:
            if end is not None:
                end()

    __iter__ = __await__


class ThreadHandle(_Watched, ThreadFuture[None]):
    """The handle of a send on the blocking face."""

    def __init__(self, callbacks: Callbacks, failures: Failures) -> None:
        super().__init__(callbacks)
        self._failures = failures

    def _involved(self) -> Involved:
        return self.involved

    def resolve(self, value: Any, error: Exception | None) -> bool:
        """Take the outcome of its sends."""
        taken = super().resolve(value, error)
        if error is not None:
            self._failures.note(self, error)
        return taken


Handle: TypeAlias = LoopHandle | ThreadHandle
Failed: TypeAlias = Sequence[tuple[Handle, Exception]]
"""Handles of sends that have failed, and why."""


class Failures:
    """The failed sends of one pool. Each is logged when it fails, unless a call waits for it, and again at the end."""

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.loop_owner = loop_owner
        self._new: list[tuple[Handle, Exception]] = []
        self._old: Failed = ()
        self._more = 0
        self._next_line = 0.0
        self.told_by_party = False
        """Whether the end of the pool tells for each party what was not delivered: then it is not told for each handle too."""

    def note(self, handle: Handle, error: Exception) -> None:
        """Note that the sends of a handle have failed."""
        if handle.cancelled():
            return
        if self.told_by_party and isinstance(error, PoolClosedError):
            _forget([(handle, error)])
            return
        # Many may fail one after the other; and a call that waits for the handle looks at it in the next turn of the loop only.
        if not self._new:
            loop = self.loop_owner.loop
            loop.call_later(max(self._next_line - loop.time(), 0), self._settle)
        self._new.append((handle, error))

    def report(self) -> None:
        """Log the failures that the program has not looked at: those that were logged before by their number alone."""
        old, new = _unseen(self._old), _unseen(self._new)
        self._log(logging.ERROR, new, "the program has not looked at")
        if before := len(old) + self._more:
            text = "%s failed, as was logged, and the program has not looked at %s"
            arguments = plural(before, "send"), _handles(before)
            self._log_of(old)(LogEvent.SEND_FAILED, text, *arguments, level=logging.ERROR)
        _forget([*self._old, *self._new])
        self._old, self._new = (), []

    def _settle(self) -> None:
        self._next_line = self.loop_owner.loop.time() + _PAUSE
        failed, self._new = self._new, []
        self._log(logging.WARNING, _unseen(failed), "no call waits for")
        told = _unseen([*self._old, *failed])
        self._old, forgotten = told[:_KEPT], told[_KEPT:]
        self._more += len(forgotten)
        _forget(forgotten)

    def _log(self, level: int, failed: Failed, what: str) -> None:
        if failed:
            number = len(failed)
            more = f"; and {number - _MOST_LISTED} more" if number > _MOST_LISTED else ""
            listed = "; ".join(str(error) for _, error in failed[:_MOST_LISTED])
            arguments = plural(number, "send"), what, _handles(number), listed, more
            self._log_of(failed)(LogEvent.SEND_FAILED, "%s failed, and %s %s: %s%s", *arguments, level=level)

    def _log_of(self, failed: Failed) -> EventLog:
        names = dict.fromkeys(name for handle, _ in failed for name, _ in handle.involved)
        return self.loop_owner.log.of(", ".join(names))


def _unseen(failed: Failed) -> Failed:
    return [(handle, error) for handle, error in failed if not handle.looked_at]


def _handles(number: int) -> str:
    return "the handle" if number == 1 else "their handles"


def _forget(failed: Failed) -> None:
    for handle, _ in failed:
        if handle.done() and not handle.cancelled():
            handle.exception()  # otherwise asyncio would log it once more when the handle is collected
