"""Messages that have to be decoded in the order in which they were sent, whatever order their last bytes arrive in."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpccomm.protocol.receiver import Incoming


class Turns:
    """Keeps each such message from being taken until those that were sent before it are complete."""

    def __init__(self) -> None:
        self._begun: deque[Incoming] = deque()
        self._whole: set[Incoming] = set()
        self.undecoded: deque[Incoming] = deque()
        """Those whose turn it is, in order; whoever decodes one decodes those before it, and removes them."""

    def begin(self, message: Incoming) -> None:
        """The first frame of a message is here."""
        if message.ordered:
            self._begun.append(message)

    def arrive(self, message: Incoming) -> list[Incoming]:
        """The last frame of a message is here. Returns the messages that may be taken by that."""
        if not message.ordered:
            return [message]
        message.complete = False
        self._whole.add(message)
        ready = []
        while self._begun and self._begun[0] in self._whole:
            ready.append(self._admit(self._begun.popleft()))
        return ready

    def forget_partial(self) -> list[Incoming]:
        """What is not complete never will be. Returns the messages that may be taken by that."""
        ready = [self._admit(message) for message in self._begun if message in self._whole]
        self._begun.clear()
        return ready

    def _admit(self, message: Incoming) -> Incoming:
        self._whole.discard(message)
        message.complete = True
        self.undecoded.append(message)
        return message
