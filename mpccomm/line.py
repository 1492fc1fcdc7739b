"""A line between two parties: how long bytes are on their way, and how many fit. The model alone, without sockets or a clock.

What a line does to bytes, in either direction by itself: they wait for those before them, they take their size divided by the
rate to get onto the line, and then they travel for half the round-trip time, give or take the jitter. Bytes of one connection
never overtake each other.

The rate counts what ``tc`` counts: the headers of TCP, IP and Ethernet as well, which are 4.4 % of a full packet.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random

from mpccomm.display import number_text
from mpccomm.errors import ConfigurationError

SEGMENT = 1448
"""Bytes of a message in a full packet, on Ethernet."""
HEADERS = 66
"""Bytes around them: of Ethernet, IP and TCP with time stamps."""

QUEUE = 0.02
"""Seconds of data that wait in front of a line; what is beyond that waits at its sender."""
CHUNK_TIME = 0.001
"""What a line sends in this time arrives at once; on a real line it would trickle in."""
CHUNK = 256 * 1024
"""Bytes that arrive at once, at most."""

_NUMBER = r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*"
_DURATION = re.compile(_NUMBER + "(?P<unit>[a-zµμ]*)")
_DURATIONS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "min": 60.0, "h": 3600.0}
_RATE = re.compile(_NUMBER + r"(?:(?P<bits>[kmgt]?)(?:bit)(?:/s)?|(?P<bytes>[kmgt]i?|)B/s)", re.IGNORECASE)
_THOUSANDS = ("", "k", "m", "g", "t")
_EVENTS = re.compile(_NUMBER + r"/\s*(?P<each>\d+(?:\.\d*)?|\.\d+|)\s*(?P<unit>s|min|h)")


def duration(text: str) -> float:
    """Return the seconds that a text such as ``40ms`` or ``0.04s`` means.

    :raises ConfigurationError: it is none
    """
    found = _DURATION.fullmatch(text.strip())
    number = float(found["number"]) if found else math.nan
    if found is not None and (found["unit"] in _DURATIONS or number == 0):
        return number * _DURATIONS.get(found["unit"], 0.0)
    hint = f"; did you mean {found['number']}ms?" if found is not None and not found["unit"] else ""
    if text.strip().startswith("-"):
        hint = "; it can't be negative"
    raise ConfigurationError(f"{text!r} is no duration: write a number with its unit, as in 40ms, 0.04s or 150us{hint}")


def rate(text: str) -> float:
    """Return the bytes per second that a text such as ``100mbit``, ``1gbit`` or ``12.5MB/s`` means.

    :raises ConfigurationError: it is none, or 0
    """
    found = _RATE.fullmatch(text.strip())
    if found is not None:
        number: float = float(found["number"])
        # In mbit and Mbit, M is a million in both: no line is measured in millibits.
        if found["bits"] is not None:
            number *= _factor(found["bits"]) / 8
        else:
            number *= _factor(found["bytes"])
        if number > 0:
            return number
        raise ConfigurationError(
            f"{text!r} is a line on which nothing moves; leave the rate out for one without a limit"
        )
    unclear = re.fullmatch(_NUMBER + r"(?P<prefix>[kmgt]?)b?(?:ps)?", text.strip(), re.IGNORECASE)
    if unclear is not None:
        shown, prefix = unclear["number"], unclear["prefix"]
        hint = f"; bits or bytes? write {shown}{prefix.lower() or 'm'}bit or {shown}{prefix.upper() or 'M'}B/s"
    else:
        hint = ""
    raise ConfigurationError(
        f"{text!r} is no rate: write a number with its unit, as in 100mbit and 1gbit (bits per second) or 12.5MB/s{hint}"
    )


def _factor(prefix: str) -> float:
    base = 1024.0 if prefix[1:] else 1000.0
    return base ** _THOUSANDS.index(prefix[:1].lower())


def frequency(text: str) -> float:
    """Return the events per second that a text such as ``1/min`` or ``3/h`` means.

    :raises ConfigurationError: it is none
    """
    found = _EVENTS.fullmatch(text.strip())
    if found is None or not (each := float(found["each"] or 1)):
        raise ConfigurationError(
            f"{text!r} does not say how often: write times per second, minute or hour, as in 1/min"
        )
    return float(found["number"]) / (each * _DURATIONS[found["unit"]])


@dataclass(frozen=True, slots=True)
class Line:
    """The line between two parties.

    :raises ConfigurationError: there can't be such a line
    """

    rtt: float = 0.0
    """Seconds from one party to the other and back, for a message without size."""
    rate: float = math.inf
    """Bytes per second in each direction, headers included."""
    jitter: float = 0.0
    """Seconds by which the round-trip time is longer or shorter, at most: each way by half of it, evenly spread."""
    loss_of_connection: float = 0.0
    """Times per second that all connections on it break, in the mean."""

    def __post_init__(self) -> None:
        """Check that there can be such a line."""
        if not 0 <= self.jitter <= self.rtt < math.inf:
            raise ConfigurationError(
                f"a line with a round-trip time of {in_words(self.rtt)} can't have a jitter of {in_words(self.jitter)}: "
                "it is what the round-trip time varies by, up or down"
            )
        if not self.rate > 0 or not 0 <= self.loss_of_connection < math.inf:
            raise ConfigurationError(f"a rate is above 0 and a frequency not below 0: {self}")

    @property
    def delay(self) -> float:
        """Seconds in one direction, in the mean."""
        return self.rtt / 2

    def serialisation(self, size: int) -> float:
        """Seconds that a message of ``size`` bytes takes to get onto the line, with the headers of its packets."""
        return (size + HEADERS * math.ceil(size / SEGMENT)) / self.rate

    def __str__(self) -> str:
        """Return the line in words, as in ``40 ms, 100 mbit/s``."""
        words = [in_words(self.rtt)]
        if self.jitter:
            words[0] += f" +- {in_words(self.jitter)}"
        if self.rate < math.inf:
            bits = self.rate * 8
            unit, name = next((unit, name) for unit, name in _BIT_RATES if bits >= unit or unit == 1)
            words.append(f"{number_text(bits / unit, 4)} {name}")
        if self.loss_of_connection:
            words.append(f"broken {number_text(self.loss_of_connection * 60, 4)} times a minute")
        return ", ".join(words)


_BIT_RATES = ((1e9, "gbit/s"), (1e6, "mbit/s"), (1e3, "kbit/s"), (1, "bit/s"))


def in_words(seconds: float) -> str:
    """Return a duration with a unit in which it is a number that people can read."""
    if not 0 < seconds < 1:
        return f"{number_text(seconds, 4)} s"
    return f"{number_text(seconds * 1e3, 4)} ms" if seconds >= 1e-3 else f"{number_text(seconds * 1e6, 4)} us"


class Direction:
    """One direction of a line, shared by all connections on it."""

    def __init__(self, line: Line, random: Random) -> None:
        self.line = line
        self._random = random
        self._free = 0.0
        """The time when all that was sent so far is on the line."""

    @property
    def chunk(self) -> int:
        """Bytes to put on it at once: what it sends in a moment, at least a packet."""
        return int(min(max(self.line.rate * CHUNK_TIME, SEGMENT), CHUNK))

    def hold(self, now: float) -> float:
        """Return the seconds until it takes in anything more, since enough waits in front of it; 0: it does now."""
        backlog = self._free - now
        return backlog - QUEUE / 2 if backlog > QUEUE else 0.0

    def enter(self, size: int, now: float) -> float:
        """Put ``size`` bytes on the line; return when the last of them has left."""
        self._free = max(self._free, now) + self.line.serialisation(size)
        return self._free

    def send(self, size: int, now: float) -> float:
        """Put ``size`` bytes on the line; return when the last of them is at the other end.

        That is later than for those before, unless jitter makes it earlier: to keep the order is up to the connection.
        """
        return self.enter(size, now) + self.travel()

    def travel(self) -> float:
        """Return the seconds that the next bytes are on their way, once they are on the line."""
        line = self.line
        if not line.jitter:
            return line.delay
        return line.delay + self._random.uniform(-line.jitter, line.jitter) / 2
