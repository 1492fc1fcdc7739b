"""mpccomm beside bare TCP on a long line, made on this machine by a relay that delivers every byte later.

    python benchmarks/distance.py [--round-trip MS] [--smoke]

Over such a line it counts how often anybody waits for an answer. The round-trip time is 50 ms unless given.
"""

from __future__ import annotations

import argparse
import sys

from sidebyside.bounds import Bound, lines
from sidebyside.report import rows
from sidebyside.run import Comparison
from sidebyside.works import works

WORKS = ("burst", "rounds", "numpy64")
CONTENDERS = ("stream-uv", "pool-uv", "sync")
_ROUNDS = 20


def bounds(round_trip: float) -> list[Bound]:
    """``round_trip`` in milliseconds."""
    return [
        *(
            bound
            for name, title in (("pool-uv", "Pool"), ("sync", "SyncPool"))
            for bound in (
                Bound(f"1,000 messages of 1 KiB together, {title} [ms]", "burst", name, None, 3 * round_trip),
                Bound(f"{_ROUNDS} rounds, {title} [ms]", "rounds", name, None, 1.15 * _ROUNDS * round_trip),
                Bound(f"64 MiB of numpy, {title} / asyncio stream", "numpy64", name, "stream-uv", 1 / 0.8),
            )
        )
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--round-trip", type=float, default=50.0, metavar="MS", help="milliseconds (default: %(default)g)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="go on for about so long (default: %(default)g)")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to see that everything works")
    arguments = parser.parse_args()
    scale = 0.001 if arguments.smoke else 1.0
    comparison = Comparison(
        CONTENDERS, WORKS, {"mpccomm": sys.executable}, None, scale, delay=arguments.round_trip / 2000
    )
    comparison.rounds_for(0.0 if arguments.smoke else arguments.seconds)
    chosen = works(scale)
    print(f"round-trip time of the line: {arguments.round_trip:g} ms")
    for name in WORKS:
        print("\n".join(rows(comparison, name, chosen[name])))
    print("\n".join(lines(bounds(arguments.round_trip), comparison)))
    for contender, trouble in comparison.troubles.items():
        print(f"{contender}: {trouble}")
    return 1 if comparison.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
