"""What a pool notes for a timeline, until the record of it is made.

Notes of messages go along the trails that the parties have, see `mpccomm.engine.trail`. A recorder is told, as an observer, only
of what is rare: failures, waits that no single message tells of, phases and connections. What belongs to what is found out when
the record is made, in `mpccomm.engine.notes`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mpccomm.display import plural
from mpccomm.engine.lanes import Lanes, lane
from mpccomm.engine.loop_owner import LoopOwner, copied
from mpccomm.engine.notes import Making, Stayed, Undelivered, Waited, whole
from mpccomm.engine.observer import Involved
from mpccomm.engine.several import Several
from mpccomm.engine.trail import Book, Trail, joined, without
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.link import Link
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.trace.record import Connection, PartyRecord

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty

log = EventLog()

MOST = 1_000_000
"""Notes that are kept, of about 40 bytes each; of later ones only the number is."""


_REMEMBERED = 1000
"""How many different sets of parties that calls have waited for are remembered."""


class _Counted:
    """Takes the place of where notes go."""

    number = 0

    def append(self, note: object, /) -> None:
        self.number += 1

    def __len__(self) -> int:
        return 0


class _GivenUp:
    """The note of a send that was given up before its message began: as it has its place in the queue, it may begin after all."""

    __slots__ = ("_message", "_note", "_peer")

    def __init__(self, note: Undelivered, message: Outgoing, peer: Callable[[], int]) -> None:
        """``peer`` returns which process the party is now: when it was given up that may not have been known."""
        self._note = note
        self._message: Outgoing | None = message
        self._peer = peer

    def look(self, waiting: Container[int] = ()) -> bool:
        """Take the number, if it has one now; False: it still is among those that wait, by the ids of objects."""
        message = self._message
        if message is not None:
            self._note = self.note
            if message.number < 0 and id(message) in waiting:
                return False
            self._message = None  # its contents are not kept for that
        return True

    @property
    def note(self) -> Undelivered:
        """The note, with the number that the message has by now, and whom that is for."""
        message = self._message
        if message is None or message.number < 0:
            return self._note
        return self._note._replace(peer=self._peer(), number=message.number)


class Recorder:
    """One record in the making, of the party of that name and incarnation, with those ``parties``, by name."""

    def __init__(
        self,
        owner: LoopOwner,
        name: str,
        incarnation: bytes,
        parties: Callable[[], Mapping[str, RemoteParty]],
        most: int = MOST,
    ) -> None:
        self._owner = owner
        self._name = name
        self._incarnation = incarnation
        self._parties = parties
        self._most = most
        self._zero = owner.clock()
        self._wall = time.time_ns()
        self._books: dict[int, Book] = {}
        """The notes of messages, by peer."""
        self._trails: dict[str, Trail] = {}
        """Those of the parties, by name."""
        self._others: list[Undelivered | Waited | Stayed | _GivenUp] = []
        self._given_up: dict[_GivenUp, None] = {}
        """Those of the other notes whose messages may still begin."""
        self._lost = _Counted()
        self._further: list[Undelivered | Waited | Stayed | _GivenUp] | _Counted = self._others
        """Where other notes go."""
        self._full = False
        self._lanes = Lanes()
        self._peers: dict[tuple[str, str], int] = {}
        self._current: dict[str, int] = {}
        """The place of each party, as the process that it is now, among `_peers`."""
        self._taken: dict[tuple[int, int], float] = {}
        """When the results of futures were asked for, by peer and number of the message."""
        self._phases: dict[object, tuple[str, int, float]] = {}
        """Of the stays that go on: the path, the lane, and since when."""
        self._peers_of: dict[Involved, tuple[list[int], list[int]]] = {}
        """Whom waits are for: to whom a call sends, and of whom it receives, by the places of the processes that they are now."""
        self._keys = count()
        self._waits: dict[int, tuple[int, float, Involved]] = {}
        """Of the waits that go on, and that no single message tells of: the lane, since when, and for whom."""
        self._connections: list[tuple[int, float, bool]] = []
        for party in parties().values():
            self.follow(party)

    def follow(self, party: RemoteParty) -> None:
        """Note the messages with that party, too."""
        self._trails[party.name] = trail = Trail()
        self._current.pop(party.name, None)
        self._peers_of = {}
        self._meet(party.name, party.link)
        party.trail = joined(party.trail, trail)

    def leave(self) -> None:
        """Note no more messages."""
        for given_up in list(self._given_up):
            given_up.look()
        for name, party in self._parties().items():
            if name in self._trails:
                party.trail = without(party.trail, self._trails[name])

    def _meet(self, name: str, link: Link | None) -> int:
        """Note which process a party is now."""
        incarnation = "" if link is None else link.peer.hex()
        peer = self._peers.setdefault((name, incarnation), len(self._peers))
        if self._current.get(name) != peer:
            self._current[name] = peer
            self._peers_of = {}
            trail = self._trails.get(name)
            if trail is not None and not self._full:
                trail.turn_to(self._books.setdefault(peer, Book(peer)))
        return peer

    def _peer(self, name: str) -> int:
        peer = self._current.get(name)
        return self._meet(name, self._link(name)) if peer is None else peer

    def _peer_now(self, name: str) -> int:
        link = self._link(name)
        return self._peer(name) if link is None else self._meet(name, link)

    def _link(self, name: str) -> Link | None:
        party = self._parties().get(name)
        return None if party is None else party.link

    def look(self) -> None:
        """Count the notes that come now, no more, if there are too many. Called now and then, not with each note."""
        if self._given_up:
            links = [party.link for party in self._parties().values()]
            waiting = {id(message) for link in links for message in copied(link.sender.pending)}
            for given_up in list(self._given_up):
                if given_up.look(waiting):
                    self._given_up.pop(given_up, None)
        for book in list(self._books.values()):
            book.pack()
        if not self._full and self._number >= self._most:
            self._full = True
            self._further = self._lost
            for trail in self._trails.values():
                trail.end(self._lost)
            self._lanes.close()
            log(
                LogEvent.TRACE_FAILED,
                "the trace is full: it has %s, and goes on without what comes now; stop it earlier, or trace a part "
                "with pool.trace()",
                plural(self._number, "note"),
            )

    @property
    def _number(self) -> int:
        return sum(map(len, self._books.values())) + len(self._others)

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def failed(self, party: str, message: Outgoing, error: BaseException) -> None:
        """Note the send."""
        note = self._unfinished(party, message, self._owner.clock(), type(error).__name__)
        if message.number >= 0 or self._full:
            self._further.append(note)
        else:
            given_up = _GivenUp(note, message, partial(self._peer_now, party))
            self._given_up[given_up] = None
            self._further.append(given_up)

    def _unfinished(self, party: str, message: Outgoing, now: float, error: str) -> Undelivered:
        number, called, encoded, awaited = whole(message.called)
        # One that failed before it was queued has no id.
        key = getattr(message, "key", "")
        times = called, encoded, now
        return Undelivered(self._peer(party), message.number, key, message.total, number, awaited, *times, error)

    def taken(self, party: str, message: Incoming) -> None:
        """Note when the result of a future was asked for."""
        if not self._full:
            self._taken[self._peer(party), message.number] = self._owner.clock()

    def further_waits(self, involved: Involved) -> Callable[[], None]:
        """Note the time until the function that is returned is called."""
        wait = lane(), self._owner.clock(), involved
        key = next(self._keys)
        self._waits[key] = wait
        return partial(self._end_wait, key, wait)

    def _end_wait(self, key: int, wait: tuple[int, float, Involved]) -> None:
        self._waits.pop(key, None)
        self._further.append(self._wait(*wait, self._owner.clock()))

    def vain(self, involved: Involved, since: float) -> None:
        """Note the wait."""
        self._further.append(self._wait(lane(), since, involved, self._owner.clock()))

    def _wait(self, number: int, since: float, involved: Involved, until: float, goes_on: bool = False) -> Waited:
        to, of = self._peers_of.get(involved) or self._find_peers_of(involved)
        return Waited(number, since, until, to, of, goes_on)

    def _find_peers_of(self, involved: Involved) -> tuple[list[int], list[int]]:
        # Where a party is another process by the time that this is found out, it is remembered in vain.
        found = self._peers_of
        if len(found) >= _REMEMBERED:
            found = self._peers_of = {}
        to = [self._peer(name) for name, sends in involved if sends]
        of = [self._peer(name) for name, sends in involved if not sends]
        found[involved] = to, of
        return to, of

    def connection(self, party: str, connected: bool) -> None:
        """Note what became of it; it may be another process of that party."""
        if connected:
            self._meet(party, self._link(party))
        self._connections.append((self._peer(party), self._owner.clock(), connected))

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """Note when a phase begins and ends. It may end in another lane: a generator is closed where it happens to be."""
        if begins:
            self._phases[stay] = path, lane(), self._owner.clock()
        elif (begun := self._phases.pop(stay, None)) is not None:
            self._further.append(Stayed(*begun, self._owner.clock()))

    # -- the record ------------------------------------------------------------------------------------------------

    def record(self) -> PartyRecord:
        """Return what was noted up to now. From any thread: what the program sent from there before is in it."""
        self._owner.catch_up()
        made = Making(self._zero, self._lanes)
        now = self._owner.clock()
        for book in list(self._books.values()):
            made.add_messages(book, dict(self._taken))
        for note in list(self._others):
            made.add(note.note if isinstance(note, _GivenUp) else note)
        for note in self._going_on(now):
            if note.lane in self._lanes.names:  # otherwise it has begun since the trace is full
                made.add(note)
        made.finish()
        return PartyRecord(
            self._name,
            self._incarnation.hex(),
            clock_name(self._owner.clock),
            round(self._zero * 1e9),
            self._wall,
            made.at(now),
            self._lost.number,
            list(self._peers),
            made.lanes,
            made.parents,
            made.sends,
            made.receives,
            made.waits,
            made.phases,
            [
                Connection(peer, made.at(when), "connected" if connected else "connection lost")
                for peer, when, connected in list(self._connections)
            ],
        )

    def _going_on(self, now: float) -> Iterator[Undelivered | Waited | Stayed]:
        """Yield what has not ended yet: stays in phases, waits, and sends that are on the way."""
        for begun in list(self._phases.values()):
            yield Stayed(*begun, now)
        for wait in list(self._waits.values()):
            yield self._wait(*wait, now, goes_on=True)
        for name, party in self._parties().items():
            link = party.link
            for receive in copied(link.mailbox.receives):
                number = getattr(receive, "lane", -1)
                # That for several is noted where it began.
                if number >= 0 and not isinstance(getattr(receive, "waiter", None), Several):
                    yield self._wait(number, receive.since, ((name, False),), now, goes_on=True)
            for message in copied(link.sender.pending):
                # One that a call has given up is noted as such, though it is on the way.
                if message.called is not None and message.failure is None:
                    yield self._unfinished(name, message, now, "")


def clock_name(clock: Callable[[], float]) -> str:
    """Return a name for a clock. That of `time.perf_counter` has another on each machine, and in each time namespace."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/time")
    except OSError:
        text = f"{platform.node()} {uuid.getnode()}"
    if clock is not time.perf_counter:
        text += f"{os.getpid()} {id(clock)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
