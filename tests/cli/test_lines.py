"""Which line lies between which parties, as arguments and files say it."""

import argparse
import re
import textwrap
from pathlib import Path

import pytest

from mpccomm.cli.lines import KNOWN_NAMES, add_line_arguments, chosen_lines
from mpccomm.errors import ConfigurationError
from mpccomm.line import Line

NAMES = ["alice", "bob", "carol", "dave"]
FILE = """
    [regions]
    eu = ["alice", "bob", "heidi"]
    us = ["carol"]
    moon = ["dave"]

    [[line]]
    rtt = "2s"

    [[line]]
    between = ["eu", "us"]
    rtt = "90ms"
    rate = "200mbit"
    jitter = "2ms"

    [[line]]
    between = ["eu", "eu"]
    rtt = "5ms"

    [[line]]
    between = ["carol", "alice"]
    rtt = "95ms"
    loss_of_connection = "1/min"

    [[line]]
    between = ["moon", "bob"]
    rtt = "3s"
"""


def lines(*arguments: str) -> dict[tuple[str, str], Line]:
    parser = argparse.ArgumentParser()
    add_line_arguments(parser)
    return chosen_lines(parser.parse_args(arguments), NAMES)


def written(folder: Path, text: str = FILE) -> str:
    path = folder / "lines.toml"
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_none_unless_asked_for() -> None:
    assert lines() == {}


def test_the_same_line_between_all() -> None:
    asked = lines("--rtt", "40ms", "--rate", "100mbit", "--jitter", "5ms", "--loss-of-connection", "1/min")
    assert list(asked) == [
        ("alice", "bob"), ("alice", "carol"), ("alice", "dave"), ("bob", "carol"), ("bob", "dave"), ("carol", "dave"),
    ]  # fmt: skip
    assert set(asked.values()) == {Line(0.04, 12.5e6, 0.005, 1 / 60)}
    assert set(lines("--rate", "8mbit").values()) == {Line(0, 1e6)}


def test_what_is_said_of_two_parties_counts_most(tmp_path: Path) -> None:
    assert lines("--lines", written(tmp_path)) == {
        ("alice", "bob"): Line(0.005),
        ("alice", "carol"): Line(0.095, loss_of_connection=1 / 60),
        ("alice", "dave"): Line(2),
        ("bob", "carol"): Line(0.09, 25e6, 0.002),
        ("bob", "dave"): Line(3),
        ("carol", "dave"): Line(2),
    }


def test_arguments_count_more_than_the_file(tmp_path: Path) -> None:
    asked = lines("--lines", written(tmp_path), "--rate", "8mbit", "--regions", "us,us,eu,moon")
    assert {line.rate for line in asked.values()} == {1e6}
    assert asked["bob", "carol"] == Line(0.09, 1e6, 0.002)


def test_known_regions() -> None:
    asked = lines("--regions", "eu, us,asia,eu")
    assert asked["alice", "bob"] == asked["bob", "dave"]
    assert (
        asked["alice", "dave"].rtt < asked["alice", "bob"].rtt < asked["bob", "carol"].rtt < asked["carol", "dave"].rtt
    )
    assert KNOWN_NAMES == ("eu", "us", "asia")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rtt", "40"], "argument --rtt: '40' is no duration: .* did you mean 40ms"),
        (["--rate", "100Mbps"], "argument --rate: .* bits or bytes"),
        (["--loss-of-connection", "often"], "argument --loss-of-connection: .* as in 1/min"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        lines(*arguments)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jitter", "5ms"], "round-trip time of 0 s can't have a jitter of 5 ms"),
        (["--regions", "eu,us"], "names 2 regions for 4 parties .alice, bob, carol, dave.: one for each"),
        (["--regions", "eu,eu,us,mars"], "between alice .in eu. and dave .in mars.: add a .*known .* are eu, us, asia"),
        (["--lines", "nowhere.toml"], "nowhere.toml: can't be read: No such file"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        lines(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("line = 1", "twice bracketed"),
        ("[line", "lines.toml: Expected .*table"),
        (f"line = {'[' * 10_000}", "lines.toml: it is nested too deeply"),
        (f"line = {'9' * 10_000}", "lines.toml: Exceeds the limit"),
        ("[region]\neu = []", "region is unknown; did you mean regions"),
        ("[regions]\neu = 'alice'", 'as in eu = ."alice", "bob".'),
        ("[regions]\neu = ['bob']\nus = ['bob']", "bob is in two regions: eu and us"),
        ("[regions]\nbob = ['alice']", "bob is a region and a party"),
        ("[regions]\neu = ['alice']\nus = ['karol']\n[[line]]", "region us: karol is no party; did you mean carol"),
        ("[[line]]\nrrt = '1s'", "number 1: rrt is unknown; did you mean rtt"),
        ("[[line]]\nrtt = 40", "number 1: rtt: '40' is no duration"),
        ("[[line]]\njitter = '1s'", "number 1: a line with a round-trip time of 0 s can't"),
        ("[[line]]\nrtt = '1s'\n[[line]]\nrtt = '2s'", "number 2 is the second without 'between'"),
        ("[[line]]\nbetween = ['bob']", "between needs two"),
        ("[[line]]\nbetween = ['bob', 'alcie']", "alcie is no region and no party; did you mean alice"),
        ("[[line]]\nbetween = ['bob', 'bob']", "no line between bob and itself"),
        (
            "[[line]]\nbetween = ['bob', 'eu']\n[[line]]\nbetween = ['eu', 'bob']",
            "number 2: another one is between eu and bob",
        ),
        ("[[line]]\nbetween = ['bob', 'eu']", "nothing says which line is between alice and bob"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        lines("--lines", written(tmp_path, text))


def test_a_file_may_be_for_other_parties_too(tmp_path: Path) -> None:
    file = written(tmp_path, "[regions]\neu = ['party-1', 'heidi']\n[[line]]\nrtt = '1s'")
    parser = argparse.ArgumentParser()
    add_line_arguments(parser)
    names = ["alice", "party-2"]
    assert chosen_lines(parser.parse_args(["--lines", file]), names) == {("alice", "party-2"): Line(1)}


@pytest.mark.parametrize(
    ("us", "doubtful"),
    [(["heidi"], True), (["dave", "heidi"], False), ([], False)],
    ids=["another party", "more parties", "fewer parties"],
)
def test_a_file_that_may_be_for_other_parties(
    us: list[str], doubtful: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, f"[regions]\neu = ['alice', 'bob', 'carol']\nus = {us}\n[[line]]\nrtt = '1s'")
    assert set(lines("--lines", file).values()) == {Line(1)}
    told = capsys.readouterr().err
    assert ("lines.toml says nothing of dave, and has in its regions heidi, no party now" in told) is doubtful
    assert bool(told) is doubtful
