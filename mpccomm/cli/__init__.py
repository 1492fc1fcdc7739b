"""The command line: one module per command, imported when it is asked for.

A command's module has ``add_arguments(parser)`` and ``run(options)``, which returns the exit status. What its user can mend
it raises: `argparse.ArgumentError` for arguments that don't go together (``options.parser`` is the parser of a command within the
command), else errors of this library or of the system.
"""

import argparse
import gc
import os
import select
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from importlib import import_module
from importlib.metadata import version
from textwrap import fill
from typing import TextIO

from mpccomm.errors import CommunicationError, ConfigurationError

COMMANDS = {
    "bench": "measure the link to another party",
    "certs": "make certificates for development, and show any",
    "compat": "run a program that was written for tno.mpc.communication 4.x",
    "completion": "print what lets a shell complete these commands",
    "demo": "three parties on this machine add private vectors",
    "doctor": "find out what is wrong between this machine and the other parties",
    "estimate": "say what a recorded run would have taken on other lines",
    "ping": "round-trip times to the other parties",
    "relay": "join parties that let nothing in, without a look at what they say",
    "run": "start all parties as processes on this machine",
    "trace": "put traces of several parties together, draw them",
}
"""The name of every command, which is also that of its module, and what it does."""


class Status(IntEnum):
    """What a command says with its exit status; ``run`` and ``compat`` pass on that of the program as well."""

    WELL = 0
    WRONG = 1
    USAGE = 2
    TIMED_OUT = 124
    INTERRUPTED = 130
    UNREAD = 141


STATUSES = {
    Status.WELL: "all is well",
    Status.WRONG: "something is wrong, and the output says what",
    Status.USAGE: "arguments, the configuration or a file that they name can't be used",
    Status.TIMED_OUT: "a time limit has passed",
    Status.INTERRUPTED: "Ctrl-C",
    Status.UNREAD: "nobody reads what is printed any more, as with '| head'",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name (those of the process if None) and return the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    command = ""
    try:
        try:
            # Only the first argument is parsed here. Each command knows its own options, and the libraries that it needs.
            command = overview().parse_args(arguments[:1]).command
            status = _run(command, arguments[1:])
        except SystemExit:
            sys.stdout.flush()  # help, or the version
            raise
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        _drop(interrupt)
        return Status.INTERRUPTED
    except BrokenPipeError:
        if not _let_go() and command == "compat":
            raise  # another pipe, of its program
        return Status.UNREAD
    except (CommunicationError, OSError) as error:
        if command == "compat":
            # An error of the program that a command runs is not an error of the command.
            raise
        with suppress(OSError):  # streams of another kind
            _let_go()
        return _say(command, error)
    return status


def overview() -> argparse.ArgumentParser:
    """Return the parser of ``mpccomm`` itself, which knows the names of the commands and no more."""
    width = max(map(len, COMMANDS))
    made = argparse.ArgumentParser(
        prog="mpccomm",
        usage="%(prog)s [-h] [--version] command ...",
        description="Communication between the parties of a secure multi-party computation.",
        epilog="\n".join(
            [
                "commands:",
                *(f"  {name:{width}}  {what}" for name, what in COMMANDS.items()),
                "",
                "exit statuses:",
                *(f"  {status:<{width}}  {what}" for status, what in STATUSES.items()),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"mpccomm {version('mpccomm')}")
    made.add_argument(
        "command", choices=COMMANDS, metavar="command", help="see below; 'mpccomm command -h' tells its options"
    )
    return made


def parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    module = import_module(f"{__name__}.{command}")
    made = argparse.ArgumentParser(
        prog=f"mpccomm {command}",
        description=_wrapped(module.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(made)
    return made


def _wrapped(text: str) -> str:
    """Return the text of a module for the terminal that is there: its paragraphs wrapped, its examples as they are."""
    width = shutil.get_terminal_size().columns - 2
    return "\n\n".join(
        paragraph if paragraph.startswith("    ") else fill(paragraph.replace("``", ""), width)
        for paragraph in text.strip("\n").split("\n\n")
    )


def _run(command: str, arguments: Sequence[str]) -> int:
    made = parser(command)
    options = made.parse_args(arguments)
    try:
        status: int = import_module(f"{__name__}.{command}").run(options)
    except argparse.ArgumentError as error:
        getattr(options, "parser", made).error(str(error))
    return status


def _say(command: str, error: CommunicationError | OSError) -> Status:
    text, status = str(error), Status.WRONG
    if isinstance(error, ConfigurationError):
        status = Status.USAGE
    elif isinstance(error, TimeoutError):
        status = Status.TIMED_OUT
    elif error_file := getattr(error, "filename", None):
        text, status = f"{error_file}: {getattr(error, 'strerror', None) or error}", Status.USAGE
    with suppress(BrokenPipeError):
        print(f"{f'mpccomm {command}'.rstrip()}: {text}", file=sys.stderr)
    return status


def _open_streams() -> None:
    """Open the standard streams where the process that has started this one has closed them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process lasts


def _drop(interrupt: KeyboardInterrupt) -> None:
    """Free what Ctrl-C has interrupted, without warnings about half-made objects such as a loop or a coroutine."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interrupt.__traceback__ = interrupt.__context__ = None
            gc.collect()
    finally:
        sys.unraisablehook = hook


def _let_go() -> bool:
    """Have what is still buffered written to nowhere: at exit it would fail once more, with noise. False: all is read."""
    unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
    for stream in unread:
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
    return bool(unread)


def _is_unread(stream: TextIO) -> bool:
    try:
        stream.flush()
        if not hasattr(select, "poll"):  # Windows
            return False
        # An unbuffered stream has nothing to flush.
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except OSError:
        return True
