"""Two blocking pools that know each other, and programs that run as processes of their own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from mpccomm import Settings, SyncPool
from tests.pools import LOCAL, quick
from tests.programs import rest, running


@contextmanager
def duo(*, settings: Settings | None = None) -> Iterator[tuple[SyncPool, SyncPool]]:
    """Alice and Bob."""
    settings = settings or quick()
    with SyncPool(name="Alice", settings=settings) as alice, SyncPool(name="Bob", settings=settings) as bob:
        introduce(alice, bob)
        yield alice, bob


def introduce(alice: SyncPool, bob: SyncPool) -> None:
    alice.add_http_server(0, LOCAL)
    bob.add_http_server(0, LOCAL)
    assert alice.port is not None
    assert bob.port is not None
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)


PREAMBLE = """
import os, signal, sys, threading, time
from mpccomm import *
me = SyncPool(name="me")
me.add_http_server(0, "127.0.0.1")
me.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
print(me.port, flush=True)
"""


def environment() -> dict[str, str]:
    """That of a program which imports what these tests import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}


def program(
    body: str, port: int | None, *options: str, preamble: str = PREAMBLE
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A Python program as a process; with the preamble, it has a pool ``me`` and prints its port in the first line."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "ignore::DeprecationWarning",
            *options,
            "-c",
            preamble + textwrap.dedent(body),
            str(port),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    return running(process)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that the program prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@contextmanager
def peer_of(body: str, *options: str, preamble: str = PREAMBLE) -> Iterator[tuple[SyncPool, subprocess.Popen[str]]]:
    """A pool here, and a program whose pool ``me`` knows it as ``peer``; here it is ``program``."""
    with SyncPool(settings=quick()) as pool:
        pool.add_http_server(0, LOCAL)
        with program(body, pool.port, *options, preamble=preamble) as process:
            pool.add_http_client("program", LOCAL, int(line(process)))
            yield pool, process


def ends(process: subprocess.Popen[str], limit: float) -> tuple[int, str, str]:
    """Return exit code, output and errors of a program that ends within some seconds."""
    output, errors = rest(process, limit)
    # What the development mode says of a slow step is about this machine.
    lines = [text for text in errors.splitlines(keepends=True) if not text.startswith("Executing <")]
    return process.returncode, output, "".join(lines)
