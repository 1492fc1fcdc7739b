"""What shows progress: in a terminal, in a notebook, with tqdm, and with fsspec's callbacks."""

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mpccomm.progress import Callback, NotebookCallback, TerminalCallback, TqdmCallback, Transfer, default_callback
from tests.needs import library

MiB = 1 << 20
TRANSFER = Transfer(True, "Bob", "#3", 100 * MiB)


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """``sys.stderr`` is a terminal; what is shown there can be read up to the end of a line."""
    pty = pytest.importorskip("pty")
    shown, written = pty.openpty()
    pytest.importorskip("termios").tcsetwinsize(shown, (24, 80))
    with (
        os.fdopen(shown, "rb", 0) as screen,
        os.fdopen(written, "w", encoding="utf-8") as stderr,
        redirect_stderr(stderr),
    ):
        yield lambda: screen.readline().decode()


def drive(callback: Callback, done: int = 100 * MiB) -> None:
    callback.set_size(100 * MiB)
    callback.relative_update(25 * MiB)
    callback.relative_update(done - 25 * MiB)
    callback.close()


def test_transfers_in_words() -> None:
    assert str(TRANSFER) == "sending #3 to Bob"
    assert str(Transfer(False, "Bob", "'weights'", 1)) == "receiving 'weights' from Bob"


def test_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.progress.find_spec", lambda name: None)
    with terminal() as read:
        callback = default_callback(TRANSFER)
        assert isinstance(callback, TerminalCallback)
        drive(callback)
        shown = read()
    assert "sending #3 to Bob: 25.0 MiB of 100.0 MiB" in shown
    assert "100.0 MiB of 100.0 MiB, done" in shown
    assert shown.count("\n") == 1
    assert all(len(line) < 80 for line in shown.replace("\n", "").split("\r"))


def test_one_that_ends_early() -> None:
    with terminal() as read:
        drive(TerminalCallback(TRANSFER), done=50 * MiB)
        assert "50.0 MiB of 100.0 MiB, ended before it was complete" in read()


def test_tqdm_where_it_is_installed() -> None:
    pytest.importorskip("tqdm")
    with terminal() as read:
        callback = default_callback(TRANSFER)
        assert isinstance(callback, TqdmCallback)
        before = threading.active_count()
        drive(callback)
        assert threading.active_count() == before
        assert "sending #3 to Bob: 100%" in read()


def test_tqdm_with_options() -> None:
    pytest.importorskip("tqdm")
    shown = io.StringIO()
    drive(TqdmCallback(TRANSFER, file=shown, desc="mine"))
    assert "mine: 100%" in shown.getvalue()
    assert "100M/100M" in shown.getvalue()


def test_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="with its extra 'progress'"):
        TqdmCallback(TRANSFER)


def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert default_callback(TRANSFER) is None
    monkeypatch.setattr(sys, "stderr", None)
    assert default_callback(TRANSFER) is None


def test_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an IPython that only has what is needed of it; the real one is in the tests of the notebooks."""
    shown: list[dict[str, str]] = []
    updates: list[dict[str, str]] = []

    def display(data: dict[str, str], **options: Any) -> SimpleNamespace:
        assert options == {"raw": True, "display_id": True}
        shown.append(data)
        return SimpleNamespace(update=lambda data, raw: updates.append(data))

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    callback = default_callback(TRANSFER)
    assert isinstance(callback, NotebookCallback)
    drive(callback)
    assert [data["text/plain"] for data in shown] == ["sending #3 to Bob: 25.0 MiB of 100.0 MiB"]
    assert updates[-1]["text/plain"] == "sending #3 to Bob: 100.0 MiB of 100.0 MiB, done"
    assert f"<progress value='{25 * MiB}' max='{100 * MiB}'" in shown[0]["text/html"]


def test_fsspec_callbacks_will_do() -> None:
    callbacks = library("fsspec.callbacks", extra="dask")
    callback = callbacks.Callback()
    drive(callback)
    assert (callback.size, callback.value) == (100 * MiB, 100 * MiB)
