"""Signals: SIGTERM and SIGHUP, and the stop button of a notebook.

Where the program has not said what SIGTERM and SIGHUP mean, they end it as ``sys.exit`` does, once what was sent is delivered.
Otherwise the system would end the process at once, and the other parties would wait for it. When the main program is over, its
other threads have as long as messages may linger: then the pools end, and with them the calls that these threads wait in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import NoReturn

from mpccomm.engine.engine import ENGINES

_SIGNALS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
_PERIOD = 0.25
"""Seconds after which, at the latest, a notebook notices its stop button."""
_told = threading.Event()
"""Set when such a signal has told the program to end: a second one ends it at once, whatever pools begin until then."""
_when_over: list[Callable[[int], None]] = []
_when_told: list[Callable[[], None]] = []


def on_end(function: Callable[[int], None]) -> None:
    """Have it called, with the exit code, when such a signal comes and the main program is over: it can't raise any more."""
    _when_over.append(function)


def on_told(function: Callable[[], None]) -> None:
    """Have it called when such a signal comes while the main program still runs, just before that is ended."""
    _when_told.append(function)


def handle_signals() -> None:
    """Called where a pool starts; does nothing outside the main thread, or where there is a handler already."""
    if threading.current_thread() is threading.main_thread() and not _told.is_set():
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, ENGINES.write_and_end):
                signal.signal(number, _end)


def leave(code: int) -> NoReturn:
    """End this process where the program is over, and only the exit code is left to say."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def keep_notebook_awake(needed: Callable[[], bool]) -> None:
    """In an interactive session, wake the loop that runs here now and then, as long as ``needed`` says so.

    ipykernel answers the stop button by cancelling the task of the cell, but its loop learns of that only when it next wakes up
    for another reason (tornado's ``add_callback`` in a signal handler does not wake it). While all that happens is on the pool's
    own loop, there may be no other reason for hours.
    """
    if not hasattr(sys, "ps1"):
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    context = Context()

    def tick() -> None:
        if needed():
            loop.call_later(_PERIOD, tick, context=context)

    tick()


def _end(number: int, frame: FrameType | None) -> None:
    # A second one ends it at once.
    _told.set()
    for one in _SIGNALS:
        if signal.getsignal(one) is _end:
            signal.signal(one, signal.SIG_DFL)
    if threading.main_thread().is_alive():
        for function in _when_told:
            function()
        raise SystemExit(128 + number)
    for end in _when_over:
        end(128 + number)


def _in_the_child_of_a_fork() -> None:
    """Let signals end a forked process as any other: its parent expects that, and the pools are not its own."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)
    _told.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child_of_a_fork)
