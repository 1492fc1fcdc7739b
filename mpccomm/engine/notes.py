"""How what a recorder has noted becomes the rows of a record."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mpccomm.engine.lanes import Lanes
from mpccomm.engine.trail import Book, Called, ReceivedNote
from mpccomm.protocol.frames import Key, text_of_key
from mpccomm.trace.record import Phase, Receive, Send, Wait


class Undelivered(NamedTuple):
    """A send that has failed, or that is on the way when the record is made."""

    peer: int
    number: int
    key: Key
    size: int
    lane: int
    awaited: bool
    called: float
    encoded: float
    ended: float
    error: str
    """Empty: it is on the way."""


class Waited(NamedTuple):
    """A wait that no message tells of."""

    lane: int
    began: float
    ended: float
    to: list[int]
    of: list[int]
    goes_on: bool


class Stayed(NamedTuple):
    """A stay in a phase."""

    path: str
    lane: int
    began: float
    ended: float


class Making:
    """The rows of a record in the making, of times since ``zero``."""

    def __init__(self, zero: float, lanes: Lanes) -> None:
        self._zero = zero
        self._lanes = lanes
        self._lines: dict[int, int] = {}
        """The places of lanes by their numbers."""
        self.sends: list[Send] = []
        self.receives: list[Receive] = []
        self.waits: list[Wait] = []
        self.phases: list[Phase] = []
        self._awaited: list[int] = []
        """The places of sends that a call waited for."""
        self._waited: dict[int, int] = {}
        """Since when receives were waited for, by their places."""

    def at(self, when: float) -> int:
        """Return a time in nanoseconds since the record began, at the earliest then."""
        return max(round((when - self._zero) * 1e9), 0)

    def _line(self, lane: int) -> int:
        return self._lines.setdefault(lane, len(self._lines))

    @property
    def lanes(self) -> list[str]:
        """The names of the lanes."""
        return [self._lanes.names[number] for number in self._lines]

    @property
    def parents(self) -> list[int]:
        """For each lane the place of the one that has made it; -1: it is not in the record, or a thread."""
        return [self._lines.get(self._lanes.makers[number], -1) for number in self._lines]

    def add_messages(self, book: Book, taken: Mapping[tuple[int, int], float]) -> None:
        """Add the sends and receives; ``taken`` has when the results of futures were asked for, by peer and number."""
        for sent in dict.fromkeys(book.sends()):
            lane, called, encoded, awaited = whole(sent.called)
            times = called, encoded, sent.delivered
            self._add_send(book.peer, sent.number, sent.key, sent.size, lane, awaited, *times, "")
        for received in _last(book.receives()):
            handed = None
            if received.of_future:
                asked = taken.get((book.peer, received.number))
                handed = -1 if asked is None else self.at(asked)
            elif 0 < received.since < received.arrived:
                self._waited[len(self.receives)] = self.at(received.since)
            there = self.at(received.arrived) if received.arrived > self._zero else -1
            begun = self.at(received.begun)
            ended = self.at(received.ended) if received.ended else begun
            self.receives.append(
                Receive(
                    book.peer, received.number, text_of_key(received.key), received.size, self._line(received.lane),
                    begun, there, begun, ended, handed,
                )
            )  # fmt: skip

    def add(self, note: Undelivered | Waited | Stayed) -> None:
        """Add what is noted of something else."""
        if isinstance(note, Undelivered):
            self._add_send(*note, delivered=False)
        elif isinstance(note, Waited):
            times = self.at(note.began), self.at(note.ended)
            self.waits.append(Wait(self._line(note.lane), *times, note.to, note.of, note.goes_on))
        else:
            self.phases.append(Phase(note.path, self._line(note.lane), self.at(note.began), self.at(note.ended)))

    def _add_send(
        self,
        peer: int,
        number: int,
        key: Key,
        size: int,
        lane: int,
        awaited: bool,
        called: float,
        encoded: float,
        ended: float,
        error: str,
        *,
        delivered: bool = True,
    ) -> None:
        if called < self._zero:
            return  # it is from before the record began
        if awaited:
            self._awaited.append(len(self.sends))
        name = text_of_key(key) if key else ""
        queued = self.at(encoded or called)
        returned = self.at(ended) if awaited else queued
        line = self._line(lane)
        there = self.at(ended) if delivered else -1
        self.sends.append(Send(peer, number, name, size, line, self.at(called), queued, there, returned, error))

    def finish(self) -> None:
        """Find out what the waits were for that were noted as such, make those of calls for one message, and sort all."""
        let_return = _when_waited_for(self.sends, self._awaited, self.waits)
        asked_for = _since_asked_for(self.receives, self.waits)
        for place in self._awaited:
            send = self.sends[place]
            if place not in let_return and send.returned > send.encoded:
                goes_on = send.delivered < 0 and not send.error
                self.waits.append(Wait(send.lane, send.encoded, send.returned, [send.peer], [], goes_on))
        for place, since in self._waited.items():
            receive = self.receives[place]
            if place not in asked_for:
                self.receives[place] = receive._replace(called=since)
                self.waits.append(Wait(receive.lane, since, receive.taken, [], [receive.peer]))
        self.sends.sort(key=lambda send: send.encoded)
        self.receives.sort(key=lambda receive: receive.taken)
        self.waits.sort(key=lambda wait: wait.began)
        self.phases.sort(key=lambda phase: phase.began)


def whole(called: Called) -> tuple[int, float, float, bool]:
    """Return the lane of a send, when it was called and encoded, and whether the call waited."""
    return called if len(called) == 4 else (*called, 0.0, True)


def _last(notes: Iterable[ReceivedNote]) -> Iterable[ReceivedNote]:
    """Return the last note of each message: one that went back has more."""
    found: dict[tuple[int, float], ReceivedNote] = {}
    for note in notes:
        message = note.number, note.arrived
        known = found.get(message)
        if known is None or known.begun <= note.begun:
            found[message] = note
    return found.values()


def _when_waited_for(sends: list[Send], awaited: Iterable[int], waits: Iterable[Wait]) -> set[int]:
    """Let each of the sends at those places return when the wait ended that followed it: in its lane and to its party.

    Returns the places of those sends.
    """
    queued: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place in awaited:
        send = sends[place]
        queued.setdefault((send.lane, send.peer), []).append((send.encoded, place))
    for there in queued.values():
        there.sort()
    found = set()
    for wait in waits:
        for peer in wait.to:
            before = queued.get((wait.lane, peer), [])
            last = bisect_right(before, (wait.began, len(sends))) - 1
            # One that was over before is not what it was for: that may be an `asend`, whose handle is waited for.
            if last >= 0 and sends[before[last][1]].returned >= wait.began:
                place = before[last][1]
                sends[place] = sends[place]._replace(returned=max(sends[place].returned, wait.ended))
                found.add(place)
    return found


def _since_asked_for(receives: list[Receive], waits: Iterable[Wait]) -> set[int]:
    """Let each receive begin with the wait that it ended: the last one before it, in its lane and for its party.

    Returns the places of those receives.
    """
    waited: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for wait in sorted(waits, key=lambda wait: wait.ended):
        for peer in wait.of:
            waited.setdefault((wait.lane, peer), []).append((wait.ended, wait.began))
    used: dict[tuple[int, int], int] = {}
    found = set()
    for place, receive in sorted(enumerate(receives), key=lambda one: one[1].taken):
        key = receive.lane, receive.peer
        before = waited.get(key, [])
        last = bisect_right(before, (receive.taken, receive.taken)) - 1
        # One that came after the wait was not what it ended with: its time was over.
        if last >= used.get(key, 0) and receive.arrived <= before[last][0]:
            used[key] = last + 1
            receives[place] = receive._replace(called=before[last][1])
            found.add(place)
    return found
