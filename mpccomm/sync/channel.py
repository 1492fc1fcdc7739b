"""The calls of a pool and of each of its channels, blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakValueDictionary

from mpccomm.engine.base_channel import BaseChannel, BasePart, IdSpace, values_of
from mpccomm.engine.expect import Array, Expect
from mpccomm.engine.group_calls import Deadline, GroupCall, calls_of
from mpccomm.engine.handles import ThreadFuture, ThreadHandle
from mpccomm.engine.options import UNSET, SendLimits, Timeout, names_of, receive_limit
from mpccomm.engine.party import Party
from mpccomm.engine.requests import Request
from mpccomm.engine.several import together
from mpccomm.errors import WrongThreadError
from mpccomm.sync.blocking import BlockingCall, FinishedCall, wait_for
from mpccomm.sync.groups import SyncGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class SyncMessages(BaseChannel):
    """The calls that send and receive, with all message ids in one space."""

    def __init__(self, space: IdSpace) -> None:
        super().__init__(space)
        self._channels: WeakValueDictionary[str, SyncChannel] = WeakValueDictionary()
        self._groups: WeakValueDictionary[str, SyncGroup] = WeakValueDictionary()

    # -- one party -----------------------------------------------------------------------------------------------------

    def send(
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
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future, done when the party's pool holds the message; a failure is on it
        """
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
        """Receive a message.

        Timed out or interrupted it leaves no trace: the message is there for the next one to ask.

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
        engine = self._engine
        owner = engine.loop_owner
        if get_ident() == owner.thread:
            self._check_thread()
        blocking = BlockingCall(owner)
        try:
            call = self._receiving(name, msg_id, timeout, expect)
            blocking.request = call
            # One that is here is taken without a word to the loop.
            if owner.busy or not call.grab():
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
        """Receive a message without waiting: a future that gets it.

        A cancelled one leaves the message for the next, and so does one that nobody has any more. One whose ``result`` ran out of
        time still waits, and gets the message when it comes: ``cancel()`` it if another receive is to have it.
        """
        call = self._asking(name, msg_id, expect)
        future = ThreadFuture[Any](self._engine.callbacks, call)
        call.landed = False
        try:
            self._launch(call)
            call.landed = True
            # The loop looks at the one after the other as well, in the other order: one of the two sees both.
            if future.outcomes:
                call.message = None
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
        """Send one message to several parties, encoded once; returns when all of their pools hold it.

        :param handler_names: the parties; left out: all
        :raises CommunicationError: it failed for at least one of them; notes on the error name further ones
        """
        parties = self._alike(handler_names)
        destination = [party.handler for party in parties]
        self._send(parties, message, destination, msg_id, self._limits(timeout, max_retries))

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        parties = self._alike(handler_names)
        destination = [party.handler for party in parties]
        return self._asend(parties, message, destination, msg_id, self._limits(timeout, max_retries))

    def recv_all(
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
        """Receive a message from whichever of several parties one comes from first, or has come.

        What the others sent, and their automatic numbers, stay untouched.

        :param handler_names: the parties; left out: all
        :param expect: what the message has to be, as of `recv`
        :returns: the name of the party, and its message
        :raises PartyGoneError: none of them can send any more
        """
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
        """Receive one message from each of several parties, in the order of arrival: ``for name, message in ...``

        Each is received when it is asked for: after a ``break`` the others are there for the next to ask.

        :param handler_names: the parties; left out: all
        :param timeout: seconds for all together
        :param expect: what each message has to be, as of `recv`
        """
        names = self._names_checked(handler_names, msg_id, expect)
        return self._as_received(names, msg_id, Deadline(receive_limit(timeout), self._engine), expect)

    def _as_received(
        self, names: list[str], msg_id: str | None, limit: Deadline, expect: Expect | None
    ) -> Iterator[tuple[str, Any]]:
        while names:
            # No step in between where an interrupt could lose it.
            pair = self.recv_any(names, msg_id, limit.left, expect=expect)
            yield pair
            names.remove(pair[0])

    def arecv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Future[Any]]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [
            (party.name, self.arecv(party.name, msg_id, expect=expect))
            for party in self._engine.parties_named(names_of(handler_names))
        ]

    # -- channels and groups -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> SyncChannel:
        """The channel of that name: message ids, numbers and groups of its own, over the same connections.

        What is sent on a channel is received on the channel of the same name and nowhere else. So a library that is
        given a pool does not get in the way of its caller, and two protocols can run side by side. The same name is the
        same channel; channels have channels. A channel is not closed; it ends with its pool.

        :param name: any text without "]", the same at all parties
        """
        space = self._channel_space(name)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = SyncChannel(space, self)
        return channel

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> SyncGroup:
        """Parties that compute something together: broadcasts, gathers and so on, see `SyncGroup`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, or one is there twice
        """
        calls = calls_of(self._space, self._members(names, me))
        group = self._groups.get(calls.members.label)
        if group is None or group.me != calls.members.me:
            group = self._groups[calls.members.label] = SyncGroup(calls, self._carry_out)
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

    def _launch(self, request: Request) -> None:
        # Never before this returns: a callback of a handle calls on the loop's own thread, and chains of them would recurse.
        self._engine.loop_owner.post_soon(request.start)

    def _send(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, limits: SendLimits
    ) -> None:
        self._check_thread()
        blocking = BlockingCall(self._engine.loop_owner)
        try:
            blocking.arm()
            request = self._queue(parties, message, destination, msg_id, limits, None, watcher=blocking)
            blocking.wait(request)
            blocking.__class__ = FinishedCall  # type: ignore[assignment]
        except BaseException:
            blocking.give_back(self._engine.settings.interrupt_grace)
            raise

    def _asend(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, limits: SendLimits
    ) -> ThreadHandle:
        handle = ThreadHandle(self._engine.callbacks, self._engine.failures)
        self._queue(parties, message, destination, msg_id, limits, handle)
        return handle

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
