"""CPU time of both ends in one process, ours and the bare lower limit in turn: what a busy machine blurs least.

python -m sidebyside.cpu [--uvloop] [--blocks N]        prints the ratios as JSON; quick.py runs it for each loop
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import median, quantiles
from typing import Any

from sidebyside.contenders import CONTENDERS
from sidebyside.contenders.base import IN_FLIGHT, Contender, Place
from sidebyside.run import ROOT, free_ports
from sidebyside.works import SMALL

BOUNDS = {
    ("uvloop", "round trip"): 2.0,
    ("asyncio", "round trip"): 1.7,
    ("uvloop", "message, 100 in flight"): 2.0,
    ("asyncio", "message, 100 in flight"): 2.0,
}
"""How many times the CPU time of the bare lower limit ours may take."""
_BLOCK = 1000
"""Round trips, or messages, in a row."""


async def _ends(name: str) -> tuple[Contender, Contender]:
    one, other = CONTENDERS[name].make(), CONTENDERS[name].make()
    with free_ports(2) as ports:
        await asyncio.gather(one.listen(Place(0, ports)), other.listen(Place(1, ports)))
    await asyncio.gather(one.connect(), other.connect())
    return one, other


async def _round_trips(one: Contender, other: Contender, count: int) -> None:
    async def echo() -> None:
        for _ in range(count):
            await other.send(0, await other.recv(0))

    echoing = asyncio.ensure_future(echo())
    for _ in range(count):
        await one.send(1, SMALL)
        await one.recv(1)
    await echoing


async def _messages(one: Contender, other: Contender, count: int) -> None:
    receiving = asyncio.ensure_future(other.recv_many(0, count))
    for _ in range(count // IN_FLIGHT):
        await one.send_together(1, SMALL, IN_FLIGHT)
    await receiving


_WORKS: dict[str, Callable[[Any, Any, int], Awaitable[None]]] = {
    "round trip": _round_trips,
    "message, 100 in flight": _messages,
}


async def _measure(blocks: int) -> dict[str, list[float]]:
    """The ratio, for each work and each pair of blocks."""
    ends = [await _ends(name) for name in ("pool", "limit")]
    ratios: dict[str, list[float]] = {}
    for what, work in _WORKS.items():
        ratios[what] = []
        for _ in range(blocks + 1):
            times = []
            for one, other in ends:
                start = time.process_time()
                await work(one, other, _BLOCK)
                times.append(time.process_time() - start)
            ratios[what].append(times[0] / times[1])
        del ratios[what][0]
    for one, other in ends:
        await asyncio.gather(one.close(), other.close())
    return ratios


def lines(blocks: int) -> Iterator[str]:
    """As a table, for both loops."""
    yield "CPU of both ends in one process, Pool / bare lower limit: median (quartiles), the bound, whether it holds"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])}
    for loop in ("uvloop", "asyncio"):
        command = [
            sys.executable,
            "-m",
            "sidebyside.cpu",
            "--blocks",
            str(blocks),
            *(["--uvloop"] * (loop == "uvloop")),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"  {loop}: {done.stderr.strip()[-500:]}"
            continue
        for what, ratios in json.loads(done.stdout).items():
            low, _, high = quantiles(ratios, n=4)
            bound = BOUNDS[loop, what]
            holds = "yes" if median(ratios) <= bound else "NO"
            yield f"  {f'{what} ({loop})':70} {median(ratios):10,.2f} ({low:,.2f} to {high:,.2f})  <= {bound:<4g}  {holds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--blocks", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.uvloop:
        import uvloop

        print(json.dumps(uvloop.run(_measure(arguments.blocks))))
    else:
        print(json.dumps(asyncio.run(_measure(arguments.blocks))))


if __name__ == "__main__":
    main()
