"""The time unit of the tests: all waits are multiples of it."""

import os
import time

import pytest

UNIT: float = float(os.environ.get("MPCCOMM_TEST_TIME_UNIT", "0.1"))
"""Seconds. What happens at once on an idle machine has certainly happened within ten of them on a slow or busy one,
where the environment variable ``MPCCOMM_TEST_TIME_UNIT`` makes it longer."""

LONG = pytest.mark.skipif(
    not os.environ.get("MPCCOMM_TEST_LONG"), reason="the long form; the environment variable MPCCOMM_TEST_LONG runs it"
)
"""Marks tests that take too long for a normal run."""

TURNS = 300_000
IN_TURNS = 0.05
"""Seconds that the processor takes for them, of the machine that bounds of time were set for."""


def slowness() -> float:
    """How many times as long the processor takes now, at least 1: other machines, or others on this one, may halve its speed."""
    start = time.process_time()
    there: dict[int, tuple[int, str]] = {}
    for turn in range(TURNS):
        there[turn & 1023] = turn, str(turn)
    return max((time.process_time() - start) / IN_TURNS, 1.0)
