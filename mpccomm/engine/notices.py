"""Notices in the log that calls wait for long: for a party that can't be reached, or for a message that does not come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mpccomm.display import plural
from mpccomm.engine.party_log import describe_box, in_one_line, listed
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.frames import Key, describe_key
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.states import PartyState

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty
    from mpccomm.protocol.sender import Outgoing

_FIRST = 2.0
"""Seconds before the first notice that a party which calls wait for can't be reached."""
_SOON = 1.0
"""Seconds within which a receive that follows one in vain goes on with its waiting."""
_MOST_POLLED = 100
"""Messages of a party that are remembered as asked for in vain."""
_TOGETHER = 1.0
"""Seconds by which a notice may come early, to share a line with that about another party."""


class Absence(NamedTuple):
    """The notice that calls wait for a party which can't be reached."""

    due: float
    """When it is due, for the first time or again."""
    text: str


class Waits(NamedTuple):
    """The calls that wait for a party."""

    receives: Sequence[Receive]
    sends: Sequence[Outgoing]
    ready: bool
    """A `wait_ready` is among them."""

    def __str__(self) -> str:
        sends = plural(len(self.sends), "message to deliver", "messages to deliver") if self.sends else ""
        receives = plural(len(self.receives), "receive") if self.receives else ""
        return ", ".join(filter(None, (sends, receives, "wait_ready" if self.ready else "")))


class _Polled:
    """A message that a program asks for again and again, waiting for a short while each time."""

    __slots__ = ("again", "key", "last", "notice", "since", "taken")

    def __init__(self, key: Key, since: float, notice: float, taken: int) -> None:
        self.key = key
        self.since = self.last = since
        self.notice = notice
        self.taken = taken
        """How many messages the program had taken from the party by then."""
        self.again = False
        """Whether it was asked for more than once: after the first time the program may have given it up."""


class Notices:
    """The notices about the calls that wait for one party. They come at longer and longer intervals."""

    def __init__(self, log: EventLog, party: RemoteParty) -> None:
        self.absence: Absence | None = None
        """The notice that is due next, if the party can't be reached."""
        self._log = log
        self._party = party
        self._pause = 0.0
        self._next = 0.0
        self._polled: dict[Key, _Polled] = {}

    def connected(self) -> None:
        """Note that the party is connected: its next absence is a new one."""
        self._pause = 0.0

    def missing(self, waits: Waits, since: float, now: float) -> None:
        """Note that calls wait for the party, which could not be reached since that time in spite of attempts."""
        party = self._party
        # Parties that are started together come up one after the other, which is worth no notice.
        patient = min(_FIRST, party.settings.timing.waiting_notice)
        due = max(self._next, since + patient)
        if now < due - _TOGETHER:
            return
        if party.link.state is PartyState.REPLACED:
            text = f"waiting for {party}, whose pool made way for another one that has not come yet: {party.trouble} ({waits})"
        elif party.answers:
            text = f"waiting for {party}: {party.trouble} ({waits})"
        elif party.link.counters.connections:
            text = f"waiting for {party}, which was connected before: {party.trouble} ({waits})"
        else:
            text = f"waiting for {party}, which may start later: {party.trouble} ({waits})"
        self.absence = Absence(due, text)

    def told(self, now: float) -> None:
        """Note that the notice was logged; the next one comes after a longer interval."""
        timing = self._party.settings.timing
        self._pause = min(max(2 * self._pause, timing.waiting_notice), timing.waiting_notice_cap)
        self._next = now + self._pause

    def asked_in_vain(self, key: Key, since: float, now: float, notice: float | None = None) -> None:
        """Note that a receive has ended without its message: the program may soon ask again. From any thread.

        :param notice: when its waiting was logged last; None: never
        """
        link = self._party.link
        taken = link.receiver.box.taken
        polled = self._polled.get(key)
        if polled is None or polled.taken != taken or now - polled.last > _SOON:
            if len(self._polled) >= _MOST_POLLED:
                self._polled = {}
            polled = self._polled[key] = _Polled(key, since, since if notice is None else notice, taken)
        else:
            polled.again = True
        polled.last = now
        link.quiet_until = 0.0  # `look_at_receives` is to be called

    def _waiting(self, now: float) -> list[Receive | _Polled]:
        """Return what is waited for now, or again and again."""
        link = self._party.link
        receives: list[Receive | _Polled] = list(link.mailbox.receives())
        if not self._polled:
            return receives
        asked = {receive.key for receive in receives}
        here, taken = link.mailbox.here, link.receiver.box.taken
        self._polled = {
            key: polled
            for key, polled in copy(self._polled).items()
            if key in asked or (now - polled.last <= _SOON and polled.taken == taken and key not in here)
        }
        polled = [one for one in self._polled.values() if one.again or one.key in asked]
        return [*(one for one in receives if one.key not in self._polled), *polled]

    def look_at_receives(self, now: float) -> None:
        """Log the receives that have waited for long, although the party is there."""
        party = self._party
        timing = party.settings.timing
        told: list[Receive | _Polled] = []
        due = False
        for receive in self._waiting(now):
            pause = min(max(timing.waiting_notice, (now - receive.since) / 2), timing.waiting_notice_cap)
            # What will be due before long shares the line.
            if now - receive.notice >= pause / 2:
                told.append(receive)
                due = due or now - receive.notice >= pause
        if not due:
            return
        for receive in told:
            receive.notice = now
        waited = now - min(receive.since for receive in told)
        state = "connected" if party.link.connected else party.trouble
        if len(told) == 1:
            text = "receive of %s from %s has waited for %.0f s; %s; %s"
            self._log(LogEvent.WAITING, text, describe_key(told[0].key), party, waited, state, describe_box(party))
        else:
            text = "%s receives from %s have waited, the first for %.0f s: %s; %s; %s"
            ids = listed([receive.key for receive in told])
            self._log(LogEvent.WAITING, text, f"{len(told):,}", party, waited, ids, state, describe_box(party))


class Noticed(Protocol):
    """A party that notices can be about."""

    name: str
    notices: Notices


def tell_of_absent(log: EventLog, parties: Iterable[Noticed], now: float) -> None:
    """Log the absent parties that calls wait for; all that are due in one line."""
    absent = [(party, party.notices.absence) for party in parties if party.notices.absence is not None]
    if not any(absence.due <= now for _, absence in absent):
        return
    texts = [absence.text for _, absence in absent]
    several = "" if len(texts) == 1 else f"{len(texts):,} parties can't be reached: "
    names = ", ".join(party.name for party, _ in absent)
    log.of(names)(LogEvent.UNREACHABLE, "%s%s", several, in_one_line(texts))
    for party, _ in absent:
        party.notices.told(now)
