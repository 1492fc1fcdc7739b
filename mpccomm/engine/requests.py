"""Sends and receives on their way: made in the caller's thread, carried out on the pool's loop, resolved for whoever asked.

Each has one deadline, and it lives on the loop: there a message is either handed over or still in its box, never in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from mpccomm.codec import Encoded
from mpccomm.engine.options import Patience
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import Cause, Ending

if TYPE_CHECKING:
    from mpccomm.engine.party import Party

_TIMED_OUT = Cause(Ending.TIMED_OUT)


def _nobody(message: Incoming | None, error: Exception | None) -> None:
    """Told of what nobody waits for any more."""


class ReceiveCall(Receive):
    """One receive. ``resolve(message, error)`` is called once, on the loop, with one of the two."""

    __slots__ = ("_msg_id", "_prefix", "_resolve", "_timer", "party", "timeout")

    def __init__(
        self,
        party: Party,
        prefix: str,
        msg_id: str | None,
        timeout: float | None,
        resolve: Callable[[Incoming | None, Exception | None], None],
    ) -> None:
        super().__init__("", 0.0)
        self.party = party
        self.timeout = timeout
        self._prefix = prefix
        self._msg_id = msg_id
        self._resolve = resolve
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take the message, or wait for it."""
        party = self.party
        link = party.link
        self.since = self.notice = party.clock()
        self.key = link.mailbox.claim(self._prefix, self._msg_id)
        self.message = link.take(self.key, self.since)
        if self.message is not None:
            self.done()
            party.connections.wake()
            return
        self.failure = link.ending or party.closed
        if self.failure is None and self.timeout is not None and self.timeout <= 0:
            self.failure = _TIMED_OUT
        if self.failure is not None:
            link.mailbox.release(self.key)
            self.done()
            return
        if link.receive(self):
            party.connections.wake()
        if self.timeout is not None:
            self._timer = party.loop_owner.loop.call_later(self.timeout, self.fail, _TIMED_OUT)

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts."""
        if self.message is None and self.failure is None and self.party.link.mailbox.cancel(self):
            self.failure = cause
            self.done()

    def cancel(self) -> None:
        """The caller is gone. A message that was handed over already goes back to be the next one of its id."""
        party = self.party
        self._end()
        if self.message is not None:
            message, self.message = self.message, None
            party.link.put_back(message, party.clock())
            party.flush()
        elif self.failure is None:
            party.link.mailbox.cancel(self)

    def done(self) -> None:
        """The wait is over."""
        resolve = self._end()
        resolve(self.message, None if self.failure is None else self.party.explain(self.failure, self))

    def _end(self) -> Callable[[Incoming | None, Exception | None], None]:
        if self._timer is not None:
            self._timer.cancel()
        # Whom it tells may hold it in turn: no circle is left behind.
        resolve, self._resolve = self._resolve, _nobody
        return resolve


class SendCall(Outgoing):
    """One send. ``resolve(None, error)`` is called once, on the loop, when it is acknowledged or will not be waited for."""

    __slots__ = ("_encoded", "_failed_dials", "_msg_id", "_prefix", "_resolve", "_timer", "party", "patience", "queued")

    def __init__(
        self,
        party: Party,
        prefix: str,
        msg_id: str | None,
        encoded: Encoded,
        patience: Patience,
        awaited: bool,
        resolve: Callable[[None, Exception | None], None],
    ) -> None:
        super().__init__(encoded.segments, ordered=encoded.ordered, awaited=awaited)
        self.party = party
        self.patience = patience
        self.queued = False
        """It has its id, and can't be withdrawn any more."""
        self._failed_dials = 0
        self._prefix = prefix
        self._msg_id = msg_id
        self._encoded: Encoded | None = encoded
        self._resolve = resolve
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Number the message and queue it."""
        party = self.party
        link = party.link
        failure = party.closed or link.ending
        if failure is not None:
            self._resolve(None, party.explain(failure, self))
            return
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
        """End the wait, if it still lasts. The message has its number: it goes on without us."""
        if self._stop_waiting(cause):
            self._resolve(None, self.party.explain(cause, self))

    def dial_failed(self) -> None:
        """The party was dialled in vain while this waits."""
        self._failed_dials += 1
        if self._failed_dials > self.patience.retries:
            self.fail(Cause(Ending.UNREACHABLE, f"{self.party.trouble}, in {self._failed_dials} attempts"))

    def cancel(self) -> None:
        """The caller doesn't wait any more."""
        self._stop_waiting(Cause(Ending.CANCELLED))

    def _stop_waiting(self, cause: Cause) -> bool:
        self._forget_limits()
        if not self.queued or self.failure is not None or self.delivered:
            return False
        self.failure = cause
        self.detach()
        return True

    def _forget_limits(self) -> None:
        if self.patience.retries >= 0:
            self.party.impatient.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def done(self) -> None:
        """It is acknowledged, or will not be waited for."""
        self._forget_limits()
        self._resolve(None, None if self.failure is None else self.party.explain(self.failure, self))


Call: TypeAlias = ReceiveCall | SendCall
