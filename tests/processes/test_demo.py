"""The demo as its user runs it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpccomm.cli.demo import PARTIES, compute

ROOT = Path(__file__).parents[2]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Not all of -X dev: asyncio's debug mode would say on stderr that a busy machine was slow.
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "mpccomm", "demo", *arguments]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("length", [1, 10_000])
def test_demo(length: int) -> None:
    ended = demo("--length", str(length))
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    rows = re.findall(r"^(\w+) +(\w+) +(\d+) +([\d,]+)$", ended.stdout, re.MULTILINE)
    assert {row[:2] for row in rows} == {(a, b) for a in PARTIES for b in PARTIES if a != b}
    for *_, messages, size in rows:
        # A share and a partial sum, eight bytes for each number, and little else.
        assert messages == "2"
        assert 16 * length <= int(size.replace(",", "")) <= 16 * length + 2000
    assert "equals the sum in the clear" in ended.stdout
    assert "No party saw another's vector" in ended.stdout


def test_a_party_that_fails_ends_the_demo(capfd: pytest.CaptureFixture[str]) -> None:
    vectors = {"Alice": np.ones(3), "Bob": np.array(["not a number"]), "Carol": np.ones(3)}
    with pytest.raises(RuntimeError, match="ended before it was done"):
        compute(vectors)
    assert "Process Bob" in capfd.readouterr().err
