"""What has arrived from one party, who waits for what, and the automatic numbering of receives.

The messages of one id form a queue, in the order in which they were sent. A message has its place in that queue from its
first frame on, so that a small one never overtakes a large one of the same id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from mpccomm.protocol.frames import Key

if TYPE_CHECKING:
    from mpccomm.protocol.receiver import Incoming
    from mpccomm.protocol.states import Cause


class Receive:
    """Somebody waits for the next message with this id, since then."""

    __slots__ = ("failure", "key", "message", "notice", "since")

    def __init__(self, key: Key, since: float) -> None:
        self.key = key
        self.since = since
        self.notice = since
        self.message: Incoming | None = None
        self.failure: Cause | None = None

    def done(self) -> None:
        """To be called by the owner of the link once ``message`` or ``failure`` is set."""


class Mailbox:
    """Messages that nobody has asked for, and receives that nothing has arrived for; per id only one of the two."""

    def __init__(self) -> None:
        self._messages: dict[Key, deque[Incoming]] = {}
        self._receives: dict[Key, deque[Receive]] = {}
        self._next_number: dict[str, int] = {}
        self._released: dict[str, list[int]] = {}
        self.unread_messages = 0
        self.unread_bytes = 0

    # -- arriving ------------------------------------------------------------------------------------------------------

    def announce(self, message: Incoming) -> None:
        """The first frame of a message is here: it takes its place in the queue of its id."""
        self._messages.setdefault(message.key, deque()).append(message)

    def complete(self, message: Incoming) -> list[Receive]:
        """An announced message is complete. Returns the receives that got theirs by that.

        More than one where completed messages of the same id had to wait for this one.
        """
        self.unread_messages += 1
        self.unread_bytes += message.total
        return self._deliver(message.key) if message.key in self._receives else []

    def put(self, message: Incoming) -> list[Receive]:
        """A whole message arrived at once: `announce` and `complete`, without the queue where somebody waits already."""
        receives = self._receives.get(message.key)
        if receives is not None and message.key not in self._messages:
            return [self._match(receives, message)]
        self.announce(message)
        return self.complete(message)

    def _deliver(self, key: Key) -> list[Receive]:
        delivered = []
        while (receives := self._receives.get(key)) and (message := self.take(key)):
            delivered.append(self._match(receives, message))
        return delivered

    def _match(self, receives: deque[Receive], message: Incoming) -> Receive:
        receive = receives.popleft()
        if not receives:
            del self._receives[message.key]
        receive.message = message
        return receive

    # -- receiving -----------------------------------------------------------------------------------------------------

    def claim(self, prefix: str, msg_id: str | None = None) -> Key:
        """The id to wait for. Where none is named: the lowest number that no receive holds."""
        if msg_id is not None:
            return prefix + msg_id
        released = self._released.get(prefix)
        if released:
            return prefix, heappop(released)
        number = self._next_number.get(prefix, 0)
        self._next_number[prefix] = number + 1
        return prefix, number

    def release(self, key: Key) -> None:
        """A receive ended without its message: its automatic number is for the next one."""
        if not isinstance(key, str):
            heappush(self._released.setdefault(key[0], []), key[1])

    def forget_numbers(self) -> None:
        """Count anew, the other side doing the same."""
        self._next_number.clear()
        self._released.clear()

    def take(self, key: Key) -> Incoming | None:
        """The next message with this id if it is complete, removed from the box."""
        queue = self._messages.get(key)
        if queue is None or not queue[0].complete:
            return None
        message = queue.popleft()
        if not queue:
            del self._messages[key]
        self.unread_messages -= 1
        self.unread_bytes -= message.total
        return message

    def wait(self, receive: Receive) -> None:
        """Wait in line for the next message with the id of ``receive``; only after `take` found none."""
        self._receives.setdefault(receive.key, deque()).append(receive)

    def cancel(self, receive: Receive) -> bool:
        """End a wait without a trace. False: too late, the message has been handed over (see `put_back`)."""
        receives = self._receives.get(receive.key)
        if receives is None or receive not in receives:
            return False
        receives.remove(receive)
        if not receives:
            del self._receives[receive.key]
        self.release(receive.key)
        return True

    def put_back(self, message: Incoming) -> list[Receive]:
        """Un-get: the message has its place in the queue of its id again. Returns the receive that got it at once, if any.

        Of several that are put back the one that was sent first comes first, whatever the order of their return.
        """
        self.release(message.key)
        queue = self._messages.setdefault(message.key, deque())
        place = sum(1 for _ in takewhile(lambda other: other.number < message.number, queue))
        queue.insert(place, message)
        return self.complete(message)

    # -- looking -------------------------------------------------------------------------------------------------------

    def receives(self) -> Iterator[Receive]:
        """Everybody who waits."""
        for queue in self._receives.values():
            yield from queue

    def unread(self) -> Iterator[Incoming]:
        """The complete messages that nobody asked for, those of one id in order."""
        # Copies: a program may look from another thread than the one that messages arrive on.
        for queue in list(self._messages.values()):
            yield from (message for message in list(queue) if message.complete)

    def announced(self, key: Key) -> bool:
        """Whether a message with this id is here or under way."""
        return key in self._messages

    def fail_all(self, cause: Cause) -> list[Receive]:
        """Nothing more will arrive: end every wait. Complete messages stay, but for those behind one that is not complete.

        To hand out the second message of an id where the first is lost would be to swap messages.
        """
        failed = list(self.receives())
        for receive in failed:
            receive.failure = cause
            self.release(receive.key)
        self._receives.clear()
        for key, queue in list(self._messages.items()):
            kept = deque(takewhile(lambda message: message.complete, queue))
            for lost in islice(queue, len(kept), None):
                if lost.complete:
                    self.unread_messages -= 1
                    self.unread_bytes -= lost.total
            if kept:
                self._messages[key] = kept
            else:
                del self._messages[key]
        return failed
