"""Three parties compute the sum and the mean of their private vectors, and no party shows its vector to another.

Each party runs in a process of its own, and they talk over HTTP on the loopback interface, as they would between three
machines. The protocol is additive secret sharing modulo 2**64 (Cramer, Damgard, Nielsen: Secure Multiparty Computation
and Secret Sharing, Cambridge University Press 2015, section 1.3). A party splits its vector into three shares that add
up to it, each of which alone is uniformly random; keeps one and sends one to each of the others; adds up the three
shares it now holds, one of each party; and sends that partial sum to the others. The partial sums add up to the sum.

In the source of this command, mpccomm/cli/demo.py, `secure_sum` is what a party runs; the rest starts the processes and looks at
the outcome.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any, TypeAlias

from mpccomm import SyncPool
from mpccomm.cli import Status
from mpccomm.cli.arguments import count
from mpccomm.errors import ConfigurationError, missing_library

with suppress(ModuleNotFoundError):  # its help needs no numpy; without it, `run` says what to install
    import numpy as np
if TYPE_CHECKING:
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float64]"
Share: TypeAlias = "NDArray[np.uint64]"
"""Integers modulo 2**64: numpy's unsigned arithmetic is exactly that."""

PARTIES = ("Alice", "Bob", "Carol")
LOOPBACK = "127.0.0.1"
PATIENCE = 60.0
"""Seconds after which the demo gives up a silent party."""

_ENDED = "{} ended before it was done; what it printed says why"

SCALE = 2.0**32
"""A number x is encoded as round(x * SCALE), so what is added must stay within +-2**31, and is exact to 2**-33."""


def encode(vector: Vector) -> Share:
    """Return the fixed-point encoding of a vector; negative numbers as their two's complement."""
    return np.rint(vector * SCALE).astype(np.int64).view(np.uint64)


def decode(encoded: Share) -> Vector:
    """Return the vector that `encode` has encoded, or the sum of several."""
    return encoded.view(np.int64) / SCALE


def split(secret: Share, count: int) -> list[Share]:
    """Return shares that add up to the secret. Fewer than all of them are uniform, and independent of the secret."""
    random = [np.frombuffer(secrets.token_bytes(secret.nbytes), np.uint64) for _ in range(count - 1)]
    return [secret - np.sum(random, axis=0, dtype=np.uint64), *random]


def secure_sum(pool: SyncPool, others: Sequence[str], vector: Vector) -> tuple[Vector, list[tuple[str, Share]]]:
    """Return the sum of the vectors of all parties, and every message that came in on the way, with its sender."""
    partial, *theirs = split(encode(vector), 1 + len(others))
    for other, share in zip(others, theirs, strict=True):
        pool.send(other, share)
    seen = []
    for other, share in pool.as_received(others):
        partial = partial + share
        seen.append((other, share))
    pool.broadcast(partial)
    total = partial
    for other, theirs in pool.as_received(others):
        total = total + theirs
        seen.append((other, theirs))
    return decode(total), seen


@dataclass(frozen=True)
class Outcome:
    """What one party tells the demo when it is done."""

    total: Vector
    seen: list[tuple[str, Share]]
    """Every message it received, with its sender."""
    sent: dict[str, tuple[int, int]]
    """How many messages and bytes it sent, by receiver."""


def party(name: str, demo: Connection) -> None:
    """Run one party, in its own process: open a pool, add the others, compute, and report to the demo."""
    # These two errors mean that the demo has gone.
    with suppress(EOFError, BrokenPipeError), demo, SyncPool(name=name) as pool:
        vector: Vector = demo.recv()
        pool.add_http_server(port=0, addr=LOOPBACK)
        demo.send(pool.port)  # port 0 means any free one: the demo tells the others which one it is
        ports: dict[str, int] = demo.recv()
        others = [other for other in ports if other != name]
        for other in others:
            pool.add_http_client(other, LOOPBACK, ports[other])
        total, seen = secure_sum(pool, others, vector)
        sent = {other: (pool.stats[other].messages_sent, pool.stats[other].bytes_sent) for other in others}
        demo.send(Outcome(total, seen, sent))


def compute(vectors: dict[str, Vector]) -> dict[str, Outcome]:
    """Start a party for each vector, introduce them to each other, and wait for what they say.

    Raises `RuntimeError` if a party ends without an outcome or says nothing for a minute.
    """
    with _started(list(vectors)) as connections:
        for name, vector in vectors.items():
            _tell(name, connections[name], vector)
        ports = _hear(connections)
        for name, connection in connections.items():
            _tell(name, connection, ports)
        return _hear(connections)


@contextmanager
def _started(names: Sequence[str]) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")  # nothing is inherited: each party knows only what it is given
    connections: dict[str, Connection] = {}
    processes: list[SpawnProcess] = []
    try:
        with _interrupts_held():
            for name in names:
                connections[name], theirs = context.Pipe()
                process = context.Process(target=party, args=(name, theirs), name=name)
                process.start()
                processes.append(process)
                theirs.close()  # so that the pipe ends when the party does
        yield connections
        for process in processes:
            process.join(PATIENCE)
    except RuntimeError:
        # A party that has failed says why before it ends.
        wait([process.sentinel for process in processes], 2)
        raise
    finally:
        # All at once and without a goodbye, so that none of them reports the end of another.
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for connection in connections.values():
            connection.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started inside never gets it. We do, and end the parties."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # It would be started inside, with the first party, and let Ctrl-C through from then on.
    resource_tracker.ensure_running()
    held: list[int] = []
    # Processes that are started here inherit the blocked signal. Another thread of this process, as numpy has, may still get it.
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _tell(name: str, connection: Connection, message: object) -> None:
    try:
        connection.send(message)
    except BrokenPipeError:
        raise RuntimeError(_ENDED.format(name)) from None


def _hear(connections: dict[str, Connection]) -> dict[str, Any]:
    """Return one message of every party. The first party that ends, or is silent for too long, ends the wait for all."""
    waiting = {connection: name for name, connection in connections.items()}
    heard: dict[str, Any] = {}
    while waiting:
        ready: list[Any] = wait(waiting, PATIENCE)
        if not ready:
            raise RuntimeError(f"nothing from {' and '.join(waiting.values())} for {PATIENCE:.0f} seconds")
        for connection in ready:
            name = waiting.pop(connection)
            try:
                heard[name] = connection.recv()
            except (EOFError, ConnectionResetError):
                raise RuntimeError(_ENDED.format(name)) from None
    return {name: heard[name] for name in connections}


def faults(vectors: dict[str, Vector], outcomes: dict[str, Outcome]) -> list[str]:
    """Return what is wrong with the outcomes: nothing, unless a sum is, or a party was sent more than noise."""
    found = []
    rounding = len(vectors) / (2 * SCALE)
    for name, outcome in outcomes.items():
        if not np.allclose(outcome.total, clear_sum(vectors), rtol=1e-12, atol=rounding):
            found.append(f"the sum that {name} has computed is not the sum of the vectors")
        for sender, message in outcome.seen:
            if np.any(message == encode(vectors[sender])):
                found.append(f"{name} received numbers of {sender}'s own vector")
            # The number of ones among n random bits has standard deviation sqrt(n) / 2; six of them: once in 10**9.
            if abs(ones(message) - 0.5) > 6 * 0.5 / np.sqrt(message.size * 64):
                found.append(f"what {name} received from {sender} is not uniformly random")
    return found


def clear_sum(vectors: dict[str, Vector]) -> Vector:
    """Return the sum of the vectors, by one who sees them all."""
    total: Vector = np.sum(list(vectors.values()), axis=0)
    return total


def ones(message: Share) -> float:
    """Return the fraction of ones among the bits of a message: 0.5 if it is uniformly random."""
    return float(np.bitwise_count(message).sum()) / (message.size * 64)


def report(vectors: dict[str, Vector], outcomes: dict[str, Outcome]) -> None:
    """Print who sent what to whom, what came out, and what each of them saw."""
    print(f"{'from':<8}{'to':<8}{'messages':>10}{'bytes':>14}")
    for name, outcome in outcomes.items():
        for other, (messages, size) in outcome.sent.items():
            print(f"{name:<8}{other:<8}{messages:>10,}{size:>14,}")
    total = next(iter(outcomes.values())).total
    deviation = np.abs(total - clear_sum(vectors)).max()
    seen = [message for outcome in outcomes.values() for _, message in outcome.seen]
    fractions = [ones(message) for message in seen]
    print()
    print(f"sum   {_preview(total)}")
    print(f"mean  {_preview(total / len(vectors))}")
    print()
    print(f"Every party holds this sum, and it equals the sum in the clear (to {deviation:.1e}: fixed point rounds).")
    print(f"No party saw another's vector. Of the bits in the {len(seen):,} messages received, {min(fractions):.2%} to")
    print(f"{max(fractions):.2%} are ones, as in noise, and none of the numbers is the sender's own.")


def _preview(vector: Vector) -> str:
    numbers = "".join(f"{number:>10.3f}" for number in vector[:5])
    return numbers + " ..." if vector.size > 5 else numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--length", type=count, default=10_000, help="of each vector (default: 10000)")


def run(options: argparse.Namespace) -> int:
    """Make the vectors, have them added, and judge the outcome."""
    if "np" not in globals():
        raise ConfigurationError(missing_library("the demo", "numpy", "numpy"))
    private = np.random.default_rng()
    vectors = {name: private.normal(scale=100.0, size=options.length) for name in PARTIES}
    print(f"{', '.join(PARTIES)}: each has a private vector of length {options.length:,} and a process of its own.")
    print(
        "They compute the sum and the mean by additive secret sharing modulo 2**64, over HTTP on loopback.\n",
        flush=True,
    )
    try:
        outcomes = compute(vectors)
    except RuntimeError as error:
        found = [str(error)]
    else:
        found = faults(vectors, outcomes)
    for fault in found:
        print(f"FAULT: {fault}", file=sys.stderr)
    if found:
        return Status.WRONG
    report(vectors, outcomes)
    return Status.WELL
