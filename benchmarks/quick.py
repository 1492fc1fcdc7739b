"""mpccomm beside the bare transport that it stands on, in one run: what exactly-once and the blocking facade cost.

    python benchmarks/quick.py [--seconds S] [--smoke]

Everything runs in this interpreter's environment. For the comparison with other libraries see compare.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from sidebyside.contenders import CONTENDERS
from sidebyside.figures import figures, paired_ratio
from sidebyside.run import Comparison
from sidebyside.works import works

WORKS = ("roundtrip", "rate", "bytes64", "numpy64", "asend1", "asend8")


@dataclass(frozen=True)
class Bound:
    """What a ratio between two contenders, or a contender's figure (``other`` None), has to keep to."""

    what: str
    work: str
    one: str
    other: str | None
    limit: float
    at_least: bool = False

    def kept(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def _against_bare(loop: str, ours: str, bare: str, acknowledged: str) -> list[Bound]:
    return [
        Bound(f"round trip, Pool / bare WebSocket ({loop})", "roundtrip", ours, bare, 1.5),
        Bound(f"round trip, Pool / the same with acknowledgements ({loop})", "roundtrip", ours, acknowledged, 1.5),
        Bound(f"rate, Pool / WebSocket with acknowledgements ({loop})", "rate", ours, acknowledged, 0.5, True),
        Bound(f"64 MiB of bytes, Pool / bare WebSocket ({loop})", "bytes64", ours, bare, 1.2),
        Bound(f"64 MiB of numpy, Pool / bare WebSocket ({loop})", "numpy64", ours, bare, 1.2),
    ]


BOUNDS = (
    *_against_bare("uvloop", "pool-uv", "ws-uv", "wsack-uv"),
    *_against_bare("asyncio", "pool", "ws", "wsack"),
    Bound("round trip, SyncPool / Pool (uvloop)", "roundtrip", "sync", "pool-uv", 1.6),
    Bound("asend per second, one thread", "asend1", "sync", None, 30_000, True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=50.0, help="go on for about so long (default: %(default)g)")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to see that everything works")
    arguments = parser.parse_args()
    contenders = ("ws-uv", "wsack-uv", "pool-uv", "sync", "ws", "wsack", "pool")
    scale = 0.001 if arguments.smoke else 1.0
    comparison = Comparison(contenders, WORKS, {"mpccomm": sys.executable}, None, scale)
    comparison.rounds_for(0.0 if arguments.smoke else arguments.seconds)
    _print_figures(comparison, scale)
    _print_bounds(comparison)
    for contender, trouble in comparison.troubles.items():
        print(f"{CONTENDERS[contender].title}: {trouble}")
    return 1 if comparison.troubles else 0


def _print_figures(comparison: Comparison, scale: float) -> None:
    found = figures(comparison)
    for name, work in works(scale).items():
        if name not in WORKS:
            continue
        print(f"\n{work.title} [{work.unit}]: median (quartiles)")
        for contender, by_work in found.items():
            if name in by_work:
                figure = by_work[name]
                print(
                    f"  {CONTENDERS[contender].title:32} {figure.median:12,.1f}  ({figure.low:,.1f} to {figure.high:,.1f})"
                )


def _print_bounds(comparison: Comparison) -> None:
    print("\nratios: median over the rounds (quartiles), the bound, and whether it holds")
    found = figures(comparison)
    for bound in BOUNDS:
        if bound.other is None:
            figure = found[bound.one].get(bound.work)
        else:
            figure = paired_ratio(comparison, bound.work, bound.one, bound.other)
        if figure is not None:
            sign = ">=" if bound.at_least else "<="
            holds = "yes" if bound.kept(figure.median) else "NO"
            print(
                f"  {bound.what:62} {figure.median:10,.2f} ({figure.low:,.2f} to {figure.high:,.2f})  "
                f"{sign} {bound.limit:,g}  {holds}"
            )
    if found["sync"].get("asend1") and found["sync"].get("asend8"):
        print(f"  eight threads / one: {found['sync']['asend8'].median / found['sync']['asend1'].median:.2f}  >= 1")


if __name__ == "__main__":
    sys.exit(main())
