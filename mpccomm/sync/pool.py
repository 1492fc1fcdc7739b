"""`SyncPool`, the blocking face."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from logging import Logger
from types import TracebackType
from typing import Any, Self

import aiohttp

from mpccomm.engine.handlers import Handler, ServerHandle
from mpccomm.engine.options import UNSET, Unset
from mpccomm.engine.snapshot import Visible
from mpccomm.engine.stats import Stats
from mpccomm.pool import Pool
from mpccomm.pool.channel import names_of
from mpccomm.settings import DEFAULTS, Settings
from mpccomm.sync.channel import SyncMessages
from mpccomm.sync.loop_lifetime import LoopLifetime
from mpccomm.transport.http import WEB
from mpccomm.transport.identity import FilePath
from mpccomm.transport.network import Network
from mpccomm.transport.tls import Password


class SyncPool(SyncMessages, Visible):
    """A network of parties, as this party sees it, for programs without asyncio: calls block until they are done.

    The pool runs on an event loop of its own, in a thread of its own; any thread may call. Where a loop is running
    already, as in a notebook, that does not matter; `pool` is there for those who would rather ``await``.

    Parameters as of `Pool`.
    """

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
    ) -> None:
        self._pool = Pool(
            key,
            cert,
            ca_cert,
            timeout,
            max_retries,
            name=name,
            settings=settings,
            password=password,
            audit=audit,
            network=network,
        )
        super().__init__(self._pool, LoopLifetime(self._pool._engine, f"mpccomm {name}" if name else "mpccomm"))

    @property
    def pool(self) -> Pool:
        """The same pool for asyncio callers: its coroutines can be awaited from any event loop."""
        return self._pool

    @classmethod
    def from_config(cls, path: FilePath, me: str | None = None, *, password: Password = None) -> Self:
        """A pool for one of the parties in a file, with its server and all the others; see `mpccomm.config`.

        :param path: of the TOML file that all parties share
        :param me: the name of this party; left out: that in the environment variable ``MPCCOMM_PARTY``
        :param password: of the private key, or a function that returns it
        :raises ConfigurationError: something in the file can't be right; with file, line and what to do
        :raises PortInUseError: the port of this party can't be bound
        """
        from mpccomm.config import Config, build

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
    ) -> Self:
        """A pool for the party that this process was started as; see `mpccomm.environment`.

        Under ``mpccomm run``, ``mpiexec``, ``srun``, in a Kubernetes Job with indices or a StatefulSet, or with ``RANK`` and
        ``WORLD_SIZE`` set, by whoever did. Where the parties are has to be said: nothing is assumed.

        :param path: of the file that all parties share; left out: ``MPCCOMM_CONFIG``
        :param hosts: in the place of a file: ``"party-{i}.mpc:61000"``, or a list with commas; left out: ``MPCCOMM_HOSTS``
        :param names: with ``hosts``, the parties' names; left out: ``MPCCOMM_NAMES``, or else ``party-0`` and so on
        :param password: of the private key, or a function that returns it
        :raises ConfigurationError: something is missing or contradicts; the error says what was found and what to set
        :raises PortInUseError: the port of this party can't be bound
        """
        from mpccomm.config import build
        from mpccomm.environment import from_environment

        config, me = from_environment(path, hosts, names_of(names))
        pool: Self = build(cls, config, me, password)
        return pool

    # -- parties -------------------------------------------------------------------------------------------------------

    def add_http_server(self, port: int | None = None, addr: str = "0.0.0.0", external_port: int | None = None) -> None:
        """Listen for the other parties.

        :param port: port to listen at; 80 if left out, with certificates 443; 0 takes any free one, see `port`
        :param addr: address to listen at; ``"::"`` for IPv6 and IPv4
        :param external_port: the port under which the others know this party, where a router translates it
        :raises PortInUseError: the port can't be bound
        """
        self._pool.add_http_server(port, addr, external_port)

    @property
    def port(self) -> int | None:
        """The port that the server is really bound to; None without a server."""
        return self._pool.port

    def add_http_client(
        self,
        name: str,
        addr: str,
        port: int | None = None,
        cert: FilePath | Sequence[FilePath] | None = None,
        *,
        check_hostname: bool = True,
        wire: str = "mpccomm",
    ) -> None:
        """Add another party.

        :param name: the name to use in ``send`` and ``recv``; it is ours alone, the party may call itself otherwise
        :param addr: IP address or host name, resolved when needed
        :param port: port of the party's server; 80 if left out, with certificates 443
        :param cert: path of the party's certificate: it is known by exactly this one. Several paths: by any of these.
            Left out, on a pool with ``ca_cert``: by any certificate of that authority that is issued for ``addr``.
        :param check_hostname: without ``cert``: False takes any certificate of the authority that isn't another party's
        :param wire: "tno4" or "tno5" for a party that runs tno.mpc.communication 4.x or 5.x; see MIGRATING.md for what holds then
        :raises DuplicatePartyError: that name, address or certificate has been added before
        :raises ConfigurationError: the certificate can't be read, or nothing says how to know this party
        """
        self._pool.add_http_client(name, addr, port, cert, check_hostname=check_hostname, wire=wire)

    @property
    def http_server(self) -> ServerHandle | None:
        """The server: its address and port; None without one."""
        return self._pool.http_server

    @property
    def pool_handlers(self) -> Mapping[str, Handler]:
        """The parties by name, in the order in which they were added: address, counters, and what has arrived."""
        return self._pool.pool_handlers

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages, of both directions; automatic numbers start at 0 for each.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        Channels and groups have ids of their own, to which it does not apply.
        """
        self._pool.update_msg_prefix(prefix)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until every party is connected: each end has identified the other, and messages flow both ways.

        :param timeout: seconds; None waits without limit
        :raises NotReadyError: time is up; the error names each missing party, its address and the last cause
        :raises AuthenticationError: one end does not accept the other's certificate
        """
        self._check_thread()
        self._pool._enter()
        self._loop_lifetime.run(partial(self._engine.wait_ready, timeout))

    def accept_restart(self, name: str) -> None:
        """Go on with the new process of a party that was restarted: messages of both directions start from nothing.

        Messages of the old process that have not been received are dropped.
        """
        self._pool.accept_restart(name)

    def reload_certificates(self) -> None:
        """Read all certificates and the key again, after the files have been replaced.

        Connections whose certificate is not to be accepted any more are closed; the others go on, and no message is lost.
        While a party changes from one certificate to another, let the others know it by both (``cert=[old, new]``).

        :raises ConfigurationError: something can't be read; all stays as it was
        """
        self._pool.reload_certificates()

    def readmit(self, name: str) -> None:
        """Let a party in again that broke the protocol too often (``Strangers.offences``)."""
        self._pool.readmit(name)

    @property
    def stats(self) -> Stats:
        """Messages, bytes, retries, reconnects and round-trip time: a mapping from the names of the parties, with their total."""
        return self._pool.stats

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, linger: float | Unset = UNSET) -> None:
        """Deliver what is still to be sent, tell the others, close. Whoever waits for this party gets an error at once.

        What could not be delivered within the time, and what was never received, is logged. A pool that was shut down
        can't be started again; make a new one. Several calls, from any thread, wait for the same end; the longest
        ``linger`` counts. Ctrl-C ends the lingering: goodbye is said, what is not delivered by then is not delivered.

        :param linger: seconds for the delivery; left out: ``Settings.linger``
        """
        self._close(partial(self._pool.shutdown, linger))

    def abort(self, reason: str = "", linger: float | Unset = UNSET) -> None:
        """Give up: every party that waits for this one gets an error with this reason. Closes the pool.

        :param reason: for the other parties to read
        :param linger: seconds to connect again with a party that is not connected just now; left out: ``Settings.linger``
        """
        self._close(partial(self._pool.abort, reason, linger))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(partial(self._pool.__aexit__, kind, error, traceback))

    def __del__(self) -> None:
        # Neither lock nor wait in here: the collector may run anywhere.
        loop_lifetime = self.__dict__.get("_loop_lifetime")
        if loop_lifetime is not None:
            loop_lifetime.wind_up()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check_thread()
        self._loop_lifetime.close(function)
