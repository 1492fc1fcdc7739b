"""Waiting in a thread for something that happens on the pool's loop, in a way that Ctrl-C can end without loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from mpccomm.calls import ReceiveCall, SendCall
    from mpccomm.home import Home

T = TypeVar("T")

Resolve: TypeAlias = Callable[[T | None, Exception | None], None]


def new_future() -> tuple[Future[T], Resolve[T]]:
    """A future for any thread, and the function that the pool's loop resolves it with."""
    future: Future[T] = Future()

    def resolve(value: T | None, error: Exception | None) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    return future, resolve


def collect(home: Home, calls: Sequence[ReceiveCall | SendCall], futures: Sequence[Future[T]], grace: float) -> list[T]:
    """Block until all are resolved: their results, or the first error.

    Whatever ends the waiting otherwise, be it an error of one of them or Ctrl-C: the others are cancelled, and a message
    that was handed over already goes back into its box, before the exception goes on.
    """
    try:
        return [future.result() for future in futures]
    except BaseException:
        landed = threading.Event()

        def cancel() -> None:
            for call in calls:
                call.cancel()
            landed.set()

        home.post(cancel)
        landed.wait(grace)
        raise
