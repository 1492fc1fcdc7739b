"""Settings are checked when they are made: each number for itself, and those that only work together."""

import math
import sys
from dataclasses import fields

import pytest

from mpccomm.errors import ConfigurationError
from mpccomm.settings import DEFAULTS, Limits, Progress, Retry, Settings, Strangers, Timing

TABLES = [Limits, Timing, Strangers, Retry, Progress]
NUMBERS = [(table, one.name) for table in TABLES for one in fields(table) if isinstance(one.default, int | float)]


def test_the_defaults_are_good() -> None:
    assert Settings() == DEFAULTS


@pytest.mark.parametrize(("table", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("value", [-1, math.nan, -math.inf], ids=repr)
def test_numbers_that_cannot_be(table: type[Limits], name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{table.__name__}\\({name}="):
        table(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("table", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("value", ["5", b"5", True, None, [5]], ids=repr)
def test_what_is_no_number(table: type[Limits], name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{table.__name__}\\({name}="):
        table(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(box_bytes=math.inf),  # type: ignore[arg-type]
        lambda: Limits(box_messages=sys.maxsize),
        lambda: Limits(window=0),
        lambda: Limits(frame_size=2.5),  # type: ignore[arg-type]
        lambda: Timing(heartbeat=30, dead_after=30),
        lambda: Timing(dead_after=5),
        lambda: Timing(tick=math.inf),
        lambda: Settings(linger=-1),
        lambda: Settings(linger=math.inf),
        lambda: Settings(unreachable_timeout=0),
        lambda: Timing(deadlock_after=0),
    ],
)
def test_what_would_never_work(make: object) -> None:
    with pytest.raises(ConfigurationError):
        make()  # type: ignore[operator]


def test_tables_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError, match="a Timing is needed, not a dict"):
        Settings(timing={"heartbeat": 5})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a Limits is needed, not a NoneType"):
        Settings(limits=None)  # type: ignore[arg-type]
    assert Settings(progress=None).progress is None


def test_what_may_be_for_ever() -> None:
    assert Timing(waiting_notice=math.inf).waiting_notice == math.inf
