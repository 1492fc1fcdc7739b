"""The record of a run: what one party noted, and what follows from the notes of all.

A trace file is JSON in the Trace Event Format, which Perfetto and chrome://tracing open. Besides the ``traceEvents`` that these
draw it has the key ``mpccomm``, with the notes that the events were made from. Only that key is read again::

    {"traceEvents": [...], "displayTimeUnit": "ns", "mpccomm": {"format": 1, "parties": [PARTY, ...]}}

A file that a pool writes has one PARTY; `merge` puts several together. A PARTY is::

    {"name": "alice",            what it calls itself
     "incarnation": "9f2c...",   of its process, as its peers know it, in hexadecimal
     "clock": "5d41...",         two parties with the same text have read the same clock, so no offset is between them
     "zero": 8123456789012,      what that clock showed at time 0 of the record, in nanoseconds
     "wall": 1764122400000000000 nanoseconds since 1970 at time 0 of the record, by the time of day of its machine
     "end": 812345678,           the time at which it was written
     "lost": 0,                  calls that were not noted since the record was full
     "peers": [["bob", "1b7a..."], ...]     the name under which this party knows each, and its incarnation
     "lanes": ["MainThread", "Task-3", ...] threads and tasks of the program
     "parents": [-1, 0, ...]     for each lane the one that made the task; -1: a thread, or it is unknown
     "sends": [[...], ...], "receives": ..., "waits": ..., "phases": ..., "connections": ...}

Rows are `Send`, `Receive`, `Wait`, `Phase` and `Connection`, field by field; their fields ``peer`` and ``lane`` are places in
``peers`` and ``lanes``. All times are whole nanoseconds on the party's own clock since time 0 of its record. There is never a
payload.

A message is one `Send` and one `Receive` with the same ``number``, of two parties that know each other by their incarnations.
`Record.messages` has them as `Message`, on one clock, with what each depends on. To compute with the order of a whole program
take `PartyRecord.sends` and ``receives``, by ``called``: in one lane the calls follow each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from mpccomm.address import unreadable
from mpccomm.errors import ConfigurationError
from mpccomm.trace.clocks import Clock, Origin, Reading, align

FORMAT = 1

_MOST = 2**62
"""Larger numbers are in no trace: in nanoseconds these are a hundred years."""
_NEVER = ("number", "arrived", "delivered")
"""Where -1 stands for what never happened."""
_PLAIN = {
    **dict.fromkeys(("name", "incarnation", "clock"), str),
    **dict.fromkeys(("zero", "wall", "end", "lost"), int),
    "lanes": list[str],
}
"""What stands in a file about a party itself, and of which kind it is."""
Row = TypeVar("Row", bound=NamedTuple)


class Send(NamedTuple):
    """One send of one message to one party; a broadcast is several."""

    peer: int
    number: int
    """How many messages this party had begun to send to that incarnation before; -1: it never left."""
    id: str
    """As the program wrote it; automatic ones and those of groups as in logs."""
    size: int
    """Bytes, encoded."""
    lane: int
    called: int
    """When the program called: encoding begins."""
    encoded: int
    """When it was encoded, and queued."""
    delivered: int
    """When the acknowledgement was here; -1: never, or not before the record was made."""
    returned: int
    """When the program could go on: that time for ``send``, about ``encoded`` for ``asend``. If that was not before the record was
    made, when that was."""
    error: str = ""
    """The kind of error that the call ended with."""


class Receive(NamedTuple):
    """One receive of one message."""

    peer: int
    number: int
    """The number that the `Send` has."""
    id: str
    size: int
    """Bytes, encoded."""
    lane: int
    called: int
    """When the program began to wait for it; where it was here before it was asked for, the same as ``taken``."""
    arrived: int
    """When the message was complete in this process; -1: never."""
    taken: int
    """When decoding began."""
    returned: int
    """When it was decoded."""
    handed: int | None = None
    """When the program had its value in its hands, where that was later: asked for the result of a future; -1: it never did."""


class Wait(NamedTuple):
    """The time in which a call waited, for one party or several; also where no message came."""

    lane: int
    began: int
    ended: int
    to: list[int]
    """The peers to which it was sending."""
    of: list[int]
    """The peers from which it was receiving."""
    goes_on: bool = False
    """It had not ended when the record was made: ``ended`` is when that was."""


class Phase(NamedTuple):
    """A ``with pool.phase(...)``; the names of those around it and its own, with "/" in between."""

    path: str
    lane: int
    began: int
    ended: int


class Connection(NamedTuple):
    """Something that happened to the connection with a party: "connected", "connected again", "connection lost", or how it left."""

    peer: int
    at: int
    what: str


@dataclass
class PartyRecord:
    """The notes of one party; see the head of this module."""

    name: str
    incarnation: str
    clock: str
    zero: int
    wall: int
    end: int = 0
    lost: int = 0
    peers: list[tuple[str, str]] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    receives: list[Receive] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    def waited(self, *, to_send: bool) -> float:
        """Return for how long calls have waited for messages, or for deliveries, in seconds.

        As in reports, a call that waits for both counts in both, and the waits of one thread at the same time count once.
        """
        return self._length(wait for wait in self.waits if (wait.to if to_send else wait.of))

    def waited_at_all(self) -> float:
        """Return for how long calls have waited for the one or the other, likewise."""
        return self._length(wait for wait in self.waits if wait.to or wait.of)

    def _length(self, waits: Iterable[Wait]) -> float:
        until: dict[str, int] = {}
        length = 0
        for wait in sorted(waits, key=lambda wait: wait.began):
            thread = self.lanes[wait.lane].partition("/")[0]
            counted = max(until.get(thread, 0), wait.began)
            until[thread] = max(counted, wait.ended)
            length += until[thread] - counted
        return length / 1e9

    def waits_by_kind(self) -> Iterator[Wait]:
        """Yield the waits, each for messages or for deliveries alone.

        A call that waits for both, as a collective does, is in two: until the last of its messages was there, and from then on.
        """
        arrived = {(receive.lane, receive.called, receive.peer): receive.arrived for receive in self.receives}
        for wait in self.waits:
            if not (wait.of and wait.to):
                yield wait
                continue
            times = [arrived.get((wait.lane, wait.began, peer), wait.ended) for peer in wait.of]
            there = min(max(wait.began, *times), wait.ended)
            if there > wait.began:
                yield wait._replace(ended=there, to=[], goes_on=wait.goes_on and there == wait.ended)
            if there < wait.ended:
                yield wait._replace(began=there, of=[])

    def to_json(self) -> dict[str, Any]:
        """Return what stands in a file."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> PartyRecord:
        """Read what `to_json` gave.

        :raises KeyError, TypeError, ValueError: it is something else, or what it says can't be
        """
        record = cls(
            **{name: _checked(found[name], kind) for name, kind in _PLAIN.items()},
            parents=_checked(found.get("parents", []), list[int]),
            peers=[(_checked(name, str), _checked(incarnation, str)) for name, incarnation in found["peers"]],
            sends=_rows(Send, found["sends"]),
            receives=_rows(Receive, found["receives"]),
            waits=_rows(Wait, found["waits"]),
            phases=_rows(Phase, found["phases"]),
            connections=_rows(Connection, found["connections"]),
        )
        record._check_places()
        record._check_names()
        return record

    def _check_places(self) -> None:
        lanes, peers = range(-1, len(self.lanes)), range(len(self.peers))
        in_lanes: list[Any] = [*self.sends, *self.receives, *self.waits, *self.phases]
        with_peers: list[Any] = [*self.sends, *self.receives, *self.connections]
        of_waits = (peer for wait in self.waits for peer in (*wait.to, *wait.of))
        known = all(row.lane in lanes for row in in_lanes) and all(parent in lanes for parent in self.parents)
        if not known or not all(peer in peers for peer in (*(row.peer for row in with_peers), *of_waits)):
            raise ValueError("it names lanes or peers that are not in it")
        if len(self.parents) not in (0, len(self.lanes)):
            raise ValueError("not every lane has a parent")
        through = {-1}
        for lane in range(len(self.parents)):
            makers: dict[int, None] = {}
            while lane not in through:
                if lane in makers:
                    raise ValueError("a task has made itself")
                makers[lane] = None
                lane = self.parents[lane]
            through.update(makers)

    def _check_names(self) -> None:
        # As a pool does: these are printed. (Ids and threads may be called anything, and are not.)
        names = [self.name, self.incarnation, *(text for peer in self.peers for text in peer)]
        names += [name for phase in self.phases for name in phase.path.split("/")]
        for name in set(names):
            if shortcoming := unreadable(name):
                raise ValueError(shortcoming)


def _rows(kind: type[Row], found: Any) -> list[Row]:
    """Return rows of a file as what they are to be."""
    rows = [kind(*row) for row in found]
    # Column by column, for the sake of time.
    for (name, wanted), column in zip(get_type_hints(kind).items(), zip(*rows, strict=True), strict=bool(rows)):
        if not all(map(_IS[wanted], column)) or (wanted is int and name not in _NEVER and min(column) < 0):
            raise TypeError(f"{name} of {kind.__name__}")
    return rows


def _checked(value: Any, kind: Any) -> Any:
    """Return a value if it is of that kind."""
    if not _IS[kind](value):
        raise TypeError(f"of type {type(value).__name__}")
    return value


def _is_number(value: Any) -> bool:
    return type(value) is int and -_MOST < value < _MOST


def _is_text(value: Any) -> bool:
    return type(value) is str


_IS: dict[Any, Callable[[Any], bool]] = {
    int: _is_number,
    str: _is_text,
    bool: lambda value: type(value) is bool,
    int | None: lambda value: value is None or _is_number(value),
    list[int]: lambda value: type(value) is list and all(map(_is_number, value)),
    list[str]: lambda value: type(value) is list and all(map(_is_text, value)),
}
"""What a value has to be that is read as one of that kind."""


class Message(NamedTuple):
    """A message as both its parties saw it. Times are nanoseconds on the clock of the record; None where it was not noted."""

    sender: str
    receiver: str
    id: str
    size: int
    called: int | None = None
    """When its sender called."""
    encoded: int | None = None
    """When it was queued."""
    arrived: int | None = None
    """When it was complete at its receiver."""
    delivered: int | None = None
    """When its sender had the acknowledgement."""
    send_returned: int | None = None
    """When the sender's program could go on."""
    asked: int | None = None
    """When its receiver began to wait for it; the same as ``taken`` where it was here before."""
    taken: int | None = None
    """When decoding began."""
    received: int | None = None
    """When the receiver's program had its value in its hands: of a future, when its result was asked for."""
    after: int | None = None
    """What it depends on: the place, in `Record.messages`, of the message that its sender's program had received before it
    called; of several the last at the end of the longest chain; None: none. The chain of these is what makes rounds."""


@dataclass
class Record:
    """The notes of one party or several, on one clock: that of the first."""

    parties: list[PartyRecord]

    @cached_property
    def clocks(self) -> dict[str, Clock]:
        """By incarnation, how to read the clock of each party."""
        origins = {party.incarnation: Origin(party.clock, party.zero, party.wall) for party in self.parties}
        return align(origins, self._readings())

    @property
    def names(self) -> list[str]:
        """The names of the parties that wrote the notes."""
        return [self.name_of(party.incarnation) for party in self.parties]

    def name_of(self, incarnation: str) -> str:
        """Return what to call a party: what it calls itself, or else what others call it; unlike any other."""
        return self._names.get(incarnation, incarnation[:8] or "?")

    @cached_property
    def _names(self) -> dict[str, str]:
        called = {incarnation: name for party in self.parties for name, incarnation in party.peers if incarnation}
        called |= {party.incarnation: party.name for party in self.parties if party.name}
        names: dict[str, str] = {}
        for incarnation, name in called.items():
            # One that was started again has the same name.
            again = sum(other == name or other.startswith(f"{name} (") for other in names.values())
            names[incarnation] = f"{name} ({again + 1})" if again else name
        return names

    @cached_property
    def origin(self) -> int:
        """When the first of the parties began, on the clock of the record: pictures begin there."""
        return min((self.clocks[party.incarnation].common(0) for party in self.parties), default=0)

    def time(self, party: PartyRecord, at: int) -> int | None:
        """Return a time of a party on the clock of the record; None where it is unknown there."""
        return None if at < 0 else self.clocks[party.incarnation].common(at)

    @cached_property
    def pairs(self) -> dict[tuple[str, str, int], tuple[Send | None, Receive | None]]:
        """Each message that has a number, by sender, receiver (their incarnations) and number, with the notes of both."""
        pairs: dict[tuple[str, str, int], tuple[Send | None, Receive | None]] = {}
        for party in self.parties:
            for send in party.sends:
                if send.number >= 0:
                    pairs[party.incarnation, party.peers[send.peer][1], send.number] = send, None
        for party in self.parties:
            for receive in party.receives:
                if receive.number >= 0:
                    key = party.peers[receive.peer][1], party.incarnation, receive.number
                    pairs[key] = pairs.get(key, (None, None))[0], receive
        return pairs

    def _readings(self) -> Iterable[Reading]:
        for (sender, receiver, _), (send, receive) in self.pairs.items():
            if send is not None and receive is not None and send.delivered >= 0 and receive.arrived >= 0:
                yield Reading(sender, receiver, send.encoded, receive.arrived, send.delivered)

    @cached_property
    def messages(self) -> list[Message]:
        """All messages, in the order of the calls that sent them."""
        by_incarnation = {party.incarnation: party for party in self.parties}
        found = []
        for (sender, receiver, _), (send, receive) in self.pairs.items():
            note = send or receive
            assert note is not None
            message = Message(self.name_of(sender), self.name_of(receiver), note.id, note.size)
            if send is not None:
                here = by_incarnation[sender]
                message = message._replace(
                    called=self.time(here, send.called),
                    encoded=self.time(here, send.encoded),
                    delivered=self.time(here, send.delivered),
                    send_returned=self.time(here, send.returned),
                )
            if receive is not None:
                there = by_incarnation[receiver]
                message = message._replace(
                    arrived=self.time(there, receive.arrived),
                    asked=self.time(there, receive.called),
                    taken=self.time(there, receive.taken),
                    received=self.time(there, receive.returned if receive.handed is None else receive.handed),
                )
            found.append(message)
        found.sort(key=_begin)
        return _with_dependencies(found)

    @cached_property
    def missing(self) -> list[str]:
        """The parties that messages went to or came from, and whose notes are not here."""
        here = {party.incarnation for party in self.parties}
        found: dict[str, None] = {}
        for party in self.parties:
            notes: list[Send | Receive] = [*party.sends, *party.receives]
            for note in notes:
                name, incarnation = party.peers[note.peer]
                if note.number >= 0 and incarnation not in here:
                    found[self.name_of(incarnation) if incarnation else name] = None
        return list(found)

    @cached_property
    def runs(self) -> list[list[PartyRecord]]:
        """The parties run by run, those of the latest run last.

        Of several runs they are if two processes of one party are among those that they know, and no chain of parties that have
        met leads from one to the other.
        """
        groups: list[tuple[set[str], list[PartyRecord]]] = []
        for party in self.parties:
            known = {party.incarnation, *(incarnation for _, incarnation in party.peers if incarnation)}
            members = [party]
            for group in [group for group in groups if group[0] & known]:
                groups.remove(group)
                known |= group[0]
                members = [*group[1], *members]
            groups.append((known, members))
        called = [(name, place) for place, (_, members) in enumerate(groups) for name in _called(members)]
        if len(called) == len({name for name, _ in called}):
            return [self.parties]  # perhaps pairs, of which none had to do with another
        return sorted((members for _, members in groups), key=lambda members: members[0].wall)

    @property
    def depth(self) -> int | None:
        """How many rounds the recorded messages took: the longest chain of which each depends on the one before it.

        None: that can't be known, as the notes of some parties are `missing`; a chain ends at these.
        """
        if self.missing:
            return None
        depths: list[int] = []
        for message in self.messages:
            depths.append(1 if message.after is None else depths[message.after] + 1)
        return max(depths, default=0)


def _called(members: Iterable[PartyRecord]) -> set[str]:
    """Return the names of these parties, and of those that they have met."""
    names = {party.name for party in members if party.name}
    return names | {name for party in members for name, incarnation in party.peers if incarnation}


def _begin(message: Message) -> int:
    at = message.called if message.called is not None else message.taken
    assert at is not None
    return at


def _with_dependencies(messages: list[Message]) -> list[Message]:
    """Say of each message, in the order of the calls, after which one it was sent."""
    received: dict[str, list[tuple[int, int]]] = {}
    for place, message in enumerate(messages):
        if message.received is not None:
            received.setdefault(message.receiver, []).append((message.received, place))
    for taken in received.values():
        taken.sort(reverse=True)
    last: dict[str, int] = {}
    depths: list[int] = []
    linked = []
    for place, message in enumerate(messages):
        sender = message.sender
        waiting = received.get(sender, [])
        while message.called is not None and waiting and waiting[-1][0] <= message.called:
            _, other = waiting.pop()
            # Later than this one only where clocks could not be aligned. Of all that were received the one at the end of the
            # longest chain counts.
            if other < place and (sender not in last or depths[other] >= depths[last[sender]]):
                last[sender] = other
        after = None if message.called is None else last.get(sender)
        depths.append(1 if after is None else depths[after] + 1)
        linked.append(message._replace(after=after))
    return linked


def load(*paths: str | os.PathLike[str]) -> Record:
    """Read trace files, of one party each or of several, as one record.

    :raises ConfigurationError: one of them is no trace of mpccomm
    :raises OSError: one can't be read
    """
    parties: dict[str, PartyRecord] = {}
    for path in paths:
        for party in _read(Path(path)):
            known = parties.get(party.incarnation)
            # The same party twice, perhaps written at two times: the later one has it all.
            if known is None or known.end < party.end:
                parties[party.incarnation] = party
    return Record(list(parties.values()))


def _read(path: Path) -> Sequence[PartyRecord]:
    nothing = ConfigurationError(
        f"{path} is no trace of mpccomm; such files come from Settings(trace=...), pool.trace(...) or mpccomm run --trace"
    )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["mpccomm"]
        spoken = found["format"]
        parties = [PartyRecord.from_json(party) for party in found["parties"]] if spoken == FORMAT else []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise nothing from error
    if spoken != FORMAT:
        raise ConfigurationError(
            f"{path} is a trace of format {spoken!r:.40}; this version of mpccomm reads format {FORMAT}"
        )
    return parties
