"""Values between the parties of a secure multi-party computation: ``pool.send("Bob", x)``, ``y = pool.recv("Alice")``.

`Pool` is for asyncio programs, `SyncPool` for plain scripts and notebooks. The types of values that can be sent, and what
is promised about them, stand in the README.
"""

from __future__ import annotations

from mpccomm.codec import Serialization
from mpccomm.errors import (
    AnnotationError,
    AuthenticationError,
    CommunicationError,
    CommunicationTimeoutError,
    ConfigurationError,
    DeadlockError,
    DecodingError,
    DuplicatePartyError,
    EncodingError,
    MessageTooLargeError,
    MissingExtraError,
    NotReadyError,
    PartyAbortedError,
    PartyGoneError,
    PartyRestartedError,
    PartyShutDownError,
    PartyUnreachableError,
    PoolClosedError,
    PortInUseError,
    RepetitionError,
    UnknownPartyError,
    WrongThreadError,
)
from mpccomm.pool import Pool
from mpccomm.settings import Limits, Progress, Retry, Settings, Timing
from mpccomm.stats import PartyStats, Stats
from mpccomm.sync import SyncPool

__all__ = [
    "AnnotationError",
    "AuthenticationError",
    "CommunicationError",
    "CommunicationTimeoutError",
    "ConfigurationError",
    "DeadlockError",
    "DecodingError",
    "DuplicatePartyError",
    "EncodingError",
    "Limits",
    "MessageTooLargeError",
    "MissingExtraError",
    "NotReadyError",
    "PartyAbortedError",
    "PartyGoneError",
    "PartyRestartedError",
    "PartyShutDownError",
    "PartyStats",
    "PartyUnreachableError",
    "Pool",
    "PoolClosedError",
    "PortInUseError",
    "Progress",
    "RepetitionError",
    "Retry",
    "Serialization",
    "Settings",
    "Stats",
    "SyncPool",
    "Timing",
    "UnknownPartyError",
    "WrongThreadError",
]
