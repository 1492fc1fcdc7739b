"""Measure the link to another party: run the same command on both machines, each naming the other.

    mpccomm bench mpccomm.toml --me alice --party bob
    mpccomm bench --port 61001 --party 192.0.2.7:61001

Round trips, messages per second, and bandwidth, as median and quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median, quantiles
from typing import Any

from mpccomm import CommunicationTimeoutError, NotReadyError, SyncPool
from mpccomm.address import join
from mpccomm.cli import Status
from mpccomm.cli.arguments import add_choice, chosen, host, host_and_port, password_from, port, seconds
from mpccomm.config import build
from mpccomm.display import number_text
from mpccomm.engine.base_pool import visiting
from mpccomm.errors import ConfigurationError

SMALL = bytes(range(100))
SIZES = (64 * 1024, 1024 * 1024, 16 * 1024 * 1024)
IN_FLIGHT = 1000
_MIB = 1024 * 1024
_OTHER = "the other party"
"""The name of the other party where only its address was given."""


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
        """Make the figure of at least one measurement."""
        low, _, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else (samples[0],) * 3
        return cls(what, unit, median(samples), low, high, len(samples))


@dataclass(frozen=True)
class Link:
    """A pool, and the one party that it talks to."""

    pool: SyncPool
    party: str

    def send(self, message: object) -> None:
        """Send a message, and wait until it has arrived."""
        self.pool.send(self.party, message)

    def asend(self, message: object) -> Future[Any]:
        """Send a message without waiting."""
        return self.pool.asend(self.party, message)

    def recv(self) -> Any:
        """Wait for a message."""
        return self.pool.recv(self.party)


def lead(link: Link, seconds: float) -> list[Figure]:
    """Measure for about that many seconds; the other party is in `follow` at the same time."""
    each = seconds / (2 + len(SIZES))
    found = [
        Figure.of("round trip, 100 B", "ms", _repeat(each, lambda: _round_trip(link))),
        Figure.of("messages from here, 100 B", "per second", _repeat(each, lambda: _burst(link))),
    ]
    for size in SIZES:
        data = secrets.token_bytes(size)
        label = f"{size // 1024} KiB" if size < _MIB else f"{size // _MIB} MiB"
        samples = _repeat(each, lambda data=data: _transfer(link, data))  # type: ignore[misc]
        found.append(Figure.of(f"messages from here, {label}", "MiB/s", samples))
    link.send(None)
    return found


def follow(link: Link) -> None:
    """Answer the party in `lead`: each message comes with the number of those that follow before an answer is due."""
    while (message := link.recv()) is not None:
        _, more = message
        for _ in range(more):
            link.recv()
        link.send("all here")


def _repeat(seconds: float, measure: Callable[[], float]) -> list[float]:
    end = time.perf_counter() + seconds
    measure()
    samples = [measure()]
    while time.perf_counter() < end:
        samples.append(measure())
    return samples


def _round_trip(link: Link) -> float:
    start = time.perf_counter()
    link.send((SMALL, 0))
    link.recv()
    return (time.perf_counter() - start) * 1e3


def _burst(link: Link) -> float:
    start = time.perf_counter()
    handles = [link.asend((SMALL, IN_FLIGHT - 1))]
    handles += [link.asend(SMALL) for _ in range(IN_FLIGHT - 1)]
    for handle in handles:
        handle.result()
    link.recv()
    return IN_FLIGHT / (time.perf_counter() - start)


def _transfer(link: Link, data: bytes) -> float:
    start = time.perf_counter()
    link.send((data, 0))
    link.recv()
    return len(data) / _MIB / (time.perf_counter() - start)


def measure(link: Link, seconds: float, limit: float | None = None) -> list[Figure]:
    """Measure together with the other party, which calls this as well. Each leads once; random numbers decide who is first.

    :param limit: seconds for the other one to come, which may be connected and run something else
    """
    mine = theirs = 0
    while mine == theirs:
        mine = secrets.randbits(62)
        try:
            link.pool.send(link.party, mine, timeout=limit)
            theirs = link.pool.recv(link.party, timeout=limit)
        except CommunicationTimeoutError as error:
            text = f"{link.party} is connected, but runs no bench: its own program may be there, which takes no note of this one"
            raise NotReadyError(text, {link.party: text}) from error
    if mine > theirs:
        found = lead(link, seconds)
        follow(link)
    else:
        follow(link)
        found = lead(link, seconds)
    return found


def report(found: Sequence[Figure]) -> None:
    """Print the table."""
    print(f"{'':34}{'median':>12}{'quartiles':>26}  {'unit':<12}{'samples':>10}")
    for figure in found:
        median, low, high = (number_text(one, padded=True) for one in (figure.median, figure.low, figure.high))
        print(f"{figure.what:34}{median:>12}{f'{low} to {high}':>26}  {figure.unit:<12}{figure.samples:>10,}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.usage = "%(prog)s [-h] (CONFIG --me NAME [--party NAME] | --port PORT --party HOST:PORT) [option ...]"
    add_choice(parser)
    parser.add_argument(
        "--party",
        metavar="NAME|HOST:PORT",
        help="the other party: its name where there is a file (it can be left out if there are two), else where its server is",
    )
    parser.add_argument("--port", type=port, help="of the server here; the other machine names it in --party")
    parser.add_argument(
        "--listen",
        type=partial(host, port_as="--port"),
        default="0.0.0.0",
        metavar="ADDRESS",
        help="of the server here (default: all of IPv4)",
    )
    parser.add_argument(
        "--seconds", type=seconds, default=10.0, metavar="S", help="to measure from each side (default: %(default)g)"
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=300.0,
        metavar="S",
        help="for the other one to come, in seconds (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--key", help="private key of this party, for TLS")
    parser.add_argument("--cert", help="certificate of this party")
    parser.add_argument("--ca-cert", help="certificates of the issuers that are trusted")
    parser.add_argument("--party-cert", help="certificate of the other party")


def run(options: argparse.Namespace) -> int:
    """Connect, measure, report."""
    link, where = (
        _named_here(options) if options.port or (options.party and ":" in options.party) else _from_file(options)
    )
    with link.pool:
        print(
            f"listening at port {link.pool.port}; waiting for {where} to run mpccomm bench as well "
            f"(for {number_text(options.wait, 6)} s at most)",
            file=sys.stderr,
            flush=True,
        )
        # On a loop of this thread Ctrl-C always gets through; a thread that is about to wait for a lock may miss it.
        asyncio.run(link.pool.pool.wait_ready(options.wait))
        print(f"connected; measuring for {number_text(2 * options.seconds, 6)} s", file=sys.stderr, flush=True)
        found = measure(link, options.seconds, options.wait)
    if options.json:
        party = where if link.party == _OTHER else link.party
        print(json.dumps({"party": party, "figures": [asdict(figure) for figure in found]}, indent=2))
    else:
        report(found)
    return Status.WELL


def _named_here(options: argparse.Namespace) -> tuple[Link, str]:
    if options.config or options.me:
        raise argparse.ArgumentError(
            None, "addresses and ports are in the file; give the name of the other party alone"
        )
    if not options.port or not options.party:
        raise argparse.ArgumentError(None, "both --port and --party HOST:PORT are needed, or a file of all parties")
    try:
        address, number = host_and_port(options.party)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentError(None, f"--party: {error}") from None
    pool = visiting(SyncPool)(
        options.key,
        options.cert,
        options.ca_cert,
        name="bench",
        password=password_from(options.password_file),
    )
    pool.add_http_client(_OTHER, address, number, cert=options.party_cert)
    pool.add_http_server(options.port, options.listen)
    return Link(pool, _OTHER), join(address, number)


def _from_file(options: argparse.Namespace) -> tuple[Link, str]:
    try:
        config, me = chosen(options)
    except ConfigurationError as error:
        if options.config or options.me:
            raise
        simplest = "name the two ends, on each machine the other one: --port PORT --party HOST:PORT"
        raise ConfigurationError(f"{simplest}; or a file of all parties: {error}") from None
    others = [name for name in config.parties if name != me]
    if options.party is None and len(others) != 1:
        raise argparse.ArgumentError(None, f"say with whom: --party with one of {', '.join(others)}")
    other = config.party(options.party or others[0])
    if other.name == me:
        raise argparse.ArgumentError(None, f"{me} is this party itself")
    both = {name: config.parties[name] for name in config.parties if name in (me, other.name)}
    pool: SyncPool = build(visiting(SyncPool), replace(config, parties=both), me, password_from(options.password_file))
    return Link(pool, other.name), f"{other.name} ({join(other.addr, other.port)})"
