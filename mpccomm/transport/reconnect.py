"""The dialler: it keeps trying as long as a connection is wanted, with capped and jittered pauses."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, Self

from mpccomm.settings import Retry
from mpccomm.transport.stream import Stream
from mpccomm.transport.tls import Verdict

_AT_ONCE = 4
_LONG = 1.0
"""Seconds after which a dial is one that takes long."""
_UNASKED = 10
"""The attempts that are made after a refusal, lest the other end was put right meanwhile; then only if a call waits."""


class DialPolicy(Protocol):
    """When not to dial."""

    @property
    def refusal(self) -> str:
        """Return why it would be in vain unless a configuration is changed; empty: it would not."""

    @property
    def not_before(self) -> float:
        """It was misbehaving: no connection to it until then, of `time.monotonic`."""


class Destination(Protocol):
    """The party that is dialled."""

    retry_now: asyncio.Event
    failed_dials: int

    @property
    def needs_connection(self) -> asyncio.Event:
        """Set while a connection is wanted, and none is being greeted."""

    @property
    def gives_way(self) -> bool:
        """Whether it is to dial first."""

    @property
    def reputation(self) -> DialPolicy:
        """When not to dial."""

    async def run_connection(self, stream: Stream, *, dialled: bool) -> None:
        """Run the connection to its end. Clears ``needs_connection`` while it is being greeted, and as long as it serves."""

    def dial_failed(self, trouble: str) -> None:
        """An attempt came to nothing."""

    def refused(self, verdict: Verdict) -> None:
        """An attempt came to nothing because one end does not accept the other."""


class DialError(Exception):
    """An attempt came to nothing; the text says why. With a verdict: one end does not accept the other."""

    def __init__(self, text: str, verdict: Verdict | None = None) -> None:
        super().__init__(text)
        self.verdict = verdict


class Connector(Protocol):
    """A way to one party."""

    async def __aenter__(self) -> Self:
        """Have ready what every attempt needs."""

    async def __aexit__(self, *exception: object) -> None:
        """Give it back."""

    async def dial(self) -> Stream:
        """A new connection.

        :raises DialError: there is none
        """


class DialSlots:
    """Few dials of a pool begin at a time, or on a busy machine none of them would be through in time.

    One that takes long gives its slot to the next, and goes on: no party waits for another that can't be reached.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot while dialling."""
        await self._free.acquire()
        long = asyncio.get_running_loop().call_later(_LONG, self._free.release)
        try:
            yield
        finally:
            if long.when() > asyncio.get_running_loop().time():
                long.cancel()
                self._free.release()


class Dialler:
    """Dials one party whenever it has no connection."""

    def __init__(
        self,
        destination: Destination,
        line: Connector,
        retry: Retry,
        slots: DialSlots,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        failed: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._line = line
        self._retry = retry
        self._slots = slots
        self._spawn = spawn
        self._failed = failed
        self._unasked = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with self._line:
            if self._destination.gives_way:
                await asyncio.sleep(self._retry.give_way)
            while True:
                await self._destination.needs_connection.wait()
                await asyncio.sleep(self._destination.reputation.not_before - time.monotonic())
                async with self._slots.one():
                    if not self._destination.needs_connection.is_set():
                        continue
                    started = time.monotonic()
                    await self._attempt()
                await self._pause(started)

    async def _attempt(self) -> None:
        destination = self._destination
        destination.retry_now.clear()
        try:
            stream = await self._line.dial()
        except DialError as error:
            if error.verdict is None:
                destination.dial_failed(str(error))
            else:
                destination.refused(error.verdict)
            self._failed()
            return
        destination.needs_connection.clear()
        self._spawn(destination.run_connection(stream, dialled=True))

    async def _pause(self, started: float) -> None:
        destination, retry = self._destination, self._retry
        while destination.reputation.refusal and not await self._urged():
            self._unasked += 1
            if self._unasked <= _UNASKED:
                break
        else:
            self._unasked = 0
        pause = random.uniform(0, min(retry.cap, retry.first * 2 ** min(destination.failed_dials, 30)))
        await asyncio.sleep(started + pause - time.monotonic())

    async def _urged(self) -> bool:
        """Return whether a call waits for it, although it was refused."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._retry.refused):
                return await self._destination.retry_now.wait()
        return False
