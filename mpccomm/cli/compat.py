"""Run a program that was written for tno.mpc.communication 4.x, as it is:

    mpccomm compat script.py --its-own argument
    mpccomm compat -m module

In it, 'import tno.mpc.communication' means mpccomm, also in the packages that it imports. All further arguments are its own, and
so are its errors.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from mpccomm.cli import Status
from mpccomm.cli.arguments import add_rest, check_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.usage = "%(prog)s [-h] (script.py | -m module) [argument ...]"
    parser.add_argument(
        "-m", action="store_true", dest="module", help="what follows is the name of a module, as of python -m"
    )
    parser.add_argument("script", help="the program")
    add_rest(parser)


def run(options: argparse.Namespace) -> int:
    """Run the program that the arguments name."""
    from mpccomm.compat import install

    check_program(options)
    install()
    sys.argv = [options.script, *options.arguments]
    if options.module:
        sys.path.insert(0, "")
        runpy.run_module(options.script, run_name="__main__", alter_sys=True)
    else:
        # As Python does: a program finds what is beside it, wherever it was started.
        sys.path.insert(0, str(Path(options.script).resolve().parent))
        runpy.run_path(str(Path(options.script).absolute()), run_name="__main__")
    return Status.WELL
