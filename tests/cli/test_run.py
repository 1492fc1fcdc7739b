"""The launcher, with real processes."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from mpccomm.cli import Status
from mpccomm.cli import main as mpccomm
from mpccomm.cli.run import _label, _Output, _Relay, _report
from mpccomm.engine.report import Figures, Report
from mpccomm.trace.record import load
from tests.programs import rest, running
from tests.sync.duo import environment
from tests.timing import UNIT

LIMIT = 300 * UNIT


def launched(tmp_path: Path, program: str, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
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
    return running(process)


def ran(tmp_path: Path, program: str, *options: str) -> tuple[int, list[str], str]:
    with launched(tmp_path, program, *options) as process:
        output, errors = process.communicate(timeout=LIMIT)
        return process.returncode, output.splitlines(), errors


def pids(lines: list[str]) -> list[int]:
    return [int(found.group(1)) for line in lines if (found := re.search(r"pid (\d+)", line))]


def gone(pid: int) -> bool:
    """Whether there is no such process; one that has ended and was not waited for counts as none."""
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
    # No warning either: all went well.
    assert sorted(line for line in errors.splitlines() if " | " in line) == [
        f"{name:5} | to stderr" for name in ("alice", "bob", "carol")
    ]
    log = (tmp_path / "logs" / "bob.log").read_text()
    assert "['alice', 'bob', 'carol']" in log
    assert "to stderr" in log


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have 127.0.0.1 alone; --tls does")
def test_parties_that_are_far_apart(tmp_path: Path) -> None:
    assert _far_apart(tmp_path) == []


def test_certified_parties_that_are_far_apart(tmp_path: Path) -> None:
    assert _far_apart(tmp_path, "--tls") == []


def _far_apart(tmp_path: Path, *options: str) -> list[str]:
    program = """
        import time
        from mpccomm import SyncPool
        with SyncPool.from_env() as pool:
            pool.wait_ready(30)
            for other in pool.parties:
                start = time.monotonic()
                # What it says of itself arrives at the same time as our question.
                pool.send(other, pool.name)
                took = time.monotonic() - start
                assert pool.recv(other) == other
                least = 0.06 if "carol" in (pool.name, other) else 0.02
                if not least <= took:
                    print(f"too fast: {other} after {took}")
    """
    lines = tmp_path / "lines.toml"
    lines.write_text(
        "[[line]]\nrtt = '20ms'\nrate = '50mbit'\n"
        + "".join(
            f"[[line]]\nbetween = ['carol', '{other}']\nrtt = '60ms'\njitter = '0ms'\n" for other in ("alice", "bob")
        )
    )
    status, said, errors = ran(tmp_path, program, "--parties", "alice,bob,carol", "--lines", str(lines), *options)
    assert status == 0, errors
    return said


def test_lines_that_cannot_be(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "", "-n", "2", "--regions", "eu,us,eu")
    assert status == 2
    assert "names 3 regions for 2 parties" in errors


def test_a_module_and_numbers(tmp_path: Path) -> None:
    status, lines, _ = ran(
        tmp_path, "import os, sys; print(os.environ['MPCCOMM_PARTY'], sys.argv[1:])", "-n", "2", "-m", "program", "x"
    )
    assert (status, sorted(lines)) == (0, ["party-0 | party-0 ['x']", "party-1 | party-1 ['x']"])


def test_what_else_the_environment_says_of_parties_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPCCOMM_CERT", "elsewhere.pem")
    monkeypatch.setenv("MPCCOMM_HOSTS", "elsewhere-{i}:61000")
    program = """
        from mpccomm import SyncPool
        with SyncPool.from_env() as pool:
            print(pool.name)
    """
    status, lines, errors = ran(tmp_path, program, "-n", "2")
    assert status == 0, errors
    assert sorted(lines) == ["party-0 | party-0", "party-1 | party-1"]


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
    assert errors.splitlines()[-4:] == [
        "mpccomm run: alice was stopped",
        "mpccomm run: bob ended with status 7",
        "mpccomm run: carol was stopped",
        "mpccomm run: bob ended with status 7; it was the first to fail",
    ]
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
        assert process.returncode == Status.INTERRUPTED
        assert all(gone(pid) for pid in pids(lines))


BLOCKING = """
    from mpccomm import SyncPool
    with SyncPool.from_env() as pool:
        pool.wait_ready()
        with pool.phase("stuck"):
            pool.recv("b" if pool.name == "a" else "a")
    """
AWAITING = """
    import asyncio
    from mpccomm import Pool
    async def main():
        async with Pool.from_env() as pool:
            await pool.wait_ready()
            with pool.phase("stuck"):
                await pool.recv("b" if pool.name == "a" else "a")
    asyncio.run(main())
    """


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed there")
@pytest.mark.parametrize("program", [BLOCKING, AWAITING, AWAITING.replace("asyncio.run", "import uvloop; uvloop.run")])
def test_what_hangs_leaves_its_trace_and_its_report(tmp_path: Path, program: str) -> None:
    options = "--parties", "a,b", "--timeout", "4", "--trace", "run.json", "--report-to", "run.csv"
    status, _, errors = ran(tmp_path, program, *options)
    assert status == Status.TIMED_OUT
    assert "Traceback" not in errors
    record = load(tmp_path / "run.json")
    assert sorted(record.names) == ["a", "b"]
    assert all([phase.path for phase in party.phases] == ["stuck"] for party in record.parties)
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 7


LINGERING = """
    import os, signal, time
    from mpccomm import SyncPool
    with SyncPool.from_env() as pool:
        pool.wait_ready()
        if pool.name == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        while pool.stats["b"].connected:
            time.sleep(0.01)
        pool.send("b", 1)
    """


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed there")
def test_one_that_still_has_something_to_deliver_leaves_its_trace_and_its_report(tmp_path: Path) -> None:
    options = "--parties", "a,b", "--trace", "run.json", "--report-to", "run.json.report"
    status, _, errors = ran(tmp_path, LINGERING, *options)
    assert status == 128 + signal.SIGKILL
    assert "mpccomm run: no party" not in errors
    assert load(tmp_path / "run.json").names == ["a"]
    # As long as the program ran: nothing of the time in which its pool waited to deliver.
    assert 0 < (Report.load(tmp_path / "run.json.report")[""].seconds or 0) < 5


def test_a_report_that_was_half_written_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures(seconds=1.0, receiving=0.0, sending=0.0, cpu=0.0, messages_sent=3, rounds=0)
    Report("a", {"": figures}, {"": {}}).save(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("")
    _report(tmp_path, None)
    assert "3 messages" in capsys.readouterr().err


def test_time_is_up(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "import time; time.sleep(1000)", "--parties", "a,b", "--timeout", "1")
    assert status == Status.TIMED_OUT
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
        (["-n", "0", "x.py"], "no whole number above 0"),
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
        mpccomm(["run", *arguments])
    assert end.value.code == 2
    assert expected in capsys.readouterr().err


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _Output(Terminal()).in_colour
    assert not _Output(io.StringIO()).in_colour
    assert _label("a", 0, True) == b"\x1b[36ma | \x1b[0m"
    assert _label("a", 0, False) == b"a | "
    monkeypatch.setenv("NO_COLOR", "1")
    assert not _Output(Terminal()).in_colour


class Unbuffered(io.BytesIO):
    """Takes a part of what is written, as a pipe does that is nearly full, and lets others write before the rest."""

    def write(self, data: Any) -> int:
        time.sleep(0)
        return super().write(bytes(data[:3]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that takes nothing for now")
def test_a_stream_that_takes_nothing_for_now_gets_all_of_it() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with (
        os.fdopen(reading, "rb") as there,
        os.fdopen(writing, "wb", buffering=0) as raw,
        ThreadPoolExecutor(1) as reader,
    ):
        stream = io.TextIOWrapper(cast(Any, raw), write_through=True)
        found = reader.submit(there.read, 1_000_000)
        _Output(stream).write(bytes(1_000_000))
        assert found.result(LIMIT) == bytes(1_000_000)
        stream.detach()


def test_what_is_written_at_once_stays_in_one_piece_on_an_unbuffered_stream() -> None:
    raw = Unbuffered()
    output = _Output(io.TextIOWrapper(raw, "ascii", "backslashreplace", write_through=True))

    def write(letter: str) -> None:
        for _ in range(50):
            output.write(letter.encode() * 9 + b"\n" + letter.encode() * 9 + b"\n")
            output.print(f"{letter}: \u2026")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pieces = [f"{letter * 9}\n{letter * 9}\n{letter}: \\u2026\n" for letter in "abc"]
    rest = raw.getvalue().decode()
    for piece in pieces:
        assert rest.count(piece.partition(": ")[0][:-1]) == 50
    assert sorted(rest.splitlines()) == sorted("".join(pieces).splitlines() * 50)


# -- who is to blame ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", ["", "time.sleep(0.7)"])
def test_the_one_to_blame_is_named_last_with_its_traceback(tmp_path: Path, late: str) -> None:
    program = f"""
        import atexit, sys, time
        from mpccomm import SyncPool
        with SyncPool.from_env() as pool:
            pool.wait_ready(30)
            pool.group().barrier(30)
            if pool.name == "bob":
                atexit.register(lambda: {late or "None"})
                sys.exit(int("five"))
            pool.recv("bob")
    """
    status, _, errors = ran(tmp_path, program, "--parties", "alice,bob,carol")
    assert status == 1
    assert errors.splitlines()[-1] == "mpccomm run: bob ended with status 1; it was the first to fail"
    assert "bob   | ValueError: invalid literal for int() with base 10: 'five'" in errors


@pytest.mark.parametrize("met", [True, False])
def test_a_party_that_ended_well_but_too_early_is_hinted_at(tmp_path: Path, met: bool) -> None:
    program = f"""
        import os, time
        from mpccomm import SyncPool
        if not {met} and os.environ["MPCCOMM_PARTY"] != "bob":
            time.sleep(3)  # bob has come and gone
        pool = SyncPool.from_env()
        if {met}:
            pool.wait_ready(30)
        if pool.name != "bob":
            pool.recv("bob")
    """
    status, _, errors = ran(tmp_path, program, "--parties", "alice,bob", "--timeout", "60" if met else "10")
    if met:
        assert status == 1
        assert errors.splitlines()[-1] == (
            "mpccomm run: alice ended with status 1; it was the first to fail. It waited for bob, which had ended with status 0: "
            "too early?"
        )
    else:
        assert status == Status.TIMED_OUT
        assert "mpccomm run: alice waits for bob, which has ended with status 0: too early?" in errors.splitlines()


def test_a_party_that_came_late_and_ended_well_is_not_hinted_at(tmp_path: Path) -> None:
    program = """
        import time
        from mpccomm import SyncPool
        me = __import__("os").environ["MPCCOMM_PARTY"]
        if me == "bob":
            time.sleep(3)  # long enough for the other one to say that it waits
        with SyncPool.from_env() as pool:
            if me == "bob":
                pool.send("alice", 1)
            else:
                pool.recv("bob")
        time.sleep(0 if me == "bob" else 2)
    """
    status, _, errors = ran(tmp_path, program, "--parties", "alice,bob")
    assert status == 0
    assert "which may start later" in errors
    assert "too early" not in errors


def test_tracebacks_are_not_mixed(tmp_path: Path) -> None:
    program = """
        def fall(depth):
            if depth == 0:
                raise ValueError("two\\nlines")
            fall(depth - 1)
        try:
            fall(40)
        except ValueError:
            raise RuntimeError("in the end")
    """
    _, _, errors = ran(tmp_path, program, "-n", "4")
    labels = [line.partition(" | ")[0] for line in errors.splitlines() if " | " in line]
    assert sum(one != other for one, other in pairwise(labels)) == len(set(labels)) - 1


def relayed(*pieces: bytes) -> tuple[list[bytes], _Relay]:
    """What a relay writes, piece by piece, for what it reads."""
    reading, writing = os.pipe()
    written: list[bytes] = []

    class Target(io.BytesIO):
        def write(self, data: Any) -> int:
            written.append(bytes(data))
            return len(data)

    output = _Output(io.TextIOWrapper(Target()))
    relay = _Relay(os.fdopen(reading, "rb", buffering=0), output, b"a | ", None, lambda _: None)
    relay.start()
    for piece in pieces:
        os.write(writing, piece)
    os.close(writing)
    relay.join(LIMIT)
    return written, relay


def test_a_traceback_is_one_piece_and_what_follows_another() -> None:
    trace = b'Traceback (most recent call last):\n  File "x", line 1\nmpccomm.errors.PartyGoneError: bob\n'
    written, relay = relayed(b"before\n", *trace.splitlines(keepends=True), b"after\n")
    assert b"".join(written).replace(b"a | ", b"") == b"before\n" + trace + b"after\n"
    assert sum(b"Traceback" in piece and b"PartyGoneError" in piece for piece in written) == 1
    assert relay.misses_another
    assert not relay.asked_for_input


def test_a_party_that_asks_for_input(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "input()", "-n", "1")
    assert status == 1
    assert "It asked for input, but parties get none" in errors.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no head")
def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    with launched(tmp_path, "import time\nwhile True: print('x' * 1000); time.sleep(0.01)", "-n", "2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == Status.UNREAD


@pytest.mark.parametrize(
    ("program", "word"), [(["none.py"], "file none.py"), (["-m", "no_such_module.x"], "module no_")]
)
def test_a_program_that_is_not_there(program: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        mpccomm(["run", "-n", "2", *program])
    assert end.value.code == 2
    assert f"there is no {word}" in capsys.readouterr().err


# -- where the time goes, and what it hangs at -------------------------------------------------------------------------

COUNTED = """
    import sys
    from mpccomm import SyncPool

    with SyncPool.from_env() as pool:
        with pool.phase("online"):
            for number in range(3):
                pool.group().allgather(number)
"""


def test_a_report_of_all_parties(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, COUNTED, "-n", "2", "--report")
    assert status == 0
    rows = [line.split() for line in errors.splitlines()]
    assert [row[-1] for row in rows if row[0] in ("all", "online")] == ["3", "3"]
    assert sum(row[0] in ("party-0", "party-1") for row in rows) == 4


@pytest.mark.parametrize("name", ["report.json", "report.csv"])
def test_a_report_in_a_file(name: str, tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, COUNTED, "--parties", "alice,bob", "--report-to", name)
    assert status == 0
    assert "rounds" in errors
    if name.endswith("json"):
        report = Report.load(tmp_path / name)
        assert report["online"].rounds == 3
        assert [one.messages_sent for one in report.parties["online"].values()] == [3, 3]
    else:
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            rows = {(row["phase"], row["party"]): row for row in csv.DictReader(file)}
        assert rows["online", ""]["rounds"] == "3"
        assert rows["online", "bob"]["messages_received"] == "3"


def test_a_phase_that_one_party_alone_entered_has_its_row(tmp_path: Path) -> None:
    """Its name is misspelt there."""
    program = """
        from mpccomm import SyncPool
        with SyncPool.from_env() as pool:
            with pool.phase("online" if pool.name == "alice" else "onlnie"):
                pool.group().barrier()
    """
    status, _, errors = ran(tmp_path, program, "--parties", "alice,bob", "--report")
    assert status == 0
    rows = [line.split()[0] for line in errors.splitlines() if line.startswith(" ")]
    assert rows == ["alice", "bob", "online", "alice", "onlnie", "bob"]


def test_an_option_that_comes_too_late(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys; print(sys.argv[1:])")
    command = [sys.executable, "-m", "mpccomm", "run", "-n", "1", str(script), "--report", "--other", "--rtt=40ms"]
    done = subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert "['--report', '--other', '--rtt=40ms']" in done.stdout
    hint = f"--report, --rtt=40ms comes after {script}, and goes to that; options of mpccomm run come before it"
    assert hint in done.stderr


def test_without_pools_there_is_no_report(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "print(1)", "-n", "1", "--report")
    assert status == 0
    assert "no party has left a report" in errors


def test_a_report_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "program.py"
    script.touch()
    with pytest.raises(SystemExit):
        mpccomm(["run", "-n", "1", "--report-to", str(tmp_path / "none" / "x.csv"), str(script)])
    assert "there is no folder for" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--report-to", "--trace"])
def test_a_file_that_can_t_be_written_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    script = tmp_path / "program.py"
    script.touch()
    with pytest.raises(SystemExit):
        mpccomm(["run", "-n", "1", option, str(tmp_path), str(script)])
    assert f"{tmp_path} can't be written: Is a directory" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_parties_say_what_they_wait_for(tmp_path: Path) -> None:
    """When they are asked, at any time, and before they are ended because time is up."""
    program = """
        from mpccomm import SyncPool

        with SyncPool.from_env() as pool:
            pool.wait_ready()
            print("ready", flush=True)
            pool.recv(pool.parties[0], "never")
    """
    with launched(tmp_path, program, "-n", "2", "--timeout", "5") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            assert process.stdout.readline().endswith("ready\n")
        seen = ""
        while seen.count("receive of 'never' has waited for") < 2:
            process.send_signal(signal.SIGUSR1)
            seen += process.stderr.readline()
        _, errors = rest(process, LIMIT)
        assert process.returncode == Status.TIMED_OUT
    assert errors.count("receive of 'never' has waited for") >= 2
    assert re.search(r"program.py:7 in <module>, in a call of mpccomm", errors)
