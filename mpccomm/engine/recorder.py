"""What a pool notes for a timeline: an `mpccomm.engine.observer.Observer` that keeps what it is told, and works it out later.

A hook adds some numbers and texts to a list, no more: no message is kept, and nothing of its contents. When a message or an
acknowledgement arrived is known by the batch that brought it. Now and then what is in the list is packed, column by column. What
belongs to what (which wait was for which message) is found out when the record is made, in `mpccomm.engine.notes`.

What a hook costs is its steps, ten nanoseconds each, and what it leaves behind: numbers and texts are nothing to the collector, but
tuples in place of message ids would cost more than all the rest.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import RLock, get_ident
from time import perf_counter
from typing import Any, Self

from mpccomm.engine.lanes import Lanes, lane, of_tasks, running
from mpccomm.engine.loop_owner import LoopOwner, copied
from mpccomm.engine.notes import OF_FUTURE, RECEIVE, WIDTH, Block, Making, Stayed, Undelivered, Waited, pack
from mpccomm.engine.observer import AT_A_STROKE, Involved
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.link import Link
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.trace.record import Connection, PartyRecord

log = EventLog()

MOST = 1_000_000
"""Notes that are kept, of about 70 bytes each; of later ones only the number is."""
_TOGETHER = 4096
"""Notes that are packed together, at least."""
_NEVER = math.inf


class _Counted:
    """Takes the place of where notes go."""

    number = 0

    def append(self, note: object) -> None:
        self.number += 1

    def __iadd__(self, note: object) -> Self:
        self.number += 1
        return self


class Recorder:
    """One record in the making, of the party of that name and incarnation, with those that ``links`` are to, by name."""

    counting = False
    tell_from = AT_A_STROKE + 1.0

    def __init__(
        self,
        owner: LoopOwner,
        name: str,
        incarnation: bytes,
        links: Callable[[], dict[str, Link]],
        most: int = MOST,
    ) -> None:
        self._owner = owner
        self._name = name
        self._incarnation = incarnation
        self._links = links
        self._most = most
        self._zero = perf_counter()
        self._wall = time.time_ns()
        self._loose: list[Any] = []
        """Notes of messages that are not packed yet: `WIDTH` entries for each."""
        self._packed: list[Block] = []
        self._packing = RLock()
        """Held while notes are packed; a signal handler may ask for the record in the middle of that."""
        self._others: list[Undelivered | Waited | Stayed] = []
        self._lost = _Counted()
        self._notes: list[Any] | _Counted = self._loose
        """Where notes of messages go."""
        self._further: list[Undelivered | Waited | Stayed] | _Counted = self._others
        self._full = False
        self._lanes = Lanes()
        self._peers: dict[tuple[str, str], int] = {}
        self._current: dict[str, int] = {}
        """The place of each party, as the process that it is now, among `_peers`."""
        self._texts: dict[str, int] = {}
        """The places of ids, or of their prefixes where they have numbers."""
        self._taken: dict[tuple[int, int], float] = {}
        """When the results of futures were asked for, by peer and number of the message."""
        self._phases: dict[object, tuple[str, int, float]] = {}
        """Of the stays that go on: the path, the lane, and since when."""
        self._waits: dict[object, tuple[int, float, Involved]] = {}
        """Of the waits that go on, and that no single message tells of: the lane, since when, and for whom."""
        self._connections: list[tuple[int, float, bool]] = []
        for party, link in links().items():
            self._meet(party, link)

    def _meet(self, name: str, link: Link | None) -> int:
        """Note which process a party is now."""
        incarnation = "" if link is None else link.peer.hex()
        peer = self._peers.setdefault((name, incarnation), len(self._peers))
        if self._current.get(name, peer) != peer:
            # Up to now the notes are of the process that it was.
            self._pack()
        self._current[name] = peer
        return peer

    def _peer(self, name: str) -> int:
        peer = self._current.get(name)
        return self._meet(name, self._links().get(name)) if peer is None else peer

    def look(self) -> None:
        """Count the notes that come now, no more, if there are too many. Called now and then, not with each note."""
        if len(self._loose) >= _TOGETHER * WIDTH:
            self._pack()
        if not self._full and self._number >= self._most:
            self._full = True
            self._notes = self._further = self._lost
            log(
                LogEvent.TRACE_FAILED,
                "the trace is full: it has %d notes, and goes on without what comes now; stop it earlier, or trace a part "
                "with pool.trace()",
                self._number,
            )

    @property
    def _number(self) -> int:
        return sum(len(block[0]) for block in self._packed) + len(self._loose) // WIDTH + len(self._others)

    def _pack(self) -> None:
        """Pack the notes of messages that there are by now."""
        with self._packing:
            loose = self._loose[:]
            if loose:
                for name in set(loose[1::WIDTH]):
                    self._peer(name)
                self._packed.append(pack(loose, self._current, self._texts))
                del self._loose[: len(loose)]

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def sends(self, party: str, message: Outgoing) -> bytes:
        """Note when it was encoded."""
        message.encoded = perf_counter()
        return b""

    def sent(self, party: str, message: Outgoing, error: BaseException | None, heard: float) -> None:
        """Note the send."""
        number, called = message.called
        if error is not None:
            self._note_failure(party, message, error)
            return
        if heard < called:
            # Over another wire there are no acknowledgements.
            heard = perf_counter()
        key = message.key
        words, place = (key, -1) if isinstance(key, str) else key
        notes: Any = self._notes
        notes += (
            message.awaited, party, words, place, message.total, message.number, number, called, message.encoded, heard, 0.0
        )  # fmt: skip

    def _note_failure(self, party: str, message: Outgoing, error: BaseException) -> None:
        self._further.append(self._unfinished(party, message, perf_counter(), type(error).__name__))

    def _unfinished(self, party: str, message: Outgoing, now: float, error: str) -> Undelivered:
        number, called = message.called
        # One that failed before it was queued has no id.
        key = getattr(message, "key", "")
        awaited = message.awaited or message.was_awaited
        times = called, message.encoded, now
        return Undelivered(self._peer(party), message.number, key, message.total, number, awaited, *times, error)

    def receives(self, party: str, message: Incoming, since: float, begun: float, asked: float) -> None:
        """Note the receive."""
        owner = self._owner
        # As `LoopOwner.lane`, in fewer steps.
        try:
            number = of_tasks[running[owner.home]] if get_ident() == owner.thread else lane()
        except KeyError:
            number = lane()
        key = message.key
        words, place = (key, -1) if isinstance(key, str) else key
        total = message.total
        ended = begun if total <= AT_A_STROKE and not message.ordered else perf_counter()
        kind = RECEIVE if asked == _NEVER else OF_FUTURE
        notes: Any = self._notes
        notes += (kind, party, words, place, total, message.number, number, since, message.at, begun, ended)

    def taken(self, party: str, message: Incoming) -> None:
        """Note when the result of a future was asked for."""
        if not self._full:
            self._taken[self._peer(party), message.number] = perf_counter()

    def waits(self, involved: Involved, message: bool) -> Callable[[], None] | None:
        """Note the time until the function that is returned is called."""
        if message:
            return None
        begun = lane(), perf_counter(), involved

        def end() -> None:
            self._waits.pop(end, None)
            self._add_wait(*begun)

        self._waits[end] = begun
        return end

    def vain(self, involved: Involved, since: float) -> None:
        """Note the wait."""
        self._add_wait(lane(), since, involved)

    def _add_wait(self, number: int, since: float, involved: Involved) -> None:
        self._further.append(self._wait(number, since, involved, perf_counter()))

    def _wait(self, number: int, since: float, involved: Involved, until: float, *, goes_on: bool = False) -> Waited:
        to = [self._peer(name) for name, sends in involved if sends]
        of = [self._peer(name) for name, sends in involved if not sends]
        return Waited(number, since, until, to, of, goes_on)

    def connection(self, party: str, connected: bool) -> None:
        """Note what became of it; it may be another process of that party."""
        if connected:
            self._meet(party, self._links().get(party))
        self._connections.append((self._peer(party), perf_counter(), connected))

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """Note when a phase begins and ends. It may end in another lane: a generator is closed where it happens to be."""
        if begins:
            self._phases[stay] = path, lane(), perf_counter()
        elif (begun := self._phases.pop(stay, None)) is not None:
            self._further.append(Stayed(*begun, perf_counter()))

    # -- the record ------------------------------------------------------------------------------------------------

    def record(self) -> PartyRecord:
        """Return what was noted up to now. From any thread."""
        made = Making(self._zero, self._lanes)
        now = perf_counter()
        self._pack()
        made.add_messages(list(self._packed), list(self._texts), dict(self._taken))
        for note in (*list(self._others), *self._going_on(now)):
            made.add(note)
        made.finish()
        return PartyRecord(
            self._name,
            self._incarnation.hex(),
            clock_name(),
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
        for name, link in self._links().items():
            for receive in copied(link.mailbox.receives):
                if (number := getattr(receive, "lane", -1)) >= 0:
                    yield self._wait(number, receive.since, ((name, False),), now, goes_on=True)
            for message in copied(link.sender.pending):
                # One that a call has given up is noted as such, though it is on the way.
                if message.called is not None and message.failure is None:
                    yield self._unfinished(name, message, now, "")


def clock_name() -> str:
    """Return a name for the clock that `time.perf_counter` reads here: another on each machine, and in each time namespace."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/time")
    except OSError:
        text = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
