"""A remote party at run time: its link, the connections to it, whether it is trusted, and how a pool leaves it."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mpccomm.address import join
from mpccomm.codec.wire_format import OURS, WireFormat
from mpccomm.display import number_text, plural
from mpccomm.engine.error_messages import explain, why_not_ready
from mpccomm.engine.handlers import Handler
from mpccomm.engine.notices import Notices, Waits
from mpccomm.engine.ordering import Ordering
from mpccomm.engine.party_connections import PartyConnections, is_second
from mpccomm.engine.party_log import answered, tell, why_closed
from mpccomm.engine.progress_tracker import ProgressTracker
from mpccomm.engine.reputation import Reputation
from mpccomm.engine.states import CONTACT, ContactEvent, ContactState, GivenUp
from mpccomm.engine.trail import Fork, Trail
from mpccomm.errors import AuthenticationError, PartyRestartedError
from mpccomm.logs import LogEvent
from mpccomm.protocol import events
from mpccomm.protocol.events import Event
from mpccomm.protocol.link import Link
from mpccomm.protocol.meeting import ON_A_VISIT
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.states import Cause, CloseCode, PartyState
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.resolver import Host
from mpccomm.transport.stream import CLOSE_TIMEOUT, Stream
from mpccomm.transport.tls import Verdict

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Set

    from mpccomm.engine.audit import Audit
    from mpccomm.engine.loop_owner import LoopOwner
    from mpccomm.engine.requests import ReceiveCall, SendCall
    from mpccomm.protocol.sender import Outgoing
    from mpccomm.transport.identity import Certificate, FilePath

_SHORT_CLOSE = 0.5
"""Seconds that a connection has to end by itself if the other side did not answer the goodbye in time."""
PATIENCE = 6
"""How many times as long as it lingers a pool that ends waits for a party that is connected and reads nothing."""
_LAST_PAUSE = 0.5
"""Seconds between two dials of a party as the pool begins to end."""
_LAST_DIAL = 2.0
"""Seconds that a pool which ends gives to one more dial of a party that it has not met."""
_NOT_RESUMED = (
    "it talked to us before, to an earlier process or pool of ours or before it was removed here: its program has to receive what "
    "was sent then, and then to call accept_restart()"
)
_NOT_ACCEPTED = "it does not recognise us by our certificate: add it there as cert=, or under the address that is in it"
_SEEN = 2
"""Round trips after which the call of a party is seen to come that has noticed the same loss: TCP needs one and a half."""
_PROMPT = 0.02
"""Seconds that it needs to notice it, and to dial."""
_ABSENT = (ContactState.MISSING, ContactState.REFUSED)
AT_ONCE = 16
"""The calls that end in one turn of the loop. Those who waited for them send the next messages, and these should be on their
way while the next few calls end: the other side has something to do, and the ends work side by side, not in turn."""
_OF_A_HANDLE = 1 / 16
"""How much a call with a handle counts: a thread that waits for handles is woken once per turn of the loop for all of them."""

_TAKEN = 64
"""Other threads take this many messages, or this part of an eighth of the box, before the loop is told to account for them."""


class Party:
    """One remote party of a pool. Everything but the constructor runs on the pool's loop.

    It is ``certified`` if it is known by its certificate, and not by its address alone. The files ``certificates`` hold
    the ``pins``; without any it has to have one from an authority, for its address unless ``check_hostname`` is False.
    """

    audit: Audit | None = None
    oldest: tuple[Outgoing | None, float] = None, 0.0
    """The first message that is not delivered, and since when it is known to be the first."""
    own_names: Set[str] = frozenset()
    """The names by which our own party goes."""
    pins: tuple[Certificate, ...] = ()
    prefix = ""
    answers = False
    """Whether the last attempt to connect has found it, and one of us does not accept the other."""
    trouble = "no answer yet"
    """Why the last attempt to connect failed."""
    step: str | None = None
    """What to look at, where that attempt has said nothing of whether it runs; empty: nothing else than the trouble."""
    not_taken = ""
    """Why it does not take what is sent, though it is there; empty: it does, or never said."""
    failed_dials = 0
    dialling_since: float | None = None
    contact = ContactState.MISSING
    closed: Cause | None
    """Why calls fail: it is BARRED or CLOSED."""
    refusal = ""
    """Why one end does not accept the other's certificate: it is REFUSED."""
    _refused_us = ""
    """Why it did not accept our certificate, since it was connected last."""
    _expectations = 0
    dialler: asyncio.Task[None] | None = None
    """The task that keeps it connected."""
    server_name = ""
    """Whom to ask for where it is; empty: its address, if that is a host name."""
    proxy: Proxy | None = None
    """The forward proxy on the way to it."""
    relays: tuple[Relay, ...] = ()
    """The relays through which it is reached, if not directly."""
    trail: Trail | Fork | None = None
    """Where traces that run note its messages."""
    dial_now = False
    pause: asyncio.Timeout | None = None
    _patience: Callable[[], float] = staticmethod(lambda: -math.inf)
    """Returns until when it may read nothing as we give up, and gets our last word all the same."""
    _leaving_since = -math.inf
    """When we began to leave it; before that the pauses between dials are the ordinary ones."""
    _looked_for = False
    """Whether it was dialled once more as we leave, in vain."""
    _continued = False
    _happening: asyncio.Future[None] | None = None
    second = False
    """It dials first, where it has no address; the certificates decide."""
    corrected = False
    """The pool that takes the place of this one looks for it elsewhere, or otherwise: if it was not met so far, it won't be."""
    predecessor: Party | None = None
    """The one that was removed from this place, as long as something is still to be delivered to it: connections are its own."""

    def __init__(
        self,
        name: str,
        addr: str,
        port: int,
        *,
        loop_owner: LoopOwner,
        incarnation: bytes,
        settings: Settings,
        certified: bool = False,
        certificates: FilePath | Iterable[FilePath] | None = None,
        check_hostname: bool = True,
        wire_format: WireFormat = OURS,
        numbering: Callable[[], Numbering] = PrefixNumbering,
    ) -> None:
        self.name = name
        self.addr = addr
        self.port = port
        self.host = Host(addr)
        self.certified = certified
        self.certificates = certificates
        self.check_hostname = check_hostname
        self.reputation = Reputation(settings.retry, settings.strangers, certified=certified)
        self.loop_owner, self.clock = loop_owner, loop_owner.clock
        self.log = loop_owner.log.of(name)
        self.settings = settings
        self.link = Link(
            incarnation=incarnation,
            nonce=lambda: secrets.token_bytes(16),
            limits=settings.limits,
            timing=settings.timing,
            now=self.clock(),
            numbering=numbering,
            alone=lambda: loop_owner.program_waits(),
        )
        self.most_taken = min(_TAKEN, settings.limits.box_messages // 8), settings.limits.box_bytes // (8 * _TAKEN)
        self.place_is_free = asyncio.Event()
        """Set when the `predecessor` is gone."""
        self.retry_now = asyncio.Event()
        """Set when a call waits for it although it was refused."""
        self.wire_format = wire_format
        self.closed = None
        self.handler = Handler(self)
        self.ordering = Ordering()
        self.impatient: set[SendCall] = set()
        """Sends that fail after a number of failed dials."""
        self._progress = None if settings.progress is None else ProgressTracker(name, settings.progress, self.log)
        self.connections = PartyConnections(self, AT_ONCE)
        self.notices = Notices(self.log, self)
        self._missing_since = self._ticked = self.clock()
        """Since when it is MISSING or REFUSED, while it is."""

    @property
    def where(self) -> str:
        """The address, as people write it."""
        if not self.addr:
            return "the " + " or the ".join(map(str, self.relays))
        return join(self.addr, self.port)

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"

    @property
    def approach(self) -> tuple[object, ...]:
        """How it is looked for, and what it is known by."""
        where = self.addr, self.port, self.server_name, self.relays, self.proxy
        return *where, self.pins, self.check_hostname, self.wire_format

    @property
    def first(self) -> Party:
        """Whom connections to this place belong to: this party, or the first of those before it."""
        party = self
        while party.predecessor is not None:
            party = party.predecessor
        return party

    def _change(self, event: ContactEvent, closed: Cause | None = None) -> bool:
        """Apply an event to the state of the contact. False: it changes nothing.

        :param closed: what calls fail with from then on
        """
        before = self.contact
        self.contact = after = CONTACT[before, event]
        if after is before:
            return False
        self.closed = closed
        self.refusal = ""
        if after in _ABSENT and before not in _ABSENT:
            self._missing_since = self.clock()
        return True

    # -- connections ---------------------------------------------------------------------------------------------------

    async def run_connection(self, stream: Stream, *, dialled: bool) -> None:
        """Run one connection to its end."""
        await self.connections.run(stream, dialled=dialled)

    @property
    def needs_connection(self) -> asyncio.Event:
        """Set while a connection is wanted, and none is in its handshake."""
        return self.connections.wanted

    @property
    def longest_pause(self) -> float:
        """Seconds between two attempts to connect, at most: as we leave there may be little time for the last word."""
        left = max(_LAST_PAUSE, (self.clock() - self._leaving_since) / 10)
        return min(self.settings.retry.cap, left)

    @property
    def gives_way(self) -> bool:
        """Whether it dials first, and we wait a little for that."""
        if not self.addr:
            return self.second
        return self.wire_format is OURS and is_second(self.link.port, self.port, self.host.literal)

    @property
    def head_start(self) -> float:
        """Seconds that it has for that, until its call is seen to come: at first more than where we know how far it is."""
        give_way, round_trip = self.settings.retry.give_way, self.link.round_trip
        return give_way if round_trip is None else min(give_way, _SEEN * round_trip + _PROMPT)

    @property
    def relayed(self) -> bool:
        """Whether it is connected, through a relay."""
        return self.link.relayed

    @property
    def expected(self) -> bool:
        """Whether a call waits for it to come, even if it said goodbye."""
        return self._expectations > 0

    def expect(self, expected: bool) -> None:
        """Take note that a call waits for it to come, even if it said goodbye before, or does not wait any more."""
        self._expectations += 1 if expected else -1
        if expected:
            self._retry_refused()
        self.connections.update_wanted()

    def dial_failed(self, trouble: str, step: str | None = None) -> None:
        """Note that an attempt to connect has failed; ``step`` is that of a `DialError`."""
        self.step = step
        self.reputation.clear()
        self._change(ContactEvent.FAIL)
        self.answers = answered(trouble)
        # One that does not accept us raises an error, and has often ended when we dial again.
        self._note(f"{trouble}; when it was there: {self._refused_us}" if self._refused_us else trouble)

    def _note(self, trouble: str, event: LogEvent = LogEvent.DIAL_FAILED) -> None:
        self.failed_dials += 1
        if not self.dial_now:
            self._looked_for = True
            self._happened()
        if trouble != self.trouble:
            self.trouble = trouble
            self.log(event, "%s: %s", self, trouble)

    # -- trust ---------------------------------------------------------------------------------------------------------

    def refused(self, verdict: Verdict) -> None:
        """Note that an attempt to connect has failed because one end does not accept the other's certificate."""
        if verdict.unseen and self.pins:
            expected = f"expected is {' or '.join(f'{pin}, {pin.validity()}' for pin in self.pins)}"
            if verdict.unpinned:
                # OpenSSL says so of any certificate that is not pinned: no authority is asked for here.
                told = (
                    f"its certificate is not the one that is pinned; {expected}. TLS does not show which it has: compare "
                    f"fingerprints with {self.name} in another way (mpccomm certs show), and pass the right one "
                    "as cert= to add_http_client"
                )
            else:
                told = f"{verdict.text}; {expected}"
            verdict = verdict._replace(text=told)
        else:
            verdict = verdict._replace(text=verdict.advice)
        self.answers = True
        if verdict.theirs:
            self._refused_us = verdict.text
        self._note(verdict.text, LogEvent.UNTRUSTED)
        if not self.link.connected and self.reputation.refuse(verdict, self.clock()):
            self._change(ContactEvent.REFUSE)
            if self.contact is ContactState.REFUSED:
                self.refusal = verdict.text
            self.fail_waiting(Cause(GivenUp.UNTRUSTED, verdict.text))
            self.flush()

    def turned_away(self, code: int | None) -> None:
        """Note that the other side closed a connection before its handshake was complete."""
        if self.certified and code in (CloseCode.NOT_RECOGNISED, CloseCode.BARRED):
            self.refused(Verdict(_NOT_ACCEPTED if code == CloseCode.NOT_RECOGNISED else why_closed(code), True))
        else:
            self.dial_failed(why_closed(code))

    def _retry_refused(self) -> None:
        if self.contact is ContactState.REFUSED:
            self.retry_now.set()

    def review(self, unacceptable: Callable[[ssl.SSLObject | None], str | None]) -> None:
        """Close connections that new certificates would not admit, and dial again if it was refused."""
        self.connections.dismiss(CloseCode.NOT_RECOGNISED, lambda stream: unacceptable(stream.tls))
        self.flush()
        self._retry_refused()

    def offended(self, reason: str) -> None:
        """Note that it broke the protocol."""
        why = self.reputation.offend(reason, self.clock())
        barred = Cause(GivenUp.BARRED, why)
        if not why or not self._change(ContactEvent.BAR, barred):
            return
        self.log(LogEvent.BARRED, "%s is kept out until readmit(%r) is called: %s", self, self.name, why)
        self.connections.dismiss(CloseCode.BARRED, lambda _: why)
        self.fail_waiting(barred)
        self.connections.update_wanted()

    def failed(self) -> None:
        """Note that a part of the pool failed in a connection with it: the next one is made, or let in, after a pause."""
        self.reputation.fail(self.clock())

    def readmit(self) -> None:
        """Let it in again after it was barred."""
        self.reputation.readmit()
        if self._change(ContactEvent.READMIT):
            self.log(LogEvent.READMITTED, "%s is readmitted", self)
            self.connections.update_wanted()

    # -- what the link has to say --------------------------------------------------------------------------------------

    def flush(self, most: float = math.inf) -> None:
        """Handle the events of the link, and have sent what it wants to send.

        At most ``most`` calls end now, the others in further turns of the loop.
        """
        link = self.link
        finished = link.finished
        if link.mailbox.taken:
            link.account(self.clock())
        if finished:
            if self._progress is not None and self._progress.followed:
                self._progress.settle()
            waiting = len(finished)
            if waiting <= most:
                # Nearly always, however little each of them counts.
                for _ in range(waiting):
                    if not finished:
                        break  # one of them gave its message back, and the flush that came with that has ended the others
                    finished.popleft().done()
            else:
                self._finish_some(most)
            if finished and not self._continued:
                self._continued = True
                self.loop_owner.loop.call_soon(self._continue)
        if link.events:
            happened, link.events = link.events, []
            for event in happened:
                self._note_event(event)
            self.connections.update_wanted()
        if link.closing:
            self.connections.close_as_told()
        self.connections.wake()
        if self._happening is not None:
            self._happened()

    def _happened(self) -> None:
        """Have those that wait `until` something is the case look again."""
        if self._happening is not None:
            happening, self._happening = self._happening, None
            happening.set_result(None)

    def _finish_some(self, most: float) -> None:
        finished = self.link.finished
        while finished and most > 0:
            call = finished.popleft()
            call.done()
            most -= 1 if call.awaited else _OF_A_HANDLE

    def return_message(self, message: Incoming) -> None:
        """Return a message that was taken to the mailbox: the next receive that asks for it gets it."""
        self.link.put_back(message, self.clock())
        self.flush()

    def _continue(self) -> None:
        try:
            self._continued = False
            self.flush(AT_ONCE)
        except BaseException as error:
            self.loop_owner.suspect = error
            self.loop_owner.judge()
            raise

    def resume(self) -> None:
        """Go on where what a signal handler raised has kept the loop from calling us. Called now and then."""
        self._continued = False
        self.connections.resume()

    def _note_event(self, event: Event) -> None:
        match event:
            case events.Connected():
                self._retry_refused()
                self.reputation.clear()
                self._refused_us = ""
                self._change(ContactEvent.CONNECT)
                self.failed_dials = 0
                self.step = None
                self.notices.connected()
                self._tell_observer(connected=True)
            case events.ConnectionLost():
                # Not the time of the first doubt: that may have been about another connection, long ago.
                self._change(ContactEvent.LOSE)
                self.trouble = "connection lost"
                self._tell_observer(connected=False)
            case events.ConnectionSuspect():
                self.trouble = "connection shows no sign of life"
            case events.PartyReplaced():
                self._change(ContactEvent.LOSE)
                self.trouble = "no answer yet"
                self._tell_observer(connected=False)
            case events.RestartNotAccepted():
                self.trouble = _NOT_RESUMED
            case events.Visited(dialled=True):
                self.dial_failed(ON_A_VISIT)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        tell(self.log, self.connections.throttle, self, event)

    def _tell_observer(self, *, connected: bool) -> None:
        observers = self.loop_owner.observers
        if observers is not None:
            for hook in observers.connection:
                hook(self.name, connected)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Do what is due at this time: heartbeats, and notices about long waits. False: at rest, nothing can be due."""
        now = self.clock()
        link = self.link
        before, self._ticked = self._ticked, now
        if self.connections.secured:
            self.connections.inspect(now)
        if now >= link.quiet_until:
            self.connections.look(now, now - before)
        if not link.tick(now):
            return False
        self.resume()
        first = next(link.sender.pending(), None)
        if first is not self.oldest[0]:
            self.oldest = first, now
        if self._progress is not None:
            self._progress.look(link, now)
        self.notices.absence = None
        if self.contact in _ABSENT:
            self._tick_unreachable(now)
        else:
            self.notices.look_at_receives(now)
        self.connections.update_wanted()
        self.flush()
        return True

    def _tick_unreachable(self, now: float) -> None:
        sends = [message for message in self.link.sender.pending() if message.failure is None]
        waits = Waits(list(self.link.mailbox.receives()), sends, self.expected)
        if not any(waits) or (self.link.ending is not None and not self.expected):
            return
        self._retry_refused()
        limit = self.settings.unreachable_timeout
        if limit is not None and now - self._missing_since >= limit:
            self.fail_waiting(
                Cause(GivenUp.UNREACHABLE, f"{self.trouble}, for {number_text(now - self._missing_since)} s")
            )
            return
        since = self._missing_since if self.failed_dials else self.dialling_since
        if since is not None:
            self.notices.missing(waits, since, now)

    def accept_restart(self) -> None:
        """Go on with its new process; messages of both directions start from nothing."""
        dropped = self.link.mailbox.unread_messages
        if self.link.accept_restart(self.clock()):
            text = "%s: the restart is accepted; of the old process %s dropped"
            self.log(LogEvent.RESTART_ACCEPTED, text, self, plural(dropped, "message is", "messages are"))
        else:
            text = (
                "%s: there is no restart to accept, so nothing has changed; call accept_restart(%r) when its new process is there: "
                "wait_ready and receives raise PartyRestartedError then"
            )
            self.log(LogEvent.RESTART_ACCEPTED, text, self, self.name, level=logging.WARNING)
        self.flush()

    # -- endings -------------------------------------------------------------------------------------------------------

    def fail_waiting(self, cause: Cause) -> None:
        """End every call that waits for this party."""
        self.fail_receives(cause)
        self._fail_sends(cause)

    def fail_receives(self, cause: Cause) -> None:
        """End every receive from it that waits."""
        for receive in list(self.link.mailbox.receives()):
            if self.link.mailbox.cancel(receive):
                receive.failure = cause
                receive.done()

    def _fail_sends(self, cause: Cause) -> None:
        for message in list(self.link.sender.pending()):
            if message.failure is None:
                message.failure = cause
                message.detach()
                message.done()

    def check_retries(self) -> None:
        """End the sends that have seen as many failed dials as they allow. Called when a dial has failed."""
        for call in list(self.impatient):
            call.dial_failed()

    async def leave(
        self,
        deadline: Callable[[float], float],
        reason: str | None = None,
        ending: GivenUp = GivenUp.CLOSED,
        *,
        followed: bool = False,
    ) -> list[Outgoing]:
        """Deliver what is pending, say goodbye, or with a reason that we give up, close.

        :param deadline: returns the time until which to wait, of that at which something got through last; it may change meanwhile
        :param ending: what calls fail with from then on
        :param followed: another pool of this process takes the place of this one
        :returns: the messages that could not be delivered
        """
        link = self.link
        link.leave()
        self.flush()
        # To a party that is barred nothing will be delivered any more.
        limit = self.clock if self.closed else self._moving(deadline)
        await self._until_known(limit)
        idle = link.state is PartyState.UNKNOWN
        await self.until(lambda: link.sender.idle or link.ending is not None or self._given_up, limit)
        undelivered = self._undelivered()
        known = not idle or link.state is not PartyState.UNKNOWN
        if known:
            await self.until(lambda: link.connected or link.ending is not None, limit)
        # Also to a party that was never met: a connection that is made at this very moment gets the last word as well.
        if reason is not None:
            link.abort(reason)
        else:
            link.say_goodbye(followed=followed)
        await self._until_heard(known, limit)
        self._close(ending)
        return undelivered

    async def _until_heard(self, known: bool, limit: Callable[[], float]) -> None:
        """Wait until it has confirmed our last word, if it knows us: on a connection that is cut meanwhile, it is said in vain."""
        link = self.link
        self.flush()
        if known:
            await self.until(lambda: link.farewell or link.ending is not None, limit)

    def _moving(self, deadline: Callable[[float], float]) -> Callable[[], float]:
        """Return the time limit that begins anew whenever the party has taken more of what is sent. `tick` has it looked at."""
        sender = self.link.sender
        taken, moved = sender.acknowledged, -math.inf
        patience = self._patient(deadline)

        def limit() -> float:
            nonlocal taken, moved, patience
            if sender.acknowledged != taken:
                taken, moved = sender.acknowledged, self.clock()
                patience = self._patient(deadline)
            return max(deadline(moved), patience() if self.connections.unsent else -math.inf)

        return limit

    def _patient(self, deadline: Callable[[float], float]) -> Callable[[], float]:
        """Return until when it may read nothing of what is under way, from now on.

        It may just compute, or be stopped. What it does not read stands in the way of our last word, without which it would wait
        for us for ever. So it has several times as long as others.
        """
        since = self.clock()

        def limit() -> float:
            now = self.clock()
            return since + PATIENCE * max(deadline(now) - now, 0.0)

        return limit

    @property
    def _given_up(self) -> bool:
        return self.corrected and self.link.state is PartyState.UNKNOWN

    async def _until_known(self, deadline: Callable[[], float]) -> None:
        # A party that has met us in a handshake, and hears no goodbye, would wait for us for ever, and take our next process for
        # one after a crash. Where the connection was lost meanwhile, it comes again, or is dialled. One that has not met us, and
        # is there, would wait as long; whether it is, one more dial tells. A pool that was not used has dialled nobody, and does
        # not begin to.
        self.connections.update_wanted()
        self._looked_for = self.wire_format is not OURS or self.dialler is None
        self.dial_now = True
        self._leaving_since = self.clock()
        if self.pause is not None:
            # It may be over, where what a signal handler raised has ended the dialler in the midst of it.
            with suppress(RuntimeError):
                self.pause.reschedule(0)
        last_dial_until = self.clock() + _LAST_DIAL

        def known() -> bool:
            met = self.link.state is not PartyState.UNKNOWN
            return met or self._looked_for or bool(self.closed) or self._given_up

        def over() -> bool:
            return not self.link.perhaps_met or bool(self.closed) or (self._given_up and not self.connections)

        await self.until(known, lambda: min(deadline(), last_dial_until))
        await self.until(over, deadline)

    def give_up(self, ending: GivenUp) -> None:
        """Let calls fail from now on."""
        self._change(ContactEvent.CLOSE, Cause(ending))

    def _close(self, ending: GivenUp = GivenUp.CLOSED) -> None:
        self.give_up(ending)
        self.flush()
        self.fail_waiting(Cause(ending))
        self.connections.close(CloseCode.DONE, max(self._patience() - self.clock(), 0.0))

    async def until(self, condition: Callable[[], bool], deadline: Callable[[], float] | float | None) -> bool:
        """Wait until the condition holds; it is looked at whenever something happens on the link. False: the deadline came."""
        while not condition():
            at = deadline() if callable(deadline) else deadline
            remaining = None if at is None else at - self.clock()
            if remaining is not None and remaining <= 0:
                return False
            if self._happening is None:
                self._happening = self.loop_owner.loop.create_future()
            await asyncio.wait((self._happening,), timeout=remaining)
        return True

    async def until_connected(self, limit: float | None) -> bool:
        """Wait for frames to flow, or to have flowed meanwhile. False: the time limit passed, or the pool was shut down.

        :raises AuthenticationError: one end does not accept the other's certificate
        :raises PartyRestartedError: it is there, but as a new process, which nobody has accepted
        """
        link, reputation = self.link, self.reputation
        deadline = None if limit is None else self.clock() + limit
        refusals, connections = reputation.refusals, link.counters.connections

        def over() -> bool:
            # A party with nothing to do here may have come and left within a single turn of the loop.
            met = link.connected or link.counters.connections != connections
            return met or bool(self.closed) or self._is_restarted or reputation.refusals != refusals

        there = await self.until(over, deadline)
        if there and self.refusal and not link.connected:
            raise AuthenticationError(f"no connection with {self}: {self.refusal}")
        if there and self._is_restarted:
            raise PartyRestartedError(f"no connection with {self}: {why_not_ready(self)}")
        return there and not self.closed

    @property
    def _is_restarted(self) -> bool:
        """Whether it is there as a new process, for which the program has to call `accept_restart`."""
        return self.link.state is PartyState.RESTARTED

    async def disconnected(self) -> None:
        """Wait for the streams to end; each has its own time limit."""
        while True:
            # One that has not even heard our goodbye, and has taken all that was sent, doesn't read: to wait would not help. A line
            # that is crowded stands still for seconds.
            heard = self.link.farewell or self.link.ending is not None
            limit = CLOSE_TIMEOUT if heard or self.connections.unsent else _SHORT_CLOSE
            if await self.until(lambda: not self.connections, self.clock() + limit):
                return
            patient = self.clock() < self._patience() and self.connections.unsent
            if not (patient or self.connections.moving(limit)):
                self.connections.abort()
                await self.until(lambda: not self.connections, self.clock() + CLOSE_TIMEOUT)
                return

    async def abort(self, reason: str, deadline: Callable[[float], float]) -> list[Outgoing]:
        """Tell it that we give up, and why. Wait for a connection first, if it knows us or something was sent to it.

        :param deadline: as of `leave`
        :returns: the messages that it has not confirmed
        """
        link = self.link
        link.leave()
        self.fail_waiting(Cause(GivenUp.CLOSED))
        self.flush()
        limit = partial(deadline, -math.inf)
        await self._until_known(limit)
        known = not (self.closed or (link.state is PartyState.UNKNOWN and link.sender.idle))
        if known:
            await self.until(lambda: link.connected or link.ending is not None, limit)
        undelivered = self._undelivered()
        link.abort(reason)
        self._patience = patience = self._patient(deadline)
        await self._until_heard(known, lambda: max(limit(), patience() if self.connections.unsent else -math.inf))
        self._close()
        return undelivered

    def _undelivered(self) -> list[Outgoing]:
        return [message for message in self.link.sender.pending() if not message.delivered]

    def explain(self, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
        """Return the error that a call raises which ended for that cause."""
        return explain(self, cause, call)
