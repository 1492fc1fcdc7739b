"""The end of a pool: what is pending is delivered, the others are told, all that runs is stopped, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

from mpccomm.engine.abc import Step
from mpccomm.engine.error_messages import split_by
from mpccomm.engine.futures import run, tell_all_who_wait
from mpccomm.engine.handles import Failures
from mpccomm.engine.lifecycle import Lifecycle, PoolEvent, PoolState
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import PATIENCE, Party
from mpccomm.engine.party_log import (
    tell_of_given_up,
    tell_of_lingering,
    tell_of_no_end,
    tell_of_remains,
    tell_of_undelivered,
)
from mpccomm.engine.removals import Removals
from mpccomm.engine.report import Reporter
from mpccomm.engine.server import PoolServer
from mpccomm.engine.takeover import Takeover
from mpccomm.errors import PoolClosedError
from mpccomm.logs import EventLog, LogEvent, LoggedPool
from mpccomm.protocol.sender import Outgoing
from mpccomm.settings import Settings

_LAST = 10
"""Seconds that the end may take beyond all that has limits of its own: nothing of it takes as long, but a party that is connected
and reads nothing."""


_LONG = 3600.0
"""Seconds. A longer time to linger counts as this one where such a party is waited for."""
_PATIENT = 1.0
"""Seconds after which an end that is not over yet says what it waits for."""
_TOLD_AGAIN = 30.0
"""Seconds after which it says so again."""

_Tell: TypeAlias = Callable[[EventLog, Party, Sequence[Outgoing]], str]


class Lingering:
    """The calls that wait for the end of a pool: the longest of them says until when it delivers."""

    def __init__(self) -> None:
        self._waits: list[tuple[float, float]] = []
        """Since when each waits, and how many seconds it gives."""

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._waits)

    def begin(self, now: float, seconds: float) -> tuple[float, float]:
        """Begin to wait. Any thread may call, and a finalizer."""
        wait = (now, seconds)
        self._waits.append(wait)
        return wait

    def end(self, wait: tuple[float, float]) -> None:
        """Wait no longer: only the calls that still wait are a reason to linger."""
        with suppress(ValueError):
            self._waits.remove(wait)

    def end_all(self) -> None:
        """End the lingering of all callers."""
        self._waits.clear()

    def deadline(self, begun_at: float) -> float:
        """Return until when a pool may deliver that began to run at that time; it may have been told to end before."""
        return max((max(since, begun_at) + seconds for since, seconds in self._waits), default=-math.inf)


class _Engine(Protocol):
    """As much of an engine as has to do with its end."""

    failures: Failures
    lifecycle: Lifecycle
    log: EventLog
    logged: LoggedPool
    loop_owner: LoopOwner
    parties: dict[str, Party]
    removals: Removals
    server: PoolServer
    settings: Settings
    takeover: Takeover

    @property
    def reporter(self) -> Reporter | None:
        """What counts for reports, once that is asked for."""

    def tell_of_failure(self, task: asyncio.Task[None]) -> None:
        """Log it if a task of the pool, which is done, has failed."""

    async def stop(self) -> None:
        """Stop what runs, and wait for its end. May be called once more where it was interrupted."""

    def close_unused(self) -> None:
        """Close all that needs no loop: the pool had none, or its loop has done what there was to do; idempotent."""

    def write(self) -> None:
        """Write what is to be written at the end."""


class PoolEnding:
    """The end of one pool, which comes once: all callers wait for the same. Methods run on the home loop, unless said otherwise."""

    running_since = 0.0
    """When the pool began to dial. If it was told to end before, its time to deliver counts from then."""
    split: PoolClosedError | None = None
    """Why the pool has ended by itself: what a signal handler raised has split its work."""
    _moved = -math.inf
    """When something got through, to whichever party, as it is to end."""
    _split_told = False
    _missed_told = False
    _writing = False
    """Whether a thread writes the traces, which takes as long as it takes."""
    _watching: AsyncGenerator[None, None] | None = None
    _task: asyncio.Task[None] | None = None
    _notice: asyncio.TimerHandle
    _begin_later: Callable[[], None] | None = None
    """What was asked for in the background."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._lingering = Lingering()

    @property
    def asked_for(self) -> bool:
        """Whether the pool was told to end, or has ended. Any thread may ask."""
        return bool(self._lingering) or not self._engine.lifecycle.usable

    def deadline(self, moved: float = -math.inf) -> float:
        """Return, and note, until when messages may be delivered to a party that took something at ``moved``, for the last time."""
        self._moved = max(self._moved, moved)
        return self._lingering.deadline(max(self.running_since, moved))

    def bound(self, moved: float) -> float:
        """Return until when messages may be delivered to a party that is being removed; infinite: the pool does not end."""
        return self.deadline(moved) if self.asked_for else math.inf

    # -- not asked for -------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Have the end of the loop noticed, should the program not shut the pool down before. Called on the loop."""
        self._watching = self._until_the_loop_ends()
        with suppress(StopIteration):
            # This runs up to the `yield`, and lets the loop know: it closes such generators at its end, after all tasks.
            self._watching.__anext__().send(None)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.tell_if_missed()

    def tell_if_missed(self) -> None:
        """Log it where the loop has ended, or does, and the program did not shut the pool down. Any thread may call."""
        engine = self._engine
        if engine.lifecycle.usable and engine.loop_owner.settled and not (self._lingering or self._missed_told):
            self._missed_told = True
            engine.write()
            tell_of_no_end(engine.log, list(engine.parties.values()))

    async def watch_no_more(self) -> None:
        """Leave the loop to others."""
        if self._watching is not None:
            await self._watching.aclose()

    async def write(self) -> None:
        """Write the traces while the loop goes on: other pools may live there, and a long trace takes seconds."""
        engine = self._engine
        loop = engine.loop_owner.loop
        written = loop.create_future()

        def work() -> None:
            try:
                engine.logged.context().run(engine.write)
            finally:
                with suppress(RuntimeError):  # the loop has been closed meanwhile
                    loop.call_soon_threadsafe(written.set_result, None)

        self._writing = True
        try:
            engine.loop_owner.run_in_worker(work)
            await asyncio.wait((written,))
        finally:
            self._writing = False

    # -- asked for by the program --------------------------------------------------------------------------------------

    async def shutdown(self, linger: float) -> None:
        """Deliver what is pending, tell the others, close. All who call this, or `abort`, wait for the one end.

        The longest ``linger`` counts; that of a caller who is cancelled doesn't count any more.
        """
        await self._end(linger, self._leave)

    async def abort(self, reason: str, linger: float) -> None:
        """Tell every party that we give up, for which a connection may have to be made first, and close."""
        await self._end(linger, partial(self._give_up, reason))

    async def from_anywhere(self, end: Step) -> None:
        """Await `shutdown` or `abort` on any loop.

        :raises PoolClosedError: the pool's loop has ended before the pool; its port is free now
        :raises WrongThreadError: the pool's loop can't run while this one does
        """
        owner = self._engine.loop_owner
        if self._over:
            return
        if owner.settled:
            if owner.loop.is_closed():
                self._engine.close_unused()
                raise PoolClosedError(
                    "the event loop of this pool ended before it: what was not delivered yet is lost, and the other parties "
                    "were not told; shut a pool down, or leave its `async with`, while its loop still runs"
                )
            owner.check()
        await run(end, owner)

    def begin_in_background(self, reason: str | None = None, *, forgotten: bool = False) -> None:
        """Begin to shut down, or with a reason to deliver and then abort.

        Takes no lock and waits for nothing: a finalizer may call it, in any thread.

        :param forgotten: the program dropped the pool without closing it, and perhaps makes another one at the same port
        """
        engine = self._engine
        self._lingering.begin(engine.loop_owner.clock(), engine.settings.linger)

        def begin() -> None:
            if engine.lifecycle.state is PoolState.RUNNING:
                self._begin(partial(self._leave, reason, forgotten=forgotten))

        # Its thread may be about to begin, after a first use that was interrupted.
        self._begin_later = begin
        self._post(begin)

    def begin_if_asked_for(self) -> None:
        """Begin, soon, if the pool was told to end in the background before it had a loop."""
        if self._begin_later is not None:
            self._engine.loop_owner.loop.call_soon(self._begin_later)

    def hurry(self) -> None:
        """End the lingering. Called from another thread."""

        def hurry() -> None:
            self._lingering.end_all()
            self._stir()

        self._post(hurry)

    def _post(self, function: Callable[[], None]) -> None:
        owner = self._engine.loop_owner
        if owner.settled:
            with suppress(RuntimeError):  # the loop is closed
                owner.loop.call_soon_threadsafe(function)

    @property
    def _over(self) -> bool:
        return self._engine.lifecycle.state in (PoolState.CLOSED, PoolState.INHERITED)

    async def _end(self, linger: float, leave: Step) -> None:
        engine = self._engine
        if self._over:
            return
        if not engine.loop_owner.settled:
            engine.close_unused()
            return
        mine = self._lingering.begin(engine.loop_owner.clock(), linger)
        if self._task is None:
            self._begin(leave)
        try:
            await self._in_time()
        except asyncio.CancelledError:
            self._lingering.end(mine)
            self._stir()
            await self._progress(engine.settings.interrupt_grace)
            raise
        except BaseException:
            # A signal handler has raised: the caller gets that at once.
            self._lingering.end(mine)
            raise

    async def _progress(self, timeout: float) -> None:
        """Wait until the end has come, or for some seconds."""
        assert self._task is not None
        await asyncio.wait((self._task,), timeout=timeout)
        if self._task.done():
            # Where a signal handler has struck the end itself, which is known in a moment, another task takes it up.
            await asyncio.sleep(0)
            self.tell_of_split()

    @property
    def _goes_on(self) -> bool:
        assert self._task is not None
        return not self._task.done() or (self.split is not None and not self._split_told and not self._over)

    async def _in_time(self) -> None:
        """Wait for the end, and not for ever where asyncio has lost a part of it by what a signal handler raised."""
        engine, begun = self._engine, self._task
        while self._goes_on and (left := self.deadline(self._moved) - engine.loop_owner.clock()) > 0:
            await self._progress(left)
        now = engine.loop_owner.clock()
        lingers = min(max(self.deadline(now) - now, 0), _LONG)
        left, for_readers = _LAST, math.ceil(PATIENCE * lingers)
        while left and self._goes_on:
            # Second by second: a loop that is held up for long has then used up one of them, and not all.
            await self._progress(1)
            if self._writing:
                continue
            parties = (*engine.parties.values(), *engine.removals.pending)
            if for_readers and any(party.connections.unsent for party in parties):
                for_readers -= 1
            else:
                left -= 1
        task = self._task
        assert task is not None
        assert begun is not None
        if task.done():
            # A signal handler may have struck the very last step: then something is still open.
            self._close_as_it_is()
            begun.result()
            return
        engine.log(LogEvent.INTERNAL, "the pool did not come to its end in time, and is closed as it is")
        task.cancel()
        stopping = engine.loop_owner.loop.create_task(engine.stop())
        await asyncio.wait((stopping,), timeout=_LAST)
        self._close_as_it_is()

    def _stir(self) -> None:
        """Have all that wait for the deadline look at it again."""
        for party in (*self._engine.parties.values(), *self._engine.removals.pending):
            party.flush()

    # -- how it goes ---------------------------------------------------------------------------------------------------

    def _begin(self, leave: Step) -> asyncio.Task[None]:
        engine = self._engine
        if engine.lifecycle.usable:  # a pool that was split is closing already
            engine.lifecycle.apply(PoolEvent.CLOSE)
        if engine.reporter is not None:
            engine.reporter.end()
        self._task = engine.logged.context().run(engine.loop_owner.loop.create_task, self._run(leave))
        self._task.add_done_callback(engine.tell_of_failure)
        return self._task

    async def _run(self, leave: Step) -> None:
        # Each step once more, or another one, where a signal handler has raised in the middle of it: also at its very beginning, so
        # that no function of its own can do this.
        engine = self._engine
        owner = engine.loop_owner
        try:
            await leave()
        except BaseException as error:
            if owner.struck(error):
                await self._give_up_split()
            raise
        finally:
            try:
                # A coroutine whose loop is closed ends without waiting for anything.
                if not owner.loop.is_closed():
                    await engine.stop()
            except BaseException as error:
                if owner.struck(error):
                    await engine.stop()
                raise
            finally:
                self._close_as_it_is()

    def _close_as_it_is(self) -> None:
        """Leave nothing open, whatever has become of the end."""
        engine = self._engine
        for party in (*engine.parties.values(), *engine.removals.pending):
            if not engine.loop_owner.loop.is_closed():
                party.connections.abort()
        engine.close_unused()

    async def _leave(self, reason: str | None = None, *, forgotten: bool = False) -> None:
        engine = self._engine
        if forgotten and engine.server.listening:
            await engine.takeover.may_be_followed()
        followed = engine.takeover.followed
        await self._of_each(lambda party: party.leave(self.deadline, reason, followed=followed), tell_of_remains)

    async def _give_up(self, reason: str) -> None:
        await self._of_each(lambda party: party.abort(reason, self.deadline), tell_of_given_up)

    async def _of_each(self, leave: Callable[[Party], Awaitable[list[Outgoing]]], tell: _Tell) -> None:
        """Leave all parties, and log for each what is left. Wait for those that are being removed."""
        engine = self._engine
        engine.failures.told_by_party = True
        parties = [*engine.parties.values(), *engine.removals.untold]
        waited_for = list(dict.fromkeys((*parties, *engine.removals.pending)))
        self._notice = engine.loop_owner.loop.call_later(_PATIENT, self._tell_of_lingering, waited_for)

        async def leave_one(party: Party) -> str:
            # Told at once: what is said of its connection is how it was at its end.
            return tell(party.log, party, await leave(party))

        try:
            told = await asyncio.gather(*map(leave_one, parties))
            tell_of_undelivered(engine.log, {party.name: text for party, text in zip(parties, told, strict=True)})
            if leaving := engine.removals.leaving:
                await asyncio.wait(leaving.values())
        finally:
            self._notice.cancel()

    def _tell_of_lingering(self, parties: Sequence[Party]) -> None:
        engine = self._engine
        self._notice = engine.loop_owner.loop.call_later(_TOLD_AGAIN, self._tell_of_lingering, parties)
        seconds = self.deadline(self._moved) - engine.loop_owner.clock()
        if seconds > 0:
            tell_of_lingering(engine.log, [party for party in parties if not party.closed], seconds)

    # -- split by a signal handler -------------------------------------------------------------------------------------

    def end_split(self, error: BaseException) -> None:
        """End the pool: what a signal handler raised has split its work. What was done of it is not known, so nothing can go on."""
        engine = self._engine
        if engine.lifecycle.state not in (PoolState.RUNNING, PoolState.CLOSING):
            return
        if self.split is None:
            self.split = split_by(error)
        # From here on no call begins. The others, and the other parties, are told in a step of its own.
        if engine.lifecycle.usable:
            engine.lifecycle.apply(PoolEvent.CLOSE)
        engine.loop_owner.loop.call_soon(self.tell_of_split)

    def tell_of_split(self) -> None:
        """Fail all calls of a pool that was split, and tell the others, once. The clock calls it too, since a strike may hit it."""
        if self.split is None or self._split_told:
            return
        engine = self._engine
        parties = [*engine.parties.values(), *engine.removals.pending]
        tell_all_who_wait(engine.loop_owner, parties, self.split)
        for party in parties:
            party.resume()
        if self._task is None or (self._task.done() and not self._over):
            self._lingering.begin(engine.loop_owner.clock(), engine.settings.linger)
            self._begin(self._give_up_split)
        self._split_told = True
        engine.log(LogEvent.SPLIT, "%s", str(self.split))

    async def _give_up_split(self) -> None:
        assert self.split is not None
        await self._give_up(type(self.split.__cause__).__name__)
