"""A plug-in of pytest that sends what pandas' own tests compare: `pytest -p tests.codec.pandas_suite --pyargs pandas.tests.frame`.

Each frame, series, index or array that is handed to one of pandas' checks is encoded. What is accepted has to be decoded, and
to be what was sent. The faults are at the end of the output, or as JSON in the file that MPCCOMM_TEST_PANDAS_FAULTS names.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
import pandas._testing as checks
import pytest

from mpccomm.codec import decode, encode, pandas_zones
from mpccomm.errors import EncodingError
from tests.codec.exactness import assert_same

CHECKS = (
    "assert_frame_equal",
    "assert_series_equal",
    "assert_index_equal",
    "assert_extension_array_equal",
    "assert_equal",
)
LARGEST = 10_000
"""Elements."""
KINDS = (pd.DataFrame, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)

found: Counter[str] = Counter()
faults: list[str] = []
zones: list[Any] = []
"""Those of other libraries in the value at hand: of those that pandas < 3 makes of names, for one."""


def look_at(value: Any) -> None:
    """Send it, and note what is wrong."""
    if not isinstance(value, KINDS) or type(value).__module__.startswith("pandas.tests") or value.size > LARGEST:
        return
    where = os.environ.get("PYTEST_CURRENT_TEST", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zones.clear()
        try:
            segments = encode(value).segments
        except EncodingError:
            found["refused"] += 1
            return
        except Exception as error:
            faults.append(f"{where}: encode raised {error!r}")
            return
        try:
            received = decode(segments)
        except Exception as error:
            faults.append(f"{where}: accepted, but decode raised {error!r}")
            return
        try:
            assert_same(value, received)
            found["same"] += 1
        except Exception as error:
            if zones:
                found["a zone by its name"] += 1  # as which it arrives, and is said to
                return
            faults.append(f"{where}: {type(value).__name__} changed: {str(error)[:300]}")


def sending(check: Callable[..., None]) -> Callable[..., None]:
    """Have a check of pandas' send what it compares."""

    @wraps(check)
    def checking(left: Any, right: Any, *arguments: Any, **options: Any) -> None:
        look_at(left)
        return check(left, right, *arguments, **options)

    return checking


def noting(named: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Have what looks for the name of a zone of another library tell of it."""

    @wraps(named)
    def noted(zone: Any) -> Any:
        zones.append(zone)
        return named(zone)

    return noted


def pytest_configure(config: pytest.Config) -> None:
    """Take the place of the checks, before any test module has them."""
    monkeypatch = pytest.MonkeyPatch()
    config.add_cleanup(monkeypatch.undo)
    monkeypatch.setattr(pandas_zones, "_named", noting(pandas_zones._named))
    for name in CHECKS:
        setattr(checks, name, sending(getattr(checks, name)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell."""
    told = json.dumps({"found": found, "faults": faults}, indent=1)
    if path := os.environ.get("MPCCOMM_TEST_PANDAS_FAULTS"):
        Path(path).write_text(told, encoding="utf-8")
    else:
        print(told)  # noqa: T201
