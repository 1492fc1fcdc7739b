"""The time unit of the tests: all waits are multiples of it."""

import os

import pytest

UNIT: float = float(os.environ.get("MPCCOMM_TEST_TIME_UNIT", "0.1"))
"""Seconds. What happens at once on an idle machine has certainly happened within ten of them on a slow or busy one,
where the environment variable ``MPCCOMM_TEST_TIME_UNIT`` makes it longer."""

LONG = pytest.mark.skipif(
    not os.environ.get("MPCCOMM_TEST_LONG"), reason="the long form; the environment variable MPCCOMM_TEST_LONG runs it"
)
"""Marks tests that take too long for a normal run."""
