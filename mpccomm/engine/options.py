"""The options of calls: ids, time limits, names. They are checked when the call is made, in the same way on both faces."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable
from enum import Enum
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

import aiohttp


class Unset(Enum):
    """The default of a time limit: the pool's own."""

    UNSET = "the pool's own"

    def __repr__(self) -> str:
        return f"<{self.value}>"


UNSET = Unset.UNSET

Timeout: TypeAlias = float | aiohttp.ClientTimeout | Unset | None
"""Seconds; None: no limit; left out: the pool's own."""


_CLOCK_BITS = 63
"""Bits of the largest number of seconds."""


def seconds(timeout: float | aiohttp.ClientTimeout | None) -> float | None:
    """Return a time limit in seconds, None for none. Of a `aiohttp.ClientTimeout` the ``total`` counts, 0 meaning none.

    :raises TypeError: it is no number
    :raises ValueError: it is larger than a clock can tell
    """
    if timeout is None or type(timeout) is float:
        return timeout
    if type(timeout) is int:
        if timeout.bit_length() > _CLOCK_BITS:
            raise ValueError(f"a time limit of a number with {timeout.bit_length()} bits; None waits without limit")
        return timeout
    if isinstance(timeout, aiohttp.ClientTimeout):
        return timeout.total or None
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise TypeError(f"a time limit is a number of seconds, or None for none; not {_kind(timeout)}{_names(timeout)}")
    return float(timeout)


def receive_limit(timeout: Timeout) -> float | None:
    """Return the time limit of a receive: none unless given; 0 looks whether the message is there."""
    if timeout is UNSET or timeout is None:
        return None
    limit = seconds(timeout)
    if limit is not None and not limit >= 0:
        raise ValueError(f"a receive can't take {limit!r} seconds; 0 polls, None waits without limit")
    return limit


def handle_limit(timeout: float | None) -> float | None:
    """Return the time limit of a wait for a handle. As with any `concurrent.futures.Future`, one below 0 has passed."""
    limit = seconds(timeout)
    if limit is not None and math.isnan(limit):
        raise ValueError(
            f"a wait can't take {limit!r} seconds; 0 looks whether the handle is done, None waits without limit"
        )
    return limit


def linger_limit(linger: float | Unset, default: float) -> float:
    """Return the seconds that the end of a pool may take.

    :raises TypeError: it is no number
    :raises ValueError: it is negative, or not finite
    """
    if isinstance(linger, Unset):
        return default
    limit = seconds(linger)
    if limit is None:
        raise TypeError(f"linger is a number of seconds, 0 for none; not {_kind(linger)}")
    if not 0 <= limit < math.inf:
        raise ValueError(f"a pool can't linger for {limit!r} seconds; 0 closes at once")
    return limit


_TOLD_TO_END = [128 + getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The codes with which programs end that such a signal has ended."""


def reason_of(kind: type[BaseException] | None, error: BaseException | None) -> str | None:
    """Return what the others are told where a ``with`` of a pool ends with an error; None: all is well, it just shuts down.

    All is well too where the program was told to end: by SIGTERM, for which `SyncPool` raises ``SystemExit(143)``, or by SIGHUP.
    Only the kind is told: the text of an exception may hold what the others must not see.
    """
    if kind is None or (isinstance(error, SystemExit) and (not error.code or error.code in _TOLD_TO_END)):
        return None
    return kind.__name__


def abort_reason(reason: str) -> str:
    """Return the reason of an abort.

    :raises TypeError: it is no text
    """
    if not isinstance(reason, str):
        raise TypeError(f"the reason of an abort is a text, for the other parties to read; not {_kind(reason)}")
    return reason


class SendLimits(NamedTuple):
    """The limits of a send: seconds, and failed dials; None and a negative number: without limit."""

    seconds: float | None
    retries: int


NO_LIMIT = SendLimits(None, -1)
"""That of nearly every send; known by identity."""


def send_limits(timeout: Timeout, max_retries: int | None, default: SendLimits) -> SendLimits:
    """Return the limits of a send."""
    if timeout is UNSET and max_retries is None:
        return default
    limit = default.seconds if isinstance(timeout, Unset) else seconds(timeout)
    if limit is not None and not limit > 0:
        raise ValueError(f"a send can't take {limit!r} seconds; None waits without limit")
    dials = default.retries if max_retries is None else retries(max_retries)
    return NO_LIMIT if limit is None and dials < 0 else SendLimits(limit, dials)


def retries(number: int) -> int:
    """Return a number of dials.

    :raises TypeError: it is no whole number
    :raises ValueError: it is less than -1
    """
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise TypeError(f"max_retries is a whole number, -1 for no limit; not {_kind(number)}")
    if number < -1:
        raise ValueError(f"max_retries is a number of dials, or -1 for no limit; not {number}")
    return int(number)


def check_id_type(msg_id: object) -> None:
    """Raise `TypeError` where a message id is no text: ``7`` and ``"7"`` would be two ids that look alike."""
    if not (msg_id is None or isinstance(msg_id, str)):
        raise TypeError(
            f"a message id is a text, or None for the next automatic number; not {_kind(msg_id)}"
            f"{_names(msg_id) or '. Of a number make one: str(i)'}"
        )


def check_id(text: str, limit: int) -> None:
    """Raise `ValueError` where a message id, its prefix included, can't be sent."""
    if len(text) * 4 <= limit and text.isascii():
        return
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} can't be a message id: it is no valid Unicode ({error.reason})") from None
    if size > limit:
        raise ValueError(
            f"a message id of {size:,} bytes, prefix included: {limit:,} are the limit (Limits.max_id_size)"
        )


_SEVERAL = "handler_names"


def names_of(names: Iterable[str] | None, what: str = _SEVERAL) -> tuple[Any, ...] | None:
    """Return the names in the order given; each is looked at where its party is looked for.

    They are gone through once, as what was given may be a generator.

    :param what: the parameter that takes them
    :raises TypeError: there is nothing to go through; or it is a single string, and would be taken for one-letter names
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"{what} takes a list of names; did you mean [{names!r}]?")
    try:
        each = iter(names)
    except TypeError:
        is_timeout = what == _SEVERAL and isinstance(names, Real) and not isinstance(names, bool)
        meant = f"did you mean timeout={names!r}?" if is_timeout else f"not {_kind(names)}"
        raise TypeError(f"{what} takes a list of names; {meant}") from None
    return tuple(each)


def _kind(value: object) -> str:
    return f"{value!r} ({type(value).__name__})" if isinstance(value, Real | str) else type(value).__name__


def _names(value: object) -> str:
    return "; names of parties are given as handler_names=" if isinstance(value, list | tuple | set) else ""
