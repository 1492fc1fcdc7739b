"""How the calls of the asyncio face wait. For a single message they take as few steps as possible."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, Final, TypeVar

from mpccomm.engine.base_channel import BaseChannel
from mpccomm.engine.delivery import is_outcome, read, tell_of_receipt
from mpccomm.engine.expect import Expect
from mpccomm.engine.futures import (
    ObservedFuture,
    ReceiveFuture,
    finish,
    future_for,
    future_of,
    taken,
    withdraw_forgotten,
)
from mpccomm.engine.handles import LoopHandle
from mpccomm.engine.lanes import lane_of, task_on
from mpccomm.engine.loop_owner import running_loop
from mpccomm.engine.observer import Observers
from mpccomm.engine.options import SendLimits, Timeout
from mpccomm.engine.party import Party
from mpccomm.engine.requests import FutureCall, Request
from mpccomm.engine.trail import AT_A_STROKE, PORTION
from mpccomm.protocol.receiver import Incoming

T = TypeVar("T")

NOT_HERE: Final = object()
"""No value: the message has to be waited for, or looked for in another way."""


class Waiting(BaseChannel):
    """The waiting of the calls in `mpccomm.pool.channel`; `mpccomm.sync.waiting` has the same for calls that block."""

    async def _deliver_from_elsewhere(
        self, party: Party, message: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        """Send a message from another loop than the pool's, or make the one that runs here the pool's."""
        self._enter()
        owner = self._engine.loop_owner
        watched = future_of(running_loop(), owner)
        await finish(self._queue_one(party, message, msg_id, limits, None, watched), watched)

    async def _deliver_all(
        self, names: Sequence[str] | None, message: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        """Send a message to several, and wait until the pools of all of them hold it."""
        self._enter()
        owner = self._engine.loop_owner
        watched = future_of(running_loop(), owner)
        await finish(self._queue(names, message, msg_id, limits, None, watched), watched)

    def _receive_now(self, name: str, msg_id: str | None, timeout: Timeout, expect: Expect | None) -> Any:
        """Return the next message of a party if it is here already: then it needs no request. Otherwise `NOT_HERE`."""
        engine = self._engine
        owner = engine.loop_owner
        if timeout is not None or expect is not None or not engine.lifecycle.at_work:
            return NOT_HERE
        try:
            party = engine.parties[name]
        except (KeyError, TypeError):
            return NOT_HERE
        space = self._space
        if msg_id is None and not (space.prefix or party.prefix):
            prefix, own = space.label, None
        else:
            prefix, own = self._key(party, msg_id)
        # These calls come last: from here on what a signal handler raises has split the work on the link.
        home: Any = owner.home  # without a loop there is no thread of it
        if get_ident() != owner.thread or not home.is_running() or owner.posted or owner.forgotten or owner.suspect:
            return NOT_HERE
        try:
            message = party.link.take_next(prefix, own, party.clock)
        except BaseException as error:
            owner.suspect = error
            owner.judge()
            raise
        if message is None:
            return NOT_HERE
        try:
            only = party.connections.only
            if only is None or not only.awake:
                party.connections.wake()
            observers = owner.observers
            if observers is None:
                return read(message, party)
            return self._read_observed(observers, party, message)
        except BaseException as error:
            if is_outcome(error):
                self._tell_of_miss(owner.observers, party, message, error)
                raise
            try:
                party.return_message(message)
            except BaseException as error:
                owner.suspect = error
                owner.judge()
                raise
            raise

    @staticmethod
    def _read_observed(observers: Observers, party: Party, message: Incoming) -> Any:
        """Decode a message that was here, in a task of the pool's own loop, and note that for those who watch."""
        clock = party.clock  # looked up as an attribute: as a method it would be found more slowly
        begun = clock()
        value = read(message, party)
        trail = party.trail
        if trail is None or observers.each:
            tell_of_receipt(observers, party, message, -1, 0.0, begun, math.inf)
        else:
            # The same with a trace alone, for nearly every message.
            owner = party.loop_owner
            lane = lane_of(task_on(owner.home)) or owner.lane()
            total = message.total
            ended = clock() if total > AT_A_STROKE or message.ordered else 0.0
            rows = trail.received
            rows.append((message.number, total, message.key, lane, 0.0, message.at, begun, ended))
            if len(rows) >= PORTION:
                trail.pack()
        return value

    @staticmethod
    def _tell_of_miss(observers: Observers | None, party: Party, message: Incoming, error: BaseException) -> None:
        if observers is not None:
            for hook in observers.missed:
                hook(party.name, message.key, 0.0, error)

    async def _take(self, request: Request, read: Callable[[], T]) -> T:
        """Wait for a request, and return what ``read`` makes of it; otherwise what it took goes back."""
        return await taken(request, self._engine.loop_owner, read)

    def _future_of(self, call: FutureCall) -> asyncio.Future[Any]:
        """Start a receive, and return the future that gets its message."""
        owner = self._engine.loop_owner
        kind = ReceiveFuture if owner.observers is None else ObservedFuture
        future = future_for(call, owner, running_loop(), kind)
        call.immediate = future.is_home
        try:
            owner.post(call.start)
            call.immediate = False
        except BaseException:
            owner.forgotten.append(call)
            withdraw_forgotten(owner)
            raise
        try:
            return future
        finally:
            del future  # as in `future_for`

    def _handle(self) -> LoopHandle:
        """Return a future for what is about to be sent."""
        return LoopHandle(self._engine.failures)
