"""Protocols: a party as requests, deliveries and errors see it, and the loop of an engine as the engine sees it.

`mpccomm.engine.party` implements the first one; the modules that it imports take the type from here, so that no two modules of the
engine import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence, Set
from typing import Any, Protocol, TypeAlias

from mpccomm.codec.wire_format import WireFormat
from mpccomm.engine.audit import Audit
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.ordering import Ordering
from mpccomm.engine.trail import Fork, Trail
from mpccomm.protocol.frames import Key
from mpccomm.protocol.link import Link
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.states import Cause
from mpccomm.settings import Settings
from mpccomm.transport.stream import Stream


class Connections(Protocol):
    """The connections of a party, as far as requests need them."""

    @property
    def only(self) -> Stream | None:
        """The one there is, if it is one: where that is awake, `wake` changes nothing."""

    def wake(self) -> None:
        """Send what the link has to send."""


class Polling(Protocol):
    """What is told of receives that end without a message."""

    def asked_in_vain(self, key: Key, since: float, now: float, notice: float | None = None) -> None:
        """Note that one has ended so, which has waited since that time; of its waiting the log told last at ``notice``."""


class RemoteParty(Protocol):
    """One remote party of a pool."""

    name: str
    own_names: Set[str]
    """The names by which our own party goes."""
    addr: str
    port: int
    prefix: str
    """What comes before the ids of its messages."""
    trouble: str
    """Why the last attempt to connect failed."""
    step: str | None
    """What to look at, where that attempt has said nothing of whether it runs; empty: nothing else than the trouble."""
    answers: bool
    """Whether that attempt has found it, and one of us does not accept the other."""
    not_taken: str
    """Why it accepts no messages although it is connected; empty: it accepts them."""
    closed: Cause | None
    """Why nothing can be sent or received any more, on our side."""
    audit: Audit | None
    link: Link
    loop_owner: LoopOwner
    ordering: Ordering
    settings: Settings
    most_taken: tuple[int, int]
    """After more messages that other threads have taken out of the box, or a larger one, the loop is told to account for them."""
    wire_format: WireFormat
    trail: Trail | Fork | None
    """Where traces that run have their notes of its messages."""
    impatient: set[Any]
    """The sends that fail after a number of failed dials."""

    @property
    def relays(self) -> Sequence[object]:
        """The relays through which it is reached, if not directly."""

    @property
    def proxy(self) -> object | None:
        """The forward proxy on the way to it."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of the pool, in seconds."""

    @property
    def notices(self) -> Polling:
        """What is told of receives that end without a message."""

    @property
    def connections(self) -> Connections:
        """Its connections."""

    @property
    def handler(self) -> object:
        """The party as programs look at it: what ``deserialize`` methods get as ``origin``."""

    def flush(self) -> None:
        """Hand on what the link has brought about, and see that what it wants to send goes out."""

    def return_message(self, message: Incoming) -> None:
        """Put a message that was taken out of the mailbox back into it."""

    def explain(self, cause: Cause, call: Any) -> Exception:
        """Return the error that a call raises which ended for that cause."""


Step: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A coroutine function; it may be called again where a signal handler has interrupted its coroutine."""


class LoopProvider(Protocol):
    """Makes a loop for an engine whose program has none, and ends it."""

    def start(self) -> None:
        """Make the loop, and call `Engine.start` there."""

    def ended(self) -> None:
        """End what was started for the engine, of which nothing is left."""
