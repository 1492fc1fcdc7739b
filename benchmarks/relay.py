"""Two parties directly and through a relay, in turn; and many parties on one relay that is killed and started again.

    python benchmarks/relay.py [--rounds N] [--parties N] [--smoke]

Relay and parties are processes of their own. Times are those of blocking pools, with certificates, on event loops of uvloop
where it is installed. Between two such pools is also the shortest relay that there can be in Python, `sidebyside/bare_relay.py`:
what it adds no relay can do without. All take turns of a few milliseconds. On a machine with other things to do most turns are
disturbed, and medians say what those do: so what the relay adds is judged by the quickest tenth of the turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sidebyside.certificates import write_certificates
from sidebyside.run import free_ports

from mpccomm import Pool, Relay, SyncPool

HOST = "127.0.0.1"
_ADDED, _BESIDE_BARE, _THROUGHPUT, _BACK = 150.0, 1.4, 0.4, 10.0
"""Bounds: microseconds that the relay adds to a round trip, how many times as long it takes as through the shortest relay, its
share of the direct throughput, seconds until all are back."""
_TIME_LIMIT = 300.0
_TURN = 25
"""Round trips in a row."""
_BARE = Path(__file__).parent / "sidebyside" / "bare_relay.py"
DIRECT, BARE, RELAY = "direct", "through the shortest", "through the relay"

ECHO = """
import logging, sys
from pathlib import Path
from mpccomm import Relay, SyncPool

logging.getLogger("mpccomm").setLevel(logging.ERROR)
folder, port, relay = sys.argv[1:]
folder = Path(folder)
credentials = {"key": folder / "1.key", "cert": folder / "1.pem", "ca_cert": folder / "ca.pem"}
with SyncPool(**credentials, relay=Relay(relay, folder / "token") if relay else None) as pool:
    if not relay:
        pool.add_http_server(int(port), "127.0.0.1")
    pool.add_http_client("Alice", "127.0.0.1", 0, cert=folder / "0.pem")
    while (message := pool.recv("Alice")) is not None:
        pool.send("Alice", message if len(message) < 1000 else len(message))
"""

WAKE = """
import socket, sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(1000):
        sock.sendall(data)
"""


def relay(folder: Path, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """One that runs until the end of the block."""
    return _listening(port, "-m", "mpccomm", "relay", "--listen", f"{HOST}:{port}", "--token-file", folder / "token")


@contextlib.contextmanager
def _listening(port: int, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, *arguments]
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


@dataclass(frozen=True)
class Duo:
    """Alice's pool, with a Bob who sends everything back."""

    pool: SyncPool
    between: int | None = None
    """The process in between."""


@contextlib.contextmanager
def duo(folder: Path, way: str) -> Iterator[Duo]:
    """Start both, and what is between them."""
    with contextlib.ExitStack() as stack:
        port, between = stack.enter_context(free_ports(2))
        url = f"http://{HOST}:{between}" if way == RELAY else ""
        process: subprocess.Popen[bytes] | None = None
        if way == RELAY:
            process = stack.enter_context(relay(folder, between))
        elif way == BARE:
            process = stack.enter_context(_listening(between, _BARE, str(between), str(port)))
        bob = stack.enter_context(subprocess.Popen([sys.executable, "-c", ECHO, str(folder), str(port), url]))
        try:
            while way == BARE and not _listens(port):
                time.sleep(0.05)
            credentials = folder / "0.key", folder / "0.pem", folder / "ca.pem"
            with SyncPool(*credentials, relay=Relay(url, folder / "token") if url else None) as pool:
                pool.add_http_client("Bob", HOST, between if way == BARE else port, cert=folder / "1.pem")
                pool.wait_ready(_TIME_LIMIT)
                yield Duo(pool, process.pid if process else None)
                pool.send("Bob", None)
        finally:
            bob.wait(_TIME_LIMIT)


def wake_up(times: int) -> float:
    """Microseconds until a process that was asleep has read what another one wrote, and has written itself: bare sockets."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((HOST, 0)))
        stack.enter_context(subprocess.Popen([sys.executable, "-c", WAKE, str(server.getsockname()[1])]))
        sock = stack.enter_context(server.accept()[0])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for _ in range(times):
            start = time.perf_counter()
            sock.sendall(b"x" * 100)
            sock.recv(1000)
            took.append((time.perf_counter() - start) / 2 * 1e6)
    return median(took)


def cpu(process: int | None) -> float:
    """Microseconds that a process of one thread has computed; NaN where only another system would tell."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1000
    except OSError:
        return math.nan


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


def compare(folder: Path, rounds: int, turns: int, size: int) -> None:
    """Print what two parties go through."""
    with contextlib.ExitStack() as stack:
        duos = {way: stack.enter_context(duo(folder, way)) for way in (DIRECT, BARE, RELAY)}
        for one in duos.values():
            round_trip(one.pool, 4 * _TURN)
        before = {way: cpu(one.between) for way, one in duos.items()}
        times = [{way: round_trip(one.pool, _TURN) for way, one in duos.items()} for _ in range(turns)]
        computed = {way: (cpu(one.between) - before[way]) / (turns * _TURN) for way, one in duos.items()}
        rates = [{way: throughput(one.pool, size) for way, one in duos.items()} for _ in range(rounds)]
    _show("round trip [us]", times)
    quick = {way: sorted(one[way] for one in times)[turns // 10] for way in duos}
    for way in (BARE, RELAY):
        print(
            f"  {way:20} adds {quick[way] - quick[DIRECT]:.0f} us (median of all {_paired(times, way, float.__sub__):.0f}), "
            f"{computed[way]:.0f} us of computing"
        )
    print(f"  a process is woken, reads and writes, with bare sockets: {wake_up(40 * _TURN):.0f} us")
    added, beside = quick[RELAY] - quick[DIRECT], quick[RELAY] / quick[BARE]
    print(f"  added to a round trip: {added:.0f} us, <= {_ADDED:g}  {'yes' if added <= _ADDED else 'NO'}")
    print(f"  beside the shortest: {beside:.2f}, <= {_BESIDE_BARE:g}  {'yes' if beside <= _BESIDE_BARE else 'NO'}")
    _show("throughput [MiB/s]", rates)
    share = _paired(rates, RELAY, float.__truediv__)
    print(f"  share of throughput: {share:.2f}, >= {_THROUGHPUT:g}  {'yes' if share >= _THROUGHPUT else 'NO'}")


def _show(what: str, found: list[dict[str, float]]) -> None:
    for way in found[0]:
        values = sorted(one[way] for one in found)
        print(f"  {what:20} {way:20} {median(values):8.1f} ({values[0]:.1f} to {values[-1]:.1f})")


def _paired(found: list[dict[str, float]], way: str, by: Callable[[float, float], float]) -> float:
    """The median of what one way came to beside the direct one, in the same round."""
    return median(by(one[way], one[DIRECT]) for one in found)


async def crowd(folder: Path, port: int, parties: int, messages: int) -> bool:
    """Print how long a ring of parties takes to come, and to come back when the relay was killed and started again.

    Returns whether every message arrived, once and in order. The relay listens at the port.
    """
    write_certificates(folder, parties)
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
    parser.add_argument(
        "--rounds",
        type=int,
        default=15,
        metavar="N",
        help="of throughput, and twenty times as many turns of round trips (default: %(default)s)",
    )
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
        compare(folder, arguments.rounds, 20 * arguments.rounds, 10**5 if arguments.smoke else 2**26)
        with free_ports(1) as (port,):
            return 0 if asyncio.run(crowd(folder, port, arguments.parties, 20 if arguments.smoke else 100)) else 1


if __name__ == "__main__":
    sys.exit(main())
