"""What has to hold between the contenders of one run, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sidebyside.contenders import CONTENDERS
from sidebyside.figures import Figure, figures, paired_ratio
from sidebyside.run import Comparison


@dataclass(frozen=True)
class Bound:
    """What a ratio between two contenders, or two works, has to keep to; or (``other`` None) a contender's figure."""

    what: str
    work: str
    one: str
    other: str | None
    limit: float
    at_least: bool = False
    other_work: str | None = None
    """Where the figure of ``other`` is that of another work."""
    bare: tuple[str, str] | None = None
    """Ours, and a bare contender: what the ratio would be with that one in our place."""

    def kept(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def measured(self, comparison: Comparison) -> Figure | None:
        """What it came to; None: something was not measured."""
        if self.other is None:
            return figures(comparison).get(self.one, {}).get(self.work)
        return paired_ratio(comparison, (self.one, self.work), (self.other, self.other_work or self.work))

    def measured_bare(self, comparison: Comparison) -> Figure | None:
        """What it would come to with the bare contender in our place."""
        if self.bare is None:
            return None
        ours, bare = self.bare
        one = bare if self.one == ours else self.one
        other = bare if self.other == ours else self.other
        return replace(self, one=one, other=other).measured(comparison)


def lines(bounds: Iterable[Bound], comparison: Comparison) -> Iterator[str]:
    """As a table; bounds whose figures were not measured are left out."""
    yield "ratios: median over the rounds (quartiles), the bound, whether it holds (and what a bare contender comes to)"
    for bound in bounds:
        figure = bound.measured(comparison)
        if figure is not None:
            yield (
                f"  {bound.what:70} {figure.median:10,.2f} ({figure.low:,.2f} to {figure.high:,.2f})  "
                f"{'>=' if bound.at_least else '<='} {bound.limit:<4g}  {'yes' if bound.kept(figure.median) else 'NO'}"
                f"{_beside(bound, comparison)}"
            )


def _beside(bound: Bound, comparison: Comparison) -> str:
    bare = bound.measured_bare(comparison)
    return "" if bare is None or bound.bare is None else f"  ({CONTENDERS[bound.bare[1]].title}: {bare.median:,.2f})"
