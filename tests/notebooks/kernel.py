"""A Jupyter kernel in a process of its own, and which cell shows what."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.timing import UNIT

LIMIT = 300 * UNIT


class Cell:
    """One that was sent to the kernel."""

    def __init__(self, request: str) -> None:
        self.request = request
        self.streams = {"stdout": "", "stderr": ""}
        self.displays: list[dict[str, str]] = []
        self.updates: list[dict[str, str]] = []
        self.result: dict[str, str] = {}
        self.error = ""
        self.done = False


class Kernel:
    """Runs cells, one after the other."""

    def __init__(self, client: BlockingKernelClient, manager: KernelManager) -> None:
        self._client = client
        self._manager = manager
        self._cells: dict[str, Cell] = {}

    def start(self, code: str) -> Cell:
        """Send a cell to be run."""
        cell = Cell(self._client.execute(code))
        self._cells[cell.request] = cell
        return cell

    def run(self, code: str, error: str = "") -> Cell:
        """Run a cell to its end; it has to raise that error, or none."""
        cell = self.start(code)
        self.finish(cell)
        assert cell.error == error, (code, cell.error, cell.streams)
        return cell

    def finish(self, cell: Cell) -> None:
        """Wait for a cell to end."""
        self.watch(lambda: cell.done)

    def watch(self, condition: Callable[[], object]) -> None:
        """Take what the kernel has to show until the condition holds."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            self._take(self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic())))

    def interrupt(self) -> None:
        """The stop button."""
        self._manager.interrupt_kernel()

    def _take(self, message: dict[str, Any]) -> None:
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            cell.streams[content["name"]] += content["text"]
        elif kind == "display_data":
            cell.displays.append(content["data"])
        elif kind == "update_display_data":
            cell.updates.append(content["data"])
        elif kind == "execute_result":
            cell.result = content["data"]
        elif kind == "error":
            cell.error = content["ename"]
        elif kind == "status":
            cell.done = content["execution_state"] == "idle"


@contextmanager
def kernel() -> Iterator[Kernel]:
    """A fresh one, that imports what these tests import."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=LIMIT)
        yield Kernel(client, manager)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy()
