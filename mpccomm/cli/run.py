"""Start all parties as processes on this machine, to try a protocol out.

    mpccomm run -n 3 protocol.py --rounds 10
    mpccomm run --parties alice,bob,carol --tls -m my.protocol
    mpccomm run -n 3 --rtt 40ms --rate 100mbit protocol.py

The program makes its pool with ``SyncPool.from_env()`` or ``Pool.from_env()``. What the parties print is labelled with their
names; they get no standard input. The first that fails by itself stops all, and its status is the exit status. Ctrl-C stops all,
too, and a second time at once. A party that has ended with status 0 while another one waits for it is named. SIGUSR1 makes all
parties say who waits for what.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import math
import os
import re
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from mpccomm.cli import Status, main
from mpccomm.cli.arguments import add_rest, check_program, count, party_name, seconds
from mpccomm.cli.lines import LOOPBACK, Places, add_line_arguments, chosen_lines, emulated
from mpccomm.cli.trace import merge, summary
from mpccomm.config import ME
from mpccomm.display import number_text
from mpccomm.engine.report import Report, joint
from mpccomm.environment import CONFIG, INSTEAD_OF_A_FILE
from mpccomm.errors import ConfigurationError
from mpccomm.files import try_to_write
from mpccomm.settings import EXPLAIN

_GRACE = 10.0
"""Seconds that parties have to end by themselves when they are told to: pools take up to 5 s to tell the others."""
_ANSWER = 0.5
"""Seconds that parties have to say who waits for what before they are told to end."""
_SETTLE = 3.0
"""Seconds that the others have to end after a first party has failed, which may only be the first to notice a failure."""
_PAUSE = 0.2
"""Seconds without output after which a traceback counts as complete."""
_LONGEST_PAUSE = 2.0
"""Seconds for which a traceback, and what follows it, is held back at most, to be written in one piece."""
_COLOURS = (36, 33, 32, 35, 34, 31)
_DAYS = "365"
"""How long certificates of a run are valid: longer than it takes, and so long that no party warns of their end."""
_CHUNK = 1 << 16
_LONGEST_LINE = 1000
"""The largest number of characters of a line that is parsed."""
_LONGEST_TRACEBACK = 5000
"""The largest number of lines of a traceback."""
_UNREPORTED = (
    "no party has left a report: those pools are counted that are made with from_env() or from_config(), and that are shut down "
    "at their end; a party that is killed leaves none"
)
_UNTRACED = (
    "no party has written a trace: pools are traced that are made with from_env() or from_config(), and that are shut down at "
    "their end; a party that is killed leaves none"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.usage = (
        "%(prog)s [-h] (-n N | --parties NAMES) [--tls] [--log-dir DIR] [--trace FILE] [--report] [--report-to FILE] [--timeout S] "
        "[--rtt TIME] [--rate RATE] [--jitter TIME] [--loss-of-connection N/TIME] [--lines FILE] [--regions NAMES] "
        "(script.py | -m module) ..."
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("-n", type=count, metavar="N", help="how many; they are called party-0, party-1 and so on")
    who.add_argument("--parties", type=_names, metavar="NAMES", help="their names, with commas")
    parser.add_argument(
        "--tls", action="store_true", help="with certificates, made for this run and thrown away after it"
    )
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="write what each party prints to DIR/NAME.log as well"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write what all parties sent, received and waited for to FILE, which https://ui.perfetto.dev opens",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="say at the end where the time went: by phase and party, waiting, CPU time, traffic and rounds",
    )
    parser.add_argument(
        "--report-to",
        type=Path,
        metavar="FILE",
        help="say it, and write it to FILE: CSV if it ends in .csv, or else JSON",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help=f"stop after this many seconds, with exit status {Status.TIMED_OUT:d}",
    )
    add_line_arguments(parser)
    parser.add_argument(
        "-m", action="store_true", dest="module", help="what follows is the name of a module, as of python -m"
    )
    parser.add_argument("script", help="the program that every party runs")
    add_rest(parser)


def _names(text: str) -> list[str]:
    names = [party_name(name.strip()) for name in text.split(",")]
    for name in names:
        if names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"{name!r} is there twice")
    return names


def run(options: argparse.Namespace) -> int:
    """Run the parties; the exit status is that of the first that failed by itself, or 0."""
    names: list[str] = options.parties or [f"party-{number}" for number in range(options.n)]
    check_program(options)
    if stray := _options_of_ours(options):
        text = (
            f"{', '.join(stray)} comes after {options.script}, and goes to that; options of mpccomm run come before it"
        )
        print(f"mpccomm run: {text}", file=sys.stderr)
    if options.log_dir is not None:
        try:
            options.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise argparse.ArgumentError(None, f"--log-dir: {options.log_dir}: {error.strerror or error}") from None
    for output in (options.trace, options.report_to):
        if output is not None and not output.absolute().parent.is_dir():
            raise argparse.ArgumentError(None, f"there is no folder for {output}")
        if output is not None:
            try:
                try_to_write(output)
            except OSError as error:
                raise argparse.ArgumentError(None, f"{output} can't be written: {error.strerror or error}") from None
    lines = chosen_lines(options, names)
    with (
        tempfile.TemporaryDirectory(prefix="mpccomm-") as folder,
        _ports(len(names)) as ports,
        emulated(lines, dict(zip(names, ports, strict=True)), told_apart=options.tls) as found,
    ):
        traces, reports = Path(folder) / "traces", Path(folder) / "reports"
        settings = {"trace": traces} if options.trace is not None else {}
        if options.report or options.report_to is not None:
            settings["report_to"] = reports
        configs = _configure(Path(folder), dict(zip(names, ports, strict=True)), found, options.tls, settings)
        status = asyncio.run(_Group(names, options, configs).run())
        if "report_to" in settings:
            _report(reports, options.report_to)
        if "trace" in settings:
            _say_what_was_traced(traces, options.trace)
        return status


def _options_of_ours(options: argparse.Namespace) -> list[str]:
    """Return the arguments of the program that look as if they were meant for this command. It may have such itself."""
    ours = {f"--{name.replace('_', '-')}" for name in vars(options)} - {"--script", "--arguments", "--module", "--n"}
    return [argument for argument in options.arguments if argument.partition("=")[0] in ours]


def _report(reports: Path, output: Path | None) -> None:
    """Print and write the reports that the parties have written at their ends."""
    found = []
    for path in sorted(reports.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):  # of a party that was killed as it was about to write it
            found.append(Report.load(path))
    if not found:
        print(f"mpccomm run: {_UNREPORTED}", file=sys.stderr)
        return
    together = joint(found)
    print(together, file=sys.stderr)
    if output is not None:
        together.save(output)


def _say_what_was_traced(traces: Path, output: Path) -> None:
    """Merge the traces that the parties have written at their ends into one file."""
    try:
        lines = [*summary(merge([traces], output)), f"the trace is in {output}; open it at https://ui.perfetto.dev"]
    except ConfigurationError:
        lines = [_UNTRACED]
    print(*(f"mpccomm run: {line}" for line in lines), sep="\n", file=sys.stderr)


# -- what they need ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ports(count: int) -> Iterator[list[int]]:
    """Yield free ports. On Linux they stay reserved: the system gives them to no other program, but the parties can bind them."""
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


def _configure(
    folder: Path, ports: Mapping[str, int], found: Places, tls: bool, settings: Mapping[str, Path]
) -> dict[str, Path]:
    """Write a file for each party, with certificates if asked for.

    :param found: where one party finds another, if that is not where it listens
    :param settings: folders for what they write, by the names of the settings
    """
    common = ""
    if tls:
        # Its output is for people who make certificates to keep.
        with contextlib.redirect_stdout(io.StringIO()):
            commands = [["init"], *(["issue", name, LOOPBACK] for name in ports)]
            if any(main(["certs", *command, "--folder", str(folder), "--days", _DAYS]) for command in commands):
                raise ConfigurationError("the certificates could not be made")
        common = f"ca_cert = {json.dumps(str(folder / 'authority.cert.pem'))}\n"
    if settings:
        common += "[settings]\n"
    for key, path in settings.items():
        path.mkdir()
        common += f"{key} = {json.dumps(str(path))}\n"
    paths = {}
    for number, me in enumerate(ports):
        text = common
        for name, port in ports.items():
            addr, port = found.get((me, name), (LOOPBACK, port))
            text += f"[parties.{json.dumps(name)}]\naddr = {json.dumps(addr)}\nport = {port}\n"
            if tls:
                for what in ("cert", "key"):
                    text += f"{what} = {json.dumps(str(folder / name / f'{name}.{what}.pem'))}\n"
        paths[me] = folder / f"mpccomm-{number}.toml"
        paths[me].write_text(text, encoding="utf-8")
    return paths


# -- the processes -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Party:
    name: str
    process: asyncio.subprocess.Process
    relays: list[_Relay] = field(default_factory=list)
    stopped: bool = False
    """Whether it was told to end."""
    ended_at: float = math.inf
    """By `time.monotonic`."""

    @property
    def status(self) -> int | None:
        """The exit status as in a shell: 128 + n for signal n; None: it runs."""
        code = self.process.returncode
        return 128 - code if code is not None and code < 0 else code

    @property
    def failed(self) -> bool:
        """Whether it has failed, and not because it was told to end."""
        return bool(self.status) and not self.stopped

    def misses_another(self) -> bool:
        """Return whether it seems to have failed because another party had ended."""
        return any(relay.misses_another for relay in self.relays)

    def waits_for(self, other: _Party) -> bool:
        """Return whether it has said that it waits for another one that has ended, or that this one is gone.

        That it may start later does not count where it was said before that one had ended: they may have met since.
        """
        return any(relay.waits_for.get(other.name, -math.inf) >= other.ended_at for relay in self.relays)

    def asked_for_input(self) -> bool:
        """Return whether it ended since there is no standard input."""
        return any(relay.asked_for_input for relay in self.relays)

    def in_words(self) -> str:
        """Return how it ended."""
        code = self.process.returncode
        if self.stopped:
            return "was stopped"
        return f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"


class _Group:
    """The processes of one run."""

    def __init__(self, names: Sequence[str], options: argparse.Namespace, configs: Mapping[str, Path]) -> None:
        self._names = names
        self._options = options
        self._configs = configs
        self._parties: list[_Party] = []
        self._ended: list[_Party] = []
        """The parties that have ended, in that order."""
        self._hinted: set[tuple[str, str]] = set()
        self._signals = asyncio.Queue[int]()
        self._unread = asyncio.Event()
        """Set when the reader of our output has gone."""
        self._unwritable: OSError | None = None
        """Why what the parties print can't be printed: mostly that its reader has gone."""
        self._output = _Output(sys.stdout)
        self._errors = _Output(sys.stderr)

    async def run(self) -> int:
        """Start them, wait for the end, leave nothing behind."""
        with self._listening(), contextlib.ExitStack() as logs:
            try:
                with _ignored():
                    for number, name in enumerate(self._names):
                        await self._start(number, name, logs)
                self._listen_for_questions()
                said, status = await self._watch()
            finally:
                await self._stop()
        if self._unwritable is not None:
            raise self._unwritable
        for party in self._parties:
            self._say(f"{party.name} {party.in_words()}", bad=party.failed)
        if culprit := self._culprit() if said is None else None:
            status = culprit.status or Status.WRONG
            said = f"{culprit.name} {culprit.in_words()}; it was the first to fail"
            if missed := self._missed_by(culprit):
                said += f". It waited for {' and '.join(missed)}, which had ended with status 0: too early?"
            if culprit.asked_for_input():
                said += ". It asked for input, but parties get none: give it what it needs as arguments"
        if said is not None:
            self._say(said, bad=True)
        return status

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
            for number in (*signals, signal.SIGUSR1):
                loop.remove_signal_handler(number)

    def _listen_for_questions(self) -> None:
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._ask_all)

    def _ask_all(self) -> None:
        """Have every party print who waits for what."""
        if sys.platform != "win32":
            for party in self._parties:
                if party.process.returncode is None:
                    party.process.send_signal(signal.SIGUSR1)

    async def _start(self, number: int, name: str, logs: contextlib.ExitStack) -> None:
        options = self._options
        program = ["-m", options.script] if options.module else [options.script]
        colours = {"FORCE_COLOR": "1"} if self._errors.in_colour else {}  # newer Pythons colour tracebacks
        log: BinaryIO | None = None
        if options.log_dir is not None:
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
                # Who the parties are is said by us, whatever else is in the environment.
                env={name: value for name, value in os.environ.items() if name not in INSTEAD_OF_A_FILE}
                | colours
                | {ME: name, CONFIG: str(self._configs[name]), "PYTHONUNBUFFERED": "1", EXPLAIN: "1"},
                # A group of its own: what it starts is stopped with it, and Ctrl-C reaches it through us alone, once.
                start_new_session=True,
            )
        party = _Party(name, process)
        self._parties.append(party)
        loop = asyncio.get_running_loop()

        def tell(error: OSError | None) -> None:
            loop.call_soon_threadsafe(self._told, error)

        for source, target in ((output, self._output), (errors, self._errors)):
            label = _label(name.ljust(max(map(len, self._names))), number, target.in_colour)
            relay = _Relay(source, target, label, log, tell)
            relay.start()
            party.relays.append(relay)

    def _told(self, error: OSError | None) -> None:
        """Note that a relay can't print any more, or has read which parties its party waits for."""
        if error is None:
            self._hint()
        else:
            self._unwritable = error
            self._unread.set()

    def _missed_by(self, party: _Party) -> list[str]:
        """Return the parties that it waits for although they have ended with success."""
        return [other.name for other in self._ended if other.status == 0 and party.waits_for(other)]

    def _hint(self) -> None:
        for party in self._parties:
            for missed in self._missed_by(party) if party.status is None else ():
                if (party.name, missed) not in self._hinted:
                    self._hinted.add((party.name, missed))
                    self._say(f"{party.name} waits for {missed}, which has ended with status 0: too early?")

    async def _watch(self) -> tuple[str | None, int]:
        """Wait until all have ended, one has failed, time is up, or a signal says so.

        Return what to say of it, None where the statuses of the parties tell, and the exit status.
        """
        loop = asyncio.get_running_loop()
        deadline = None if self._options.timeout is None else loop.time() + self._options.timeout
        told = asyncio.create_task(self._signals.get())
        unread = asyncio.create_task(self._unread.wait())
        waiting = {asyncio.create_task(party.process.wait()): party for party in self._parties}
        settled: float | None = None
        try:
            while waiting:
                ends = [end for end in (deadline, settled) if end is not None]
                left = max(min(ends) - loop.time(), 0) if ends else None
                done, _ = await asyncio.wait(
                    {told, unread, *waiting}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in [task for task in waiting if task in done]:
                    self._ended.append(waiting.pop(task))
                    self._ended[-1].ended_at = time.monotonic()
                    self._hint()
                if told in done:
                    number = told.result()
                    await self._interrupted(number)
                    return f"stopped by {signal.Signals(number).name}", 128 + number
                if unread in done:
                    return None, Status.WRONG
                if any(party.failed for party in self._ended):
                    settled = settled or loop.time() + _SETTLE
                    if loop.time() >= settled or await self._failed_by_itself():
                        return None, Status.WRONG
                elif not done:
                    running = ", ".join(party.name for party in waiting.values())
                    self._ask_all()
                    await asyncio.wait(waiting, timeout=_ANSWER)
                    return (
                        f"stopped after {number_text(self._options.timeout, 6)} s; still running: {running}",
                        Status.TIMED_OUT,
                    )
            return None, Status.WELL
        finally:
            for task in (told, unread, *waiting):
                task.cancel()

    def _culprit(self) -> _Party | None:
        """Return the first to fail; of the others those that failed by themselves come before those that miss another party."""
        failed = [party for party in self._ended if party.failed]
        return min(failed, key=lambda party: party.misses_another(), default=None)

    async def _failed_by_itself(self) -> bool:
        """Return whether the one to blame is among those that have ended; its last words are read to the end."""
        for party in self._ended:
            for relay in party.relays:
                # Something that it started may hold its pipes open, so this has a limit.
                await asyncio.to_thread(relay.join, _PAUSE)
        culprit = self._culprit()
        return culprit is not None and (not culprit.misses_another() or bool(self._missed_by(culprit)))

    async def _interrupted(self, number: int) -> None:
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

    async def _stop(self) -> None:
        """Tell the processes that are left to end, then kill them, with all that they have started."""
        for number in (signal.SIGTERM, _KILL):
            for party in self._parties:
                # Processes that ended may have left others in their group.
                self._signal(party, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._all_ended()
        for relay in (relay for party in self._parties for relay in party.relays):
            relay.join(_GRACE)

    async def _all_ended(self) -> None:
        await asyncio.gather(*(party.process.wait() for party in self._parties))

    def _signal(self, party: _Party, number: int) -> None:
        if party.process.returncode is None:
            party.stopped = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                party.process.terminate()
            else:
                os.killpg(party.process.pid, number)

    def _say(self, text: str, *, bad: bool = False) -> None:
        self._errors.print(_paint(f"mpccomm run: {text}", 31 if bad and self._errors.in_colour else None))


@contextlib.contextmanager
def _ignored() -> Iterator[None]:
    """Start processes in here that ignore SIGUSR1, which would end them, until they know what to do about it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL


# -- what they print ---------------------------------------------------------------------------------------------------


def _paint(text: str, colour: int | None) -> str:
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def _label(name: str, number: int, colour: bool) -> bytes:
    return _paint(f"{name} | ", _COLOURS[number % len(_COLOURS)] if colour else None).encode()


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, int]]:
    """Yield a pipe for a process that is started inside. Afterwards only the end to read from is open here."""
    reading, writing = os.pipe()
    try:
        yield os.fdopen(reading, "rb", buffering=0), writing
    finally:
        os.close(writing)


class _Output:
    """A standard stream of ours, to which several threads write: what is written at once stays in one piece."""

    def __init__(self, stream: TextIO) -> None:
        self.in_colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._stream = stream
        self._lock = threading.Lock()

    def print(self, line: str) -> None:
        """Write a line of our own."""
        # As bytes: an unbuffered stream would write the end of the line apart from it.
        self.write(f"{line}\n".encode(self._stream.encoding, self._stream.errors or "strict"))

    def write(self, data: bytes) -> None:
        """Write what a party has printed."""
        with self._lock:
            buffer, rest = self._stream.buffer, memoryview(data)
            while rest:
                taken: int | None = buffer.write(rest)  # an unbuffered stream may take a part of it, or nothing for now
                if taken is None:
                    select.select([], [buffer], [])
                rest = rest[taken or 0 :]
            buffer.flush()


_TRACEBACK = re.compile(rb"[ |+]*(Exception Group )?Traceback \(most recent call last\):")
_MISSES_ANOTHER = re.compile(rb"[ |]*mpccomm\.errors\.Party\w*Error\b")
_WAITS_FOR = re.compile(
    rb".*(?:\bwaiting for|\breceive of .* from|mpccomm\.errors\.Party\w*Error: (?:receiving|sending) .*(?:from|to)) (.+?) "
    rb"\([^()]*\)(, which may start later)?"
)
_NO_INPUT = re.compile(rb"[ |]*EOFError: EOF when reading a line")
_PAINT = re.compile(rb"\x1b\[[0-9;]*m")


class _Relay(threading.Thread):
    """Copies line by line, each with the label, and a traceback as one piece; what never ends a line is passed on in pieces."""

    def __init__(
        self,
        source: BinaryIO,
        target: _Output,
        label: bytes,
        log: BinaryIO | None,
        tell: Callable[[OSError | None], object],
    ) -> None:
        super().__init__(daemon=True)
        self.misses_another = False
        """Whether it told of an error that another party's end has caused."""
        self.asked_for_input = False
        self.waits_for: dict[str, float] = {}
        """The names of the parties that it said it waits for, and until when that counts, by `time.monotonic`."""
        self._source = source
        self._target = target
        self._label = label
        self._log = log
        self._tell = tell
        self._unread = False
        self._held: list[bytes] = []
        """The lines of a traceback that have been read so far."""
        self._since = 0.0
        """When the first of them was read."""

    def run(self) -> None:
        """Copy until the source ends."""
        rest = b""
        with self._source:
            while data := self._read():
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > _CHUNK:
                    lines, rest = [*lines, rest], b""
                self._pass_on(lines)
            self._write([*self._held, *([rest] if rest else [])])

    def _read(self) -> bytes:
        if self._held and sys.platform == "win32":  # there is no waiting for a pipe
            self._release()
        elif self._held:
            overdue = time.monotonic() - self._since > _LONGEST_PAUSE or len(self._held) > _LONGEST_TRACEBACK
            if overdue or not select.select([self._source], [], [], _PAUSE)[0]:
                self._release()
        return self._source.read(_CHUNK)

    def _pass_on(self, lines: Sequence[bytes]) -> None:
        ready: list[bytes] = []
        for line in lines:
            plain = _PAINT.sub(b"", line)
            self.misses_another |= bool(_MISSES_ANOTHER.match(plain))
            self.asked_for_input |= bool(_NO_INPUT.match(plain))
            if waits := _WAITS_FOR.match(plain[:_LONGEST_LINE]):
                until = time.monotonic() if waits[2] else math.inf
                name = waits[1].decode(errors="replace")
                self.waits_for[name] = max(until, self.waits_for.get(name, until))
                self._try_to_tell(None)
            if not self._held and _TRACEBACK.match(plain):
                self._since = time.monotonic()
                self._held.append(line)
            else:
                (self._held or ready).append(line)
        self._write(ready)

    def _release(self) -> None:
        held, self._held = self._held, []
        self._write(held)

    def _write(self, lines: Sequence[bytes]) -> None:
        if self._log is not None:
            self._log.write(b"".join(line + b"\n" for line in lines))
            self._log.flush()
        if self._unread or not lines:
            return
        try:
            self._target.write(b"".join(self._label + line + b"\n" for line in lines))
        except OSError as error:
            self._unread = True
            self._try_to_tell(error)

    def _try_to_tell(self, error: OSError | None) -> None:
        with contextlib.suppress(RuntimeError):  # every process has ended
            self._tell(error)
