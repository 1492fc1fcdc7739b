"""mpccomm beside the bare transport that it stands on, in one run: what exactly-once and the blocking facade cost.

    python benchmarks/quick.py [--seconds S] [--smoke]

Everything runs in this interpreter's environment. For the comparison with other libraries see compare.py.
"""

from __future__ import annotations

import argparse
import sys

from sidebyside import cpu
from sidebyside.bounds import Bound, lines
from sidebyside.contenders import CONTENDERS
from sidebyside.report import rows
from sidebyside.run import Comparison
from sidebyside.works import works

WORKS = ("roundtrip", "rate", "bytes64", "numpy64", "asend1", "asend8")


def _against_bare(loop: str, ours: str, bare: str, acknowledged: str, limit: str, buffer: str) -> list[Bound]:
    return [
        Bound(f"round trip, Pool / bare lower limit ({loop})", "roundtrip", ours, limit, 1.4),
        Bound(f"rate, Pool / bare lower limit ({loop})", "rate", ours, limit, 0.5, True),
        Bound(f"64 MiB of bytes, Pool / bare BufferedProtocol ({loop})", "bytes64", ours, buffer, 1.2),
        Bound(f"round trip, Pool / bare WebSocket ({loop})", "roundtrip", ours, bare, 1.5),
        Bound(f"round trip, Pool / the same with acknowledgements ({loop})", "roundtrip", ours, acknowledged, 1.5),
        Bound(f"rate, Pool / WebSocket with acknowledgements ({loop})", "rate", ours, acknowledged, 0.5, True),
        Bound(f"64 MiB of bytes, Pool / bare WebSocket ({loop})", "bytes64", ours, bare, 1.2),
        Bound(f"64 MiB of numpy, Pool / bare WebSocket ({loop})", "numpy64", ours, bare, 1.2),
    ]


BOUNDS = (
    *_against_bare("uvloop", "pool-uv", "ws-uv", "wsack-uv", "limit-uv", "buffer-uv"),
    *_against_bare("asyncio", "pool", "ws", "wsack", "limit", "buffer"),
    Bound("round trip, SyncPool / Pool (uvloop)", "roundtrip", "sync", "pool-uv", 1.6),
    Bound("asend per second, one thread", "asend1", "sync", None, 30_000, True),
    Bound("asend per second, eight threads / one", "asend8", "sync", "sync", 1.0, True, "asend1"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=50.0, help="go on for about so long (default: %(default)g)")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to see that everything works")
    arguments = parser.parse_args()
    limits = ("limit-uv", "limit", "buffer-uv", "buffer")
    contenders = ("ws-uv", "wsack-uv", "pool-uv", "sync", "ws", "wsack", "pool", *limits)
    scale = 0.001 if arguments.smoke else 1.0
    comparison = Comparison(contenders, WORKS, {"mpccomm": sys.executable}, None, scale)
    comparison.rounds_for(0.0 if arguments.smoke else arguments.seconds)
    for name in WORKS:
        print("\n".join(rows(comparison, name, works(scale)[name])))
    print("\n".join(["", *lines(BOUNDS, comparison)]))
    print("\n".join(["", *cpu.lines(2 if arguments.smoke else 15)]))
    for contender, trouble in comparison.troubles.items():
        print(f"{CONTENDERS[contender].title}: {trouble}")
    return 1 if comparison.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
