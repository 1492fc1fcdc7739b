"""Say what a recorded run would have taken on other lines, without running it there.

    mpccomm run -n 3 --trace run.json protocol.py
    mpccomm estimate run.json --rtt 40ms --rate 100mbit
    mpccomm estimate run.json --regions eu,us,asia

A trace from one machine tells most: what it took there is the programs' own time. Which party is in which region is said in the
order in which the parties are in the trace; a file of --lines has their names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mpccomm.cli import Status
from mpccomm.cli.lines import add_line_arguments, chosen_lines
from mpccomm.cli.trace import files, several_runs
from mpccomm.display import plural, seconds_text, some
from mpccomm.errors import ConfigurationError
from mpccomm.trace.estimate import Estimate, estimate
from mpccomm.trace.record import Record, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "file", type=Path, nargs="+", help="a trace of all parties, or one of each, or a folder of traces"
    )
    add_line_arguments(parser, by_chance=False)


def run(options: argparse.Namespace) -> int:
    """Print the estimate."""
    record = load(*files(options.file))
    named = ", ".join(map(str, options.file))
    if doubt := several_runs(record, options.file):
        raise ConfigurationError(doubt)
    if len(record.parties) < 2:
        raise ConfigurationError(f"{named}: {_alone(record)}")
    lines = chosen_lines(options, record.names)
    if not lines:
        raise argparse.ArgumentError(None, "over which lines? Give --rtt and --rate, --regions or --lines")
    try:
        found = estimate(record, lambda one, other: lines.get((one, other)) or lines[other, one])
    except ValueError as error:
        raise ConfigurationError(f"{named}: {error}") from error
    if record.missing:
        print(
            f"warning: there is no trace of {some(record.missing)}: nothing that was sent there, or came from there, is in the "
            "estimate. Name these files as well",
            file=sys.stderr,
        )
    if found.recorded_rtt:
        print(
            f"warning: between two of the parties no round trip took less than {seconds_text(found.recorded_rtt)} in this "
            "recording: it was made over lines already, or on a busy machine. That is taken off; but what had to wait for a slow "
            "line counts as handling, and so twice. Better record without lines, where nothing else runs",
            file=sys.stderr,
        )
    print("\n".join(_report(found)))
    return Status.WELL


def _alone(record: Record) -> str:
    """Say what is missing where there are not the traces of two parties."""
    here = f"there is only the trace of {some(record.names)}" if record.parties else "there is no party in it"
    if not record.missing:
        return f"{here}, and no message to another party: there is nothing to estimate"
    return f"{here}: name the files of {some(record.missing)} as well, between which the lines are"


def _report(found: Estimate) -> Iterator[str]:
    path = found.path
    yield f"recorded {seconds_text(found.recorded)}, estimated {seconds_text(found.estimated)}, and of that, on the longest path:"
    acknowledged = f" and {plural(path.acknowledgements, 'acknowledgement')}" if path.acknowledgements else ""
    yield f"  {seconds_text(path.travelling):>9}  travelling: {plural(path.messages, 'message')}{acknowledged}, one after the other"
    yield f"  {seconds_text(path.line):>9}  getting onto the lines, and waiting for what was sent before"
    yield f"  {seconds_text(path.handling):>9}  handling messages, as recorded"
    yield f"  {seconds_text(path.computing):>9}  the programs between messages, as recorded"
    yield f"  {seconds_text(path.starting):>9}  until the party where it begins had begun, as recorded, and was connected"
    if found.phases:
        width = max(len("phase"), *(len(phase.path) for phase in found.phases))
        yield f"{'phase':{width}}  {'recorded':>9}  {'estimated':>9}"
        for phase in found.phases:
            yield f"{phase.path:{width}}  {seconds_text(phase.recorded):>9}  {seconds_text(phase.estimated):>9}"
