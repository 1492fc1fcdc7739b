"""The reputation of a party: refusals over certificates, and offences against the protocol."""

from __future__ import annotations

from mpccomm.settings import Retry, Strangers
from mpccomm.transport.tls import Verdict

_FORGOTTEN = 60.0
"""Seconds without an offence after which a party that is known by its address alone starts anew."""


class Reputation:
    """The reputation of one party. ``certified``: it is known by its certificate, so that it must have done what counts here."""

    def __init__(self, retry: Retry, strangers: Strangers, *, certified: bool) -> None:
        self.refusals = 0
        """How often one end finally refused the other's certificate."""
        self.not_before = 0.0
        """No connection to or from it until then."""
        self._retry = retry
        self._limit = strangers.offences if certified else None
        self._doubted: float | None = None
        self._offences = 0
        self._last = 0.0

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
        self.not_before = now + min(self._retry.cap, self._retry.first * 2 ** min(self._offences, 30))
        return ""

    def readmit(self) -> None:
        """Forget its offences."""
        self._offences = 0
        self.not_before = 0.0
