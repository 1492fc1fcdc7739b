"""Log lines that others can cause."""

import logging

import pytest

from mpccomm.logs import EventLog
from mpccomm.transport.log_throttle import LogThrottle


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_each_line_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spoken = [(0.0, "a"), (1.0, "a"), (2.0, "b"), (59.0, "a"), (61.0, "a"), (61.5, "b"), (62.0, "b")]
    times = iter([at for at, _ in spoken])
    throttle = LogThrottle(EventLog(), lambda: next(times))
    for _, text in spoken:
        throttle.log(text)
    assert [(record.getMessage(), record.levelname) for record in caplog.records] == [
        ("a", "WARNING"),
        ("a, again", "DEBUG"),
        ("b", "WARNING"),
        ("a, again", "DEBUG"),
        ("a", "WARNING"),
        ("b, again", "DEBUG"),
        ("b", "WARNING"),
    ]


def test_a_flood_of_one_kind_is_bounded_and_counted_and_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    throttle = LogThrottle(EventLog(), lambda: now)
    for number in range(5000):
        throttle.log(f"refused {number}", kind="refused", who=str(number))
    assert warnings(caplog) == [f"refused {number}" for number in range(8)]
    throttle.log("something else", kind="other")
    assert warnings(caplog)[-1] == "something else"
    now = 60.0
    throttle.log("refused once more", kind="refused", who="x")
    assert warnings(caplog)[-1] == "refused once more (4,992 more of this kind were not logged)"


def test_one_caller_is_one_line_whatever_it_says(caplog: pytest.LogCaptureFixture) -> None:
    throttle = LogThrottle(EventLog(), lambda: 0.0)
    for number in range(100):
        throttle.log(f"10.0.0.1 says {number}", kind="words", who="10.0.0.1")
    assert warnings(caplog) == ["10.0.0.1 says 0"]


def test_a_line_has_a_length(caplog: pytest.LogCaptureFixture) -> None:
    LogThrottle(EventLog()).log("begins " + "x" * 30_000 + " ends")
    (line,) = warnings(caplog)
    assert len(line) < 700
    assert line.startswith("begins")
    assert line.endswith("ends")


def test_what_is_remembered_is_bounded() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 10
        return now

    throttle = LogThrottle(EventLog(), clock)
    for number in range(5000):
        throttle.log(str(number))
    assert len(throttle._warned) <= 1000


def fail(where: int) -> None:
    if where:
        raise ValueError("no")
    raise ValueError("no")


def test_an_error_of_our_own_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    throttle = LogThrottle(EventLog(), lambda: now)
    for where in (0, 0, 1, 0, 1):
        with pytest.raises(ValueError, match="no") as raised:
            fail(where)
        throttle.failure("a part of the pool failed", raised.value)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "in fail" in caplog.text
    now = 61.0
    throttle.failure("a part of the pool failed", raised.value)
    assert len(caplog.records) == 3
