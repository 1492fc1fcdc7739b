"""The command line: what it says of itself, and what it says when it cannot."""

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mpccomm.cli import COMMANDS, STATUSES, Status, main
from tests.pools import LOCAL
from tests.ports import free_ports
from tests.timing import UNIT

ROOT = Path(__file__).parents[2]


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


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(name='numpy')")
    done = command("demo", "--help", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("demo", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "extra 'numpy'" in done.stderr


# -- how commands end --------------------------------------------------------------------------------------------------


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mpccomm", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = started(*arguments, **environment)
    output, errors = process.communicate(timeout=300 * UNIT)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def waiting(tmp_path: Path) -> dict[str, list[str]]:
    """For each command arguments with which it goes on for long, and has said something by then."""
    mine, theirs = free_ports(2)
    file = tmp_path / "mpccomm.toml"
    file.write_text(
        f"[parties.alice]\naddr = '{LOCAL}'\nport = {mine}\n[parties.bob]\naddr = '{LOCAL}'\nport = {theirs}\n"
    )
    script = tmp_path / "script.py"
    script.write_text("import time\nprint('here', flush=True)\ntime.sleep(1000)")
    return {
        "bench": ["bench", str(file), "--me", "alice"],
        "demo": ["demo", "--length", "5000000"],
        "doctor": ["doctor", str(file), "--me", "alice", "--timeout", "1000"],
        "ping": ["ping", str(file), "--me", "alice", "--timeout", "1000"],
        "run": ["run", "-n", "2", str(script)],
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")
@pytest.mark.parametrize("name", ["bench", "demo", "doctor", "ping", "run"])
def test_ctrl_c(name: str, tmp_path: Path) -> None:
    with started(*waiting(tmp_path)[name]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stderr if name == "bench" else process.stdout
        if name == "ping":  # it has nothing to say before it is connected
            wait_for_children_or_ports(tmp_path)
        else:
            first.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all that belong to it get it
        output, errors = process.communicate(timeout=300 * UNIT)
    assert process.returncode == Status.INTERRUPTED
    # What a party's program has to say of it is its own, and labelled.
    said = [line for line in (output + errors).splitlines() if not line.startswith("party-")]
    assert not [line for line in said if "Traceback" in line or "KeyboardInterrupt" in line]


def wait_for_children_or_ports(tmp_path: Path) -> None:
    port = int((tmp_path / "mpccomm.toml").read_text().split("port = ")[1].split()[0])
    while True:
        try:
            socket.create_connection((LOCAL, port), timeout=1).close()
        except OSError:
            continue
        return


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that tells")
@pytest.mark.parametrize(
    "arguments", [["demo"], ["--help"], ["certs", "--help"], ["completion", "bash"], ["doctor", "none.toml"]], ids=str
)
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_closed_pipe(arguments: list[str], which: str) -> None:
    with started(*arguments) as process:
        getattr(process, which).close()
        setattr(process, which, None)
        output, errors = process.communicate(timeout=300 * UNIT)
    assert "Traceback" not in f"{output}{errors}"
    assert "Exception" not in f"{output}{errors}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench"],
        ["bench", "--port", "80000", "--party", "b:1"],
        ["bench", "--port", "1", "--party", "bob"],
        ["bench", "--port", "1", "--party", "b:x"],
        ["bench", "--port", "1", "--party", "b:1", "--seconds", "nan"],
        ["bench", "--port", "1", "--party", "b:1", "--wait", "-1"],
        ["bench", "--port", "1", "--party", "b:1", "--listen", "http://b"],
        ["bench", "--port", "1", "--party", "b:1", "--key", "none", "--cert", "none"],
        ["bench", "none.toml", "--me", "alice"],
        ["certs", "show", "none.pem"],
        ["certs", "init", "--days", "9999999999999"],
        ["certs", "issue", "--config", "none.toml"],
        ["completion", "csh"],
        ["demo", "--length", "0"],
        ["doctor"],
        ["doctor", "none.toml", "--me", "alice"],
        ["doctor", "none.toml", "--timeout", "inf"],
        ["ping", "none.toml", "--me", "alice", "--count", "1e3"],
        ["run", "-n", "2", "none.py"],
        ["run", "--parties", "a,\x1b[31m", "none.py"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_is_told_in_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        sys.exit(main(arguments))
    assert end.value.code == Status.USAGE
    assert re.search(r"mpccomm \w+( \w+)?: .+\n$", capsys.readouterr().err)


def test_the_table_of_statuses_is_that_of_the_documents() -> None:
    text = (ROOT / "docs/reference/command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE) == [
        (str(int(status)), what) for status, what in STATUSES.items()
    ]
