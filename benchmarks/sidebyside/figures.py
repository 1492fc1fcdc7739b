"""Medians, spread and ratios of what a comparison has measured."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles

from sidebyside.run import Comparison


@dataclass(frozen=True)
class Figure:
    """One contender in one work."""

    median: float
    low: float
    high: float
    samples: int


def figure(samples: list[float]) -> Figure:
    """Median and quartiles."""
    low, _, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else (samples[0],) * 3
    return Figure(median(samples), low, high, len(samples))


def figures(comparison: Comparison) -> dict[str, dict[str, Figure]]:
    """By contender, then work."""
    return {
        contender: {work: figure([s for turn in result.rounds for s in turn]) for work, result in results.items()}
        for contender, results in comparison.results.items()
    }


def paired_ratio(comparison: Comparison, one: tuple[str, str], other: tuple[str, str]) -> Figure | None:
    """How many times ``other`` fits into ``one``, each a contender and a work; None: not both were measured.

    It is the ratio within each round, so that a slow minute meets both.
    """
    rounds = [
        result.rounds
        for name, work in (one, other)
        if (result := comparison.results.get(name, {}).get(work)) is not None
    ]
    return figure([median(a) / median(b) for a, b in zip(*rounds, strict=False)]) if len(rounds) == 2 else None
