"""What callers may say about time."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

import aiohttp


class Unset(Enum):
    """The default of a time limit: the pool's own."""

    UNSET = "the pool's own"

    def __repr__(self) -> str:
        return f"<{self.value}>"


UNSET = Unset.UNSET

Timeout: TypeAlias = float | aiohttp.ClientTimeout | Unset | None
"""Seconds; None: no limit; left out: the pool's own."""


def seconds(timeout: float | aiohttp.ClientTimeout | None) -> float | None:
    """A time limit in seconds, None for none. Of a `aiohttp.ClientTimeout` the ``total`` counts, 0 meaning none."""
    if isinstance(timeout, aiohttp.ClientTimeout):
        return timeout.total or None
    return timeout


def receive_limit(timeout: Timeout) -> float | None:
    """The time limit of a receive: none unless given; 0 looks whether the message is there."""
    limit = None if isinstance(timeout, Unset) else seconds(timeout)
    if limit is not None and not limit >= 0:
        raise ValueError(f"a receive can't take {limit!r} seconds; 0 polls, None waits without limit")
    return limit


class Patience(NamedTuple):
    """What a send waits for: so many seconds, or failed dials; None and negative: without limit."""

    seconds: float | None
    retries: int


def send_patience(timeout: Timeout, max_retries: int | None, default: Patience) -> Patience:
    """The limits of a send."""
    if timeout is UNSET and max_retries is None:
        return default
    limit = default.seconds if isinstance(timeout, Unset) else seconds(timeout)
    if limit is not None and not limit > 0:
        raise ValueError(f"a send can't take {limit!r} seconds; None waits without limit")
    return Patience(limit, default.retries if max_retries is None else max_retries)
