"""What a notebook asks of a pool: which cell shows what, the stop button, a cell that is run again."""

from collections.abc import Iterator

import pytest

pytest.importorskip("ipykernel")

from tests.notebooks.kernel import Kernel, kernel
from tests.timing import UNIT

TICK = UNIT / 10
PREAMBLE = f"""
import asyncio, logging
from mpccomm import *
logging.basicConfig(level=logging.INFO, format="%(message)s")
LOCAL = "127.0.0.1"
settings = Settings(
    timing=Timing(tick={TICK}, waiting_notice={2 * UNIT}), retry=Retry(cap={2 * UNIT}), progress=Progress(1 << 20, 0)
)
def make(name):
    pool = SyncPool(name=name, settings=settings)
    pool.add_http_server(0, LOCAL)
    return pool
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    with kernel() as running:
        running.run(PREAMBLE)
        yield running


@pytest.fixture
def notebook(shared: Kernel) -> Iterator[Kernel]:
    shared.run("alice, bob = make('Alice'), make('Bob')\nalice.add_http_client('Bob', LOCAL, bob.port)")
    shared.run("bob.add_http_client('Alice', LOCAL, alice.port); alice.wait_ready(30); bob.wait_ready(30)")
    yield shared
    shared.run("alice.shutdown(); bob.shutdown()")


def test_how_a_pool_looks(notebook: Kernel) -> None:
    result = notebook.run("alice").result
    assert result["text/plain"].startswith("<SyncPool Alice, listening at 127.0.0.1:")
    assert "<b>Bob</b>" in result["text/html"]
    assert "<script" not in result["text/html"]
    assert "<table>" in notebook.run("alice.pool").result["text/html"]
    assert "total" in notebook.run("alice.stats").result["text/html"]


def test_log_lines_appear_in_the_cell_that_runs(notebook: Kernel) -> None:
    before = notebook.run("receive = alice.arecv('Bob')")
    during = notebook.start(f"import time; time.sleep({20 * UNIT})")
    notebook.watch(lambda: "has waited for" in during.streams["stderr"])
    notebook.finish(during)
    assert "has waited" not in before.streams["stderr"]
    notebook.run("bob.send('Alice', 1); receive.result()")


def test_also_those_of_a_pool_on_the_loop_of_the_notebook(shared: Kernel) -> None:
    before = shared.run(
        "pool = Pool(settings=settings); pool.add_http_server(0, LOCAL); pool.add_http_client('Bob', LOCAL, 1)\n"
        "receive = pool.arecv('Bob')"
    )
    during = shared.start(f"await asyncio.sleep({20 * UNIT})")
    shared.watch(lambda: "which may start later" in during.streams["stderr"])
    shared.finish(during)
    assert "which may start later" not in before.streams["stderr"]
    shared.run("receive.cancel(); await pool.shutdown()")


def test_progress_appears_in_the_cell_that_runs(notebook: Kernel) -> None:
    cell = notebook.run(
        "receive = bob.arecv('Alice', 'large')\nfor _ in range(3): alice.send('Bob', bytes(100 << 20), _ and str(_) or 'large')"
    )
    shown = [data["text/plain"] for data in cell.displays]
    assert any(text.startswith("sending") for text in shown)
    assert any(text.startswith("receiving") for text in shown)
    assert all("<progress" in data["text/html"] for data in cell.displays)
    notebook.watch(lambda: len([data for data in cell.updates if "done" in data["text/plain"]]) == len(shown))
    assert "Warning" not in cell.streams["stderr"], "ipywidgets need not be there"
    assert notebook.run("len(receive.result())").result["text/plain"] == str(100 << 20)


def test_the_stop_button(notebook: Kernel) -> None:
    cell = notebook.start("print('waiting'); alice.recv('Bob')")
    notebook.watch(lambda: "waiting" in cell.streams["stdout"])
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error == "KeyboardInterrupt"
    assert notebook.run("bob.send('Alice', 'here'); alice.recv('Bob')").result["text/plain"] == "'here'"


def test_the_stop_button_while_awaiting(notebook: Kernel) -> None:
    cell = notebook.start("print('waiting')\nawait alice.pool.recv('Bob')")
    notebook.watch(lambda: "waiting" in cell.streams["stdout"])
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error == "CancelledError"
    answer = notebook.run("bob.send('Alice', 'here')\nawait alice.pool.recv('Bob')")
    assert answer.result["text/plain"] == "'here'"


@pytest.mark.parametrize("kind", ["SyncPool", "Pool"])
def test_the_cell_that_makes_a_pool_is_run_again(notebook: Kernel, kind: str) -> None:
    wait = "" if kind == "SyncPool" else "await "
    make = (
        f"pool = {kind}(name='Carol', settings=settings)\n"
        "pool.add_http_server(port, LOCAL); pool.add_http_client('Bob', LOCAL, bob.port)"
    )
    notebook.run("port = 0\n" + make)
    notebook.run("port = pool.port; bob.add_http_client('Carol', LOCAL, port)")
    for turn in range(4):
        # A receive that waits for the old one goes on waiting, and hears from the new one.
        notebook.run("receive = bob.arecv('Carol')")
        # With another name for it, the old pool is not garbage before the new one comes.
        cell = notebook.run("old = pool\n" + make) if turn else None
        assert cell is None or "a new one takes its place" in cell.streams["stderr"]
        notebook.run(f"{wait}pool.send('Bob', {turn})")
        assert notebook.run("receive.result()").result["text/plain"] == str(turn)
    notebook.run(f"{wait}pool.shutdown()")


def test_also_where_nobody_has_a_name_for_the_old_one(notebook: Kernel) -> None:
    make = (
        "pool = SyncPool(name='Carol', settings=settings)\n"
        "pool.add_http_server(port, LOCAL); pool.add_http_client('Bob', LOCAL, bob.port)"
    )
    notebook.run("port = 0\n" + make)
    notebook.run("port = pool.port; bob.add_http_client('Carol', LOCAL, port)")
    for turn in range(4):
        if turn:
            notebook.run(make)
        notebook.run(f"pool.send('Bob', {turn})")
        assert notebook.run("bob.recv('Carol')").result["text/plain"] == str(turn)
    notebook.run("pool.shutdown()")
