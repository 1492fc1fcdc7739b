"""Log lines that strangers can cause."""

import logging

import pytest

from mpccomm.transport.log_throttle import LogThrottle

logger = logging.getLogger("tests.complaints")


def test_each_line_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spoken = [(0.0, "a"), (1.0, "a"), (2.0, "b"), (59.0, "a"), (61.0, "a"), (61.5, "b"), (62.0, "b")]
    times = iter([at for at, _ in spoken])
    log_throttle = LogThrottle(logger, lambda: next(times))
    for _, text in spoken:
        log_throttle.log(text)
    assert [(record.getMessage(), record.levelname) for record in caplog.records] == [
        ("a", "WARNING"),
        ("a, again", "DEBUG"),
        ("b", "WARNING"),
        ("a, again", "DEBUG"),
        ("a", "WARNING"),
        ("b, again", "DEBUG"),
        ("b", "WARNING"),
    ]


def test_what_is_remembered_is_bounded() -> None:
    log_throttle = LogThrottle(logger, lambda: 0.0)
    for number in range(5000):
        log_throttle.log(str(number))
    assert len(log_throttle._warned) <= 1000
