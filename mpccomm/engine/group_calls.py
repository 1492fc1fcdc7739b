"""The calls of a group: which round each has reached, their numbers, and the one that was interrupted.

Both faces drive a `GroupCall` in the same steps: send, wait for a request, take what it has brought. Each step ends with one
store, before which nothing of it has happened; so a call can be taken up again wherever it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mpccomm.codec import Encoded
from mpccomm.engine.base_channel import BaseChannel, IdSpace
from mpccomm.engine.collectives import Collective, Members, Round
from mpccomm.engine.deadlines import Deadline, describe_limit
from mpccomm.engine.delivery import is_outcome
from mpccomm.engine.engine import Engine
from mpccomm.engine.expect import Expect, check_expect
from mpccomm.engine.options import SendLimits, seconds
from mpccomm.engine.ordering import Serialising
from mpccomm.engine.party import Party
from mpccomm.engine.requests import DiscardCall, ReceiveCall, Request, SendCall, values
from mpccomm.engine.several import Delivery, First, Part, Several
from mpccomm.engine.states import GROUP_CALL, OVER, GroupCallEvent, GroupCallState, RequestState
from mpccomm.engine.trail import Called
from mpccomm.errors import CommunicationError, CommunicationTimeoutError, EncodingError, MessageTooLargeError, locate
from mpccomm.protocol.mailbox import Mailbox

T = TypeVar("T")

_DIGESTS = "digests"
_OVER = (GroupCallState.OVER, GroupCallState.REDEEMED)


class _Progress(NamedTuple):
    """How far a call has come. Replaced as a whole: an interrupt comes before or after."""

    history: tuple[dict[str, Any], ...] = ()
    """The values received in the rounds that are over, by member."""
    posted: tuple[SendCall, ...] = ()
    """The sends of the present round, once all its messages are encoded."""
    failed: BaseException | None = None
    """The error of a message of the present round that can't be read, or is not as expected. It counts as received."""


class _Session:
    """The session with a member that a call takes place in. It changes where the next one takes over what waits."""

    __slots__ = ("mailbox",)

    def __init__(self, mailbox: object) -> None:
        self.mailbox = mailbox


class GroupCall(Generic[T]):
    """One call of a collective, from its first message to its result."""

    def __init__(
        self,
        calls: GroupCalls,
        operation: str,
        make: Callable[[], Collective[T]],
        others: tuple[str, ...],
        pair: str,
        *,
        digests: bool,
    ) -> None:
        self.state = GroupCallState.NEW
        self.running = False
        """Whether a face drives it now."""
        self.numbers: Mapping[str, int] = {}
        """The number of this call with each other member that takes part."""
        self.sessions: Mapping[str, _Session] = {}
        """The session with each of them."""
        self.others = others
        self.pair = pair
        self._calls = calls
        self._operation = operation
        self._make = make
        self._digests = digests
        self._progress = _Progress()
        self._live: tuple[Collective[T], int] | None = None
        """The generator, and how many rounds it has been sent the outcome of."""
        self._round = Round()
        self.to_come: tuple[str, ...] = ()
        """The members whose message of the present round has not come yet."""
        self._result: T
        self._receives: list[ReceiveCall] = []
        self._advance()

    @property
    def over(self) -> bool:
        """Whether its result is here."""
        return self.state in _OVER

    @property
    def title(self) -> str:
        """The operation and its number, which may differ from member to member after a restart."""
        return f"{self._operation} #{max(self.numbers.values(), default=0)} of ({', '.join(self._calls.members.names)})"

    def msg_id(self, name: str) -> str:
        """Return the id of the messages of the present round to and from that member."""
        return self._id(name, self._round.phase)

    def _id(self, name: str, phase: str) -> str:
        return f"{self._operation} {self.numbers[name]} {phase}".rstrip()

    # -- the steps -----------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Encode and send the messages of the present round, unless that is done, without waiting."""
        outgoing = self._round.outgoing
        if outgoing and not self._progress.posted:
            self._calls.channel.send(self, outgoing)
        else:
            self.begin()

    def begin(self) -> None:
        """Take the numbers of this call, unless it has them already."""
        if self.state is GroupCallState.NEW and self._calls.latest is not self:
            self._calls.begin(self)
        self.state = GROUP_CALL[self.state, GroupCallEvent.BEGIN]

    def posted(self, sends: Sequence[SendCall]) -> None:
        """Note sends that are about to be started."""
        self._progress = self._progress._replace(posted=tuple(sends))

    def request(self, limit: Deadline) -> Several:
        """Return what to wait for now: the messages of the present round, and the confirmation of those that were sent."""
        progress, left = self._progress, limit.left
        if progress.failed is not None:
            raise progress.failed
        receives = [self._receive(name, left) for name in self.to_come]
        sends = progress.posted
        deliveries = [Delivery(sends, left, lambda: self._unconfirmed(sends, limit))] if sends else []
        self._receives = receives
        return _RoundRequest(self, [*receives, *deliveries])

    def first(self, limit: Deadline) -> First:
        """Return what to wait for to have the next of those messages, from any member."""
        left = limit.left
        return First([self._receive(name, left) for name in self.to_come])

    def _receive(self, name: str, timeout: float | None) -> ReceiveCall:
        progress = self._progress
        told = any(send.party.name == name for send in progress.posted)
        # To a process that takes the place of that member this call is the first one, if there was nothing before.
        nothing_before = not (self.numbers[name] or progress.history or told)
        session = self.sessions[name] if nothing_before else None
        return self._calls.channel.receive(name, self.msg_id(name), timeout, self._round.expect, session)

    def read(self, first: First) -> tuple[str, Any]:
        """Return the member and the value of what `first` has brought, which is not `to_come` any more.

        :raises CommunicationError: it can't be read, or is not as expected
        """
        try:
            pair: tuple[str, Any] = first.value()
        except BaseException as error:
            if is_outcome(error):
                self._progress = self._progress._replace(failed=error)
            raise
        self.to_come = tuple(filter(pair[0].__ne__, self.to_come))
        return pair

    def take(self) -> None:
        """Take what the request, which is over, has brought, and go on to the next round.

        :raises CommunicationError: a message can't be read, or is not as expected
        """
        try:
            names = [receive.party.name for receive in self._receives]
            received = dict(zip(names, values(self._receives), strict=True))
        except BaseException as error:
            if is_outcome(error):
                self._progress = self._progress._replace(failed=error)
            raise
        self._progress = _Progress((*self._progress.history, received))
        self._advance()

    @property
    def rounds(self) -> int:
        """How many rounds are over: what they have brought is here."""
        return len(self._progress.history)

    def redeem(self) -> T:
        """Return the result. This is the last step of the call."""
        result = self._result
        self.state = GROUP_CALL[self.state, GroupCallEvent.REDEEM]
        return result

    # -- after an interrupt --------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Complete the step that an interrupt cut off, so that nothing is received or sent twice."""
        if not self.over and (self._live is None or self._live[1] < len(self._progress.history)):
            self._advance()
        for send in self._progress.posted:
            if send.state is RequestState.NEW:
                self._calls.channel.start(send)

    def leftovers(self) -> list[tuple[str, str]]:
        """Members and ids of messages that may still come when the call is left for good."""
        if self.over:
            return []
        ids = [(name, self.msg_id(name)) for name in self.to_come]
        if self._digests and self._round.phase != _DIGESTS:
            ids += [(name, self._id(name, _DIGESTS)) for name in self.others]
        return ids

    def _advance(self) -> None:
        """Bring the generator to the end of the history. Where an exception has ended the generator, make a new one."""
        history = self._progress.history
        live, self._live = self._live, None
        try:
            if live is None:
                collective = self._make()
                round_ = next(collective)
                for received in history:
                    round_ = collective.send(received)
            else:
                collective, _ = live
                round_ = collective.send(history[-1])
        except StopIteration as end:
            self._result = end.value
            self.state = GROUP_CALL[self.state, GroupCallEvent.END]
            return
        self._round, self.to_come = round_, round_.sources
        self._live = collective, len(history)

    def _unconfirmed(self, sends: Sequence[SendCall], limit: Deadline) -> CommunicationTimeoutError:
        late = ", ".join(send.party.name for send in sends if send.state not in OVER)
        return CommunicationTimeoutError(
            f"{self.title}: not all of {late} have confirmed within {describe_limit(limit.timeout)}; what was sent to them may "
            "still arrive; resume() goes on with this call"
        )


class _RoundRequest(Several):
    """What one round of a call waits for. Messages that the call has taken do not go back when it is cancelled."""

    __slots__ = ("_call", "_rounds")

    def __init__(self, call: GroupCall[Any], parts: Sequence[Part]) -> None:
        super().__init__(parts)
        self._call = call
        self._rounds = call.rounds

    def cancel(self) -> None:
        """End all parts; messages go back, unless the call has them."""
        if self._call.rounds == self._rounds:
            super().cancel()


class _MemberCall(ReceiveCall):
    """The receive of one message of a call."""

    __slots__ = ("_session",)

    def __init__(
        self,
        party: Party,
        prefix: str,
        msg_id: str | None,
        timeout: float | None,
        expect: Expect | None,
        session: _Session | None,
    ) -> None:
        super().__init__(party, prefix, msg_id, timeout, expect)
        self._session = session

    def renew(self, mailbox: Mailbox) -> bool:
        """Return whether the new process of the member sends this message as well, so that the receive goes on."""
        if self._session is None:
            return False
        self._session.mailbox = mailbox
        return True


class GroupChannel(BaseChannel):
    """The message ids of a group. Nothing in here waits."""

    @property
    def engine(self) -> Engine:
        """That of the pool."""
        return self._engine

    def send(self, call: GroupCall[Any], messages: Sequence[tuple[Sequence[str], object]]) -> None:
        """Encode the messages of a round, then send each to its members, under the id that it has there."""
        self._enter()
        serialising = Serialising(self._engine.serialising)
        try:
            owner = self._engine.loop_owner
            called: Called | None = None if owner.observers is None else (owner.lane(), owner.clock())
            encoded = self._encoded(messages, serialising)
            if called is not None:
                called = *called[:2], owner.clock(), False
            # Values of which one can't be encoded leave no trace. Any other send is noted before it begins.
            call.begin()
            limits = self._space.limits
            sends = [
                SendCall(party, *self._key(party, call.msg_id(party.name)), value, limits, False, called)
                for party, value in encoded
            ]
            call.posted(sends)
            for send in sends:
                self.start(send)
        finally:
            serialising.end()

    def _encoded(
        self, messages: Sequence[tuple[Sequence[str], object]], serialising: Serialising
    ) -> list[tuple[Party, Encoded]]:
        found: list[tuple[Party, Encoded]] = []
        for names, message in messages:
            parties = [self._engine.party(name) for name in names]
            try:
                encoded = self._encode(parties, message, serialising, snapshot=True)
            except (EncodingError, MessageTooLargeError) as error:
                if len(names) == 1:
                    locate(error, f"the value for {', '.join(names)}")
                raise
            found += [(party, encoded[party.wire_format]) for party in parties]
        return found

    def receive(
        self, name: str, msg_id: str, timeout: float | None, expect: Expect | None, session: _Session | None
    ) -> ReceiveCall:
        """Return the receive of a member's message, not started; in a session it may go on with the next process of the member."""
        party = self._engine.party(name)
        self._enter()
        return _MemberCall(party, *self._key(party, msg_id), timeout, expect, session)

    def discard(self, name: str, msg_id: str, session: _Session) -> None:
        """Drop a message of a member, now or when it comes in that session."""
        party = self._engine.party(name)
        prefix, own = self._key(party, msg_id)
        assert own is not None
        self.start(DiscardCall(party, prefix, own, session.mailbox))

    def start(self, request: Request) -> None:
        """Start a request."""
        self._engine.loop_owner.post(request.start)

    def session(self, name: str) -> object:
        """Return the mailbox of a member, which lasts as long as the session with it."""
        return self._engine.party(name).link.mailbox


class GroupSpace(IdSpace):
    """The message ids of a group, and its calls."""

    __slots__ = ("calls",)

    def __init__(self, engine: Engine, name: str | None, limits: SendLimits, label: str = "") -> None:
        super().__init__(engine, name, limits, label)
        self.calls: GroupCalls | None = None


def calls_of(space: IdSpace, members: Members) -> GroupCalls:
    """Return the calls of a group, the same for both faces; ``space`` is that of the pool or channel it is a group of."""
    own = space.within(f"@({members.label})", GroupSpace)
    calls = own.calls
    if calls is None or calls.members.me != members.me:
        calls = own.calls = GroupCalls(members, own)
    return calls


class _Counted(NamedTuple):
    """The number of calls with a member since the present session with it began."""

    session: _Session
    number: int


class _State(NamedTuple):
    numbers: dict[tuple[str, str], _Counted]
    latest: GroupCall[Any] | None


class GroupCalls:
    """The calls of one group: their numbers, by which the members find each other's messages, and the interrupted one.

    Each pair of members counts the calls of the group on its own, from the beginning of the session between them. So after a
    restart, or a clean leave and return, the numbers of both ends begin anew together.
    """

    def __init__(self, members: Members, space: IdSpace) -> None:
        self.members = members
        self.channel = GroupChannel(space)
        self._state = _State({}, None)

    @property
    def latest(self) -> GroupCall[Any] | None:
        """The call that has begun last, or was interrupted since."""
        return self._state.latest

    def make(
        self,
        operation: str,
        make: Callable[[], Collective[T]],
        *,
        expect: Expect | None = None,
        other: str = "",
        digests: bool = False,
    ) -> GroupCall[T]:
        """Return a call that has not begun; those with one ``other`` member have numbers of their own."""
        check_expect(expect)
        return GroupCall(self, operation, make, (other,) if other else self.members.others, other, digests=digests)

    def begin(self, call: GroupCall[Any]) -> None:
        """Give the call its numbers; the interrupted one before it is left for good."""
        numbers, latest = self._state
        numbers = dict(numbers)
        found, sessions = {}, {}
        for name in call.others:
            session = _Session(self.channel.session(name))
            counted = numbers.get((name, call.pair))
            lasts = counted is not None and counted.session.mailbox is session.mailbox
            number = counted.number if counted is not None and lasts else 0
            found[name] = number
            sessions[name] = session
            numbers[name, call.pair] = _Counted(session, number + 1)
        call.numbers, call.sessions = found, sessions
        self._state = _State(numbers, call)
        if latest is not None and not (latest.running or latest.state is GroupCallState.REDEEMED):
            for name, msg_id in latest.leftovers():
                self.channel.discard(name, msg_id, latest.sessions[name])

    def limit(self, timeout: float | None) -> Deadline:
        """Return the time limit of one call."""
        limit = seconds(timeout)
        if limit is not None and not limit > 0:
            raise ValueError(f"a group's call can't take {timeout!r} seconds; None waits without limit")
        return Deadline(limit, self.channel.engine.loop_owner)

    def interrupted(self, call: GroupCall[Any]) -> None:
        """Note that the call has ended early: it is the one that can be resumed."""
        if call.state is not GroupCallState.NEW:
            self._state = self._state._replace(latest=call)

    def take_up(self) -> GroupCall[Any]:
        """Return the interrupted call.

        :raises CommunicationError: there is none
        """
        call = self._state.latest
        if call is None or call.running or call.state is GroupCallState.REDEEMED:
            raise CommunicationError(
                "no call of this group was interrupted after it had begun: nothing is there to resume"
            )
        call.catch_up()
        return call
