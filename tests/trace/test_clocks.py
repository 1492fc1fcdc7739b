"""Clocks of machines that show different times, and do not go equally fast."""

import random

import pytest

from mpccomm.trace.clocks import Origin, Reading, align

MS = 10**6
SECOND = 10**9


def readings(offset: int, count: int = 200, drift: float = 0.0, seconds: float = 10.0, seed: int = 1) -> list[Reading]:
    """Messages in both directions between A and B, whose clock shows ``offset`` more, with delays of 5 to 25 ms each way."""
    chance = random.Random(seed)
    found = []
    for place in range(count):
        start = round(place * seconds * SECOND / count)
        there, back = (round(chance.uniform(5, 25) * MS) for _ in range(2))

        def b(at: int) -> int:
            return at + offset + round(drift * at)

        if place % 2:
            found.append(Reading("A", "B", start, b(start + there), start + there + back))
        else:
            found.append(Reading("B", "A", b(start), start + there, b(start + there + back)))
    return found


@pytest.mark.parametrize("offset", [0, 5 * SECOND, -3 * 3600 * SECOND])
def test_offset_is_found_from_messages(offset: int) -> None:
    origins = {"A": Origin("a", 0, 0), "B": Origin("b", 0, 7)}
    clocks = align(origins, readings(offset))
    assert clocks["A"].common(SECOND) == SECOND
    error = clocks["B"].common(SECOND + offset) - SECOND
    assert abs(error) <= clocks["B"].error < 6 * MS


def test_no_message_arrives_before_it_was_sent() -> None:
    found = readings(123 * MS)
    clocks = align({"A": Origin("a", 0, 0), "B": Origin("b", 0, 0)}, found)
    for sender, receiver, sent, arrived, acknowledged in found:
        there, back = clocks[sender], clocks[receiver]
        assert there.common(sent) <= back.common(arrived) <= there.common(acknowledged)


def test_messages_of_one_direction_are_enough() -> None:
    found = [reading for reading in readings(40 * MS) if reading.sender == "A"]
    clock = align({"A": Origin("a", 0, 0), "B": Origin("b", 0, 0)}, found)["B"]
    assert abs(clock.common(SECOND + 40 * MS) - SECOND) <= clock.error < 8 * MS


def test_clocks_that_drift() -> None:
    """100 millionths: 0.36 s in an hour, where no single offset fits."""
    found = readings(SECOND, 2000, drift=1e-4, seconds=3600)
    clock = align({"A": Origin("a", 0, 0), "B": Origin("b", 0, 0)}, found)["B"]
    assert len(clock.knots) > 1
    for minute in range(2, 59):
        at = minute * 60 * SECOND
        assert abs(clock.common(at + SECOND + round(1e-4 * at)) - at) < 15 * MS


def test_one_machine_needs_no_messages() -> None:
    clocks = align({"A": Origin("same", 1000, 5), "B": Origin("same", 1400, 99)}, ())
    assert (clocks["B"].common(0), clocks["B"].error) == (400, 0)


def test_without_messages_the_time_of_day_is_taken() -> None:
    clocks = align({"A": Origin("a", 0, 1000), "B": Origin("b", 0, 1500)}, ())
    assert (clocks["B"].common(0), clocks["B"].error) == (500, -1)


def test_through_a_third_party() -> None:
    """A and C never exchanged a message, and B talks to both."""
    between = readings(SECOND)
    rename = {"A": "B", "B": "C"}
    further = [
        reading._replace(sender=rename[reading.sender], receiver=rename[reading.receiver])
        for reading in readings(-9 * SECOND, seed=2)
    ]
    clocks = align({name: Origin(name, 0, 0) for name in "ABC"}, [*between, *further])
    # The second set is on B's clock, so C shows 1 s - 9 s more than A.
    assert abs(clocks["C"].common(SECOND - 8 * SECOND) - SECOND) <= clocks["C"].error < 12 * MS


def test_nobody() -> None:
    assert align({}, ()) == {}
