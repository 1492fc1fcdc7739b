"""Connect to the other parties and tell the round-trip times, again and again.

    mpccomm ping mpccomm.toml --me alice
    mpccomm ping mpccomm.toml --me alice --party bob --count 10

The others run their programs, or ping as well; this party's own program must not run meanwhile. No message is sent: the times are
those of heartbeats, smoothed. The exit status is 1 if a party could not be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from mpccomm import CommunicationError, NotReadyError, Pool
from mpccomm.cli.doctor import add_choice, chosen, password_from
from mpccomm.config import Config, build


def main(arguments: Sequence[str]) -> int:
    """Reach the parties and print their times; the exit status tells whether all were reached."""
    options = _options(arguments)
    try:
        config, me = chosen(options)
        names = options.party or [name for name in config.parties if name != me]
        for name in names:
            config.party(name)
        return asyncio.run(_ping(config, me, names, options))
    except CommunicationError as error:
        print(f"mpccomm ping: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mpccomm ping", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(parser)
    parser.add_argument(
        "--party", action="append", metavar="NAME", help="whom; may be given several times (default: all)"
    )
    parser.add_argument("--count", type=int, default=4, metavar="N", help="how many times (default: %(default)s)")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="to connect, in seconds (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.count < 1 or not options.interval > 0 or not options.timeout > 0:
        parser.error("--count, --interval and --timeout are more than 0")
    return options


async def _ping(config: Config, me: str, names: Sequence[str], options: argparse.Namespace) -> int:
    timing = replace(config.settings.timing, heartbeat=options.interval / 2, tick=min(0.5, options.interval / 4))
    config = replace(config, settings=replace(config.settings, timing=timing))
    kept = {name: party for name, party in config.parties.items() if name in names or name == me}
    pool: Pool = build(Pool, replace(config, parties=kept), me, password_from(options))
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
