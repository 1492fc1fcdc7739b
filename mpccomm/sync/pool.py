"""`SyncPool`, the blocking face."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

from mpccomm.engine.base_pool import BasePool, other_face
from mpccomm.engine.options import UNSET, Unset, abort_reason, reason_of
from mpccomm.pool import Pool
from mpccomm.sync.blocking import program_waits
from mpccomm.sync.channel import SyncMessages
from mpccomm.sync.loop_lifetime import LoopLifetime


class SyncPool(BasePool, SyncMessages):
    """A network of parties, as this party sees it, for programs without asyncio: calls block until they are done.

    The pool runs on an event loop of its own, in a thread of its own; any thread may call. Where a loop is running
    already, as in a notebook, that does not matter; `pool` is there for those who would rather ``await``.

    Parameters as of `Pool`.
    """

    @property
    def pool(self) -> Pool:
        """The same pool for asyncio callers: its coroutines can be awaited from any event loop."""
        return self._pool

    # -- the parties ---------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float | None = None, handler_names: Sequence[str] | None = None) -> None:
        self._check_thread()
        self._enter()
        self._loop_lifetime.run(
            partial(self._engine.wait_ready, self._ready_limit(timeout), self._known(handler_names))
        )

    # -- the end -------------------------------------------------------------------------------------------------------

    # In these the first step is the `try`: a signal may come before all others.

    def shutdown(self, linger: float | Unset = UNSET) -> None:
        try:
            self._close(partial(self._pool.shutdown, self._linger_limit(linger)))
        except BaseException as error:
            self._loop_lifetime.make_up_for(error)
            raise

    def abort(self, reason: str = "", linger: float | Unset = UNSET) -> None:
        try:
            self._close(partial(self._pool.abort, abort_reason(reason), self._linger_limit(linger)))
        except BaseException as error:
            self._loop_lifetime.make_up_for(error, reason)
            raise

    def __aenter__(self) -> NoReturn:
        raise TypeError(
            "a SyncPool is entered by `with`, outside of coroutines; what is entered by `async with` is a Pool"
        )

    def __aexit__(self, *_: object) -> None:
        """Python asks for it before it enters."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close(partial(self._pool.__aexit__, kind, error, traceback))
        except BaseException as struck:
            self._loop_lifetime.make_up_for(struck, reason_of(kind, error))
            raise

    def __del__(self) -> None:
        # Neither lock nor wait in here: the collector may run anywhere.
        loop_lifetime = self.__dict__.get("_loop_lifetime")
        if loop_lifetime is not None:
            loop_lifetime.wind_up(forgotten=True)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._pool = other_face(Pool, self)
        self._loop_lifetime = LoopLifetime(self._engine)
        self._engine.loop_owner.program_waits = program_waits

    def _close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check_thread()
        self._loop_lifetime.close(function)


def lifetime_of(pool: SyncPool) -> LoopLifetime:
    """Return the private loop of a pool, for parts of the library that look after pools of others."""
    return pool._loop_lifetime
