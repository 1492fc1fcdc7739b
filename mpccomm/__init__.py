"""Values between the parties of a secure multi-party computation: ``pool.send("Bob", x)``, ``y = pool.recv("Alice")``.

`Pool` is for asyncio programs, `SyncPool` for plain scripts and notebooks. The types of values that can be sent, and what
is promised about them, stand in docs/types.md and the README.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpccomm.codec import Serialization
    from mpccomm.engine.expect import Array
    from mpccomm.engine.explain import explain_on_signal
    from mpccomm.engine.stats import PartyStats, Stats
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
        EquivocationError,
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
        UnexpectedTypeError,
        UnknownPartyError,
        WrongThreadError,
    )
    from mpccomm.pool import Pool
    from mpccomm.proxies import Proxy
    from mpccomm.relays import Relay
    from mpccomm.settings import Limits, Progress, Retry, Settings, Timing
    from mpccomm.sync import SyncPool
    from mpccomm.transport.memory import MemoryNetwork
    from mpccomm.transport.shared_port import Listener

__all__ = [
    "AnnotationError",
    "Array",
    "AuthenticationError",
    "CommunicationError",
    "CommunicationTimeoutError",
    "ConfigurationError",
    "DeadlockError",
    "DecodingError",
    "DuplicatePartyError",
    "EncodingError",
    "EquivocationError",
    "Limits",
    "Listener",
    "MemoryNetwork",
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
    "Proxy",
    "Relay",
    "RepetitionError",
    "Retry",
    "Serialization",
    "Settings",
    "Stats",
    "SyncPool",
    "Timing",
    "UnexpectedTypeError",
    "UnknownPartyError",
    "WrongThreadError",
    "explain_on_signal",
]

# Imported when they are first asked for: the command line and the pytest plugin need none of it to start.
_MODULES = (
    "mpccomm.errors",
    "mpccomm.proxies",
    "mpccomm.relays",
    "mpccomm.settings",
    "mpccomm.codec",
    "mpccomm.pool",
    "mpccomm.engine.stats",
    "mpccomm.engine.expect",
    "mpccomm.engine.explain",
    "mpccomm.sync",
    "mpccomm.transport.memory",
    "mpccomm.transport.shared_port",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                found: object = getattr(module, name)
                globals()[name] = found
                return found
    if f"{__name__}.{name}" in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
