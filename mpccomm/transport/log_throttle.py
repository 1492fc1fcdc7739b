"""Log lines that others can cause: bounded in length and in rate, by kind and by who causes them, with a count of the rest."""

from __future__ import annotations

import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable

from mpccomm.logs import EventLog, LogEvent

_PAUSE = 60.0
"""Seconds before the same complaint about the same caller is a warning again."""
_REMEMBERED = 1000
"""How many complaints are remembered; with more, the oldest are forgotten."""
_PER_KIND = 8
"""Warnings of one kind within `_PAUSE`, from all callers together."""
_LONGEST = 600
"""The largest number of characters in a line: certificates, for example, may hold thousands of names."""


class LogThrottle:
    """Logs each complaint as a warning, its repetitions within a minute for debugging only.

    A kind of complaint has a budget of its own, so that a flood of one does not hide the others; what exceeds it is
    counted, and the count stands on the next line of that kind.
    """

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._warned: OrderedDict[tuple[LogEvent, str, str], float] = OrderedDict()
        self._kinds: dict[tuple[LogEvent, str], _Budget] = {}

    def failure(self, text: str, error: BaseException | None) -> None:
        """Log an error of our own with its traceback: the same error, at the same place, not more often than any complaint.

        What brings it about may come from others, as often as they like.
        """
        where = [
            f"{frame.filename}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__ if error else None)[-1:]
        ]
        self.log(text, LogEvent.INTERNAL, who=f"{type(error).__name__} {where}", error=error)

    def log(
        self,
        text: str,
        event: LogEvent = LogEvent.REFUSED,
        *,
        kind: str = "",
        who: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Log a complaint, unless the same was logged a moment ago.

        :param event: which line of the table this is
        :param kind: of complaints of this event, a fixed text of ours, never one that the other side chooses
        :param who: who causes it; left out: the text says so
        :param error: whose traceback is logged with it
        """
        text = shortened(text)
        now = self._clock()
        key = event, kind, who or text
        if now < self._warned.get(key, now):
            self._log(event, "%s, again", text, level=logging.DEBUG)
            return
        budget = self._kinds.setdefault((event, kind), _Budget(now))
        if not budget.spend(now):
            self._log(event, "%s", text, level=logging.DEBUG)
            return
        self._warned[key] = now + _PAUSE
        self._warned.move_to_end(key)
        if len(self._warned) > _REMEMBERED:
            self._warned.popitem(last=False)
        self._log(event, "%s%s", text, budget.left_out(), exc_info=error)

    def note(self, text: str, event: LogEvent) -> None:
        """Log what happened, as often as it does, up to so many lines of this event within a minute."""
        now = self._clock()
        budget = self._kinds.setdefault((event, ""), _Budget(now))
        if budget.spend(now):
            self._log(event, "%s%s", text, budget.left_out())
        else:
            self._log(event, "%s", text, level=logging.DEBUG)


class _Budget:
    """How many warnings of one kind may still be given."""

    def __init__(self, now: float) -> None:
        self._left = float(_PER_KIND)
        self._since = now
        self._left_out = 0

    def spend(self, now: float) -> bool:
        self._left = min(_PER_KIND, self._left + (now - self._since) * _PER_KIND / _PAUSE)
        self._since = now
        if self._left < 1:
            self._left_out += 1
            return False
        self._left -= 1
        return True

    def left_out(self) -> str:
        """Return how many were left out since the last one that was not, as the end of a line."""
        count, self._left_out = self._left_out, 0
        return f" ({count:,} more of this kind were not logged)" if count else ""


def shortened(text: str) -> str:
    """Return a text for a line of the log, with its middle left out where it is long."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
