"""Order among the messages that contain classes of the user, per party. All others bypass this.

Such classes may keep state from message to message: the first one to a party carries a key, say, and those that follow only
its number. So these messages are numbered in the order in which they were serialised, whichever threads do that, and
deserialised in the same order, whichever is received first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpccomm.engine.party import Party
    from mpccomm.protocol.receiver import Incoming


class Ordering:
    """One per party. Reentrant: a ``serialize`` method may send something itself."""

    def __init__(self) -> None:
        self.sending = RLock()
        """Held from the first class of the user in a message until the message has its place in the queue."""
        self.reading = RLock()
        """Held while such a message is decoded."""


class Serialising:
    """The time in which a message is encoded and queued; from `begin` to `end` it is the only one to these parties."""

    __slots__ = ("_held", "_parties")

    def __init__(self, parties: Sequence[Party]) -> None:
        self._parties = parties
        self._held: list[RLock] = []

    def begin(self) -> None:
        """A class of the user is about to be serialised."""
        # In one order, lest two broadcasts wait for each other.
        for party in sorted(self._parties, key=lambda party: party.name):
            lock = party.ordering.sending
            # Ctrl-C may come between any two steps: a lock that was noted and not taken does no harm, the reverse would.
            self._held.append(lock)
            lock.acquire()

    def end(self) -> None:
        """It has its place in the queue, or will not be sent."""
        for lock in reversed(self._held):
            with contextlib.suppress(RuntimeError):  # noted, and not taken
                lock.release()


def read_in_order(message: Incoming, reading: RLock, decode: Callable[[Incoming], Any]) -> Any:
    """Decode those before this one first; each keeps its value, or its error, for whoever receives it."""
    undecoded = message.receiver.turns.undecoded
    with reading:
        while message.outcome is None:
            first = undecoded.popleft() if undecoded and undecoded[0].number < message.number else message
            try:
                first.outcome = _try(decode, first)
            except BaseException:
                # Ctrl-C: whoever comes next begins with this one.
                if first is not message:
                    undecoded.appendleft(first)
                raise
            first.segments = []
        if undecoded and undecoded[0] is message:
            undecoded.popleft()
    value, error = message.outcome
    if error is not None:
        raise error
    return value


def try_to_begin(message: Incoming, ordering: Ordering) -> bool:
    """Whether the message can be decoded without waiting for others. If so, `end` has to follow."""
    if not message.ordered:
        return True
    if not ordering.reading.acquire(blocking=False):
        return False
    if message.outcome is None and message.receiver.turns.undecoded[0] is not message:
        ordering.reading.release()
        return False
    return True


def end(message: Incoming, ordering: Ordering) -> None:
    """The message has been decoded."""
    if message.ordered:
        ordering.reading.release()


def _try(decode: Callable[[Incoming], Any], message: Incoming) -> tuple[Any, Exception | None]:
    try:
        return decode(message), None
    except Exception as error:
        return None, error
