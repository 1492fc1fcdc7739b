"""A connection that carries batches in both directions, as a party sees it; and a party as a transport sees it.

There is no task and no queue between the two: what arrives is handed on where it arrives, and what is to be sent is fetched
once per turn of the loop, as long as the other end takes it.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from mpccomm.interrupts import is_strike
from mpccomm.protocol.frames import MAX_BATCH
from mpccomm.protocol.states import CloseCode

PATH = "/mpccomm"
MAX_MESSAGE = MAX_BATCH
CLOSE_TIMEOUT = 2.0
"""Seconds that a connection may take to close; then it is aborted, unless what was sent still gets through."""
_SLOW_CLOSE = 10.0
"""Seconds that it may take then at most."""


class Peer(Protocol):
    """The user of a stream: it takes the batches that arrive, and returns those to send."""

    @property
    def more(self) -> bool:
        """Whether there is more to send than the last batch had room for."""

    def batch_received(self, batch: bytes | memoryview) -> None:
        """Take a batch. What is to be kept of it has to be copied: its memory is used again when this has returned."""

    def heard(self) -> None:
        """Note a sign of life: a part of a batch has arrived."""

    def closed(self) -> None:
        """Note that the other side has closed the connection: it takes nothing more. The end may take a while."""

    def batch_to_send(self, budget: int) -> bytes:
        """Return the next batch to send, of about ``budget`` bytes; empty: nothing now, `Stream.wake` will tell."""


class Stream(ABC):
    """One connection, from the end of its set-up to its own. Lives on one loop.

    Until `run` only the first batch is accepted, and kept: its sender says in it who it is.
    """

    ended_with: int | None = None
    """The close code that the other side gave, if it gave one."""
    relayed = False
    """Whether it goes through a relay; a direct one is preferred."""
    proxied = False
    """Whether it goes through a forward proxy."""
    violation = ""
    """What has arrived that is no batch, and has ended the connection; empty: nothing."""
    _first: bytes | memoryview | None = None
    _limit: asyncio.TimerHandle | None = None
    _patient_until = 0.0
    _late = False
    """Whether its time to send what is still to be sent is over."""
    _error: BaseException | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._peer: Peer | None = None
        self._deliver: Callable[[bytes | memoryview], None] = self._keep_first
        self._held = False
        """Whether delivering is paused."""
        self.awake = False
        """Whether it will fetch what is to be sent in this turn of the loop or in the next one."""
        self.budget = MAX_MESSAGE
        """Bytes to be sent at a time."""
        self._full = False
        """Whether the other end takes nothing more for now."""
        self._close_code: int | None = None
        self._said_close = False
        self._begun: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    # -- what carries the batches ------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS knows of the other end; None on plain HTTP."""
        return None

    @abstractmethod
    def _send(self, batch: bytes) -> None:
        """Send a batch."""

    @abstractmethod
    def _say_close(self, code: int) -> None:
        """Tell the other side that the connection is closed, with a code."""

    @abstractmethod
    def _abort(self) -> None:
        """Give the connection up as it is; `_over` is called soon."""

    @abstractmethod
    def _release(self) -> None:
        """Go on delivering what arrives."""

    def look(self) -> bool:
        """Return whether a part of a record of TLS has arrived since this was called last, and nothing else.

        Called now and then, as nothing tells of it. End the connection at once where it is barren.
        """
        if self._close_code is not None or self._ended.done():
            return False
        if self._is_barren():
            self.violation = "records of TLS that carry nothing, without end"
            self.abort()
        return self._arrives_in_part()

    def _arrives_in_part(self) -> bool:
        """Return whether bytes have arrived lately of which nothing came out, as far as that can be told."""
        return False

    def _is_barren(self) -> bool:
        """Return whether much has arrived of which TLS makes nothing, as far as that can be told."""
        return False

    def moving(self, within: float) -> float | None:
        """Return the seconds that the rest of what was sent takes, if some of it got through since this was asked last; or None.

        :param within: for no longer than these seconds something was on its way
        """
        return None

    @property
    def unsent(self) -> bool:
        """Whether something was sent that the other end's system has not taken, as far as that can be told."""
        return False

    @property
    def passing_on(self) -> bool:
        """Whether a relay or proxy may still have some of what was sent before the end, with that end."""
        return (self.relayed or self.proxied) and self._said_close and not self._ended.done()

    # -- using it ------------------------------------------------------------------------------------------------------

    async def first(self) -> bytes | memoryview | None:
        """Wait for the first batch; `run` delivers it. None: the connection ended before, or is about to."""
        await asyncio.wait((self._begun,))
        return self._first

    async def run(self, peer: Peer) -> None:
        """Carry batches until either side closes, or the connection breaks."""
        self._peer = peer
        self._deliver = peer.batch_received
        try:
            first, self._first = self._first, None
            if first is not None:
                peer.batch_received(first)
            if self._held:
                self._release()
            self.wake()
            await self.ended()
        finally:
            self.abort()
        if self._error is not None:
            raise self._error

    async def ended(self) -> None:
        """Wait for the end."""
        await asyncio.wait((self._ended,))

    def resume(self) -> None:
        """Fetch what there is to send, if what a signal handler raised has kept the loop from doing so. Called now and then."""
        self.awake = False

    def wake(self) -> None:
        """Send what there is to send, in the next turn of the loop, together with all that is added until then."""
        if not self.awake:
            self.awake = True
            self._loop.call_soon(self._flush)

    def wake_in(self, queue: deque[Callable[[], None]]) -> None:
        """Send what there is to send when the functions in that queue are run, all of them in this turn of the loop."""
        if not self.awake:
            self.awake = True
            queue.append(self._flush)

    @property
    def closing(self) -> bool:
        """Whether this side ends the connection."""
        return self._close_code is not None

    def close(self, code: int, patience: float = 0.0) -> None:
        """Send what is still to be sent, then close, all within `CLOSE_TIMEOUT`.

        On a slow line only what is on its way by then arrives, the end of the link among it, which comes before all messages.

        :param patience: seconds for which the other end may take nothing of what was sent before it is given up
        """
        if self._close_code is None:
            self._close_code = code
            self._patient_until = self._loop.time() + patience
            self._expire()
            self.wake()

    def dismiss(self, code: int) -> None:
        """Close; where the other end doesn't take what was sent before, end it at once, without a word."""
        if self._stuck:
            self.abort()
        else:
            self.close(code)

    @property
    def _stuck(self) -> bool:
        """Whether the other end doesn't take what was sent."""
        return self._full

    def abort(self) -> None:
        """End it at once, without a word."""
        if not self._ended.done() and not self._loop.is_closed():
            self._abort()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _keep_first(self, batch: bytes | memoryview) -> None:
        self._first = batch
        self._held = True
        self._met()

    def _met(self) -> None:
        if not self._begun.done():
            self._begun.set_result(None)

    def _flush(self) -> None:
        self.awake = False
        if self._full or self._said_close:
            return
        peer = self._peer
        try:
            if peer is not None and (batch := peer.batch_to_send(self.budget)):
                self._send(batch)
                if peer.more and not self._late:
                    # Let others use the loop as well.
                    self.wake()
                    return
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            return
        if self._close_code is not None:
            self._said_close = True
            self._say_close(self._close_code)

    def _violated(self, what: str) -> None:
        """End the connection: something has arrived that is no batch. What comes after it is ignored."""
        self.violation = what
        self._met()
        self.close(CloseCode.VIOLATION)

    def _fail(self, error: BaseException) -> None:
        """End the connection by an error of our own. `run` raises it, unless a signal handler has raised it."""
        if not is_strike(error):
            self._error = self._error or error
        self.abort()

    def _expire(self) -> None:
        """Give it `CLOSE_TIMEOUT` from now."""
        if self._limit is None and not self._ended.done():
            self._limit = self._loop.call_later(CLOSE_TIMEOUT, self._expired, self._loop.time() + _SLOW_CLOSE)

    def _expired(self, last: float) -> None:
        """Give it more time if something gets through, or that is waited for; but add nothing more to what is on its way."""
        now = self._loop.time()
        moving = self.passing_on or self.moving(CLOSE_TIMEOUT) is not None
        if (now < last and moving) or (now < self._patient_until and self.unsent):
            self._late = True
            self._limit = self._loop.call_later(CLOSE_TIMEOUT, self._expired, last)
        else:
            self.abort()

    def _over(self) -> None:
        """End `run` and `first`: the connection has ended."""
        self._said_close = True
        if self._limit is not None:
            self._limit.cancel()
        self._met()
        if not self._ended.done():
            self._ended.set_result(None)
