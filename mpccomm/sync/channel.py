"""The calls of a pool and of each of its channels, blocking."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mpccomm.engine.delivery import Arrival
from mpccomm.engine.futures import raise_first, together
from mpccomm.engine.handles import ThreadHandle
from mpccomm.engine.options import UNSET, Patience, Timeout, receive_limit, send_patience
from mpccomm.engine.party import Party
from mpccomm.engine.requests import ReceiveCall
from mpccomm.engine.thread_future import ThreadFuture
from mpccomm.errors import WrongThreadError
from mpccomm.pool.channel import Channel, Messages, names_of
from mpccomm.protocol.receiver import Incoming
from mpccomm.sync.blocking import Slot, Ticket
from mpccomm.sync.loop_lifetime import LoopLifetime

if TYPE_CHECKING:
    from mpccomm.sync.groups import SyncGroup


class SyncMessages:
    """The calls of `Messages`, blocking."""

    def __init__(self, native: Messages, loop_lifetime: LoopLifetime) -> None:
        self._native = native
        self._engine = native._engine
        self._loop_lifetime = loop_lifetime

    @property
    def name(self) -> str | None:
        """The name of this party, for logs and groups."""
        return self._native.name

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
        party = self._engine.party(name)
        self._send([party], message, party.handler, msg_id, self._patience(timeout, max_retries))

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
        party = self._engine.party(name)
        return self._asend([party], message, party.handler, msg_id, self._patience(timeout, max_retries))

    def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = UNSET) -> Any:
        """Receive a message.

        Timed out or interrupted it leaves no trace: the message is there for the next one to ask.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; left out or None waits without limit
        :raises UnknownPartyError: no such party
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """
        ticket = Ticket(self._engine.loop_owner)
        try:
            message = self._receive(ticket, [self._engine.party(name)], msg_id, timeout)[0][1]
            ticket.redeemed = True
            return message
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def arecv(self, name: str, msg_id: str | None = None) -> Future[Any]:
        """Receive a message without waiting: a future that gets it. A cancelled one leaves the message for the next."""
        party = self._engine.party(name)
        self._native._enter()
        future = ThreadFuture[Any]()
        arrival = Arrival(party, *self._native._key(party, msg_id))
        arrival.start(future.resolve)
        future.add_done_callback(lambda future: arrival.drop() if future.cancelled() else None)
        return future

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
        parties = self._native._alike(handler_names)
        destination = [party.handler for party in parties]
        self._send(parties, message, destination, msg_id, self._patience(timeout, max_retries))

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        parties = self._native._alike(handler_names)
        destination = [party.handler for party in parties]
        return self._asend(parties, message, destination, msg_id, self._patience(timeout, max_retries))

    def recv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, timeout: Timeout = UNSET
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next.

        :param handler_names: the parties; left out: all
        :returns: pairs of name and message, in the order asked for
        """
        ticket = Ticket(self._engine.loop_owner)
        try:
            messages = self._receive(ticket, self._engine.parties_named(names_of(handler_names)), msg_id, timeout)
            ticket.redeemed = True
            return messages
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def arecv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None
    ) -> list[tuple[str, Future[Any]]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [
            (party.name, self.arecv(party.name, msg_id))
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
        return SyncChannel(self._native.channel(name), self._loop_lifetime)

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> SyncGroup:
        """Parties that compute something together: broadcasts, gathers and so on, see `SyncGroup`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, or one is there twice
        """
        from mpccomm.sync.groups import SyncGroup

        group = self._native.group(names, me=me)
        return SyncGroup(SyncChannel(group._channel, self._loop_lifetime), group._calls)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_thread(self) -> None:
        if self._loop_lifetime.here:
            raise WrongThreadError(
                "a blocking call on the pool's own thread would wait for itself; there, await the coroutines of SyncPool.pool"
            )

    def _patience(self, timeout: Timeout, max_retries: int | None) -> Patience:
        return send_patience(timeout, max_retries, self._native._patience)

    def _send(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> None:
        self._check_thread()
        self._native._enter()
        ticket = Ticket(self._engine.loop_owner)
        try:
            slots: list[Slot[None]] = [Slot() for _ in parties]
            resolves = [slot.resolve for slot in slots]
            self._native._queue(parties, message, destination, msg_id, patience, resolves, ticket.calls, awaited=True)
            raise_first([error for slot in slots if (error := slot.wait()) is not None])
            ticket.redeemed = True
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def _asend(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> ThreadHandle:
        self._native._enter()
        handle = ThreadHandle(self._engine.failures)
        resolves = together(len(parties), handle.resolve)
        self._native._queue(parties, message, destination, msg_id, patience, resolves, [], awaited=False)
        return handle

    def _receive(
        self, ticket: Ticket, parties: Sequence[Party], msg_id: str | None, timeout: Timeout
    ) -> list[tuple[str, Any]]:
        self._check_thread()
        limit = receive_limit(timeout)
        self._native._enter()
        slots: list[Slot[Incoming]] = []
        for party in parties:
            slots.append(Slot())
            call = ReceiveCall(party, *self._native._key(party, msg_id), limit, slots[-1].resolve)
            ticket.calls.append(call)
            self._engine.loop_owner.post(call.start)
        raise_first([error for slot in slots if (error := slot.wait()) is not None])
        return [(party.name, ticket.read(at, party)) for at, party in enumerate(parties)]


class SyncChannel(SyncMessages):
    """Message ids, numbers and groups of its own, over the connections of a pool; from `SyncPool.channel`."""

    def __init__(self, native: Channel, loop_lifetime: LoopLifetime) -> None:
        super().__init__(native, loop_lifetime)
        self._channel = native

    def __repr__(self) -> str:
        return repr(self._channel)

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages of this channel, of both directions, as `SyncPool.update_msg_prefix`.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        """
        self._channel.update_msg_prefix(prefix)
