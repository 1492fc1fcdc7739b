"""One pool that is called through whichever face, among native ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mpccomm import Pool, Settings, SyncPool
from tests.pools import LOCAL, pools, quick
from tests.timing import UNIT

FACES = ("asyncio", "blocking", "another loop")


@asynccontextmanager
async def faces(
    kind: str, *others: str, settings: Settings | None = None
) -> AsyncIterator[tuple[Callable[..., Awaitable[Any]], tuple[Pool, ...]]]:
    """Alice, called through one of the faces, and native pools of the others: `call(name, ...)` calls a method of Alice."""
    async with pools(*others, settings=settings) as made:
        settings = settings or quick()
        alice = (
            Pool(name="Alice", settings=settings) if kind == "asyncio" else SyncPool(name="Alice", settings=settings)
        )
        alice.add_http_server(0, LOCAL)
        assert alice.port is not None
        for pool in made:
            assert pool.name is not None
            assert pool.port is not None
            alice.add_http_client(pool.name, LOCAL, pool.port)
            pool.add_http_client("Alice", LOCAL, alice.port)

        def call(method: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
            if kind == "blocking":
                return asyncio.to_thread(partial(getattr(alice, method), *arguments, **options))
            found = getattr(alice if isinstance(alice, Pool) else alice.pool, method)(*arguments, **options)
            return found if isinstance(found, Awaitable) else asyncio.sleep(0, found)

        try:
            yield call, made
        finally:
            if isinstance(alice, Pool):
                await alice.shutdown(20 * UNIT)
            else:
                await asyncio.to_thread(alice.shutdown, 20 * UNIT)
