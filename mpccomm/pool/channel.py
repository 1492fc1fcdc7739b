"""What can be said on a pool and on each of its channels: messages to one party or to several, groups, more channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mpccomm.codec import Encoded
from mpccomm.codec.dialect import Dialect
from mpccomm.engine.delivery import Arrival, read
from mpccomm.engine.engine import Engine
from mpccomm.engine.futures import Resolve, all_of, ask, dismiss, new_future, together
from mpccomm.engine.handles import LoopHandle
from mpccomm.engine.options import UNSET, Patience, Timeout, receive_limit, send_patience
from mpccomm.engine.ordering import Serialising
from mpccomm.engine.party import Party
from mpccomm.engine.requests import Call, ReceiveCall, SendCall
from mpccomm.errors import MessageTooLargeError
from mpccomm.protocol.receiver import Incoming

if TYPE_CHECKING:
    from mpccomm.pool.groups import Group

_RESERVED = ("@[", "@(")
"""How the ids of channels and of groups begin, and no others: so these never meet those of the program."""


class Messages:
    """The calls that send and receive, with all message ids in one space; ``space`` is how they begin, the pool's is empty."""

    def __init__(self, engine: Engine, name: str | None, patience: Patience, space: str = "") -> None:
        self._engine = engine
        self._name = name
        self._patience = patience
        self._space = space
        self._prefix = ""
        self._channels: dict[str, Channel] = {}
        self._groups: dict[str, Group] = {}

    @property
    def name(self) -> str | None:
        """The name of this party, for logs and groups."""
        return self._name

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
        party = self._engine.party(name)
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        await self._deliver((party,), message, party.handler, msg_id, patience)

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
        party = self._engine.party(name)
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        return self._send_off((party,), message, party.handler, msg_id, patience)

    async def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = UNSET) -> Any:
        """Receive a message.

        Timed out or cancelled it leaves no trace: the message is there for the next one to ask.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; left out or None waits without limit
        :raises UnknownPartyError: no such party
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """
        party = self._engine.party(name)
        limit = receive_limit(timeout)
        self._enter()
        (message,) = await self._collect((party,), msg_id, limit)
        return read(message, party)

    def arecv(self, name: str, msg_id: str | None = None) -> Any:
        """Receive a message without waiting: the message itself if it has arrived, otherwise a future of the caller's loop.

        Called on another loop than the pool's own it is always a future. A cancelled one leaves the message for the next.
        """
        party = self._engine.party(name)
        self._enter()
        arrival = Arrival(party, *self._key(party, msg_id))
        future: asyncio.Future[Any]
        future, resolve = ask(self._engine.loop_owner, arrival.drop)
        arrival.start(resolve)
        return arrival.value if arrival.here else future

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
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        await self._deliver(parties, message, [party.handler for party in parties], msg_id, patience)

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
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        return self._send_off(parties, message, [party.handler for party in parties], msg_id, patience)

    async def recv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, timeout: Timeout = UNSET
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next.

        :param handler_names: the parties; left out: all
        :returns: pairs of name and message, in the order asked for
        """
        parties = self._engine.parties_named(names_of(handler_names))
        limit = receive_limit(timeout)
        self._enter()
        messages = await self._collect(parties, msg_id, limit)
        return [(party.name, read(message, party)) for party, message in zip(parties, messages, strict=True)]

    def arecv_all(self, handler_names: Sequence[str] | None = None, msg_id: str | None = None) -> list[tuple[str, Any]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [
            (party.name, self.arecv(party.name, msg_id))
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
        if not name or "]" in name:
            raise ValueError(f"a channel can't be called {name!r}: its name is a text without ']', and not empty")
        if name not in self._channels:
            self._channels[name] = self._within(f"@[{name}]")
        return self._channels[name]

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> Group:
        """Parties that compute something together: broadcasts, gathers and so on, see `Group`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, or one is there twice
        """
        from mpccomm.engine.collectives import Calls, Members
        from mpccomm.pool.groups import Group

        members = Members.of(names_of(names), me or self._name, list(self._engine.parties))
        self._engine.parties_named(members.others)
        label = f"@({members.label})"
        if label not in self._groups or self._groups[label].me != members.me:
            self._groups[label] = Group(self._within(label), Calls(members))
        return self._groups[label]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _within(self, label: str) -> Channel:
        return Channel(self._engine, self._name, self._patience, self._space + label)

    def _prefix_for(self, party: Party) -> str:
        return party.prefix

    def _key(self, party: Party, msg_id: str | None) -> tuple[str, str | None]:
        """Prefix and id, unless they can't be sent, or would be those of a channel or a group."""
        prefix = self._prefix_for(party)
        own = prefix + (msg_id or "")
        if own.startswith(_RESERVED):
            raise ValueError(f"{own!r} can't be a message id: what starts so belongs to a channel or group")
        if own:
            check_id(self._space + own, self._engine.settings.limits.max_id_size)
        return self._space + prefix, msg_id

    def _alike(self, names: Sequence[str] | None) -> Sequence[Party]:
        """The parties of those names for a broadcast: it is one message, with one id."""
        parties = self._engine.parties_named(names_of(names))
        prefixes = {self._prefix_for(party): party for party in parties}
        if len(prefixes) > 1:
            found = ", ".join(f"{prefix!r} ({party.name})" for prefix, party in prefixes.items())
            raise ValueError(f"a broadcast to parties with different prefixes: {found}; see update_msg_prefix")
        return parties

    def _enter(self) -> None:
        """Before any use: settle on a loop, and start what has been added."""
        engine = self._engine
        loop_owner = engine.loop_owner
        if not engine.lifecycle.usable:
            engine.check_open()
        if not loop_owner.settled:
            engine.launch()
        loop_owner.check()
        if engine.has_additions:
            loop_owner.post(engine.start_added)

    def _encode(
        self,
        parties: Sequence[Party],
        message: object,
        destination: object,
        begin: Callable[[], None],
        *,
        snapshot: bool,
    ) -> dict[Dialect, Encoded]:
        """The bytes of a message: the same for all parties that speak alike."""
        context = {"destination": destination}
        encoded: dict[Dialect, Encoded] = {}
        for party in parties:
            dialect = party.dialect
            if dialect not in encoded:
                encoded[dialect] = dialect.encode(message, snapshot=snapshot, context=context, begin=begin)
            size = sum(map(len, encoded[dialect].segments))
            if size > party.link.max_message_size:
                raise MessageTooLargeError(
                    f"a message of {size} bytes to {party}: it takes at most {party.link.max_message_size}; "
                    "send it in pieces, or raise max_message_size on both sides"
                )
        audit = self._engine.audit
        return encoded if audit is None else audit.noted(message, encoded)

    def _queue(
        self,
        parties: Sequence[Party],
        message: object,
        destination: object,
        msg_id: str | None,
        patience: Patience,
        resolves: Iterable[Resolve[None]],
        calls: list[Call],
        *,
        awaited: bool,
    ) -> None:
        """Encode a message and queue it for each party; what is under way is in ``calls`` before it is.

        ``resolves`` are told, one for each party. Between the encoding of a message and its place in the queue nobody
        waits: it happens in the order of the calls.
        """
        post = self._engine.loop_owner.post
        serialising = Serialising(parties)
        try:
            encoded = self._encode(parties, message, destination, serialising.begin, snapshot=not awaited)
            for party, resolve in zip(parties, resolves, strict=True):
                prefix, own = self._key(party, msg_id)
                call = SendCall(party, prefix, own, encoded[party.dialect], patience, awaited, resolve)
                calls.append(call)
                post(call.start)
        finally:
            serialising.end()

    def _send_off(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> LoopHandle:
        handle = LoopHandle(self._engine.failures)
        resolves = together(len(parties), handle.resolve)
        self._queue(parties, message, destination, msg_id, patience, resolves, [], awaited=False)
        return handle

    async def _deliver(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> None:
        loop_owner = self._engine.loop_owner
        calls: list[Call] = []
        futures: list[asyncio.Future[None]] = []
        resolves: list[Resolve[None]] = []
        for _ in parties:
            future: asyncio.Future[None]
            future, resolve = new_future(loop_owner)
            futures.append(future)
            resolves.append(resolve)
        self._queue(parties, message, destination, msg_id, patience, resolves, calls, awaited=True)
        try:
            if len(futures) == 1:
                await futures[0]
            else:
                await all_of(futures)
        except asyncio.CancelledError:
            for call in calls:
                loop_owner.post(call.cancel)
            dismiss(futures)
            raise

    async def _collect(self, parties: Sequence[Party], msg_id: str | None, limit: float | None) -> list[Incoming]:
        loop_owner = self._engine.loop_owner
        calls: list[ReceiveCall] = []
        futures: list[asyncio.Future[Incoming]] = []

        def drop() -> None:
            # All or none: what has been handed over already is un-got.
            for call in calls:
                loop_owner.post(call.cancel)

        for party in parties:
            future: asyncio.Future[Incoming]
            future, resolve = ask(loop_owner, drop)
            calls.append(ReceiveCall(party, *self._key(party, msg_id), limit, resolve))
            futures.append(future)
            loop_owner.post(calls[-1].start)
        try:
            return [await future for future in futures]
        except BaseException:
            drop()
            dismiss(futures)
            raise


class Channel(Messages):
    """Message ids, numbers and groups of its own, over the connections of a pool; from `Pool.channel`."""

    def __repr__(self) -> str:
        return f"<channel {self._space}>"

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages of this channel, of both directions, as `Pool.update_msg_prefix`.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        """
        self._prefix = prefix or ""

    def _prefix_for(self, party: Party) -> str:
        return self._prefix


def names_of(names: Sequence[str] | None) -> Sequence[str] | None:
    """The names as given; a single string would be taken for a list of one-letter names."""
    if isinstance(names, str):
        raise TypeError(f"handler_names takes a list of names; did you mean [{names!r}]?")
    return names


def check_id(text: str, limit: int) -> None:
    """Raise `ValueError` where a message id, its prefix included, can't be sent."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} can't be a message id: it is no valid Unicode ({error.reason})") from None
    if size > limit:
        raise ValueError(f"a message id of {size} bytes, prefix included: {limit} are the limit (Limits.max_id_size)")
