"""The states of a pool, and every transition, as a table."""

from __future__ import annotations

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
        self.has_additions = False
        """Whether something was added that is still to be started."""
        self.at_work = False
        """Whether it runs, with all that was added."""

    @property
    def usable(self) -> bool:
        """Whether it takes calls."""
        return self.state is PoolState.NEW or self.state is PoolState.RUNNING

    def apply(self, event: PoolEvent) -> None:
        """Change the state by an event."""
        self.state = POOL[self.state, event]
        self._look()

    def add(self) -> None:
        """Note that something was added that is to be started."""
        self.has_additions = True
        self._look()

    def started(self) -> None:
        """Note that all that was added is about to be started."""
        self.has_additions = False
        self._look()

    def _look(self) -> None:
        self.at_work = self.state is PoolState.RUNNING and not self.has_additions
