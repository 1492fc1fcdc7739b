"""Which line lies between which parties: from the arguments of a command, or a file of lines.

A file says in which region each party is, and which line lies between two regions or two parties::

    [regions]
    eu = ["alice", "bob"]
    us = ["carol"]

    [[line]]                        # between any two of whom nothing else is said
    rtt = "20ms"
    rate = "1gbit"

    [[line]]
    between = ["eu", "us"]
    rtt = "90ms"
    rate = "200mbit"
    jitter = "2ms"

    [[line]]
    between = ["alice", "carol"]    # parties count for more than regions
    rtt = "95ms"
    loss_of_connection = "1/min"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from mpccomm.errors import ConfigurationError, nearest
from mpccomm.files import read_toml
from mpccomm.line import Line, duration, frequency, rate
from mpccomm.transport import forwarder
from mpccomm.transport.forwarder import Route, description

T = TypeVar("T")

Pair: TypeAlias = tuple[str, str]
"""The names of two parties, in the order of all parties."""
Places: TypeAlias = Mapping[tuple[str, str], tuple[str, int]]
"""Address and port at which the first of two parties finds the second."""

LOOPBACK = "127.0.0.1"

_QUANTITIES: Mapping[str, Callable[[str], float]] = {
    "rtt": duration,
    "rate": rate,
    "jitter": duration,
    "loss_of_connection": frequency,
}
_KNOWN_REGIONS: Mapping[frozenset[str], Line] = {
    frozenset({"eu"}): Line(0.015, rate("1gbit")),
    frozenset({"us"}): Line(0.030, rate("1gbit")),
    frozenset({"asia"}): Line(0.040, rate("1gbit")),
    frozenset({"eu", "us"}): Line(0.090, rate("200mbit")),
    frozenset({"asia", "us"}): Line(0.160, rate("100mbit")),
    frozenset({"asia", "eu"}): Line(0.200, rate("100mbit")),
}
"""Round numbers, of the order of those between data centres in these parts of the world."""
KNOWN_NAMES = tuple(name for pair in _KNOWN_REGIONS if len(pair) == 1 for name in pair)


def add_line_arguments(parser: argparse.ArgumentParser, *, by_chance: bool = True) -> None:
    """Add the arguments that say which line lies between the parties.

    :param by_chance: with those of what differs from one message or minute to the next
    """
    group = parser.add_argument_group(
        "lines", "The parties are reached as if they were far apart: late, and no faster than the line. See the guide."
    )
    options = (
        ("--rtt", duration, "TIME", "round-trip time between any two parties, as in 40ms"),
        ("--rate", rate, "RATE", "what each line moves in either direction, as in 100mbit or 12.5MB/s"),
        ("--jitter", duration, "TIME", "by how much the round-trip time varies, up or down"),
        ("--loss-of-connection", frequency, "N/TIME", "how often each line breaks all its connections, as in 1/min"),
    )
    for option, check, shown, what in options if by_chance else options[:2]:
        group.add_argument(option, type=_checked(check), metavar=shown, help=what)
    group.add_argument(
        "--lines", type=Path, metavar="FILE", help="a file with a line for each pair of parties or regions"
    )
    group.add_argument(
        "--regions",
        type=lambda text: [name.strip() for name in text.split(",")],
        metavar="NAMES",
        help=f"in which region each party is, in turn, with commas: {', '.join(KNOWN_NAMES)}, or those of --lines",
    )


def _checked(check: Callable[[str], T]) -> Callable[[str], T]:
    def checked(text: str) -> T:
        try:
            return check(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def chosen_lines(options: argparse.Namespace, names: Sequence[str]) -> dict[Pair, Line]:
    """Return the line between each two of these parties; empty: the arguments ask for none.

    :raises ConfigurationError: the arguments or the file can't be right
    """
    given = {name: value for name in _QUANTITIES if (value := getattr(options, name, None)) is not None}
    if options.lines is None and options.regions is None:
        return dict.fromkeys(combinations(names, 2), Line(**given)) if given else {}
    plan = _Plan(names, "--regions") if options.lines is None else _Plan.read(options.lines, names)
    if options.regions is not None:
        plan.assign(options.regions)
    if doubt := plan.doubt():
        print(f"warning: {doubt}", file=sys.stderr)
    return {pair: replace(plan.between(*pair), **given) for pair in combinations(names, 2)}


@contextmanager
def emulated(lines: Mapping[Pair, Line], ports: Mapping[str, int], *, told_apart: bool) -> Iterator[Places]:
    """Have a process forward what the parties say to each other, as the lines between them do.

    :param ports: where each party listens
    :param told_apart: the parties have certificates. Without, one knows another by its address, so each pair has addresses of
        its own, from those of loopback.
    :return: where the first of two parties finds the second
    :raises ConfigurationError: the system has no such addresses
    """
    if not lines:
        yield {}
        return
    numbers = {name: number for number, name in enumerate(ports, 1)}

    def address_of(name: str, seen_by: str) -> str:
        return LOOPBACK if told_apart else f"127.1.{numbers[seen_by]}.{numbers[name]}"

    ways: dict[tuple[str, str], Route] = {}
    for number, (one, other) in enumerate(lines):
        for me, there in ((one, other), (other, one)):
            listen = address_of(there, seen_by=me), 0 if told_apart else ports[there]
            ways[me, there] = Route(number, me == one, listen, address_of(me, seen_by=there), (LOOPBACK, ports[there]))
    process = subprocess.Popen(
        [sys.executable, "-m", forwarder.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the parties, which then still exchange messages over these lines.
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(description(list(lines.values()), list(ways.values())) + "\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline() or '"the forwarder has ended"')
        if isinstance(found, str):
            advice = "" if told_apart else "; with --tls the parties need no addresses of their own"
            raise ConfigurationError(f"the lines between the parties can't be emulated: {found}{advice}")
        # At the end its standard input is closed, which ends the process.
        yield {pair: (way.listen[0], port) for (pair, way), port in zip(ways.items(), found, strict=True)}


class _Plan:
    """Lines between regions and parties."""

    def __init__(self, names: Sequence[str], source: str) -> None:
        self._names = names
        self._source = source
        self._regions: dict[str, str] = {}
        """The regions of the parties."""
        self._lines: dict[frozenset[str], Line] = {}
        """The lines between two parties or regions, or within a region."""
        self._default: Line | None = None

    @classmethod
    def read(cls, path: Path, names: Sequence[str]) -> Self:
        """Read a file, for parties of these names."""
        plan = cls(names, str(path))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise plan._wrong(f"can't be read: {getattr(error, 'strerror', None) or error}") from error
        try:
            data = read_toml(text)
        except ValueError as error:
            raise plan._wrong(str(error)) from error
        plan._only(data, ("regions", "line"), "")
        regions, lines = data.get("regions", {}), data.get("line", [])
        if not isinstance(regions, dict) or not isinstance(lines, list):
            raise plan._wrong("write the regions below [regions], and below [[line]], twice bracketed, each line")
        for region, members in regions.items():
            plan._add_region(region, members)
        plan._look_for_misspelt()
        for number, entry in enumerate(lines, 1):
            plan._add_line(f"[[line]] number {number}", entry)
        return plan

    def assign(self, regions: Sequence[str]) -> None:
        """Say in which region each party is."""
        if len(regions) != len(self._names):
            raise ConfigurationError(
                f"--regions names {len(regions)} regions for {len(self._names)} parties ({', '.join(self._names)}): "
                "one for each is needed, in their order"
            )
        self._regions = dict(zip(self._names, regions, strict=True))

    def doubt(self) -> str:
        """Return why the file may be meant for other parties; empty: nothing speaks for that.

        It may well be for more parties than run now, or have nothing to say of some. Both at once is more likely a slip.
        """
        others = [name for name in self._regions if name not in self._names]
        unnamed = [
            name for name in self._names if name not in self._regions and not any(name in ends for ends in self._lines)
        ]
        if not others or not unnamed:
            return ""
        return (
            f"{self._source} says nothing of {' and '.join(unnamed)}, and has in its regions {' and '.join(others)}, no party now: "
            "if it is the same party, give it one name"
        )

    def between(self, one: str, other: str) -> Line:
        """Return the line between two parties: what is said of parties counts for more than what is said of regions."""
        here, there = self._regions.get(one, one), self._regions.get(other, other)
        for ends in ({one, other}, {one, there}, {here, other}, {here, there}):
            if (line := self._lines.get(frozenset(ends))) is not None:
                return line
        line = self._default or _KNOWN_REGIONS.get(frozenset({here, there}))
        if line is None:
            shown = [
                f"{name} (in {region})" if region != name else name for name, region in ((one, here), (other, there))
            ]
            raise self._wrong(
                f"nothing says which line is between {' and '.join(shown)}: add a [[line]] between them, or one without "
                f"'between' for all others; regions known without that are {', '.join(KNOWN_NAMES)}"
            )
        return line

    def _add_region(self, region: str, members: Any) -> None:
        if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
            raise self._wrong(f'region {region} needs the names of its parties, as in {region} = ["alice", "bob"]')
        for name in members:
            # The same file may be used with fewer parties.
            if name in self._regions:
                raise self._wrong(f"{name} is in two regions: {self._regions[name]} and {region}")
            self._regions[name] = region
        if region in self._names:
            raise self._wrong(f"{region} is a region and a party; give one of them another name")

    def _look_for_misspelt(self) -> None:
        """Refuse a name that is no party's, but similar to that of a party which is in no region."""
        strangers = [name for name in self._regions if name not in self._names]
        for name in self._names:
            if name not in self._regions and (near := nearest(name, strangers, 0.75)):
                raise self._wrong(f"region {self._regions[near]}: {near} is no party; did you mean {name}?")

    def _add_line(self, where: str, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(f"{where} is no table")
        self._only(entry, ("between", *_QUANTITIES), f"{where}: ")
        given: dict[str, float] = {}
        for name, check in _QUANTITIES.items():
            if name in entry:
                try:
                    given[name] = check(entry[name] if isinstance(entry[name], str) else repr(entry[name]))
                except ConfigurationError as error:
                    raise self._wrong(f"{where}: {name}: {error}") from None
        try:
            line = Line(**given)
        except ConfigurationError as error:
            raise self._wrong(f"{where}: {error}") from None
        if "between" not in entry:
            if self._default is not None:
                raise self._wrong(f"{where} is the second without 'between', which says what all others have")
            self._default = line
            return
        ends = entry["between"]
        if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(end, str) for end in ends):
            raise self._wrong(f'{where}: between needs two regions or parties, as in between = ["eu", "us"]')
        known = {*self._names, *self._regions, *self._regions.values(), *KNOWN_NAMES}
        for end in ends:
            if end not in known:
                near = nearest(end, known)
                meant = f"did you mean {near}?" if near else f"there are {', '.join(sorted(known))}"
                raise self._wrong(f"{where}: {end} is no region and no party; {meant}")
        if ends[0] == ends[1] and ends[0] in self._names:
            raise self._wrong(f"{where}: there is no line between {ends[0]} and itself")
        if frozenset(ends) in self._lines:
            raise self._wrong(f"{where}: another one is between {' and '.join(ends)} already")
        self._lines[frozenset(ends)] = line

    def _only(self, table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
        for key in table:
            if key not in known:
                near = nearest(key, known)
                meant = f"did you mean {near}?" if near else f"there can be {', '.join(known)}"
                raise self._wrong(f"{where}{key} is unknown; {meant}")

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._source}: {what}")
