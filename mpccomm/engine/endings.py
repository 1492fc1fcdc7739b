"""Why this pool itself gives up waiting. Why a link does says `mpccomm.protocol.states.Ending`."""

from __future__ import annotations

from enum import Enum


class GivenUp(Enum):
    """What a `Cause` of ours says."""

    CANCELLED = "the caller stopped waiting"
    TIMED_OUT = "the time limit of the call passed"
    UNREACHABLE = "the party could not be reached"
    UNTRUSTED = "one end does not accept the other's certificate"
    BARRED = "the party broke the protocol too often"
    CLOSED = "the own pool shut down"
    REMOVED = "the party was removed from the own pool"
