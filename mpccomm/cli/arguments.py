"""Arguments that several commands take: each is checked where it is given, and refused in words."""

from __future__ import annotations

import argparse
import math
import sys
from functools import cache, partial
from getpass import getpass
from importlib.util import find_spec
from pathlib import Path

from mpccomm.address import check_host, check_port, unreadable
from mpccomm.config import Config
from mpccomm.environment import from_environment
from mpccomm.errors import ConfigurationError
from mpccomm.transport.tls import Password

_LONGEST_NAME = 64
"""The largest number of characters of a name in a certificate."""


def seconds(text: str) -> float:
    """Return a number of seconds, above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def count(text: str) -> int:
    """Return a whole number, at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def port(text: str) -> int:
    """Return the number of a port."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: ports are 1 to 65535")
    try:
        return check_port(int(text))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def host(text: str, port_as: str = "") -> str:
    """Return a host name or IP address; ``port_as`` is the argument for its port, if there is one."""
    try:
        return check_host(text, "address", port_as)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def host_and_port(text: str) -> tuple[str, int]:
    """Return what is written as ``HOST:PORT``, or ``[ADDRESS]:PORT`` for IPv6."""
    name, _, number = text.rpartition(":")
    if name[:1] + name[-1:] == "[]":
        name = name[1:-1]
    elif ":" in name:
        name = ""
    if not name or not number:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address and a port, as in 192.0.2.7:61001 or [2001:db8::7]:61001"
        )
    return host(name), port(number)


def party_name(text: str) -> str:
    """Return the name of a party, which is also that of files: its certificate, its log."""
    if text and (shortcoming := unreadable(text)):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} can't be the name of a party: {shortcoming}")
    if (
        not 0 < len(text) <= _LONGEST_NAME
        or not text.isprintable()
        or text.startswith(".")
        or set('/\\:*?"<>|') & set(text)
    ):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} can't be the name of a party here, where it is also that of a file: 1 to {_LONGEST_NAME} characters, "
            'without / \\ : * ? " < > | and no dot at the start'
        )
    return text


# -- which program -----------------------------------------------------------------------------------------------------


def add_rest(parser: argparse.ArgumentParser) -> None:
    """Add all that follows a program, which is its own."""
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, default=[], help="what it is given")
    rest.required = False  # otherwise argparse would list it as missing


def check_program(options: argparse.Namespace) -> None:
    """Check that there is a program of that name: a ``script``, or with ``module`` set a module.

    :raises argparse.ArgumentError: there is none
    """
    script = options.script
    if options.module:
        if not _is_module(script.partition(".")[0]):
            raise argparse.ArgumentError(None, f"there is no module {script}, seen from {Path.cwd()}")
    elif not Path(script).exists():
        raise argparse.ArgumentError(None, f"there is no file {script}, seen from {Path.cwd()}")
    elif Path(script).is_dir() and not (Path(script) / "__main__.py").exists():
        raise argparse.ArgumentError(None, f"{script} is a folder, and has no __main__.py that could be run")


def _is_module(name: str) -> bool:
    before = sys.path[:]
    sys.path.insert(0, "")
    try:
        return find_spec(name) is not None
    except ValueError:  # a name like "" or "__main__"
        return False
    finally:
        sys.path[:] = before


# -- which configuration, and which party of it ------------------------------------------------------------------------


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which configuration, and which party of it."""
    parser.add_argument("config", nargs="?", help="the file of all parties (default: what from_env() would take)")
    parser.add_argument(
        "--me", metavar="NAME", help="which of them this machine is (default: what from_env() would take)"
    )
    add_password(parser)


def add_password(parser: argparse._ActionsContainer) -> None:
    """Add the argument for an encrypted key."""
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="its first line is the password of an encrypted key (default: a terminal is asked)",
    )


def chosen(options: argparse.Namespace) -> tuple[Config, str]:
    """Return the configuration, and which of its parties this is."""
    if options.config and options.me:
        config = Config.load(options.config)
        return config, config.party(options.me).name
    if options.config:
        # An error in the file comes before the question which party this is.
        Config.load(options.config)
    try:
        config, found = from_environment(options.config, None, None)
    except ConfigurationError as error:
        missing = [] if options.config else ["name the file of all parties"]
        missing += [] if options.me else ["say which of them this is with --me NAME"]
        raise ConfigurationError(f"{error}. Or {' and '.join(missing)}") from None
    return config, config.party(options.me or found).name


def password_from(file: Path | None) -> Password:
    """Return the password for the private key, if it turns out to need one."""
    if file is None:
        # It is asked for once, and only if the key is encrypted.
        return cache(partial(getpass, "password of the private key: ")) if sys.stdin and sys.stdin.isatty() else None
    return first_line(file)


def first_line(file: Path) -> str:
    """Return the password in a file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"the password file {file} can't be read: {reason}") from error
    password = text.partition("\n")[0].removesuffix("\r")
    if not password:
        raise ConfigurationError(f"the password file {file} has no password in its first line")
    return password
