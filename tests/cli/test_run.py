"""The launcher, with real processes."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpccomm.cli.run import INTERRUPTED, TIMED_OUT, _label, main
from tests.sync.duo import environment
from tests.timing import UNIT

LIMIT = 300 * UNIT


@contextmanager
def launched(tmp_path: Path, program: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """``mpccomm run`` of a program, as a process."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "mpccomm", "run", *options]
    if "-m" not in options:
        command += [str(script), "--its-own", "argument"]
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ran(tmp_path: Path, program: str, *options: str) -> tuple[int, list[str], str]:
    with launched(tmp_path, program, *options) as process:
        output, errors = process.communicate(timeout=LIMIT)
        return process.returncode, output.splitlines(), errors


def pids(lines: list[str]) -> list[int]:
    return [int(found.group(1)) for line in lines if (found := re.search(r"pid (\d+)", line))]


def gone(pid: int) -> bool:
    """Whether there is no such process; one that has ended and that nobody has asked for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


TALK = """
    import sys
    from mpccomm import SyncPool
    with SyncPool.from_env() as pool:
        print(sorted(pool.group().allgather(sys.argv[1:], timeout=30)))
        print("to stderr", file=sys.stderr)
"""


@pytest.mark.parametrize("tls", [(), ("--tls",)])
def test_the_parties_talk(tmp_path: Path, tls: tuple[str, ...]) -> None:
    status, lines, errors = ran(tmp_path, TALK, "--parties", "alice,bob,carol", "--log-dir", "logs", *tls)
    assert (status, sorted(lines)) == (
        0,
        [f"{name:5} | ['alice', 'bob', 'carol']" for name in ("alice", "bob", "carol")],
    )
    assert sorted(line for line in errors.splitlines() if "stderr" in line) == [
        f"{name:5} | to stderr" for name in ("alice", "bob", "carol")
    ]
    log = (tmp_path / "logs" / "bob.log").read_text()
    assert "['alice', 'bob', 'carol']" in log
    assert "to stderr" in log


def test_a_module_and_numbers(tmp_path: Path) -> None:
    status, lines, _ = ran(
        tmp_path, "import os, sys; print(os.environ['MPCCOMM_PARTY'], sys.argv[1:])", "-n", "2", "-m", "program", "x"
    )
    assert (status, sorted(lines)) == (0, ["party-0 | party-0 ['x']", "party-1 | party-1 ['x']"])


def test_the_first_failure_stops_all_and_is_the_exit_status(tmp_path: Path) -> None:
    program = """
        import os, subprocess, sys, time
        from mpccomm import SyncPool
        with SyncPool.from_env() as pool:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            print("pid", os.getpid())
            print("pid", child.pid)
            pool.group().barrier(30)
            if pool.name == "bob":
                os._exit(7)
            time.sleep(1000)
    """
    status, lines, errors = ran(tmp_path, program, "--parties", "alice,bob,carol")
    assert status == 7
    assert "bob ended with status 7; stopping the others" in errors
    assert len(pids(lines)) == 6
    assert all(gone(pid) for pid in pids(lines))


def test_a_signal_is_128_more(tmp_path: Path) -> None:
    assert (
        ran(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "-n", "1")[0] == 128 + signal.SIGABRT
    )


STUBBORN = """
    import os, signal, subprocess, sys, time
    {handler}
    child = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", child])
    print("pid", os.getpid())
    while True:
        time.sleep(1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_orphan(tmp_path: Path, number: signal.Signals) -> None:
    with launched(tmp_path, STUBBORN.format(handler=""), "-n", "3") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(number)
        process.communicate(timeout=LIMIT)
        assert process.returncode == 128 + number
        assert len(pids(lines)) == 6
        assert all(gone(pid) for pid in pids(lines))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")
def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    handler = "signal.signal(signal.SIGINT, lambda *_: print('deaf')); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with launched(
        tmp_path,
        STUBBORN.format(handler=handler),
        "-n",
        "1",
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert "deaf" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
        assert process.returncode == INTERRUPTED
        assert all(gone(pid) for pid in pids(lines))


def test_time_is_up(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "import time; time.sleep(1000)", "--parties", "a,b", "--timeout", "1")
    assert status == TIMED_OUT
    assert "stopped after 1 s; still running: a, b" in errors


def test_long_lines_and_ends_without_one(tmp_path: Path) -> None:
    status, lines, _ = ran(tmp_path, "import sys; sys.stdout.write('x' * 200_000 + '\\ny')", "-n", "1")
    assert status == 0
    assert all(line.startswith("party-0 | ") for line in lines)
    assert "".join(line.removeprefix("party-0 | ") for line in lines) == "x" * 200_000 + "y"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x.py"], "required"),
        (["-n", "0", "x.py"], "0 parties"),
        (["--parties", "a,,b", "x.py"], "can't be the name"),
        (["--parties", "a,../b", "x.py"], "can't be the name"),
        (["--parties", "a,b,a", "x.py"], "twice"),
        (["-n", "2", "--parties", "a", "x.py"], "not allowed"),
        (["-n", "2", "--timeout", "0", "x.py"], "seconds"),
        (["-n", "2"], "script"),
    ],
)
def test_what_is_refused(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert expected in capsys.readouterr().err


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _label("a", 0, True) == b"\x1b[36ma | \x1b[0m"
    assert _label("a", 0, False) == b"a | "
    monkeypatch.setenv("NO_COLOR", "1")
    assert _label("a", 0, True) == b"a | "
    assert "NO_COLOR" in os.environ
