"""Put traces of several parties together, draw them, or say in words what is in them.

    mpccomm trace merge alice.json bob.json -o run.json   one file for https://ui.perfetto.dev
    mpccomm trace draw run.json -o run.png                a picture of it: .png, .svg or .pdf
    mpccomm trace show run.json                           parties, rounds, waiting, clocks

Such files come from Settings(trace=...), from pool.trace(...) and from mpccomm run --trace. A folder stands for all that are in it.
They hold times, sizes, message ids and names, and never a payload.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mpccomm.cli import Status
from mpccomm.display import bytes_text, plural, seconds_text, some
from mpccomm.engine.tracing import REPORT
from mpccomm.errors import ConfigurationError
from mpccomm.trace.chrome import write
from mpccomm.trace.drawing import save
from mpccomm.trace.record import PartyRecord, Record, load

PICTURES = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    commands = parser.add_subparsers(required=True, metavar="merge | draw | show")
    merge = commands.add_parser("merge", help="make one file of several")
    draw = commands.add_parser("draw", help="make a picture")
    show = commands.add_parser("show", help="say what is in them")
    for command, do in ((merge, _merge), (draw, _draw), (show, _show)):
        command.add_argument("file", type=Path, nargs="+", help="a trace, or a folder of traces")
        command.set_defaults(do=do, parser=command)
    merge.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it")
    draw.add_argument(
        "-o", "--output", type=_picture, required=True, metavar="FILE", help=f"a file that ends with {_SUFFIXES}"
    )
    draw.add_argument("--dark", action="store_true", help="light on dark")


def run(options: argparse.Namespace) -> int:
    """Do what the arguments say."""
    options.do(options)
    return Status.WELL


_SUFFIXES = f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}"


def _picture(text: str) -> Path:
    if Path(text).suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} has to end with {_SUFFIXES}")
    return Path(text)


def merge(found: Sequence[Path], output: Path) -> Record:
    """Make one file of several, and return what is in it.

    :raises ConfigurationError: one of them is no trace, or a folder has none
    :raises OSError: one can't be read or written
    """
    record = load(*files(found))
    write(record, output)
    return record


def files(found: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are meant: of a folder, all that may be traces."""
    for path in found:
        if path.is_dir():
            # Reports may be in the same folder.
            inside = sorted(file for file in path.glob("*.json") if not file.name.endswith(f"{REPORT}.json"))
            if not inside:
                raise ConfigurationError(f"there is no trace in the folder {path}")
            yield from inside
        else:
            yield path


def several_runs(record: Record, found: Sequence[Path]) -> str:
    """Say that what was found is not of one run, and which files are those of the last one; empty: it is of one."""
    if len(record.runs) == 1:
        return ""
    last = {party.incarnation for party in record.runs[-1]}
    names = [str(path) for path in files(found) if last & {party.incarnation for party in load(path).parties}]
    began = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.runs[-1][0].wall // 1000)
    return (
        f"these traces are of {len(record.runs)} runs, whose parties never met. Name the files of one of them (of the last, which "
        f"began at {began:%Y-%m-%d %H:%M:%S} UTC: {' '.join(names)}), and empty the folder before the next run"
    )


def _loaded(options: argparse.Namespace) -> Record:
    record = load(*files(options.file))
    _warn(record, options)
    return record


def _warn(record: Record, options: argparse.Namespace) -> None:
    if doubt := several_runs(record, options.file):
        print(f"warning: {doubt}", file=sys.stderr)


def _merge(options: argparse.Namespace) -> None:
    record = merge(options.file, options.output)
    _warn(record, options)
    print("\n".join(summary(record)))
    print(f"written to {options.output}; open it at https://ui.perfetto.dev")


def _draw(options: argparse.Namespace) -> None:
    try:
        save(_loaded(options), options.output, ["dark_background"] if options.dark else [])
    except ImportError as error:
        raise ConfigurationError(str(error)) from error
    print(f"written to {options.output}")


def _show(options: argparse.Namespace) -> None:
    print("\n".join(summary(_loaded(options))))


def summary(record: Record) -> Iterator[str]:
    """Say what is in a record, a line for the whole and one for each party."""
    messages = record.messages
    size = bytes_text(sum(message.size for message in messages))
    parties = plural(len(record.parties), "party", "parties")
    told = f"{parties}, {plural(len(messages), 'message')} ({size})"
    if record.depth is None:
        yield f"{told}, rounds unknown without the traces of {some(record.missing)}"
    else:
        yield f"{told}, {plural(record.depth, 'round')}"
    for party in record.parties:
        yield f"  {record.name_of(party.incarnation)}: {', '.join(_facts(record, party))}"


def _facts(record: Record, party: PartyRecord) -> Iterator[str]:
    yield f"sent {len(party.sends):,}, received {len(party.receives):,}"
    receiving, sending, both = party.waited(to_send=False), party.waited(to_send=True), party.waited_at_all()
    together = "" if both >= receiving + sending else f" ({seconds_text(both)} together: some were for both)"
    yield f"waited {seconds_text(receiving)} for messages and {seconds_text(sending)} for deliveries{together}"
    if left := sum(wait.goes_on for wait in party.waits):
        yield f"{plural(left, 'wait')} had not ended"
    yield f"noted for {seconds_text(party.end / 1e9)}"
    error = record.clocks[party.incarnation].error
    if error < 0:
        yield "its clock could not be aligned: it has no message in common with the others"
    elif error:
        yield f"its clock is known within {seconds_text(error / 1e9)}"
    if party.lost:
        yield f"{party.lost:,} notes left out, since it was full"
