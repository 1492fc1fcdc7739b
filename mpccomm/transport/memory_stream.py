"""A connection within one process: as much of a WebSocket at either end as a stream uses. Each end may have a loop of its own."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from aiohttp import WSCloseCode, WSMsgType

from mpccomm.transport.stream import WebSocket

_BATCHES = 8
"""So many may be on their way in one direction."""


class Passage(NamedTuple):
    """How one batch fares."""

    delay: float = 0.0
    """Seconds until it is there; what is sent after it does not overtake it."""
    arrives: bool = True
    breaks: bool = False
    """Whether the connection breaks with it: nothing comes after it, nor back."""


class Course(Protocol):
    """What lies between the two ends. Called in the thread of whoever sends."""

    def passes(self, forth: bool, batch: bytes) -> Passage:
        """A batch is sent, from the first end to the second (``forth``) or back."""

    def over(self) -> None:
        """The connection was closed or is broken; called once or, where both ends are quick, twice."""


class _Clear:
    """Nothing at all."""

    def passes(self, forth: bool, batch: bytes) -> Passage:
        return _AT_ONCE

    def over(self) -> None:
        """Nobody keeps count."""


_AT_ONCE = Passage()


class _Message(NamedTuple):
    type: WSMsgType
    data: Any


_CLOSED = _Message(WSMsgType.CLOSED, None)


class _End:
    def __init__(self, loop: asyncio.AbstractEventLoop, course: Course, *, forth: bool) -> None:
        self.other = self
        self.close_code: int | None = None
        self.tls: ssl.SSLObject | None = None
        self._loop = loop
        self._course = course
        self._forth = forth
        self._arrived: deque[tuple[float, _Message]] = deque()
        self._latest = 0.0
        """When the last of what was sent from here is there, by `time.monotonic`."""
        self._something = asyncio.Event()
        self._admission = asyncio.Event()

    def get_extra_info(self, name: str) -> Any:
        """What is known of the TLS of a connection that this one stands for; there is nothing else below."""
        return self.tls if name == "ssl_object" else None

    # Whoever waits looks, clears the event, and waits; whoever has news for it changes what it looks at, and then has the
    # event set, on the loop of the one who waits. So no news are missed, whichever threads the two are in.

    async def receive(self) -> _Message:
        while self.close_code is None:
            remaining = None
            if self._arrived:
                due, message = self._arrived[0]
                remaining = due - time.monotonic() if due else 0
                if remaining <= 0:
                    self._arrived.popleft()
                    self.other._wake()
                    if message.type is not WSMsgType.BINARY:
                        self.close_code = message.data or WSCloseCode.ABNORMAL_CLOSURE
                    return message
            self._something.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._something.wait()
        return _CLOSED

    async def send_bytes(self, data: bytes) -> None:
        while self._open and len(self.other._arrived) >= _BATCHES:
            self._admission.clear()
            await self._admission.wait()
        if not self._open:
            raise ConnectionResetError("the connection is closed")
        passage = self._course.passes(self._forth, data)
        if passage.arrives:
            self._put(_Message(WSMsgType.BINARY, data), passage.delay)
        if passage.breaks:
            self._put(_CLOSED)
            self._end(WSCloseCode.ABNORMAL_CLOSURE)
            raise ConnectionResetError("the connection was cut")

    async def close(self, *, code: int = WSCloseCode.OK) -> bool:
        if self.close_code is None:
            self._put(_Message(WSMsgType.CLOSE, code))
            self._end(code)
        return True

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, in both directions."""
        for end in (self, self.other):
            if end.close_code is None:
                end._end(WSCloseCode.ABNORMAL_CLOSURE)

    @property
    def _open(self) -> bool:
        return self.close_code is None and self.other.close_code is None

    def _put(self, message: _Message, delay: float = 0.0) -> None:
        if delay:
            self._latest = max(self._latest, time.monotonic() + delay)
        self.other._arrived.append((self._latest, message))
        self.other._wake()

    def _end(self, code: int) -> None:
        self.close_code = code
        self._wake()
        self.other._wake()
        self._course.over()

    def _wake(self) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._set()
        else:
            # A loop that is closed has nobody who waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        self._something.set()
        self._admission.set()


class Pipe:
    """Two ends: ``ours`` on one loop, ``theirs`` on the same or another one."""

    def __init__(
        self,
        here: asyncio.AbstractEventLoop,
        there: asyncio.AbstractEventLoop,
        course: Course | None = None,
        tls: ssl.SSLObject | None = None,
    ) -> None:
        course = course or _Clear()
        self._end = _End(here, course, forth=True)
        self._end.tls = tls
        other = _End(there, course, forth=False)
        self._end.other, other.other = other, self._end
        self.ours = cast(WebSocket, self._end)
        self.theirs = cast(WebSocket, other)

    @property
    def open(self) -> bool:
        """Whether neither end was closed."""
        return self._end._open

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, in both directions. Any thread may call."""
        self._end.cut()

    def play(self, batches: list[bytes]) -> None:
        """Say all this at our end, whether there is room or not, and close."""
        for batch in batches:
            self._end._put(_Message(WSMsgType.BINARY, batch))
        self._end._put(_Message(WSMsgType.CLOSE, WSCloseCode.OK))
