"""The reputation of a party: refusals over certificates, offences against the protocol, and what failed here in its connections."""

from __future__ import annotations

from mpccomm.protocol.states import CloseCode
from mpccomm.settings import Retry, Strangers
from mpccomm.transport.tls import Verdict

_FORGOTTEN = 60.0
"""Seconds without an offence after which a party that is known by its address alone starts anew; and without a failure, any."""


class Reputation:
    """The reputation of one party. ``certified``: it is known by its certificate, so that it must have done what counts here."""

    def __init__(self, retry: Retry, strangers: Strangers, *, certified: bool) -> None:
        self.refusals = 0
        """How often one end finally refused the other's certificate."""
        self.not_before = 0.0
        """No connection to or from it until then."""
        self.why, self.code = "", CloseCode.REPLACED
        """What has brought that about, and what it is told until then."""
        self._retry = retry
        self._limit = strangers.offences if certified else None
        self._doubted: float | None = None
        self._offences = 0
        self._last = 0.0
        self._failures = 0
        self._failed = 0.0

    def refuse(self, verdict: Verdict, now: float) -> bool:
        """Note that one end did not accept the other's certificate. Return whether that is final."""
        if self._doubted is None:
            self._doubted = now
        if verdict.theirs and now - self._doubted < self._retry.doubt:
            return False
        self.refusals += 1
        return True

    def clear(self) -> None:
        """Forget earlier doubts: both certificates are accepted, or it is open again whether they would be."""
        self._doubted = None

    def offend(self, reason: str, now: float) -> str:
        """Note that it broke the protocol. Return why it is kept out from now on; empty: it is not."""
        if self._limit is None and now - self._last > _FORGOTTEN:
            self._offences = 0
        self._offences += 1
        self._last = now
        if self._limit is not None and self._offences >= self._limit:
            return f"it broke the protocol {self._offences} times, at last by this: {reason}"
        self._pause(self._offences, now)
        self.why, self.code = "it broke the protocol a moment ago", CloseCode.VIOLATION
        return ""

    def fail(self, now: float) -> None:
        """Note that a part of this pool failed in a connection with it: in the next one it will probably fail again."""
        self._failures = self._failures + 1 if now - self._failed <= _FORGOTTEN else 1
        self._failed = now
        self._pause(self._failures, now)
        self.why, self.code = "a part of this pool failed in a connection with it a moment ago", CloseCode.REPLACED

    def _pause(self, times: int, now: float) -> None:
        self.not_before = now + min(self._retry.cap, self._retry.first * 2 ** min(times, 30))

    def readmit(self) -> None:
        """Forget its offences."""
        self._offences = 0
        self.not_before = 0.0
