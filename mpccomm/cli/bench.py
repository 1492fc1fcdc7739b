"""How fast the link to another party is: run the same command on both machines, each naming the other."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from mpccomm import CommunicationError, SyncPool

PEER = "the other party"
SMALL = bytes(range(100))
SIZES = (64 * 1024, 1024 * 1024, 16 * 1024 * 1024)
IN_FLIGHT = 1000
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Figure:
    """One line of the report: median and quartiles of ``samples`` measurements."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, what: str, unit: str, samples: Sequence[float]) -> Figure:
        """From the measurements, at least one."""
        low, _, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else (samples[0],) * 3
        return cls(what, unit, median(samples), low, high, len(samples))


def lead(pool: SyncPool, seconds: float) -> list[Figure]:
    """Measure, for about so long; the other party is in `follow` at the same time."""
    each = seconds / (2 + len(SIZES))
    found = [
        Figure.of("round trip, 100 B", "ms", _repeat(each, lambda: _round_trip(pool))),
        Figure.of("messages from here, 100 B", "per second", _repeat(each, lambda: _burst(pool))),
    ]
    for size in SIZES:
        data = secrets.token_bytes(size)
        label = f"{size // 1024} KiB" if size < _MIB else f"{size // _MIB} MiB"
        samples = _repeat(each, lambda data=data: _transfer(pool, data))  # type: ignore[misc]
        found.append(Figure.of(f"messages from here, {label}", "MiB/s", samples))
    pool.send(PEER, None)
    return found


def follow(pool: SyncPool) -> None:
    """Answer whoever is in `lead`: each message comes with the number of those that follow before an answer is due."""
    while (message := pool.recv(PEER)) is not None:
        _, more = message
        for _ in range(more):
            pool.recv(PEER)
        pool.send(PEER, "all here")


def _repeat(seconds: float, measure: Callable[[], float]) -> list[float]:
    end = time.perf_counter() + seconds
    measure()
    samples = [measure()]
    while time.perf_counter() < end:
        samples.append(measure())
    return samples


def _round_trip(pool: SyncPool) -> float:
    start = time.perf_counter()
    pool.send(PEER, (SMALL, 0))
    pool.recv(PEER)
    return (time.perf_counter() - start) * 1e3


def _burst(pool: SyncPool) -> float:
    start = time.perf_counter()
    handles: list[Future[Any]] = [pool.asend(PEER, (SMALL, IN_FLIGHT - 1))]
    handles += [pool.asend(PEER, SMALL) for _ in range(IN_FLIGHT - 1)]
    for handle in handles:
        handle.result()
    pool.recv(PEER)
    return IN_FLIGHT / (time.perf_counter() - start)


def _transfer(pool: SyncPool, data: bytes) -> float:
    start = time.perf_counter()
    pool.send(PEER, (data, 0))
    pool.recv(PEER)
    return len(data) / _MIB / (time.perf_counter() - start)


def measure(pool: SyncPool, seconds: float) -> list[Figure]:
    """Both parties call this; each leads once. A drawn number decides who does so first."""
    mine = theirs = 0
    while mine == theirs:
        mine = secrets.randbits(62)
        pool.send(PEER, mine)
        theirs = pool.recv(PEER)
    if mine > theirs:
        found = lead(pool, seconds)
        follow(pool)
    else:
        follow(pool)
        found = lead(pool, seconds)
    return found


def report(found: Sequence[Figure]) -> None:
    """Print the table."""
    print(f"{'':34}{'median':>12}{'quartiles':>26}{'samples':>10}")
    for figure in found:
        spread = f"{figure.low:,.3g} to {figure.high:,.3g}"
        print(f"{figure.what:34}{figure.median:>12,.5g}{spread:>26}{figure.samples:>10,}  {figure.unit}")


def main(arguments: Sequence[str]) -> int:
    """Connect, measure, report; the exit status is 1 if the other party can't be reached or goes away."""
    options = _parser().parse_args(arguments)
    files = {"key": options.key, "cert": options.cert, "ca_cert": options.ca_cert}
    try:
        with SyncPool(**files, name="bench") as pool:
            pool.add_http_server(options.port, options.listen)
            host, port = options.party
            pool.add_http_client(PEER, host, port, cert=options.party_cert)
            print(f"listening at port {pool.port}; waiting for the same command on the other machine", flush=True)
            pool.wait_ready(options.wait)
            found = measure(pool, options.seconds)
    except CommunicationError as error:
        print(f"mpccomm bench: {error}", file=sys.stderr)
        return 1
    report(found)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figure) for figure in found], indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mpccomm bench", description=__doc__ and __doc__.partition("\n")[0])
    parser.add_argument(
        "--party", type=_address, required=True, metavar="HOST:PORT", help="where the other machine's server is"
    )
    parser.add_argument(
        "--port", type=int, required=True, help="of the server here; the other machine names it in --party"
    )
    parser.add_argument("--listen", default="0.0.0.0", metavar="ADDRESS", help="of the server here (default: all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure from each side (default: %(default)g)")
    parser.add_argument(
        "--wait", type=float, default=300.0, help="seconds for the other one to come (default: %(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--key", help="private key of this party, for TLS")
    parser.add_argument("--cert", help="certificate of this party")
    parser.add_argument("--ca-cert", help="certificates of the issuers that are trusted")
    parser.add_argument("--party-cert", help="certificate of the other party")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an address and a port, as in 192.0.2.7:61001")
    return host.removeprefix("[").removesuffix("]"), int(port)
