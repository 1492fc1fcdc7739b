"""What it costs to be watched: CPU time of round trips with a trace, or counted for reports, against those with neither.

    python benchmarks/watching.py [--smoke]

Turns of the three follow each other, so that what else runs on the machine meets all of them alike; of the ratios within each
round of turns the median is shown, and the quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import quantiles
from typing import TypeVar

import uvloop

from mpccomm import Pool, SyncPool
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.observer import Observers

KINDS = ("nothing", "a trace", "a report")
P = TypeVar("P", Pool, SyncPool)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to see that everything works")
    rounds = 3 if parser.parse_args().smoke else 100
    for size, trips in ((8, 100), (1_000_000, 10)):
        uvloop.run(asyncio_pools(size, trips, rounds))
        blocking_pools(size, trips, rounds)
    return 0


def watched(pools: tuple[Pool, Pool] | tuple[SyncPool, SyncPool]) -> list[Callable[[], None]]:
    """What lets nothing, a trace, or a report watch the pools from now on."""
    engines = [engine_of(pool) for pool in pools]
    parties = [party for engine in engines for party in engine.parties.values()]
    watchers: list[list[Observers | None]] = [[None, None]]
    for kind in KINDS[1:]:
        for engine in engines:
            engine.loop_owner.observers = None
            if kind == "a trace":
                engine.trace(None)
            else:
                engine.count()
        watchers.append([engine.loop_owner.observers for engine in engines])
    trails = [party.trail for party in parties]

    def let(kind: int) -> None:
        for engine, watcher in zip(engines, watchers[kind], strict=True):
            engine.loop_owner.observers = watcher
        for party, trail in zip(parties, trails, strict=True):
            party.trail = trail if KINDS[kind] == "a trace" else None

    return [lambda kind=kind: let(kind) for kind in range(len(KINDS))]  # type: ignore[misc]


def turns(rounds: int) -> Iterator[int]:
    """The kinds, each once in a round, and in another order in each."""
    for number in range(rounds):
        for place in range(len(KINDS)):
            yield (number + place) % len(KINDS)


def show(face: str, size: int, trips: int, times: list[list[float]]) -> None:
    for kind, taken in zip(KINDS, times, strict=True):
        low, middle, high = quantiles([one / base for one, base in zip(taken, times[0], strict=True)], n=4)
        micros = sorted(taken)[len(taken) // 2] / trips * 1e6
        print(f"{face}, {size:,} bytes, {kind:9} {micros:9.1f} us  {middle:6.3f} ({low:.3f} to {high:.3f})")


def pair(face: type[P]) -> tuple[P, P]:
    alice, bob = face(name="Alice"), face(name="Bob")
    for pool in (alice, bob):
        pool.add_http_server(0, "127.0.0.1")
    alice.add_http_client("Bob", "127.0.0.1", bob.port)
    bob.add_http_client("Alice", "127.0.0.1", alice.port)
    return alice, bob


async def asyncio_pools(size: int, trips: int, rounds: int) -> None:
    alice, bob = pair(Pool)
    message = bytes(size)

    async def answer() -> None:
        while True:
            await bob.send("Alice", await bob.recv("Alice"))

    async def ask(number: int) -> None:
        for _ in range(number):
            await alice.send("Bob", message)
            await alice.recv("Bob")

    async with alice, bob:
        answering = asyncio.create_task(answer())
        await ask(trips)
        times: list[list[float]] = [[] for _ in KINDS]
        kinds = watched((alice, bob))
        for kind in turns(rounds):
            kinds[kind]()
            times[kind].append(await taken(ask(trips)))
        kinds[0]()
        answering.cancel()
    show("asyncio", size, trips, times)


async def taken(work: Awaitable[None]) -> float:
    begun = time.process_time()
    await work
    return time.process_time() - begun


def blocking_pools(size: int, trips: int, rounds: int) -> None:
    alice, bob = pair(SyncPool)
    message = bytes(size)
    total = trips * (1 + rounds * len(KINDS))

    def answer() -> None:
        for _ in range(total):
            bob.send("Alice", bob.recv("Alice"))

    def ask() -> float:
        begun = time.process_time()
        for _ in range(trips):
            alice.send("Bob", message)
            alice.recv("Bob")
        return time.process_time() - begun

    with alice, bob:
        answering = threading.Thread(target=answer)
        answering.start()
        ask()
        times: list[list[float]] = [[] for _ in KINDS]
        kinds = watched((alice, bob))
        for kind in turns(rounds):
            kinds[kind]()
            times[kind].append(ask())
        kinds[0]()
        answering.join()
    show("blocking", size, trips, times)


if __name__ == "__main__":
    sys.exit(main())
