"""Measuring a link from the command line, with both parties in threads of this process."""

import json
import threading
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from mpccomm import SyncPool
from mpccomm.cli import Status
from mpccomm.cli import main as mpccomm
from mpccomm.cli.arguments import host_and_port
from mpccomm.cli.bench import Figure, Link, measure, report
from mpccomm.engine.base_pool import visiting
from tests.cli.test_doctor import setup
from tests.pools import LOCAL
from tests.ports import free_ports


def test_both_parties_report_the_link(capsys: pytest.CaptureFixture[str]) -> None:
    ports = free_ports(2)
    statuses: list[int] = []

    def party(me: int) -> None:
        there = f"{LOCAL}:{ports[1 - me]}"
        common = ["--listen", LOCAL, "--port", str(ports[me]), "--party", there, "--seconds", "0.05", "--wait", "20"]
        statuses.append(mpccomm(["bench", *common]))

    threads = [threading.Thread(target=party, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]
    printed = capsys.readouterr()
    assert printed.out.count("round trip, 100 B") == 2
    assert printed.out.count("messages from here, 16 MiB") == 2
    for port in ports:
        assert f"waiting for {LOCAL}:{port} to run mpccomm bench as well (for 20 s at most)" in printed.err


def test_the_numbers_of_a_line_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    report([Figure("a", "ms", 42.454, 28.9, 61.0, 1000), Figure("b", "per second", 6435.2, 10_000.0, 15_400.4, 10)])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "42.5", "28.9", "to", "61.0", "ms", "1,000"]
    assert second.split() == ["b", "6,435", "10,000", "to", "15,400", "per", "second", "10"]


def test_from_a_file_and_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)

    def other() -> None:
        with visiting(SyncPool).from_config(file, "bob") as bob:
            measure(Link(bob, "alice"), 0.05)

    thread = threading.Thread(target=other)
    thread.start()
    assert mpccomm(["bench", str(file), "--me", "alice", "--seconds", "0.05", "--wait", "20", "--json"]) == 0
    thread.join()
    printed = json.loads(capsys.readouterr().out)
    assert printed["party"] == "bob"
    figures = [Figure(**figure) for figure in printed["figures"]]
    assert [figure.unit for figure in figures] == ["ms", "per second", "MiB/s", "MiB/s", "MiB/s"]
    for figure in figures:
        assert 0 < figure.low <= figure.median <= figure.high
        assert figure.samples >= 1


def test_a_party_that_does_not_come_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = free_ports(2)
    there = f"{LOCAL}:{theirs}"
    arguments = ["--listen", LOCAL, "--port", str(mine), "--party", there, "--wait", "0.2"]
    assert mpccomm(["bench", *arguments]) == Status.TIMED_OUT
    assert there in capsys.readouterr().err


def test_a_port_in_listen_is_told_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        mpccomm(["bench", "--port", "1", "--listen", f"{LOCAL}:33451", "--party", "192.0.2.7:1"])
    assert end.value.code == Status.USAGE
    assert "give the address alone, and the port as --port" in capsys.readouterr().err


def test_without_a_word_its_simplest_form_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert mpccomm(["bench"]) != Status.WELL
    error = capsys.readouterr().err
    assert "name the two ends, on each machine the other one: --port PORT --party HOST:PORT; or a file" in error


def test_which_of_several_parties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    file.write_text(file.read_text() + "[parties.carol]\naddr = 'carol.example'\n")
    for more, words in (
        ([], "say with whom: --party with one of bob, carol"),
        (["--party", "alice"], "alice is this party itself"),
        (["--party", "bob:80"], "addresses and ports are in the file"),
    ):
        with pytest.raises(SystemExit) as end:
            mpccomm(["bench", str(file), "--me", "alice", *more])
        assert end.value.code == Status.USAGE
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.7:61001", ("192.0.2.7", 61001)), ("bob.example:80", ("bob.example", 80)), ("[::1]:443", ("::1", 443))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["192.0.2.7", ":61001", "bob:http", "::1:80", "[::1]", "bob:70000", "-:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        host_and_port(text)
