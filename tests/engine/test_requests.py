"""Sends and receives on their way."""

import asyncio
import gc

from mpccomm.engine.requests import ReceiveCall, SendCall
from tests.pools import pools


async def test_what_is_done_is_not_left_to_the_collector() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        gc.collect()
        gc.disable()
        try:
            await alice.send("Bob", bytes(100))
            await bob.recv("Alice")
            _, received = await asyncio.gather(alice.send("Bob", "later"), bob.recv("Alice"))
            assert received == "later"
            await alice.broadcast("to all")
            assert await bob.recv_all() == [("Alice", "to all")]
            handle = alice.asend("Bob", "not awaited")
            assert await bob.recv("Alice") == "not awaited"
            await handle
            assert not [thing for thing in gc.get_objects() if isinstance(thing, SendCall | ReceiveCall)]
        finally:
            gc.enable()
