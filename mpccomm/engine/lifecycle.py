"""The states of a pool, and every transition, as a table; and how threads wait for a state that is never left again."""

from __future__ import annotations

import sys
import time
from _thread import LockType, allocate_lock
from collections import deque
from contextlib import suppress
from enum import Enum

from mpccomm.engine.states import Table


class PoolState(Enum):
    """How far a pool has come."""

    NEW = "not used yet"
    RUNNING = "running"
    CLOSING = "shutting down"
    CLOSED = "shut down"
    INHERITED = "left in the parent process by a fork"


class PoolEvent(Enum):
    """The events that can change that state."""

    START = "it has a loop to live on"
    CLOSE = "it was told to end"
    END = "nothing of it is left"
    FORK = "this process is a fork of the one that it lives in"


_S, _E = PoolState, PoolEvent

POOL = Table(
    {
        (_S.NEW, _E.START): _S.RUNNING,
        (_S.NEW, _E.END): _S.CLOSED,
        (_S.NEW, _E.FORK): _S.INHERITED,
        (_S.RUNNING, _E.CLOSE): _S.CLOSING,
        (_S.RUNNING, _E.END): _S.CLOSED,  # its loop ended before it was closed
        (_S.RUNNING, _E.FORK): _S.INHERITED,
        (_S.CLOSING, _E.END): _S.CLOSED,
        (_S.CLOSING, _E.FORK): _S.INHERITED,
        (_S.CLOSED, _E.FORK): _S.CLOSED,
        (_S.INHERITED, _E.FORK): _S.INHERITED,
    }
)


class Lifecycle:
    """The state of one pool."""

    def __init__(self) -> None:
        self.state = PoolState.NEW

    @property
    def usable(self) -> bool:
        """Whether it takes calls."""
        return self.state is PoolState.NEW or self.state is PoolState.RUNNING

    def apply(self, event: PoolEvent) -> None:
        """Change the state by an event."""
        self.state = POOL[self.state, event]


_PIECE = 0.1 if sys.platform == "win32" else 0.5
"""Seconds for which a thread waits without a look at signals, as in a blocking call."""


class Gate:
    """Opened once; any number of threads wait for that.

    Each waits for a lock of its own, and what is changed is changed by single calls into C. So whatever a signal handler raises,
    and wherever: nothing is left locked, and opening never waits.
    """

    __slots__ = ("_sleepers", "opened")

    def __init__(self) -> None:
        self.opened = False
        self._sleepers: deque[LockType] = deque()

    def open(self) -> None:
        """Let all through, now and later; idempotent."""
        self.opened = True
        with suppress(IndexError):
            while True:
                self._sleepers.popleft().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is opened. False: the time is up, in seconds."""
        if self.opened:
            return True
        sleeper = allocate_lock()
        sleeper.acquire()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._sleepers.append(sleeper)
            while not self.opened:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                sleeper.acquire(True, _PIECE if left is None else min(_PIECE, left))
            return True
        finally:
            with suppress(ValueError):
                self._sleepers.remove(sleeper)
