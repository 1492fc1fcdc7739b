"""Limits and times: one table of defaults, as frozen dataclasses.

``Pool(..., settings=Settings(timing=Timing(heartbeat=2)))`` changes one of them. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn

from mpccomm.errors import ConfigurationError
from mpccomm.memory import LARGE

if TYPE_CHECKING:
    from mpccomm.progress import Callback, Transfer

EXPLAIN = "MPCCOMM_EXPLAIN"
"""The environment variable that has a process print on SIGUSR1 who waits for what."""

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

_MOST_BYTES = 2**62
_MOST = 2**31
_FOR_EVER = {"waiting_notice", "waiting_notice_cap", "refused"}
"""Times that may be infinite: what they say when does not happen then."""
_FROM_ZERO = {
    "courtesy",
    "doubt",
    "linger",
    "interrupt_grace",
    "after",
    "above",
    "mapped_segment",
    "first",
    "cap",
    "head_start",
    "refused",
}


def _check(settings: Any) -> None:
    """Check every number for itself: whether it is of the kind of its default, and within what can work."""
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(one.default, bool):
            if not isinstance(value, bool):
                _refuse(settings, one.name, value, "True or False is needed", TypeError)
        elif isinstance(one.default, int):
            _check_whole(settings, one.name, value)
        elif isinstance(one.default, float):
            _check_seconds(settings, one.name, value)


def _check_whole(settings: object, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(settings, name, value, "a whole number is needed", TypeError if not isinstance(value, float) else None)
    size = "bytes" in name or "size" in name or "segment" in name or name in ("window", "above")
    most = _MOST_BYTES if size and name != "max_segments" else _MOST
    if not (0 if name in _FROM_ZERO else 1) <= value <= most:
        _refuse(settings, name, value, f"it can be {0 if name in _FROM_ZERO else 1} to {most}")


def _check_seconds(settings: object, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(settings, name, value, "a number of seconds is needed", TypeError)
    if math.isinf(value) and value > 0 and name in _FOR_EVER:
        return
    if not (math.isfinite(value) and (value >= 0 if name in _FROM_ZERO else value > 0)):
        _refuse(settings, name, value, f"a number of seconds {'from' if name in _FROM_ZERO else 'above'} 0 is needed")


def _refuse(settings: object, name: str, value: object, needed: str, kind: type[Exception] | None = None) -> NoReturn:
    raise (kind or ConfigurationError)(f"{type(settings).__name__}({name}={value!r}): {needed}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on memory, per party."""

    frame_size: int = 256 * KiB
    """Largest WebSocket message; large values are cut into frames that fit."""
    window: int = 64 * MiB
    """Bytes on their way: sent, and not yet acknowledged."""
    box_bytes: int = 1 * GiB
    """Bytes that may have arrived from a party, and that no receive has asked for yet."""
    box_messages: int = 100_000
    """The same, in messages."""
    max_message_size: int = 8 * GiB
    """Largest single message, encoded."""
    max_segments: int = 1_000_000
    """Separate buffers (arrays, byte strings) within one message."""
    max_id_size: int = 1 * KiB
    """Bytes of a message id with its prefix, in UTF-8."""
    mapped_segment: int = LARGE
    """A buffer from this size on gets all of its memory at once, which costs nothing until it is written; a smaller one grows. What
    is far smaller than the default may be memory that the C library has kept, and that takes its room at once."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a silence is told, and when a connection counts as dead."""

    heartbeat: float = 10.0
    """Seconds of quiet after which a connection is asked for a sign of life."""
    dead_after: float = 30.0
    """Seconds without any sign of life after which a connection is closed."""
    suspect_after: float = 1.0
    """Seconds (or several round trips, if that is longer) after which an overdue acknowledgement starts a second connection."""
    deadlock_after: float | None = None
    """Calls of two sides that hold each other back, without anything moving for this time, raise `DeadlockError`. None: only where
    nothing goes on in the program that could end it; elsewhere the log says what to receive, after ``waiting_notice``."""
    greeting: float = 10.0
    """A new connection has to complete its handshake within this time."""
    tick: float = 0.5
    """How often the times above are looked at."""
    waiting_notice: float = 5.0
    """Seconds after which a receive or send that waits says so in the log; then again after twice the time, and so on. That a
    party is not there is said two seconds after it was missed, and then after pauses of these lengths."""
    waiting_notice_cap: float = 300.0
    """The longest pause between two lines about the same wait."""

    def __post_init__(self) -> None:
        _check(self)
        if self.deadlock_after is not None:
            _check_seconds(self, "deadlock_after", self.deadlock_after)
        if self.dead_after <= self.heartbeat:
            raise ConfigurationError(
                f"Timing(heartbeat={self.heartbeat!r}, dead_after={self.dead_after!r}): a quiet connection would be given up "
                "before it is asked for a sign of life; make dead_after larger, some three times the heartbeat"
            )


@dataclass(frozen=True, slots=True)
class Strangers:
    """Bounds on connections whose caller is not known yet, and on callers who misbehave. Their time is ``Timing.greeting``."""

    pending: int = 32
    """The most at a time, from all addresses together at which no party of ours is."""
    per_address: int = 4
    """The most at a time from one such address."""
    per_party: int = 8
    """The most at a time from an address at which parties of ours are, for each of these."""
    bytes: int = 64 * KiB
    """The bytes that a caller may send before it is known."""
    header_bytes: int = 8 * KiB
    """The largest line of an HTTP request."""
    headers: int = 64
    """The largest number of lines of an HTTP request."""
    courtesy: float = 2.0
    """Seconds to close the connection for a caller that is told that its time is up."""
    offences: int = 5
    """How often a party may break the protocol: then it stays out until ``Pool.readmit``, if it is known by its certificate."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Retry:
    """Dialling again: full jitter, ``uniform(0, min(cap, first * 2 ** failures))`` from one attempt's start to the next's."""

    first: float = 0.05
    cap: float = 5.0
    connect_timeout: float = 3.0
    """Time for the TCP connection of one attempt, with one repetition by the system; for TLS and the upgrade; and for
    in the handshake, before another attempt is made. What was lost in a silent network is not worth waiting for."""
    give_way: float = 0.5
    """Seconds for which, where two parties can dial each other, one waits for the other one's call; where it sees one coming by
    then, up to `connect_timeout` more. Which one follows from their ports, and where those are the same from their addresses."""
    head_start: float = 0.3
    """Where there are several ways to a party, directly and through relays, each is tried this time after the one before."""
    direct: float = 30.0
    """The pause between attempts to reach a party directly while it is connected through a relay."""
    doubt: float = 5.0
    """A party that does not accept our certificate may be about to learn of it: seconds until calls fail for it."""
    refused: float = 60.0
    """The pause after a refusal that is final, in seconds, unless a call waits for the party."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """Whose progress is shown, and how. ``Settings(progress=None)`` shows none."""

    above: int = 64 * MiB
    """Messages of more bytes than this, encoded."""
    after: float = 1.0
    """Messages that have been on their way for this many seconds."""
    callback: Callable[[Transfer], Callback | None] | None = None
    """Makes what shows it, as `mpccomm.progress.TqdmCallback` does; None: a bar in notebooks and terminals."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it; what a pool takes as ``settings=``."""

    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    retry: Retry = field(default_factory=Retry)
    strangers: Strangers = field(default_factory=Strangers)
    progress: Progress | None = field(default_factory=Progress)
    linger: float = 5.0
    """Seconds for which ``shutdown`` waits for what is still to be delivered, begun anew whenever a party has taken some of it. A
    party that is connected and reads nothing has six times as long, where something is under way to it."""
    interrupt_grace: float = 1.0
    """Seconds for which a blocking call waits, after Ctrl-C, for its own cancellation."""
    report: bool = False
    """Count waiting, CPU time and rounds from the beginning, for ``Pool.report``; otherwise from the first ``Pool.phase`` on."""
    trace: str | os.PathLike[str] = ""
    """A folder, for a file of each pool with all that it sent, received and waited for, see ``Pool.trace``; empty: none.

    The file has the name of the pool, and takes the place of that of the run before; without a name, it is a new one each time.
    """
    report_to: str | os.PathLike[str] = ""
    """A folder, for a file of each pool with its report, written at its end; empty: none. It is counted from the beginning."""
    unreachable_timeout: float | None = None
    """Seconds after which a call raises that waits for a party which can't be reached; None: it waits on."""

    def __post_init__(self) -> None:
        _check(self)
        for one in fields(self):
            value = getattr(self, one.name)
            made = one.default_factory
            if isinstance(made, type) and not isinstance(value, made) and not (value is None and made is Progress):
                raise TypeError(f"Settings({one.name}=...): a {made.__name__} is needed, not a {type(value).__name__}")
        for name, path in (("trace", self.trace), ("report_to", self.report_to)):
            if not isinstance(path, str | os.PathLike):
                raise TypeError(f"Settings({name}=...): the path of a folder is needed, not a {type(path).__name__}")
        if self.unreachable_timeout is not None:
            _check_seconds(self, "unreachable_timeout", self.unreachable_timeout)


DEFAULTS = Settings()
