"""Whether connections live: heartbeats, and how long an answer may take before its absence is suspicious."""

from __future__ import annotations

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Kind, ping
from mpccomm.settings import Timing

_FADING = 0.9
_SMOOTHING = 0.25
_TRICKLING = 4
"""How many times as long a connection may be silent on which the rest of a batch is on its way."""


class Heartbeat:
    """The heartbeat of one link. How long answers take depends on the network between the parties, not on one connection."""

    def __init__(self, timing: Timing) -> None:
        self.round_trip: float | None = None
        """Seconds from a ping to its answer, smoothed."""
        self._timing = timing
        self._slowest = 0.0
        """Seconds that answers took lately, at most; 0 where none took long enough to count."""
        self._long = timing.suspect_after / 2
        self.noticed = self._long
        """Answers that take no longer, in seconds, change nothing: `heard` needs not be called, unless a connection is suspect."""
        self._token = 0

    @property
    def answer_timeout(self) -> float:
        """The seconds without an answer after which a connection is suspect.

        On a slow line the answer to one frame may take longer than any fixed time. Were the next connection given up just
        as early, and the one after it, nothing would ever arrive: so each answer that fails to come doubles this, and prompt
        answers lower it again.
        """
        return min(max(self._timing.suspect_after, 2 * self._slowest), self._timing.dead_after)

    def met(self, connection: Connection, now: float) -> None:
        """Note that the answer to our HELLO has arrived: how far away the other side is, is known before anything is sent."""
        seconds = now - connection.opened
        if seconds > max(self._long, self._slowest):
            self._slowest, self.noticed = seconds, -1.0

    def heard(self, connection: Connection, now: float) -> None:
        """Note that something has arrived on a connection where an answer was due."""
        if connection.awaiting is not None:
            self._waited(now - connection.awaiting)
            connection.awaiting = None
            connection.suspect = False

    def _waited(self, seconds: float) -> None:
        faded = _FADING * self._slowest
        slowest = faded if seconds <= faded else min(seconds, self.answer_timeout)
        if slowest > self._long:
            self._slowest, self.noticed = slowest, -1.0
        else:
            self._slowest, self.noticed = 0.0, self._long

    def moved(self, connection: Connection, backlog: float, now: float) -> None:
        """Note that what we sent on a connection gets through: an answer can't be here before the rest of it is there."""
        if connection.awaiting is not None:
            connection.awaiting = now + min(backlog, self._timing.dead_after)
            connection.suspect = False

    def answered(self, connection: Connection, token: int, now: float) -> None:
        """Note a PONG that has arrived on a connection."""
        if connection.pinged is not None and connection.pinged[0] == token:
            sample = now - connection.pinged[1]
            before = sample if self.round_trip is None else self.round_trip
            self.round_trip = before + _SMOOTHING * (sample - before)
            connection.pinged = None

    def silent(self, connection: Connection, now: float) -> str | None:
        """Return why a connection has to be given up; None: it has not."""
        if not connection.verified:
            return "no handshake" if now - connection.opened > self._timing.greeting else None
        quiet = now - connection.heard
        return f"silent for {quiet:.0f} s" if quiet > self._timing.dead_after else None

    def next_due(self, connection: Connection) -> float:
        """Return when `check` has something to do there again, if nothing is heard until then; 0: at each tick."""
        asked = connection.awaiting is not None or connection.pinged is not None or self.round_trip is None
        return 0.0 if asked else connection.heard + self._timing.heartbeat

    def check(self, connection: Connection, now: float, *, unacknowledged: bool) -> bool:
        """Ask for a sign of life where one is due. True: the connection has just become suspect."""
        timing = self._timing
        quiet = now - connection.heard
        if connection.pinged is None and (
            self.round_trip is None or quiet > timing.heartbeat or (unacknowledged and quiet > timing.suspect_after / 2)
        ):
            self._token += 1
            connection.pinged = (self._token, now)
            connection.control[Kind.PING] = ping(self._token)
            if connection.awaiting is None:
                connection.awaiting = now
        timeout = self.answer_timeout * (_TRICKLING if connection.trickling else 1)
        if connection.suspect or connection.awaiting is None or now - connection.awaiting <= timeout:
            return False
        self._waited(now - connection.awaiting)
        connection.suspect = True
        return True
