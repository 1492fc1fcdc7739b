"""`Pool`, the asyncio face."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NoReturn, Self

from mpccomm.engine.base_pool import BasePool
from mpccomm.engine.futures import run
from mpccomm.engine.options import UNSET, Unset, abort_reason, reason_of
from mpccomm.pool.channel import Messages


class Pool(BasePool, Messages):
    """A network of parties, as this party sees it: its own server, and a client for each other party.

    The pool lives on the event loop on which it is first used; from any other loop, in any thread, its coroutines can be
    awaited as well.

    With certificates connections are TLS 1.3, and both ends show theirs; files are PEM or DER.

    :param key: path of this party's private key; left out: it is in the file of ``cert``
    :param cert: path of this party's certificate, followed by those of intermediate authorities
    :param ca_cert: path of the authorities' certificates that the other parties' are issued by; not needed where every
        party is added with its own certificate
    :param timeout: time limit of a send in seconds, where the call names none; None waits without limit
    :param max_retries: how many times a party may be dialled again in vain before a send to it raises; -1: no limit
    :param name: the name of this party, for logs and groups
    :param settings: limits and times, see `mpccomm.settings`
    :param password: of the private key, or a function that returns it
    :param audit: path of a file, or a logger, for a record of all messages, see `mpccomm.engine.audit`
    :param network: what the parties reach each other through; for tests a `MemoryNetwork`
    :param relay: where this party can be reached if not directly, and looks for the others: the URL of a relay, a `Relay`, or
        several
    :param proxy: the forward proxy that is this party's way out, if not each party's own: a URL, a `Proxy`, or "env" for that of
        ``HTTPS_PROXY`` and ``NO_PROXY``, which do not count by themselves
    :raises ConfigurationError: certificates or key can't be used
    """

    # -- the parties ---------------------------------------------------------------------------------------------------

    async def wait_ready(self, timeout: float | None = None, handler_names: Sequence[str] | None = None) -> None:
        self._enter()
        ready = partial(self._engine.wait_ready, self._ready_limit(timeout), self._known(handler_names))
        await run(ready, self._engine.loop_owner)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def shutdown(self, linger: float | Unset = UNSET) -> None:
        ending = self._engine.ending
        await ending.from_anywhere(partial(ending.shutdown, self._linger_limit(linger)))

    async def abort(self, reason: str = "", linger: float | Unset = UNSET) -> None:
        ending = self._engine.ending
        await ending.from_anywhere(partial(ending.abort, abort_reason(reason), self._linger_limit(linger)))

    def __enter__(self) -> NoReturn:
        raise TypeError("a Pool is entered by `async with`, in a coroutine; what is entered by `with` is a SyncPool")

    def __exit__(self, *_: object) -> None:
        """Python asks for it before it enters."""

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        reason = reason_of(kind, error)
        await (self.shutdown() if reason is None else self.abort(reason))
