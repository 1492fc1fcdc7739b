"""The one time unit of the tests: what waits, waits for a multiple of it."""

import os

UNIT: float = float(os.environ.get("MPCCOMM_TEST_TIME_UNIT", "0.1"))
"""Seconds. What happens at once on an idle machine has certainly happened within ten of them on a slow or busy one,
where the environment variable ``MPCCOMM_TEST_TIME_UNIT`` makes it longer."""
