"""Requests of requests: several sends and receives with one outcome; and a coroutine on the pool's loop as a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from mpccomm.engine.abc import RemoteParty
from mpccomm.engine.error_messages import explain_all
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.observer import Involved
from mpccomm.engine.requests import TIMED_OUT, OneOf, ReceiveCall, SendCall, Waiter
from mpccomm.engine.states import OVER, REQUEST, RequestEvent, RequestState
from mpccomm.errors import CommunicationError, PoolClosedError
from mpccomm.protocol.states import Cause


class _Compound:
    """What these requests have in common: each ends once, and tells its waiter."""

    __slots__ = ("error", "state", "waiter")
    single = False

    def __init__(self) -> None:
        self.state = RequestState.NEW
        self.error: Exception | None = None
        self.waiter: Waiter | None = None

    def missing(self) -> Sequence[ReceiveCall]:
        """Return none: its receives are not known, or there are none."""
        return ()

    def detach(self) -> None:
        """Do nothing: nothing is sent that the caller could change."""

    def _change(self, event: RequestEvent) -> bool:
        """Apply an event to the state. False: it changes nothing."""
        before = self.state
        self.state = REQUEST[before, event]
        return self.state is not before

    def _end(self, error: Exception | None, value: Any = None) -> None:
        if self._change(RequestEvent.SUCCEED if error is None else RequestEvent.FAIL):
            self.error = error
            waiter, self.waiter = self.waiter, None
            if waiter is not None:
                waiter.resolve(value, error)


class Delivery(_Compound):
    """The wait for sends of one message that were started before. If it is given up, the sends go on."""

    __slots__ = ("_explain", "_missing", "_timer", "calls", "failure", "timeout")

    def __init__(self, calls: Sequence[SendCall], timeout: float | None, explain: Callable[[], Exception]) -> None:
        super().__init__()
        self.calls = calls
        self.timeout = timeout
        self.failure: Cause | None = None
        self._explain = explain
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None

    def involved(self) -> Involved:
        """Return the parties."""
        return tuple((call.party.name, True) for call in self.calls)

    def start(self) -> None:
        """Look at the sends, and wait for those that are not over."""
        if not self._change(RequestEvent.START):
            return
        for call in self.calls:
            if call.state not in OVER:
                self._missing += 1
                call.waiter = self
            elif call.error is not None:
                self._leave(call.error)
                return
        if not self._missing:
            self._leave(None)
        elif self.timeout is not None:
            owner = self.calls[0].party.loop_owner
            self._timer = owner.loop.call_later(self.timeout, owner.entering(self._fail))

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Note that one of the sends is over."""
        self._missing -= 1
        if error is not None or not self._missing:
            self._leave(error)

    def cancel(self) -> None:
        """Wait no longer."""
        self._change(RequestEvent.CANCEL)
        self.waiter = None
        self._forget()

    def detach(self) -> None:
        """Copy what is not delivered yet."""
        for call in self.calls:
            call.detach()

    def _fail(self) -> None:
        self._leave(self._explain())

    def _forget(self) -> None:
        """Detach from the sends, and cancel the time limit."""
        if self._timer is not None:
            self._timer.cancel()
        for call in self.calls:
            if call.waiter is self:
                call.waiter = None

    def _leave(self, error: Exception | None) -> None:
        self._forget()
        self._end(error)


Part: TypeAlias = ReceiveCall | SendCall | Delivery


class Several(_Compound):
    """Several sends and receives with one outcome: when one fails all end, and messages that were taken go back.

    It stays new until all of its parts are started: what they bring until then is looked at together.
    """

    __slots__ = ("_failed", "_missing", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.parts = parts
        self._missing = len(parts)
        self._failed: Sequence[Part] = ()
        """Those that have failed, or were late, when it failed."""

    def involved(self) -> Involved:
        """Return the parties of all parts."""
        return tuple([one for part in self.parts for one in part.involved()])

    def missing(self) -> Sequence[ReceiveCall]:
        """Return the receives for which it has failed; all, if it was given up."""
        return [call for part in self._failed or self.parts for call in part.missing()]

    def start(self) -> None:
        """Start all: a send that comes after one that fails gets its number nevertheless."""
        if self.state is not RequestState.NEW:
            self._change(RequestEvent.START)
            return
        for part in self.parts:
            part.waiter = self
            part.start()
        self._change(RequestEvent.START)
        failed = [part for part in self.parts if part.error is not None]
        if failed or not self._missing:
            self._failed = failed
            self._conclude(_joined(failed))

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Note that one of the parts is over."""
        self._missing -= 1
        if self.state is RequestState.NEW:
            return
        if error is not None:
            failed = [part for part in self.parts if part.error is error]
            if any(part.failure is TIMED_OUT for part in failed):
                # All parts have the same time limit.
                failed = [part for part in self.parts if part.state is RequestState.WAITING or part in failed]
                error = _joined(failed)
            self._failed = failed
            self._conclude(error)
        elif not self._missing:
            self._conclude(None)

    def cancel(self) -> None:
        """End all parts; messages that were taken go back."""
        self._change(RequestEvent.CANCEL)
        self.waiter = None
        self._give_up_parts()

    def _give_up_parts(self) -> None:
        for part in self.parts:
            part.cancel()

    def _conclude(self, error: Exception | None) -> None:
        if error is not None:
            self._give_up_parts()
        self._end(error)


class First(_Compound, OneOf):
    """Several receives, of which the first message counts; what comes for the others stays, and their numbers are free again."""

    __slots__ = ("_missing", "parts", "winner")

    def __init__(self, parts: Sequence[ReceiveCall]) -> None:
        super().__init__()
        self.parts = parts
        self.winner: ReceiveCall | None = None
        self._missing = len(parts)

    def involved(self) -> Involved:
        """Return the parties of all parts."""
        return tuple([one for part in self.parts for one in part.involved()])

    def missing(self) -> Sequence[ReceiveCall]:
        """Return all: any of them would have done."""
        return self.parts

    def start(self) -> None:
        """Take the message that has been here for longest, or wait for one."""
        if not self._change(RequestEvent.START):
            return
        for part in sorted(self.parts, key=ReceiveCall.arrival):
            part.waiter = self
            part.start()
            if self.state is not RequestState.WAITING:
                return

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Note that one of the parts is over."""
        self._missing -= 1
        if error is None:
            self.winner = next(part for part in self.parts if part.state is RequestState.DONE)
            self._conclude(None)
        elif not self._missing:
            # Not before the last one has failed: until then a message may still come.
            self._conclude(_joined(self.parts, any_of=True))

    def cancel(self) -> None:
        """End all parts; a message that was taken goes back."""
        self._change(RequestEvent.CANCEL)
        self.waiter = None
        for part in self.parts:
            part.cancel()

    def value(self) -> tuple[str, Any]:
        """Return the name of the party and its message, decoded."""
        assert self.winner is not None
        return self.party.name, self.winner.value()

    @property
    def party(self) -> RemoteParty:
        """The party whose message came first."""
        assert self.winner is not None
        return self.winner.party

    def _conclude(self, error: Exception | None) -> None:
        for part in self.parts:
            if part is not self.winner:
                part.cancel()
        self._end(error)


class TaskCall(_Compound):
    """A coroutine function that runs on the pool's loop. The coroutine is made there, so that each one made is awaited."""

    __slots__ = ("_function", "_owner", "_task", "result")

    def __init__(self, owner: LoopOwner, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        super().__init__()
        self._owner = owner
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self.result: Any = None

    def involved(self) -> Involved:
        """Return no parties: it is not known which ones the coroutine waits for."""
        return ()

    def start(self) -> None:
        """Begin, unless it was cancelled before."""
        if self._change(RequestEvent.START):
            self._task = self._owner.loop.create_task(self._function())
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the task."""
        self._change(RequestEvent.CANCEL)
        self.waiter = None
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            self._end(PoolClosedError("the pool was shut down meanwhile"))
            return
        error = task.exception()
        if error is None:
            self.result = task.result()
            self._end(None, self.result)
        else:
            self._end(error if isinstance(error, Exception) else CommunicationError(f"interrupted: {error!r}"))


def together(calls: Sequence[Part]) -> Part | Several:
    """Return one request for all calls; for a single call the call itself."""
    return calls[0] if len(calls) == 1 else Several(calls)


def _joined(failed: Sequence[Part], *, any_of: bool = False) -> Exception | None:
    """Return one error for all parts that have failed, which names the party of each; None: none has failed.

    Where any one of them would have done, it is a time limit's as long as one was only late; where all were needed, as soon as
    nothing else was wrong.
    """
    late = [
        part for part in failed if not isinstance(part, Delivery) and (part.error is None or part.failure is TIMED_OUT)
    ]
    others = [part.error for part in failed if part.error is not None and part.failure is not TIMED_OUT]
    errors = [explain_all(late, any_of=any_of)] if late else []
    errors = [*errors, *others] if any_of else [*others, *errors]
    if len(errors) > 1:
        errors[0].args = ("; and ".join(map(str, errors)), *errors[0].args[1:])
    return errors[0] if errors else None
