"""What a caller waits for: one send, one receive, or several of them with one outcome.

A request is made once, in the thread of the caller. It is started on the pool's loop and ends there, once: then it is
``over``, and its ``error`` says whether it failed. Its ``waiter`` is told: a future of an event loop, a lock on which a
thread stands, or a handle. However the caller ends, `cancel` leaves no trace: a message that was taken goes back.

The time limit of a request lives on the loop: there a message is either handed over or still in its box, never in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mpccomm.codec import Encoded
from mpccomm.engine import ordering
from mpccomm.engine.delivery import read
from mpccomm.engine.options import Patience
from mpccomm.errors import CommunicationError, PoolClosedError
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import Cause, Ending

if TYPE_CHECKING:
    from mpccomm.engine.loop_owner import LoopOwner
    from mpccomm.engine.party import Party

_TIMED_OUT = Cause(Ending.TIMED_OUT)
_ON_THE_LOOP = 64 * 1024
"""Up to this size, in bytes, a message for a waiting future is decoded on the loop: handing it to a thread would take longer."""


class Waiter(Protocol):
    """Whom a request tells that it is over."""

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Take note of the outcome; called once, on the pool's loop."""


class Request(Protocol):
    """What all requests have in common."""

    over: bool
    error: Exception | None
    waiter: Waiter | None

    def start(self) -> None:
        """Begin; called once, on the pool's loop."""

    def cancel(self) -> None:
        """End without telling the waiter; what was taken goes back. Called on the pool's loop, any number of times."""


class ReceiveCall(Receive):
    """The receive of one message."""

    __slots__ = ("_claimed", "_msg_id", "_prefix", "_timer", "error", "over", "party", "timeout", "waiter")

    def __init__(self, party: Party, prefix: str, msg_id: str | None, timeout: float | None) -> None:
        super().__init__("", 0.0)
        self.party = party
        self.timeout = timeout
        self.over = False
        self.error: Exception | None = None
        self.waiter: Waiter | None = None
        self._prefix = prefix
        self._msg_id = msg_id
        self._claimed = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take the message, or wait for it."""
        if self.over:
            return
        try:
            self._start()
        except Exception as error:
            if self._claimed and self.message is None:
                self.party.link.mailbox.release(self.key)
            self._end(error)

    def _start(self) -> None:
        party = self.party
        link = party.link
        self.since = self.notice = party.clock()
        self.key = link.mailbox.claim(self._prefix, self._msg_id)
        self._claimed = True
        self.message = link.take(self.key, self.since)
        if self.message is not None:
            self._end(None)
            party.connections.wake()
            return
        self.failure = link.ending or party.closed
        timeout = self.timeout
        if self.failure is None and timeout is not None and timeout <= 0:
            self.failure = _TIMED_OUT
        if self.failure is not None:
            raise party.explain(self.failure, self)
        link.receive(self)
        if timeout is not None:
            self._timer = party.loop_owner.loop.call_later(timeout, self.fail, _TIMED_OUT)

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts."""
        if self.message is None and self.failure is None and self.party.link.mailbox.cancel(self):
            self.failure = cause
            self.done()

    def done(self) -> None:
        """The link has set ``message`` or ``failure``."""
        if not self.over:
            self._end(None if self.failure is None else self.party.explain(self.failure, self))

    def cancel(self) -> None:
        """Return the message to the mailbox, or end the wait for it."""
        ended, self.over = self.over, True
        self.waiter = None
        if self._timer is not None:
            self._timer.cancel()
        party = self.party
        if self.message is not None:
            message, self.message = self.message, None
            party.link.put_back(message, party.clock())
            party.flush()
        elif not ended and self.failure is None:
            party.link.mailbox.cancel(self)

    def value(self) -> Any:
        """Decode the message. One that can't be read counts as received.

        :raises DecodingError: it can't be read
        """
        message = self.message
        assert message is not None
        try:
            return read(message, self.party)
        except CommunicationError:
            self.message = None
            raise

    def _end(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.over = True
        self.error = error
        waiter = self.waiter
        if waiter is not None:
            # The waiter may hold the request in turn: no circle is left behind.
            self.waiter = None
            waiter.resolve(None, error)


class FutureCall(ReceiveCall):
    """The receive of one message for a future: the waiter gets its value.

    The value is decoded before the message is acknowledged, so that its sender goes on when the future is done.
    """

    __slots__ = ("_context", "immediate")

    def __init__(self, party: Party, prefix: str, msg_id: str | None) -> None:
        super().__init__(party, prefix, msg_id, None)
        self.immediate = False
        """The caller stands on the loop and starts it now: a message that is here is decoded in its call, as by `recv`."""
        self._context = copy_context()

    def _end(self, error: Exception | None) -> None:
        message = self.message
        if message is None:
            super()._end(error)
        elif self.immediate:
            self._give(*self._try_to_read(message))
        elif message.total <= _ON_THE_LOOP and ordering.try_to_begin(message, self.party.ordering):
            try:
                outcome = self._try_to_read(message)
            finally:
                ordering.end(message, self.party.ordering)
            self._give(*outcome)
        else:
            # Not acknowledged before it is decoded.
            message.receiver.hold(message)
            self.party.loop_owner.run_in_worker(self._read_in_worker)

    def _try_to_read(self, message: Incoming) -> tuple[Any, Exception | None]:
        try:
            return self._context.run(read, message, self.party), None
        except Exception as error:
            return None, error
        except BaseException:
            self.cancel()
            raise

    def _give(self, value: Any, error: Exception | None) -> None:
        message = self.message
        if message is None or self.over:
            return  # given up meanwhile: the message went back
        self.over = True
        self.error = error
        waiter, self.waiter = self.waiter, None
        if error is None or isinstance(error, CommunicationError):
            self.message = None
        else:
            # It was not the message that was at fault: the next receive gets it.
            self.cancel()
        if waiter is not None:
            waiter.resolve(value, error)

    def _read_in_worker(self) -> None:
        message = self.message
        if message is None:
            return
        value, error = self._try_to_read(message)

        def finish() -> None:
            try:
                self._give(value, error)
            finally:
                self.party.link.settle(message)
                self.party.flush()

        self.party.loop_owner.post(finish)


class SendCall(Outgoing):
    """The send of one message."""

    __slots__ = (
        "_encoded",
        "_failed_dials",
        "_msg_id",
        "_prefix",
        "_timer",
        "error",
        "over",
        "party",
        "patience",
        "queued",
        "waiter",
    )

    def __init__(
        self, party: Party, prefix: str, msg_id: str | None, encoded: Encoded, patience: Patience, awaited: bool
    ) -> None:
        super().__init__(encoded.segments, ordered=encoded.ordered, awaited=awaited)
        self.party = party
        self.patience = patience
        self.queued = False
        """It has its id, and can't be withdrawn any more."""
        self.over = False
        self.error: Exception | None = None
        self.waiter: Waiter | None = None
        self._failed_dials = 0
        self._prefix = prefix
        self._msg_id = msg_id
        self._encoded: Encoded | None = encoded
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Number the message and queue it."""
        if self.over:
            return
        try:
            self._start()
        except Exception as error:
            self._end(error)

    def _start(self) -> None:
        party = self.party
        link = party.link
        failure = party.closed or link.ending
        if failure is not None:
            raise party.explain(failure, self)
        self.address(link.sender.next_key(self._prefix) if self._msg_id is None else self._prefix + self._msg_id)
        link.send(self)
        self.queued = True
        if party.audit is not None and self._encoded is not None:
            party.audit.sent(party.name, self.key, self._encoded)
        self._encoded = None
        seconds, retries = self.patience
        if retries >= 0:
            party.impatient.add(self)
        if seconds is not None:
            self._timer = party.loop_owner.loop.call_later(seconds, self.fail, _TIMED_OUT)
        party.connections.wake()

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts. The message has its number: it is sent all the same."""
        if self._detach(cause):
            self._end(self.party.explain(cause, self))

    def dial_failed(self) -> None:
        """Count one dial of the party that came to nothing."""
        self._failed_dials += 1
        if self._failed_dials > self.patience.retries:
            self.fail(Cause(Ending.UNREACHABLE, f"{self.party.trouble}, in {self._failed_dials} attempts"))

    def cancel(self) -> None:
        """End the wait. The message has its number: it is sent all the same."""
        self.waiter = None
        self._detach(Cause(Ending.CANCELLED))
        self.over = True
        self._forget_limits()

    def done(self) -> None:
        """The link has set ``delivered`` or ``failure``."""
        if not self.over:
            self._end(None if self.failure is None else self.party.explain(self.failure, self))

    def _detach(self, cause: Cause) -> bool:
        if self.over or not self.queued or self.failure is not None or self.delivered:
            return False
        self.failure = cause
        self.detach()
        return True

    def _forget_limits(self) -> None:
        if self.patience.retries >= 0:
            self.party.impatient.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, error: Exception | None) -> None:
        self._forget_limits()
        self.over = True
        self.error = error
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            waiter.resolve(None, error)


Call: TypeAlias = ReceiveCall | SendCall


class Several:
    """Several sends and receives with one outcome: when one fails all end, and messages that were taken go back."""

    __slots__ = ("_missing", "_starting", "error", "over", "parts", "waiter")

    def __init__(self, parts: Sequence[Call]) -> None:
        self.parts = parts
        self.over = False
        self.error: Exception | None = None
        self.waiter: Waiter | None = None
        self._missing = len(parts)
        self._starting = False

    def start(self) -> None:
        """Start all: a send that comes after one that fails gets its number all the same."""
        if self.over:
            return
        self._starting = True
        for part in self.parts:
            part.waiter = self
            part.start()
        self._starting = False
        failed = [part.error for part in self.parts if part.error is not None]
        if failed or not self._missing:
            self._end(_first_of(failed))

    def resolve(self, value: Any, error: Exception | None) -> None:
        """One of the parts is over."""
        self._missing -= 1
        if self._starting or self.over:
            return
        if error is not None:
            self._note_others(error)
            self._end(error)
        elif not self._missing:
            self._end(None)

    def cancel(self) -> None:
        """End all parts; messages that were taken go back."""
        self.over = True
        self.waiter = None
        for part in self.parts:
            part.cancel()

    def _note_others(self, error: Exception) -> None:
        """Name in the error of a time limit all parts that it ends: the limit is the same for all."""
        if any(part.error is error and part.failure is _TIMED_OUT for part in self.parts):
            for part in self.parts:
                if not part.over:
                    error.add_note(f"and {part.party.explain(_TIMED_OUT, part)}")

    def _end(self, error: Exception | None) -> None:
        self.error = error
        waiter = self.waiter
        if error is not None:
            self.cancel()
        self.over = True
        self.waiter = None
        if waiter is not None:
            waiter.resolve(None, error)


class TaskCall:
    """A coroutine function that runs on the pool's loop. The coroutine is made there: it can't be left over."""

    __slots__ = ("_function", "_owner", "_task", "error", "over", "result", "waiter")

    def __init__(self, owner: LoopOwner, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._owner = owner
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self.over = False
        self.error: Exception | None = None
        self.result: Any = None
        self.waiter: Waiter | None = None

    def start(self) -> None:
        """Begin, unless it was cancelled before."""
        if not self.over:
            self._task = self._owner.loop.create_task(self._function())
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the task."""
        self.over = True
        self.waiter = None
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            self.error = PoolClosedError("the pool was shut down meanwhile")
        else:
            error = task.exception()
            if error is None:
                self.result = task.result()
            elif isinstance(error, Exception):
                self.error = error
            else:
                self.error = CommunicationError(f"interrupted: {error!r}")
        self.over = True
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.resolve(self.result, self.error)


def together(calls: Sequence[Call]) -> Call | Several:
    """One request for all: that of a single call is the call itself."""
    return calls[0] if len(calls) == 1 else Several(calls)


def _first_of(errors: Sequence[Exception]) -> Exception | None:
    """The first error, if there is one, with notes of the others."""
    for other in errors[1:]:
        errors[0].add_note(f"and {other}")
    return errors[0] if errors else None
