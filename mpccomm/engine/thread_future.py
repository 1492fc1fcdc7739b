"""A future that any thread can wait for, made of few objects: programs keep thousands of them, and the collector visits all."""

from __future__ import annotations

import concurrent.futures
import threading
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class ThreadFuture(concurrent.futures.Future[T]):
    """Resolved once, by the pool's loop."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = _Condition()  # type: ignore[assignment]

    def resolve(self, value: T | None, error: Exception | None) -> None:
        """The result is there; it is dropped when the future was cancelled."""
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)  # type: ignore[arg-type]
        except concurrent.futures.InvalidStateError:
            # Cancelled; those who wait for several futures are told only now.
            self.set_running_or_notify_cancel()


class _Condition:
    """What a future uses of `threading.Condition`, which it becomes when somebody waits: of a dozen objects, two."""

    __slots__ = ("_condition", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._condition: threading.Condition | None = None

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, traceback)

    def wait(self, timeout: float | None = None) -> bool:
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        return self._condition.wait(timeout)

    def notify_all(self) -> None:
        if self._condition is not None:
            self._condition.notify_all()
