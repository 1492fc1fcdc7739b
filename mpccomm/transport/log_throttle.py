"""Log lines that strangers can cause: each once in a while, however often they try."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_PAUSE = 60.0
"""Seconds before the same line is logged as a warning again."""
_REMEMBERED = 1000
"""So many different lines are remembered; whoever causes more of them gets a warning for each."""


class LogThrottle:
    """Logs each text as a warning, and its repetitions within `_PAUSE` for debugging only."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._warned: dict[str, float] = {}

    def log(self, text: str) -> None:
        """Say it, unless it was said a moment ago."""
        now = self._clock()
        if now < self._warned.get(text, now):
            self._logger.debug("%s, again", text)
            return
        if len(self._warned) >= _REMEMBERED:
            self._warned.clear()
        self._warned[text] = now + _PAUSE
        self._logger.warning("%s", text)
