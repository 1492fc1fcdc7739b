"""The progress of large messages of a party, and telling the program of it.

It is looked at from time to time, and costs nothing per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
from mpccomm.progress import Callback, Transfer, default_callback
from mpccomm.protocol.frames import describe_key
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing

if TYPE_CHECKING:
    from mpccomm.protocol.link import Link
    from mpccomm.settings import Progress


class ProgressTracker:
    """The transfers of one party that are shown."""

    def __init__(self, party: str, settings: Progress, log: EventLog) -> None:
        self._log = log
        self._party = party
        self._settings = settings
        self.followed: dict[Incoming | Outgoing, _Followed] = {}
        """The messages that were large and under way when it last looked."""

    def look(self, link: Link, now: float) -> None:
        """Find out how far the messages are by now, and tell."""
        above = self._settings.above
        there = {message: done for message, done in self._under_way(link) if message.total > above}
        for message in self.followed.keys() - there.keys():
            self._end(message)
        for message, done in there.items():
            followed = self.followed.setdefault(message, _Followed(now, self._log))
            if not followed.shown and now - followed.since >= self._settings.after:
                followed.show(self._transfer(message), self._settings.callback or default_callback)
            followed.move(done)

    def settle(self) -> None:
        """Tell the end of the messages that have arrived. Called before the program learns that they have."""
        for message in [message for message in self.followed if _is_there(message)]:
            self._end(message)

    def _end(self, message: Incoming | Outgoing) -> None:
        followed = self.followed.pop(message)
        if _is_there(message):
            followed.move(message.total)
        followed.close()

    def _under_way(self, link: Link) -> Iterator[tuple[Incoming | Outgoing, int]]:
        """Yield the messages of which a part is at its destination, and how many bytes at least."""
        for incoming in link.receiver.partial:
            yield incoming, incoming.written
        sender = link.sender
        # Of messages that have been sent to their last byte, only those that we have seen before are worth a look.
        sent = [message for message in self.followed if isinstance(message, Outgoing) and message.sent == message.total]
        for message in (*sender.under_way, *sent):
            if not message.delivered and (message.sent < message.total or message.failure is None):
                yield message, max(0, message.sent - sender.in_flight)

    def _transfer(self, message: Incoming | Outgoing) -> Transfer:
        return Transfer(isinstance(message, Outgoing), self._party, describe_key(message.key), message.total)


def _is_there(message: Incoming | Outgoing) -> bool:
    return message.complete if isinstance(message, Incoming) else message.delivered


class _Followed:
    """One message, and what shows its progress, if anything does."""

    def __init__(self, since: float, log: EventLog) -> None:
        self._log = log
        self.since = since
        self.shown = False
        self._callback: Callback | None = None
        self._done = 0

    def show(self, transfer: Transfer, make: Callable[[Transfer], Callback | None]) -> None:
        """Begin to show the progress of the message."""
        self.shown = True
        with self._guarded():
            self._callback = make(transfer)
            if self._callback is not None:
                self._callback.set_size(transfer.size)

    def move(self, done: int) -> None:
        """Take the number of bytes that are there: never fewer than before, whatever is repeated after a lost connection."""
        if self._callback is not None and done > self._done:
            with self._guarded():
                self._callback.relative_update(done - self._done)
            self._done = done

    def close(self) -> None:
        """End what shows the progress: nothing more will come."""
        if self._callback is not None:
            with self._guarded():
                self._callback.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if is_strike(error):
                raise
            # An error in showing progress must not disturb the transfer.
            self._callback = None
            self._log(LogEvent.CALLBACK_FAILED, "the progress of a message can't be shown", exc_info=True)
