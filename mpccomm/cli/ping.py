"""Connect to the other parties and tell the round-trip times, again and again.

    mpccomm ping mpccomm.toml --me alice
    mpccomm ping mpccomm.toml --me alice --party bob --count 10

The others run their programs, which take no note of it, or ping as well; this party's own program must not run meanwhile. No
message is sent: the times are those of heartbeats, smoothed. The exit status is 1 if a party could not be reached, or was lost; one
that said goodbye was not.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mpccomm import NotReadyError, Pool, PortInUseError
from mpccomm.cli.arguments import add_choice, chosen, count, password_from, seconds
from mpccomm.config import Config, build
from mpccomm.engine.base_pool import engine_of, visiting
from mpccomm.protocol.states import Ending

_AT_ONCE = 0.001
"""Seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_choice(parser)
    parser.add_argument(
        "--party", action="append", metavar="NAME", help="whom; may be given several times (default: all)"
    )
    parser.add_argument("--count", type=count, default=4, metavar="N", help="how many times (default: %(default)s)")
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="seconds between (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="to connect, in seconds (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Reach the parties and print their times; the exit status tells whether all were reached."""
    config, me = chosen(options)
    names = options.party or [name for name in config.parties if name != me]
    for name in names:
        if config.party(name).name == me:
            raise argparse.ArgumentError(None, f"{name} is this party itself")
    return asyncio.run(_ping(config, me, names, options))


async def _ping(config: Config, me: str, names: Sequence[str], options: argparse.Namespace) -> int:
    timing = replace(config.settings.timing, heartbeat=options.interval / 2, tick=min(0.5, options.interval / 4))
    # Dial at once, whichever side would dial first: the user wants to know what happens then.
    retry = replace(config.settings.retry, give_way=_AT_ONCE)
    config = replace(config, settings=replace(config.settings, timing=timing, retry=retry))
    kept = {name: party for name, party in config.parties.items() if name in names or name == me}
    try:
        pool: Pool = build(visiting(Pool), replace(config, parties=kept), me, password_from(options.password_file))
    except PortInUseError as error:
        found = str(error).partition(". Choose")[0]
        text = "Stop this party's own program meanwhile: ping listens there; if it is not running, another one has this port"
        raise PortInUseError(f"{found}. {text}") from error
    async with pool:
        # Each by itself: those that are there are measured while others are waited for.
        measuring = [asyncio.ensure_future(_measure(pool, name, options)) for name in names]
        try:
            await asyncio.gather(*measuring)
        finally:
            for one in measuring:
                one.cancel()
        return int(any(not (pool.stats[name].connected or _has_left(pool, name)) for name in names))


async def _measure(pool: Pool, name: str, options: argparse.Namespace) -> None:
    """Reach one party, and print its times."""
    try:
        await pool.wait_ready(options.timeout, [name])
    except NotReadyError as error:
        if not _has_left(pool, name):
            print(f"{name} at {error.missing[name]}", flush=True)
            return
    for _ in range(options.count):
        await asyncio.sleep(options.interval)
        print(f"{name}: {_shown(pool, name)}", flush=True)
        if _has_left(pool, name):
            return


def _has_left(pool: Pool, name: str) -> bool:
    """Return whether it was reached, and has said goodbye since: it has pinged as often as it wanted, or its program is over."""
    ending = engine_of(pool).party(name).link.ending
    return ending is not None and ending.ending is Ending.SHUT_DOWN


def _shown(pool: Pool, name: str) -> str:
    stats = pool.stats[name]
    time = None if stats.round_trip is None else f"{1000 * stats.round_trip:.2f} ms"
    if _has_left(pool, name):
        return f"was there, and has said goodbye; {time or 'nothing'} was measured"
    return time or "not measured yet" if stats.connected else "not connected"
