"""The notebooks of the tutorial: they run, leave no process behind, and are kept without what a run adds to them."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MARK = "MPCCOMM_TEST_NOTEBOOK"


def test_there_are_some() -> None:
    assert len(NOTEBOOKS) >= 5


@pytest.mark.timeout(90)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
async def test_it_runs_and_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    mark = uuid.uuid4().hex
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "IPYTHONDIR": str(tmp_path),
        MARK: mark,
    }
    client = nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(FOLDER)}})
    await client.async_execute(env=environment, stderr=subprocess.DEVNULL)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert shown
    assert not [output for output in shown if output.output_type == "error"]
    assert not list(processes(mark))


@pytest.mark.timeout(90)
@pytest.mark.parametrize("under_way", [False, True])
async def test_the_cell_that_makes_a_pool_can_be_run_again_as_it_says(under_way: bool, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / "1_two_parties.ipynb", as_version=4)
    cells = notebook.cells
    (make,) = [number for number, cell in enumerate(cells) if cell.source.startswith("pool = SyncPool(")]
    said = " ".join(cells[make - 1].source.split())
    assert "Bob does not notice: his `recv` waits on" in said
    assert "That ends his program; run his cell again as well." in said
    again = [cells[make]]
    if under_way:
        answer = (
            "import time\npool.send('Bob', [0])\nwhile pool.stats['Bob'].messages_received < 2:\n    time.sleep(0.01)"
        )
        (bob,) = [cell for cell in cells if cell.source.startswith("%%party Bob")]
        without_waiting = cells[make].source.replace("pool.wait_ready(timeout=30)\n", "")
        again = [
            nbformat.v4.new_code_cell(answer),
            nbformat.v4.new_code_cell(without_waiting),
            nbformat.v4.new_code_cell("parties['Bob'].wait()"),
            bob,
            cells[make],
        ]
    notebook.cells = [*cells[: make + 3], *again, *cells[make + 1 :]]
    # Nothing carries over from one run of a cell to its next.
    notebook = nbformat.from_dict({**notebook, "cells": [dict(cell) for cell in notebook.cells]})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "IPYTHONDIR": str(tmp_path)}
    client = nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(FOLDER)}})
    await client.async_execute(env=environment, stderr=subprocess.DEVNULL)


def processes(mark: str) -> Iterator[str]:
    """The processes with this mark in their environment, where the system tells."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in environ.read_bytes():
                yield environ.parent.name
        except OSError:  # it has just ended, or is none of our business
            continue


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), (
            "clear its outputs: jupyter nbconvert --clear-output --inplace notebooks/*.ipynb"
        )
        assert cell.get("execution_count") is None
        assert cell.metadata == {}
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata.language_info) == {"name"}
    assert len(text) < 20_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_can_be_read(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.startswith("# "), "a title"
    assert sum(cell.cell_type == "markdown" for cell in cells) >= len(cells) / 3
    assert max(len(line) for cell in cells for line in cell.source.splitlines()) <= 132
