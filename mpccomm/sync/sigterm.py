"""SIGTERM and SIGHUP, where the program has not said what they mean: to end as by ``sys.exit``, having delivered what was sent.

Otherwise the system would end the process where it stands, and the other parties would wait for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from mpccomm.engine.engine import write_and_end

_SIGNALS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
_when_over: list[Callable[[int], None]] = []


def on_end(function: Callable[[int], None]) -> None:
    """Have it called, with the exit code, when such a signal comes and the main program is over: it can't raise any more."""
    _when_over.append(function)


def handle_signals() -> None:
    """Called where a pool starts; does nothing outside the main thread, or where there is a handler already."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, write_and_end):
                signal.signal(number, _end)


def leave(code: int) -> NoReturn:
    """End this process where the program is over, and only the exit code is left to say."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _end(number: int, frame: FrameType | None) -> None:
    # A second one ends it at once.
    signal.signal(number, signal.SIG_DFL)
    if threading.main_thread().is_alive():
        raise SystemExit(128 + number)
    for function in _when_over:
        function(128 + number)


def _in_the_child_of_a_fork() -> None:
    """It ends as other processes do: the program that forked it expects that, and its pools are not its own."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child_of_a_fork)
