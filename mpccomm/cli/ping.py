"""Connect to the other parties and tell the round-trip times, again and again.

    mpccomm ping mpccomm.toml --me alice
    mpccomm ping mpccomm.toml --me alice --party bob --count 10

The others run their programs, which take no note of it, or ping as well; this party's own program must not run meanwhile. No
message is sent: the times are those of heartbeats, smoothed. The exit status is 1 if a party could not be reached.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mpccomm import NotReadyError, Pool
from mpccomm.cli.arguments import add_choice, chosen, count, password_from, seconds
from mpccomm.config import Config, build
from mpccomm.engine.base_pool import visiting

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
    # Dial at once: who asks wants to know what happens when we do.
    retry = replace(config.settings.retry, give_way=_AT_ONCE)
    config = replace(config, settings=replace(config.settings, timing=timing, retry=retry))
    kept = {name: party for name, party in config.parties.items() if name in names or name == me}
    pool: Pool = build(visiting(Pool), replace(config, parties=kept), me, password_from(options.password_file))
    async with pool:
        missing: dict[str, str] = {}
        try:
            await pool.wait_ready(options.timeout)
        except NotReadyError as error:
            missing = error.missing
        for name, why in missing.items():
            print(f"{name} at {why}", flush=True)
        for _ in range(options.count if len(missing) < len(names) else 0):
            await asyncio.sleep(options.interval)
            for name in names:
                stats = pool.stats[name]
                if name not in missing:
                    seconds = stats.round_trip
                    trip = "not measured yet" if seconds is None else f"{1000 * seconds:.2f} ms"
                    print(f"{name}: {trip if stats.connected else 'not connected'}", flush=True)
        return int(any(not pool.stats[name].connected for name in names))
