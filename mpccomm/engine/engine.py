"""The running part of a pool: its parties, its server, whoever dials, and the clock. Lives on one loop; both faces drive it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from mpccomm.codec.dialect import DIALECTS, OURS
from mpccomm.engine.authentication import Reception
from mpccomm.engine.handlers import ServerHandle
from mpccomm.engine.handles import Failures
from mpccomm.engine.loop_owner import Home
from mpccomm.engine.party import Party
from mpccomm.engine.stats import History
from mpccomm.engine.succession import Succession, predecessors
from mpccomm.errors import (
    ConfigurationError,
    DuplicatePartyError,
    NotReadyError,
    PoolClosedError,
    PortInUseError,
    UnknownPartyError,
)
from mpccomm.protocol.frames import NO_PORT
from mpccomm.protocol.mailbox import Mailbox
from mpccomm.settings import Settings
from mpccomm.transport.address import join
from mpccomm.transport.identity import FilePath
from mpccomm.transport.network import Answering, Entrance, Network
from mpccomm.transport.reconnect import Dialler

if TYPE_CHECKING:
    from mpccomm.engine.audit import Audit
    from mpccomm.engine.tno_bridge import Gateway

logger = logging.getLogger("mpccomm")


class Engine:
    """One per pool. Unless said otherwise its methods run on the home loop."""

    def __init__(self, settings: Settings, reception: Reception, network: Network, name: str) -> None:
        if reception.certified and not network.tls:
            raise ConfigurationError("there are no certificates in this network: leave out key=, cert= and ca_cert=")
        self.home = Home()
        self.failures = Failures(self.home)
        self.reception = reception
        self.launch: Callable[[], None] = lambda: self.start(asyncio.get_running_loop())
        """Finds or makes the loop to live on, and calls `start` there."""
        self.retire: Callable[[], None] = self._retire
        """Shuts down in the background, and ends what was started for it."""
        self.succession = Succession(self.home)
        self.audit: Audit | None = None
        self.network = network
        self.name = name
        """That of our own party, if the user gave one."""
        self.settings = settings
        self.history = History()
        self.parties: dict[str, Party] = {}
        self.port: int | None = None
        self.server_handle: ServerHandle | None = None
        self.where = ""
        """Where the server listens; empty: there is none."""
        self.closing = False
        self.inherited = False
        """This process is a fork of the one that the pool lives in."""
        self._incarnation = secrets.token_bytes(16)
        self._entrance: Entrance | None = None
        self._declared_port = NO_PORT
        self._server: Answering | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.grown = False
        """Something was added that `grow` has not seen yet."""
        self._ticker: asyncio.TimerHandle | None = None
        _engines.add(self)

    # -- building (any thread, before or after the start) ----------------------------------------------------------------

    def party(self, name: str) -> Party:
        """The party of that name."""
        try:
            return self.parties[name]
        except KeyError:
            known = ", ".join(self.parties) or "none yet"
            text = f"no party {name!r} was added to this pool (there are: {known}); add it with add_http_client"
            raise UnknownPartyError(text) from None

    def some(self, names: Sequence[str] | None) -> list[Party]:
        """The parties of those names, in that order; None: all, in the order in which they were added."""
        return list(self.parties.values()) if names is None else [self.party(name) for name in names]

    def check_open(self) -> None:
        """Raise unless the pool can be used."""
        if self.inherited:
            raise PoolClosedError(
                "this pool was made before a fork and belongs to the parent process; make a new one here"
            )
        if self.closing:
            raise PoolClosedError("this pool was shut down; make a new one")

    def listen(self, addr: str, port: int | None, external_port: int | None) -> None:
        """Bind the server's port."""
        self.check_open()
        port = self.reception.default_port if port is None else port
        if self._entrance is not None:
            raise ConfigurationError(f"this pool has a server already, at port {self.port}")
        try:
            self._entrance = self._bind(addr, port)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            text = (
                f"the server can't listen at {join(addr, port)}: {reason}. Choose another port (0 takes any free one)."
            )
            raise PortInUseError(text) from error
        self.port = self._entrance.port
        self.where = join(addr, self.port)
        self.grown = True
        self._declared_port = external_port or self.port
        self.server_handle = ServerHandle(addr, self.port, self._declared_port)
        for party in self.parties.values():
            party.link.port = self._declared_port
        logger.info("listening at %s", self.where)

    def _bind(self, addr: str, port: int) -> Entrance:
        older = predecessors(join(addr, port), [engine for engine in _engines if engine.network is self.network])
        if not older:
            return self.network.bind(self.name, addr, port)
        logger.warning("the pool that this session had at %s is shut down: a new one takes its place", older[0].where)
        for engine in older:
            self.succession.follow(engine.succession)
        handed_over = [entrance for engine in older if (entrance := engine.make_way()) is not None]
        for superfluous in handed_over[1:]:
            superfluous.close()
        return handed_over[0] if handed_over else self.network.bind(self.name, addr, port)

    @property
    def listening(self) -> bool:
        """Whether the port is ours."""
        return self._entrance is not None and self._entrance.open

    def make_way(self) -> Entrance | None:
        """Shut down in the background, and give the port to a new pool. None: it is closed already."""
        assert self._entrance is not None
        try:
            handed_over = self._entrance.share()
        except OSError:
            handed_over = None
        if self._server is not None:
            self._server.hand_over()
        if not (self.home.settled and self.home.loop.is_running()):
            # Its program is over, though nobody closed it. There is no way to say goodbye any more.
            self.close_unused()
        elif not self.closing:
            self.retire()
        return handed_over

    def add(
        self,
        name: str,
        addr: str,
        port: int | None,
        certificates: FilePath | Iterable[FilePath] | None,
        check_hostname: bool,
        wire: str,
    ) -> Party:
        """Add a party."""
        self.check_open()
        if name in self.parties:
            raise DuplicatePartyError(f"there is a party {name!r} already, at {self.parties[name].where}")
        if wire not in self.network.wires:
            raise ConfigurationError(f"wire={wire!r} of {name}: there are {', '.join(map(repr, self.network.wires))}")
        reception = self.reception
        party = Party(
            name,
            addr,
            reception.default_port if port is None else port,
            home=self.home,
            incarnation=self._incarnation,
            settings=self.settings,
            certified=reception.certified,
            certificates=certificates,
            check_hostname=check_hostname,
            dialect=DIALECTS[wire],
            mailbox=_mailbox(wire),
        )
        party.audit = self.audit
        reception.admit(party, self.parties)
        party.link.port = self._declared_port
        # A new mapping: the loop may be going through the old one.
        self.parties = {**self.parties, name: party}
        reception.know(self.parties)
        self.grown = True
        return party

    # -- running -------------------------------------------------------------------------------------------------------

    # What runs as long as the pool is not to inherit the context variables of the call that happened to start it: a notebook,
    # for one, would take the first cell for the origin of every line that is logged later.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Settle on the running loop."""
        self.home.settle_in(loop)
        Context().run(self._tick)

    def grow(self) -> None:
        """Start what was added: the server, and whoever dials the parties."""
        self.grown = False
        self.succession.then(lambda: Context().run(self._grow))

    def _grow(self) -> None:
        if self.closing:
            return
        if self._entrance is not None and self._server is None:
            self._server = self._entrance.server(self.reception, self.settings)
            self._server.start()
        for party in self.parties.values():
            if not party.dialled:
                party.dialled = True
                logger.log(*self.reception.introduce(party))
                self._spawn(self._mediator(party).run())

    def _mediator(self, party: Party) -> Dialler | Gateway:
        """Whoever sees to it that there is a connection."""
        reception = self.reception
        if party.dialect is not OURS:
            from mpccomm.engine.tno_bridge import Gateway

            gateway = Gateway(party, lambda: reception.dialling, partial(reception.misfit, party))
            reception.correspondents[party.name] = gateway
            return gateway
        retry = self.settings.retry
        line = self.network.line(
            self.name,
            party.addr,
            party.port,
            connect_timeout=retry.connect_timeout,
            context=lambda: reception.dialling,
            examine=partial(reception.examine, party),
        )
        return Dialler(party, line, retry, self._spawn, party.check_retries)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.home.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a part of the pool failed", exc_info=error)

    def _tick(self) -> None:
        self._ticker = self.home.loop.call_later(self.settings.timing.tick, self._tick)
        self.history.sample(Party.clock(), self.parties.values())
        for party in self.parties.values():
            party.tick()
            if party.host.stale:
                self._spawn(party.host.refresh())

    # -- for all parties together --------------------------------------------------------------------------------------

    async def wait_ready(self, limit: float | None) -> None:
        """Return once frames flow with every party."""
        parties = list(self.parties.values())
        for party in parties:
            party.expect(True)
        waiting = [asyncio.ensure_future(party.until_connected(limit)) for party in parties]
        try:
            ready = await asyncio.gather(*waiting)
        finally:
            # One that was refused ends it for all.
            for one in waiting:
                one.cancel()
            for party in parties:
                party.expect(False)
        missing = {
            party.name: f"{party.where}: {party.trouble}"
            for party, there in zip(parties, ready, strict=True)
            if not there
        }
        if missing:
            self.check_open()
            text = "; ".join(f"{name} at {why}" for name, why in missing.items())
            raise NotReadyError(f"not reachable within {limit:g} s: {text}", missing)

    async def abort(self, reason: str) -> None:
        """Tell every party that we give up, and close."""
        self.closing = True
        for party in self.parties.values():
            party.abort(reason)
        await self._close()

    async def shutdown(self, linger: float) -> None:
        """Deliver what is pending, tell the others, close; idempotent."""
        if self.closing:
            return
        self.closing = True
        try:
            if self.home.settled:
                deadline = Party.clock() + linger
                parties = list(self.parties.values())
                undelivered = await asyncio.gather(*(party.leave(deadline) for party in parties))
                for party, messages in zip(parties, undelivered, strict=True):
                    party.report(messages)
        finally:
            await self._close()

    def close_unused(self) -> None:
        """Close a pool that has no loop: it never had one, or it stayed behind in the parent process."""
        self.closing = True
        if self._entrance is not None:
            self._entrance.close()
        self.succession.end()

    def _retire(self) -> None:
        self._retiring = self.home.submit(partial(self.shutdown, self.settings.linger))

    def disinherit(self) -> None:
        """After a fork, in the child: the pool is the parent's. Its port is free once the parent ends, not the child too."""
        self.inherited = self.closing = True
        if self._entrance is not None:
            self._entrance.disinherit()

    async def _close(self) -> None:
        try:
            await self._close_all()
        finally:
            self.succession.end()

    async def _close_all(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        await asyncio.gather(*(party.disconnected() for party in self.parties.values()))
        if self._server is not None:
            await self._server.close()
        elif self._entrance is not None:
            self._entrance.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.failures.report()
        if self.audit is not None:
            self.audit.close()


def _mailbox(wire: str) -> Callable[[], Mailbox]:
    if wire == OURS.name:
        return Mailbox
    from mpccomm.engine.tno_bridge import counting_mailbox

    return partial(counting_mailbox, wire)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _disinherit_all() -> None:
    for engine in list(_engines):
        engine.disinherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disinherit_all)
