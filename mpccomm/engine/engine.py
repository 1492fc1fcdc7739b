"""The running part of a pool: its parties, its server, the diallers, and the clock. Lives on one loop; both faces drive it."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpccomm.address import check_host, check_name, check_port, check_server_name
from mpccomm.codec.wire_format import OURS, WIRE_FORMATS
from mpccomm.engine.abc import LoopProvider, Step
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.callbacks import Callbacks
from mpccomm.engine.deadlines import describe_limit
from mpccomm.engine.error_messages import split_by, step_to_reach, unknown, why_not_ready
from mpccomm.engine.futures import run, tell_all_who_wait
from mpccomm.engine.handles import Failures
from mpccomm.engine.lifecycle import Lifecycle, Lingering, PoolEvent, PoolState
from mpccomm.engine.loop_owner import LoopOwner, running_loop
from mpccomm.engine.notices import tell_of_absent
from mpccomm.engine.observer import Observer, joined
from mpccomm.engine.ordering import SerialisingLock
from mpccomm.engine.party import Party
from mpccomm.engine.party_log import tell_of_remains, tell_of_undelivered
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
    UnknownPartyError,
)
from mpccomm.logs import EventLog, LogEvent, LoggedPool
from mpccomm.protocol.frames import NO_PORT, VISIT
from mpccomm.protocol.link import Link
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.proxies import GivenProxy
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.identity import FilePath
from mpccomm.transport.network import BoundPort, Network
from mpccomm.transport.reconnect import Dialler, DialSlots
from mpccomm.transport.shared_port import Listener

if TYPE_CHECKING:
    from mpccomm.engine.audit import Audit
    from mpccomm.engine.tno_bridge import TnoBridge

_STANDSTILL = 2.0
"""Seconds for which an event loop may be held up without a word."""
_LAST = 10
"""Seconds that the end may take beyond all that has limits of its own: nothing of it takes as long."""


class Engine:
    """One per pool. Unless said otherwise its methods run on the home loop."""

    visiting = False
    """It has come to look, and takes no part: the programs of the others take no note of it."""
    _begun_at = 0.0
    _ticker: asyncio.TimerHandle | None = None
    _asked_to_end: Callable[[], None] | None = None
    _split: PoolClosedError | None = None
    """Why it has ended by itself: what a signal handler raised has split its work."""
    _split_told = False
    _told_empty = False

    def __init__(self, settings: Settings, authentication: Authentication, network: Network, name: str) -> None:
        if authentication.certified and not network.tls:
            raise ConfigurationError("there are no certificates in this network: leave out key=, cert= and ca_cert=")
        self.logged = LoggedPool(name)
        self.log = authentication.log = EventLog(self.logged)
        authentication.announce()
        self.loop_owner = LoopOwner(self.log)
        self.loop_owner.split = self._end_split
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
        self.reporter: Reporter | None = None
        """What counts for reports, once that is asked for."""
        self.traces: list[Trace] = []
        """Those that were begun, the last one last."""
        self.network = network
        self.name = check_name(name) if name else name
        """That of our own party, if the user gave one."""
        self.settings = settings
        self.history = History()
        self.parties: dict[str, Party] = {}
        self.lifecycle = Lifecycle()
        self._ending: asyncio.Task[None] | None = None
        self._lingering = Lingering()
        self._incarnation = secrets.token_bytes(16)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = DialSlots()
        self.server = PoolServer(name, network, authentication, self._take_over)
        self.removals = Removals(lambda: self.parties, authentication, settings.linger, self.log, self._spawn)
        self.ways = PartyWays(name, network, authentication, settings, self._spawn, self._get_port)
        self.has_additions = False
        """Something was added that `start_added` has not seen yet."""
        ENGINES.add(self)
        self._report_file: Path | None = None
        self._begin_to_observe()

    def _begin_to_observe(self) -> None:
        """Count and trace from now on, as far as the settings say so."""
        settings = self.settings
        if settings.report_to:
            self._report_file = file_for("report_to", settings.report_to, self.name, self._incarnation, REPORT)
        if settings.report or settings.report_to:
            self.count()
        if settings.trace:
            self.trace(file_for("trace", settings.trace, self.name, self._incarnation))

    def observe(self, observer: Observer) -> None:
        """Tell this one, too, of what is sent, received and waited for from now on."""
        self.loop_owner.observer = joined(self.loop_owner.observer, observer)

    def count(self) -> Reporter:
        """Return what counts for reports, from now on if it did not before. Any thread may call."""
        if self.reporter is None:
            made = Reporter(self.loop_owner)
            # Of several threads that come at once, one is the first.
            if self._reporters.setdefault("", made) is made:
                self.observe(made)
            self.reporter = self._reporters[""]
        return self.reporter

    @property
    def title(self) -> str:
        """How its threads are called: by the name of the pool, or else by its port."""
        name = self.name or ("" if self.server.port is None else f"at port {self.server.port}")
        return f"mpccomm {name}" if name else "mpccomm"

    def trace(self, path: Path | None) -> Trace:
        """Begin a trace, to be written there when it ends. Any thread may call."""
        made = Trace(self.loop_owner, self.name, self._incarnation, self._links, path)
        # Of those that ended long ago the last one is kept.
        self.traces = [*(trace for trace in self.traces if trace.running), made]
        return made

    def _links(self) -> dict[str, Link]:
        return {name: party.link for name, party in self.parties.items()}

    # -- building (any thread, before or after the start) ----------------------------------------------------------------

    def party(self, name: str) -> Party:
        """Return the party of that name."""
        try:
            return self.parties[name]
        except KeyError:
            raise UnknownPartyError(unknown(name, self.parties)) from None

    def parties_named(self, names: Sequence[str] | None) -> list[Party]:
        """Return the parties of those names, in that order; None: all, in the order in which they were added."""
        if names is not None:
            return [self.party(name) for name in names]
        if not self.parties and not self._told_empty:
            # A program for any number of parties may mean it so, when it is alone.
            self._told_empty = True
            text = "a call for all parties of this pool is for none: it has no parties yet; add them before, with add_http_client"
            self.log(LogEvent.NO_PARTIES, text)
        return list(self.parties.values())

    def check_open(self) -> None:
        """Raise unless the pool can be used."""
        if self.lifecycle.usable:
            return
        if self.lifecycle.state is PoolState.INHERITED:
            raise PoolClosedError(
                "this pool was made before a fork and belongs to the parent process; make a new one here"
            )
        if self._split is not None:
            raise PoolClosedError(str(self._split)) from self._split.__cause__
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
        self.has_additions = True
        for party in self.parties.values():
            party.link.port = self.server.declared_port
        self.log(LogEvent.LISTENING, "listening at %s", self.server.where)

    def _take_over(self, where: str) -> list[BoundPort]:
        """Shut down the pools of this session that listen there, and return their ports."""
        older = predecessors(where, [engine for engine in ENGINES.all() if engine.network is self.network])
        if older:
            text = "the pool that this session had at %s is shut down: a new one takes its place"
            self.log(LogEvent.REPLACED, text, where)
        for engine in older:
            self.takeover.follow(engine.takeover)
        return [bound_port for engine in older if (bound_port := engine.hand_over_port()) is not None]

    def hand_over_port(self) -> BoundPort | None:
        """Shut down in the background, and give the port to a new pool. None: it is closed already."""
        # First: its own thread may be about to say goodbye.
        self.takeover.make_way()
        handed_over = self.server.pass_on()
        if not (self.loop_owner.settled and self.loop_owner.loop.is_running()):
            # Its program is over, and did not close it. There is no way to say goodbye any more.
            self.close_unused()
        else:
            self.shut_down_in_background()
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
        check_name(name)
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
        party.server_name = "" if server_name is None else check_server_name(server_name)
        party.audit = self.audit
        authentication.admit(party, self.parties)
        party.link.port = self.server.declared_port
        self.removals.take_place(party, name, addr)
        if self.visiting:
            party.link.features |= VISIT
        # A new mapping: the loop may be going through the old one.
        self.parties = {**self.parties, name: party}
        authentication.know(self.parties, self.removals.pending)
        self.has_additions = True
        return party

    def remove(self, name: str) -> None:
        """Remove a party: it is told so in the background."""
        self.check_open()
        party = self.party(name)
        self.parties = {other: one for other, one in self.parties.items() if one is not party}
        # To a party that is added again we are another one: what this one had under way is over.
        self._incarnation = secrets.token_bytes(16)
        if self.loop_owner.settled:
            self.removals.add(party)
            self.loop_owner.post(lambda: self.logged.context().run(self._part, party))
        else:
            party.give_up(GivenUp.REMOVED)
        self.authentication.know(self.parties, self.removals.pending)

    # -- running -------------------------------------------------------------------------------------------------------

    # What runs as long as the pool is not to inherit the context variables of the call that happened to start it: a notebook,
    # for one, would take the first cell for the origin of every line that is logged later.

    def launch(self) -> None:
        """Find or make the loop to live on, and start there."""
        if self.loop_provider is None:
            self.start(running_loop())
        else:
            self.loop_provider.start()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Settle on the running loop, and with this engine all those of the thread that were waiting for one to run."""
        self.lifecycle.apply(PoolEvent.START)
        self.loop_owner.title = self.title
        self.loop_owner.settle_in(loop)
        self.logged.context().run(self._tick)
        if self._asked_to_end is not None:
            loop.call_soon(self._asked_to_end)
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
        self.has_additions = False
        self.takeover.then(lambda: self.logged.context().run(self._start_added))

    def _start_added(self) -> None:
        if self.lifecycle.state is PoolState.CLOSED:
            return
        self._begun_at = Party.clock()
        # One that was told to end before it could begin has messages to deliver nevertheless.
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
        else:
            self.removals.end(party)

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
        return Dialler(party, way, self.settings.retry, self._slots, self._spawn, party.check_retries)

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
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.loop_owner.struck(error):
            self.log(LogEvent.INTERNAL, "a part of the pool failed", exc_info=error)

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
        self._tell_of_split()
        self.loop_owner.withdraw_forgotten()
        self.callbacks.notice(timing.waiting_notice)
        for trace in self.traces:
            trace.look()
        self.history.sample(Party.clock(), self.parties.values())
        self.authentication.look_at_the_date()
        stirring = [party for party in self.parties.values() if party.tick()]
        leaving = [party for party in self.removals.leaving if party.tick()]
        for party in (*stirring, *leaving):
            if party.host.stale:
                self._spawn(party.host.refresh())
        tell_of_absent(self.log, stirring, Party.clock())

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

    async def shutdown(self, linger: float) -> None:
        """Deliver what is pending, tell the others, close. All who call this, or `abort`, wait for the one end.

        The longest ``linger`` counts; who is cancelled doesn't count any more.
        """
        await self._end(linger, None)

    async def abort(self, reason: str, linger: float) -> None:
        """Tell every party that we give up, for which a connection may have to be made first, and close."""
        await self._end(linger, reason)

    @property
    def told_to_end(self) -> bool:
        """Return whether its end was asked for."""
        return bool(self._lingering) or not self.lifecycle.usable

    def shut_down_in_background(self, reason: str | None = None, *, forgotten: bool = False) -> None:
        """Begin to shut down, or with a reason to deliver and then abort.

        Takes no lock and waits for nothing: a finalizer may call it.
        """

        self._lingering.begin(Party.clock(), self.settings.linger)

        def begin() -> None:
            if self.lifecycle.state is PoolState.RUNNING:
                self._begin_to_end(partial(self._leave, reason, forgotten=forgotten))

        # Its thread may be about to begin, after a first use that was interrupted.
        self._asked_to_end = begin
        if self.loop_owner.settled:
            with suppress(RuntimeError):  # the loop is closed
                self.loop_owner.loop.call_soon_threadsafe(begin)

    async def from_anywhere(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `shutdown` or `abort` on any loop.

        :raises PoolClosedError: the pool's loop has ended before the pool; its port is free now
        :raises WrongThreadError: the pool's loop can't run while this one does
        """
        if self.lifecycle.state in (PoolState.CLOSED, PoolState.INHERITED):
            return
        if self.loop_owner.settled:
            if self.loop_owner.loop.is_closed():
                self.close_unused()
                raise PoolClosedError(
                    "the event loop of this pool ended before it: what was not delivered yet is lost, and the other parties "
                    "were not told; shut a pool down, or leave its `async with`, while its loop still runs"
                )
            self.loop_owner.check()
        await run(end, self.loop_owner)

    def hurry(self) -> None:
        """End the lingering. Called from another thread."""

        def hurry() -> None:
            self._lingering.end_all()
            self._stir()

        if self.loop_owner.settled:
            with suppress(RuntimeError):  # the loop is closed
                self.loop_owner.loop.call_soon_threadsafe(hurry)

    def close_unused(self) -> None:
        """Close a pool that has no loop: it never had one, or its loop has ended, or has done what there was to do; idempotent."""
        if self.lifecycle.state in (PoolState.CLOSED, PoolState.INHERITED):
            return
        self.server.close_port()
        if self.audit is not None:
            self.audit.close()
        self.write()
        self.logged.close()
        self.callbacks.end()
        self.takeover.end()
        # The last step: until then a further attempt finds what is left.
        self.lifecycle.apply(PoolEvent.END)
        if self.loop_provider is not None:
            self.loop_provider.ended()

    def close_inherited(self) -> None:
        """After a fork, in the child: the pool is the parent's. Its port is free once the parent ends, not the child too."""
        self.lifecycle.apply(PoolEvent.FORK)
        self.logged.close()
        self.server.close_inherited()

    async def _end(self, linger: float, reason: str | None) -> None:
        if self.lifecycle.state in (PoolState.CLOSED, PoolState.INHERITED):
            return
        if not self.loop_owner.settled:
            self.close_unused()
            return
        mine = self._lingering.begin(Party.clock(), linger)
        ending = self._ending
        if ending is None:
            ending = self._begin_to_end(self._leave if reason is None else partial(self._give_up, reason))
        try:
            await self._ended_in_time(ending)
        except asyncio.CancelledError:
            self._lingering.end(mine)
            self._stir()
            await asyncio.wait((ending,), timeout=self.settings.interrupt_grace)
            raise
        except BaseException:
            # What a signal handler raised comes out at once.
            self._lingering.end(mine)
            raise

    async def _ended_in_time(self, ending: asyncio.Task[None]) -> None:
        """Wait for the end, and not for ever where asyncio has lost a part of it by what a signal handler raised."""
        removed = Party.clock() + self.settings.linger if self.removals.leaving else -math.inf
        while not ending.done() and (left := max(self.deadline(), removed) - Party.clock()) > 0:
            await asyncio.wait((ending,), timeout=left)
        for _ in range(_LAST):
            # One by one: a loop that is held up meanwhile has not used them all up at once.
            if not ending.done():
                await asyncio.wait((ending,), timeout=1)
        if ending.done():
            # Also where its very last step was struck.
            self._close_as_it_is()
            ending.result()
            return
        self.log(LogEvent.INTERNAL, "the pool did not come to its end in time, and is closed as it is")
        ending.cancel()
        closing = self.loop_owner.loop.create_task(self._close_all())
        await asyncio.wait((closing,), timeout=_LAST)
        self._close_as_it_is()

    def _begin_to_end(self, leave: Step) -> asyncio.Task[None]:
        if self.lifecycle.usable:  # not where it was split
            self.lifecycle.apply(PoolEvent.CLOSE)
        self._ending = self.logged.context().run(self.loop_owner.loop.create_task, self._run_to_the_end(leave))
        self._ending.add_done_callback(self._ended)
        return self._ending

    async def _run_to_the_end(self, leave: Step) -> None:
        try:
            await self._take(leave, self._give_up_split)
        finally:
            try:
                # A coroutine whose loop is closed ends without waiting for anything.
                if not self.loop_owner.loop.is_closed():
                    await self._take(self._close_all, self._close_all)
            finally:
                self._close_as_it_is()

    async def _take(self, step: Step, if_struck: Step) -> None:
        """Take a step of the end, and another one where a signal handler has raised in the middle of it."""
        try:
            await step()
        except BaseException as error:
            if self.loop_owner.struck(error):
                await if_struck()
            raise

    def _close_as_it_is(self) -> None:
        """Leave nothing open, whatever has become of the end."""
        for party in self.parties.values():
            if not self.loop_owner.loop.is_closed():
                party.connections.abort()
        self.close_unused()

    def _end_split(self, error: BaseException) -> None:
        """What a signal handler raised has split the work of the pool. What was done of it is not known, so nothing can go on."""
        if self.lifecycle.state not in (PoolState.RUNNING, PoolState.CLOSING):
            return
        if self._split is None:
            self._split = split_by(error)
        # From here on no call begins. The others, and the other parties, are told in a step of its own.
        if self.lifecycle.usable:
            self.lifecycle.apply(PoolEvent.CLOSE)
        self.loop_owner.loop.call_soon(self._tell_of_split)

    def _tell_of_split(self) -> None:
        """Let all hear of it, unless they have. The clock calls it as well: a further strike may keep it from its end."""
        if self._split is None or self._split_told:
            return
        parties = [*self.parties.values(), *self.removals.pending]
        tell_all_who_wait(self.loop_owner, parties, self._split)
        for party in parties:
            party.resume()
        if self._ending is None:
            self._lingering.begin(Party.clock(), self.settings.linger)
            self._begin_to_end(self._give_up_split)
        self._split_told = True
        self.log(LogEvent.SPLIT, "%s", str(self._split))

    def deadline(self) -> float:
        """Until when messages may still be delivered."""
        return self._lingering.deadline(self._begun_at)

    def _stir(self) -> None:
        for party in self.parties.values():
            party.flush()

    async def _leave(self, reason: str | None = None, *, forgotten: bool = False) -> None:
        if forgotten and self.server.listening:
            await self.takeover.may_be_followed()
        self.failures.told_by_party = True
        parties = list(self.parties.values())
        leaving = [party.leave(self.deadline, reason, followed=self.takeover.followed) for party in parties]
        left = await asyncio.gather(*leaving)
        reports = {
            party.name: tell_of_remains(party.log, party, messages)
            for party, messages in zip(parties, left, strict=True)
        }
        tell_of_undelivered(self.log, reports)
        if told := self.removals.leaving:
            await asyncio.wait(told.values())

    async def _give_up_split(self) -> None:
        assert self._split is not None
        await self._give_up(type(self._split.__cause__).__name__)

    async def _give_up(self, reason: str) -> None:
        await asyncio.gather(*(party.abort(reason, self.deadline) for party in self.parties.values()))

    def write(self) -> None:
        """Write what is to be written at the end: traces, and the report."""
        for trace in self.traces:
            close(trace)
        if self._report_file is not None and self.reporter is not None:
            keep(self.reporter.report(self.name, self.parties), self._report_file, self.log)

    async def _close_all(self) -> None:
        """Wait for the end of what runs. It may be begun once more."""
        if self._ticker is not None:
            self._ticker.cancel()
        await asyncio.gather(*(party.disconnected() for party in self.parties.values()))
        await self.server.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.ways.close()
        self.loop_owner.close_workers()
        self.failures.report()


def _numbering(wire: str) -> Callable[[], Numbering]:
    if wire == OURS.name:
        return PrefixNumbering
    from mpccomm.engine.tno_bridge import tno_numbering

    return partial(tno_numbering, wire)


ENGINES: Engines[Engine] = Engines()
"""Those of this process."""
