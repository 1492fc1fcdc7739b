"""The dialler: it keeps trying as long as a connection is wanted, with capped and jittered pauses."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, Protocol, Self

from mpccomm.settings import Retry
from mpccomm.transport.stream import Stream
from mpccomm.transport.tls import Verdict

_AT_ONCE = 4
_LONG = 1.0
"""Seconds after which a dial gives its slot to another one."""
_UNASKED = 10
"""How many attempts are made after a refusal, as the other end may be corrected; then only if a call waits."""


class DialPolicy(Protocol):
    """When a party must not be dialled."""

    @property
    def not_before(self) -> float:
        """The time, by `Destination.clock`, before which there is no connection to a party that broke the protocol."""


class Destination(Protocol):
    """The party that is dialled."""

    retry_now: asyncio.Event
    """Set when a call waits for it, although it was refused."""
    dial_now: bool
    """Whether the next attempt is to be made at once."""
    pause: asyncio.Timeout | None
    """What ends the pause before the next attempt."""
    failed_dials: int
    dialling_since: float | None
    """When the present attempt began, by `clock`; None: there is none."""
    refusal: str
    """Why no dial can succeed unless a configuration is changed; empty: it may."""

    @property
    def clock(self) -> Callable[[], float]:
        """A monotonic clock, in seconds."""

    @property
    def longest_pause(self) -> float:
        """Seconds between two attempts at most."""

    @property
    def needs_connection(self) -> asyncio.Event:
        """Set while a connection is wanted, and none is in its handshake."""

    @property
    def gives_way(self) -> bool:
        """Whether the other side is to dial first."""

    @property
    def head_start(self) -> float:
        """Seconds that the other side has for that, until its call is seen to come."""

    @property
    def relayed(self) -> bool:
        """Whether it is connected, through a relay."""

    @property
    def reputation(self) -> DialPolicy:
        """When it must not be dialled."""

    async def run_connection(self, stream: Stream, *, dialled: bool) -> None:
        """Run the connection to its end. Clears ``needs_connection`` during its handshake, and as long as it serves."""

    def dial_failed(self, trouble: str, step: str | None = None) -> None:
        """Note that an attempt to connect has failed; ``step`` is that of a `DialError`."""

    def refused(self, verdict: Verdict) -> None:
        """Note that an attempt to connect has failed because one end does not accept the other."""


class DialError(Exception):
    """Raised where an attempt to connect has failed; the text says why. With a verdict: one end does not accept the other.

    Where it is not about the party, ``step`` is what to look at in the place of whether that runs; empty: the text says it.
    """

    def __init__(self, text: str, verdict: Verdict | None = None, step: str | None = None) -> None:
        super().__init__(text)
        self.verdict = verdict
        self.step = step


class DialTerms(NamedTuple):
    """What every dial of a party needs, on whichever way."""

    connect_timeout: float
    """Seconds."""
    context: Callable[[], ssl.SSLContext | None]
    """Returns the present context of TLS; None: no TLS."""
    examine: Callable[[ssl.SSLObject | None], Awaitable[str | None]]
    """Returns why the other end is not the party that was dialled, by what TLS knows of it; None: it is."""


class Connector(Protocol):
    """A way to one party."""

    async def __aenter__(self) -> Self:
        """Prepare what every attempt needs."""

    async def __aexit__(self, *exception: object) -> None:
        """Give it back."""

    async def dial(self) -> Stream:
        """Return a new connection.

        :raises DialError: there is none
        """

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt; less than that where something on the way has changed."""


class NoWay:
    """The way to a party that has no server, and has to call."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Do nothing: nothing was prepared."""

    async def dial(self) -> Stream:
        """Raise a `DialError` that says so."""
        raise DialError("it has no server (port 0), and has not called")

    async def pause(self, seconds: float) -> None:
        """Wait: nothing changes on the way."""
        await asyncio.sleep(seconds)


class DirectAttempts:
    """Tries now and then to reach a party directly, while it is connected through a relay."""

    def __init__(
        self,
        destination: Destination,
        direct: Connector,
        retry: Retry,
        slots: DialSlots,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._destination = destination
        self._direct = direct
        self._retry = retry
        self._slots = slots
        self._spawn = spawn

    async def run(self) -> None:
        """Dial whenever it is time, until this is cancelled."""
        destination = self._destination
        async with self._direct:
            while True:
                await asyncio.sleep(self._retry.direct * random.uniform(0.75, 1.25))
                if not destination.relayed or destination.refusal:
                    continue
                async with self._slots.one():
                    with suppress(DialError):
                        stream = await self._direct.dial()
                        self._spawn(destination.run_connection(stream, dialled=True))


class Ways:
    """Several ways to one party, the best first. Each is tried a little later than the one before, or at once when that fails.

    :param attempts: made at the best way, while another one serves
    """

    def __init__(
        self, ways: Sequence[tuple[str, Connector]], head_start: float, attempts: DirectAttempts | None = None
    ) -> None:
        self._ways = ways
        self._head_start = head_start
        self._attempts = attempts
        self._attempting: asyncio.Task[None] | None = None
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _, way in self._ways:
            await self._entered.enter_async_context(way)
        if self._attempts is not None:
            self._attempting = asyncio.ensure_future(self._attempts.run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        # A GeneratorExit says that the loop is closed already: nothing can be cancelled on it.
        if self._attempting is not None and exception[0] is not GeneratorExit:
            self._attempting.cancel()
            await asyncio.wait((self._attempting,))
        await self._entered.aclose()

    async def pause(self, seconds: float) -> None:
        """Wait until one of the ways is worth another attempt."""
        pauses = [asyncio.ensure_future(way.pause(seconds)) for _, way in self._ways]
        try:
            await asyncio.wait(pauses, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pause in pauses:
                pause.cancel()

    async def dial(self) -> Stream:
        """Return a new connection, on the way that is there first."""
        dials: dict[asyncio.Task[Stream], str] = {}
        failed: dict[str, DialError] = {}
        waiting = list(self._ways)
        try:
            while True:
                if waiting:
                    what, way = waiting.pop(0)
                    dials[asyncio.ensure_future(way.dial())] = what
                limit = self._head_start if waiting else None
                done, _ = await asyncio.wait(dials, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                for dial in sorted(done, key=list(dials).index):
                    what = dials.pop(dial)
                    if (error := dial.exception()) is None:
                        return dial.result()
                    if not isinstance(error, DialError):
                        raise error
                    failed[what] = error
                if not dials and not waiting:
                    raise _all_failed(failed)
        finally:
            await _give_up(dials)


def _all_failed(failed: Mapping[str, DialError]) -> DialError:
    if len(failed) == 1:
        return next(iter(failed.values()))
    text = "; ".join(f"{what}: {error.verdict.advice if error.verdict else error}" for what, error in failed.items())
    verdicts = [error.verdict for error in failed.values()]
    first = verdicts[0]
    # The end that does not accept us may not be the party: another way may still lead to it.
    if first is None or not all(verdicts):
        steps = [error.step for error in failed.values() if error.step is not None]
        return DialError(text, step=" ".join(dict.fromkeys(steps)) if len(steps) == len(failed) else None)
    return DialError(text, first._replace(text=text, unpinned=""))


async def _give_up(dials: Iterable[asyncio.Task[Stream]]) -> None:
    """End what was begun and is not needed."""
    for dial in dials:
        dial.cancel()
    for dial in dials:
        with suppress(asyncio.CancelledError, DialError):
            (await dial).abort()


class DialSlots:
    """Bounds how many dials of a pool begin at a time: on a busy machine many at once would all take too long.

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
        called: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``called`` waits while the party may be calling, as there is a connection from its host whose caller is not known yet."""
        self._destination = destination
        self._line = line
        self._retry = retry
        self._slots = slots
        self._spawn = spawn
        self._failed = failed
        self._called = called
        self._unasked = 0

    async def run(self) -> None:
        """Dial whenever it is time, until this is cancelled."""
        async with self._line:
            gave_way = False
            while True:
                if not self._destination.needs_connection.is_set():
                    gave_way = False
                    await self._destination.needs_connection.wait()
                if self._destination.gives_way and not gave_way:
                    gave_way = True
                    await self._give_way()
                await asyncio.sleep(self._destination.reputation.not_before - self._destination.clock())
                async with self._slots.one():
                    if not self._destination.needs_connection.is_set():
                        continue
                    started = self._destination.clock()
                    await self._attempt()
                await self._pause(started)

    async def _give_way(self) -> None:
        """Wait for a call: to dial at the same time would make two connections, of which one is dropped."""
        await self._unless_at_once(asyncio.sleep(self._destination.head_start))
        if self._called is not None and self._destination.needs_connection.is_set():
            # Over a long way a call takes longer to arrive as a whole than until it is seen to come.
            await self._unless_at_once(self._called(), self._retry.connect_timeout)

    async def _attempt(self) -> None:
        destination = self._destination
        destination.retry_now.clear()
        destination.dial_now = False
        destination.dialling_since = destination.clock()
        try:
            stream = await self._line.dial()
        except DialError as error:
            if error.verdict is None:
                destination.dial_failed(str(error), error.step)
            else:
                destination.refused(error.verdict)
            self._failed()
            return
        finally:
            destination.dialling_since = None
        destination.needs_connection.clear()
        self._spawn(destination.run_connection(stream, dialled=True))

    async def _pause(self, started: float) -> None:
        destination, retry = self._destination, self._retry
        while destination.refusal and not await self._is_needed():
            self._unasked += 1
            if self._unasked <= _UNASKED:
                break
        else:
            self._unasked = 0
        pause = random.uniform(0, min(destination.longest_pause, retry.first * 2 ** min(destination.failed_dials, 30)))
        await self._unless_at_once(self._line.pause(started + pause - destination.clock()))

    async def _unless_at_once(self, pausing: Awaitable[None], most: float | None = None) -> None:
        """Await the end of a pause, of ``most`` seconds, or that the next attempt is to be made at once."""
        destination = self._destination
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if destination.dial_now else most) as destination.pause:
                await pausing
        destination.pause = None

    async def _is_needed(self) -> bool:
        """Return whether a call waits for it, although it was refused."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._retry.refused):
                return await self._destination.retry_now.wait()
        return False
