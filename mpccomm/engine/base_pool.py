"""What a pool is on both faces: its server, its parties, and everything of them that doesn't wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging import Logger
from types import MappingProxyType
from typing import Any, Self, TextIO, TypeVar

import aiohttp

from mpccomm.engine.authentication import Authentication, CertificateAuthentication
from mpccomm.engine.base_channel import BaseChannel, IdSpace
from mpccomm.engine.deadlines import tightened
from mpccomm.engine.engine import Engine
from mpccomm.engine.error_messages import ByName
from mpccomm.engine.explain import explain, explain_if_asked
from mpccomm.engine.handlers import Handler, ServerHandle
from mpccomm.engine.options import NO_LIMIT, UNSET, Unset, check_id_type, linger_limit, names_of, seconds, send_limits
from mpccomm.engine.report import Phase, Report, traffic_alone
from mpccomm.engine.snapshot import Visible
from mpccomm.engine.stats import Stats, stats_of
from mpccomm.engine.tracing import Trace, checked_file, trace_of
from mpccomm.proxies import GivenProxy, proxy_of
from mpccomm.relays import Relays, relays_of
from mpccomm.settings import DEFAULTS, Settings
from mpccomm.trace.drawing import plot
from mpccomm.trace.record import Record, load
from mpccomm.transport.http import WEB
from mpccomm.transport.identity import FilePath
from mpccomm.transport.network import Network
from mpccomm.transport.shared_port import Listener
from mpccomm.transport.tls import Password

P = TypeVar("P", bound="BasePool")


class PoolCalls:
    """What the calls of a pool that wait mean, besides those of its channels: said once for both faces."""

    def wait_ready(self, timeout: float | None = None, handler_names: Sequence[str] | None = None) -> Any:
        """Wait until every party is connected: each end has identified the other, and messages flow both ways.

        :param timeout: seconds; None waits without limit
        :param handler_names: the parties; left out: all
        :raises NotReadyError: time is up; the error names each missing party, its address and the last cause
        :raises AuthenticationError: one end does not accept the other's certificate
        :raises PartyRestartedError: a party is there as a new process; see `accept_restart`
        """

    def shutdown(self, linger: float | Unset = UNSET) -> Any:
        """Deliver what is still to be sent, tell the others, close. Every party that waits for this one gets an error at once.

        What could not be delivered within the time, and what was never received, is logged. A pool that was shut down
        can't be started again; make a new one. Several calls, from any thread or loop, wait for the same end; the longest
        ``linger`` counts. Ctrl-C ends the lingering of a `SyncPool`: goodbye is said, and what is not delivered by then is lost.

        :param linger: seconds for the delivery, begun anew whenever a party has taken some of it; 0 waits for nothing; left out:
            ``Settings.linger``
        """

    def abort(self, reason: str = "", linger: float | Unset = UNSET) -> Any:
        """Give up: every party that waits for this one gets an error with this reason. Closes the pool.

        :param reason: for the other parties to read
        :param linger: seconds to connect again with a party that is not connected just now, and to hear from each that it
            knows; 0 waits for nothing; left out: ``Settings.linger``. What is under way to a busy party stands in the way of
            the last word: it has six times as long
        """


class BasePool(BaseChannel, PoolCalls, Visible):
    """All of a pool that does not wait. The faces add the calls that do."""

    _visiting = False

    def __init__(
        self,
        key: FilePath | None = None,
        cert: FilePath | None = None,
        ca_cert: FilePath | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,
        max_retries: int = -1,
        *,
        name: str | None = None,
        settings: Settings = DEFAULTS,
        password: Password = None,
        audit: FilePath | Logger | None = None,
        network: Network = WEB,
        relay: Relays = None,
        proxy: GivenProxy = None,
    ) -> None:
        if not isinstance(settings, Settings):
            raise TypeError(f"settings= takes an mpccomm.Settings, not {settings!r} ({type(settings).__name__})")
        plain = key is None and cert is None and ca_cert is None
        authentication = Authentication() if plain else CertificateAuthentication(key, cert, ca_cert, password)
        engine = Engine(settings, authentication, network, "" if name is None else name)
        engine.visiting = self._visiting
        engine.ways.use(relays_of(relay))
        engine.ways.go_through(proxy_of(proxy))
        if audit is not None:
            from mpccomm.engine.audit import Audit

            engine.audit = Audit(audit, engine.log, engine.loop_owner.post)
        super().__init__(IdSpace(engine, name, send_limits(timeout, max_retries, NO_LIMIT)))
        self._prepare()

    @classmethod
    def from_config(cls, path: FilePath, me: str | None = None, *, password: Password = None) -> Self:
        """Return a pool for one of the parties in a file, with its server and all the others; see `mpccomm.config`.

        :param path: of the TOML file that all parties share
        :param me: the name of this party; left out: that in the environment variable ``MPCCOMM_PARTY``
        :param password: of the private key, or a function that returns it
        :raises ConfigurationError: something in the file can't be right; with file, line and what to do
        :raises PortInUseError: the port of this party can't be bound
        """
        from mpccomm.config import Config, build

        explain_if_asked()
        pool: Self = build(cls, Config.load(path), me, password)
        return pool

    @classmethod
    def from_env(
        cls,
        path: FilePath | None = None,
        *,
        hosts: str | None = None,
        names: Sequence[str] | None = None,
        password: Password = None,
        settings: Settings | None = None,
    ) -> Self:
        """Return a pool for the party that this process was started as; see `mpccomm.environment`.

        Under ``mpccomm run``, ``mpiexec``, ``srun``, in a Kubernetes Job with indices or a StatefulSet, or with ``RANK`` and
        ``WORLD_SIZE`` set. Where the parties are has to be said: nothing is assumed.

        :param path: of the file that all parties share; left out: ``MPCCOMM_CONFIG``
        :param hosts: in place of a file: ``"party-{i}.mpc:61000"``, or a list with commas; left out: ``MPCCOMM_HOSTS``
        :param names: with ``hosts``, the parties' names; left out: ``MPCCOMM_NAMES``, or else ``party-0`` and so on
        :param password: of the private key, or a function that returns it
        :param settings: in place of those in the file; what ``mpccomm run`` asks for, traces and reports, stays
        :raises ConfigurationError: something is missing or contradicts; the error says what was found and what to set
        :raises PortInUseError: the port of this party can't be bound
        """
        from mpccomm.config import build
        from mpccomm.environment import from_environment

        config, me = from_environment(path, hosts, names_of(names, "names"))
        if settings is not None:
            asked = config.settings
            settings = replace(
                settings, trace=asked.trace or settings.trace, report_to=asked.report_to or settings.report_to
            )
            config = replace(config, settings=settings)
        explain_if_asked()
        pool: Self = build(cls, config, me, password)
        return pool

    # -- parties -------------------------------------------------------------------------------------------------------

    def add_http_server(
        self,
        port: int | None = None,
        addr: str = "0.0.0.0",
        external_port: int | None = None,
        *,
        listener: Listener | None = None,
        server_name: str | None = None,
    ) -> None:
        """Listen for the other parties.

        :param port: port to listen at; 80 if left out, with certificates 443; 0 takes any free one, see `port`
        :param addr: address to listen at; ``"::"`` for IPv6 and IPv4
        :param external_port: the port under which the others know this party, where a router translates it
        :param listener: in place of port and address: a `Listener` that several pools of this process share
        :param server_name: with a listener: the host name by which callers ask for this pool. Left out: those in its certificate
        :raises ConfigurationError: the address is not one of this machine
        :raises PortInUseError: the port can't be bound
        """
        self._engine.listen(addr, port, external_port, listener, server_name)
        self._start_if_running()

    @property
    def port(self) -> int | None:
        """The port that the server is really bound to; None without a server."""
        return self._engine.server.port

    def add_http_client(
        self,
        name: str,
        addr: str | None = None,
        port: int | None = None,
        cert: FilePath | Sequence[FilePath] | None = None,
        *,
        check_hostname: bool = True,
        wire: str = "mpccomm",
        via: Relays = None,
        proxy: GivenProxy = None,
        server_name: str | None = None,
    ) -> None:
        """Add another party.

        :param name: the name to use in ``send`` and ``recv``; it is ours alone, the party may call itself otherwise
        :param addr: IP address or host name, resolved when needed. May be left out where there are ``via`` and ``cert``
        :param port: port of the party's server; 80 if left out, with certificates 443; 0: it has none, and calls us
        :param cert: path of the party's certificate: it is known by exactly this one. Several paths: by any of these.
            Left out, on a pool with ``ca_cert``: by any certificate of that authority that is issued for ``addr``.
        :param check_hostname: without ``cert``: False takes any certificate of the authority that isn't another party's
        :param wire: "tno4" or "tno5" for a party that runs tno.mpc.communication 4.x or 5.x; see MIGRATING.md for what holds then
        :param via: the relay, or the relays, where it is reached if not directly: a URL or a `Relay`. Left out: those of the
            pool; an empty list: none
        :param proxy: the proxy on the way there: a URL or a `Proxy`, "env" for that of ``HTTPS_PROXY``, or "none". Left out: that
            of the pool
        :param server_name: the host name to ask for at ``addr``, by which what listens there for several parties tells them apart
            (SNI, and ``Host``). Left out: ``addr``, if it is a host name. It changes nothing about the certificate that is good
        :raises DuplicatePartyError: that name, address or certificate has been added before
        :raises ConfigurationError: the certificate can't be read, nothing says how to know this party, or it has the name of this
            pool itself
        """
        relays = None if via is None else relays_of(via)
        party = self._engine.add(name, addr, port, cert, check_hostname, wire, relays, proxy, server_name)
        party.prefix = self._space.prefix
        self._start_if_running()

    def remove_http_client(self, name: str) -> None:
        """Remove a party. It may be added again, under this name or another one, and both sides start from nothing then.

        Returns at once. What was sent to it before is still delivered (``Settings.linger``, as by `shutdown`), and then it is told
        that we have left, as by `shutdown`; one that was added again begins after that. To its program that is as if this one had
        ended and come again: if it has not received by then what was sent before, it has to `accept_restart`. Receives that wait
        for it raise `PartyGoneError`; what it has sent and was not received is dropped, which is logged.

        :raises UnknownPartyError: there is no party of that name
        """
        self._engine.remove(name)

    @property
    def http_server(self) -> ServerHandle | None:
        """The server: its address and port; None without one."""
        return self._engine.server.handle

    @property
    def parties(self) -> tuple[str, ...]:
        """The names of the parties, in the order in which they were added."""
        return tuple(self._engine.parties)

    @property
    def pool_handlers(self) -> Mapping[str, Handler]:
        """The parties by name, in the order in which they were added: address, counters, and what has arrived."""
        return MappingProxyType(ByName((name, party.handler) for name, party in self._engine.parties.items()))

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages, of both directions; automatic numbers start at 0 for each.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        Channels and groups have ids of their own, to which it does not apply.
        """
        check_id_type(prefix)
        self._space.prefix = prefix or ""
        for party in self._engine.parties.values():
            party.prefix = self._space.prefix

    def accept_restart(self, name: str) -> None:
        """Go on with the new process of a party that was restarted: messages of both directions start from nothing.

        Call it when that process is there: `wait_ready`, and receives from the party, raise `PartyRestartedError` then. Before, it
        changes nothing, and the log says so.

        Messages of the old process that have not been received are dropped; also one that a receive has taken, and gives back later
        because it was cancelled or interrupted.
        """
        party = self._engine.party(name)
        self._enter()
        self._engine.loop_owner.post(party.accept_restart)

    def reload_certificates(self) -> None:
        """Read all certificates and the key again, after the files have been replaced.

        Connections whose certificate is not to be accepted any more are closed; the others go on, and no message is lost.
        While a party changes from one certificate to another, let the others know it by both (``cert=[old, new]``).

        :raises ConfigurationError: something can't be read; all stays as it was
        """
        self._engine.authentication.reload()
        self._enter()
        self._engine.loop_owner.post(self._engine.review_certificates)

    def readmit(self, name: str) -> None:
        """Let a party in again that broke the protocol too often (``Strangers.offences``)."""
        party = self._engine.party(name)
        self._enter()
        self._engine.loop_owner.post(party.readmit)

    @property
    def stats(self) -> Stats:
        """Messages, bytes, retries, reconnects and round-trip time: a mapping from the names of the parties, with their total."""
        engine = self._engine
        return Stats(
            {name: stats_of(party) for name, party in engine.parties.items()}, engine.history, engine.loop_owner.clock()
        )

    # -- where the time goes -------------------------------------------------------------------------------------------

    def phase(self, name: str) -> Phase:
        """Give a part of the program a name, for `report`: ``with pool.phase("offline"): ...``

        It counts for the thread or the task that enters it, and for tasks that are made inside, until it is left. Phases nest, up
        to three deep; one that is entered again goes on. From the first one on waiting, CPU time and rounds are counted.

        :param name: any text without "/" that can be read in a log, of up to 100 characters, the same at all parties; not "all",
            which is the row of all phases in a report
        """
        return Phase(self._engine.count(), self._engine.loop_owner, name)

    def report(self) -> Report:
        """Return where the time has gone up to now: by phase and party, time, waiting, traffic, and rounds of communication.

        Print it, or look at its dict or DataFrame. All but the traffic is counted from the first `phase` on, or from the beginning
        with ``Settings(report=True)``; rounds are right where all parties count.
        """
        engine = self._engine
        if engine.reporter is not None:
            return engine.reporter.report(engine.name, engine.parties)
        return traffic_alone(engine.name, self.stats)

    def trace(self, path: FilePath | None = None) -> Trace:
        """Begin to note every send, delivery, receive, wait, phase and reconnect, with times, sizes and ids, never a payload.

        ``with pool.trace("alice.json"): ...`` ends at the end of the block; otherwise `Trace.stop` ends it, or the end of the pool.
        ``Settings(trace="folder")`` does the same for the whole life of a pool. The files of several parties become one
        picture by ``mpccomm trace merge``.

        :param path: of the file to be written at its end, which https://ui.perfetto.dev opens; left out: there is none
        :raises ConfigurationError: that file can't be written
        """
        return self._engine.trace(None if path is None else checked_file(path))

    def timeline(self, *others: BasePool | FilePath, ax: Any = None) -> Any:
        """Draw the trace that runs, or the last one that ended: a row per party, its waits and phases, and a line per message.

        :param others: whose notes are to be in the picture as well: pools of this process, or files that theirs have written
        :param ax: the axes of matplotlib to draw on; left out: those of a new figure, to be read on light and dark pages
        :returns: these axes
        :raises ConfigurationError: there is no trace of this pool or one of the others
        :raises OSError: a file can't be read
        :raises ImportError: matplotlib is not installed
        """
        pools = [other for other in others if isinstance(other, BasePool)]
        records = [trace_of(one._engine.traces, one.name or "this pool").record for one in (self, *pools)]
        files = load(*(other for other in others if not isinstance(other, BasePool)))
        return plot(Record([party for record in (*records, files) for party in record.parties]), ax)

    def explain(self, file: TextIO | None = None) -> None:
        """Print who waits for what, for how long, which parties are connected, and at which lines the program stands.

        For a program that hangs: any thread may call, and `mpccomm.explain_on_signal` does it for all pools of a process.

        :param file: what to print to; left out: stdout
        :raises TypeError: nothing can be printed to it
        """
        if file is not None and not hasattr(file, "write"):
            raise TypeError(f"file= is what to print to, as an open file, not {type(file).__name__}")
        print(f"{explain(self._engine)}\n", end="", file=file)  # in one piece: an unbuffered stream may be shared

    # -- inside --------------------------------------------------------------------------------------------------------

    def _ready_limit(self, timeout: float | None) -> float | None:
        limit = None if timeout is None else seconds(timeout)
        if limit is not None and not limit >= 0:
            raise ValueError(
                f"wait_ready can't take {limit!r} seconds; 0 looks whether all are there, None waits without limit"
            )
        return tightened(self._engine.loop_owner, limit)

    def _linger_limit(self, linger: float | Unset) -> float:
        return linger_limit(linger, self._engine.settings.linger)

    def _known(self, names: Sequence[str] | None) -> Sequence[str] | None:
        """Return the names; raise unless each of them is a party's."""
        listed = names_of(names)
        self._engine.parties_named(listed)
        return listed

    def _prepare(self) -> None:
        """Set up what only this face needs. Called as the last step of construction."""

    def _start_if_running(self) -> None:
        """Start what was added, as soon as there is a server: without one no party can call, or tell who calls."""
        engine = self._engine
        if engine.server.port is None and not engine.ways.relays:
            return
        if not engine.loop_owner.settled:
            try:
                engine.launch()
            except RuntimeError:
                # No loop runs yet: the first use of this pool, or of another one of this thread, will have one.
                engine.await_loop()
                return
        engine.loop_owner.post(engine.start_added)


def engine_of(pool: BasePool) -> Engine:
    """Return the engine of a pool, for modules of the library that work on pools which they did not make."""
    return pool._engine


def visiting(face: type[P]) -> type[P]:
    """Return the face as a class for pools that only look, which the programs of the other parties do not notice.

    Among each other they exchange messages as any pools do.
    """
    return type(face.__name__, (face,), {"_visiting": True})


def other_face(kind: type[P], pool: BasePool) -> P:
    """Return the same pool, to be called through another face."""
    other = kind.__new__(kind)
    super(BasePool, other).__init__(pool._space)
    return other
