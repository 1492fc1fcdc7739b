"""``python -m mpccomm compat script.py``: run a program that was written for tno.mpc.communication 4.x, as it is."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from mpccomm.compat import install


def main(arguments: Sequence[str]) -> int:
    """Run the program that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="mpccomm compat",
        usage="%(prog)s [-h] (script.py | -m module) [argument ...]",
        description="Run a program in which 'import tno.mpc.communication' means mpccomm, also in the packages that it "
        "imports. All further arguments are the program's own.",
    )
    parser.add_argument("-m", dest="module", metavar="module", help="run a module, as python -m does")
    parser.add_argument("script", nargs="?", help="run a file, as python does")
    # What follows the program's name may look like options of ours.
    options = parser.parse_args(arguments[:2] if arguments[:1] == ["-m"] else arguments[:1])
    install()
    if options.module is not None:
        sys.argv = [options.module, *arguments[2:]]
        sys.path.insert(0, "")
        runpy.run_module(options.module, run_name="__main__", alter_sys=True)
    elif options.script is not None:
        if not Path(options.script).exists():
            parser.error(f"there is no file {options.script}")
        sys.argv = list(arguments)
        # As Python itself has it: what a program looks for beside itself does not depend on where it was started.
        sys.path.insert(0, str(Path(options.script).resolve().parent))
        runpy.run_path(str(Path(options.script).absolute()), run_name="__main__")
    else:
        parser.error("which program?")
    return 0
