"""Our last word to the other side: said on every connection, until one of them has carried it."""

from __future__ import annotations

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Kind
from mpccomm.protocol.session import Session


class Parting:
    """A GOODBYE or an ABORT, once there is one."""

    def __init__(self) -> None:
        self.heard = False
        """The other side has confirmed it."""
        self._word: tuple[Kind, bytes] | None = None

    def goodbye(self, session: Session, *, unread: bool) -> None:
        """The pool shuts down. ``unread``: what is left in the mailbox is from the incarnation that hears this."""
        sender = session.sender
        keys = [message.key for message in session.mailbox.unread()] if unread else []
        undelivered = sum(1 for _ in sender.pending())
        frame = frames.Goodbye(sender.last_seq, undelivered, len(keys), frames.some_ids(keys))
        self._word = Kind.GOODBYE, frames.goodbye(frame)

    def abort(self, reason: str) -> None:
        """The program gave up."""
        self._word = Kind.ABORT, frames.abort(reason)

    def say(self, connection: Connection, session: Session | None) -> None:
        """Say it there, if there is something to be said. ``conversation``: the one with the other end, if it is ours."""
        if self._word is None or self.heard:
            return
        kind, frame = self._word
        # Before it what has arrived in time, or the senders would be told that it was lost.
        connection.control[kind] = frame if session is None else frames.ack(*session.positions) + frame

    def confirmed(self) -> None:
        """A FAREWELL arrived."""
        self.heard = self._word is not None
