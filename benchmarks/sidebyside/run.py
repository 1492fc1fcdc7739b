"""Starts the processes of one contender, has them do the works, and ends them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidebyside.contenders import CONTENDERS
from sidebyside.contenders.base import HOST
from sidebyside.works import works

ROOT = Path(__file__).resolve().parents[2]
_TIME_LIMIT = 60.0


@dataclass
class Result:
    """Samples of one contender in one work, over all rounds; or why there are none."""

    rounds: list[list[float]] = field(default_factory=list)
    remark: str | None = None


class FailedError(Exception):
    """A process of a contender failed; the text has its last words."""


class SkippedError(Exception):
    """The contender says that it can't take part."""


class Process:
    """A party, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    async def start(cls, python: str, contender: str, errors: Path) -> Process:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])}
        with errors.open("w") as file:
            process = await asyncio.create_subprocess_exec(
                python,
                "-m",
                "sidebyside.party",
                contender,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env=environment,
                limit=2**24,
            )
        return cls(process, errors)

    async def order(self, **order: Any) -> Any:
        """Have something done; returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise FailedError(self.last_words() or "it ended without a word")
        return json.loads(line)

    def last_words(self) -> str:
        """What it wrote to its standard error in the end."""
        return self._errors.read_text()[-2000:]

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Free ports. On Linux they stay reserved: no other program is given one before a contender listens there."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            if sys.platform != "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, 0))
        ports = [sock.getsockname()[1] for sock in sockets]
        if sys.platform != "linux":
            stack.close()
        yield ports


async def _all(*orders: Any) -> list[Any]:
    async with asyncio.timeout(_TIME_LIMIT), asyncio.TaskGroup() as group:
        tasks = [group.create_task(order) for order in orders]
    return [task.result() for task in tasks]


async def _session(
    python: str,
    contender: str,
    names: Sequence[str],
    parties: int,
    scale: float,
    certificates: str | None,
    delay: float,
) -> dict[str, tuple[list[float], str | None]]:
    results: dict[str, tuple[list[float], str | None]] = {}
    known = works(scale)
    async with AsyncExitStack() as stack:
        ports = stack.enter_context(free_ports(parties))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        doors = await stack.enter_async_context(_relay(ports, delay)) if delay else []
        processes = await _all(
            *(Process.start(python, contender, Path(directory) / str(number)) for number in range(parties))
        )
        try:
            places = [
                {"me": number, "ports": ports, "doors": doors, "certificates": certificates}
                for number in range(parties)
            ]
            for trouble in await _all(
                *(process.order(do="listen", **place) for process, place in zip(processes, places, strict=True))
            ):
                if trouble is not None:
                    raise SkippedError(trouble)
            await _all(*(process.order(do="connect") for process in processes))
            for name in names:
                taking_part = processes[: known[name].parties]
                samples, *remarks = await _all(
                    *(process.order(do="work", name=name, scale=scale) for process in taking_part)
                )
                results[name] = samples, remarks[0]
            await _all(*(process.order(do="close") for process in processes))
        except* FailedError as errors:
            raise FailedError(str(errors.exceptions[0])) from None
        except* TimeoutError:
            said = "\n".join(filter(None, (process.last_words() for process in processes)))
            raise FailedError(f"no answer within {_TIME_LIMIT:g} s\n{said}") from None
        finally:
            await asyncio.gather(*(process.end() for process in processes))
    return results


@asynccontextmanager
async def _relay(ports: Sequence[int], delay: float) -> AsyncIterator[list[int]]:
    """A long line to each of the ports; the ports at which it begins."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sidebyside.relay",
        str(delay),
        *map(str, ports),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


class Comparison:
    """All contenders with all works, round after round, so that whatever drifts meets all of them alike."""

    def __init__(
        self,
        contenders: Sequence[str],
        names: Sequence[str],
        pythons: dict[str, str],
        certificates: str | None,
        scale: float,
        delay: float = 0.0,
    ) -> None:
        self.results: dict[str, dict[str, Result]] = {contender: {} for contender in contenders}
        self.troubles: dict[str, str] = {}
        self.rounds = 0
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        """How many other programs wanted a core in the minute before."""
        self._names = names
        self._pythons = pythons
        self._certificates = certificates
        self._scale = scale
        self._delay = delay
        """Seconds that every byte is under way, beside the time that it takes anyway."""

    def rounds_for(self, seconds: float) -> None:
        """At least one round; another one as long as it is likely to fit into the time."""
        start = time.monotonic()
        while not self.rounds or (time.monotonic() - start) * (self.rounds + 1) / self.rounds < seconds:
            self.round()

    def round(self) -> None:
        """Everybody, once."""
        self.rounds += 1
        for contender in self.results:
            if contender not in self.troubles:
                self._measure(contender)

    def _measure(self, contender: str) -> None:
        entry = CONTENDERS[contender]
        print(f"round {self.rounds}: {entry.title}", file=sys.stderr, flush=True)
        known = works(self._scale)
        certificates = self._certificates if entry.tls else None
        mine = [name for name in self._names if known[name].kind in entry.kinds]
        pairs = [name for name in mine if known[name].parties == 2]
        for chosen in (pairs, [name for name in mine if name not in pairs]):
            if not chosen:
                continue
            parties = max(known[name].parties for name in chosen)
            python = self._pythons[entry.environment]
            try:
                found = asyncio.run(
                    _session(python, contender, chosen, parties, self._scale, certificates, self._delay)
                )
            except (FailedError, SkippedError) as error:
                kind = "" if isinstance(error, SkippedError) else "failed: "
                self.troubles[contender] = f"{kind}{error}"
                return
            for name, (samples, remark) in found.items():
                result = self.results[contender].setdefault(name, Result())
                result.rounds.append(samples)
                result.remark = remark
