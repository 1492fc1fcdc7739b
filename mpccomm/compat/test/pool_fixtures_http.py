"""``tno.mpc.communication.test.pool_fixtures_http``: pools for tests, as they were made before there were fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from mpccomm.compat.pool import Pool

__all__ = ["event_loop", "finish", "generate_http_test_pools"]

_LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """For tests of a module that share a loop, with a pytest-asyncio that knows this fixture: before 1.0."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


async def generate_http_test_pools(nr_clients: int) -> AsyncGenerator[tuple[Pool, ...], None]:
    """Yield that many pools that know each other, once; when it is resumed it shuts them down."""
    names = [f"local{number}" for number in range(nr_clients)]
    pools = tuple(Pool(name=name) for name in names)
    for pool in pools:
        pool.add_http_server(0, _LOCAL)
    for pool in pools:
        for name, other in zip(names, pools, strict=True):
            if other is not pool:
                pool.add_http_client(name, _LOCAL, other.port)
    try:
        yield pools
    finally:
        await asyncio.gather(*(pool.shutdown() for pool in pools))


async def finish(generator: AsyncGenerator[Any, None]) -> None:
    """Resume an asynchronous generator until it ends."""
    async for _ in generator:
        pass
