"""Print what lets a shell complete these commands, their options and the files that they take:

    mpccomm completion bash >> ~/.bash_completion
    mpccomm completion zsh > ~/.zsh/completions/_mpccomm          in a folder of $fpath
    mpccomm completion fish > ~/.config/fish/completions/mpccomm.fish

It is made once, and again after an update; pressing Tab then starts no Python.
"""

from __future__ import annotations

import argparse

from mpccomm.cli import COMMANDS, Status, overview
from mpccomm.cli import parser as parser_of
from mpccomm.errors import ConfigurationError, missing_library

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise ConfigurationError(missing_library("this", "shtab", "completion")) from error
    print(shtab.complete(whole(), shell=options.shell))
    return Status.WELL


def whole() -> argparse.ArgumentParser:
    """Return one parser for all commands with their options: only for looking at."""
    made = argparse.ArgumentParser(prog="mpccomm", description=overview().description)
    made.add_argument("--version", action="store_true", help="print the version")
    commands = made.add_subparsers(dest="command")
    for name, what in COMMANDS.items():
        commands.add_parser(name, help=what, parents=[parser_of(name)], add_help=False)
    return made
