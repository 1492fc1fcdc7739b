"""One connection, as the link sees it: how far its greeting has come, and whether it shows signs of life."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mpccomm.protocol.frames import Hello, Kind, ViolationError
from mpccomm.protocol.states import CONNECTION, ConnectionState

if TYPE_CHECKING:
    from mpccomm.protocol.sender import Sent

_NEXT = {
    state: {kind: after for (before, kind), after in CONNECTION.items() if before is state} for state in ConnectionState
}


class Connection:
    """The link's notes on a connection. The transport keeps it as a handle and looks at nothing inside."""

    __slots__ = (
        "again",
        "awaiting",
        "closed",
        "control",
        "dialled",
        "heard",
        "hello",
        "nonce",
        "number",
        "opened",
        "pinged",
        "position",
        "state",
        "suspect",
        "told_accepted",
        "verified",
    )

    def __init__(self, number: int, *, dialled: bool, nonce: bytes, now: float) -> None:
        self.number = number
        self.dialled = dialled
        self.nonce = nonce
        self.opened = now
        self.state = ConnectionState.OPEN
        self.hello: Hello | None = None
        self.verified = False
        """Their RESUME repeated our nonce: this is no recording."""
        self.closed = False
        """Nothing that still arrives here counts."""
        self.control: dict[Kind, bytes] = {}
        """Frames without a number, to go out before everything else. One of a kind: the latest says it all, and whoever
        asks without reading our answers does not fill our memory with them."""
        self.told_accepted = False
        """What our last RESUME here said."""
        self.position = 0
        """What their last RESUME here said: all frames up to this one are there."""
        self.again: deque[Sent] | None = None
        """What is to be sent again here before anything new; None as long as nothing was sent here."""
        self.heard = now
        self.awaiting: float | None = None
        """Since when an answer of any kind is due."""
        self.pinged: tuple[int, float] | None = None
        self.suspect = False

    @property
    def flowing(self) -> bool:
        """The greeting is complete, and the other side takes frames."""
        return self.state is ConnectionState.FLOWING

    def step(self, kind: Kind) -> None:
        """A frame of this kind arrived: the next state, or a violation where there is none."""
        state = _NEXT[self.state].get(kind)
        if state is None:
            raise ViolationError(f"{kind.name} on a connection where {self.state.value}")
        self.state = state

    def shift(self, stalled: float) -> None:
        """Our own clockwork stood still for so long: no fault of theirs."""
        self.opened += stalled
        self.heard += stalled
        if self.awaiting is not None:
            self.awaiting += stalled
        if self.pinged is not None:
            token, since = self.pinged
            self.pinged = token, since + stalled
