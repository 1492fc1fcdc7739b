"""A connection that an attacker has recorded, played again."""

import asyncio

import pytest

from tests.faults.network import through_proxy
from tests.pools import Log, until


@pytest.mark.parametrize("while_connected", [True, False])
async def test_a_replayed_connection_is_refused_and_harmless(
    while_connected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with through_proxy(record=True, both_dial=False) as (alice, bob, proxy):
        for number in range(10):
            await alice.send("Bob", number, "x")
        await alice.send("Bob", bytes(1_000_000))
        await bob.send("Alice", "back")
        proxy.cut_all()
        await until(lambda: proxy.recordings)
        (recording,) = proxy.recordings
        assert len(recording) > 1_000_000
        await until(lambda: alice.stats["Bob"].connected and bob.stats["Alice"].connected)
        port = alice._engine.party("Bob").port
        if not while_connected:
            proxy.black_hole()
            proxy.cut_all()
            await until(lambda: not alice.stats["Bob"].connected and not bob.stats["Alice"].connected)
        received = bob.stats["Alice"].messages_received
        for end in (len(recording), len(recording) // 2, 1000, 400):
            await proxy.replay(recording[:end], port)
        assert Log(caplog).lines("its handshake is a recording of an earlier one")
        assert bob.stats["Alice"].messages_received == received
        proxy.heal()
        # Exactly what was sent is there, and the conversation goes on, with nothing heard of a restart.
        sending = asyncio.ensure_future(alice.send("Bob", "after", "x"))
        assert [await bob.recv("Alice", "x") for _ in range(10)] == list(range(10))
        assert await bob.recv("Alice", "x") == "after"
        assert await bob.recv("Alice") == bytes(1_000_000)
        assert await alice.recv("Bob") == "back"
        await sending
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", "x", timeout=0)
