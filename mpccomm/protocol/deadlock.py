"""Deadlocks: one program waits for what is stuck behind a full box, or both wait for room in each other's."""

from __future__ import annotations

from collections.abc import Callable

from mpccomm.protocol.frames import Blocked
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.session import Session
from mpccomm.protocol.states import Ending
from mpccomm.settings import Timing


class DeadlockDetector:
    """What the other side says about being held back by our box, and since when nothing has moved."""

    def __init__(self, wait: float, now: float) -> None:
        self.blocked: Blocked | None = None
        """The other side's last word that it is held back; None: it isn't."""
        self.found: Ending | None = None
        """The deadlock that was found, until something moves again."""
        self.final = False
        """Nothing in the programs goes on that could end it."""
        self._wait = wait
        self._moved = now

    def move(self, now: float) -> None:
        """Something arrived from the other side, or our program took something."""
        self._moved = now
        self.found = None

    def on_blocked(self, frame: Blocked, now: float) -> None:
        """The other side is held back."""
        if self.blocked is None:
            self.move(now)
        self.blocked = frame

    def admitted(self) -> None:
        """The other side is not held back any more."""
        self.blocked = None
        self.found = None

    def disconnected(self) -> None:
        """The other side can't tell us whether it still is. A deadlock that was found is one until it says otherwise."""
        self.blocked = None

    def shift(self, stalled: float) -> None:
        """Our own clock stood still for that time."""
        self._moved += stalled

    def find(self, session: Session, now: float, alone: Callable[[], bool]) -> tuple[Ending, list[Receive]] | None:
        """Return the deadlock, if there is one, and the receives that would wait for ever.

        ``alone`` says whether our program stands still, so that it can't take anything that would end it.
        """
        blocked = self.blocked
        if blocked is None or now - self._moved < self._wait:
            return None
        if blocked.consumed_messages != session.receiver.box.taken:
            return None  # it has not heard yet what else we took
        if blocked.begun == session.receiver.admitted:
            return None  # its next one is admitted, and on its way
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


class HeldBackNotice:
    """When to say in the log that a full box holds us back: after a while, then after ever longer ones."""

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
        """True: to be said now; False: it is over, after it had been said; None: nothing to say."""
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
