"""Parties in processes of their own: short programs that say line by line what they do."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCAL = "127.0.0.1"
LINE = 20.0
"""Seconds to wait for a line at most: it comes in time, or something is wrong."""

_PRELUDE = """
import logging, sys
from mpccomm import *
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
sys.stdout.reconfigure(line_buffering=True)
def say(*words):
    # One piece: the log is written from another thread.
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
def party(name, port, addr="127.0.0.1", **others):
    pool = SyncPool(name=name)
    pool.add_http_server(port, addr)
    for other, at in others.items():
        pool.add_http_client(other, *(at if isinstance(at, tuple) else (addr, at)))
    return pool
"""


_FIRST_PORT, _PORTS = 20_000, 1_500
"""The ports of one worker. Systems give higher ones to those who dial, which thousands do while other tests run."""
_taken = itertools.count(os.getpid())


def free_ports(count: int) -> list[int]:
    """Ports at which no server listens, nor will before long."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    found: list[int] = []
    while len(found) < count:
        port = _FIRST_PORT + worker * _PORTS + next(_taken) % _PORTS
        with socket.socket() as sock, suppress(OSError):
            sock.bind((LOCAL, port))
            found.append(port)
    return found


class Actor:
    """A running program, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[str] = []

    async def line(self, start: str, limit: float = LINE) -> str:
        """Wait for a line that starts so; what follows that start. Lines before it are kept in ``said``."""
        assert self._process.stdout is not None
        what = "ended"
        try:
            async with asyncio.timeout(limit):
                while raw := await self._process.stdout.readline():
                    line = raw.decode().rstrip("\n")
                    self.said.append(line)
                    if line.startswith(start):
                        return line[len(start) :].strip()
        except TimeoutError:
            what = f"{limit:.0f} s passed"
        raise AssertionError(f"{what} without {start!r}; it said:\n" + "\n".join(self.said))

    async def end(self) -> int:
        """Wait for the program to end by itself; its exit code."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LINE):
            while raw := await self._process.stdout.readline():
                self.said.append(raw.decode().rstrip("\n"))
            return await self._process.wait()

    def heard(self, part: str) -> list[str]:
        """The lines so far with that in them."""
        return [line for line in self.said if part in line]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        self._process.kill()
        await self.end()


@asynccontextmanager
async def act(program: str, *within: str) -> AsyncIterator[Actor]:
    """Run a program, by the command ``within`` if there is one; it is killed if it is still there at the end."""
    process = await asyncio.create_subprocess_exec(
        *within,
        sys.executable,
        *("-X", "dev", "-W", "error", "-c", _PRELUDE + textwrap.dedent(program)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    actor = Actor(process)
    try:
        yield actor
    finally:
        if process.returncode is None:
            process.kill()
        await actor.end()
