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


def paired_ratio(comparison: Comparison, work: str, one: str, other: str) -> Figure | None:
    """How many times ``other`` fits into ``one``: the ratio within each round, so that a slow minute meets both."""
    if work not in comparison.results.get(one, {}) or work not in comparison.results.get(other, {}):
        return None
    pairs = zip(comparison.results[one][work].rounds, comparison.results[other][work].rounds, strict=False)
    return figure([median(a) / median(b) for a, b in pairs])
