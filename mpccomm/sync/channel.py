"""The calls of a pool and of each of its channels, blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpccomm.engine.base_channel import BaseChannel, BasePart, IdSpace, values_of
from mpccomm.engine.calls import ChannelCalls
from mpccomm.engine.expect import Array, Expect
from mpccomm.engine.group_calls import Deadline, GroupCall, calls_of
from mpccomm.engine.handles import ThreadFuture, ThreadHandle
from mpccomm.engine.options import UNSET, Timeout, names_of, receive_limit
from mpccomm.engine.party import Party
from mpccomm.engine.requests import Request
from mpccomm.engine.several import together
from mpccomm.errors import WrongThreadError
from mpccomm.sync.blocking import BlockingCall, FinishedCall, wait_for
from mpccomm.sync.groups import SyncGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class SyncMessages(BaseChannel, ChannelCalls):
    """The calls that send and receive, with all message ids in one space."""

    def __init__(self, space: IdSpace) -> None:
        super().__init__(space)
        # Never before this returns: a callback of a handle calls on the loop's own thread, and chains of them would recurse.
        self._post = self._engine.loop_owner.post_soon

    # -- one party -----------------------------------------------------------------------------------------------------

    def send(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        engine = self._engine
        owner = engine.loop_owner
        if get_ident() == owner.thread:
            self._check_thread()
        party = engine.parties.get(name) or engine.party(name)
        limits = self._limits(timeout, max_retries)
        blocking = BlockingCall(owner)
        try:
            blocking.arm()
            blocking.wait(self._queue_one(party, message, msg_id, limits, None, blocking))
            blocking.__class__ = FinishedCall  # type: ignore[assignment]
        except BaseException:
            blocking.give_back(engine.settings.interrupt_grace)
            raise

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        handle = ThreadHandle(self._engine.callbacks, self._engine.failures)
        self._queue_one(self._engine.party(name), message, msg_id, self._limits(timeout, max_retries), handle)
        return handle

    @overload
    def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = None) -> Any: ...
    @overload
    def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: type[T] | tuple[type[T], ...]
    ) -> T: ...
    @overload
    def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Array) -> NDArray[Any]: ...
    @overload
    def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any: ...
    def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any:
        engine = self._engine
        owner = engine.loop_owner
        if get_ident() == owner.thread:
            self._check_thread()
        blocking = BlockingCall(owner)
        try:
            call = self._receiving(name, msg_id, timeout, expect)
            blocking.request = call
            # One that is here is taken without a word to the loop.
            if owner.is_busy() or not call.grab():
                blocking.start(call)
            value = call.value()
            blocking.__class__ = FinishedCall  # type: ignore[assignment]
            return value
        except BaseException:
            blocking.give_back(self._engine.settings.interrupt_grace)
            raise

    @overload
    def arecv(self, name: str, msg_id: str | None = None) -> Future[Any]: ...
    @overload
    def arecv(self, name: str, msg_id: str | None = None, *, expect: type[T] | tuple[type[T], ...]) -> Future[T]: ...
    @overload
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Array) -> Future[NDArray[Any]]: ...
    @overload
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> Future[Any]: ...
    def arecv(self, name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> Future[Any]:
        call = self._asking(name, msg_id, expect)
        future = ThreadFuture[Any](self._engine.callbacks, call)
        call.landed = False
        try:
            self._post(call.start)
            return future
        except BaseException:
            # An interrupt: the caller does not get it.
            future.cancel()
            self._engine.loop_owner.post_soon(call.cancel)
            raise

    # -- several parties -----------------------------------------------------------------------------------------------

    def broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        self._check_thread()
        limits = self._limits(timeout, max_retries)
        blocking = BlockingCall(self._engine.loop_owner)
        try:
            blocking.arm()
            blocking.wait(self._queue(handler_names, message, msg_id, limits, None, blocking))
            blocking.__class__ = FinishedCall  # type: ignore[assignment]
        except BaseException:
            blocking.give_back(self._engine.settings.interrupt_grace)
            raise

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        handle = ThreadHandle(self._engine.callbacks, self._engine.failures)
        self._queue(handler_names, message, msg_id, self._limits(timeout, max_retries), handle)
        return handle

    def recv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Any]]:
        self._check_thread()
        calls = self._receiving_all(handler_names, msg_id, timeout, expect)
        return self._wait_for(together(calls), partial(values_of, calls))

    def recv_any(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> tuple[str, Any]:
        self._check_thread()
        request = self._receiving_any(handler_names, msg_id, timeout, expect)
        return self._wait_for(request, request.value)

    def as_received(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Iterator[tuple[str, Any]]:
        parties = self._parties_checked(handler_names, msg_id, expect)
        return self._as_received(parties, msg_id, Deadline(receive_limit(timeout), self._engine), expect)

    def _as_received(
        self, parties: list[Party], msg_id: str | None, limit: Deadline, expect: Expect | None
    ) -> Iterator[tuple[str, Any]]:
        while parties:
            # By themselves, not by their names: one may be removed meanwhile, or another be added under its name.
            request = self._receiving_any_of(parties, msg_id, limit.left, expect)
            # No step in between where an interrupt could lose it.
            pair = self._wait_for(request, request.value)
            yield pair
            parties = [party for party in parties if party is not request.party]

    def arecv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, *, expect: Expect | None = None
    ) -> list[tuple[str, Future[Any]]]:
        return [
            (party.name, self.arecv(party.name, msg_id, expect=expect))
            for party in self._engine.parties_named(names_of(handler_names))
        ]

    # -- channels and groups -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> SyncChannel:
        return self._channel(name, SyncChannel)

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> SyncGroup:
        calls = calls_of(self._space, self._members(names, me))
        group = self._groups.get(calls.members.label)
        if group is None or group.me != calls.members.me:
            group = self._groups[calls.members.label] = SyncGroup(calls, self._carry_out, self._first_of)
        return group

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_thread(self) -> None:
        if self._engine.loop_owner.here:
            raise WrongThreadError(
                "a blocking call on the pool's own thread would wait for itself; there, await the coroutines of SyncPool.pool"
            )

    def _wait_for(self, request: Request, read: Callable[[], T]) -> T:
        engine = self._engine
        return wait_for(request, engine.loop_owner, engine.settings.interrupt_grace, read)

    def _first_of(self, call: GroupCall[Any], limit: Deadline) -> tuple[str, Any]:
        """Wait for the next message of a call of a group, from whichever member."""
        self._check_thread()
        request = call.first(limit)
        return self._wait_for(request, partial(call.read, request))

    def _carry_out(self, call: GroupCall[Any], limit: Deadline) -> None:
        """Wait for what a call of a group waits for now, and let it take that."""
        self._check_thread()
        blocking = BlockingCall(self._engine.loop_owner)
        try:
            blocking.start(call.request(limit))
            call.take()
            blocking.__class__ = FinishedCall  # type: ignore[assignment]
        except BaseException:
            if call.taken:
                blocking.__class__ = FinishedCall  # type: ignore[assignment]
            else:
                blocking.give_back(self._engine.settings.interrupt_grace)
            raise


class SyncChannel(BasePart, SyncMessages):
    """Message ids, numbers and groups of its own, over the connections of a pool; from `SyncPool.channel`."""
