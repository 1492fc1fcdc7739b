"""The messages that have arrived from one party, and the receives that wait for some.

The messages of one id form a queue, in the order in which they were sent. A message has its place in that queue from its
first frame on, so that a small one never overtakes a large one of the same id.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from heapq import heappop
from itertools import count, islice, takewhile
from operator import length_hint
from typing import Any

from mpccomm.protocol.frames import AUTOMATIC_NUMBERS, Key
from mpccomm.protocol.numbering import Numbering, PrefixNumbering
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.states import Cause

_arrivals = count()


class Receive:
    """One wait for the next message with an id, since some time."""

    __slots__ = ("failure", "key", "message", "notice", "since")

    awaited = True
    """Whether a program waits for it, as in `Outgoing`."""

    def __init__(self, key: Key, since: float) -> None:
        self.key = key
        self.since = since
        self.notice = since
        self.message: Incoming | None = None
        self.failure: Cause | None = None

    def renew(self, mailbox: Mailbox) -> bool:
        """Go on with another process, which takes the place of the message's sender. False: it does not send this message."""
        return True

    def done(self) -> None:
        """Take the outcome. The owner of the link calls this once ``message`` or ``failure`` is set."""


class Mailbox:
    """Messages that no receive has asked for, and receives that nothing has arrived for; per id only one of the two.

    Nearly every id has one message or one receive at a time: that stands in the table itself, and only several in a queue.
    Other threads may `grab` what stands in the table itself. So a change takes it out first, in one step.
    """

    def __init__(self, numbering: Numbering | None = None) -> None:
        self.numbering: Numbering = PrefixNumbering() if numbering is None else numbering
        """Gives out the numbers of receives that name no id."""
        self._counters = self.numbering.counters
        self.grabbing = self._counters is not None
        """Whether `grab` can be used."""
        self._messages: dict[Key, Incoming | deque[Incoming]] = {}
        self.here = self._messages.keys()
        """The ids that messages are here or under way for."""
        self._receives: dict[Key, Receive | OrderedDict[Receive, None]] = {}
        self.taken = deque[Incoming]()
        """Messages that `grab` has taken, and that the link has not accounted for."""
        self.pressed = False
        """Whether the other side waits until something is taken."""

    # -- arriving ------------------------------------------------------------------------------------------------------

    def announce(self, message: Incoming) -> None:
        """Give a message its place in the queue of its id, when its first frame is here."""
        message.arrival = next(_arrivals)
        before = self._messages.setdefault(message.key, message)
        if before is not message:
            self._queue_up(before, message)

    def _queue_up(self, there: Incoming | deque[Incoming], message: Incoming) -> None:
        if isinstance(there, deque):
            there.append(message)
        else:
            # Now no other thread can take it; one may have done so just before.
            first = self._messages.pop(message.key, None)
            self._messages[message.key] = message if first is None else deque((first, message))  # type: ignore[arg-type]

    def complete(self, message: Incoming) -> list[Receive]:
        """Note that an announced message is complete. Return the receives that get their messages by that.

        More than one where completed messages of the same id had to wait for this one.
        """
        return self._match_all(message.key)

    def _match_all(self, key: Key) -> list[Receive]:
        delivered = []
        while key in self._receives and (first := self.take(key)) is not None:
            delivered.append(self._match(first))
        return delivered

    def put(self, message: Incoming) -> Receive | None:
        """Take a message that has arrived as a whole: give it to the receive that waits for it, and return that, or box it."""
        key = message.key
        there = self._receives.get(key)
        if there is not None and key not in self._messages:
            if isinstance(there, OrderedDict):
                return self._match(message)
            del self._receives[key]
            there.message = message
            return there
        message.arrival = next(_arrivals)
        before = self._messages.setdefault(key, message)
        if before is not message:
            self._queue_up(before, message)
        return None

    def _match(self, message: Incoming) -> Receive:
        receives = self._receives
        receive = receives.pop(message.key)
        if isinstance(receive, OrderedDict):
            queue = receive
            receive, _ = queue.popitem(last=False)
            if queue:
                receives[message.key] = queue
        receive.message = message
        return receive

    # -- receiving -----------------------------------------------------------------------------------------------------

    def take(self, key: Key) -> Incoming | None:
        """Return the next message with this id if it is complete, removed from the box."""
        there = self._messages.get(key)
        if there is None:
            return None
        if isinstance(there, deque):
            message = there[0]
            if not message.complete:
                return None
            there.popleft()
            if not there:
                del self._messages[key]
        else:
            if not there.complete:
                return None
            message = self._messages.pop(key, None)  # type: ignore[arg-type,assignment]
        return message

    def take_next(self, prefix: str, msg_id: str | None) -> Incoming | None:
        """Claim the next id and take its message, if that is here; otherwise nothing has changed. Not for other threads."""
        counters = self._counters
        if counters is None:
            # With this numbering each receive has to claim its place.
            return None
        if msg_id is not None:
            return self.take(prefix + msg_id)
        numbers, released = counters[prefix]
        if released:
            return self._take_released(prefix, released)
        number = AUTOMATIC_NUMBERS - length_hint(numbers)
        messages = self._messages
        key = prefix, number
        there = messages.get(key)
        if there is None:
            return None
        claimed = next(numbers)
        if claimed == number and isinstance(there, Incoming) and there.complete:
            # With its number it is ours.
            del messages[key]
            return there
        return self._take_claimed((prefix, claimed))

    def _take_released(self, prefix: str, released: list[int]) -> Incoming | None:
        if (prefix, next(iter(released), -1)) not in self._messages:
            return None
        return self._take_claimed(self.numbering.claim(prefix))

    def _take_claimed(self, claimed: Key) -> Incoming | None:
        # Another thread may have been faster, with the number or with the message.
        message = self.take(claimed)
        if message is None:
            self.numbering.release(claimed)
        return message

    def grab(self, prefix: str, msg_id: str | None, mine: deque[Any]) -> bool:
        """Take the next message if it is here, from any thread and at any time: ``mine`` gets its number, if that is automatic,
        and the message.

        Each of the two moves by one call of C code, which neither a signal nor another thread can split. Where this returns
        False, a number that ``mine`` holds is claimed; and `restore` has to follow if there is anything else.
        """
        messages = self._messages
        if msg_id is not None:
            key: Key = prefix + msg_id
            there = messages.get(key)
            if there is None or isinstance(there, deque) or not there.complete:
                return False
        else:
            numbers, released = self._counters[prefix]  # type: ignore[index]
            try:
                there = messages.get((prefix, released[0] if released else AUTOMATIC_NUMBERS - length_hint(numbers)))
                if there is None or isinstance(there, deque) or not there.complete:
                    return False
                mine.extend(map(heappop, (released,)) if released else islice(numbers, 1))
            except IndexError:  # another thread was first
                return False
            key = prefix, mine[0]
        try:
            mine.extend(map(messages.pop, (key,)))
        except KeyError:
            return False
        return mine[-1] is there

    def look(self, prefix: str, msg_id: str | None) -> Incoming | None:
        """Return the message that the next receive gets, if it is here; it stays. Any thread may ask."""
        there = self._messages.get(self.numbering.next_key(prefix, msg_id))
        try:
            message = there[0] if isinstance(there, deque) else there
        except IndexError:
            return None  # the last one of a queue has just been taken
        return message if message is not None and message.complete else None

    def restore(self, there: Incoming | deque[Incoming]) -> list[Receive]:
        """Put back what `grab` has found where it expected a message. Returns the receives that got one by that."""
        found = (there,) if isinstance(there, Incoming) else there
        key = found[0].key
        queue = deque(sorted((*found, *self._pop_queue(key)), key=_age))
        self._messages[key] = queue if len(queue) > 1 else queue[0]
        return self._match_all(key)

    def wait(self, receive: Receive) -> Incoming | None:
        """Wait in line for the next message with the id of ``receive``; only after `take` found none.

        Returns the message that it will get, if that is under way already.
        """
        key = receive.key
        there = self._receives.setdefault(key, receive)
        before = 0
        if there is not receive:
            if not isinstance(there, OrderedDict):
                there = self._receives[key] = OrderedDict(((there, None),))
            before = len(there)
            there[receive] = None
        if key not in self._messages:
            return None
        return next(islice(self._queue(key), before, None), None)

    def take_over(self, receives: Iterable[Receive]) -> None:
        """Have receives that another mailbox leaves wait here, in their order; the numbers of the automatic ones begin anew."""
        for receive in sorted(receives, key=_number):
            if not isinstance(receive.key, str):
                receive.key = self.numbering.claim(receive.key[0])
            self.wait(receive)

    def asks_for_more(self, key: Key) -> bool:
        """Return whether more receives wait for this id than messages of it are under way."""
        there = self._receives.get(key)
        if there is None:
            return False
        waiting = len(there) if isinstance(there, OrderedDict) else 1
        return waiting > len(self._queue(key))

    def cancel(self, receive: Receive) -> bool:
        """End a wait as if it had not been. False: too late, the message has been handed over (see `put_back`)."""
        key = receive.key
        there = self._receives.get(key)
        if there is receive:
            del self._receives[key]
        elif isinstance(there, OrderedDict) and receive in there:
            del there[receive]
            if not there:
                del self._receives[key]
        else:
            return False
        self.numbering.release(key)
        return True

    def put_back(self, message: Incoming) -> list[Receive]:
        """Return a message to the queue of its id. Returns the receive that got it at once, if any.

        Of several that are put back the one that was sent first comes first, whatever the order of their return.
        """
        self.numbering.release(message.key)
        there = self._messages.pop(message.key, None)
        if there is None:
            self._messages[message.key] = message
        else:
            queue = there if isinstance(there, deque) else deque((there,))
            age = _age(message)
            queue.insert(sum(1 for _ in takewhile(lambda other: _age(other) < age, queue)), message)
            self._messages[message.key] = queue
        return self.complete(message)

    def put_back_of_earlier(self, message: Incoming, conversations: int) -> list[Receive]:
        """Return a message of an earlier conversation: as many ago. It is the next one of its id, before all of this one."""
        if not isinstance(message.key, str):
            prefix, number = message.key
            message.key = prefix, number % AUTOMATIC_NUMBERS - conversations * AUTOMATIC_NUMBERS
        return self.put_back(message)

    def _pop_queue(self, key: Key) -> Iterable[Incoming]:
        there = self._messages.pop(key, ())
        return (there,) if isinstance(there, Incoming) else there

    def _queue(self, key: Key) -> deque[Incoming] | tuple[Incoming, ...]:
        there = self._messages.get(key, ())
        return (there,) if isinstance(there, Incoming) else there

    # -- looking -------------------------------------------------------------------------------------------------------

    def receives(self) -> Iterator[Receive]:
        """Yield every receive that waits."""
        for there in self._receives.values():
            if isinstance(there, Receive):
                yield there
            else:
                yield from there

    def unread(self) -> Iterator[Incoming]:
        """Yield the complete messages that no receive asked for, those of one id in order."""
        # Copies: a program may look from another thread than the one that messages arrive on.
        for there in list(self._messages.values()):
            queue = (there,) if isinstance(there, Incoming) else list(there)
            yield from (message for message in queue if message.complete)

    @property
    def has_unread(self) -> bool:
        """Whether there are any."""
        return next(self.unread(), None) is not None

    @property
    def unread_messages(self) -> int:
        """The number of `unread` messages."""
        return sum(1 for _ in self.unread())

    @property
    def unread_bytes(self) -> int:
        """The bytes of the `unread` messages."""
        return sum(message.total for message in self.unread())

    def announced(self, key: Key) -> bool:
        """Return whether a message with this id is here or under way."""
        return key in self._messages

    def fail_all(self, cause: Cause) -> list[Receive]:
        """End every wait, since nothing more will arrive. Complete messages stay, except those behind one that is not complete.

        To hand out the second message of an id where the first is lost would be to swap messages.
        """
        failed = list(self.receives())
        for receive in failed:
            receive.failure = cause
            self.numbering.release(receive.key)
        self._receives.clear()
        # Nearly every id has one complete message. A full box of such messages must not hold up the loop.
        for key in list(self._messages):
            there = self._messages.get(key)
            if isinstance(there, Incoming) and there.complete:
                continue
            kept = deque(takewhile(lambda message: message.complete, self._pop_queue(key)))
            if kept:
                self._messages[key] = kept
        return failed


def _age(message: Incoming) -> tuple[int, int]:
    return message.receiver.conversation, message.number


def _number(receive: Receive) -> int:
    return 0 if isinstance(receive.key, str) else receive.key[1]
