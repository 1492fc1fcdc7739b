"""Parties on the workers of a dask.distributed cluster: for simulations with more of them than one machine has room for.

::

    def protocol(pool, data):
        pool.broadcast(data.sum())
        return sum(share for _, share in pool.recv_all())

    with DaskParties(client, ["alice", "bob", "carol"]) as parties:
        results = parties.run(protocol, {"alice": (frame_a,), "bob": (frame_b,), "carol": (frame_c,)})

The organisation that runs a scheduler and its workers sees all that is on them, and dask moves functions, arguments and results
by pickle: a cluster that the parties share is for simulations. In production every organisation runs its own, and it is mpccomm
that connects them, with a pool as in any other program.

On the workers mpccomm has to be installed too. Needs the extra ``dask``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, Self

from mpccomm.errors import (
    ConfigurationError,
    MissingExtraError,
    PartyGoneError,
    PoolClosedError,
    UnknownPartyError,
    missing_library,
)
from mpccomm.logs import EventLog, LogEvent
from mpccomm.settings import DEFAULTS, Settings
from mpccomm.sync.pool import SyncPool

try:
    import distributed
    from dask.base import is_dask_collection
except ImportError as error:
    raise MissingExtraError(missing_library("DaskParties", "dask.distributed", "dask")) from error

__all__ = ["DaskParties"]

log = EventLog()

_LOOK = 2.0
"""Seconds between two looks at whether all workers are still there."""


class DaskParties:
    """One party on each of some workers, each with a pool that knows all others by name.

    The pools are opened when they are first needed, and closed at the end of the ``with`` block. After a run that failed the
    next one has new pools.

    :param client: of the cluster; not an asynchronous one
    :param names: of the parties
    :param workers: addresses of the workers that they are put on, in the order of the names; left out: those that the
        scheduler names first
    :param settings: of the pools, see `mpccomm.settings`
    :raises ConfigurationError: there are fewer workers than parties, or a party or worker is named twice
    """

    def __init__(
        self,
        client: distributed.Client,
        names: Sequence[str],
        *,
        workers: Sequence[str] | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        if isinstance(names, str):
            raise TypeError(f"names takes a list of names; did you mean [{names!r}]?")
        if client.asynchronous:
            raise ConfigurationError("DaskParties blocks, and needs a client that does: Client(asynchronous=False)")
        there = list(client.nthreads())
        chosen = there if workers is None else list(workers)
        if missing := set(chosen) - set(there):
            raise ConfigurationError(f"no worker of this cluster is at {', '.join(sorted(missing))}")
        if len(set(names)) < len(names) or len(set(chosen)) < len(chosen):
            raise ConfigurationError(f"each party needs a name and a worker of its own: {list(names)} on {chosen}")
        if len(chosen) < len(names):
            raise ConfigurationError(
                f"{len(names)} parties need a worker each, and there are {len(chosen)}: "
                "scale the cluster up and wait for them (Client.wait_for_workers)"
            )
        self.workers: dict[str, str] = dict(zip(names, chosen, strict=False))
        """The address of each party's worker, by name of the party."""
        self.addresses: dict[str, tuple[str, int]] = {}
        """Where each party's pool listens: host and port, by name; empty while there are none."""
        self._client = client
        self._settings = settings
        self._token = ""

    # -- the pools -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close(None if kind is None else kind.__name__)

    def close(self) -> None:
        """Shut all pools down; what was not received is logged by the workers."""
        self._close(None)

    def _open(self) -> None:
        if self._token:
            return
        self._token = uuid.uuid4().hex
        try:
            self._check_workers()
            found = self._on_workers(_open, self._settings)
            self.addresses = {name: found[worker] for name, worker in self.workers.items()}
            self._on_workers(_introduce, self.addresses)
        except BaseException as error:
            self._close(type(error).__name__)
            raise

    def _close(self, reason: str | None) -> None:
        """Shut all pools down; with a reason abort them."""
        if not self._token:
            return
        try:
            self._on_workers(_close, reason)
        except OSError as error:
            log(LogEvent.DISCONNECTED, "the pools on the workers could not be closed: %s", error, level=logging.WARNING)
        self._token = ""
        self.addresses = {}

    def _on_workers(self, function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
        there = self._client.nthreads()
        names = {worker: name for name, worker in self.workers.items() if worker in there}
        run = self._client.run
        result: dict[str, Any] = run(function, self._token, names, *arguments, workers=list(names))
        return result

    def _check_workers(self) -> None:
        there = self._client.nthreads()
        for name, worker in self.workers.items():
            if worker not in there:
                raise PartyGoneError(
                    f"{name} is gone: its worker {worker} is not there any more. See what its log says, and "
                    "make new DaskParties with the workers that are left"
                )

    # -- a protocol ----------------------------------------------------------------------------------------------------

    def run(
        self, protocol: Callable[..., Any], arguments: Mapping[str, tuple[Any, ...]] | None = None
    ) -> dict[str, Any]:
        """Run a protocol: ``protocol(pool, *arguments[name])`` at every party, on its worker.

        What raises at one party aborts all others, and is raised here, with the traceback that it had there. A pool is not to
        be shut down by the protocol.

        :param protocol: gets a `SyncPool` first; ``pool.name`` says which party it is
        :param arguments: what else it gets at each party, as a tuple, by name; nothing where a name is left out. A dask
            collection is computed on the worker of that party, and arrives as what it holds; a future as its result.
        :returns: what it returned at each party, by name
        :raises UnknownPartyError: arguments for one who is no party
        :raises PartyGoneError: a worker died
        """
        arguments = self._check(arguments or {})
        self._open()
        with self._all_or_nothing():
            prepared = {name: self._prepare(name, arguments.get(name, ())) for name in self.workers}
            self._await_data(prepared)
            run = uuid.uuid4().hex
            tasks = {
                name: self._client.submit(
                    _play,
                    self._token,
                    name,
                    protocol,
                    *prepared[name],
                    key=f"{getattr(protocol, '__name__', 'protocol')}-{name}-{run}",
                    workers=[worker],
                    allow_other_workers=False,
                    pure=False,
                )
                for name, worker in self.workers.items()
            }
            self._await_tasks(tasks)
            results: list[Any] = self._client.gather(list(tasks.values()))
        return dict(zip(tasks, results, strict=True))

    def _check(self, arguments: Mapping[str, tuple[Any, ...]]) -> Mapping[str, tuple[Any, ...]]:
        for name, values in arguments.items():
            if name not in self.workers:
                raise UnknownPartyError(f"no party {name!r} is here; there are {', '.join(self.workers)}")
            if not isinstance(values, tuple):
                raise TypeError(f"the arguments of {name} have to be a tuple, not {type(values).__name__}: (value,)")
        return arguments

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._close(type(error).__name__)
            raise

    def _prepare(self, name: str, values: tuple[Any, ...]) -> list[Any]:
        options = {"workers": [self.workers[name]], "allow_other_workers": False}
        return [self._client.compute(value, **options) if is_dask_collection(value) else value for value in values]

    def _await_data(self, prepared: Mapping[str, list[Any]]) -> None:
        """Wait for the arguments before any party starts: workers whose parties wait for each other compute nothing else."""
        for name, values in prepared.items():
            for future in distributed.futures_of(values):
                while not future.done():
                    self._look({future})
                if future.status != "finished":
                    self._raise(name, future)

    def _await_tasks(self, tasks: Mapping[str, distributed.Future]) -> None:
        pending = set(tasks.values())
        while pending:
            self._look(pending)
            pending = {task for task in pending if not task.done()}
            failed = {name: task for name, task in tasks.items() if task.done() and task.status != "finished"}
            # A party that was only told of another's failure is heard if there is no other.
            for name, task in failed.items():
                if not isinstance(task.exception(), PartyGoneError | PoolClosedError):
                    self._raise(name, task)
            if failed and not pending:
                self._raise(*next(iter(failed.items())))

    def _look(self, pending: set[distributed.Future]) -> None:
        """Wait for a moment, or until one of them is done; see that no worker is lost meanwhile."""
        try:
            distributed.wait(pending, timeout=_LOOK, return_when="FIRST_COMPLETED")
        except TimeoutError:
            self._check_workers()

    def _raise(self, name: str, task: distributed.Future) -> NoReturn:
        error = task.exception()
        error.add_note(f"raised at party {name}, on the worker {self.workers[name]}")
        raise error.with_traceback(task.traceback())


# -- on the workers ----------------------------------------------------------------------------------------------------

_pools: dict[tuple[str, str], SyncPool] = {}
"""The pools of this process, by token of the `DaskParties` that opened them, and name of the party."""


# These three run on the loop of the worker, which is not to be kept from its work.


async def _open(
    token: str, names: Mapping[str, str], settings: Settings, dask_worker: distributed.Worker
) -> tuple[str, int]:
    name = names[dask_worker.address]
    pool = _pools[token, name] = await asyncio.to_thread(_listening, name, settings, dask_worker.ip)
    assert pool.port is not None
    return dask_worker.ip, pool.port


async def _introduce(
    token: str,
    names: Mapping[str, str],
    addresses: Mapping[str, tuple[str, int]],
    dask_worker: distributed.Worker,
) -> None:
    own = names[dask_worker.address]
    for name, (addr, port) in addresses.items():
        if name != own:
            _pools[token, own].add_http_client(name, addr, port)


async def _close(token: str, names: Mapping[str, str], reason: str | None, dask_worker: distributed.Worker) -> None:
    pool = _pools.pop((token, names[dask_worker.address]), None)
    if pool is not None:
        await asyncio.to_thread(pool.shutdown if reason is None else partial(pool.abort, reason))


def _listening(name: str, settings: Settings, addr: str) -> SyncPool:
    pool = SyncPool(name=name, settings=settings)
    pool.add_http_server(0, addr)
    return pool


def _play(token: str, name: str, protocol: Callable[..., Any], *arguments: Any) -> Any:
    pool = _pools.get((token, name))
    if pool is None:
        raise PoolClosedError(f"{name} has no pool on this worker: it was closed, or the worker was restarted")
    try:
        return protocol(pool, *arguments)
    except BaseException as error:
        # Only the kind: the text of an exception may hold what the others must not see.
        pool.abort(f"{name} failed: {type(error).__name__}")
        raise
