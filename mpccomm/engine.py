"""The running part of a pool: its parties, its server, whoever dials, and the clock. Lives on one loop; both faces drive it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import aiohttp

from mpccomm.errors import (
    ConfigurationError,
    DuplicatePartyError,
    NotReadyError,
    PoolClosedError,
    PortInUseError,
    UnknownPartyError,
)
from mpccomm.home import Home
from mpccomm.party import Party
from mpccomm.session.frames import NO_PORT
from mpccomm.settings import Settings
from mpccomm.transport.address import IPAddress, bind, join, literal
from mpccomm.transport.client import Dialler, new_session
from mpccomm.transport.server import Server
from mpccomm.transport.stream import WebSocket

logger = logging.getLogger("mpccomm")


class Engine:
    """One per pool. Unless said otherwise its methods run on the home loop."""

    def __init__(self, settings: Settings, max_retries: int) -> None:
        self.home = Home()
        self.launch: Callable[[], None] = lambda: self.start(asyncio.get_running_loop())
        """Finds or makes the loop to live on, and calls `start` there."""
        self.settings = settings
        self.parties: dict[str, Party] = {}
        self.port: int | None = None
        self.closing = False
        self.inherited = False
        """This process is a fork of the one that the pool lives in."""
        self._max_retries = max_retries
        self._incarnation = secrets.token_bytes(16)
        self._socket: socket.socket | None = None
        self._declared_port = NO_PORT
        self._server: Server | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.grown = False
        """Something was added that `grow` has not seen yet."""
        self._ticker: asyncio.TimerHandle | None = None
        self._warned = False
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

    def listen(self, addr: str, port: int, external_port: int | None) -> None:
        """Bind the server's port."""
        self.check_open()
        if self._socket is not None:
            raise ConfigurationError(f"this pool has a server already, at port {self.port}")
        try:
            self._socket = bind(addr, port)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            text = (
                f"the server can't listen at {join(addr, port)}: {reason}. Choose another port (0 takes any free one)."
            )
            raise PortInUseError(text) from error
        self.port = self._socket.getsockname()[1]
        self.grown = True
        self._declared_port = external_port or self.port
        for party in self.parties.values():
            party.link.port = self._declared_port
        logger.info("listening at %s", join(addr, self.port))

    def add(self, name: str, addr: str, port: int) -> Party:
        """Add a party."""
        self.check_open()
        if name in self.parties:
            raise DuplicatePartyError(f"there is a party {name!r} already, at {self.parties[name].where}")
        address = literal(addr)
        for other in self.parties.values():
            if other.port == port and (
                other.addr == addr or (address is not None and other.literal_address == address)
            ):
                where = join(addr, port)
                raise DuplicatePartyError(
                    f"{name!r} would be at {where}, where {other.name!r} is; they could not be told apart"
                )
        party = Party(name, addr, port, home=self.home, incarnation=self._incarnation, settings=self.settings)
        party.link.port = self._declared_port
        # A new mapping: the loop may be going through the old one.
        self.parties = {**self.parties, name: party}
        self.grown = True
        self._warn_plain(party, address)
        return party

    def _warn_plain(self, party: Party, address: IPAddress | None) -> None:
        local = party.addr == "localhost" or (address is not None and address.is_loopback)
        if not local and not self._warned:
            self._warned = True
            logger.warning(
                "%s is reached by plain HTTP: anybody on the way can read, change and forge messages. "
                "Give the pool a key and certificates (key=, cert=, ca_cert=).",
                party,
            )

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Settle on the running loop."""
        self.home.settle_in(loop)
        self._tick()

    def grow(self) -> None:
        """Start what was added: the server, and whoever dials the parties."""
        self.grown = False
        if self._socket is not None and self._server is None:
            self._server = Server(self._socket, self, self.settings.timing.greeting)
            self._spawn(self._server.start())
        if self._session is None:
            self._session = new_session()
        for party in self.parties.values():
            if not party.dialled:
                party.dialled = True
                failed = partial(party.check_retries, self._max_retries)
                self._spawn(Dialler(party, self._session, self.settings.retry, self._spawn, failed).run())

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
        for party in self.parties.values():
            party.tick()

    # -- reception: who may call ---------------------------------------------------------------------------------------

    async def expects(self, address: IPAddress) -> bool:
        """Whether any party may call from there."""
        return bool(await self._at(address))

    async def identify(self, address: IPAddress, port: int) -> Callable[[WebSocket, bytes], Awaitable[None]] | None:
        """The party with that source address and that declared port of its server."""
        candidates = await self._at(address)
        if port != NO_PORT:
            candidates = [party for party in candidates if party.port == port]
        if len(candidates) != 1 or self.closing:
            return None
        return partial(self._attend, candidates[0])

    async def _at(self, address: IPAddress) -> list[Party]:
        found = [party for party in self.parties.values() if party.literal_address == address]
        for party in list(self.parties.values()):
            if party.literal_address is None and address in await party.addresses():
                found.append(party)
        return found

    @staticmethod
    async def _attend(party: Party, socket: WebSocket, first: bytes) -> None:
        await party.attend(socket, dialled=False, first=first)

    # -- for all parties together --------------------------------------------------------------------------------------

    async def wait_ready(self, limit: float | None) -> None:
        """Return once frames flow with every party."""
        parties = list(self.parties.values())
        for party in parties:
            party.expect(True)
        try:
            ready = await asyncio.gather(*(party.until_connected(limit) for party in parties))
        finally:
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
        if self._socket is not None:
            self._socket.close()

    def disinherit(self) -> None:
        """After a fork, in the child: the pool is the parent's. Its port is free once the parent ends, not the child too."""
        self.inherited = True
        self.close_unused()

    async def _close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        await asyncio.gather(*(party.disconnected() for party in self.parties.values()))
        if self._server is not None:
            await self._server.close()
        elif self._socket is not None:
            self._socket.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.close()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _disinherit_all() -> None:
    for engine in list(_engines):
        engine.disinherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disinherit_all)
