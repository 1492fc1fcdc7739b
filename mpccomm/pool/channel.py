"""What can be said on a pool and on each of its channels: messages to one party or to several, groups, more channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakValueDictionary

from mpccomm.engine.base_channel import BaseChannel, BasePart, IdSpace, values_of
from mpccomm.engine.expect import Array, Expect
from mpccomm.engine.futures import ReceiveFuture, RequestFuture, finish, future_for, taken, wait
from mpccomm.engine.group_calls import Deadline, GroupCall, calls_of
from mpccomm.engine.handles import LoopHandle
from mpccomm.engine.options import UNSET, SendLimits, Timeout, names_of, receive_limit
from mpccomm.engine.party import Party
from mpccomm.engine.several import together
from mpccomm.pool.groups import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class Messages(BaseChannel):
    """The calls that send and receive, with all message ids in one space."""

    def __init__(self, space: IdSpace) -> None:
        super().__init__(space)
        self._channels: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self._groups: WeakValueDictionary[str, Group] = WeakValueDictionary()

    # -- one party -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        """Send a message; returns when the other party's pool holds it.

        :param name: the party
        :param message: the value; don't change arrays in it before this returns
        :param msg_id: id by which the party will ask for it; left out: the next automatic number
        :param timeout: seconds; None waits without limit; left out: the pool's own. When it passes the message is not
            withdrawn: it may still arrive.
        :param max_retries: how many times the party may be dialled in vain meanwhile; -1: without end; left out: the pool's own
        :raises UnknownPartyError: no such party
        :raises EncodingError: the value can't be carried exactly
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted
        """
        engine = self._engine
        party = engine.parties.get(name) or engine.party(name)
        limits = self._limits(timeout, max_retries)
        loop = asyncio.get_running_loop()
        owner = engine.loop_owner
        future = RequestFuture(loop=loop)
        future.owner = owner
        if loop is not owner.home:
            self._enter()
        future.is_home = loop is owner.home
        call = self._queue_one(party, message, msg_id, limits, None, future)
        if not future.done() or call.error is not None:
            await finish(call, future)

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future of the caller's loop, done when the party's pool holds the message; a failure is on it
        """
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
        """Receive a message.

        Timed out or cancelled it leaves no trace: the message is there for the next one to ask.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; None waits without limit
        :param expect: what the message has to be: a class, a tuple of classes, or an `mpccomm.Array`
        :raises UnknownPartyError: no such party
        :raises UnexpectedTypeError: the message is something else; it counts as received
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """
        call = self._receiving(name, msg_id, timeout, expect)
        return await taken(call, self._engine.loop_owner, call.value)

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
        """Receive a message without waiting: a future of the caller's loop, which is done already if the message is here.

        A cancelled one leaves the message for the next.
        """
        call = self._asking(name, msg_id, expect)
        owner = self._engine.loop_owner
        future = future_for(call, owner, asyncio.get_running_loop(), ReceiveFuture)
        call.immediate = future.is_home
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
        """Send one message to several parties, encoded once; returns when all of their pools hold it.

        :param handler_names: the parties; left out: all
        :raises CommunicationError: it failed for at least one of them; notes on the error name further ones
        """
        parties = self._alike(handler_names)
        destination = [party.handler for party in parties]
        await self._deliver(parties, message, destination, msg_id, self._limits(timeout, max_retries))

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        parties = self._alike(handler_names)
        destination = [party.handler for party in parties]
        return self._send_off(parties, message, destination, msg_id, self._limits(timeout, max_retries))

    async def recv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next.

        :param handler_names: the parties; left out: all
        :param expect: what each message has to be, as of `recv`
        :returns: pairs of name and message, in the order asked for
        """
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
        """Receive a message from whichever of several parties one comes from first, or has come.

        What the others sent, and their automatic numbers, stay untouched.

        :param handler_names: the parties; left out: all
        :param expect: what the message has to be, as of `recv`
        :returns: the name of the party, and its message
        :raises PartyGoneError: none of them can send any more
        """
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
        """Receive one message from each of several parties, in the order of arrival: ``async for name, message in ...``

        Each is received when it is asked for: after a ``break`` the others are there for the next to ask.

        :param handler_names: the parties; left out: all
        :param timeout: seconds for all together
        :param expect: what each message has to be, as of `recv`
        """
        names = self._names_checked(handler_names, msg_id, expect)
        return self._as_received(names, msg_id, Deadline(receive_limit(timeout), self._engine), expect)

    async def _as_received(
        self, names: list[str], msg_id: str | None, limit: Deadline, expect: Expect | None
    ) -> AsyncIterator[tuple[str, Any]]:
        while names:
            name, message = await self.recv_any(names, msg_id, limit.left, expect=expect)
            names.remove(name)
            yield name, message

    def arecv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, asyncio.Future[Any]]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [
            (party.name, self.arecv(party.name, msg_id, expect=expect))
            for party in self._engine.parties_named(names_of(handler_names))
        ]

    # -- channels and groups -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        """The channel of that name: message ids, numbers and groups of its own, over the same connections.

        What is sent on a channel is received on the channel of the same name and nowhere else. So a library that is
        given a pool does not get in the way of its caller, and two protocols can run side by side. The same name is the
        same channel; channels have channels. A channel is not closed; it ends with its pool.

        :param name: any text without "]", the same at all parties
        """
        space = self._channel_space(name)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(space, self)
        return channel

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> Group:
        """Parties that compute something together: broadcasts, gathers and so on, see `Group`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, or one is there twice
        """
        calls = calls_of(self._space, self._members(names, me))
        group = self._groups.get(calls.members.label)
        if group is None or group.me != calls.members.me:
            group = self._groups[calls.members.label] = Group(calls, self._carry_out)
        return group

    # -- inside --------------------------------------------------------------------------------------------------------

    def _send_off(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, limits: SendLimits
    ) -> LoopHandle:
        handle = LoopHandle(self._engine.failures)
        self._queue(parties, message, destination, msg_id, limits, handle)
        return handle

    async def _deliver(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        self._enter()
        owner = self._engine.loop_owner
        loop = asyncio.get_running_loop()
        future = RequestFuture(loop=loop)
        future.owner = owner
        future.is_home = loop is owner.home
        request = self._queue(parties, message, destination, msg_id, limits, None, watcher=future)
        await finish(request, future)

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
