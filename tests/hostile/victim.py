"""The pool under attack, in a process of its own, and the honest party that talks to it, in another.

``python -m tests.hostile.victim LOOP WIRE FOLDER``: prints the port; at the end of its input, what it went through.
``python -m tests.hostile.victim honest LOOP WIRE FOLDER PORT SECONDS``: prints percentiles of its round trips.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path

from mpccomm import Pool

LOCAL = "127.0.0.1"
HONEST_PORT, HOSTILE_PORT = 1, 2
"""What the two declare as the ports of their servers, which they do not have."""


class Count(logging.Handler):
    """Counts lines of the log, from WARNING on, and their characters."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = 0
        self.longest = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.longest = max(self.longest, len(record.getMessage()))


def pool_of(name: str, wire: str, folder: str) -> Pool:
    if wire == "plain":
        return Pool(name=name)
    return Pool(Path(folder, f"{name}.key"), Path(folder, f"{name}.pem"), name=name)


def pin(name: str, wire: str, folder: str) -> str | None:
    return None if wire == "plain" else str(Path(folder, f"{name}.pem"))


async def victim(wire: str, folder: str) -> None:
    count = Count()
    logging.getLogger().addHandler(count)
    pool = pool_of("victim", wire, folder)
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("honest", LOCAL, HONEST_PORT, pin("honest", wire, folder))
    pool.add_http_client("hostile", LOCAL, HOSTILE_PORT, pin("hostile", wire, folder))
    turns = Turns()
    echo = asyncio.ensure_future(answer(pool, turns))
    print(json.dumps(pool.port), flush=True)
    most = 0
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    while not ended.done():
        most = max(most, len(os.listdir("/proc/self/fd")))
        await asyncio.sleep(0.05)
    echo.cancel()
    found = {
        "turn_ms": turns.longest * 1000,
        "memory_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "descriptors": most,
        "lines_per_s": count.lines / (time.monotonic() - started),
        "longest_line": count.longest,
    }
    print(json.dumps(found), flush=True)
    await pool.shutdown(0)


class Turns:
    """Notes the longest turn of the loop, in seconds of its own processor time: what others do on the machine does not count."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._since = time.thread_time()
        self._look()

    def _look(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._since)
        self._since = now
        asyncio.get_running_loop().call_later(0.001, self._look)


async def answer(pool: Pool, turns: Turns) -> None:
    for _ in range(20):
        await pool.send("honest", await pool.recv("honest"))
    # What is loaded with the first message is here.
    turns.longest = 0.0
    while True:
        await pool.send("honest", await pool.recv("honest"))


async def honest(wire: str, folder: str, port: int, seconds: float) -> None:
    pool = pool_of("honest", wire, folder)
    # It has no server: what it declares is that it can't be dialled, so it has to be known by where it calls from.
    pool.add_http_server(0, LOCAL, HONEST_PORT)
    pool.add_http_client("victim", LOCAL, port, pin("victim", wire, folder))
    await pool.wait_ready(30)
    print("ready", flush=True)
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        await pool.send("victim", b"x" * 100, timeout=30)
        await pool.recv("victim", timeout=30)
        took.append(time.perf_counter() - start)
        await asyncio.sleep(0.005)
    took.sort()
    found = {
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
        "round_trips": len(took),
    }
    print(json.dumps(found), flush=True)
    await pool.shutdown(0)


def run(loop: str, main: object) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)  # type: ignore[arg-type]
    else:
        asyncio.run(main)  # type: ignore[arg-type]


if __name__ == "__main__":
    if sys.argv[1] == "honest":
        run(sys.argv[2], honest(sys.argv[3], sys.argv[4], int(sys.argv[5]), float(sys.argv[6])))
    else:
        run(sys.argv[1], victim(sys.argv[2], sys.argv[3]))
