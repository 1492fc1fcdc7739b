"""What a link tells its owner, beside finished requests."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.states import CloseCode


class News(Enum):
    """What happened, for the log and for those who watch."""

    CONNECTED = "connected"
    RESUMED = "connected again"
    LOST = "connection lost"
    SUSPECT = "connection shows no sign of life"
    GONE = "will not answer any more"
    HELD = "has not accepted this restart yet"
    HELD_BACK = "its box is full"
    ADMITTED = "its box has room again"
    DEADLOCK = "deadlock"
    UNREAD = "never read"
    REFUSED = "does not take messages that large"


class Closing(NamedTuple):
    """A connection to be closed, once what is still to be sent on it has gone out."""

    connection: Connection
    code: CloseCode
    reason: str
