"""How an asyncio caller waits for a send or receive: futures of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from mpccomm.home import Home

T = TypeVar("T")

Resolve: TypeAlias = Callable[[T | None, Exception | None], None]


def new_future(home: Home) -> tuple[asyncio.Future[T], Resolve[T]]:
    """A future of the running loop, and the function that the pool's loop resolves it with."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(value: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    if home.settled and loop is home.loop:
        return future, resolve

    def resolve_elsewhere(value: T | None, error: Exception | None) -> None:
        try:
            loop.call_soon_threadsafe(resolve, value, error)
        except RuntimeError:
            # The caller's loop is closed: nobody waits any more.
            future.cancel()

    return future, resolve_elsewhere


def dismiss(futures: Sequence[asyncio.Future[T]]) -> None:
    """Nobody will look at these any more."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first error, if there is one, with notes of the others."""
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and {other}")
        raise errors[0]


async def all_of(futures: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all; then raise the first error, if there is one."""
    if futures:
        await asyncio.wait(futures)
    raise_first([error for future in futures if (error := future.exception()) is not None])
