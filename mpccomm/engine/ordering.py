"""Order among the messages that contain classes of the user, per party. All others bypass this.

Such classes may keep state from message to message: the first one to a party carries a key, say, and those that follow only
its number. So these messages are numbered in the order in which they were serialised, whichever threads do that, and
deserialised in the same order, whichever is received first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from mpccomm.errors import DecodingError
from mpccomm.interrupts import is_strike

if TYPE_CHECKING:
    from mpccomm.protocol.receiver import Incoming


class Ordering:
    """One per party. Reentrant: a ``deserialize`` method may receive something itself."""

    def __init__(self) -> None:
        self.reading = RLock()
        """Held while such a message is decoded."""


class SerialisingLock:
    """One per pool, held from the first class of the user in a message until the message has its place in the queue.

    Per pool, not per party: of two ``serialize`` methods that send to each other's party, each would wait for the other.
    Reentrant, as a ``serialize`` method may send something itself; also through another pool. Where two threads would wait for
    each other's pool in that way, the one that notices goes on, as if what it sends were sent by the method that it waits for.
    """

    __slots__ = ("_lock", "_owner")

    _waiting: ClassVar[dict[int, SerialisingLock]] = {}
    """Which lock each thread waits for."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._owner: int | None = None

    def acquire(self) -> None:
        """Take it, unless the thread that holds it waits for this one."""
        me = get_ident()
        if not self._lock.acquire(blocking=False):
            try:
                # Noted first: of several that come at the same time, the last one sees the circle.
                self._waiting[me] = self
                if self._waits_for(me):
                    return
                self._lock.acquire()
            finally:
                self._waiting.pop(me, None)
        self._owner = me

    def _waits_for(self, thread: int) -> bool:
        lock: SerialisingLock | None = self
        seen = set()
        while lock is not None and lock not in seen:
            seen.add(lock)
            owner = lock._owner
            if owner == thread:
                return True
            lock = None if owner is None else self._waiting.get(owner)
        return False

    def release(self) -> None:
        """Release it.

        :raises RuntimeError: it was not taken
        """
        self._lock.release()


class Serialising:
    """The time in which a message is encoded and queued; from `begin` to `end` it is the only one of its pool."""

    __slots__ = ("_lock", "held")

    def __init__(self, lock: SerialisingLock) -> None:
        self._lock = lock
        self.held: _Lock | None = None

    def begin(self) -> None:
        """Begin, as a class of the user is about to be serialised."""
        if self.held is None:
            # Ctrl-C may come between any two steps: a lock that was noted and not taken does no harm, the reverse would.
            self.held = _Held(self._lock)
            self._lock.acquire()

    def end(self) -> None:
        """End: the message has its place in the queue, or will not be sent."""
        held = self.held
        if isinstance(held, _Held):
            held.release()
            held.__class__ = _Released  # type: ignore[assignment]


class _Lock:
    """What both states of a lock are made of."""

    __slots__ = ("_lock",)

    _lock: SerialisingLock | None


class _Released(_Lock):
    """What is left of `_Held`: nothing written in Python runs when it goes, where an interrupt would be lost."""

    __slots__ = ()


class _Held(_Lock):
    """A lock that is held, or about to be. Given up, it is released: an interrupt may keep `Serialising.end` from being called."""

    __slots__ = ()

    def __init__(self, lock: SerialisingLock) -> None:
        self._lock = lock

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(RuntimeError):  # noted, and not taken
                lock.release()

    def __del__(self) -> None:
        self.release()


def read_in_order(message: Incoming, reading: RLock, decode: Callable[[Incoming], Any]) -> Any:
    """Decode those before this one first; each keeps its value, or its error, for its own receive."""
    with reading:
        value, error = _outcome(message, decode)
    if error is not None:
        raise error
    return value


def _outcome(message: Incoming, decode: Callable[[Incoming], Any]) -> tuple[Any, BaseException | None]:
    # Apart from the `with`, which does not end where a signal raises as a loop inside it goes back (since Python 3.12).
    undecoded = message.receiver.decode_order.undecoded
    while message.outcome is None:
        first = undecoded.popleft() if undecoded and undecoded[0].number < message.number else message
        try:
            first.outcome = _try(decode, first)
        except BaseException:
            # Ctrl-C: the next receive begins with this one.
            if first is not message:
                undecoded.appendleft(first)
            raise
        first.segments = []
    if undecoded and undecoded[0] is message:
        undecoded.popleft()
    return message.outcome


def try_to_begin(message: Incoming, ordering: Ordering) -> bool:
    """Return whether the message can be decoded without waiting for others. If so, `end` has to follow."""
    if not message.ordered:
        return True
    if not ordering.reading.acquire(blocking=False):
        return False
    if message.outcome is None and message.receiver.decode_order.undecoded[0] is not message:
        ordering.reading.release()
        return False
    return True


def end(message: Incoming, ordering: Ordering) -> None:
    """Note that the message has been decoded."""
    if message.ordered:
        ordering.reading.release()


def _try(decode: Callable[[Incoming], Any], message: Incoming) -> tuple[Any, BaseException | None]:
    try:
        return decode(message), None
    except DecodingError as error:
        return None, error
    except BaseException as error:
        if isinstance(error, Exception) or is_strike(error):
            raise
        return None, error
