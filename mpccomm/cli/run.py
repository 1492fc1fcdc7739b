"""Start all parties as processes on this machine, to try a protocol out.

    mpccomm run -n 3 protocol.py --rounds 10
    mpccomm run --parties alice,bob,carol --tls -m my.protocol

The program makes its pool with ``SyncPool.from_env()`` or ``Pool.from_env()``. What the parties print is labelled with their
names. The first that fails stops all; Ctrl-C does so too, and a second time at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mpccomm.cli import certs
from mpccomm.config import ME
from mpccomm.environment import CONFIG
from mpccomm.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
TIMED_OUT = 124
"""Exit status, as that of timeout(1)."""
INTERRUPTED = 130

_GRACE = 5.0
"""Seconds that parties have to end by themselves when they are told to."""
_COLOURS = (36, 33, 32, 35, 34, 31)
_CHUNK = 1 << 16


def main(arguments: Sequence[str]) -> int:
    """Run the parties; the exit status is that of the first that failed, or 0."""
    options = _options(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="mpccomm-") as folder, _ports(len(options.parties)) as ports:
            config = _configure(Path(folder), dict(zip(options.parties, ports, strict=True)), options.tls)
            return asyncio.run(_Group(options, config).run())
    except (ConfigurationError, OSError) as error:
        print(f"mpccomm run: {error}", file=sys.stderr)
        return 2


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mpccomm run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] (-n N | --parties NAMES) [--tls] [--log-dir DIR] [--timeout S] (script.py | -m module) ...",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("-n", type=int, metavar="N", help="how many; they are called party-0, party-1 and so on")
    who.add_argument("--parties", metavar="NAMES", help="their names, with commas")
    parser.add_argument(
        "--tls", action="store_true", help="with certificates, made for this run and thrown away after it"
    )
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="write what each party prints to DIR/NAME.log as well"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", help=f"stop after so many seconds, with exit status {TIMED_OUT}"
    )
    parser.add_argument(
        "-m", action="store_true", dest="module", help="what follows is the name of a module, as of python -m"
    )
    parser.add_argument("script", help="the program that every party runs")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what it is given")
    options = parser.parse_args(arguments)
    if options.n is not None and options.n < 1:
        parser.error(f"there can't be {options.n} parties")
    if options.timeout is not None and not options.timeout > 0:
        parser.error("--timeout takes seconds, more than 0")
    names = options.parties.split(",") if options.parties else [f"party-{number}" for number in range(options.n)]
    options.parties = [name.strip() for name in names]
    for name in options.parties:
        if not name or not name.isprintable() or set('/\\:*?"<>|') & set(name) or name.startswith("."):
            parser.error(f"{name!r} can't be the name of a party: it is also that of its log")
        if options.parties.count(name) > 1:
            parser.error(f"{name!r} is there twice")
    return options


# -- what they need ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ports(count: int) -> Iterator[list[int]]:
    """Free ports. On Linux they stay reserved: who binds another may be told any but these, the parties can have them."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for _ in range(count):
            one = sockets.enter_context(socket.socket())
            if sys.platform != "win32":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((LOOPBACK, 0))
            ports.append(one.getsockname()[1])
        if sys.platform != "linux":
            sockets.close()
        yield ports


def _configure(folder: Path, ports: Mapping[str, int], tls: bool) -> Path:
    """The file for all parties, with certificates if asked for."""
    text = ""
    if tls:
        # What it has to say is for people who make certificates to keep.
        with contextlib.redirect_stdout(io.StringIO()):
            commands = [["init"], *(["issue", name, LOOPBACK] for name in ports)]
            if any(certs.main([*command, "--folder", str(folder), "--days", "1"]) for command in commands):
                raise ConfigurationError("the certificates could not be made")
        text = f"ca_cert = {json.dumps(str(folder / 'authority.cert.pem'))}\n"
    for name, port in ports.items():
        text += f"[parties.{json.dumps(name)}]\naddr = {json.dumps(LOOPBACK)}\nport = {port}\n"
        if tls:
            for what in ("cert", "key"):
                text += f"{what} = {json.dumps(str(folder / name / f'{name}.{what}.pem'))}\n"
    path = folder / "mpccomm.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- the processes -----------------------------------------------------------------------------------------------------


@dataclass
class _Party:
    name: str
    process: asyncio.subprocess.Process
    relays: list[threading.Thread]


class _Group:
    """The processes of one run."""

    def __init__(self, options: argparse.Namespace, config: Path) -> None:
        self._options = options
        self._config = config
        self._parties: list[_Party] = []
        self._width = max(map(len, options.parties))
        self._signals = asyncio.Queue[int]()

    async def run(self) -> int:
        """Start them, wait for the end, leave nothing behind."""
        with self._listening(), contextlib.ExitStack() as logs:
            try:
                for number, name in enumerate(self._options.parties):
                    await self._start(number, name, logs)
                return await self._watch()
            finally:
                await self._stop()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def _start(self, number: int, name: str, logs: contextlib.ExitStack) -> None:
        options = self._options
        program = ["-m", options.script] if options.module else [options.script]
        log: BinaryIO | None = None
        if options.log_dir is not None:
            options.log_dir.mkdir(parents=True, exist_ok=True)
            log = logs.enter_context((options.log_dir / f"{name}.log").open("wb"))
        # Pipes and threads of our own: asyncio's would not say that a party has ended while something that it started
        # holds them open.
        with _pipe() as (output, into_output), _pipe() as (errors, into_errors):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *program,
                *options.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into_output,
                stderr=into_errors,
                env=os.environ | {ME: name, CONFIG: str(self._config), "PYTHONUNBUFFERED": "1"},
                # A group of its own: what it starts is stopped with it, and Ctrl-C reaches it through us alone, once.
                start_new_session=True,
            )
        party = _Party(name, process, [])
        self._parties.append(party)
        for source, target in ((output, sys.stdout), (errors, sys.stderr)):
            label = _label(name.ljust(self._width), number, target.isatty())
            relay = threading.Thread(target=_relay, args=(source, target.buffer, label, log), daemon=True)
            relay.start()
            party.relays.append(relay)

    async def _watch(self) -> int:
        """Until all have ended, one has failed, time is up, or a signal says so."""
        deadline = None if self._options.timeout is None else asyncio.get_running_loop().time() + self._options.timeout
        told = asyncio.create_task(self._signals.get())
        waiting = {asyncio.create_task(party.process.wait()): party for party in self._parties}
        try:
            while waiting:
                left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0)
                done, _ = await asyncio.wait({told, *waiting}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if told in done:
                    return await self._interrupted(told.result())
                if not done:
                    running = ", ".join(party.name for party in waiting.values())
                    self._say(f"stopped after {self._options.timeout:g} s; still running: {running}")
                    return TIMED_OUT
                # Of several that have ended, the first in order that failed: the others may have failed because of it.
                for task in [task for task in waiting if task in done]:
                    party = waiting.pop(task)
                    if status := _status(party.process.returncode):
                        self._say(f"{party.name} ended with status {status}; stopping the others")
                        return status
            return 0
        finally:
            for task in (told, *waiting):
                task.cancel()

    async def _interrupted(self, number: int) -> int:
        """Pass the signal on, and give them time for their goodbyes."""
        for party in self._parties:
            self._signal(party, number)
        ended = asyncio.create_task(self._all_ended())
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait({ended, again}, timeout=_GRACE, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, again):
            task.cancel()
        if again.done() and not again.cancelled():
            for party in self._parties:
                self._signal(party, _KILL)
        return 128 + number

    async def _stop(self) -> None:
        """Whatever is left: told to end, then killed, with all that it started."""
        for number in (signal.SIGTERM, _KILL):
            for party in self._parties:
                # Those that ended may have left something in their group.
                self._signal(party, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._all_ended()
        for relay in (relay for party in self._parties for relay in party.relays):
            relay.join(_GRACE)

    async def _all_ended(self) -> None:
        await asyncio.gather(*(party.process.wait() for party in self._parties))

    def _signal(self, party: _Party, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                party.process.terminate()
            else:
                os.killpg(party.process.pid, number)

    def _say(self, text: str) -> None:
        print(f"mpccomm run: {text}", file=sys.stderr, flush=True)


_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL


def _status(code: int | None) -> int:
    """As a shell has it: 128 + n for signal n."""
    assert code is not None
    return 128 - code if code < 0 else code


def _label(name: str, number: int, colour: bool) -> bytes:
    text = f"{name} | "
    if colour and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"
    return text.encode()


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, int]]:
    """A pipe, for a process that is started inside; what is left here afterwards is the end to read from."""
    reading, writing = os.pipe()
    try:
        yield os.fdopen(reading, "rb", buffering=0), writing
    finally:
        os.close(writing)


def _relay(source: BinaryIO, target: BinaryIO, label: bytes, log: BinaryIO | None) -> None:
    """Copy line by line, each with the label; what never ends a line is passed on in pieces."""
    rest = b""
    with source:
        while data := source.read(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _CHUNK:
                lines, rest = [*lines, rest], b""
            _write(target, lines, label, log)
        if rest:
            _write(target, [rest], label, log)


def _write(out: BinaryIO, lines: Sequence[bytes], label: bytes, log: BinaryIO | None) -> None:
    out.write(b"".join(label + line + b"\n" for line in lines))
    out.flush()
    if log is not None:
        log.write(b"".join(line + b"\n" for line in lines))
        log.flush()
