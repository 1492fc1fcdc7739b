"""The command line: what it says of itself, and what it says when it cannot."""

import sys
from importlib.metadata import version

import pytest

from mpccomm.cli import COMMANDS, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"mpccomm {version('mpccomm')}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    lines = [line.split(maxsplit=1) for line in output.splitlines()]
    assert all([name, what] in lines for name, what in COMMANDS.items())


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["--dmeo"]])
def test_no_such_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: mpccomm" in capsys.readouterr().err


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", "--help"])
    assert end.value.code == 0
    assert "usage: mpccomm demo" in capsys.readouterr().out


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "mpccomm.cli.demo", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["demo"])
    assert end.value.code == 2
    assert "pip install 'mpccomm[numpy]'" in capsys.readouterr().err
