"""Deadlocks: one program waits for a message that is stuck behind a full box, or both wait for room in each other's box."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from mpccomm.protocol.frames import Blocked, Deadlock
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.sender import Sender
from mpccomm.protocol.session import Session
from mpccomm.protocol.states import Ending
from mpccomm.settings import Timing


class DeadlockDetector:
    """Detects deadlocks from what the other side says about being held back by our box, and since when nothing has moved."""

    def __init__(self, wait: float, now: float) -> None:
        self.blocked: Blocked | None = None
        """The last BLOCKED of the other side; None: it is not held back."""
        self.found: Ending | None = None
        """The deadlock that was found, until something moves again."""
        self.final = False
        """Whether nothing in the programs goes on that could end it."""
        self.noted = False
        """Whether there is any of the two."""
        self._wait = wait
        self._moved = now

    def move(self, now: float) -> None:
        """Note that something has arrived from the other side, or our program has taken something."""
        self._moved = now
        self.found = None
        self.noted = self.blocked is not None

    def on_blocked(self, frame: Blocked, now: float) -> None:
        """Note that the other side is held back."""
        if self.blocked is None:
            self.move(now)
        self.blocked = frame
        self.noted = True

    def admitted(self) -> None:
        """Note that the other side is not held back any more."""
        self.blocked = None
        self.found = None
        self.noted = False

    def disconnected(self) -> None:
        """Forget that the other side is held back, as it can't say so any more. A deadlock that was found stays until it does."""
        self.blocked = None
        self.noted = self.found is not None

    def shift(self, stalled: float) -> None:
        """Deduct the time for which our own process stood still."""
        self._moved += stalled

    def admit(self, session: Session) -> int | None:
        """Let the other side begin one message beyond the bounds of the box, if that is asked for here.

        Returns the number of messages that began before it; None: there is nothing to say to the other side.
        """
        blocked, receiver = self.blocked, session.receiver
        if blocked is None or blocked.begun < max(receiver.box.begun, receiver.admitted):
            return None  # outdated: more has begun, or was admitted, since it was sent
        if blocked.begun > receiver.admitted:
            if not blocked.ids or not session.mailbox.asks_for_more(blocked.ids[0]):
                return None
            # Where receives are given up before their messages come, only one of these goes beyond the bounds.
            if receiver.box.overdrawn:
                return None
            receiver.admitted = blocked.begun
        return blocked.begun

    def find(self, session: Session, now: float, alone: Callable[[], bool]) -> tuple[Ending, list[Receive]] | None:
        """Return the deadlock, if there is one, and the receives that would wait for ever.

        ``alone`` says whether our program stands still, so that it can't take anything that would end it.
        """
        blocked = self.blocked
        if blocked is None or now - self._moved < self._wait:
            return None
        if blocked.consumed_messages != session.receiver.box.taken:
            return None  # it does not know yet what else we took
        if blocked.begun == session.receiver.admitted:
            return None  # its next message is admitted, and on its way
        stuck = [
            receive
            for receive in session.mailbox.receives()
            if now - receive.since >= self._wait and self._is_stuck(receive, blocked, session)
        ]
        if stuck:
            self.found = Ending.BOX_FULL
            self.final = alone()
        elif blocked.awaited and session.sender.held_back and session.sender.anyone_waits():
            self.found = Ending.MUTUAL
            self.final = blocked.alone and alone()
        else:
            return None
        self._moved = now
        return self.found, stuck

    @staticmethod
    def _is_stuck(receive: Receive, blocked: Blocked, session: Session) -> bool:
        if session.mailbox.announced(receive.key):
            return False  # under way: it has its place in the box already
        # In the queue, or beyond the part of it that was listed; or still to be sent by a program that waits in a send.
        return receive.key in blocked.ids or blocked.messages > len(blocked.ids) or blocked.awaited


class DeadlockNews(Enum):
    """What to do here about a deadlock that the other side tells of."""

    OLD = "it was told before"
    NEW = "the log is to say it"
    FATAL = "the sends that are held back fail"


class DeadlocksThere:
    """The deadlocks that the other side has told of: our sends are held back by its box."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._failed: float | None = None
        """When sends that were held back failed last."""
        self._told = -1
        """How much had been taken there when we last told of a deadlock."""

    def hear(self, frame: Deadlock, sender: Sender, now: float) -> DeadlockNews:
        """Return what to do about a DEADLOCK."""
        if not sender.held_back:
            return DeadlockNews.OLD
        if frame.final or self._timing.deadlock_after is not None:
            # Only now and then, since it means going through the queue.
            if self._failed is None or now - self._failed >= self._timing.tick:
                self._failed = now
                return DeadlockNews.FATAL
        elif self._told != sender.box.taken:
            self._told = sender.box.taken
            return DeadlockNews.NEW
        return DeadlockNews.OLD


class HeldBackNotice:
    """When to log that a full box holds us back: after a while, and again at longer and longer intervals."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._since: float | None = None
        self._told = 0.0
        self._pause = timing.waiting_notice

    @property
    def rests(self) -> bool:
        """Whether nothing held us back when it was last looked at."""
        return self._since is None

    def look(self, held_back: bool, now: float) -> bool | None:
        """Return True to log it now, False where it is over and was logged, None where there is nothing to log."""
        timing = self._timing
        if held_back:
            if self._since is None:
                self._since = now
            if now - max(self._since, self._told) < self._pause:
                return None
            self._told = now
            self._pause = min(2 * self._pause, timing.waiting_notice_cap)
            return True
        was_told = self._since is not None and self._told > self._since
        self._since = None
        self._pause = timing.waiting_notice
        return False if was_told else None
