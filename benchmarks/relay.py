"""Two parties directly and through a relay, in turn; and many parties on one relay that is killed and started again.

    python benchmarks/relay.py [--rounds N] [--parties N] [--smoke]

Relay and parties are processes of their own. Times are those of blocking pools, with certificates, on event loops of uvloop
where it is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from sidebyside.certificates import write_certificates
from sidebyside.run import free_ports

from mpccomm import Pool, Relay, SyncPool

HOST = "127.0.0.1"
_ADDED, _THROUGHPUT, _BACK = 150.0, 0.4, 10.0
"""Bounds: microseconds that the relay adds to a round trip, its share of the direct throughput, seconds until all are back."""
_TIME_LIMIT = 300.0

ECHO = """
import sys
from pathlib import Path
from mpccomm import Relay, SyncPool

folder, port, other, relay = sys.argv[1:]
folder = Path(folder)
credentials = {"key": folder / "1.key", "cert": folder / "1.pem", "ca_cert": folder / "ca.pem"}
with SyncPool(**credentials, relay=Relay(relay, folder / "token") if relay else None) as pool:
    if not relay:
        pool.add_http_server(int(port), "127.0.0.1")
    pool.add_http_client("Alice", "127.0.0.1", int(other), cert=folder / "0.pem")
    while (message := pool.recv("Alice")) is not None:
        pool.send("Alice", message if len(message) < 1000 else len(message))
"""


@contextlib.contextmanager
def relay(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs until the end of the block."""
    command = [sys.executable, "-m", "mpccomm", "relay", "--listen", f"{HOST}:{port}", "--token-file", folder / "token"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _listens(port):
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


@contextlib.contextmanager
def duo(folder: Path, through: str) -> Iterator[SyncPool]:
    """Alice's pool, with a Bob who sends everything back; through a relay, or directly."""
    ports = free_ports(2)
    credentials = {"key": folder / "0.key", "cert": folder / "0.pem", "ca_cert": folder / "ca.pem"}
    arguments = [str(folder), str(ports[1]), str(ports[0]), through]
    with subprocess.Popen([sys.executable, "-c", ECHO, *arguments]) as bob:
        try:
            with SyncPool(**credentials, relay=Relay(through, folder / "token") if through else None) as pool:
                if not through:
                    pool.add_http_server(ports[0], HOST)
                pool.add_http_client("Bob", HOST, ports[1], cert=folder / "1.pem")
                pool.wait_ready(_TIME_LIMIT)
                yield pool
                pool.send("Bob", None)
        finally:
            bob.wait(_TIME_LIMIT)


def round_trip(pool: SyncPool, times: int) -> float:
    """Microseconds of one of these."""
    start = time.perf_counter()
    for _ in range(times):
        pool.send("Bob", b"x" * 100)
        pool.recv("Bob")
    return (time.perf_counter() - start) / times * 1e6


def throughput(pool: SyncPool, size: int) -> float:
    """MiB a second."""
    start = time.perf_counter()
    pool.send("Bob", bytes(size))
    pool.recv("Bob")
    return size / 2**20 / (time.perf_counter() - start)


def compare(folder: Path, rounds: int, times: int, size: int) -> None:
    """Print what two parties go through."""
    (port,) = free_ports(1)
    with relay(folder, port), duo(folder, "") as direct, duo(folder, f"http://{HOST}:{port}") as relayed:
        measures: tuple[tuple[str, Callable[[SyncPool], float]], ...] = (
            ("round trip [us]", lambda pool: round_trip(pool, times)),
            ("throughput [MiB/s]", lambda pool: throughput(pool, size)),
        )
        found = {}
        for name, measure in measures:
            pairs = [(measure(direct), measure(relayed)) for _ in range(rounds)]
            found[name] = pairs
            for way, values in zip(("direct", "through the relay"), zip(*pairs, strict=True), strict=True):
                print(f"  {name:20} {way:18} {median(values):8.1f} ({min(values):.1f} to {max(values):.1f})")
    added = median(through - straight for straight, through in found["round trip [us]"])
    share = median(through / straight for straight, through in found["throughput [MiB/s]"])
    print(f"  added to a round trip: {added:.0f} us, <= {_ADDED:g}  {'yes' if added <= _ADDED else 'NO'}")
    print(f"  share of throughput: {share:.2f}, >= {_THROUGHPUT:g}  {'yes' if share >= _THROUGHPUT else 'NO'}")


async def crowd(folder: Path, parties: int, messages: int) -> bool:
    """Print how long a ring of parties takes to come, and to come back when the relay was killed and started again.

    Returns whether every message arrived, once and in order.
    """
    write_certificates(folder, parties)
    (port,) = free_ports(1)
    url = Relay(f"http://{HOST}:{port}", folder / "token")
    loop = asyncio.get_running_loop()
    ring = [Pool(key=folder / f"{me}.key", cert=folder / f"{me}.pem", relay=url, name=str(me)) for me in range(parties)]
    after = [(me + 1) % parties for me in range(parties)]
    back: dict[int, float] = {}
    started = asyncio.Event()

    async def tell(me: int) -> None:
        for number in range(messages):
            await ring[me].send(str(after[me]), number)
            await asyncio.sleep(0.1)

    async def listen(me: int) -> bool:
        received = []
        for _ in range(messages):
            received.append(await ring[after[me]].recv(str(me)))
            if started.is_set():
                back.setdefault(me, loop.time())
        return received == [*range(messages)]

    try:
        async with asyncio.timeout(_TIME_LIMIT):
            with relay(folder, port):
                start = loop.time()
                for me, pool in enumerate(ring):
                    for other in {after[me], (me - 1) % parties}:
                        pool.add_http_client(str(other), cert=folder / f"{other}.pem")
                await asyncio.gather(*(pool.wait_ready(_TIME_LIMIT) for pool in ring))
                print(f"  {parties} parties in a ring, all ready after {loop.time() - start:.1f} s")
                tasks = [asyncio.ensure_future(work(me)) for me in range(parties) for work in (tell, listen)]
                await asyncio.sleep(1)
            # Until all know that it is gone.
            while any(pool.stats[name].connected for pool in ring for name in pool.parties):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with relay(folder, port):
                start = loop.time()
                started.set()
                results = await asyncio.gather(*tasks)
                took = max(back.values()) - start
                kept = all(result is not False for result in results)
                await asyncio.gather(*(pool.shutdown(20) for pool in ring))
    finally:
        await asyncio.gather(*(pool.shutdown(0) for pool in ring))
    print(f"  killed and started again: all back after {took:.1f} s, <= {_BACK:g}  {'yes' if took <= _BACK else 'NO'}")
    print(
        f"  {parties * messages} messages: {'each arrived, once and in order' if kept else 'LOST, DOUBLED OR MIXED UP'}"
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="of each measure (default: %(default)s)")
    parser.add_argument("--parties", type=int, default=200, metavar="N", help="on one relay (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to see that everything works")
    arguments = parser.parse_args()
    logging.getLogger("mpccomm").setLevel(logging.ERROR)  # they wait for each other, and for the relay
    if arguments.smoke:
        arguments.rounds, arguments.parties = 1, 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "token").write_text(secrets.token_urlsafe() + "\n")
        write_certificates(folder, 2)
        compare(folder, arguments.rounds, *((20, 10**5) if arguments.smoke else (500, 2**26)))
        return 0 if asyncio.run(crowd(folder, arguments.parties, 20 if arguments.smoke else 100)) else 1


if __name__ == "__main__":
    sys.exit(main())
