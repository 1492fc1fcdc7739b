"""A guard of what a message costs that fits one frame and whose receiver waits, in calls: no busy machine blurs these."""

from __future__ import annotations

from tests.protocol.short_way import BareExchange, Exchange, calls_of, microseconds_of

MOST_PYTHON = 46
"""Calls of Python functions per round trip: both ends, with those of the test itself (11)."""
MOST_C = 56


def test_calls_per_round_trip() -> None:
    exchange = Exchange()
    exchange.round_trip()
    calls = calls_of(exchange.round_trip)
    assert calls["Python"] <= MOST_PYTHON
    assert calls["C"] <= MOST_C


def test_both_ways_of_counting_work_on_the_bare_limit() -> None:
    bare = BareExchange()
    bare.round_trip()
    assert calls_of(bare.round_trip)["Python"] < 10
    assert microseconds_of(bare.round_trip, 1) > 0
