"""Requests: one send, or one receive, for which a caller waits. Several with one outcome are in `mpccomm.engine.several`.

A request is made once, in the thread of the caller. It is started on the pool's loop and ends there, once; its states are
those of `mpccomm.engine.states.REQUEST`, and ``error`` says why it failed. Its ``waiter`` is told: a future of an event loop,
a lock on which a thread stands, or a handle. However the caller ends, `cancel` leaves no trace: a message that was taken goes
back.

The time limit of a request lives on the loop: there a message is either handed over or still in its box, never in between.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from mpccomm.codec import Encoded
from mpccomm.engine import ordering
from mpccomm.engine.delivery import is_outcome, read, tell_of_receipt, tell_of_taking
from mpccomm.engine.expect import Expect, check
from mpccomm.engine.observer import Involved, Observers
from mpccomm.engine.options import NO_LIMIT, SendLimits
from mpccomm.engine.states import REQUEST, GivenUp, RequestEvent, RequestState
from mpccomm.engine.trail import AT_A_STROKE, PORTION, Called
from mpccomm.interrupts import is_strike
from mpccomm.protocol.frames import Key, describe_key, pack_annotation
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import Cause

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty

# By these names, as Python 3.11 calls a function for each member of an `Enum` that is named in full.
_NEW, _WAITING, _READING = RequestState.NEW, RequestState.WAITING, RequestState.READING
_START, _READ, _CANCEL = RequestEvent.START, RequestEvent.READ, RequestEvent.CANCEL
_SUCCEED, _FAIL = RequestEvent.SUCCEED, RequestEvent.FAIL
_AFTER_START, _AFTER_SUCCESS, _AFTER_FAILURE = REQUEST.on(_START), REQUEST.on(_SUCCEED), REQUEST.on(_FAIL)
_DONE = _AFTER_SUCCESS[_WAITING]

Plain: TypeAlias = tuple[tuple[bytes, ...], bool]
"""The fields of an `Encoded`, where it is one small thing."""
TIMED_OUT = Cause(GivenUp.TIMED_OUT)
_ON_THE_LOOP = 64 * 1024
"""Up to this size, in bytes, a message for a waiting future is decoded on the loop: handing it to a thread would take longer."""


class Waiter(Protocol):
    """What a request tells that it is over."""

    def resolve(self, value: Any, error: Exception | None) -> bool | None:
        """Take note of the outcome; called once, on the pool's loop. False: the value is not taken."""


class OneOf:
    """A waiter that needs the message of only one of several receives: the others may be silent for as long as they like."""

    __slots__ = ()


class Request(Protocol):
    """What all requests have in common."""

    state: RequestState
    error: Exception | None
    waiter: Waiter | None
    single: bool
    """Whether it is one send or receive, which an observer knows by its message."""

    def involved(self) -> Involved:
        """Return the parties that it waits for, and whether it sends to them."""

    def missing(self) -> Sequence[ReceiveCall]:
        """Return its receives that have failed, if it has failed."""

    def start(self) -> None:
        """Begin; called once, on the pool's loop."""

    def cancel(self) -> None:
        """End without telling the waiter; what was taken goes back. Called on the pool's loop, any number of times."""

    def detach(self) -> None:
        """Copy the values to be sent that the caller could change. Any thread may call."""


class ReceiveCall(Receive):
    """The receive of one message."""

    __slots__ = (
        "_mailbox",
        "_mine",
        "_msg_id",
        "_prefix",
        "_timer",
        "error",
        "expect",
        "lane",
        "party",
        "state",
        "timeout",
        "waiter",
    )

    _mailbox: Mailbox
    single = True
    asked = math.inf
    """When the program asked for the future of this receive, by the clock of the pool; infinite: a call waits for it."""

    def __init__(
        self, party: RemoteParty, prefix: str, msg_id: str | None, timeout: float | None, expect: Expect | None = None
    ) -> None:
        # Includes the constructor of `Receive`, which would be one call more for every message.
        self.key = ""
        self.since = self.notice = 0.0
        self.message = self.failure = None
        self.party = party
        self.timeout = timeout
        self.expect = expect
        self.state = _NEW
        self.error: Exception | None = None
        self.waiter: Waiter | None = None
        self._prefix = prefix
        self._msg_id = msg_id
        self.lane = -1
        """The lane in which it is read, where there is an observer and that is known from the beginning; otherwise negative."""
        self._mine: deque[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def involved(self) -> Involved:
        """Return the party."""
        return ((self.party.name, False),)

    def missing(self) -> Sequence[ReceiveCall]:
        """Return itself."""
        return (self,)

    def grab(self) -> bool:
        """Take the message if it is here, in the thread of the caller, without the loop. Otherwise `start` has to follow.

        :raises CommunicationError: it is not here, and nothing is to be waited for
        """
        party = self.party
        link = party.link
        mailbox = link.mailbox
        if not mailbox.grabbing or (not mailbox.here and self.timeout is None):
            return False
        self._mailbox = mailbox
        mine: deque[Any] = deque()
        self._mine = mine
        if mailbox.grab(self._prefix, self._msg_id, mine):
            self.message = message = mine[-1]
            self.state = _AFTER_SUCCESS[self.state]
            taken = mailbox.taken
            taken.append(message)
            link.quiet_until = 0.0
            most, cost = party.most_taken
            if mailbox.pressed or len(taken) > most or message.cost > cost:
                party.loop_owner.post_soon(party.flush)
            return True
        if self.timeout is not None and self.timeout <= 0 and not mine and self.arrival() == math.inf:
            self.key = mailbox.numbering.next_key(self._prefix, self._msg_id)
            self.failure = link.ending or party.closed or TIMED_OUT
            now = party.clock()
            party.notices.asked_in_vain(self.key, now, now)
            self.state = REQUEST[self.state, _FAIL]
            self.error = party.explain(self.failure, self)
            raise self.error
        return False

    def arrival(self) -> float:
        """Return when the message arrived that this receive would get; infinite: it is not here."""
        message = self.party.link.mailbox.look(self._prefix, self._msg_id)
        return math.inf if message is None else message.arrival

    def _return_grabbed(self, mine: deque[Any]) -> None:
        """Return to the mailbox the message that `grab` took out of it; its number is kept."""
        if not isinstance(mine[-1], int):
            self.party.link.restore(mine[-1])
            mine.pop()
            self.message = None

    def _grabbed_key(self, mine: deque[Any], mailbox: Mailbox) -> Key:
        """Return the id whose number `grab` has taken, but not its message."""
        self._return_grabbed(mine)
        if mine and self._mailbox is mailbox:
            return self._prefix, mine.pop()
        return mailbox.numbering.claim(self._prefix, self._msg_id)

    def start(self) -> None:
        """Take the message, or wait for it."""
        if self.state is not _NEW:
            self.state = REQUEST[self.state, _START]
            return
        party = self.party
        link = party.link
        mailbox = link.mailbox
        try:
            self.since = self.notice = now = party.clock()
            mine = self._mine
            if mine:
                key = self._grabbed_key(mine, mailbox)
                self._mine = None
            else:
                key = mailbox.numbering.claim(self._prefix, self._msg_id)
            self.key = key
            self.state = _AFTER_START[_NEW]
            if key in mailbox.here:
                self.message = link.take(key, now)
                if self.message is not None:
                    self._end(None)
                    party.connections.wake()
                    return
            timeout = self.timeout
            failure = link.ending or party.closed
            if failure is None:
                if timeout is None or timeout > 0:
                    if link.receive(self):
                        party.connections.wake()
                    if timeout is None:
                        return
                    owner = party.loop_owner
                    self._timer = owner.loop.call_later(timeout, owner.entering(partial(self.fail, TIMED_OUT)))
                    return
                failure = TIMED_OUT
                self._note_in_vain(self.waiter)
            self.failure = failure
            raise party.explain(failure, self)
        except Exception as error:
            if is_strike(error):
                raise  # a signal handler has split this very step
            if self.message is None and not mailbox.cancel(self):
                mailbox.numbering.release(self.key)
            self._end(error)

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts."""
        if self.message is None and self.failure is None and self.party.link.mailbox.cancel(self):
            self._note_in_vain(self.waiter)
            self.failure = cause
            self.done()

    def done(self) -> None:
        """End the wait. Called by the link, which has set ``message`` or ``failure``."""
        failure = self.failure
        self._end(None if failure is None else self.party.explain(failure, self))

    def cancel(self) -> None:
        """Return the message to the mailbox, or end the wait for it."""
        before = self.state
        self.state = REQUEST[before, _CANCEL]
        waiter, self.waiter = self.waiter, None
        if self._timer is not None:
            self._timer.cancel()
        party = self.party
        mine = self._mine
        if mine:
            self._return_grabbed(mine)
            if mine and self._mailbox is party.link.mailbox:
                self._mailbox.numbering.release((self._prefix, mine.pop()))
            party.flush()
        elif self.message is not None:
            message, self.message = self.message, None
            party.return_message(message)
        elif before is _WAITING:
            party.link.mailbox.cancel(self)
            self._note_in_vain(waiter)

    def _note_in_vain(self, waiter: Waiter | None) -> None:
        """Note that it ends without its message, where that is what the program waits for."""
        if not isinstance(waiter, OneOf):
            self.party.notices.asked_in_vain(self.key, self.since, self.party.clock(), self.notice)

    def detach(self) -> None:
        """Do nothing: a receive has nothing to copy."""

    def value(self, later: list[Callable[[], None]] | None = None) -> Any:
        """Decode the message. One that can't be read, or is not as expected, counts as received.

        :param later: takes what tells the observers that it was received, where that depends on others
        :raises DecodingError: it can't be read
        :raises UnexpectedTypeError: it is something else
        """
        message = self.message
        assert message is not None
        party = self.party
        try:
            if self.expect is None and party.loop_owner.observers is None:
                return read(message, party)  # the same as `_read`, without its call
            return self._read(message, later)
        except BaseException as error:
            if is_outcome(error):
                self.message = self._mine = None
            raise

    def _read(self, message: Incoming, later: list[Callable[[], None]] | None = None) -> Any:
        party = self.party
        observers = party.loop_owner.observers
        clock = party.clock  # looked up as an attribute: as a method it would be found more slowly
        begun = 0.0 if observers is None else clock()
        try:
            value = read(message, party)
        except BaseException as error:
            if observers is not None and is_outcome(error):
                tell_of_miss(observers, self, error)
            raise
        if self.expect is not None:
            try:
                check(value, self.expect, f"{describe_key(message.key)} from {party}")
            except BaseException:
                if observers is not None:
                    self._tell(observers, message, begun)  # this one counts as received
                raise
        if observers is None:
            return value
        trail = party.trail
        # Of a call for one message the lane is known; of a future, or a call for several, it is not.
        if trail is None or self.lane < 0 or observers.each:
            if later is None:
                self._tell(observers, message, begun)
            else:
                later.append(partial(self._tell, observers, message, begun))
            return value
        # The same as `_tell`, without its call: with a trace alone that is so for nearly every message.
        total = message.total
        ended = clock() if total > AT_A_STROKE or message.ordered else 0.0
        row = message.number, total, message.key, self.lane, self.since, message.at, begun, ended
        if later is None:
            trail.received.append(row)
        else:
            later.append(partial(trail.received.append, row))
        return value

    def _tell(self, observers: Observers, message: Incoming, begun: float) -> None:
        """Tell the observers that the message is received."""
        tell_of_receipt(observers, self.party, message, self.lane, self.since, begun, self.asked)
        if self.asked < math.inf:
            self._hand_over(observers, message, begun)

    def _hand_over(self, observers: Observers, message: Incoming, begun: float) -> None:
        """Have the observers told when the program gets the message, which is later."""

    def _end(self, error: Exception | None) -> None:
        before = self.state
        self.state = after = (_AFTER_SUCCESS if error is None else _AFTER_FAILURE)[before]
        if after is before:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.error = error
        waiter = self.waiter
        if waiter is not None:
            # The waiter may refer to the request: leave no reference cycle behind.
            self.waiter = None
            waiter.resolve(None, error)


class FutureCall(ReceiveCall):
    """The receive of one message for a future: the waiter gets its value.

    The value is decoded before the message is acknowledged, so that its sender goes on when the future is done. The message is
    kept until the program looks at the future: an interrupt may keep the caller from having it, and it may be forgotten.
    """

    __slots__ = ("_context", "asked", "immediate", "taking")

    def __init__(self, party: RemoteParty, prefix: str, msg_id: str | None, expect: Expect | None = None) -> None:
        super().__init__(party, prefix, msg_id, None, expect)
        # Where nobody watches yet, the future won't say when the program looks: then its message is received when it comes.
        self.asked = math.inf if party.loop_owner.observers is None else party.clock()
        self.immediate = False
        """Whether the caller is on the loop and starts it now: a message that is here is then decoded in the call, as by `recv`."""
        self.taking: Callable[[], None] | None = None
        """Tell the observers when the program asks for the value."""
        self._context = copy_context()

    def _hand_over(self, observers: Observers, message: Incoming, begun: float) -> None:
        """Leave the outcome to the future."""
        self.taking = partial(tell_of_taking, observers, self.party.name, message, begun, self.asked, self._context)

    def _end(self, error: Exception | None) -> None:
        message = self.message
        if message is None:
            observers = self.party.loop_owner.observers
            if observers is not None and error is not None:
                self._context.run(tell_of_miss, observers, self, error)
            super()._end(error)
        elif self.immediate:
            self._give(*self._try_to_read(message))
        elif message.total <= _ON_THE_LOOP and ordering.try_to_begin(message, self.party.ordering):
            try:
                outcome = self._try_to_read(message)
            finally:
                ordering.end(message, self.party.ordering)
            self._give(*outcome)
        else:
            # Not acknowledged before it is decoded.
            self.state = REQUEST[self.state, _READ]
            message.receiver.hold(message)
            self.party.loop_owner.run_in_worker(partial(self._read_in_worker, message))

    def _try_to_read(self, message: Incoming) -> tuple[Any, BaseException | None]:
        try:
            return self._context.run(self._read, message), None
        except BaseException as error:
            if isinstance(error, Exception) or is_outcome(error):
                return None, error
            self.cancel()
            raise

    def _give(self, value: Any, error: BaseException | None) -> None:
        before = self.state
        self.state = after = (_AFTER_SUCCESS if error is None else _AFTER_FAILURE)[before]
        if after is before:
            return  # it was given up meanwhile, and the message went back
        self.error = outcome = cast("Exception | None", error)  # what a class of the user raises is its future's only
        waiter, self.waiter = self.waiter, None
        if error is None and self.message is not None:
            # It goes back where the program does not look at the future, and the value with it.
            self.message.outcome = value, None
        taken = waiter is not None and waiter.resolve(value, outcome) is not False
        if not taken or not (error is None or is_outcome(error)):
            # The message is not to blame, or the future was given up: the next receive gets the message.
            self.cancel()

    def _read_in_worker(self, message: Incoming) -> None:
        value: Any = None
        error: BaseException | None = None

        def finish() -> None:
            try:
                self._give(value, error)
            finally:
                self.party.link.settle(message)
                self.party.flush()

        try:
            if self.state is _READING:
                value, error = self._try_to_read(message)
        finally:
            # Also where it was given up: a message that stays held back would never be acknowledged.
            self.party.loop_owner.post(finish)


class DiscardCall(ReceiveCall):
    """The receive of a message that is no longer wanted, so that it does not fill the box."""

    __slots__ = ("_of",)

    def __init__(self, party: RemoteParty, prefix: str, msg_id: str, of: object) -> None:
        """``of`` is the mailbox of the conversation that the message belongs to."""
        super().__init__(party, prefix, msg_id, None)
        self._of = of

    def renew(self, mailbox: Mailbox) -> bool:
        """Return False: only that process sends the message."""
        return False

    def start(self) -> None:
        """Take the message, or wait for it. Another process may send another message under the same id, which is not taken."""
        link = self.party.link
        if link.mailbox is not self._of:
            left = link.mailbox.look(self._prefix, self._msg_id)
            if left is None or left.receiver is link.receiver:
                return
        super().start()
        self.notice = math.inf  # its waiting is not logged

    def _end(self, error: Exception | None) -> None:
        self.message = None
        super()._end(error)


class SendCall(Outgoing):
    """The send of one message."""

    # The garbage collector can tell which object refers to a party, but not whose ``__dict__`` does.
    __slots__ = ("party",)

    single = True
    state: RequestState
    """As soon as it is not NEW any more, it has its id and can't be withdrawn."""
    error: Exception | None
    waiter: Waiter | None = None
    future: asyncio.Future[None] | None
    """A future of the pool's own loop that is done when the send is over, failed or not. It takes fewer steps than a waiter.

    If it is cancelled, the coroutine that waits withdraws the request: no other call can ask for what a send has given away.
    """
    _failed_dials = 0
    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        party: RemoteParty,
        prefix: str,
        msg_id: str | None,
        encoded: Encoded | Plain,
        limits: SendLimits,
        awaited: bool,
        called: Called | None = None,
        future: asyncio.Future[None] | None = None,
    ) -> None:
        segments, ordered = encoded
        if len(segments) == 1:
            # Includes the constructor of `Outgoing`, which would be one call more for every message.
            self.failure = None
            self.annotation = b""
            self.ordered = ordered
            self.awaited = awaited
            self.segments = 1
            self.body = segments
            self.total = len(segments[0])
        else:
            super().__init__(segments, ordered=ordered, awaited=awaited)
        self.state = _NEW
        self.error = None
        self.future = future
        self.party = party
        self.limits = limits
        self._prefix = prefix
        self._msg_id = msg_id
        if party.audit is not None:
            self._encoded = encoded
        self.called: Called | None = called
        if called is not None:
            observers = party.loop_owner.observers
            if observers is not None and observers.each:
                self.announce(observers)

    def announce(self, observers: Observers) -> None:
        """Tell those who are told of each message."""
        party = self.party
        self.futile = party.closed is not None or party.link.ending is not None
        annotation = b""
        for hook in observers.sends:
            annotation += hook(party.name, self)
        if annotation:
            self.annotation = pack_annotation(annotation)

    def involved(self) -> Involved:
        """Return the party."""
        return ((self.party.name, True),)

    def missing(self) -> Sequence[ReceiveCall]:
        """Return none: it receives nothing."""
        return ()

    def start(self) -> None:
        """Number the message and queue it, unless that was done already."""
        before = self.state
        if before is not _NEW:
            self.state = _AFTER_START[before]
            return
        party = self.party
        link = party.link
        try:
            failure = party.closed or link.ending
            if failure is not None:
                raise party.explain(failure, self)
            msg_id = self._msg_id
            if msg_id is None:
                link.sender.add(self, self._prefix)
            else:
                self.address(self._prefix + msg_id)
                link.sender.add(self)
            self.state = _WAITING
            if party.audit is not None:
                party.audit.sent(party.name, self.key, self._encoded)
                del self._encoded
            limits = self.limits
            if limits is not NO_LIMIT:
                self._set_limits(limits)
            connections = party.connections
            only = connections.only
            if only is None or not only.awake:
                connections.wake()
        except Exception as error:
            if is_strike(error):
                raise  # a signal handler has split this very step
            self.done(error)

    def _set_limits(self, limits: SendLimits) -> None:
        seconds, retries = limits
        if retries >= 0:
            self.party.impatient.add(self)
        if seconds is not None:
            owner = self.party.loop_owner
            self._timer = owner.loop.call_later(seconds, owner.entering(partial(self.fail, TIMED_OUT)))

    def fail(self, cause: Cause) -> None:
        """End the wait, if it still lasts. The message has its number: it is sent nevertheless."""
        if self._detach(cause):
            self.done()

    def dial_failed(self) -> None:
        """Count one dial of the party that failed."""
        self._failed_dials += 1
        if self._failed_dials > self.limits.retries:
            self.fail(Cause(GivenUp.UNREACHABLE, f"{self.party.trouble}, in {self._failed_dials} attempts"))

    def cancel(self) -> None:
        """End the wait. The message has its number: it is sent nevertheless."""
        self.waiter = None
        self._detach(Cause(GivenUp.CANCELLED))
        before = self.state
        self.state = REQUEST[before, _CANCEL]
        if self.called is not None and (before is _NEW or before is _WAITING):
            self._tell_of_failure(asyncio.CancelledError())
        self._forget_limits()

    def _tell_of_failure(self, error: BaseException) -> None:
        party = self.party
        observers = party.loop_owner.observers
        if observers is not None:
            for hook in observers.failed:
                hook(party.name, self, error)

    def _detach(self, cause: Cause) -> bool:
        if self.state is not _WAITING or self.failure is not None or self.delivered:
            return False
        self.failure = cause
        self.detach()
        return True

    def _forget_limits(self) -> None:
        if self.limits.retries >= 0:
            self.party.impatient.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def done(self, error: Exception | None = None) -> None:
        """End the wait: the link has set ``delivered`` or ``failure``, or there was an ``error`` before it had the message."""
        before = self.state
        failure = self.failure
        if failure is not None and before is _WAITING:
            error = self.party.explain(failure, self)
        self.state = after = (_AFTER_SUCCESS if error is None else _AFTER_FAILURE)[before]
        if after is before:
            observers = self.party.loop_owner.observers
            if self.delivered and self.called is not None and observers is not None:
                self._tell_of_delivery(observers)  # which nobody has waited for
            return
        if self.limits is not NO_LIMIT:
            self._forget_limits()
        called = self.called
        if called is not None:
            if error is None:
                self._note(called)
            else:
                self._tell_of_failure(error)
        self.error = error
        future = self.future
        if future is not None:
            try:  # noqa: SIM105 -- what `suppress` makes takes longer than all the rest
                future.set_result(None)
            except asyncio.InvalidStateError:
                pass  # it was cancelled
            return
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.resolve(None, error)

    def _note(self, called: Called) -> None:
        """Note for those who watch that it was delivered."""
        party = self.party
        trail = party.trail
        if trail is not None:
            rows = trail.sent
            rows.append((self.number, self.total, self.key, called, party.link.receiver.now))
            if len(rows) >= PORTION:
                trail.pack()
        observers = party.loop_owner.observers
        if observers is not None and observers.each:
            self._tell_of_delivery(observers)

    def _tell_of_delivery(self, observers: Observers) -> None:
        for hook in observers.delivered:
            hook(self.party.name, self)


class PlainSend(SendCall):
    """The send of one small thing under an automatic id, for which a future waits: so are nearly all. It is sent as it is made.

    This one is for where nobody observes the pool.
    """

    __slots__ = ()

    future: asyncio.Future[None]
    called: Called | None = None  # one that is noted has its own
    ordered = False
    awaited = True
    segments = 1
    limits = NO_LIMIT

    def __init__(self, party: RemoteParty, envelope: bytes, future: asyncio.Future[None]) -> None:
        # All that `SendCall` sets, which would be one call more for every message.
        self.failure = self.error = None
        self.annotation = b""
        self.body = (envelope,)
        self.total = len(envelope)
        self.state = _WAITING
        self.future = future
        self.party = party

    def done(self, error: Exception | None = None) -> None:
        """End the wait."""
        if self.state is not _WAITING or self.failure is not None or error is not None:
            super().done(error)
            return
        self.state = _DONE
        try:  # noqa: SIM105 -- what `suppress` makes takes longer than all the rest
            self.future.set_result(None)
        except asyncio.InvalidStateError:
            pass  # it was cancelled


class NotedSend(PlainSend):
    """The same where somebody observes the pool."""

    __slots__ = ("called",)

    called: Called

    def done(self, error: Exception | None = None) -> None:
        """Note that it was delivered, and end the wait."""
        if self.state is not _WAITING or self.failure is not None or error is not None:
            SendCall.done(self, error)
            return
        self.state = _DONE
        # As `_note` does, without a call.
        party = self.party
        trail = party.trail
        if trail is not None:
            rows = trail.sent
            rows.append((self.number, self.total, self.key, self.called, party.link.receiver.now))
            if len(rows) >= PORTION:
                trail.pack()
        observers = party.loop_owner.observers
        if observers is not None and observers.each:
            self._tell_of_delivery(observers)
        try:  # noqa: SIM105 -- as above
            self.future.set_result(None)
        except asyncio.InvalidStateError:
            pass


def tell_of_failure(observers: Observers, request: Request, error: BaseException) -> None:
    """Tell the observers of a wait that ended without a message."""
    if isinstance(request, ReceiveCall) and request.since:
        for hook in observers.vain:
            hook(request.involved(), request.since)
    if observers.missed:
        for call in request.missing():
            tell_of_miss(observers, call, error)


def tell_of_miss(observers: Observers, call: ReceiveCall, error: BaseException) -> None:
    """Tell the observers of a receive that has failed, unless it has only looked whether its message is here."""
    if call.timeout is None or call.timeout > 0:
        for hook in observers.missed:
            hook(call.party.name, call.key, call.since, error)


def values(calls: Sequence[ReceiveCall]) -> list[Any]:
    """Return the values of receives that have their messages.

    Where one of them can't be read, or is not as expected, that alone is received: the others go back.

    :raises CommunicationError: that of one of them
    """
    received: list[Callable[[], None]] = []
    found = [call.value(received) for call in calls]
    for tell in received:
        tell()
    return found


AnyCall: TypeAlias = ReceiveCall | SendCall
