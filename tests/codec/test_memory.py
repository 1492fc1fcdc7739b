"""How much memory large values take, measured in a process of its own that holds nothing else."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.timing import LONG

ROOT = Path(__file__).parents[2]

SCRIPT = """
    import resource
    import numpy as np
    from mpccomm.codec import decode, encode
    size = {size}
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    decode(encode(np.zeros(10)).segments)
    {make}
    before = peak()
    {work}
    print((peak() - before) / size)
"""


def measure(size: int, make: str, work: str) -> float:
    script = textwrap.dedent(SCRIPT).format(size=size, make=make, work=work)
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not run.stderr
    return float(run.stdout)


ARRAY = "value = np.ones(size // 8)"


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize(
    ("make", "work", "limit"),
    [
        (ARRAY, "encode(value)", 0.05),
        (ARRAY, "encode(value, snapshot=True)", 1.05),
        ("value = b'x' * size", "encode(value, snapshot=True)", 0.05),
        ("value = bytearray(size); value[:] = b'x' * size", "encode(value)", 0.05),
        (
            "envelope, data = encode(np.ones(size // 8)).segments; data = bytearray(data)",
            "received = decode([envelope, memoryview(data)])",
            0.05,
        ),
        (
            "envelope, data = encode(b'x' * size).segments; data = memoryview(bytearray(data))",
            "received = decode([envelope, data])",
            1.05,
        ),
        (
            "from mpccomm.memory import Memory; envelope, data = encode(b'x' * size).segments; data = Memory(bytes(data))",
            "received = decode([envelope, data])",
            0.05,
        ),
        (
            "from mpccomm.memory import Memory; envelope, data = encode(np.ones(size // 8)).segments; data = Memory(bytes(data))",
            "received = decode([envelope, data])",
            0.05,
        ),
    ],
)
@pytest.mark.parametrize("size", [256 << 20, pytest.param(1 << 30, marks=[LONG, pytest.mark.timeout(300)])])
def test_peak(size: int, make: str, work: str, limit: float) -> None:
    assert measure(size, make, work) <= limit


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_peak_of_a_list() -> None:
    # In proportion, as each element costs the same; larger ones have more elements than a message may have.
    assert measure(32 << 20, "data = encode([1.5] * (size // 8)).segments", "received = decode(data)") <= 6
