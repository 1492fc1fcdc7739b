"""Groups of pools that know each other, with threads of their own, and their end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from mpccomm.compat import Pool as CompatiblePool
from mpccomm.compat.installation import installed
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.party import Party
from mpccomm.engine.requests import ReceiveCall
from mpccomm.pool import Pool
from mpccomm.protocol.frames import describe_key
from mpccomm.sync.loop_lifetime import LoopLifetime
from mpccomm.sync.pool import SyncPool, lifetime_of

if TYPE_CHECKING:
    from mpccomm.pytest_plugin.certificates import Certificates

_LOCAL = "127.0.0.1"
_LINGER = 2.0
"""Seconds that a pool has at most to deliver what is left when its fixture ends."""
_QUIET = 2.0
"""Seconds that messages between two tests have to arrive."""

Some = TypeVar("Some", Pool, SyncPool)


class UnreceivedMessagesWarning(UserWarning):
    """A test ended, and messages that were sent to its pools had not been received."""


class Groups(Generic[Some]):
    """Makes pools of one kind, and shuts all of them down at its end."""

    def __init__(
        self, make: Callable[..., tuple[Some, LoopLifetime]], certificates: Callable[[], Path] | None = None
    ) -> None:
        self._make: Callable[..., tuple[Some, LoopLifetime]] = make
        self._folder = certificates
        self._certificates: Certificates | None = None
        self._made: list[tuple[Some, LoopLifetime]] = []
        self._names: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        complaints = self._unreceived()
        # All of them are told to go before any is waited for.
        for pool, loop_lifetime in self._made:
            loop_lifetime.close(partial(_pool_of(pool).shutdown, _LINGER))
        self._made.clear()
        _complain(complaints)

    def new(self, *arguments: Any, **options: Any) -> Some:
        """Return one pool that knows no other; arguments as of its class."""
        pool, loop_lifetime = self._make(*arguments, **options)
        self._made.append((pool, loop_lifetime))
        return pool

    def group(self, size: int, **options: Any) -> tuple[Some, ...]:
        """Return that many pools, all of which know all others; options as of their class. With ``relay=`` they let nothing in."""
        names = [f"local{number}" for number in range(size)]
        pools = tuple(self.new(*self._own(number), name=name, **options) for number, name in enumerate(names))
        relayed = "relay" in options
        for pool in () if relayed else pools:
            pool.add_http_server(0, _LOCAL)
        for pool, own in zip(pools, names, strict=True):
            self._names[id(pool)] = own
            for number, (name, other) in enumerate(zip(names, pools, strict=True)):
                if other is not pool:
                    addr, port = (None, None) if relayed else (_LOCAL, other.port)
                    pool.add_http_client(name, addr, port, self._pinned(number))
        return pools

    def _own(self, number: int) -> tuple[Path, Path] | tuple[()]:
        if self._folder is None:
            return ()
        if self._certificates is None:
            # Pools without certificates need no library for them.
            from mpccomm.pytest_plugin.certificates import Certificates

            self._certificates = Certificates(self._folder())
        return self._certificates.key(number), self._certificates.certificate(number)

    def _pinned(self, number: int) -> Path | None:
        return None if self._certificates is None else self._certificates.certificate(number)

    # -- between tests -------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Leave nothing of one test to the next: messages, numbers, prefixes."""
        pools = [_pool_of(pool) for pool, _ in self._made if engine_of(pool).lifecycle.usable]
        for pool, loop_lifetime in self._made:
            if _pool_of(pool) in pools:
                loop_lifetime.run(partial(_quiet, _pool_of(pool)))
        complaints = self._unreceived()
        for pool, loop_lifetime in self._made:
            if _pool_of(pool) in pools:
                _pool_of(pool).update_msg_prefix(None)
                loop_lifetime.run(partial(_begin_anew, _pool_of(pool)))
        _complain(complaints)

    def _unreceived(self) -> list[str]:
        complaints = []
        for pool, _ in self._made:
            for name, party in engine_of(pool).parties.items():
                ids = [describe_key(message.key) for message in party.link.mailbox.unread()]
                if ids:
                    own = self._names.get(id(pool), "a pool")
                    complaints.append(f"{own} never received {', '.join(ids)} from {name}")
        return complaints


async def _quiet(pool: Pool) -> None:
    """Wait until what was sent has arrived."""
    for party in engine_of(pool).parties.values():
        await party.until(partial(_settled, party), party.clock() + _QUIET)


def _settled(party: Party) -> bool:
    return party.link.sender.idle or party.link.ending is not None


async def _begin_anew(pool: Pool) -> None:
    """Forget what has arrived, who waits, and all numbers."""
    for party in engine_of(pool).parties.values():
        mailbox = party.link.mailbox
        for receive in list(mailbox.receives()):
            assert isinstance(receive, ReceiveCall)
            receive.cancel()
        for message in list(mailbox.unread()):
            party.link.take(message.key, party.clock())
        mailbox.numbering.forget()
        party.link.sender.forget_numbers()


def _complain(complaints: Sequence[str]) -> None:
    if complaints:
        warnings.warn("; ".join(complaints), UnreceivedMessagesWarning, stacklevel=2)


def _pool_of(pool: Pool | SyncPool) -> Pool:
    return pool if isinstance(pool, Pool) else pool.pool


def blocking(*arguments: Any, **options: Any) -> tuple[SyncPool, LoopLifetime]:
    """Return a `SyncPool`."""
    pool = SyncPool(*arguments, **options)
    return pool, lifetime_of(pool)


def awaitable(*arguments: Any, **options: Any) -> tuple[Pool, LoopLifetime]:
    """Return a `Pool` that lives on the loop of a thread of its own, so that no loop of a test has to outlive it."""
    pool = (CompatiblePool if installed() else Pool)(*arguments, **options)
    return pool, LoopLifetime(engine_of(pool))
