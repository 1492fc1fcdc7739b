"""The pools that have a thread, and what happens to them when the process ends."""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Closable(Protocol):
    """What can be shut down."""

    @property
    def started(self) -> bool:
        """Whether it has a thread."""

    def shutdown(self) -> None:
        """Deliver, say goodbye, close."""


running: weakref.WeakSet[Closable] = weakref.WeakSet()


def _shut_down_all() -> None:
    """Each within its own ``linger``, and all at the same time."""
    pools = [pool for pool in list(running) if pool.started]
    if not pools:
        return
    for pool in pools:
        warnings.warn(f"{pool!r} was never shut down", ResourceWarning, stacklevel=1, source=pool)
    with ThreadPoolExecutor(len(pools)) as executor:
        list(executor.map(lambda pool: pool.shutdown(), pools))


def _register_at_exit(function: Callable[[], None]) -> None:
    # This one runs before the interpreter gives up its threads: executors, and with them name look-ups, still work then.
    # It is not public; where it is missing, atexit runs later and does nearly as well.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)


_register_at_exit(_shut_down_all)
