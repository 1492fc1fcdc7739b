"""The stop button of a notebook, in a cell that awaits.

ipykernel answers it by cancelling the cell's task, but its loop learns of that only when it next wakes up for another reason
(tornado's ``add_callback`` in a signal handler does not wake it). While all that happens is on the pool's own loop, there may
be no other reason for hours.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context

_PERIOD = 0.25
"""Seconds: so late, at most, the stop button is noticed."""


def keep_notebook_awake(needed: Callable[[], bool]) -> None:
    """In an interactive session, wake the loop that runs here now and then, as long as ``needed`` says so."""
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
