"""What tests need, and may be missing: then they are skipped, and the reason says how to get it."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import pytest


def library(name: str, extra: str = "tests") -> Any:
    """Return the module, or skip with the extra that has it."""
    return pytest.importorskip(name, reason=missing(name.partition(".")[0], extra=extra))


def libraries(names: Sequence[str], extra: str) -> None:
    """Skip unless all are installed; they are not imported."""
    if absent := [name for name in names if find_spec(name) is None]:
        pytest.skip(missing(*absent, extra=extra))


def missing(*names: str, extra: str) -> str:
    """Return the reason for a skip."""
    return f"not installed: {', '.join(names)}; python -m pip install --editable '.[{extra}]'"
