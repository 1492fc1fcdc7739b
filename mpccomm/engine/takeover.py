"""One pool takes the place of another: in an interactive session, when the cell that makes it is run once more.

Without this the port would be taken by a pool that the user has no name for any more. The new one gets the listening socket
at once, so that no caller is turned away meanwhile, and begins to talk when the old one has said goodbye, and that another one
follows. Where nothing was under way the others go on waiting, for the new one, as they would at the beginning; otherwise it is
to them a party that left and came again, and not one that was restarted in the middle of something.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from mpccomm.errors import PoolClosedError

if TYPE_CHECKING:
    from mpccomm.engine.loop_owner import LoopOwner
    from mpccomm.engine.server import PoolServer

_MOMENT = 1.0
"""Seconds that a new pool has to take the port of one that was dropped."""


class _Engine(Protocol):
    """As much of an engine as tells where it listens."""

    server: PoolServer


E = TypeVar("E", bound=_Engine)


def predecessors(where: str, engines: Iterable[E]) -> list[E]:
    """Return the pools of this session that listen there."""
    # Not on Windows, where a socket can't pass from one loop to another; nor in a program, where asking for a port twice is wrong.
    if sys.platform == "win32" or not hasattr(sys, "ps1"):
        return []
    return [engine for engine in engines if engine.server.listening and engine.server.where == where]


class Takeover:
    """The place of one pool in a chain of pools at one port: the pools whose end it waits for, and its own end."""

    def __init__(self, loop_owner: LoopOwner) -> None:
        self._loop_owner = loop_owner
        self._before: list[Future[None]] = []
        self._end: Future[None] = Future()
        self._made_way: Future[None] = Future()

    @property
    def followed(self) -> bool:
        """Whether another pool has its port: the others are told so with the goodbye."""
        return self._made_way.done()

    def make_way(self) -> None:
        """Note that another pool takes the port. Any thread may call; idempotent."""
        with suppress(InvalidStateError):
            self._made_way.set_result(None)

    async def may_be_followed(self) -> None:
        """In an interactive session wait a moment: a cell that is run again drops the old pool before the new one has its port."""
        if hasattr(sys, "ps1"):
            await asyncio.wait((asyncio.wrap_future(self._made_way),), timeout=_MOMENT)

    def follow(self, older: Takeover) -> None:
        """Wait for that one, and for those that it still waits for: it may end before them."""
        self._before += [end for end in (*older._before, older._end) if not end.done()]

    def end(self) -> None:
        """Note that the pool is closed; idempotent."""
        if not self._end.done():
            self._end.set_result(None)

    def then(self, function: Callable[[], None]) -> None:
        """Run a function when all pools before this one have ended: at once, or later on the loop, where this is called."""
        for end in self._before:
            if not end.done():
                end.add_done_callback(lambda _: self._later(function))
                return
        function()

    def _later(self, function: Callable[[], None]) -> None:
        with suppress(PoolClosedError):
            self._loop_owner.post(partial(self.then, function))
