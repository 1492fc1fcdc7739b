"""How an asyncio caller waits for a send or receive: futures of the caller's own loop, wherever the pool lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from mpccomm.engine.loop_owner import LoopOwner

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

Resolve: TypeAlias = Callable[[T | None, Exception | None], None]


def new_future(loop_owner: LoopOwner) -> tuple[asyncio.Future[T], Resolve[T]]:
    """A future of the running loop, and the function that the pool's loop resolves it with."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    return future, resolving(future, loop, loop_owner)


class Asking(asyncio.Future[T]):
    """A future of the running loop for a message. The one who cancels it may ask for the same message in the same breath.

    So ``drop`` is called at once: callbacks would hear of it in the next turn of the loop.
    """

    drop: Callable[[], None]

    def cancel(self, msg: Any | None = None) -> bool:
        """As of any future."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.drop()
        return cancelled


def ask(loop_owner: LoopOwner, drop: Callable[[], None]) -> tuple[Asking[T], Resolve[T]]:
    """One that calls ``drop``, and the function that the pool's loop resolves it with."""
    loop = asyncio.get_running_loop()
    future: Asking[T] = Asking(loop=loop)
    future.drop = drop
    return future, resolving(future, loop, loop_owner)


def resolving(future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, loop_owner: LoopOwner) -> Resolve[T]:
    """The function that the pool's loop resolves a future of ``loop`` with."""
    return partial(_resolve, future) if loop_owner.is_on(loop) else partial(_resolve_elsewhere, future, loop)


def _resolve(future: asyncio.Future[T], value: T | None, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)  # type: ignore[arg-type]


def _resolve_elsewhere(
    future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, value: T | None, error: Exception | None
) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, future, value, error)
    except RuntimeError:
        # The caller's loop is closed: nobody waits any more.
        future.cancel()


def together(count: int, resolve: Resolve[None]) -> Sequence[Resolve[None]]:
    """What each of ``count`` is resolved with: the last one resolves the whole, with the first error if there is one."""
    if count == 1:
        return (resolve,)
    errors: list[Exception] = []
    missing = count

    def part(value: None, error: Exception | None) -> None:
        nonlocal missing
        missing -= 1
        if error is not None:
            errors.append(error)
        if not missing:
            resolve(None, first_of(errors))

    if not count:
        resolve(None, None)
    return (part,) * count


def dismiss(futures: Sequence[asyncio.Future[T]]) -> None:
    """Nobody will look at these any more."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()


def first_of(errors: Sequence[E]) -> E | None:
    """The first error, if there is one, with notes of the others."""
    for other in errors[1:]:
        errors[0].add_note(f"and {other}")
    return errors[0] if errors else None


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first error, if there is one, with notes of the others."""
    if (error := first_of(errors)) is not None:
        raise error


async def all_of(futures: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all; then raise the first error, if there is one."""
    if futures:
        await asyncio.wait(futures)
    raise_first([error for future in futures if (error := future.exception()) is not None])
