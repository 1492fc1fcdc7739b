"""Who dials first, and how many dials begin at a time."""

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from mpccomm import Pool, Retry
from mpccomm.address import literal, towards
from mpccomm.engine.party_connections import is_second
from mpccomm.protocol.frames import NO_PORT
from mpccomm.transport import reconnect
from mpccomm.transport.reconnect import Destination, Dialler, DialSlots, NoWay
from mpccomm.transport.stream import Stream
from tests.pools import LOCAL, Log, pools, quick
from tests.timing import UNIT


def test_both_ends_agree_on_who_is_second() -> None:
    here, other = literal(LOCAL), literal("127.0.0.2")
    assert here is not None
    assert towards(here) == here
    assert is_second(9001, 9000, here)
    assert not is_second(9000, 9001, here)
    # The same port on two machines: the address on the way there decides.
    assert not is_second(9000, 9000, other)
    assert not is_second(9000, 9000, here)
    # Without a server nobody calls, and of a name nothing is known.
    assert not is_second(NO_PORT, 9000, here)
    assert not is_second(9000, 9000, None)
    assert is_second(9001, 9000, None)


async def test_one_connection_per_pair(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"P{number}" for number in range(6)]
    settings = replace(quick(), retry=replace(quick().retry, give_way=20 * UNIT))
    async with pools(*names, settings=settings) as made:
        for pool in made:
            for party in pool._engine.parties.values():
                assert party.link._connections.opened == 1
    assert not Log(caplog).lines("", logging.WARNING)


async def test_who_is_second_dials_where_the_other_one_can_not() -> None:
    alice, bob = Pool(settings=quick()), Pool(settings=quick())
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    first, second = sorted((alice, bob), key=lambda pool: pool.port or 0)
    first.add_http_client("Second", LOCAL, second.port)
    first._engine._slots._free = asyncio.Semaphore(0)
    second.add_http_client("First", LOCAL, first.port)
    await second.wait_ready(50 * UNIT)
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_who_has_no_server_dials_at_once() -> None:
    settings = replace(quick(), retry=replace(quick().retry, give_way=1000 * UNIT))
    alice, bob = Pool(settings=settings), Pool(settings=settings)
    alice.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, 1)
    bob.add_http_client("Alice", LOCAL, alice.port)
    alice._engine.party("Bob").port = NO_PORT
    await bob.send("Alice", "hello")
    assert await alice.recv("Bob") == "hello"
    await asyncio.gather(alice.shutdown(), bob.shutdown())


async def test_few_dials_at_a_time_and_none_waits_for_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "_LONG", UNIT)
    slots, going, most = DialSlots(), set[int](), 0

    async def dial(number: int, how_long: float) -> None:
        nonlocal most
        async with slots.one():
            going.add(number)
            most = max(most, len(going))
            await asyncio.sleep(how_long)
            going.discard(number)

    await asyncio.gather(*(dial(number, UNIT / 20) for number in range(40)))
    assert most == 4
    stuck = [asyncio.ensure_future(dial(number, 1000 * UNIT)) for number in range(4)]
    async with asyncio.timeout(50 * UNIT):
        await dial(100, 0)
    for one in stuck:
        one.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    most = 0
    await asyncio.gather(*(dial(number, UNIT / 20) for number in range(40)))
    assert most == 4


async def test_a_party_that_broke_the_protocol_is_not_dialled_before_its_time_by_its_own_clock() -> None:
    class Line(NoWay):
        async def dial(self) -> Stream:
            raise AssertionError("it is not time yet")

    wanted = asyncio.Event()
    wanted.set()
    # A clock that is far behind those of `time`.
    destination = SimpleNamespace(
        gives_way=False, needs_connection=wanted, clock=lambda: -1e9, reputation=SimpleNamespace(not_before=1000 - 1e9)
    )
    dialler = Dialler(cast(Destination, destination), Line(), Retry(), DialSlots(), asyncio.ensure_future, lambda: None)
    task = asyncio.ensure_future(dialler.run())
    await asyncio.sleep(UNIT / 10)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
