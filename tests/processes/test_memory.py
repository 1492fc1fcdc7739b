"""What a large message takes at either end, in processes that hold nothing else: in multiples of its size, at the peak."""

import sys

import pytest

from tests.processes.actor import act, free_ports
from tests.timing import LONG

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is asked of /proc"),
    pytest.mark.timeout(120),
]

MIB = 2**20
GAUGE = """
import gc
import numpy as np
def memory(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(what))
class Peak:
    def __enter__(self):
        gc.collect()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak is what there is now
        self.before = memory("VmRSS")
    def __exit__(self, *_):
        say("peak", (memory("VmHWM") - self.before) / SIZE)
small = np.ones(1 << 20)
"""
ARRAY = "np.ones(SIZE // 8)"
BYTES = "b'x' * SIZE"


def sender(a: int, b: int, size: int, make: str, send: str) -> str:
    return f"""{GAUGE}
SIZE = {size}
with party("Alice", {a}, Bob={b}) as pool:
    pool.send("Bob", small)  # what is needed once is there now
    message = {make}
    pool.recv("Bob")
    with Peak():
        {send}
    pool.recv("Bob")
"""


def receiver(a: int, b: int, size: int, receive: str) -> str:
    return f"""{GAUGE}
SIZE = {size}
with party("Bob", {b}, Alice={a}) as pool:
    pool.recv("Alice")
    pool.send("Alice", "ready")
    with Peak():
        message = {receive}
    pool.send("Alice", "done")
"""


@pytest.mark.parametrize(
    ("make", "send", "receive", "sends", "receives"),
    [
        (ARRAY, 'pool.send("Bob", message)', 'pool.recv("Alice")', 0.05, 1.05),
        (ARRAY, 'pool.asend("Bob", message).result()', 'pool.arecv("Alice").result()', 1.05, 1.05),
        (BYTES, 'pool.send("Bob", message)', 'pool.recv_all(["Alice"])', 0.05, 2.05),
    ],
    ids=["an array", "a snapshot", "bytes"],
)
@pytest.mark.parametrize("size", [128 * MIB, pytest.param(1024 * MIB, marks=LONG)])
async def test_peak(size: int, make: str, send: str, receive: str, sends: float, receives: float) -> None:
    a, b = free_ports(2)
    async with act(sender(a, b, size, make, send)) as alice, act(receiver(a, b, size, receive)) as bob:
        assert float(await alice.line("peak")) <= sends
        assert float(await bob.line("peak")) <= receives
        assert await alice.end() == 0
        assert await bob.end() == 0
