"""What can be said on a pool and on each of its channels: messages to one party or to several, groups, more channels.

`mpccomm/sync/channel.py` is made of this module. What differs, how a call waits, is in `mpccomm.pool.waiting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpccomm.engine.base_channel import NamedChannel, values_of
from mpccomm.engine.deadlines import Deadline
from mpccomm.engine.expect import Array, Expect
from mpccomm.engine.futures import raise_error, taken, withdraw_forgotten
from mpccomm.engine.group_calls import calls_of
from mpccomm.engine.options import UNSET, Timeout, names_of, receive_limit
from mpccomm.engine.party import Party
from mpccomm.engine.several import together
from mpccomm.pool.groups import Group
from mpccomm.pool.waiting import NOT_HERE, Waiting

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class Messages(Waiting):
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
        """Send a message; returns when the other party's pool holds it.

        :param name: the party
        :param message: the value; don't change arrays in it before this returns
        :param msg_id: id by which the party will ask for it; left out: the next automatic number
        :param timeout: seconds; None waits without limit; left out: the pool's own. When it passes the message is not
            withdrawn: it may still arrive.
        :param max_retries: how many times the party may be dialled again in vain before this raises, which does not withdraw the
            message either; -1: no limit; left out: the pool's own
        :raises UnknownPartyError: no such party
        :raises EncodingError: the value can't be carried exactly
        :raises CommunicationTimeoutError: time is up
        :raises PartyUnreachableError: ``max_retries`` are used up
        :raises PartyGoneError: the party shut down, restarted or aborted
        """
        engine = self._engine
        try:
            party = engine.parties[name]
        except (KeyError, TypeError):
            party = engine.party(name, sends=True)
        limits = self._space.limits if timeout is UNSET and max_retries is None else self._limits(timeout, max_retries)
        # The wait is written out: in a coroutine of its own it would take more steps for every message.
        owner = engine.loop_owner
        home: Any = owner.home
        # Before Python 3.12 it takes a call of the system to ask for the running loop. Without a loop there is no thread of it.
        if get_ident() != owner.thread or not home.is_running():
            await self._deliver_from_elsewhere(party, message, msg_id, limits)
            return
        future = home.create_future()
        call = end = None
        try:
            call = self._send_plain(party, message, msg_id, limits, future)
            if call is None:
                call = self._queue_one(party, message, msg_id, limits, None, None, future)
            observers = owner.observers
            if observers is not None and observers.waits:
                end = observers.begin_wait(call.involved(), further=False)
            await future
        except BaseException:
            # The caller was cancelled, or a signal handler has raised.
            if call is not None:
                owner.forgotten.append(call)
                withdraw_forgotten(owner)
            raise
        finally:
            if end is not None:
                end()
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
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future, done when the party's pool holds the message; a failure is on it. `Pool` gives an asyncio future of the
            caller's loop, `SyncPool` a `concurrent.futures.Future`.
        """
        engine = self._engine
        handle = self._handle()
        try:
            party = engine.parties[name]
        except (KeyError, TypeError):
            party = engine.party(name, sends=True)
        self._queue_one(party, message, msg_id, self._limits(timeout, max_retries), handle)
        return handle

    @overload
    async def recv(
        self,
        name: str,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: type[T] | tuple[type[T], ...],
    ) -> T: ...
    @overload
    async def recv(
        self,
        name: str,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Array,
    ) -> NDArray[Any]: ...
    @overload
    async def recv(
        self,
        name: str,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Any: ...
    async def recv(
        self,
        name: str,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Any:
        """Receive a message.

        Timed out, cancelled or interrupted it leaves no trace: the next call that asks for the message gets it.

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
        value = self._receive_now(name, msg_id, timeout, expect)
        if value is NOT_HERE:
            call = self._receiving(name, msg_id, timeout, expect)
            value = await taken(call, self._engine.loop_owner, call.value)
        return value

    @overload
    def arecv(
        self,
        name: str,
        msg_id: str | None = None,
        *,
        expect: type[T] | tuple[type[T], ...],
    ) -> asyncio.Future[T]: ...
    @overload
    def arecv(
        self,
        name: str,
        msg_id: str | None = None,
        *,
        expect: Array,
    ) -> asyncio.Future[NDArray[Any]]: ...
    @overload
    def arecv(
        self,
        name: str,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> asyncio.Future[Any]: ...
    def arecv(
        self,
        name: str,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> asyncio.Future[Any]:
        """Receive a message without waiting.

        A cancelled future leaves the message for the next call, and so does one that the program has forgotten. One whose
        ``result`` ran out of time still waits, and gets the message when it comes: ``cancel()`` it so that another receive gets it.

        :returns: a future that gets the message. `Pool` gives an asyncio future of the caller's loop, done already if the message
            is here; `SyncPool` a `concurrent.futures.Future`.
        """
        return self._future_of(self._asking(name, msg_id, expect))

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
        await self._deliver_all(handler_names, message, msg_id, self._limits(timeout, max_retries))

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        handle = self._handle()
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
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next call.
        One that can't be read, or is not as expected, counts as received all the same; those of the others stay.

        :param handler_names: the parties; left out: all
        :param expect: what each message has to be, as of `recv`
        :returns: pairs of name and message, in the order asked for
        """
        calls = self._receiving_all(handler_names, msg_id, timeout, expect)
        return await self._take(together(calls), partial(values_of, calls))

    async def recv_any(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> tuple[str, Any]:
        """Receive one message from several parties: the first that comes, or that has come.

        What the others sent, and their automatic numbers, stay untouched.

        :param handler_names: the parties; left out: all
        :param expect: what the message has to be, as of `recv`
        :returns: the name of the party, and its message
        :raises PartyGoneError: none of them can send any more
        """
        request = self._receiving_any(handler_names, msg_id, timeout, expect)
        return await self._take(request, request.value)

    def as_received(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> AsyncIterator[tuple[str, Any]]:
        """Receive one message from each of several parties, in the order of arrival.

        ``async for name, message in ...`` on a `Pool`, ``for name, message in ...`` on a `SyncPool`. Each message is received when
        it is asked for: after a ``break`` the others stay for the next call.

        :param handler_names: the parties; left out: all
        :param timeout: seconds for all together
        :param expect: what each message has to be, as of `recv`
        """
        parties = self._parties_checked(handler_names, msg_id, expect)
        return self._as_received(parties, msg_id, Deadline(receive_limit(timeout), self._engine.loop_owner), expect)

    async def _as_received(
        self,
        parties: list[Party],
        msg_id: str | None,
        limit: Deadline,
        expect: Expect | None,
    ) -> AsyncIterator[tuple[str, Any]]:
        while parties:
            # By themselves, not by their names: one may be removed meanwhile, or another be added under its name.
            request = self._receiving_any_of(parties, msg_id, limit.left, expect)
            # Handed out before any further step: an interrupt there would lose it.
            pair = await self._take(request, request.value)
            yield pair
            parties = [party for party in parties if party is not request.party]

    def arecv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, asyncio.Future[Any]]]:
        """Return pairs of name and what `arecv` gives, for each of several parties."""
        parties = self._engine.parties_named(names_of(handler_names))
        return [(party.name, self.arecv(party.name, msg_id, expect=expect)) for party in parties]

    # -- channels and groups -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        """Return the channel of that name: message ids, numbers and groups of its own, over the same connections.

        What is sent on a channel is received on the channel of the same name and nowhere else. So a library that is
        given a pool does not get in the way of its caller, and two protocols can run side by side. The same name is the
        same channel; channels have channels. A channel is not closed; it ends with its pool.

        :param name: any text without "]", the same at all parties
        """
        return self._channel(name, Channel)

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> Group:
        """Return parties that compute something together: broadcasts, gathers and so on, see `Group`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, one is there twice, another party was added by its name, or
            one has a ``wire`` of its own
        """
        calls = calls_of(self._space, self._members(names, me))
        group = self._groups.get(calls.members.label)
        if group is None or group.me != calls.members.me:
            group = self._groups[calls.members.label] = Group(calls, self._take)
        return group


class Channel(NamedChannel, Messages):
    """Message ids, numbers and groups of its own, over the connections of a pool; from `Pool.channel`."""
