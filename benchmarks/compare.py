"""mpccomm beside other ways of carrying values between processes, all in one run on this machine.

    python benchmarks/compare.py [--minutes M] [--only NAME ...] [--output DIRECTORY]

Makes what it needs on the first run: a virtual environment for each other library, kept in the user's cache directory. Then
every contender has its turn, round after round, each time in fresh processes. Prints tables; writes ``report.json`` and
``report.svg``. --smoke runs our own and the bare transport, which need nothing else installed, with tiny numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from sidebyside.bounds import Bound, lines
from sidebyside.certificates import write_certificates
from sidebyside.contenders import CONTENDERS
from sidebyside.environments import default_cache, python_of
from sidebyside.picture import svg
from sidebyside.report import as_json, text, write_json
from sidebyside.run import Comparison
from sidebyside.works import FAR, Work, works

_SMOKE_SCALE = 0.001
_SMOKED = ("ws-uv", "pool", "pool-uv", "sync", "pool-tls-uv")
_HEAVY = ("broadcast4", "broadcast8", *FAR)


def _bounds() -> Iterator[Bound]:
    """All in times that we are faster, but for those that say so."""
    for ours, title, least, bare in (
        ("sync", "SyncPool", 10, "wsack-uv"),
        ("pool-uv", "Pool (uvloop)", 12, "wsack-uv"),
        ("pool", "Pool (asyncio)", 7, "wsack"),
    ):
        place = (ours, bare)
        yield Bound(f"round trip, tno 4.12.0 / {title}", "roundtrip", "tno4", ours, least, True, bare=place)
        yield Bound(f"round trip, gRPC aio / {title}", "roundtrip", "grpc", ours, 1, True, bare=place)
        yield Bound(f"round trip, {title} / pyzmq", "roundtrip", ours, "zmq", 4, bare=place)
    for ours, title, least, bare in (
        ("pool-uv", "Pool (uvloop)", 25, "wsack-uv"),
        ("pool", "Pool (asyncio)", 12, "wsack"),
    ):
        place = (ours, bare)
        yield Bound(f"messages per second, {title} / tno 4.12.0", "rate", ours, "tno4", least, True, bare=place)
        yield Bound(f"messages per second, {title} / gRPC aio", "rate", ours, "grpc", 4, True, bare=place)
    for ours, title in (("sync", "SyncPool"), ("pool-uv", "Pool (uvloop)"), ("pool", "Pool (asyncio)")):
        for work, what, least in (
            ("numpy64", "64 MiB of numpy", 40),
            ("bytes64", "64 MiB of bytes", 4),
            ("ints", "10,000 int", 4),
            ("mpz", "10,000 mpz", 4),
            ("floats", "1,000,000 floats", 5),
        ):
            yield Bound(f"{what}, tno 4.12.0 / {title}", work, "tno4", ours, least, True, bare=(ours, "socket"))
    for tls in ("", "-tls"):
        for loop in ("", "-uv"):
            what = f"64 MiB of bytes, WebSocket / Pool{', TLS' * bool(tls)} ({'uvloop' if loop else 'asyncio'})"
            yield Bound(what, "bytes64", f"ws{tls}{loop}", f"pool{tls}{loop}", 0.8, True)
    for loop, ours, limit, buffer in (
        ("uvloop", "pool-uv", "limit-uv", "buffer-uv"),
        ("asyncio", "pool", "limit", "buffer"),
    ):
        yield Bound(f"round trip, Pool / bare lower limit ({loop})", "roundtrip", ours, limit, 1.4)
        yield Bound(f"messages per second, Pool / bare lower limit ({loop})", "rate", ours, limit, 0.5, True)
        yield Bound(f"64 MiB of bytes, Pool / bare BufferedProtocol ({loop})", "bytes64", ours, buffer, 1.2)
    yield Bound("round trip, Pool with TLS / without (uvloop)", "roundtrip", "pool-tls-uv", "pool-uv", 1.8)
    yield Bound("round trip, SyncPool / Pool (uvloop)", "roundtrip", "sync", "pool-uv", 1.6)
    yield Bound("broadcast per MiB, to 8 / to 2", "broadcast8", "pool-uv", "pool-uv", 1.3, False, "broadcast2")


BOUNDS = tuple(_bounds())


def main() -> int:
    arguments = _arguments()
    scale = _SMOKE_SCALE if arguments.smoke else 1.0
    contenders, chosen = _selection(arguments.only, works(scale), smoke=arguments.smoke)
    with tempfile.TemporaryDirectory() as directory:
        certificates = None
        if find_spec("cryptography"):
            write_certificates(Path(directory))
            certificates = directory
        else:
            contenders = [name for name in contenders if not CONTENDERS[name].tls]
            print("without TLS: cryptography is not installed here", file=sys.stderr)
        pythons, missing = _environments(contenders, arguments.cache)
        contenders = [name for name in contenders if CONTENDERS[name].environment in pythons]
        comparison = Comparison(contenders, list(chosen), pythons, certificates, scale)
        comparison.rounds_for(0.0 if arguments.smoke else 60 * arguments.minutes)
    print(text(comparison, chosen, scale))
    print("\n".join(["", *lines(BOUNDS, comparison)]))
    for name, reason in missing.items():
        print(f"\nno environment for {name}: {reason}")
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        report = as_json(comparison, chosen, scale)
        write_json(report, arguments.output / "report.json")
        (arguments.output / "report.svg").write_text(svg(report))
        print(f"\nwritten: {arguments.output}/report.json, report.svg")
    return 1 if any(trouble.startswith("failed") for trouble in comparison.troubles.values()) else 0


def _arguments() -> argparse.Namespace:
    names = [*CONTENDERS, *works()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"names: {', '.join(names)}"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="go on for about so long (default: %(default)g)")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", default=[], help="these contenders or works"
    )
    parser.add_argument("--output", type=Path, help="directory for report.json and report.svg")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where environments are kept (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, nothing installed: does everything run?")
    return parser.parse_args()


def _selection(only: Sequence[str], known: dict[str, Work], *, smoke: bool) -> tuple[list[str], dict[str, Work]]:
    contenders = [name for name in CONTENDERS if name in only]
    chosen = {name: work for name, work in known.items() if name in only}
    if not contenders:
        contenders = list(_SMOKED if smoke else CONTENDERS)
    if not chosen:
        chosen = {name: work for name, work in known.items() if name not in (_HEAVY if smoke else FAR)}
    if sys.platform == "win32":
        contenders = [name for name in contenders if not CONTENDERS[name].uvloop]
    return contenders, chosen


def _environments(contenders: Sequence[str], cache: Path) -> tuple[dict[str, str], dict[str, str]]:
    pythons: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys(CONTENDERS[contender].environment for contender in contenders):
        try:
            pythons[name] = python_of(name, cache)
        except subprocess.CalledProcessError as error:
            missing[name] = str(error.stderr).strip()[-500:]
    return pythons, missing


if __name__ == "__main__":
    sys.exit(main())
