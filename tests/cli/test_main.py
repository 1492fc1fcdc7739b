"""The command line: what it says of itself, and what it says when it cannot."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from mpccomm.cli import COMMANDS, STATUSES, Status, main
from mpccomm.trace.chrome import write
from mpccomm.trace.record import Record
from tests.pools import LOCAL
from tests.ports import free_ports
from tests.programs import rest
from tests.timing import UNIT
from tests.trace.records import ping_pong

ROOT = Path(__file__).parents[2]
LONG = bool(os.environ.get("MPCCOMM_TEST_LONG"))


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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert max(map(len, lines)) <= 102
    assert "``" not in "".join(lines)


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


def party_file(tmp_path: Path) -> str:
    """A configuration of two parties, neither of which is there."""
    mine, theirs = free_ports(2)
    file = tmp_path / "mpccomm.toml"
    file.write_text(
        f"[parties.alice]\naddr = '{LOCAL}'\nport = {mine}\n[parties.bob]\naddr = '{LOCAL}'\nport = {theirs}\n"
    )
    return str(file)


def script(tmp_path: Path, text: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(text)
    return str(file)


def trace_file(tmp_path: Path) -> str:
    file = tmp_path / "run.json"
    write(Record(list(ping_pong())), file)
    return str(file)


def token_file(tmp_path: Path) -> str:
    file = tmp_path / "tokens.txt"
    file.write_text("0123456789" * 4)
    return str(file)


# Not in one sleep: a signal that comes at the moment at which it begins would wait for its end.
SAYS_AND_WAITS = "import time\nprint('here', flush=True)\nwhile True: time.sleep(0.1)"
LASTING: dict[str, Callable[[Path], list[str]]] = {
    "bench": lambda path: [party_file(path), "--me", "alice"],
    "compat": lambda path: [script(path, SAYS_AND_WAITS)],
    "demo": lambda path: ["--length", "5000000"],
    "doctor": lambda path: [party_file(path), "--me", "alice", "--timeout", "1000"],
    "ping": lambda path: [party_file(path), "--me", "alice", "--timeout", "1000"],
    "relay": lambda path: ["--listen", f"{LOCAL}:0", "--token-file", token_file(path)],
    "run": lambda path: ["-n", "2", script(path, SAYS_AND_WAITS)],
}
"""For each command that may take long the arguments with which it does, and has said something by then."""
BRIEF: dict[str, Callable[[Path], list[str]]] = {
    "certs": lambda path: ["init", "--folder", str(path / "folder")],
    "completion": lambda path: ["bash"],
    "estimate": lambda path: [trace_file(path), "--rtt", "40ms"],
    "trace": lambda path: ["show", trace_file(path)],
}
"""The others."""


def test_every_command_is_here() -> None:
    assert sorted([*LASTING, *BRIEF]) == sorted(COMMANDS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")
@pytest.mark.parametrize("name", LASTING)
@pytest.mark.parametrize("later", [0.0, *([0.1 * step for step in range(1, 30, 2)] if LONG else [])])
def test_ctrl_c(name: str, later: float, tmp_path: Path) -> None:
    with started(name, *LASTING[name](tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if name == "ping":  # it has nothing to say before it is connected
            wait_for_port(tmp_path)
        else:
            (process.stderr if name == "bench" else process.stdout).readline()
        time.sleep(later)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all that belong to it get it
        output, errors = rest(process, 300 * UNIT)
    assert process.returncode == Status.INTERRUPTED
    # What a party's program has to say of it is its own, and labelled.
    said = [line for line in (output + errors).splitlines() if not line.startswith("party-")]
    assert not [line for line in said if "Traceback" in line or "KeyboardInterrupt" in line]


def wait_for_port(tmp_path: Path) -> None:
    port = int((tmp_path / "mpccomm.toml").read_text().split("port = ")[1].split()[0])
    while True:
        try:
            socket.create_connection((LOCAL, port), timeout=1).close()
        except OSError:
            continue
        return


LOUD: dict[str, Callable[[Path], list[str]]] = {
    **BRIEF,
    "bench": lambda path: [],
    "compat": lambda path: [script(path, "for number in range(10_000): print(number)")],
    "demo": lambda path: ["--length", "1"],
    "doctor": lambda path: [party_file(path), "--me", "alice", "--timeout", "1"],
    "ping": lambda path: [party_file(path), "--me", "alice", "--timeout", "0.1"],
    "relay": lambda path: ["--listen", "nowhere"],
    "run": lambda path: ["-n", "2", script(path, "while True: print(1)")],
}
"""For each command arguments with which it prints, if only its usage."""
ONLY_TO_STDERR = ("bench", "relay")
"""Of these, those that print nothing else with these arguments."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that tells")
@pytest.mark.parametrize("name", ["--help", "--version", *COMMANDS])
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_closed_pipe(name: str, which: str, tmp_path: Path) -> None:
    arguments = LOUD[name](tmp_path) if name in LOUD else []
    if (name, which) == ("run", "stderr"):
        arguments = ["-n", "2", script(tmp_path, "import sys\nwhile True: print(1, file=sys.stderr)")]
    with started(name, *arguments) as process:
        getattr(process, which).close()
        setattr(process, which, None)
        output, errors = process.communicate(timeout=300 * UNIT)
    assert "Traceback" not in f"{output}{errors}"
    assert "Exception" not in f"{output}{errors}"
    if name == "run" or (which == "stdout" and name in COMMANDS and name not in ONLY_TO_STDERR):
        assert process.returncode == Status.UNREAD
    elif name not in ("doctor", "ping"):
        assert process.returncode in (Status.WELL, Status.USAGE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file")
@pytest.mark.parametrize("where", [">&-", "2>&-", "> /dev/full"])
def test_streams_that_do_not_take_anything(where: str) -> None:
    # Buffered, as it is for most: what was not written then fails once more at exit.
    for arguments in ("completion bash", "--version", "run -n 1 -m this"):
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m mpccomm {arguments} {where}"],
            cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": ""}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr
        assert "ignored" not in done.stdout + done.stderr
        assert done.returncode in (Status.WELL, Status.WRONG)


def test_another_pipe_that_breaks_in_a_program_is_its_own_to_tell(tmp_path: Path) -> None:
    done = command("compat", script(tmp_path, "raise BrokenPipeError('of the program')"))
    assert done.returncode == 1
    assert "BrokenPipeError: of the program" in done.stderr


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
        ["run", "-n", "2"],
        ["run", "-n", "2", "tests/cli"],
        ["run", "-n", "2", "--log-dir", "README.md", "-m", "this"],
        ["run", "--parties", "a,\x1b[31m", "none.py"],
        ["compat"],
        ["compat", "none.py"],
        ["compat", "-m", "no_such_module"],
        ["certs", "init", "--folder", "README.md/below"],
        ["certs", "show", "tests/cli/test_main.py"],
        ["certs", "show", "."],
        ["estimate", "none.json"],
        ["estimate", "README.md"],
        ["relay", "--listen", "nowhere"],
        ["relay", "--listen", "127.0.0.1:0", "--token-file", "none.txt"],
        ["trace", "show", "none.json"],
        ["trace", "show", "README.md"],
        ["trace", "draw", "none.json", "-o", "x.png"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_is_told_in_words(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        sys.exit(main(arguments))
    assert end.value.code == Status.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"mpccomm \w+( \w+)?: .+\n$", captured.err)
    assert "required: script, arguments" not in captured.err


def test_the_table_of_statuses_is_that_of_the_documents() -> None:
    text = (ROOT / "docs/reference/command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE) == [
        (str(int(status)), what.replace("|", r"\|")) for status, what in STATUSES.items()
    ]
