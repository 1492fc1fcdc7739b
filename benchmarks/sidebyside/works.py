"""What is measured: each work has a leader, who holds the clock, and followers. Both run the same number of repetitions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sidebyside.contenders.base import Contender

MIB = 1024 * 1024
SMALL = bytes(range(100))
_BLOCKS = 10
FAR = ("burst", "rounds")
"""Of interest where an answer takes its time."""


class Work(Protocol):
    """``lead`` and ``follow`` run at the same time, in different processes."""

    title: str
    unit: str
    parties: int
    kind: str
    """Not every contender does all: ``small`` messages, a large ``value``, ``threads``, ``broadcast``, over a ``distance``."""

    async def lead(self, contender: Contender) -> list[float]:
        """The samples, in ``unit``."""

    async def follow(self, contender: Contender) -> str | None:
        """Returns what a value arrived as, where it is not what was sent."""


@dataclass(frozen=True)
class RoundTrip:
    """A send and a recv on each side, both completed."""

    count: int
    title: str = "round trip, 100 B"
    unit: str = "us"
    parties: int = 2
    kind: str = "small"

    async def lead(self, contender: Contender) -> list[float]:
        samples = []
        count = max(self.count // _BLOCKS, 1)
        for _ in range(_BLOCKS + 1):
            start = time.perf_counter()
            for _ in range(count):
                await contender.send(1, SMALL)
                await contender.recv(1)
            samples.append((time.perf_counter() - start) / count * 1e6)
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(max(self.count // _BLOCKS, 1) * (_BLOCKS + 1)):
            message = await contender.recv(0)
            await contender.send(0, message)


@dataclass(frozen=True)
class Rate:
    """Messages of 100 bytes, up to 100 at once, until the last one was delivered and received."""

    count: int
    repeat: int = 3
    title: str = "messages per second, 100 B"
    unit: str = "/s"
    parties: int = 2
    kind: str = "small"

    async def lead(self, contender: Contender) -> list[float]:
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            await contender.send_many(1, SMALL, self.count)
            await contender.recv(1)
            samples.append(self.count / (time.perf_counter() - start))
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(self.repeat + 1):
            await contender.recv_many(0, self.count)
            await contender.send(0, b"all")


@dataclass(frozen=True)
class Handles:
    """Messages of 100 bytes by ``asend`` from several threads, until the last one was delivered."""

    count: int
    threads: int
    repeat: int = 8
    unit: str = "/s"
    parties: int = 2
    kind: str = "threads"

    @property
    def title(self) -> str:
        return f"asend per second, 100 B, {self.threads} thread{'s' * (self.threads > 1)}"

    async def lead(self, contender: Contender) -> list[float]:
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            contender.send_from_threads(1, SMALL, self.count, self.threads)  # type: ignore[attr-defined]
            samples.append(self.count / (time.perf_counter() - start))
            await contender.recv(1)
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(self.repeat + 1):
            await contender.recv_many(0, self.count // self.threads * self.threads)
            await contender.send(0, b"all")


@dataclass(frozen=True)
class Transfer:
    """One large value there, a short answer back."""

    title: str
    make: Callable[[], Any]
    repeat: int = 3
    unit: str = "ms"
    parties: int = 2
    kind: str = "value"

    async def lead(self, contender: Contender) -> list[float]:
        value = self.make()
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            await contender.send(1, value)
            await contender.recv(1)
            samples.append((time.perf_counter() - start) * 1e3)
        return samples[1:]

    async def follow(self, contender: Contender) -> str | None:
        arrived = None
        for turn in range(self.repeat + 1):
            value = await contender.recv(0)
            if not turn:
                arrived = _compare(self.make(), value)
            del value
            await contender.send(0, b"here")
        return arrived


@dataclass(frozen=True)
class Burst:
    """Many messages sent together, until the last one was delivered."""

    count: int
    size: int
    repeat: int = 5
    unit: str = "ms"
    parties: int = 2
    kind: str = "distance"

    @property
    def title(self) -> str:
        return f"{self.count:,} messages of {self.size:,} B together"

    async def lead(self, contender: Contender) -> list[float]:
        value = bytes(self.size)
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            await contender.send_together(1, value, self.count)
            samples.append((time.perf_counter() - start) * 1e3)
            await contender.recv(1)
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(self.repeat + 1):
            await contender.recv_many(0, self.count)
            await contender.send(0, b"all")


@dataclass(frozen=True)
class Rounds:
    """Rounds one after the other, each a small message there and one back."""

    rounds: int
    repeat: int = 3
    unit: str = "ms"
    parties: int = 2
    kind: str = "distance"

    @property
    def title(self) -> str:
        return f"protocol of {self.rounds} rounds"

    async def lead(self, contender: Contender) -> list[float]:
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            for _ in range(self.rounds):
                await contender.send(1, SMALL)
                await contender.recv(1)
            samples.append((time.perf_counter() - start) * 1e3)
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(self.rounds * (self.repeat + 1)):
            await contender.send(0, await contender.recv(0))


@dataclass(frozen=True)
class Broadcast:
    """1 MiB to several parties, an answer from each; the time is that per MiB sent."""

    receivers: int
    size: int = MIB
    repeat: int = 10
    unit: str = "ms/MiB"
    kind: str = "broadcast"

    @property
    def parties(self) -> int:
        return self.receivers + 1

    @property
    def title(self) -> str:
        return f"broadcast, 1 MiB to {self.receivers}"

    async def lead(self, contender: Contender) -> list[float]:
        value = bytes(self.size)
        others = range(1, self.parties)
        samples = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            await contender.broadcast(others, value)
            for other in others:
                await contender.recv(other)
            samples.append((time.perf_counter() - start) * 1e3 / (self.receivers * self.size / MIB))
        return samples[1:]

    async def follow(self, contender: Contender) -> None:
        for _ in range(self.repeat + 1):
            await contender.recv_broadcast(0)
            await contender.send(0, b"here")


def _compare(sent: Any, arrived: Any) -> str | None:
    if type(arrived) is not type(sent) and not isinstance(arrived, bytes | bytearray | memoryview):
        return f"{type(arrived).__name__} in place of {type(sent).__name__}"
    same = bool((arrived == sent).all()) if hasattr(sent, "dtype") else arrived == sent
    return None if same else "not what was sent"


# -- values -----------------------------------------------------------------------------------------------------------


def floats(size: int) -> Callable[[], Any]:
    """An array of so many bytes."""

    def make() -> Any:
        import numpy

        return numpy.random.default_rng(1).random(size // 8)

    return make


def integers(count: int) -> list[int]:
    source = random.Random(1)
    return [source.getrandbits(2048) | 1 << 2047 for _ in range(count)]


def mpzs(count: int) -> list[Any]:
    import gmpy2

    return [gmpy2.mpz(number) for number in integers(count)]


def float_list(count: int) -> list[float]:
    source = random.Random(1)
    return [source.random() for _ in range(count)]


def works(scale: float = 1.0) -> dict[str, Work]:
    """All of them, by their short names; ``scale`` makes everything smaller."""

    def n(count: int) -> int:
        return max(int(count * scale), 100)

    def size(mib: int) -> int:
        return max(int(mib * MIB * scale), 80_000) // 8 * 8

    found: Sequence[tuple[str, Work]] = (
        ("roundtrip", RoundTrip(n(1_000))),
        ("rate", Rate(n(5_000))),
        ("numpy8", Transfer("numpy float64, 8 MiB", floats(size(8)))),
        ("numpy64", Transfer("numpy float64, 64 MiB", floats(size(64)))),
        ("bytes64", Transfer("bytes, 64 MiB", lambda: bytes(size(64)))),
        ("ints", Transfer("10,000 int of 2048 bits", lambda: integers(n(10_000)))),
        ("mpz", Transfer("10,000 mpz of 2048 bits", lambda: mpzs(n(10_000)))),
        ("floats", Transfer("list of 1,000,000 floats", lambda: float_list(n(1_000_000)))),
        ("asend1", Handles(n(8_000), threads=1)),
        ("asend8", Handles(n(8_000), threads=8)),
        ("broadcast2", Broadcast(2, size(1))),
        ("broadcast4", Broadcast(4, size(1))),
        ("broadcast8", Broadcast(8, size(1))),
        ("burst", Burst(n(1_000), 1024)),
        ("rounds", Rounds(max(int(20 * scale), 2))),
    )
    return dict(found)
