"""The command line: one module per command, imported when it is asked for.

A command's module has a function ``main(arguments) -> int``, reads its own options and returns the exit status.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "bench": "measure the link to another party",
    "certs": "make certificates for development, and show any",
    "compat": "run a program that was written for tno.mpc.communication 4.x",
    "demo": "three parties on this machine add private vectors",
    "doctor": "find out what is wrong between this machine and the other parties",
    "ping": "round-trip times to the other parties",
    "run": "start all parties as processes on this machine",
}
"""The name of every command, which is also that of its module, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name (those of the process if None) and return the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="mpccomm",
        usage="%(prog)s [-h] [--version] command ...",
        description="Communication between the parties of a secure multi-party computation.",
        epilog="\n".join(["commands:", *(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpccomm {version('mpccomm')}")
    parser.add_argument(
        "command", choices=COMMANDS, metavar="command", help="see below; 'mpccomm command -h' tells its options"
    )
    # Only the first argument is ours. The command alone knows its options, and what it needs installed.
    command: str = parser.parse_args(arguments[:1]).command
    try:
        module = import_module(f"{__name__}.{command}")
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        parser.error(f"the {command} needs numpy, which is not installed: pip install 'mpccomm[numpy]'")
    status: int = module.main(arguments[1:])
    return status
