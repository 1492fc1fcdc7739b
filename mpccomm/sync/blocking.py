"""Waiting in a thread for something that happens on the pool's loop, in a way that Ctrl-C can end without loss.

A signal handler may raise between any two steps of this thread. So a wait rests on one bare lock, which nothing can be left
holding, and whoever waits has a `Ticket` with all that was started for it: whatever the exception, what had been handed over
and did not reach the caller goes back into its box.
"""

from __future__ import annotations

import contextlib
import sys
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mpccomm.engine.delivery import read
from mpccomm.engine.requests import Call, ReceiveCall
from mpccomm.errors import PoolClosedError

if TYPE_CHECKING:
    from mpccomm.engine.loop_owner import LoopOwner
    from mpccomm.engine.party import Party

T = TypeVar("T")

_POLL = 0.1 if sys.platform == "win32" else -1
"""Seconds; on Windows waiting for a lock can't be interrupted, so there it is done in short pieces."""


class Slot(Generic[T]):
    """Wakes one waiting thread from the loop's thread, once; what the call has brought is on the call."""

    __slots__ = ("_error", "_lock")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._error: Exception | None = None

    def resolve(self, value: T | None, error: Exception | None) -> None:
        """The result is there; to be called once."""
        self._error = error
        self._lock.release()

    def wait(self) -> Exception | None:
        """Block until the result is there; the error, if it is one. To be called once."""
        while not self._lock.acquire(True, _POLL):
            pass
        return self._error


class Ticket:
    """The calls that one blocking call of the user has under way.

    The caller stores True in ``redeemed`` as its very last step: a store can't be interrupted, a call could be.
    """

    __slots__ = ("_landed", "_loop_owner", "calls", "redeemed")

    def __init__(self, loop_owner: LoopOwner) -> None:
        self.redeemed = False
        self._loop_owner = loop_owner
        self.calls: list[Call] = []
        """In here before they are under way."""
        self._landed = False

    def read(self, at: int, party: Party) -> Any:
        """The value of the message that the ``at``-th call, a receive, has brought. What can't be read has been received."""
        call = self.calls[at]
        assert isinstance(call, ReceiveCall)
        assert call.message is not None
        try:
            return read(call.message, party)
        except Exception:
            call.message = None
            raise

    def give_back(self, grace: float) -> None:
        """End the calls. Messages that were handed over go back; returns when they have, or after ``grace`` seconds."""
        if not self.calls:
            return
        landed = allocate_lock()
        landed.acquire()

        def cancel() -> None:
            self._cancel()
            landed.release()

        while True:
            try:
                self._loop_owner.post(cancel)
                break
            except KeyboardInterrupt:
                # One more Ctrl-C, while the exception for the first is on its way to the user.
                continue
            except PoolClosedError:
                return
        landed.acquire(True, grace)

    def _cancel(self) -> None:
        if not self._landed:
            self._landed = True
            for call in self.calls:
                call.cancel()

    def __del__(self) -> None:
        # Only where `give_back` itself was interrupted before its first step.
        if self.calls and not self.redeemed and not self._landed:
            with contextlib.suppress(PoolClosedError):
                self._loop_owner.post(self._cancel)
