"""Many parties on one machine, each a process, everybody connected with everybody: how soon, and what they cost when idle.

    python benchmarks/mesh.py [--parties N] [--seconds S] [--smoke]

Each process says when it has imported the library; the clock starts with the last one, and stops when all are ready.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sidebyside.run import free_ports

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
_TIME_LIMIT = 60.0
_BOUNDS = {"up": 10.0, "cpu": 0.4, "memory": 12.0}

PARTY = """
import resource, sys, time
from mpccomm import SyncPool

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

me, *ports = map(int, sys.argv[1:])
imported = resident()
print("imported", flush=True)
sys.stdin.readline()
pool = SyncPool(name=str(me))
pool.add_http_server(ports[me], "127.0.0.1")
for other, port in enumerate(ports):
    if other != me:
        pool.add_http_client(str(other), "127.0.0.1", port)
pool.wait_ready(60)
print("ready", flush=True)
seconds = float(sys.stdin.readline())
cpu, start = time.process_time(), time.monotonic()
time.sleep(seconds)
print((time.process_time() - cpu) / (time.monotonic() - start) * 100, resident() - imported, flush=True)
sys.stdin.readline()
pool.shutdown()
"""


@dataclass(frozen=True)
class Outcome:
    """Seconds until all were ready; then per party: percent of a core, and MiB above those of the import."""

    up: float
    cpu: list[float]
    memory: list[float]


def measure(parties: int, seconds: float) -> Outcome:
    """Bring them up, let them be idle for so long, take them down."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        ports = [str(port) for port in stack.enter_context(free_ports(parties))]
        processes = []
        for me in range(parties):
            command = [sys.executable, "-c", PARTY, str(me), *ports]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
            )
            stack.callback(_end, process)
            processes.append(process)
        _hear(processes)
        start = time.monotonic()
        _say(processes, "go")
        _hear(processes)
        up = time.monotonic() - start
        time.sleep(min(seconds, 2.0))  # until the heartbeats have settled
        _say(processes, str(seconds))
        figures = [[float(word) for word in line.split()] for line in _hear(processes)]
        _say(processes, "end")
        for process in processes:
            process.wait(_TIME_LIMIT)
    return Outcome(up, [cpu for cpu, _ in figures], [memory for _, memory in figures])


def _say(processes: Sequence[subprocess.Popen[str]], word: str) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{word}\n")


def _hear(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    lines = []
    for process in processes:
        assert process.stdout is not None
        lines.append(process.stdout.readline())
        if not lines[-1]:
            raise SystemExit("a party ended early")
    return lines


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        if process.poll() is None:
            process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parties", type=int, default=30, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="idle for so long (default: %(default)g)")
    parser.add_argument("--smoke", action="store_true", help="three parties, idle for a moment")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("memory is read from /proc, which only Linux has")
        return 0
    if arguments.smoke:
        arguments.parties, arguments.seconds = 3, 0.5
    outcome = measure(arguments.parties, arguments.seconds)
    links = arguments.parties * (arguments.parties - 1) // 2
    print(f"{arguments.parties} parties, {links} links, {os.cpu_count()} cores")
    for what, values, unit, bound in (
        ("all ready, after the last import", [outcome.up], "s", _BOUNDS["up"]),
        ("idle, per party", outcome.cpu, "% of a core", _BOUNDS["cpu"]),
        ("memory above the import, per party", outcome.memory, "MiB", _BOUNDS["memory"]),
    ):
        holds = "yes" if max(values) <= bound else "NO"
        print(f"  {what:36} {median(values):8.2f} (most: {max(values):.2f}) {unit}, <= {bound:g}  {holds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
