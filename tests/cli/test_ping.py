"""`mpccomm ping`: times of those who are there, causes for the others."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mpccomm import SyncPool
from mpccomm.cli import main as mpccomm
from tests.certificates import LOCAL, self_signed
from tests.cli.test_doctor import encrypt, setup
from tests.ports import free_ports
from tests.timing import UNIT

GOODBYE = r"bob: was there, and has said goodbye; \d+\.\d\d ms was measured"


def main(arguments: list[str]) -> int:
    return mpccomm(["ping", *arguments])


def test_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with SyncPool.from_config(file, "bob") as bob:
        bob.arecv("alice")
        assert main([str(file), "--me", "alice", "--count", "3", "--interval", str(3 * UNIT)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"bob: \d+\.\d\d ms", lines[-1])


def test_a_key_under_a_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identities = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    file = setup(tmp_path, identities)
    secret = encrypt(file, identities["alice"], "open sesame")
    arguments = [str(file), "--me", "alice", "--count", "1", "--interval", str(UNIT)]
    with SyncPool.from_config(file, "bob") as bob:
        bob.arecv("alice")
        assert main([*arguments, "--password-file", str(secret)]) == 0
    assert main(arguments) == 2
    assert "is encrypted" in capsys.readouterr().err


def test_both_ends_ping_and_one_is_done_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(setup(tmp_path))
    with ThreadPoolExecutor(1) as executor:
        bob = executor.submit(main, [file, "--me", "bob", "--count", "1", "--interval", str(UNIT)])
        arguments = ["--count", "1000", "--interval", str(UNIT), "--timeout", str(100 * UNIT)]
        assert main([file, "--me", "alice", *arguments]) == 0
        assert bob.result() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bob: ")]
    assert re.fullmatch(GOODBYE, lines[-1])
    assert "bob: not connected" not in lines


def with_carol(file: Path) -> str:
    """The file with one more party, which never comes."""
    file.write_text(f"{file.read_text()}[parties.carol]\naddr = '{LOCAL}'\nport = {free_ports(1)[0]}\n")
    return str(file)


def test_those_that_are_there_are_measured_while_another_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = with_carol(setup(tmp_path))
    with SyncPool.from_config(file, "bob"):
        arguments = ["--count", "2", "--interval", str(UNIT), "--timeout", str(20 * UNIT)]
        assert main([file, "--me", "alice", *arguments]) == 1
    *of_bob, of_carol = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in of_bob] == ["bob"] * 2
    assert of_carol.startswith("carol at ")


def test_one_that_leaves_while_another_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = with_carol(setup(tmp_path))
    with ThreadPoolExecutor(1) as executor:
        arguments = ["--interval", str(UNIT), "--timeout", str(30 * UNIT)]
        bob = executor.submit(main, [file, "--me", "bob", "--party", "alice", "--count", "5", *arguments])
        assert main([file, "--me", "alice", "--count", "60", *arguments]) == 1
        assert bob.result() == 0
    lines = capsys.readouterr().out.splitlines()
    (goodbye,) = (line for line in lines if line.startswith("bob: was"))
    assert re.fullmatch(GOODBYE, goodbye)
    assert lines.index(goodbye) < lines.index(next(line for line in lines if line.startswith("carol at ")))


def test_nobody_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(setup(tmp_path)), "--me", "alice", "--timeout", str(2 * UNIT)]) == 1
    assert re.search(r"bob at 127\.0\.0\.1:\d+: connection refused", capsys.readouterr().out)


def test_while_the_program_of_this_party_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with SyncPool.from_config(file, "alice"):
        assert main([str(file), "--me", "alice"]) == 1
    said = capsys.readouterr().err
    assert "Stop this party's own program meanwhile" in said
    assert "Choose another port" not in said


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--interval", "0"], ["--timeout", "-1"]])
def test_numbers_that_cannot_be(wrong: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(setup(tmp_path)), "--me", "alice", *wrong])
    assert end.value.code == 2


def test_a_party_that_is_not_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(setup(tmp_path)), "--me", "alice", "--party", "zoe"]) == 2
    assert "no party 'zoe'" in capsys.readouterr().err
