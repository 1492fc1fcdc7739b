"""What a recorded run would have taken: exactly, for records that are made up, and as far as it depends on lines for real ones."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Thread

import pytest

from mpccomm import MemoryNetwork, Pool, SyncPool
from mpccomm.line import HEADERS, SEGMENT, Line
from mpccomm.trace.estimate import Estimate, estimate
from mpccomm.trace.record import PartyRecord, Phase, Receive, Record, Send, Wait
from tests.timing import UNIT
from tests.trace.records import party

MS = 1_000_000
FAR = 100.0
"""Seconds of a round trip: beside that it does not matter how busy the machine is."""


def over(record: Record, line: Line) -> Estimate:
    return estimate(record, lambda one, other: line)


def asend(of: PartyRecord, at: int, number: int, *, size: int = 100, wait: int = 0) -> None:
    """A send that takes a millisecond of encoding; ``wait``: how long its delivery is waited for."""
    delivered = at + (1 + (wait or 2)) * MS
    of.sends.append(Send(0, number, str(number), size, 0, at, at + MS, delivered, delivered if wait else at + MS))
    if wait:
        of.waits.append(Wait(0, at + MS, delivered, [0], []))


def recv(of: PartyRecord, number: int, arrived: int, asked: int, *, size: int = 100) -> None:
    """A receive that takes a millisecond of decoding, after the wait for it, if there was one."""
    taken = max(arrived, asked)
    if asked < arrived:
        of.waits.append(Wait(0, asked, arrived, [], [0]))
    of.receives.append(Receive(0, number, str(number), size, 0, min(asked, taken), arrived, taken, taken + MS))


def two() -> tuple[PartyRecord, PartyRecord, Record]:
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    return alice, bob, Record([alice, bob])


def test_there_and_back() -> None:
    alice, bob, record = two()
    asend(alice, 0, 0)  # 0 to 1 ms
    recv(bob, 0, arrived=2 * MS, asked=0)  # 2 to 3 ms
    asend(bob, 5 * MS, 0)  # 2 ms later, to 6 ms
    recv(alice, 0, arrived=7 * MS, asked=MS)  # 7 to 8 ms
    same = over(record, Line())
    assert same.recorded == same.estimated == pytest.approx(0.008)
    far = over(record, Line(rtt=0.1))
    assert far.estimated == pytest.approx(0.108)
    assert far.path.messages == 2
    assert far.path.travelling == pytest.approx(0.1)
    assert far.path.handling == pytest.approx(0.002)
    assert far.path.computing == pytest.approx(0.006)
    assert far.path.acknowledgements == 0
    assert sum(far.path[2:]) == pytest.approx(far.estimated)
    # The wait of the other one began when it always did.
    assert over(record, Line(rtt=0.1, jitter=0.05)).estimated == pytest.approx(0.108)


def test_a_message_waits_for_those_before_it_on_the_line() -> None:
    alice, bob, record = two()
    size = 100 * SEGMENT - 50
    asend(alice, 0, 0, size=size)
    asend(alice, MS, 1, size=size)
    recv(bob, 0, arrived=2 * MS, asked=0, size=size)
    recv(bob, 1, arrived=3 * MS, asked=3 * MS, size=size)  # here at once, when it was recorded
    onto = 100 * (SEGMENT + HEADERS) / 1e6
    slow = over(record, Line(rtt=0.2, rate=1e6))
    # Encoding, both onto the line, the way, handling, decoding.
    assert slow.estimated == pytest.approx(0.001 + 2 * onto + 0.1 + 0.001 + 0.001, abs=0.001)
    assert slow.path.line == pytest.approx(2 * onto, abs=0.0011)


def test_a_send_that_waits_takes_a_round_trip_and_others_do_not() -> None:
    for wait, trips in ((2, 3), (0, 0.5)):
        alice, bob, record = two()
        for number in range(3):
            asend(alice, 10 * number * MS, number, wait=wait)
            recv(bob, number, arrived=(10 * number + 2) * MS, asked=10 * number * MS)
        assert over(record, Line(rtt=FAR)).estimated == pytest.approx(trips * FAR, abs=0.1)


def test_phases() -> None:
    alice, bob, record = two()
    alice.phases.append(Phase("online", 0, 2 * MS, 9 * MS))
    asend(alice, 3 * MS, 0)
    recv(bob, 0, arrived=5 * MS, asked=0)
    asend(bob, 6 * MS, 0)
    recv(alice, 0, arrived=7 * MS, asked=4 * MS)
    (phase,) = over(record, Line(rtt=0.1)).phases
    assert phase.path == "online"
    assert phase.recorded == pytest.approx(0.007)
    assert phase.estimated == pytest.approx(0.1 + 0.007, abs=0.001)


def test_a_phase_of_several_tasks_counts_once() -> None:
    alice, bob, record = two()
    stays = [(2, 9), (2, 8), (12, 14), (3, 4)]
    alice.lanes[:] = [f"thread {number}" for number in range(len(stays))]
    for lane, (began, ended) in enumerate(stays):
        alice.phases.append(Phase("online", lane, began * MS, ended * MS))
    asend(alice, 3 * MS, 0)
    recv(bob, 0, arrived=5 * MS, asked=0)
    (phase,) = over(record, Line()).phases
    assert phase.recorded == pytest.approx(0.009)
    assert phase.estimated <= 0.010


def test_nothing_recorded() -> None:
    with pytest.raises(ValueError, match="no call"):
        over(Record([party("Alice")]), Line())


def test_a_run_that_was_recorded_over_a_line() -> None:
    alice, bob, record = two()
    for number in range(3):
        asend(alice, 200 * number * MS, number)
        recv(bob, number, arrived=(200 * number + 51) * MS, asked=(200 * number + 1) * MS)
        alice.sends[-1] = alice.sends[-1]._replace(delivered=(200 * number + 101) * MS)
    # Alice waits 200 ms after each by herself; the way of the last one is shorter.
    assert over(record, Line(rtt=0.1)).estimated == pytest.approx(over(record, Line()).estimated + 0.05, abs=0.001)


# -- real programs -----------------------------------------------------------------------------------------------------


async def openings(pool: Pool) -> None:
    """Ten rounds, one way each."""
    for _ in range(10):
        for other in pool.parties:
            pool.asend(other, bytes(100))
        await pool.recv_all()


async def tasks(pool: Pool) -> None:
    """Many at the same time, three rounds each; what is received is received in tasks of their own."""

    async def multiply(number: int) -> None:
        for depth in range(3):
            for other in pool.parties:
                pool.asend(other, bytes(100), f"{number} {depth}")
            await asyncio.gather(*(pool.recv(other, f"{number} {depth}") for other in pool.parties))

    await asyncio.gather(*map(multiply, range(10)))


async def delivered(pool: Pool) -> None:
    """Two broadcasts that wait until the others have them, and one message."""
    for _ in range(2):
        await pool.broadcast(bytes(100))
        await pool.recv_all()
    if pool.name == "alice":
        await pool.send("bob", 1)
    elif pool.name == "bob":
        await pool.recv("alice")


@pytest.mark.parametrize(("program", "trips"), [(openings, 5), (tasks, 1.5), (delivered, 3)])
async def test_round_trips_of_tasks(program: Callable[[Pool], Awaitable[None]], trips: float) -> None:
    network = MemoryNetwork()
    pools = [Pool(name=name, network=network) for name in ("alice", "bob", "carol")]
    network.connect(*pools)
    await asyncio.gather(*(pool.wait_ready(100 * UNIT) for pool in pools))
    traces = [pool.trace() for pool in pools]
    await asyncio.gather(*map(program, pools))
    await asyncio.gather(*(pool.shutdown(100 * UNIT) for pool in pools))
    record = Record([trace.record.parties[0] for trace in traces])
    found = over(record, Line(rtt=FAR))
    assert found.estimated == pytest.approx(trips * FAR, abs=10 * UNIT + found.recorded)
    assert sum(found.path[2:]) == pytest.approx(found.estimated)


def in_threads(pool: SyncPool) -> None:
    """Two threads for each other party: one of three rounds, one of one."""

    # A thread that begins when another has ended may be taken for the same.
    together = Barrier(2 * len(pool.parties))

    def talk(other: str, rounds: int) -> None:
        together.wait()
        for number in range(rounds):
            pool.asend(other, number, f"{rounds} {number}")
            pool.recv(other, f"{rounds} {number}")

    threads = [Thread(target=talk, args=(other, rounds)) for other in pool.parties for rounds in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def a_ring(pool: SyncPool) -> None:
    """Twice around."""
    names = sorted([*pool.parties, str(pool.name)])
    me = names.index(str(pool.name))
    for _ in range(2):
        if me:
            pool.asend(names[(me + 1) % 3], pool.recv(names[me - 1]))
        else:
            pool.asend(names[1], 0)
            pool.recv(names[2])


@pytest.mark.parametrize(("program", "trips"), [(in_threads, 1.5), (a_ring, 3)])
def test_round_trips_of_threads(program: Callable[[SyncPool], None], trips: float) -> None:
    network = MemoryNetwork()
    with ExitStack() as stack:
        pools = [stack.enter_context(SyncPool(name=name, network=network)) for name in ("alice", "bob", "carol")]
        network.connect(*pools)
        executor = stack.enter_context(ThreadPoolExecutor(3))
        list(executor.map(lambda pool: pool.wait_ready(100 * UNIT), pools))
        traces = [pool.trace() for pool in pools]
        list(executor.map(program, pools))
    record = Record([trace.record.parties[0] for trace in traces])
    found = over(record, Line(rtt=FAR))
    assert found.estimated == pytest.approx(trips * FAR, abs=10 * UNIT + found.recorded)
    assert sum(found.path[2:]) == pytest.approx(found.estimated)
