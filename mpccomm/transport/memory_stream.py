"""A connection within one process: a stream at either end. Each may have a loop of its own."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from mpccomm.transport.stream import MAX_MESSAGE, Stream

_BATCHES = 8
"""How many batches may be under way in one direction, on a path without delay."""
_BATCHES_FAR = 64
"""How many may be on a path with a delay."""


class Transit(NamedTuple):
    """What happens to one batch of bytes on the way."""

    delay: float = 0.0
    """Seconds until it arrives; a later batch does not overtake it."""
    hold: float = 0.0
    """Seconds for which the line takes in nothing more."""
    arrives: bool = True
    breaks: bool = False
    """Whether the connection breaks with it: nothing more arrives in either direction."""


class NetworkPath(Protocol):
    """The network between the two ends. Its methods are called in the thread of the end that sends."""

    @property
    def clock(self) -> Callable[[], float]:
        """The monotonic clock by which batches arrive, in seconds."""

    @property
    def distance(self) -> float:
        """Seconds that a batch is on its way at least."""

    @property
    def batch_size(self) -> int:
        """Bytes that it takes in at once."""

    @property
    def capacity(self) -> int:
        """How many batches are on their way where it is filled: those are beside what waits to be read."""

    def transfer(self, forth: bool, batch: bytes, now: float) -> Transit:
        """Return what happens to a batch that is sent from the first end to the second (``forth``) or back."""

    def closed(self) -> None:
        """Note that the connection was closed or is broken. Called once or, if both ends are quick, twice."""


class IdealPath:
    """A path without delay or faults."""

    clock = staticmethod(time.monotonic)
    distance: float = 0.0
    batch_size: int = MAX_MESSAGE
    capacity: int = 0

    def transfer(self, forth: bool, batch: bytes, now: float) -> Transit:
        """Let the batch arrive at once."""
        return _AT_ONCE

    def closed(self) -> None:
        """Do nothing: no connection is counted."""


_AT_ONCE = Transit()
_DONE = 1000
"""The close code of an ordinary end."""


_BREAK = None
"""In the place of a batch: the connection is broken. A number: it is closed, with that code."""


class _End(Stream):
    def __init__(self, loop: asyncio.AbstractEventLoop, path: NetworkPath, *, forth: bool) -> None:
        super().__init__(loop)
        self.other = self
        self._closed = False
        self._tls: ssl.SSLObject | None = None
        self.budget = path.batch_size
        self._path = path
        self._forth = forth
        self._most = (_BATCHES_FAR if path.distance else _BATCHES) + path.capacity
        self._arrived: deque[tuple[float, bytes | int | None]] = deque()
        self._clock = path.clock
        self._latest = 0.0
        """When the last batch sent from here arrives."""
        self._coming: asyncio.TimerHandle | None = None
        self._holding: asyncio.TimerHandle | None = None
        """While the line takes in nothing more."""

    @property
    def tls(self) -> ssl.SSLObject | None:
        """That of a connection which this one stands for; there is nothing else below."""
        return self._tls

    # Each end changes its own state on its own loop. What it does to the other is an entry in its deque, and a call there.

    def _send(self, batch: bytes) -> None:
        other = self.other
        if self._closed or other._closed:
            return
        transfer = self._path.transfer(self._forth, batch, self._clock())
        if transfer.arrives:
            self._put(batch, transfer.delay)
        if transfer.breaks:
            self._put(_BREAK)
            self._finish()
        elif transfer.hold:
            self._full = True
            self._holding = self._loop.call_later(transfer.hold, self._let_in)
        else:
            self._full = True
            # In this order: the other end looks at the two in the reverse order.
            self._full = len(other._arrived) >= self._most

    def _let_in(self) -> None:
        """Send again, if the other end has room: the line takes in more."""
        self._holding = None
        if len(self.other._arrived) < self._most:
            self._resume()

    def _say_close(self, code: int) -> None:
        self._put(code)
        self._finish()

    def _abort(self) -> None:
        self._put(_BREAK)
        self._finish()

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, in both directions."""
        for end in (self, self.other):
            end._closed = True
            end._call(end._finish)

    def _put(self, what: bytes | int | None, delay: float = 0.0) -> None:
        if self._closed:
            return
        if delay:
            self._latest = max(self._latest, self._clock() + delay)
        other = self.other
        other._arrived.append((self._latest, what))
        other._call(other._arrive)

    def _arrive(self) -> None:
        """Look at what has come."""
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        while self._arrived and not self._held and not self._closed:
            due, what = self._arrived[0]
            remaining = due - self._clock() if due else 0
            if remaining > 0:
                self._coming = self._loop.call_later(remaining, self._arrive)
                return
            self._arrived.popleft()
            other = self.other
            if other._full and len(self._arrived) < other._most:
                other._call(other._resume)
            if isinstance(what, bytes):
                try:
                    self._deliver(what)
                except BaseException as error:
                    self._fail(error)
                    if not isinstance(error, Exception):
                        raise
            else:
                self.ended_with = what
                self._finish()

    def _resume(self) -> None:
        """Send again, if the line takes in more: the other end has room."""
        if self._holding is None:
            self._full = False
            self.wake()

    def _release(self) -> None:
        self._held = False
        self._loop.call_soon(self._arrive)

    def _finish(self) -> None:
        self._closed = True
        if self._coming is not None:
            self._coming.cancel()
        if not self._ended.done():
            self._over()
            self._path.closed()

    def _call(self, what: Callable[[], None]) -> None:
        """Call a function on the loop of this end."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._loop.call_soon(what)
        else:
            # The loop is closed: no call waits there any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)


class Pipe:
    """Two ends: ``ours`` on one loop, ``theirs`` on the same or another one."""

    def __init__(
        self,
        here: asyncio.AbstractEventLoop,
        there: asyncio.AbstractEventLoop,
        path: NetworkPath | None = None,
        tls: ssl.SSLObject | None = None,
    ) -> None:
        path = path or IdealPath()
        self._end = _End(here, path, forth=True)
        self._end._tls = tls
        other = _End(there, path, forth=False)
        self._end.other, other.other = other, self._end
        self.ours: Stream = self._end
        self.theirs: Stream = other

    @property
    def open(self) -> bool:
        """Whether neither end was closed."""
        return not (self._end._closed or self._end.other._closed)

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, in both directions. Any thread may call."""
        self._end.cut()

    def play(self, batches: list[bytes]) -> None:
        """Say all this at our end, whether there is room or not, and close."""
        for batch in batches:
            self._end._put(batch)
        self._end._put(_DONE)
