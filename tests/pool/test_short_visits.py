"""A party that comes, and leaves as soon as it has met the others."""

import asyncio

import pytest

from mpccomm import PartyShutDownError, Pool
from tests.pools import LOCAL, quick, until
from tests.timing import UNIT

LIMIT = 50 * UNIT


async def test_who_waits_for_it_has_met_it() -> None:
    """However soon it was gone."""
    for _ in range(20):
        alice, bob = (Pool(name=name, settings=quick()) for name in ("Alice", "Bob"))
        alice.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, 0)
        bob.add_http_client("Alice", LOCAL, alice.port)
        try:
            waiting = asyncio.ensure_future(alice.wait_ready(LIMIT))
            await bob.wait_ready(LIMIT)
            await bob.shutdown()
            await waiting
            with pytest.raises(PartyShutDownError):
                await alice.recv("Bob", timeout=LIMIT)
        finally:
            await asyncio.gather(alice.shutdown(0), bob.shutdown(0))


async def test_also_where_it_came_and_left_before_anything_was_looked_at() -> None:
    alice = Pool(name="Alice", settings=quick())
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, 0)
    try:
        waiting = asyncio.ensure_future(alice.wait_ready(LIMIT))
        party = alice._engine.party("Bob")
        await until(lambda: party._happening is not None)  # it waits
        party.link.counters.connections += 1
        party.flush()
        await waiting
    finally:
        await alice.shutdown(0)
