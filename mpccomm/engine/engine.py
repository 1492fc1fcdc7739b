"""The running part of a pool: its parties, its server, its diallers and its clock. It lives on one loop; both faces drive it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpccomm.address import check_host, check_name, check_port, check_server_name
from mpccomm.codec.wire_format import OURS, WIRE_FORMATS
from mpccomm.engine.abc import LoopProvider
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.callbacks import Callbacks
from mpccomm.engine.deadlines import describe_limit
from mpccomm.engine.ending import PoolEnding
from mpccomm.engine.error_messages import no_party, own_name, step_to_reach, why_not_ready
from mpccomm.engine.handles import Failures
from mpccomm.engine.lifecycle import Lifecycle, PoolEvent, PoolState
from mpccomm.engine.loop_owner import LoopOwner, running_loop
from mpccomm.engine.notices import tell_of_absent
from mpccomm.engine.observer import joined
from mpccomm.engine.ordering import SerialisingLock
from mpccomm.engine.party import Party
from mpccomm.engine.process import Engines
from mpccomm.engine.removals import Removals
from mpccomm.engine.report import Reporter, keep
from mpccomm.engine.server import PoolServer
from mpccomm.engine.states import GivenUp
from mpccomm.engine.stats import History
from mpccomm.engine.takeover import Takeover, predecessors
from mpccomm.engine.tracing import REPORT, Trace, close, file_for
from mpccomm.engine.ways import PartyWays
from mpccomm.errors import (
    ConfigurationError,
    DuplicatePartyError,
    NotReadyError,
    PoolClosedError,
)
from mpccomm.logs import EventLog, LogEvent, LoggedPool
from mpccomm.protocol.frames import NO_PORT, VISIT
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.protocol.states import Cause
from mpccomm.proxies import GivenProxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.identity import FilePath
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.network import BoundPort, Network
from mpccomm.transport.reconnect import Dialler, DialSlots
from mpccomm.transport.shared_port import Listener

if TYPE_CHECKING:
    from mpccomm.engine.audit import Audit
    from mpccomm.engine.tno_bridge import TnoBridge

_STANDSTILL = 2.0
"""Seconds for which an event loop may be held up before the log warns."""

_INHERITED = "this pool was made before a fork and belongs to the parent process; make a new one here"


class Engine:
    """The engine of one pool. Its methods run on the home loop, unless said otherwise."""

    visiting = False
    """Whether this pool only looks: the programs of the other parties do not notice it."""
    _ticker: asyncio.TimerHandle | None = None
    _told_empty = False

    def __init__(self, settings: Settings, authentication: Authentication, network: Network, name: str) -> None:
        if authentication.certified and not network.tls:
            raise ConfigurationError("there are no certificates in this network: leave out key=, cert= and ca_cert=")
        self.logged = LoggedPool(name)
        self.log = authentication.log = EventLog(self.logged)
        authentication.announce()
        self.loop_owner = LoopOwner(self.log, network.clock, network.elsewhere)
        self.loop_owner.grace = settings.interrupt_grace
        self.failures = Failures(self.loop_owner)
        self.callbacks = Callbacks(self.loop_owner)
        self.serialising = SerialisingLock()
        self.authentication = authentication
        self.loop_provider: LoopProvider | None = None
        """What makes a loop to live on, and ends it; None: the loop that runs where the pool is first used."""
        self.takeover = Takeover(self.loop_owner)
        self.audit: Audit | None = None
        self._reporters: dict[str, Reporter] = {}
        """The one `reporter`, if there is one."""
        self.traces: list[Trace] = []
        """The traces that run, and those that ended last; the newest one comes last."""
        self.network = network
        self.name = check_name(name) if name != "" else ""
        """The name of this party; empty: it was given none."""
        self._own_names = {name} if name else set[str]()
        """The names by which it goes: its own, and those that it has in groups."""
        self.settings = settings
        self.history = History()
        self.parties: dict[str, Party] = {}
        self.lifecycle = Lifecycle()
        self._older: list[Engine] = []
        """The pools whose port it has taken over."""
        self._incarnation = secrets.token_bytes(16)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = DialSlots()
        self.server = PoolServer(name, network, authentication, self._take_over)
        self.ending = PoolEnding(self)
        self.removals = Removals(
            lambda: self.parties, authentication, settings.linger, self.log, self._spawn, self.ending.bound
        )
        self.ways = PartyWays(name, network, authentication, settings, self._spawn, self._get_port)
        self.loop_owner.split = self.ending.end_split
        ENGINES.add(self)
        self._report_file: Path | None = None
        self._begin_to_observe()

    def _begin_to_observe(self) -> None:
        """Begin to count and to trace, as far as the settings say so."""
        settings = self.settings
        if settings.report_to:
            self._report_file = file_for("report_to", settings.report_to, self.name, self._incarnation, REPORT)
        if settings.report or settings.report_to:
            self.count()
        if settings.trace:
            self.trace(file_for("trace", settings.trace, self.name, self._incarnation))

    def observe(self, observer: object) -> None:
        """Have a further observer told of what is sent, received and waited for from now on."""
        self.loop_owner.observers = joined(self.loop_owner.observers, observer)

    def count(self) -> Reporter:
        """Return what counts for reports, from now on if it did not before. Any thread may call."""
        found = self.reporter
        if found is None:
            made = Reporter(self.loop_owner)
            # Several threads may come here at once: the first one's reporter counts.
            found = self._reporters.setdefault("", made)
            if found is made:
                self.observe(made)
        return found

    @property
    def reporter(self) -> Reporter | None:
        """What counts for reports, once that is asked for."""
        return self._reporters.get("")

    @property
    def title(self) -> str:
        """The name of its threads: made of the name of the pool, or else of its port."""
        name = self.name or ("" if self.server.port is None else f"at port {self.server.port}")
        return f"mpccomm {name}" if name else "mpccomm"

    def trace(self, path: Path | None) -> Trace:
        """Begin a trace, to be written there when it ends. Any thread may call."""
        made = Trace(self.loop_owner, self.name, self._incarnation, lambda: self.parties, path)
        # Of those that ended long ago the last one is kept.
        self.traces = [*(trace for trace in self.traces if not trace.over), made]
        return made

    # -- building (any thread, before or after the start) ----------------------------------------------------------------

    def go_by(self, name: str) -> None:
        """Note that this party is called so in a group; no other one can be.

        :raises ConfigurationError: a party was added by that name
        """
        if name in self.parties:
            raise ConfigurationError(own_name(name, self.parties[name].where))
        self._own_names.add(name)

    def party(self, name: str, *, sends: bool = False) -> Party:
        """Return the party of that name, for a call that ``sends`` to it, or does something else."""
        try:
            return self.parties[name]
        except (KeyError, TypeError):
            raise no_party(name, self.parties, sends=sends) from None

    def describe(self, name: str) -> str:
        """Return the name of a party with its address, as long as it is one."""
        return str(self.parties.get(name, name))

    def parties_named(self, names: Sequence[str] | None) -> list[Party]:
        """Return the parties of those names, in that order; None: all, in the order in which they were added."""
        found = list(self.parties.values()) if names is None else [self.party(name) for name in names]
        if not found and not self._told_empty:
            # This is no error: a program for any number of parties may run with one.
            self._told_empty = True
            text = "a call for several parties is for none: its handler_names are empty; left out, they are all parties"
            if names is None:
                text = "a call for all parties of this pool is for none: it has no parties yet; add them before: add_http_client"
            self.log(LogEvent.NO_PARTIES, text)
        return found

    def check_open(self) -> None:
        """Raise unless the pool can be used."""
        if self.lifecycle.usable:
            return
        if self.lifecycle.state is PoolState.INHERITED:
            raise PoolClosedError(_INHERITED)
        if (split := self.ending.split) is not None:
            raise PoolClosedError(str(split)) from split.__cause__
        raise PoolClosedError("this pool was shut down; make a new one")

    def listen(
        self,
        addr: str,
        port: int | None,
        external_port: int | None,
        listener: Listener | None = None,
        server_name: str | None = None,
    ) -> None:
        """Bind the server's port, or share one."""
        self.check_open()
        self.server.listen(addr, port, external_port, listener, server_name)
        self.logged.where = self.server.where
        self.lifecycle.add()
        for party in self.parties.values():
            party.link.port = self.server.declared_port
        self.log(LogEvent.LISTENING, "listening at %s", self.server.where)

    def _take_over(self, where: str) -> list[BoundPort]:
        """Shut down the pools of this session that listen there, and return their ports."""
        older = predecessors(where, [engine for engine in ENGINES.all() if engine.network is self.network])
        self._older = older
        if older:
            text = "the pool that this session had at %s is shut down: a new one takes its place"
            self.log(LogEvent.REPLACED, text, where)
        for engine in older:
            self.takeover.follow(engine.takeover)
        for party in self.parties.values():
            self.correct_before(party, self.authentication.identity)
        return [bound_port for engine in older if (bound_port := engine.hand_over_port()) is not None]

    def correct_before(self, party: Party, identity: object) -> None:
        """Note that a later pool, which shows that identity, has a party, perhaps elsewhere. Any thread may call."""
        for engine in self._older:
            engine.correct(party, identity)

    def correct(self, party: Party, identity: object) -> None:
        """Give up what was never to be delivered to a party, if a later pool looks for it otherwise. Any thread may call."""
        self.correct_before(party, identity)
        mine = self.parties.get(party.name)
        if mine is None or (mine.approach, self.authentication.identity) == (party.approach, identity):
            return
        mine.corrected = True
        if self.loop_owner.settled:
            with suppress(PoolClosedError):
                self.loop_owner.post(mine.flush)

    def hand_over_port(self) -> BoundPort | None:
        """Shut down in the background, and give the port to a new pool. None: it is closed already."""
        # This comes first: the thread of this pool may be about to say goodbye.
        self.takeover.make_way()
        handed_over = self.server.pass_on()
        if not (self.loop_owner.settled and self.loop_owner.loop.is_running()):
            # Its program is over and did not close it: there is no loop any more on which to say goodbye.
            self.close_unused()
        else:
            self.ending.begin_in_background()
        return handed_over

    def add(
        self,
        name: str,
        addr: str | None,
        port: int | None,
        certificates: FilePath | Iterable[FilePath] | None,
        check_hostname: bool,
        wire: str,
        via: tuple[Relay, ...] | None = None,
        proxy: GivenProxy = None,
        server_name: str | None = None,
    ) -> Party:
        """Add a party."""
        self.check_open()
        if check_name(name) in self._own_names:
            raise ConfigurationError(own_name(name))
        relays = self.ways.relays_of(name, via, wire)
        if addr is None and not relays:
            raise ConfigurationError(f"where is {name}? Pass its address, or the relay where it is reached as via=")
        addr = "" if addr is None else check_host(addr)
        port = NO_PORT if not addr else port
        port = None if port is None else check_port(port, zero="a party without a server")
        if name in self.parties:
            raise DuplicatePartyError(
                f"there is a party {name!r} already, at {self.parties[name].where}: "
                f"take another name, or remove_http_client({name!r}) first"
            )
        if wire not in self.network.wires:
            raise ConfigurationError(f"wire={wire!r} of {name}: there are {', '.join(map(repr, self.network.wires))}")
        authentication = self.authentication
        party = Party(
            name,
            addr,
            authentication.default_port if port is None else port,
            loop_owner=self.loop_owner,
            incarnation=self._incarnation,
            settings=self.settings,
            certified=authentication.certified,
            certificates=certificates,
            check_hostname=check_hostname,
            wire_format=WIRE_FORMATS[wire],
            numbering=_numbering(wire),
        )
        party.relays, party.proxy = relays, self.ways.proxy_to(name, addr, proxy, wire)
        party.server_name = _asked_for(name, server_name, wire)
        party.audit = self.audit
        party.own_names = self._own_names
        authentication.admit(party, self.parties)
        party.link.port = self.server.declared_port
        self.removals.take_place(party, name, addr)
        if self.visiting:
            party.link.features |= VISIT
        # A new mapping: the loop may be going through the old one.
        self.parties = {**self.parties, name: party}
        for trace in self.traces:
            trace.follow(party)
        authentication.know(self.parties, self.removals.pending)
        self.lifecycle.add()
        self.correct_before(party, authentication.identity)
        return party

    def remove(self, name: str) -> None:
        """Remove a party: it is told so in the background."""
        self.check_open()
        party = self.party(name)
        if self.loop_owner.settled:
            # First: whatever strikes this call, it is among those that are told.
            self.removals.add(party)
        self.parties = {other: one for other, one in self.parties.items() if one is not party}
        # A party that is added again shall meet a new process: what this one had under way is over.
        self._incarnation = secrets.token_bytes(16)
        if self.loop_owner.settled:
            self.loop_owner.post(lambda: self.logged.context().run(self._part, party))
        else:
            party.give_up(GivenUp.REMOVED)
        self.authentication.know(self.parties, self.removals.pending)

    # -- running -------------------------------------------------------------------------------------------------------

    # What runs as long as the pool must not inherit the context variables of the call that happened to start it: a notebook
    # would take the first cell for the origin of every line that is logged later.

    def launch(self) -> None:
        """Find or make the loop to live on, and start there."""
        if self.loop_provider is None:
            self.start(running_loop())
        else:
            self.loop_provider.start()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Settle on the running loop, together with all engines of this thread that waited for a loop."""
        self.lifecycle.apply(PoolEvent.START)
        self.loop_owner.title = self.title
        self.loop_owner.settle_in(loop)
        self.logged.context().run(self._tick)
        self.ending.begin_if_asked_for()
        self.ending.watch()
        if self.settings.trace or self.settings.report_to:
            ENGINES.write_at_sigterm()
        for other in ENGINES.awaiting_loop():
            if other.lifecycle.state is PoolState.NEW:
                other.start(loop)
                other.start_added()

    def await_loop(self) -> None:
        """Start with the next engine that settles on a loop of this thread, where none runs yet."""
        ENGINES.await_loop(self)

    def start_added(self) -> None:
        """Start what was added: the server, and the diallers of the parties."""
        self.lifecycle.started()
        self.takeover.then(lambda: self.logged.context().run(self._start_added))

    def _start_added(self) -> None:
        self._older = []
        if self.lifecycle.state is PoolState.CLOSED:
            return
        self.ending.running_since = self.loop_owner.clock()
        # A pool that was told to end before it could begin still dials, to deliver its messages; it listens no more.
        if self.lifecycle.usable:
            self.server.start(self.settings)
        self.ways.start()
        for party in self.parties.values():
            if party.dialler is None:
                self.authentication.introduce(party)
                party.dialler = self._spawn(self._mediate(party))

    def _part(self, party: Party) -> None:
        if self.lifecycle.usable:
            self.removals.start(party)
        else:  # the end of the pool tells it
            party.fail_receives(Cause(GivenUp.REMOVED))

    async def _mediate(self, party: Party) -> None:
        if party.predecessor is not None:
            await party.place_is_free.wait()
        await self._mediator(party).run()

    def _mediator(self, party: Party) -> Dialler | TnoBridge:
        """Return what keeps the party connected."""
        authentication = self.authentication
        if party.wire_format is not OURS:
            from mpccomm.engine.tno_bridge import TnoBridge

            gateway = TnoBridge(
                party, lambda: authentication.dialling, partial(authentication.unacceptable, party), self._spawn
            )
            authentication.correspondents[party.name] = gateway
            return gateway
        way = self.ways.to(party, self._slots)
        return Dialler(
            party,
            way,
            self.settings.retry,
            self._slots,
            self._spawn,
            party.check_retries,
            lambda: self.server.until_known(party.host.known),
        )

    def _get_port(self) -> int:
        """Return the port of our server, as the others know it."""
        return self.server.declared_port

    def review_certificates(self) -> None:
        """Look at all connections after the certificates were read again."""
        self.authentication.review()
        self.ways.review()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop_owner.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self.tell_of_failure)
        return task

    @cached_property
    def _log_throttle(self) -> LogThrottle:
        return LogThrottle(self.log)

    def tell_of_failure(self, task: asyncio.Task[None]) -> None:
        """Log it if a task of the pool, which is done, has failed."""
        if not task.cancelled() and (error := task.exception()) is not None and not self.loop_owner.struck(error):
            self._log_throttle.failure("a part of the pool failed", error)

    def _tick(self) -> None:
        timing = self.settings.timing
        late = 0.0 if self._ticker is None else self.loop_owner.loop.time() - self._ticker.when()
        if late >= max(timing.waiting_notice, _STANDSTILL):
            text = (
                "the event loop of this pool stood still for %.0f s, and no party had an answer: was there a blocking call on it, "
                "or was the process stopped? What blocks belongs in a thread (asyncio.to_thread)"
            )
            self.log(LogEvent.LOOP_HELD_UP, text, late)
        self._ticker = self.loop_owner.loop.call_later(timing.tick, self.loop_owner.entering(self._tick))
        self.loop_owner.resume()
        self.loop_owner.judge()
        self.ending.tell_of_split()
        if self.loop_owner.forgotten:
            self.loop_owner.withdraw_forgotten()
        self.callbacks.notice(timing.waiting_notice)
        for trace in self.traces:
            trace.look()
        self.history.sample(self.loop_owner.clock(), self.parties.values())
        self.authentication.look_at_the_date()
        stirring = [party for party in self.parties.values() if party.tick()]
        leaving = [party for party in self.removals.leaving if party.tick()]
        for party in (*stirring, *leaving):
            if party.host.stale:
                self._spawn(party.host.refresh())
        tell_of_absent(self.log, stirring, self.loop_owner.clock())

    # -- for all parties together --------------------------------------------------------------------------------------

    async def wait_ready(self, limit: float | None, names: Sequence[str] | None = None) -> None:
        """Return once frames flow with every party, or with those of these names."""
        parties = self.parties_named(names)
        for party in parties:
            party.expect(True)
        waiting = [asyncio.ensure_future(party.until_connected(limit)) for party in parties]
        try:
            ready = await asyncio.gather(*waiting)
        finally:
            # One party that was refused ends the wait for all.
            for one in waiting:
                one.cancel()
            for party in parties:
                party.expect(False)
        missing = {
            party.name: f"{party.where}: {why_not_ready(party)}"
            for party, there in zip(parties, ready, strict=True)
            if not there
        }
        if missing:
            self.check_open()
            text = "; ".join(f"{name} at {why}" for name, why in missing.items())
            within = "" if limit is None else f" within {describe_limit(limit)}"
            step = step_to_reach(party for party in parties if party.name in missing)
            raise NotReadyError(f"not reachable{within}: {text}{step and f'.{step}'}", missing)

    # -- the end, as `PoolEnding` has it --------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop what runs, and wait for its end. May be called once more where it was interrupted."""
        if self._ticker is not None:
            self._ticker.cancel()
        left = [*self.parties.values(), *self.removals.untold]
        await asyncio.gather(*(party.disconnected() for party in left))
        await self.server.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.ways.close()
        await self.ending.watch_no_more()
        try:
            if not all(trace.over for trace in self.traces):
                await self.ending.write()
        finally:
            self.loop_owner.close_workers()
        self.failures.report()

    def close_unused(self) -> None:
        """Close all that needs no loop: there never was one, or it has ended, or has done what there was to do; idempotent."""
        if self.lifecycle.state in (PoolState.CLOSED, PoolState.INHERITED):
            return
        self.server.close_port()
        if self.audit is not None:
            self.audit.close()
        self.write()
        self.logged.close()
        self.callbacks.end()
        self.takeover.end()
        # The last step: if an earlier one is interrupted, a further attempt closes what is left.
        self.lifecycle.apply(PoolEvent.END)
        if self.loop_provider is not None:
            self.loop_provider.ended()

    def process_ends(self) -> None:
        """Log it where the program did not shut the pool down, and its loop does not run any more."""
        if self.loop_owner.settled and not self.loop_owner.loop.is_running():
            self.ending.tell_if_missed()

    def close_inherited(self) -> None:
        """Leave the pool to the parent process. Called in the child of a fork, so that only the parent keeps the port."""
        self.lifecycle.apply(PoolEvent.FORK)
        self.loop_owner.inherited = _INHERITED
        self.logged.close()
        self.server.close_inherited()

    def write(self) -> None:
        """Write the traces and the report, as far as the settings ask for them."""
        for trace in self.traces:
            close(trace)
        path = self._report_file
        if path is not None and self.reporter is not None:
            keep(self.reporter.report(self.name, self.parties), path, self.log)
            self._report_file = None


def _asked_for(name: str, server_name: str | None, wire: str) -> str:
    if server_name is None:
        return ""
    if wire != OURS.name:
        raise ConfigurationError(
            f"{name} runs tno.mpc.communication, which is asked for as addr=: leave out server_name="
        )
    return check_server_name(server_name)


def _numbering(wire: str) -> Callable[[], Numbering]:
    if wire == OURS.name:
        return PrefixNumbering
    from mpccomm.engine.tno_bridge import tno_numbering

    return partial(tno_numbering, wire)


ENGINES: Engines[Engine] = Engines()
"""The engines of this process."""
