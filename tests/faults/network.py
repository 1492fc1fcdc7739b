"""Two pools whose only way to each other leads through a `Proxy`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mpccomm import Pool, Settings
from tests.faults.proxy import Cut, Proxy
from tests.pools import LOCAL, quick
from tests.timing import UNIT


def uncut(number: int) -> Cut:
    """No connection is cut."""
    return Cut()


@asynccontextmanager
async def through_proxy(
    cut: Callable[[int], Cut] = uncut,
    *,
    settings: Settings | None = None,
    record: bool = False,
    both_dial: bool = True,
    patience: float = 100 * UNIT,
) -> AsyncIterator[tuple[Pool, Pool, Proxy]]:
    """Alice and Bob, connected, and the network between them; where not both dial, only Alice can.

    ``patience``: seconds within which they have to be connected.
    """
    settings = settings or quick()
    alice, bob = Pool(name="Alice", settings=settings), Pool(name="Bob", settings=settings)
    async with Proxy(cut, record=record) as proxy:
        ports = [proxy.front(), proxy.front()]
        try:
            for pool, port in zip((alice, bob), ports, strict=True):
                pool.add_http_server(0, LOCAL, external_port=port)
                proxy.aim(port, pool.port)
            if not both_dial:
                proxy.aim(ports[0], 1)  # no server listens there
            alice.add_http_client("Bob", LOCAL, ports[1])
            bob.add_http_client("Alice", LOCAL, ports[0])
            await asyncio.gather(*(pool.wait_ready(patience) for pool in (alice, bob)))
            yield alice, bob, proxy
        finally:
            await asyncio.gather(alice.shutdown(20 * UNIT), bob.shutdown(20 * UNIT))
