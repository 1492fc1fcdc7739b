"""Sends and receives on their way: made in the caller's thread, carried out on the pool's loop, resolved for whoever asked.

Each has one deadline, and it lives on the loop: there a message is either handed over or still in its box, never in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpccomm.codec import Encoded
from mpccomm.pool.options import Patience
from mpccomm.session.inbox import Incoming
from mpccomm.session.mailbox import Receive
from mpccomm.session.outbox import Outgoing
from mpccomm.session.states import Cause, Ending

if TYPE_CHECKING:
    from mpccomm.pool.party import Party

_TIMED_OUT = Cause(Ending.TIMED_OUT)


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
        super().__init__("", self._done, 0.0)
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
            self._done(self)
            party.flush()
            return
        self.failure = link.ending or party.closed
        if self.failure is None and self.timeout is not None and self.timeout <= 0:
            self.failure = _TIMED_OUT
        if self.failure is not None:
            link.mailbox.release(self.key)
            self._done(self)
            return
        link.receive(self)
        if self.timeout is not None:
            self._timer = party.home.loop.call_later(self.timeout, self.fail, _TIMED_OUT)

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts."""
        if self.message is None and self.failure is None and self.party.link.mailbox.cancel(self):
            self.failure = cause
            self._done(self)

    def cancel(self) -> None:
        """The caller is gone. A message that was handed over already goes back to be the next one of its id."""
        party = self.party
        if self._timer is not None:
            self._timer.cancel()
        if self.message is not None:
            message, self.message = self.message, None
            party.link.put_back(message, party.clock())
            party.flush()
        elif self.failure is None:
            party.link.mailbox.cancel(self)

    def _done(self, receive: Receive) -> None:
        if self._timer is not None:
            self._timer.cancel()
        error = None if self.failure is None else self.party.explain(self.failure, self)
        # Without this the call refers to itself, and a message of gigabytes stays until the collector comes by.
        del self.done
        self._resolve(self.message, error)


class SendCall:
    """One send. ``resolve(None, error)`` is called once, on the loop, when it is acknowledged or will not be waited for."""

    __slots__ = (
        "_awaited",
        "_encoded",
        "_failed_dials",
        "_msg_id",
        "_prefix",
        "_resolve",
        "_timer",
        "message",
        "party",
        "patience",
    )

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
        self.party = party
        self.patience = patience
        self.message: Outgoing | None = None
        self._failed_dials = 0
        self._prefix = prefix
        self._msg_id = msg_id
        self._encoded = encoded
        self._awaited = awaited
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
        key = link.outbox.next_key(self._prefix) if self._msg_id is None else self._prefix + self._msg_id
        encoded = self._encoded
        self.message = Outgoing(key, encoded.segments, encoded.ordered, self._done, self._awaited, party.clock())
        link.send(self.message)
        if party.audit is not None:
            party.audit.sent(party.name, key, encoded)
        if self.patience.retries >= 0:
            party.impatient.add(self)
        party.flush()
        if self.patience.seconds is not None:
            self._timer = party.home.loop.call_later(self.patience.seconds, self.fail, _TIMED_OUT)

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
        message = self.message
        if message is None or message.failure is not None or message.delivered:
            return False
        message.failure = cause
        message.detach()
        return True

    def _forget_limits(self) -> None:
        self.party.impatient.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _done(self, message: Outgoing) -> None:
        self._forget_limits()
        error = None if message.failure is None else self.party.explain(message.failure, self)
        # As above: the message knows this call.
        self.message = None
        self._resolve(None, error)
