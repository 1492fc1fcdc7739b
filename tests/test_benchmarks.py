"""The benchmarks run, and the cost of what the library adds to the bare transport stays within bounds."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks run on uvloop")

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.timeout(240)
def test_compare_measures_every_work_and_writes_a_report(tmp_path: Path) -> None:
    names = ["pool-uv", "sync", "roundtrip", "rate", "mpz", "asend8", "broadcast2"]
    done = run("compare.py", "--smoke", "--output", str(tmp_path), "--only", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    measured = {name: set(entry["works"]) for name, entry in report["contenders"].items()}
    pairs = {"roundtrip", "rate", "mpz", "broadcast2"}
    assert measured == {"pool-uv": pairs, "sync": pairs | {"asend8"}}
    for entry in report["contenders"].values():
        assert entry["trouble"] is None
        for figure in entry["works"].values():
            assert figure["remark"] is None
            assert 0 < figure["low"] <= figure["median"] <= figure["high"]
            assert figure["samples"] == sum(map(len, figure["rounds"]))
    picture = (tmp_path / "report.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<rect") == sum(map(len, measured.values()))


@pytest.mark.timeout(240)
def test_quick_tells_which_bounds_hold() -> None:
    done = run("quick.py", "--smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round trip, Pool / bare WebSocket (uvloop)" in done.stdout
    assert "round trip, Pool / bare lower limit (uvloop)" in done.stdout
    assert "64 MiB of bytes, Pool / bare BufferedProtocol (asyncio)" in done.stdout
    assert "message, 100 in flight (asyncio)" in done.stdout


def test_what_it_costs_to_be_watched_is_measured_by_turns() -> None:
    done = run("watching.py", "--smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 12


def test_a_contender_that_fails_is_told_and_the_others_go_on(benchmarks: Any) -> None:
    comparison = benchmarks("run").Comparison(["tno4", "ws"], ["roundtrip"], {}, None, 0.001)
    comparison._pythons = {"tno-4.12.0": sys.executable, "mpccomm": sys.executable}
    comparison.round()
    assert comparison.troubles["tno4"].startswith("failed")
    assert "ModuleNotFoundError" in comparison.troubles["tno4"]
    assert list(comparison.results["ws"]) == ["roundtrip"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reserves ports")
def test_no_other_program_is_given_a_port_before_the_contender_listens_there(benchmarks: Any) -> None:
    with benchmarks("run").free_ports(2) as ports:
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield lambda name: import_module(f"sidebyside.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "sidebyside"]:
        del sys.modules[name]


async def test_the_library_stays_within_bounds_of_the_bare_transport(benchmarks: Callable[[str], Any]) -> None:
    """Both ends in one process, so that only their own work counts; CPU time, in turn, the best of several.

    The bounds are far from what is measured when nothing is wrong (4.5, and 3): they catch what makes something twice as slow.
    """
    round_trip = await _best(benchmarks, _round_trips)
    assert round_trip["pool"] / round_trip["ws"] < 9
    message = await _best(benchmarks, _messages)
    assert message["pool"] / message["wsack"] < 6


async def _best(
    benchmarks: Callable[[str], Any], work: Callable[[Any, Any, int], Awaitable[None]], rounds: int = 5
) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    contenders, base, run_module = benchmarks("contenders"), benchmarks("contenders.base"), benchmarks("run")
    for name in ("ws", "wsack", "pool"):
        one, other = contenders.CONTENDERS[name].make(), contenders.CONTENDERS[name].make()
        with run_module.free_ports(2) as ports:
            await asyncio.gather(one.listen(base.Place(0, ports)), other.listen(base.Place(1, ports)))
        await asyncio.gather(one.connect(), other.connect())
        try:
            await work(one, other, 50)
            times[name] = []
            for _ in range(rounds):
                start = time.process_time()
                await work(one, other, 200)
                times[name].append(time.process_time() - start)
        finally:
            await asyncio.gather(one.close(), other.close())
    assert all(median(samples) > 0 for samples in times.values())
    return {name: min(samples) for name, samples in times.items()}


async def _round_trips(one: Any, other: Any, count: int) -> None:
    async def echo() -> None:
        for _ in range(count):
            await other.send(0, await other.recv(0))

    echoing = asyncio.ensure_future(echo())
    for _ in range(count):
        await one.send(1, bytes(100))
        await one.recv(1)
    await echoing


async def _messages(one: Any, other: Any, count: int) -> None:
    await asyncio.gather(one.send_many(1, bytes(100), count), other.recv_many(0, count))
