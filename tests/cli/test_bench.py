"""Measuring a link from the command line, with both parties in threads of this process."""

import json
import threading
from pathlib import Path

import pytest

from mpccomm.cli.bench import Figure, main
from mpccomm.cli.bench import _address as address
from tests.pools import LOCAL
from tests.processes.actor import free_ports


def test_both_parties_report_the_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = free_ports(2)
    statuses: list[int] = []

    def party(me: int) -> None:
        there = f"{LOCAL}:{ports[1 - me]}"
        common = ["--listen", LOCAL, "--port", str(ports[me]), "--party", there, "--seconds", "0.05", "--wait", "20"]
        statuses.append(main([*common, "--json", str(tmp_path / f"{me}.json")]))

    threads = [threading.Thread(target=party, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]
    for me in (0, 1):
        figures = [Figure(**figure) for figure in json.loads((tmp_path / f"{me}.json").read_text())]
        assert [figure.unit for figure in figures] == ["ms", "per second", "MiB/s", "MiB/s", "MiB/s"]
        for figure in figures:
            assert 0 < figure.low <= figure.median <= figure.high
            assert figure.samples >= 1
    printed = capsys.readouterr().out
    assert printed.count("round trip, 100 B") == 2
    assert printed.count("messages from here, 16 MiB") == 2


def test_a_party_that_does_not_come_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = free_ports(2)
    there = f"{LOCAL}:{theirs}"
    assert main(["--listen", LOCAL, "--port", str(mine), "--party", there, "--wait", "0.2"]) == 1
    assert there in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.7:61001", ("192.0.2.7", 61001)), ("bob.example:80", ("bob.example", 80)), ("[::1]:443", ("::1", 443))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["192.0.2.7", ":61001", "bob:http"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SystemExit):
        main(["--port", "1", "--party", text])
