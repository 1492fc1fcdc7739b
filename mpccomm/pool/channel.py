"""What can be said on a pool and on each of its channels: messages to one party or to several, groups, more channels."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpccomm.engine.base_channel import BaseChannel, BasePart, values_of
from mpccomm.engine.calls import ChannelCalls
from mpccomm.engine.delivery import read
from mpccomm.engine.expect import Array, Expect
from mpccomm.engine.futures import (
    ObservedFuture,
    ReceiveFuture,
    RequestFuture,
    finish,
    future_for,
    future_of,
    give_up,
    raise_error,
    taken,
    wait,
)
from mpccomm.engine.group_calls import Deadline, GroupCall, calls_of
from mpccomm.engine.handles import LoopHandle
from mpccomm.engine.loop_owner import running_loop
from mpccomm.engine.options import UNSET, Timeout, names_of, receive_limit
from mpccomm.engine.party import Party
from mpccomm.engine.several import together
from mpccomm.errors import CommunicationError
from mpccomm.pool.groups import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class Messages(BaseChannel, ChannelCalls):
    """The calls that send and receive, with all message ids in one space."""

    # -- one party -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        engine = self._engine
        party = engine.parties.get(name) or engine.party(name)
        limits = self._space.limits if timeout is UNSET and max_retries is None else self._limits(timeout, max_retries)
        owner = engine.loop_owner
        home, observer = owner.home, owner.observer
        # Before Python 3.12 it takes a call of the system to ask for the running loop.
        if (
            home is None
            or get_ident() != owner.thread
            or not home.is_running()
            or (observer is not None and observer.counting)
        ):
            self._enter()
            watched = self._future()
            await finish(self._queue_one(party, message, msg_id, limits, None, watched), watched)
            return
        future = home.create_future()
        call = self._queue_one(party, message, msg_id, limits, None, None, future)
        # As `finish`, in which each message would need a coroutine more, and asyncio more steps for a future of ours.
        try:
            await future
        except asyncio.CancelledError:
            give_up(call, owner)
            raise
        if call.error is not None:
            raise_error(call)

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        handle = LoopHandle(self._engine.failures)
        self._queue_one(self._engine.party(name), message, msg_id, self._limits(timeout, max_retries), handle)
        return handle

    @overload
    async def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = None) -> Any: ...
    @overload
    async def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: type[T] | tuple[type[T], ...]
    ) -> T: ...
    @overload
    async def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Array
    ) -> NDArray[Any]: ...
    @overload
    async def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any: ...
    async def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any:
        engine = self._engine
        owner = engine.loop_owner
        home = owner.home
        is_home = get_ident() == owner.thread and home is not None and home.is_running()
        if is_home and timeout is None and expect is None and engine.is_quiet():
            # What is here already needs no request.
            party = engine.parties.get(name) or engine.party(name)
            prefix, own = self._key(party, msg_id)
            message = party.link.take_next(prefix, own, party.clock())
            if message is not None:
                try:
                    party.connections.wake()
                    observer = owner.observer
                    begun = 0.0 if observer is None else time.perf_counter()
                    value = read(message, party)
                    if observer is not None:
                        observer.receives(party.name, message, 0.0, begun, math.inf)
                    return value
                except CommunicationError:
                    raise
                except BaseException:
                    party.return_message(message)
                    raise
        call = self._receiving(name, msg_id, timeout, expect)
        return await taken(call, owner, call.value)

    @overload
    def arecv(self, name: str, msg_id: str | None = None) -> asyncio.Future[Any]: ...
    @overload
    def arecv(
        self, name: str, msg_id: str | None = None, *, expect: type[T] | tuple[type[T], ...]
    ) -> asyncio.Future[T]: ...
    @overload
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Array) -> asyncio.Future[NDArray[Any]]: ...
    @overload
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> asyncio.Future[Any]: ...
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> asyncio.Future[Any]:
        call = self._asking(name, msg_id, expect)
        owner = self._engine.loop_owner
        kind = ReceiveFuture if owner.observer is None else ObservedFuture
        future = future_for(call, owner, running_loop(), kind)
        call.immediate = call.landed = future.is_home
        owner.post(call.start)
        call.immediate = False
        return future

    # -- several parties -----------------------------------------------------------------------------------------------

    async def broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        self._enter()
        future = self._future()
        request = self._queue(handler_names, message, msg_id, self._limits(timeout, max_retries), None, future)
        await finish(request, future)

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        handle = LoopHandle(self._engine.failures)
        self._queue(handler_names, message, msg_id, self._limits(timeout, max_retries), handle)
        return handle

    async def recv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Any]]:
        calls = self._receiving_all(handler_names, msg_id, timeout, expect)
        return await taken(together(calls), self._engine.loop_owner, partial(values_of, calls))

    async def recv_any(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> tuple[str, Any]:
        request = self._receiving_any(handler_names, msg_id, timeout, expect)
        return await taken(request, self._engine.loop_owner, request.value)

    def as_received(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> AsyncIterator[tuple[str, Any]]:
        parties = self._parties_checked(handler_names, msg_id, expect)
        return self._as_received(parties, msg_id, Deadline(receive_limit(timeout), self._engine), expect)

    async def _as_received(
        self, parties: list[Party], msg_id: str | None, limit: Deadline, expect: Expect | None
    ) -> AsyncIterator[tuple[str, Any]]:
        while parties:
            # By themselves, not by their names: one may be removed meanwhile, or another be added under its name.
            request = self._receiving_any_of(parties, msg_id, limit.left, expect)
            pair = await taken(request, self._engine.loop_owner, request.value)
            parties = [party for party in parties if party is not request.party]
            yield pair

    def arecv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, *, expect: Expect | None = None
    ) -> list[tuple[str, asyncio.Future[Any]]]:
        return [
            (party.name, self.arecv(party.name, msg_id, expect=expect))
            for party in self._engine.parties_named(names_of(handler_names))
        ]

    # -- channels and groups -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        return self._channel(name, Channel)

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> Group:
        calls = calls_of(self._space, self._members(names, me))
        group = self._groups.get(calls.members.label)
        if group is None or group.me != calls.members.me:
            group = self._groups[calls.members.label] = Group(calls, self._carry_out, self._first_of)
        return group

    # -- inside --------------------------------------------------------------------------------------------------------

    def _future(self) -> RequestFuture:
        """Return a future of the running loop for a request, which is yet to come."""
        owner = self._engine.loop_owner
        return future_of(asyncio._get_running_loop() or running_loop(), owner)

    async def _first_of(self, call: GroupCall[Any], limit: Deadline) -> tuple[str, Any]:
        """Wait for the next message of a call of a group, from whichever member."""
        request = call.first(limit)
        return await taken(request, self._engine.loop_owner, partial(call.read, request))

    async def _carry_out(self, call: GroupCall[Any], limit: Deadline) -> None:
        """Wait for what a call of a group waits for now, and let it take that."""
        owner = self._engine.loop_owner
        request = call.request(limit)
        await wait(request, owner)
        try:
            call.take()
        except BaseException:
            if not call.taken:
                owner.post(request.cancel)
            raise


class Channel(BasePart, Messages):
    """Message ids, numbers and groups of its own, over the connections of a pool; from `Pool.channel`."""
