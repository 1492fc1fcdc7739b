"""What pools and channels have in common on both faces: a space of message ids, and all that is done in it without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, SupportsIndex, TypeVar
from weakref import WeakValueDictionary

from mpccomm.address import check_name
from mpccomm.codec import Encoded
from mpccomm.codec.wire_format import OURS
from mpccomm.engine.collectives import Members
from mpccomm.engine.deadlines import PoolDeadline, entered, limits_within, tightened
from mpccomm.engine.error_messages import no_party
from mpccomm.engine.expect import Expect, check_expect
from mpccomm.engine.handles import Handle
from mpccomm.engine.lanes import lane_of, task_on
from mpccomm.engine.options import (
    NO_LIMIT,
    UNSET,
    SendLimits,
    Timeout,
    check_id,
    check_id_type,
    names_of,
    receive_limit,
    send_limits,
)
from mpccomm.engine.ordering import Serialising
from mpccomm.engine.requests import (
    FutureCall,
    NotedSend,
    Plain,
    PlainSend,
    ReceiveCall,
    Request,
    SendCall,
    Waiter,
    values,
)
from mpccomm.engine.several import First, Part, Several, together
from mpccomm.engine.trail import Called
from mpccomm.errors import ConfigurationError, MessageTooLargeError
from mpccomm.memory import Buffer

if TYPE_CHECKING:
    from mpccomm.codec.wire_format import WireFormat
    from mpccomm.engine.engine import Engine
    from mpccomm.engine.party import Party

C = TypeVar("C", bound="NamedChannel")
S = TypeVar("S", bound="IdSpace")

_RESERVED = ("@[", "@(")
"""How the ids of channels and of groups begin. No id of the program may begin so."""


class IdSpace:
    """The message ids of a pool, a channel or a group, and the spaces within it. Both faces of a pool share it.

    ``label`` is how all ids begin; that of the pool itself is empty.
    """

    __slots__ = ("engine", "label", "limits", "name", "prefix", "spaces")

    def __init__(self, engine: Engine, name: str | None, limits: SendLimits, label: str = "") -> None:
        self.engine = engine
        self.name = name
        self.limits = limits
        self.label = label
        self.prefix = ""
        self.spaces: dict[str, IdSpace] = {}

    def within(self, label: str, kind: type[S]) -> S:
        """Return the space of that label within this one: always the same object for the same label. Its kind never changes."""
        space = self.spaces.get(label)
        if space is None:
            space = self.spaces.setdefault(label, kind(self.engine, self.name, self.limits, self.label + label))
        assert isinstance(space, kind)
        return space


class Watcher(Waiter, Protocol):
    """A waiter that knows its request, and can cancel it."""

    request: Request | None


class BaseChannel:
    """The calls that don't wait, and the parts of the others that don't. The faces add the waiting."""

    def __init__(self, space: IdSpace) -> None:
        self._space = space
        self._engine = space.engine
        self._post: Callable[[Callable[[], None]], None] = space.engine.loop_owner.post
        """How the start of a send is posted to the loop."""
        self._channels: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._groups: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled: what makes it up are connections of this process."""
        raise TypeError(
            f"a {type(self).__name__} can't be copied or pickled: it is its connections. Pass it on as it is; in another process, "
            "make a pool there"
        )

    @property
    def name(self) -> str | None:
        """The name of this party, for logs and groups."""
        return self._space.name

    def deadline(self, seconds: float | None) -> PoolDeadline:
        """Bound all calls of this pool that wait, and are made inside, by one time limit: ``with pool.deadline(30): ...``

        Each of them has what is left of it, or its own limit if that is less; also those on channels and in groups. It counts for
        the thread or the task that enters it, and for tasks that are made inside, until it is left. Deadlines nest.

        :param seconds: from when it is entered; None for no limit
        """
        return PoolDeadline(self._engine.loop_owner, seconds)

    # -- ids -----------------------------------------------------------------------------------------------------------

    def _key(self, party: Party, msg_id: str | None) -> tuple[str, str | None]:
        """Return prefix and id of a message; raise if they can't be sent, or would be those of a channel or a group."""
        space = self._space
        label = space.label
        # On the pool itself each party has its own.
        prefix = space.prefix if label else party.prefix
        if msg_id is None:
            if not prefix:
                return label, None
            own = prefix
        else:
            check_id_type(msg_id)
            own = prefix + msg_id
        if own.startswith(_RESERVED):
            raise ValueError(f"{own!r} can't be a message id: what starts so belongs to a channel or group")
        if own:
            check_id(label + own, self._engine.settings.limits.max_id_size)
        return label + prefix, msg_id

    def _alike(self, names: Sequence[str] | None) -> list[Party]:
        """Return the parties of those names for a broadcast; raise unless all have the same prefix, as it has one id."""
        parties = self._engine.parties_named(names_of(names))
        prefixes = {party.prefix: party for party in parties}
        if len(prefixes) > 1 and not self._space.label:
            found = ", ".join(f"{prefix!r} ({party.name})" for prefix, party in prefixes.items())
            raise ValueError(f"a broadcast to parties with different prefixes: {found}; see update_msg_prefix")
        return parties

    def _enter(self) -> None:
        """Settle on a loop, if that was not done yet, and start what has been added. Called before any use."""
        engine = self._engine
        loop_owner = engine.loop_owner
        if loop_owner.suspect is not None:
            loop_owner.post(loop_owner.judge)
        if not engine.lifecycle.usable:
            engine.check_open()
        if not loop_owner.settled:
            engine.launch()
        loop_owner.check()
        if engine.lifecycle.has_additions:
            loop_owner.post(engine.start_added)
        if loop_owner.forgotten:
            loop_owner.withdraw_forgotten()

    # -- requests ------------------------------------------------------------------------------------------------------

    def _receiving(self, name: str, msg_id: str | None, timeout: Timeout, expect: Expect | None) -> ReceiveCall:
        """Return the receive of one message, not started yet."""
        engine = self._engine
        try:
            party = engine.parties[name]
        except (KeyError, TypeError):
            party = engine.party(name)
        automatic = msg_id is None and not (self._space.prefix or party.prefix)
        prefix, own = (self._space.label, None) if automatic else self._key(party, msg_id)
        if expect is not None:
            check_expect(expect)
        limit = None if timeout is None or timeout is UNSET else receive_limit(timeout)
        if entered.last() is not None:
            limit = tightened(engine.loop_owner, limit)
        owner = engine.loop_owner
        if not engine.lifecycle.at_work or owner.forgotten or owner.suspect:
            self._enter()
        call = ReceiveCall(party, prefix, own, limit, expect)
        if owner.observers is not None:
            call.lane = owner.lane()
        return call

    def _receiving_all(
        self, names: Sequence[str] | None, msg_id: str | None, timeout: Timeout, expect: Expect | None
    ) -> list[ReceiveCall]:
        """Return the receives of one message from each of the parties, not started yet."""
        calls = self._receiving_of(self._engine.parties_named(names_of(names)), msg_id, timeout, expect)
        owner = self._engine.loop_owner
        if owner.observers is not None:
            lane = owner.lane()
            for call in calls:
                call.lane = lane
        return calls

    def _receiving_of(
        self, parties: Sequence[Party], msg_id: str | None, timeout: Timeout, expect: Expect | None
    ) -> list[ReceiveCall]:
        """Return the receives of one message from each of the parties, not started yet; one of them may have been removed."""
        check_id_type(msg_id)
        check_expect(expect)
        limit = tightened(self._engine.loop_owner, receive_limit(timeout))
        calls = [ReceiveCall(party, *self._key(party, msg_id), limit, expect) for party in parties]
        self._enter()
        return calls

    def _receiving_any(
        self, names: Sequence[str] | None, msg_id: str | None, timeout: Timeout, expect: Expect | None
    ) -> First:
        """Return the receive of the first message from any party, not started yet."""
        return self._receiving_any_of(self._each_of(names), msg_id, timeout, expect)

    def _each_of(self, names: Sequence[str] | None) -> list[Party]:
        """Return the parties of those names, each once."""
        return list(dict.fromkeys(self._engine.parties_named(names_of(names))))

    def _receiving_any_of(
        self, parties: Sequence[Party], msg_id: str | None, timeout: Timeout, expect: Expect | None
    ) -> First:
        """Return the receive of the first message from any of these, of which one may have been removed."""
        calls = self._receiving_of(parties, msg_id, timeout, expect)
        if not calls:
            raise ValueError("there is no party to receive from")
        return First(calls)

    def _parties_checked(self, names: Sequence[str] | None, msg_id: str | None, expect: Expect | None) -> list[Party]:
        """Return the parties for `as_received`, which begins only when its first message is asked for."""
        parties = self._each_of(names)
        check_expect(expect)
        for party in parties:
            self._key(party, msg_id)
        return parties

    def _asking(self, name: str, msg_id: str | None, expect: Expect | None) -> FutureCall:
        """Return the receive of one message for a future, not started yet."""
        party = self._engine.party(name)
        check_expect(expect)
        call = FutureCall(party, *self._key(party, msg_id), expect)
        self._enter()
        return call

    def _limits(self, timeout: Timeout, max_retries: int | None) -> SendLimits:
        if timeout is UNSET and max_retries is None:
            return self._space.limits
        return send_limits(timeout, max_retries, self._space.limits)

    def _send_plain(
        self, party: Party, message: object, msg_id: str | None, limits: SendLimits, future: asyncio.Future[None]
    ) -> SendCall | None:
        """Send a message for which a future of the pool's loop waits, called on that loop. None: `_queue_one` has to do it.

        Nearly all messages go this way: they are one small thing, and nothing is in their way.
        """
        engine, link = self._engine, party.link
        owner = engine.loop_owner
        encode_plain = party.wire_format.encode_plain
        envelope = encode_plain(message)
        if (
            envelope is None
            or msg_id is not None
            or self._space.label
            or party.prefix
            or limits is not NO_LIMIT
            or not engine.lifecycle.at_work
            or owner.posted
            or owner.running
            or owner.suspect
            or party.closed
            or link.ending
            or engine.audit is not None
            or entered.last() is not None
            or len(envelope) > link.max_message_size
        ):
            return None
        observers = owner.observers
        if observers is None:
            call = PlainSend(party, envelope, future)
        else:
            call = noted = NotedSend(party, envelope, future)
            clock = owner.clock  # looked up as an attribute: as a method it would be found more slowly
            # As `LoopOwner.lane`, in fewer steps since this is known to be the thread of the loop.
            noted.called = lane_of(task_on(owner.home)) or owner.lane(), clock()
            if observers.each:
                noted.announce(observers)
        # The same as `LoopOwner.post` and `SendCall.start`, without a call.
        try:
            link.sender.add_plain(call)
            connections = party.connections
            only = connections.only
            if only is None or not only.awake:
                connections.wake()
        except BaseException as error:
            owner.suspect = error
            owner.judge()
            raise
        return call

    def _queue_one(
        self,
        party: Party,
        message: object,
        msg_id: str | None,
        limits: SendLimits,
        waiter: Handle | None,
        watcher: Watcher | None = None,
        future: asyncio.Future[None] | None = None,
    ) -> SendCall:
        """Encode a message and queue it for one party, as `_queue` does for several.

        What waits for it may be a ``future`` of the pool's loop as well, see `SendCall.future`.
        """
        # Nearly all messages are like this. The same as `_key`, without its call for each message.
        automatic = msg_id is None and not (self._space.prefix or party.prefix)
        prefix, own = (self._space.label, None) if automatic else self._key(party, msg_id)
        engine = self._engine
        awaited = future is not None or watcher is not None
        if awaited and entered.last() is not None:
            limits = limits_within(engine.loop_owner, limits)
        owner = engine.loop_owner
        if not engine.lifecycle.at_work or owner.suspect or not awaited:
            self._enter()
        called: Called | None = None
        if owner.observers is not None:
            clock = owner.clock  # as in `_send_plain`
            called = (owner.lane(), clock()) if awaited else (owner.lane(), clock(), 0.0, False)
        wire_format, post = party.wire_format, self._post
        envelope = wire_format.encode_plain(message)
        encoded: Encoded | Plain = (envelope or b"",), False  # an `Encoded` takes longer to make than all its contents
        serialising = None if envelope is not None else Serialising(engine.serialising)
        try:
            if serialising is not None:
                encoded = wire_format.encode(
                    message, snapshot=not awaited, context={"destination": party.handler}, begin=serialising.begin
                )
                if called is not None:
                    called = *called[:2], owner.clock(), awaited
            if engine.audit is not None:
                encoded = engine.audit.noted(message, {wire_format: Encoded(*encoded)})[wire_format]
            call = SendCall(party, prefix, own, encoded, limits, awaited, called, future)
            if call.total > party.link.max_message_size:
                _check_size(encoded[0], party)
            if watcher is not None:
                watcher.request, call.waiter = call, watcher
            elif future is None:
                call.waiter = waiter
                if waiter is not None:
                    waiter.involved = call.involved()
            post(call.start)
        finally:
            if serialising is not None and serialising.held is not None:
                serialising.end()
        return call

    def _queue(
        self,
        names: Sequence[str] | None,
        message: object,
        msg_id: str | None,
        limits: SendLimits,
        waiter: Handle | None,
        watcher: Watcher | None = None,
    ) -> Part | Several:
        """Encode a message and queue it for several parties: without a copy where there is a ``watcher``, which waits for it.

        The watcher has the request before it is under way. No other call comes between the encoding of a message and its place
        in the queue: both happen in the order of the calls.
        """
        parties = self._alike(names)
        keys = [self._key(party, msg_id) for party in parties]
        if watcher is not None:
            limits = limits_within(self._engine.loop_owner, limits)
        self._enter()
        engine = self._engine
        awaited = watcher is not None
        serialising = Serialising(engine.serialising)
        try:
            owner = engine.loop_owner
            called: Called | None = None if owner.observers is None else (owner.lane(), owner.clock())
            encoded = self._encode(parties, message, serialising, snapshot=not awaited)
            if called is not None:
                called = *called[:2], owner.clock(), awaited
            calls: list[SendCall] = [
                SendCall(party, *key, encoded[party.wire_format], limits, awaited, called)
                for party, key in zip(parties, keys, strict=True)
            ]
            request = calls[0] if len(calls) == 1 else together(calls)
            if watcher is not None:
                watcher.request = request
                request.waiter = watcher
            else:
                request.waiter = waiter
                if waiter is not None:
                    waiter.involved = request.involved()
            self._post(request.start)
        finally:
            serialising.end()
        return request

    def _encode(
        self, parties: Sequence[Party], message: object, serialising: Serialising, *, snapshot: bool
    ) -> dict[WireFormat, Encoded]:
        """Return the bytes of a message: the same for all parties of one wire format."""
        context = {"destination": [party.handler for party in parties]}
        encoded: dict[WireFormat, Encoded] = {}
        for party in parties:
            wire_format = party.wire_format
            if wire_format not in encoded:
                encoded[wire_format] = wire_format.encode(
                    message, snapshot=snapshot, context=context, begin=serialising.begin
                )
        sizes = {wire_format: sum(map(len, one.segments)) for wire_format, one in encoded.items()}
        # A party whose wire can't carry the message fails its own send; the others get the message.
        if parties and all(sizes[party.wire_format] > party.link.max_message_size for party in parties):
            _check_size(encoded[parties[0].wire_format].segments, parties[0])
        audit = self._engine.audit
        return encoded if audit is None else audit.noted(message, encoded)

    # -- channels and groups -------------------------------------------------------------------------------------------

    def _channel(self, name: str, kind: Callable[[IdSpace, Self], C]) -> C:
        """Return the channel of that name: the one there is, or a new one."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a channel is a text, not {name!r} ({type(name).__name__})")
        if not name or "]" in name:
            raise ValueError(f"a channel can't be called {name!r}: its name is a text without ']', and not empty")
        channel: C | None = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = kind(self._space.within(f"@[{name}]", IdSpace), self)
        return channel

    def _members(self, names: Sequence[str] | None, me: str | None) -> Members:
        chosen, own = names_of(names, "names"), self._space.name if me is None else check_name(me)
        others = self._engine.parties
        known = dict.fromkeys((*others, *filter(None, (own, self._space.name))))
        for name in chosen or ():
            if not isinstance(name, str) or (own and name not in known):
                # Checked first: where the name of this party is misspelt, it would seem to be missing.
                raise no_party(name, known)
        members = Members.of(chosen, own or None, list(others), self._engine.describe)
        for name in members.others:
            if self._engine.party(name).wire_format is not OURS:
                raise ConfigurationError(
                    f"{name!r} runs tno.mpc.communication, which knows no groups, and would never answer: name the members without "
                    "it, and exchange messages with it by send and recv"
                )
        # Of two parties with one name the group would have only this one: it would be done without the other, with another result.
        self._engine.go_by(members.me)
        return members


class NamedChannel(BaseChannel):
    """A channel of a pool. It keeps the pool that it belongs to alive."""

    def __init__(self, space: IdSpace, owner: BaseChannel) -> None:
        super().__init__(space)
        self._owner = owner

    def __repr__(self) -> str:
        return f"<channel {self._space.label}>"

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages of this channel, of both directions, as that of the pool.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        """
        check_id_type(prefix)
        self._space.prefix = prefix or ""


def _check_size(segments: Sequence[Buffer], party: Party) -> None:
    size = sum(map(len, segments))
    if size > party.link.max_message_size:
        raise MessageTooLargeError(
            f"a message of {size:,} bytes to {party}: it takes at most {party.link.max_message_size:,}; "
            "send it in pieces, or raise max_message_size there"
        )


def values_of(calls: Sequence[ReceiveCall]) -> list[tuple[str, Any]]:
    """Return pairs of a party's name and its value, of receives that have their messages."""
    return list(zip([call.party.name for call in calls], values(calls), strict=True))
