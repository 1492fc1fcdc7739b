"""Blocking pools, each on a loop of its own, in a network in memory."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mpccomm import Limits, MemoryNetwork, PartyAbortedError, SyncPool
from tests.pools import quick
from tests.timing import UNIT

LIMIT = 100 * UNIT
NAMES = ("alice", "bob", "carol")


def test_exactly_once_from_thread_to_thread() -> None:
    network = MemoryNetwork(5, loss=0.2, cut_every=10_000, delay=(0, UNIT / 100), repeat=0.5)
    made = [SyncPool(name=name, network=network, settings=quick(Limits(frame_size=4096))) for name in NAMES]
    network.connect(*made)

    def party(pool: SyncPool) -> None:
        others = [name for name in NAMES if name != pool.name]
        for number in range(15):
            pool.broadcast((pool.name, number, bytes(3000)), timeout=LIMIT)
            assert pool.recv_all(timeout=LIMIT) == [(name, (name, number, bytes(3000))) for name in others]

    try:
        with ThreadPoolExecutor(len(made)) as executor:
            list(executor.map(party, made))
        assert {fault.what for fault in network.faults} >= {"cut"}
    finally:
        with ThreadPoolExecutor(len(made)) as executor:
            list(executor.map(SyncPool.shutdown, made))


def test_a_partition_and_an_abort() -> None:
    network = MemoryNetwork()
    with (
        SyncPool(name="alice", network=network, settings=quick()) as alice,
        SyncPool(name="bob", network=network, settings=quick()) as bob,
    ):
        network.connect(alice, bob)
        alice.wait_ready(LIMIT)
        network.partition("bob")
        handle = alice.asend("bob", "across")
        with pytest.raises(TimeoutError):
            bob.recv("alice", timeout=UNIT)
        network.heal()
        assert bob.recv("alice", timeout=LIMIT) == "across"
        handle.result(LIMIT)
        alice.abort("enough")
        with pytest.raises(PartyAbortedError, match="enough"):
            bob.recv("alice", timeout=LIMIT)
