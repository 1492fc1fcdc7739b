"""Who is still unknown: how many at a time, for how long, and how much they may say."""

import asyncio
from ipaddress import ip_address

import pytest

from mpccomm import Pool
from mpccomm.address import IPAddress
from mpccomm.settings import Strangers
from mpccomm.transport.admission import Admission, PendingConnection
from tests.pools import LOCAL, quick
from tests.timing import UNIT

HOME = ip_address("10.0.0.1")
LIMITS = Strangers(pending=6, per_address=2, per_party=3, bytes=100, courtesy=0)


class Hall:
    """A waiting room, and a note of who had to go, and why."""

    def __init__(self, time: float = 100 * UNIT) -> None:
        self.gone: list[tuple[int, str]] = []
        self.room = Admission(LIMITS, time, lambda address: 2 if address == HOME else 0)
        self._number = 0

    def enter(self, address: IPAddress) -> PendingConnection:
        self._number += 1
        number = self._number
        return self.room.enter(address, lambda reason: self.gone.append((number, reason)))


def elsewhere(number: int) -> IPAddress:
    return ip_address(f"192.0.2.{number}")


async def test_from_one_address() -> None:
    hall = Hall()
    for _ in range(4):
        hall.enter(elsewhere(1))
    assert [number for number, _ in hall.gone] == [1, 2]
    assert hall.gone[0][1] == "too many callers at once from that address"
    assert len(hall.room) == 2
    hall.room.close()


async def test_from_many_addresses() -> None:
    hall = Hall()
    for number in range(10):
        hall.enter(elsewhere(number))
    assert [number for number, _ in hall.gone] == [1, 2, 3, 4]
    assert hall.gone[0][1] == "too many callers at once who are no party that we know"
    hall.room.close()
    assert len(hall.room) == 0


async def test_the_places_of_parties_are_their_own() -> None:
    hall = Hall()
    here = [hall.enter(HOME) for _ in range(6)]
    for number in range(20):
        hall.enter(elsewhere(number))
    assert all(pending in hall.room for pending in here)
    hall.enter(HOME)
    assert here[0] not in hall.room
    assert here[1] in hall.room
    hall.room.close()


async def test_whoever_is_known_leaves_room() -> None:
    hall = Hall()
    for _ in range(10):
        assert hall.enter(elsewhere(1)).end()
    assert not hall.gone
    assert not hall.enter(elsewhere(1)).dropped
    hall.room.close()


async def test_until_all_from_an_address_are_known() -> None:
    hall = Hall()
    await hall.room.until_known({HOME})
    one, other, stranger = hall.enter(HOME), hall.enter(HOME), hall.enter(elsewhere(1))
    waiting = [asyncio.ensure_future(hall.room.until_known({HOME, elsewhere(2)})) for _ in range(2)]
    await asyncio.sleep(0)
    one.end()
    hall.enter(HOME)  # One that comes later is not waited for.
    done, _ = await asyncio.wait(waiting, timeout=UNIT / 10)
    assert not done
    other.end()
    await asyncio.gather(*waiting)
    assert stranger in hall.room
    hall.room.close()


async def test_how_much_one_may_say() -> None:
    hall = Hall()
    talker, friend = hall.enter(elsewhere(1)), hall.enter(elsewhere(2))
    assert talker.count(60)
    assert talker.count(40)
    assert not talker.count(1)
    assert hall.gone == [(1, "more than 100 bytes before saying who it is")]
    assert not talker.count(1)
    friend.end()
    assert friend.count(10**9)
    hall.room.close()


async def test_for_how_long() -> None:
    hall = Hall(UNIT)
    pending = hall.enter(elsewhere(1))
    known = hall.enter(elsewhere(2))
    known.end()
    async with asyncio.timeout(50 * UNIT):
        while not hall.gone:  # noqa: ASYNC110 - what is waited for is a timer of the loop
            await asyncio.sleep(UNIT / 10)
    assert hall.gone == [(1, "it did not say who it is")]
    assert pending.dropped
    assert not known.dropped


async def test_whoever_posts_may_post_many_at_once() -> None:
    """The client of that package makes a connection for each, and opens 100."""
    async with Pool(settings=quick()) as pool:
        pool.add_http_server(0, LOCAL)
        pool.add_http_client("Bob", LOCAL, 1, wire="tno4")
        callers = [await asyncio.open_connection(LOCAL, pool.port) for _ in range(100)]
        for _, writer in callers:
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nCookie: server_port=1\r\nContent-Length: 1\r\n\r\n\xc1")
        for reader, writer in callers:
            assert (await reader.read()).split()[1] == b"500"
            writer.close()


@pytest.mark.parametrize("size", [1000, 100_000, 300_000, 3_000_000])
async def test_whoever_posts_may_say_more(size: int) -> None:
    async with Pool(settings=quick()) as pool:
        pool.add_http_server(0, LOCAL)
        pool.add_http_client("Bob", LOCAL, 1, wire="tno4")
        reader, writer = await asyncio.open_connection(LOCAL, pool.port)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nCookie: server_port=1\r\nContent-Length: %d\r\n\r\n" % size
        writer.write(head + bytes([0xC1]) * size)
        # It was read to its end, and is no message.
        assert (await reader.read()).split()[1] == b"500"
        writer.close()
