"""Traces of several parties: merged, drawn, put into words; and the launcher's."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mpccomm import MemoryNetwork, Pool, Settings, SyncPool
from mpccomm.cli import Status, main
from mpccomm.engine.report import Report
from mpccomm.trace.chrome import write
from mpccomm.trace.record import Record, Wait, load
from tests.cli.test_run import ran
from tests.trace.records import SECOND, of_a_later_run, party, ping_pong

RING = """
    from mpccomm import SyncPool
    with SyncPool.from_env() as pool:
        others = list(pool.parties)
        if pool.name == "alice":
            pool.send("bob", "secret of alice")
            pool.recv("carol")
        else:
            value = pool.recv("alice" if pool.name == "bob" else "bob")
            pool.send("carol" if pool.name == "bob" else "alice", value)
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    alice, bob = ping_pong(4, clock="another", zero=0)
    folder = tmp_path / "traces"
    folder.mkdir()
    write(Record([alice]), folder / "alice.json")
    write(Record([bob]), folder / "bob.json")
    return [str(folder / "alice.json"), str(folder / "bob.json")]


def test_merge(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run.json"
    assert main(["trace", "merge", *files, "-o", str(output)]) == 0
    assert load(output).messages == load(*files).messages
    said = capsys.readouterr().out
    assert said.startswith("2 parties, 8 messages (800 bytes), 8 rounds\n")
    assert "Bob: sent 4, received 4" in said
    assert "its clock is known within 1 µs" in said
    assert f"written to {output}" in said


def test_a_folder_stands_for_its_files(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "show", str(Path(files[0]).parent)]) == 0
    assert "2 parties, 8 messages" in capsys.readouterr().out
    assert main(["trace", "show", str(tmp_path)]) == Status.USAGE
    assert f"there is no trace in the folder {tmp_path}" in capsys.readouterr().err


def test_rounds_that_can_t_be_known_are_not_said(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "show", files[0]]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 party, 8 messages (800 bytes), rounds unknown without the traces of Bob\n")
    assert not said.err


@pytest.mark.parametrize("command", ["show", "merge", "draw"])
def test_a_folder_with_several_runs(
    command: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "draw":
        pytest.importorskip("matplotlib")
    folder = Path(files[0]).parent
    written = [folder / "later-1.json", folder / "later-2.json"]
    for one, path in zip(ping_pong(4), written, strict=True):
        write(Record([of_a_later_run(one, SECOND)]), path)
    output = [] if command == "show" else ["-o", str(tmp_path / "x.svg")]
    assert main(["trace", command, str(folder), *output]) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: these traces are of 2 runs, whose parties never met. Name the files of one of them"
    )
    assert f"of the last, which began at 1970-01-01 00:00:01 UTC: {written[0]} {written[1]})" in said
    assert main(["trace", command, *map(str, written), *output]) == 0
    assert not capsys.readouterr().err


def test_what_can_t_be_said_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = party("Carol", clock="third", wall=SECOND)
    alone.lost = 7
    write(Record([*ping_pong(1), alone]), tmp_path / "x.json")
    assert main(["trace", "show", str(tmp_path / "x.json")]) == 0
    said = capsys.readouterr().out
    assert "its clock could not be aligned" in said
    assert "7 notes left out" in said


def test_waits_of_one_thread_at_a_time_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice = party("Alice", "Bob")
    alice.lanes = ["MainThread/one", "MainThread/two", "Worker"]
    times = ((0, 0, 4), (1, 2, 6), (1, 8, 9), (2, 0, 1))
    alice.waits = [Wait(lane, SECOND * began, SECOND * ended, [], [0], lane == 2) for lane, began, ended in times]
    write(Record([alice]), tmp_path / "x.json")
    assert main(["trace", "show", str(tmp_path / "x.json")]) == 0
    assert "waited 8.0 s for messages and 0 µs for deliveries, 1 wait had not ended" in capsys.readouterr().out


def test_a_wait_for_both_counts_in_both_as_in_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice = party("Alice", "Bob")
    alice.waits = [Wait(0, 0, 2 * SECOND, [0], [0]), Wait(0, 3 * SECOND, 4 * SECOND, [0], [])]
    write(Record([alice]), tmp_path / "x.json")
    assert main(["trace", "show", str(tmp_path / "x.json")]) == 0
    expected = "waited 2.0 s for messages and 3.0 s for deliveries (3.0 s together: some were for both)"
    assert expected in capsys.readouterr().out


DELAY = 0.02


def program(pool: SyncPool) -> None:
    """Waits of each kind, one after the other."""
    (other,) = pool.parties
    group = pool.group()
    for _ in range(3):
        group.allgather(b"share")
    pool.send(other, 1)
    pool.recv(other)
    pool.asend(other, 2).result()
    pool.arecv(other).result()


async def task(pool: Pool) -> None:
    """The same, awaited."""
    (other,) = pool.parties
    group = pool.group()
    for _ in range(3):
        await group.allgather(b"share")
    await pool.send(other, 1)
    await pool.recv(other)
    await pool.asend(other, 2)
    await pool.arecv(other)


@pytest.mark.parametrize("face", ["blocking", "asyncio"])
def test_report_and_trace_of_one_run_agree_about_the_waiting(face: str) -> None:
    network = MemoryNetwork(delay=DELAY)
    settings = Settings(report=True)
    if face == "blocking":
        threads = [SyncPool(name=name, network=network, settings=settings) for name in ("Alice", "Bob")]
        network.connect(*threads)
        traces = [pool.trace() for pool in threads]
        with threads[0], threads[1]:
            with ThreadPoolExecutor(2) as executor:
                list(executor.map(program, threads))
            reports = [pool.report() for pool in threads]
            records = [trace.record for trace in traces]
    else:

        async def both() -> tuple[list[Report], list[Record]]:
            tasks = [Pool(name=name, network=network, settings=settings) for name in ("Alice", "Bob")]
            network.connect(*tasks)
            traces = [pool.trace() for pool in tasks]
            async with tasks[0], tasks[1]:
                await asyncio.gather(*map(task, tasks))
                return [pool.report() for pool in tasks], [trace.record for trace in traces]

        reports, records = asyncio.run(both())
    deliveries = 0
    for report, record in zip(reports, records, strict=True):
        (party,) = record.parties
        deliveries += sum(wait.ended - wait.began >= DELAY * 0.8e9 for wait in party.waits_by_kind() if not wait.of)
        for to_send, counted in ((False, report[""].receiving), (True, report[""].sending)):
            assert counted is not None
            assert counted >= 6 * DELAY
            assert party.waited(to_send=to_send) == pytest.approx(counted, rel=0.1, abs=0.01)
    # A send and a handle at each party; and of each round, once the parties are connected, at one of them at least.
    assert deliveries >= 4 + 2


@pytest.mark.parametrize("dark", [[], ["--dark"]])
def test_draw(files: list[str], tmp_path: Path, dark: list[str]) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "run.svg"
    assert main(["trace", "draw", *files, "-o", str(output), *dark]) == 0
    assert "<svg" in output.read_text()


def test_a_picture_of_an_unknown_kind(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["trace", "draw", *files, "-o", "run.txt"])
    assert "has to end with .png, .svg or .pdf" in capsys.readouterr().err


def test_a_run_is_traced(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, RING, "--parties", "alice,bob,carol", "--trace", "run.json")
    assert status == 0
    assert "3 parties, 3 messages" in errors
    assert "the trace is in run.json" in errors
    record = load(tmp_path / "run.json")
    assert record.depth == 3
    assert sorted(record.names) == ["alice", "bob", "carol"]
    text = (tmp_path / "run.json").read_text()
    assert "secret" not in text
    assert {event["ph"] for event in json.loads(text)["traceEvents"]} == set("MXsfi")


def test_a_run_that_traces_nothing_says_so(tmp_path: Path) -> None:
    status, _, errors = ran(tmp_path, "pass", "-n", "1", "--trace", "run.json")
    assert status == 0
    assert "no party has written a trace" in errors
    status, _, errors = ran(tmp_path, "pass", "-n", "1", "--trace", "nowhere/run.json")
    assert status == Status.USAGE
    assert "there is no folder for nowhere/run.json" in errors
