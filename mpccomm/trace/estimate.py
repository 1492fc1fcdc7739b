"""What a recorded run would have taken on other lines: the longest path through what depends on what.

Everything in a record that has a time is an event: a call begins or ends, a message arrives, or its acknowledgement. Each comes
after those that it depends on, and how much later than the last of them stays as it was recorded: it is what the program
computes. Only messages are different: they take what their line has them take, behind those that were sent on it before. So all
times follow from the first ones.

What depends on what:

* In one lane (thread or task) of a program, a call on the end of the call before.
* A wait ends with the messages, or acknowledgements, that it was for.
* A task begins after the latest event of the one that made it. A task that did nothing for a while, and goes on after one that it
  had made has ended its work, has waited for that one. The same holds of the main thread and other threads; how these wait for
  each other is not known.

An acknowledgement that an ``asend`` left to be waited for later is no dependency: its handle's wait is not recorded.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import median
from typing import NamedTuple, TypeAlias

from mpccomm.line import Direction, Line
from mpccomm.trace.record import PartyRecord, Phase, Receive, Record, Send, Wait

LineBetween: TypeAlias = Callable[[str, str], Line]
"""The line between two parties, by their names."""

_FRAMING = 50
"""Bytes around a message, about: the library's own, the WebSocket's, and those of TLS."""
_SMALL = 4096
"""Bytes up to which a message takes hardly longer to handle than an empty one."""
_HANDLING = 0.001
"""Seconds: what the fastest message takes longer than that was on a line already, when the run was recorded."""
_SET_UP = 2
"""Round trips until there is a connection: TCP and HTTP."""


_MAIN = "MainThread"
_ARRIVED, _DELIVERED, _CONNECTED = "arrived", "delivered", "connected"


class Path(NamedTuple):
    """Where the time goes on the longest path, in seconds."""

    messages: int
    """How many follow each other there."""
    acknowledgements: int
    """How many of those are waited for there."""
    travelling: float
    """Half a round trip for each message and acknowledgement."""
    line: float
    """Getting onto a line, and waiting for messages before."""
    handling: float
    """From a program to the line, and from there to the other program, as recorded."""
    computing: float
    """Everything between, as recorded."""
    starting: float
    """From the first event of all to the first one on the path: until its party has begun, and is connected."""


class PhaseEstimate(NamedTuple):
    """What one phase takes, at the party where it takes longest."""

    path: str
    recorded: float
    estimated: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes, in seconds."""

    recorded: float
    estimated: float
    path: Path
    phases: list[PhaseEstimate]
    recorded_rtt: float
    """Of the lines that the run was recorded over, of the longest one; 0: there were none to speak of."""


class _Event:
    """Something with a time."""

    __slots__ = ("after", "before", "cause", "kind", "lag", "message", "missing", "recorded", "time")

    def __init__(self, recorded: float, kind: str = "") -> None:
        self.recorded = recorded
        self.kind = kind
        self.after: list[_Event] = []
        """The events that it depends on."""
        self.before: list[_Event] = []
        """The events that depend on it."""
        self.missing = 0
        self.lag = 0.0
        self.time = -math.inf
        self.cause: _Event | None = None
        """The last of what it depends on."""
        self.message: _Message | None = None
        """That of which it is a part."""

    def depend_on(self, *others: _Event) -> None:
        """Make it depend on these events as well."""
        for other in others:
            if other is not self and other not in self.after:
                self.after.append(other)
                other.before.append(self)


class _RecordedLine(NamedTuple):
    """One direction between two parties, as it was."""

    delay: float
    handling: float
    """Seconds that a small message took on top of that."""


@dataclass(eq=False)
class _Message:
    sender: str
    receiver: str
    size: int
    entered: _Event
    """It is sent, and there is a connection."""
    arrived: _Event
    delivered: _Event
    back: float = 0.0
    """Seconds that the acknowledgement was on its way."""
    travelling: float = 0.0
    line: float = 0.0

    @property
    def transit(self) -> float:
        """The seconds that it took, as recorded."""
        return max(self.arrived.recorded - self.entered.recorded, 0.0)

    def cross(self, direction: Direction, recorded: _RecordedLine) -> None:
        """Enter a line: now it is known when it arrives, and its acknowledgement.

        What was recorded as handling a large message happens while the rest of it is on the line, unless it takes longer.
        """
        now = self.entered.time
        onto = direction.enter(self.size + _FRAMING, now)
        self.line = onto - now
        self.travelling = direction.line.delay
        handling = max(self.transit - recorded.delay, 0.0)
        on_line = self.line + self.travelling
        self.arrived.lag = max(on_line + min(handling, recorded.handling), handling)
        self.delivered.lag = max(self.delivered.lag - self.back, 0.0) + direction.line.delay


@dataclass(eq=False)
class _Call:
    """From one event to another, in a lane of a party."""

    lane: int
    begin: _Event
    end: _Event
    of: Send | Receive | Wait | Phase


@dataclass
class _Party:
    """One party's events."""

    record: PartyRecord
    name: str
    calls: list[_Call] = field(default_factory=list)
    connected: dict[int, _Event] = field(default_factory=dict)


def estimate(record: Record, between: LineBetween) -> Estimate:
    """Return what a run takes on other lines.

    :param between: gives the line between two parties
    :raises ValueError: there is nothing in the record, or what it says can't have been
    """
    graph = _Graph(record)
    graph.run(between)
    return graph.result()


class _Graph:
    """All events of a run."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._events: list[_Event] = []
        self._messages: dict[tuple[str, str, int], _Message] = {}
        """By sender, receiver (their incarnations) and number."""
        self._sent: dict[_Call, _Message] = {}
        self._recorded_delay = 0.0
        """The longest one, in seconds."""
        self._parties = [_Party(party, record.name_of(party.incarnation)) for party in record.parties]
        for party in self._parties:
            self._add_calls(party)
        for party in self._parties:
            self._add_messages(party)
        for party in self._parties:
            self._order(party)
            self._join(party)
        for event in self._events:
            latest = max((other.recorded for other in event.after), default=event.recorded)
            event.lag = max(event.recorded - latest, 0.0)
        if not any(party.calls for party in self._parties):
            raise ValueError("no call was recorded")

    def _event(self, party: _Party, at: int, kind: str = "") -> _Event:
        event = _Event(self._record.clocks[party.record.incarnation].common(at) / 1e9, kind)
        self._events.append(event)
        return event

    # -- what there is -------------------------------------------------------------------------------------------------

    def _add_calls(self, party: _Party) -> None:
        notes = party.record
        for send in notes.sends:
            self._add_call(party, send.lane, send.called, send.encoded, send)
        for receive in notes.receives:
            self._add_call(party, receive.lane, receive.taken, receive.returned, receive)
        for wait in notes.waits:
            self._add_call(party, wait.lane, wait.began, wait.ended, wait)
        for phase in notes.phases:
            # Its two ends, each for itself.
            for at in (phase.began, phase.ended):
                self._add_call(party, phase.lane, at, at, phase)
        for connection in notes.connections:
            if connection.what.startswith("connected") and connection.peer not in party.connected:
                party.connected[connection.peer] = self._event(party, connection.at, _CONNECTED)
        party.calls.sort(key=lambda call: (call.begin.recorded, call.end.recorded))

    def _add_call(self, party: _Party, lane: int, began: int, ended: int, of: Send | Receive | Wait | Phase) -> None:
        begin, end = self._event(party, began), self._event(party, max(began, ended))
        end.depend_on(begin)
        party.calls.append(_Call(lane, begin, end, of))

    def _add_messages(self, party: _Party) -> None:
        """Have those that the party has sent depend on its calls, and add what follows from them."""
        pairs = self._record.pairs
        by_incarnation = {other.record.incarnation: other for other in self._parties}
        for call in party.calls:
            send = call.of
            if not isinstance(send, Send) or send.number < 0:
                continue
            key = party.record.incarnation, party.record.peers[send.peer][1], send.number
            receive = pairs.get(key, (None, None))[1]
            there = by_incarnation.get(key[1])
            if there is None:
                continue
            if receive is not None and receive.arrived >= 0:
                arrived = self._event(there, receive.arrived, _ARRIVED)
            elif send.delivered >= 0:
                arrived = self._event(party, (send.encoded + send.delivered) // 2, _ARRIVED)
            else:
                continue
            entered = self._event(party, send.encoded)
            entered.depend_on(call.end)
            connected = party.connected.get(send.peer)
            if connected is not None and connected.recorded > entered.recorded:
                entered.recorded = connected.recorded
                entered.depend_on(connected)
            delivered = self._event(party, max(send.delivered, send.encoded), _DELIVERED)
            message = _Message(party.name, there.name, send.size, entered, arrived, delivered)
            entered.message = arrived.message = delivered.message = message
            self._messages[key] = self._sent[call] = message
            arrived.depend_on(entered)
            delivered.depend_on(arrived)

    # -- what depends on what ------------------------------------------------------------------------------------------

    def _order(self, party: _Party) -> None:
        """Let each call come after those before it."""
        # Where messages are decoded on a loop, for the caller that asks first, no program runs.
        programs = {call.lane for call in party.calls if isinstance(call.of, Send | Wait | Phase)}
        calls = [call for call in party.calls if call.lane in programs]
        lanes: dict[int, list[_Call]] = {}
        for call in calls:
            lanes.setdefault(call.lane, []).append(call)
        begins = {lane: [call.begin.recorded for call in found] for lane, found in lanes.items()}
        ends = sorted(((call.end.recorded, place, call) for place, call in enumerate(calls)), key=lambda one: one[:2])
        end_times = [recorded for recorded, _, _ in ends]
        parents = _parents(party.record, lanes)
        for lane, found in lanes.items():
            previous: _Call | None = None
            for call in found:
                begin = call.begin
                if previous is None:
                    before = [event for event in _both(lanes.get(parents[lane], ())) if event.recorded < begin.recorded]
                    if before:
                        begin.depend_on(max(before, key=lambda event: event.recorded))
                else:
                    begin.depend_on(previous.end)
                    low, high = bisect_right(end_times, previous.end.recorded), bisect_right(end_times, begin.recorded)
                    for _, _, other in ends[low:high]:
                        if (
                            other.lane != lane
                            and _may_wait_for(parents, lane, other.lane)
                            and _idle(lanes[other.lane], begins[other.lane], other, begin.recorded)
                        ):
                            begin.depend_on(other.end)
                # Calls can overlap in a lane, as the sends of a broadcast.
                if previous is None or call.begin.recorded >= previous.end.recorded:
                    previous = call

    def _join(self, party: _Party) -> None:
        """Let receives and waits end with what they were for."""
        received: dict[int, list[_Call]] = {}
        for call in party.calls:
            if isinstance(call.of, Receive):
                received.setdefault(call.of.peer, []).append(call)
                if (message := self._message_to(party, call.of)) is not None:
                    call.begin.depend_on(message.arrived)
        taken: set[_Call] = set()
        sent: dict[tuple[int, int], list[_Call]] = {}
        for call in party.calls:
            if isinstance(call.of, Send):
                sent.setdefault((call.lane, call.of.peer), []).append(call)
        for call in sorted(party.calls, key=lambda call: call.end.recorded):
            wait = call.of
            if not isinstance(wait, Wait):
                continue
            for peer in wait.of:
                self._wait_for_message(party, call, wait, received.get(peer, []), taken)
            for peer in wait.to:
                self._wait_for_delivery(call, sent.get((wait.lane, peer), []))
            if not wait.of and not wait.to:
                for connected in party.connected.values():
                    if call.begin.recorded <= connected.recorded <= call.end.recorded:
                        call.end.depend_on(connected)

    def _message_to(self, party: _Party, receive: Receive) -> _Message | None:
        key = party.record.peers[receive.peer][1], party.record.incarnation, receive.number
        return self._messages.get(key)

    def _wait_for_message(
        self, party: _Party, call: _Call, wait: Wait, received: list[_Call], taken: set[_Call]
    ) -> None:
        best: _Call | None = None
        for other in received:
            receive = other.of
            assert isinstance(receive, Receive)
            if other in taken or not wait.began <= receive.arrived <= wait.ended:
                continue
            same = receive.lane == wait.lane
            if same and receive.called == wait.began:
                best = other
                break
            # Decoded on the loop, before the task that waits goes on.
            if not same and receive.returned <= wait.ended:
                best = other
        if best is None:
            return
        taken.add(best)
        if best.end.recorded <= call.end.recorded and best.lane != call.lane:
            call.end.depend_on(best.end)
        elif isinstance(best.of, Receive) and (message := self._message_to(party, best.of)) is not None:
            call.end.depend_on(message.arrived)

    def _wait_for_delivery(self, call: _Call, sent: list[_Call]) -> None:
        for other in reversed(sent):
            if other.end.recorded <= call.begin.recorded and (message := self._sent.get(other)) is not None:
                # What had been delivered before was not waited for then, but may be elsewhere.
                call.end.depend_on(message.delivered)
                return

    # -- when it happens -----------------------------------------------------------------------------------------------

    def run(self, between: LineBetween) -> None:
        """Give every event its time."""
        recorded_lines = self._recorded_lines()
        self._recorded_delay = max((line.delay for line in recorded_lines.values()), default=0.0)
        directions: dict[tuple[str, str], Direction] = {}
        due: list[tuple[float, int, _Event]] = []
        numbers = {event: number for number, event in enumerate(self._events)}
        for event, number in numbers.items():
            event.missing = len(event.after)
            if not event.after:
                event.time = event.recorded
                if event.kind == _CONNECTED:
                    event.time += _SET_UP * max((between(*pair).rtt for pair in recorded_lines), default=0.0)
                heapq.heappush(due, (event.time, number, event))
        while due:
            # In the order of time: who enters a line first is first.
            _, _, event = heapq.heappop(due)
            message = event.message
            if message is not None and event is message.entered:
                pair = message.sender, message.receiver
                if pair not in directions:
                    directions[pair] = Direction(replace(between(*pair), jitter=0.0), Random(0))
                message.cross(directions[pair], recorded_lines[pair])
            for other in event.before:
                other.missing -= 1
                if other.cause is None or event.time >= other.cause.time:
                    other.cause = event
                if not other.missing:
                    other.time = other.cause.time + other.lag
                    heapq.heappush(due, (other.time, numbers[other], other))
        if any(event.missing for event in self._events):
            raise ValueError("of some of its messages each comes before the other")

    def _recorded_lines(self) -> dict[tuple[str, str], _RecordedLine]:
        """Return what lay between the parties already, when the run was recorded."""
        transits: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for message in self._messages.values():
            transits.setdefault((message.sender, message.receiver), []).append((message.size, message.transit))
        found = {}
        for pair, those in transits.items():
            least = min(transit for _, transit in those)
            delay = least if least > _HANDLING else 0.0
            small = [transit for size, transit in those if size <= _SMALL] or [least]
            found[pair] = _RecordedLine(delay, max(median(small) - delay, 0.0))
        for message in self._messages.values():
            back = found.get((message.receiver, message.sender))
            message.back = 0.0 if back is None else back.delay
        return found

    # -- what came of it -----------------------------------------------------------------------------------------------

    def result(self) -> Estimate:
        """Sum up, once all events have their times."""
        events = [event for party in self._parties for call in party.calls for event in (call.begin, call.end)]
        last = max(events, key=lambda event: event.time)
        first = min(event.time for event in events)
        recorded = [event.recorded for event in events]
        return Estimate(
            max(recorded) - min(recorded),
            last.time - first,
            _path(last, first),
            self._phases(),
            2 * self._recorded_delay,
        )

    def _phases(self) -> list[PhaseEstimate]:
        found: dict[str, PhaseEstimate] = {}
        for party in self._parties:
            stays: dict[str, list[tuple[_Event, _Event]]] = {}
            begun: dict[Phase, _Event] = {}
            for call in party.calls:
                phase = call.of
                if not isinstance(phase, Phase):
                    continue
                if phase not in begun:
                    begun[phase] = call.begin
                    continue
                stays.setdefault(phase.path, []).append((begun.pop(phase), call.end))
            for path, those in stays.items():
                # As in reports: where several threads or tasks are in it at the same time, that counts once.
                recorded = _covered((begin.recorded, end.recorded) for begin, end in those)
                estimated = _covered((begin.time, end.time) for begin, end in those)
                longest = found.get(path)
                if longest is None or estimated > longest.estimated:
                    found[path] = PhaseEstimate(path, recorded, estimated)
        return list(found.values())


def _covered(stays: Iterable[tuple[float, float]]) -> float:
    """Return for how long at least one of these lasts."""
    length, until = 0.0, -math.inf
    for begin, end in sorted(stays):
        length += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return length


def _path(last: _Event, first: float) -> Path:
    """Follow the causes of an event back to one that has none."""
    messages, acknowledgements, travelling, line, handling, computing = 0, 0, 0.0, 0.0, 0.0, 0.0
    event = last
    while event.cause is not None:
        took = event.time - event.cause.time
        message = event.message
        if message is not None and event.kind in (_ARRIVED, _DELIVERED):
            messages += event.kind == _ARRIVED
            acknowledgements += event.kind == _DELIVERED
            travelling += message.travelling
            queued = message.line if event.kind == _ARRIVED else 0.0
            line += queued
            handling += took - message.travelling - queued
        else:
            computing += took
        event = event.cause
    return Path(messages, acknowledgements, travelling, line, handling, computing, event.time - first)


def _both(calls: Iterable[_Call]) -> Iterator[_Event]:
    for call in calls:
        yield call.begin
        yield call.end


def _parents(record: PartyRecord, lanes: Mapping[int, Sequence[_Call]]) -> list[int]:
    """For each lane, the one that made it: of a thread the main one, of a second event loop what its thread did before."""
    parents = list(record.parents) or [-1] * len(record.lanes)
    latest: dict[str, int] = {}
    for lane in sorted(lanes, key=lambda lane: lanes[lane][0].begin.recorded):
        thread = record.lanes[lane].partition("/")[0]
        if parents[lane] < 0:
            parents[lane] = latest.get(thread, latest.get(_MAIN, -1))
            latest[thread] = lane
    return parents


def _may_wait_for(parents: list[int], lane: int, other: int) -> bool:
    """Return whether a lane has made another one, or what has made that."""
    for _ in parents:
        other = parents[other]
        if other in (lane, -1):
            return other == lane
    return False


def _idle(lane: list[_Call], begins: list[float], last: _Call, at: float) -> bool:
    """Return whether a lane does nothing at that time, and that call was its last one before."""
    place = bisect_right(begins, at) - 1
    return lane[place] is last and last.end.recorded <= at
