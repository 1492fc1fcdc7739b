"""Emulated lines beside those that the kernel makes narrow: what goes over either takes the same time."""

import json
import subprocess
import sys
from contextlib import AbstractContextManager

import pytest

from mpccomm.line import Line
from mpccomm.transport.forwarder import Route, description
from tests.namespaces.conftest import Machine
from tests.programs import running
from tests.timing import LONG

Cables = tuple[Machine, Machine, Machine, Machine]
PORT = 9100
SINK = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as sock:
    print("ready", flush=True)
    connection, _ = sock.accept()
    with connection:
        while connection.recv(1 << 18):
            pass
        connection.sendall(b"x")
"""
SOURCE = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    size = int(sys.argv[3])
    start = time.monotonic()
    sock.sendall(bytes(size))
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
    print(time.monotonic() - start)
"""


def process(*command: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def seconds(
    within: tuple[str, ...], sink: tuple[str, int], there: tuple[str, ...], where: tuple[str, int], size: int
) -> float:
    """What it takes from one process to another."""
    with process(*there, sys.executable, "-c", SINK, *map(str, sink)) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "ready\n"
        command = [*within, sys.executable, "-c", SOURCE, *map(str, where), str(size)]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=100
        )
    return float(ended.stdout)


def compared(cables: Cables, megabits: float, size: int) -> float:
    """The time on an emulated line by that on the kernel's."""
    here, _, there, _ = cables
    with here.narrow(f"{megabits:g}mbit"):
        real = seconds(here.within, (there.address, PORT), there.within, (there.address, PORT), size)
    route = Route(0, True, ("127.0.0.1", PORT + 1), "127.0.0.1", ("127.0.0.1", PORT))
    with process(*here.within, "ip", "link", "set", "lo", "up") as up:
        assert up.wait(10) == 0
    with process(*here.within, sys.executable, "-m", "mpccomm.transport.forwarder") as forwarder:
        assert forwarder.stdin is not None
        assert forwarder.stdout is not None
        forwarder.stdin.write(description([Line(rate=megabits * 125_000)], [route]) + "\n")
        forwarder.stdin.flush()
        assert json.loads(forwarder.stdout.readline()) == [PORT + 1]
        emulated = seconds(here.within, ("127.0.0.1", PORT), here.within, ("127.0.0.1", PORT + 1), size)
        forwarder.stdin.close()
        assert forwarder.wait(10) == 0
    print(f"{megabits:g} mbit: {emulated:.3f} s, by the kernel {real:.3f}: {emulated / real:.3f}")  # noqa: T201
    return emulated / real


def test_as_fast_as_the_kernel_has_it(cables: Cables) -> None:
    # What else the machine does makes one of them slower now and then.
    assert any(0.9 < compared(cables, 40, 4_000_000) < 1.1 for _ in range(5))


@LONG
@pytest.mark.parametrize("megabits", [1, 10, 100])
def test_within_5_percent_of_the_kernel(cables: Cables, megabits: float) -> None:
    # So much that what the kernel's bucket holds, which is sent at once, does not count.
    ratios = [compared(cables, megabits, int(megabits * 250_000)) for _ in range(3)]
    assert min(abs(ratio - 1) for ratio in ratios) < 0.05
