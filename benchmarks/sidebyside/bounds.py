"""What has to hold between the contenders of one run, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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

    def kept(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def measured(self, comparison: Comparison) -> Figure | None:
        """What it came to; None: something was not measured."""
        if self.other is None:
            return figures(comparison).get(self.one, {}).get(self.work)
        return paired_ratio(comparison, (self.one, self.work), (self.other, self.other_work or self.work))


def lines(bounds: Iterable[Bound], comparison: Comparison) -> Iterator[str]:
    """As a table; bounds whose figures were not measured are left out."""
    yield "ratios: median over the rounds (quartiles), the bound, and whether it holds"
    for bound in bounds:
        figure = bound.measured(comparison)
        if figure is not None:
            holds = "yes" if bound.kept(figure.median) else "NO"
            yield (
                f"  {bound.what:70} {figure.median:10,.2f} ({figure.low:,.2f} to {figure.high:,.2f})  "
                f"{'>=' if bound.at_least else '<='} {bound.limit:,g}  {holds}"
            )
