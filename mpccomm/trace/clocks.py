"""Aligning the clocks of parties on different machines, by the round trips that their messages make anyway.

Each message that was delivered is such a round trip: it is queued at its sender, arrives at its receiver, and its
acknowledgement arrives at its sender, in this order. So when it arrives, the receiver's clock minus the sender's is at most
the time of arrival less that of queueing, and at least the time of arrival less that of the acknowledgement. All messages
together leave a narrow interval, of which the middle is taken; no further exchange is needed, and no arrow of a timeline goes
back in time. Clocks that drift leave no common interval over a long run: then it is split in two, and the offset goes in
straight lines from one part to the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

_SHORTEST = 4
"""Parts of so few messages are not split: what contradicts in them is noise of a clock that was set."""

Knots: TypeAlias = list[tuple[int, float]]
"""Offsets at some times; in between they change evenly."""


class Origin(NamedTuple):
    """Time 0 of a record."""

    clock: str
    """Which clock was read: two parties with the same one need no aligning."""
    zero: int
    """What that clock showed."""
    wall: int
    """The time of day, in nanoseconds since 1970."""


class Reading(NamedTuple):
    """One message that was delivered, each time on the clock of the party where it was read."""

    sender: str
    receiver: str
    sent: int
    arrived: int
    acknowledged: int


class Clock(NamedTuple):
    """How to get from the clock of one party to the common one."""

    knots: Knots
    """What to subtract from its own time, by own time."""
    error: int
    """By at most how many nanoseconds that is wrong; -1: nothing is known but what the two machines take for the time of day."""

    def common(self, at: int) -> int:
        """Return a time of this party on the common clock."""
        return at - round(_at(self.knots, at))


class _Offset(NamedTuple):
    """What the second clock of a pair shows more than the first, by the first."""

    knots: Knots
    error: int


def align(origins: Mapping[str, Origin], readings: Iterable[Reading]) -> dict[str, Clock]:
    """Relate the clock of every party to that of the first.

    :param origins: by what each party is called in ``readings``
    :returns: by the same
    """
    samples: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for sender, receiver, sent, arrived, acknowledged in readings:
        samples.setdefault((sender, receiver), []).append((sent, arrived - acknowledged, arrived - sent))
        # The same, seen by the receiver.
        samples.setdefault((receiver, sender), []).append((arrived, sent - arrived, acknowledged - arrived))
    left = list(origins)
    clocks = {name: Clock([(0, 0.0)], 0) for name in left[:1]}
    del left[:1]
    while left:
        # The next one is that which is best known by those that are done.
        offsets = {
            (known, name): _between(origins[known], origins[name], samples.get((known, name), ()))
            for known in clocks
            for name in left
        }
        known, name = min(
            offsets, key=lambda pair: _uncertainty(offsets[pair].error) + _uncertainty(clocks[pair[0]].error)
        )
        clocks[name] = _through(clocks[known], offsets[known, name])
        left.remove(name)
    return clocks


def _uncertainty(error: int) -> float:
    return math.inf if error < 0 else error


def _between(one: Origin, other: Origin, samples: Sequence[tuple[int, int, int]]) -> _Offset:
    if one.clock == other.clock:
        return _Offset([(0, float(one.zero - other.zero))], 0)
    if not samples:
        return _Offset([(0, float(one.wall - other.wall))], -1)
    parts = list(_split(sorted(samples)))
    return _Offset(
        [(at, (low + high) / 2) for at, low, high in parts], max((high - low + 1) // 2 for _, low, high in parts)
    )


def _split(samples: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield the interval that all samples have in common, with the time in its middle; without one, those of both halves."""
    low = max(lowest for _, lowest, _ in samples)
    high = min(highest for _, _, highest in samples)
    middle = (samples[0][0] + samples[-1][0]) // 2
    if low <= high or len(samples) < _SHORTEST:
        yield middle, min(low, high), max(low, high)
    else:
        half = min(max(bisect_right(samples, (middle, 0, 0)), 1), len(samples) - 1)
        yield from _split(samples[:half])
        yield from _split(samples[half:])


def _through(known: Clock, offset: _Offset) -> Clock:
    """Return the clock that is off by this offset from one that is known."""
    knots = [(at + round(more), more + _at(known.knots, at)) for at, more in offset.knots]
    error = -1 if min(known.error, offset.error) < 0 else known.error + offset.error
    return Clock(knots, error)


def _at(knots: Knots, at: int) -> float:
    """Return the offset at that time; outside of the knots it goes on as between the nearest two."""
    if len(knots) == 1:
        return knots[0][1]
    place = min(max(bisect_right(knots, (at, math.inf)) - 1, 0), len(knots) - 2)
    (begin, low), (end, high) = knots[place : place + 2]
    return low + (high - low) * (at - begin) / max(end - begin, 1)
