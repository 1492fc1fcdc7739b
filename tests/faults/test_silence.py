"""Networks that go silent, or are slow: what heals is used at once, what is only slow is left alone."""

import asyncio
import statistics
from dataclasses import replace

import pytest

from mpccomm import Pool, Retry, Settings
from tests.faults.network import through_proxy
from tests.faults.proxy import Cut, End, Proxy
from tests.pools import Log, until
from tests.timing import LONG, UNIT


async def time_to_flow(alice: Pool, bob: Pool, proxy: Proxy, silence: float, *, forget: bool) -> float:
    """Seconds from the end of a silence to the arrival, both ways, of what was sent during it."""
    proxy.black_hole()
    sent = [alice.asend("Bob", "a"), bob.asend("Alice", "b")]
    await asyncio.sleep(silence)
    assert not any(handle.done() for handle in sent)
    loop = asyncio.get_running_loop()
    healed = loop.time()
    proxy.heal(forget=forget)
    assert [await bob.recv("Alice"), await alice.recv("Bob")] == ["a", "b"]
    took = loop.time() - healed
    await asyncio.gather(*sent)
    return took


@pytest.mark.parametrize(("forget", "both_dial"), [(True, True), (True, False), (False, True)])
async def test_a_black_hole_that_heals(forget: bool, both_dial: bool) -> None:
    # With the times of every day: the promise is two seconds.
    async with through_proxy(settings=Settings(), both_dial=both_dial) as (alice, bob, proxy):
        times = [await time_to_flow(alice, bob, proxy, silence, forget=forget) for silence in (0.3, 1.2, 2.0)]
        print(f"traffic flowed {[round(took, 2) for took in times]} s after the heal")  # noqa: T201
        assert statistics.median(times) < 2 * max(1, UNIT / 0.1)


@LONG
@pytest.mark.timeout(600)
@pytest.mark.parametrize("both_dial", [True, False])
async def test_long_black_holes(both_dial: bool) -> None:
    async with through_proxy(settings=Settings(), both_dial=both_dial) as (alice, bob, proxy):
        times = [await time_to_flow(alice, bob, proxy, silence, forget=True) for silence in (11, 14, 17, 23, 35, 47)]
        print(f"traffic flowed {[round(took, 2) for took in times]} s after the heal")  # noqa: T201
        assert statistics.median(times) < 2


async def test_a_connection_that_goes_silent_within_its_greeting() -> None:
    # After the answer to the upgrade, HELLO or RESUME is lost: another connection is tried soon.
    def cut(number: int) -> Cut:
        return Cut(down=(0, 150, 250, 330)[number], how=End.SILENCE) if number < 4 else Cut()

    settings = Settings(retry=Retry(connect_timeout=5 * UNIT))
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with through_proxy(cut, settings=settings, both_dial=False, patience=200 * UNIT) as (_, _, proxy):
        took = loop.time() - start
        print(f"connected after {took:.1f} s, by connection {proxy.accepted}")  # noqa: T201
        assert took < 60 * UNIT  # the time for a greeting alone is a hundred


async def test_a_dead_connection_is_noticed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    settings = Settings(
        timing=replace(Settings().timing, tick=UNIT / 2, heartbeat=UNIT, suspect_after=UNIT, dead_after=5 * UNIT)
    )
    async with through_proxy(settings=settings) as (alice, bob, proxy):
        proxy.black_hole()
        await log.seen("Bob (127.0.0.1")
        await log.seen("no sign of life")
        await log.seen("silent for")
        await until(lambda: not alice.stats["Bob"].connected)
        proxy.heal()
        await until(lambda: alice.stats["Bob"].connected and bob.stats["Alice"].connected)


@pytest.mark.timeout(60)
async def test_a_slow_line_is_no_dead_one(caplog: pytest.LogCaptureFixture) -> None:
    # 8 Mbit/s and 50 ms: eight seconds for 8 MB, and neither end gives up the connection.
    async with through_proxy(settings=Settings()) as (alice, bob, proxy):
        proxy.rate = 1_000_000
        proxy.delay = 0.05
        accepted = proxy.accepted
        receiving = asyncio.ensure_future(bob.recv("Alice"))
        await alice.send("Bob", bytes(8_000_000))
        assert len(await receiving) == 8_000_000
        assert alice.stats["Bob"].reconnects == bob.stats["Alice"].reconnects == 0
        assert proxy.accepted == accepted
        assert not Log(caplog).lines("no sign of life")


async def test_a_long_way_is_no_dead_one(caplog: pytest.LogCaptureFixture) -> None:
    # A round trip of 600 ms, as by satellite: slower, and no reconnects.
    async with through_proxy(settings=Settings()) as (alice, bob, proxy):
        accepted = proxy.accepted
        proxy.delay = 0.3
        for number in range(5):
            await alice.send("Bob", number)
            assert await bob.recv("Alice") == number
        await asyncio.gather(*(alice.send("Bob", number) for number in range(100)))
        assert alice.stats["Bob"].reconnects == bob.stats["Alice"].reconnects == 0
        assert proxy.accepted == accepted


async def test_a_small_message_on_a_slow_line_overtakes() -> None:
    async with through_proxy(settings=Settings()) as (alice, bob, proxy):
        proxy.rate = 2_000_000
        large = alice.asend("Bob", bytes(16_000_000), "large")
        await until(lambda: proxy.up + proxy.down > 1_000_000)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await alice.send("Bob", "small", "small")
        # Behind it would be seven seconds; what the systems at both ends hold of the large one is half of one.
        assert loop.time() - start < 2 * max(1, UNIT / 0.1)
        assert await bob.recv("Alice", "small") == "small"
        assert not large.done()
        proxy.rate = None
        await large
