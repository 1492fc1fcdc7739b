"""Programs of others that listen on this machine for a test: started by the files of the documents, ended by their number."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

import pytest

from tests.documents import ROOT

DEPLOY = ROOT / "docs" / "deploy"
_PATIENCE = 20.0


def program(name: str, *, package: str = "") -> str:
    """Where a program is, or skip with the package that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"there is no {name}; apt install {package or name}")
    return found


def changed(name: str, tmp_path: Path, changes: Sequence[tuple[str, str]]) -> Path:
    """A copy of a file of the documents, with other places in it."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def listening(
    command: Sequence[str], port: int, where: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[None]:
    """Run a program until the end of the ``with``; it listens at that port from the beginning of it on."""
    process = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), create_connection((where, port), 1):
                break
            time.sleep(0.02)
        else:
            process.kill()
            out, _ = process.communicate()
            raise AssertionError(f"{command[0]} does not listen: {out.decode(errors='replace')[-2000:]}")
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
