"""The model of a line: units as people write them, and when bytes are there."""

import math
from random import Random

import pytest

from mpccomm.errors import ConfigurationError
from mpccomm.line import HEADERS, QUEUE, SEGMENT, Direction, Line, duration, frequency, in_words, rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("40ms", 0.04),
        ("0.04s", 0.04),
        ("0.04 s", 0.04),
        (".5ms", 0.0005),
        ("150us", 150e-6),
        ("150µs", 150e-6),
        ("150μs", 150e-6),
        ("2min", 120.0),
        ("0", 0.0),
        ("0ms", 0.0),
        (" 1s ", 1.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "40", "fast", "-40ms", "40 parsec", "40msec", "ms", "nan", "inf", "1e3s", "40ms 2"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"40ms, 0\.04s or 150us"):
        duration(text)


def test_a_negative_duration() -> None:
    with pytest.raises(ConfigurationError, match=r"'-1ms' is no duration: .*; it can't be negative"):
        duration("-1ms")


def test_a_duration_without_a_unit() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 40ms\?"):
        duration("40")


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [
        ("100mbit", 12.5e6),
        ("100Mbit", 12.5e6),
        ("100 Mbit/s", 12.5e6),
        ("1gbit", 125e6),
        ("8kbit", 1e3),
        ("800bit", 100),
        ("12.5MB/s", 12.5e6),
        ("12.5mb/s", 12.5e6),
        ("1MiB/s", 2**20),
        ("2KiB/s", 2048),
        ("1GB/s", 1e9),
        ("500B/s", 500),
    ],
)
def test_rates(text: str, bytes_per_second: float) -> None:
    assert rate(text) == pytest.approx(bytes_per_second)


@pytest.mark.parametrize("text", ["", "100", "100m", "100MB", "100mbps", "fast", "-1mbit", "100mbit/min", "infbit"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"100mbit and 1gbit \(bits per second\) or 12\.5MB/s"):
        rate(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("100", "100mbit or 100MB/s"),
        ("100m", "100mbit or 100MB/s"),
        ("1Gbps", "1gbit or 1GB/s"),
        ("5kB", "5kbit or 5KB/s"),
    ],
)
def test_a_rate_in_bits_or_bytes(text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"bits or bytes[?] write {hint}"):
        rate(text)


def test_a_line_on_which_nothing_moves() -> None:
    with pytest.raises(ConfigurationError, match="leave the rate out"):
        rate("0mbit")


@pytest.mark.parametrize(
    ("text", "hertz"), [("1/min", 1 / 60), ("2/s", 2), ("3/h", 1 / 1200), ("1/30s", 1 / 30), ("0/s", 0)]
)
def test_frequencies(text: str, hertz: float) -> None:
    assert frequency(text) == pytest.approx(hertz)


@pytest.mark.parametrize("text", ["", "1", "1/", "min", "1 per min", "-1/min", "1/0s", "1/day"])
def test_what_is_no_frequency(text: str) -> None:
    with pytest.raises(ConfigurationError, match="as in 1/min"):
        frequency(text)


def test_lines_that_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="10 ms can't have a jitter of 20 ms"):
        Line(rtt=0.01, jitter=0.02)
    for wrong in ({"rtt": -1.0}, {"rtt": math.inf}, {"rate": 0.0}, {"loss_of_connection": -1.0}, {"rate": math.nan}):
        with pytest.raises(ConfigurationError):
            Line(**wrong)


def test_in_words() -> None:
    assert str(Line(0.04, 12.5e6, 0.005, 1 / 60)) == "40 ms +- 5 ms, 100 mbit/s, broken 1 times a minute"
    assert str(Line(1.5)) == "1.5 s"
    assert [in_words(seconds) for seconds in (0, 5e-5, 0.001, 2)] == ["0 s", "50 us", "1 ms", "2 s"]


def test_a_message_takes_its_size_and_half_a_round_trip() -> None:
    direction = Direction(Line(0.04, 1e6), Random(0))
    size = 100 * SEGMENT
    onto_the_line = 100 * (SEGMENT + HEADERS) / 1e6
    assert direction.send(size, 7.0) == pytest.approx(7.0 + onto_the_line + 0.02)
    # The next one waits for it, and not for its travel.
    assert direction.send(size, 7.0) == pytest.approx(7.0 + 2 * onto_the_line + 0.02)
    assert direction.hold(7.0) == pytest.approx(2 * onto_the_line - QUEUE / 2)
    assert direction.hold(7.0 + 2 * onto_the_line - QUEUE) == pytest.approx(0)
    assert direction.send(size, 9.0) == pytest.approx(9.0 + onto_the_line + 0.02)
    assert direction.hold(10.0) == 0


def test_without_a_rate_nothing_waits() -> None:
    direction = Direction(Line(0.04), Random(0))
    assert [direction.send(10**12, 1.0) for _ in range(3)] == [pytest.approx(1.02)] * 3


def test_what_arrives_at_once() -> None:
    assert [Direction(Line(rate=rate), Random(0)).chunk for rate in (1e5, 1e7, 1e9, math.inf)] == [
        1448,
        10_000,
        262_144,
        262_144,
    ]


def test_jitter_is_even_around_the_delay() -> None:
    direction = Direction(Line(0.04, jitter=0.01), Random(0))
    times = [direction.send(1, 0.0) for _ in range(2000)]
    assert 0.015 <= min(times) < 0.0151
    assert 0.0249 < max(times) <= 0.025
    assert sum(times) / len(times) == pytest.approx(0.02, rel=0.02)
