"""Showing the progress of large messages: a protocol, and three implementations: for notebooks, for terminals, and with tqdm.

The protocol is the part of fsspec's callbacks that a transfer needs, so that those can be used as they are.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from mpccomm.display import bytes_text, progress_html, seconds_text
from mpccomm.errors import missing_library


@dataclass(frozen=True, slots=True)
class Transfer:
    """The transfer of one message."""

    sending: bool
    """Whether it is sent; False: it is received."""
    party: str
    msg_id: str
    size: int
    """Bytes of the encoded message."""

    def __str__(self) -> str:
        return f"{'sending' if self.sending else 'receiving'} {self.msg_id} {'to' if self.sending else 'from'} {self.party}"


class Callback(Protocol):
    """Is told how far a transfer is. Called on the pool's own thread, so it must not block."""

    def set_size(self, size: int) -> None:
        """Take the number of bytes of the whole message; called first."""

    def relative_update(self, inc: int) -> None:
        """Take the number of bytes that have arrived since the last call."""

    def close(self) -> None:
        """End: the message has arrived, or will not arrive any more."""


class TqdmCallback:
    """Shows a tqdm bar. The options are those of ``tqdm.tqdm``.

    :raises ImportError: tqdm is not installed
    """

    def __init__(self, transfer: Transfer, **options: Any) -> None:
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError(missing_library("this", "tqdm", "progress")) from error

        class Bar(tqdm):  # type: ignore[misc]
            # Otherwise the first bar would start a thread that never ends.
            monitor_interval = 0

        defaults = {"desc": str(transfer), "unit": "B", "unit_scale": True, "unit_divisor": 1024}
        self._bar = Bar(**{**defaults, **options})

    def set_size(self, size: int) -> None:
        """Do as `Callback` says."""
        self._bar.reset(size)

    def relative_update(self, inc: int) -> None:
        """Do as `Callback` says."""
        self._bar.update(inc)

    def close(self) -> None:
        """Do as `Callback` says."""
        self._bar.close()


class _Told:
    """The progress of a transfer in words; the base of what shows it."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.size = 0
        self.done = 0
        self._first: tuple[float, int] | None = None

    def set_size(self, size: int) -> None:
        """Do as `Callback` says."""
        self.size = size

    def relative_update(self, inc: int) -> None:
        """Do as `Callback` says."""
        self.done += inc
        self.show(self._describe("so far"))

    def close(self) -> None:
        """Do as `Callback` says."""
        self.show(self._describe("done" if self.done >= self.size else "ended before it was complete"))

    def show(self, text: str) -> None:
        """Show a text to the user."""
        raise NotImplementedError

    def _describe(self, state: str) -> str:
        text = f"{self.transfer}: {bytes_text(self.done)} of {bytes_text(self.size)}"
        if state != "so far":
            return f"{text}, {state}"
        now = time.monotonic()
        if self._first is None:
            self._first = now, self.done
        since, before = self._first
        if self.done > before:
            rate = (self.done - before) / (now - since)
            text += f", {bytes_text(rate)}/s, {seconds_text(max(1, round((self.size - self.done) / rate)))} left"
        return text


class NotebookCallback(_Told):
    """Shows a bar below the cell that runs when it first appears. Plain HTML, without widgets."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__(transfer)
        self._handle: Any = None

    def show(self, text: str) -> None:
        """Do as the base class says."""
        from IPython.display import display

        data = {"text/plain": text, "text/html": progress_html(text, self.done, self.size)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


class TerminalCallback(_Told):
    """Writes a line to stderr, over and over."""

    def show(self, text: str) -> None:
        """Do as the base class says."""
        columns = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
        sys.stderr.write(f"\r{text[:columns]:<{columns}}")
        sys.stderr.flush()

    def close(self) -> None:
        """Do as the base class says."""
        super().close()
        sys.stderr.write("\n")


def default_callback(transfer: Transfer) -> Callback | None:
    """Return what suits the surroundings: a bar in a notebook and in a terminal, otherwise nothing."""
    if _in_notebook():
        return NotebookCallback(transfer)
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    return TqdmCallback(transfer) if find_spec("tqdm") else TerminalCallback(transfer)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
