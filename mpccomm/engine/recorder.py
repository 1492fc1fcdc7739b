"""What a pool notes for a timeline: an `mpccomm.engine.observer.Observer` that keeps what it is told, and works it out later.

A hook looks at the clock and appends a tuple of plain values, no more: no message is kept, and nothing of its contents. What
belongs to what (which wait was for which message, when a message arrived) is found out when the record is made.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import threading
import time
import uuid
from asyncio import _get_running_loop, current_task
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from threading import get_ident
from time import perf_counter
from typing import Any

from mpccomm.engine.observer import Involved
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.frames import Key, describe_key
from mpccomm.protocol.link import Link
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.trace.record import Connection, PartyRecord, Phase, Receive, Send, Wait

log = EventLog()

MOST = 1_000_000
"""Notes that are kept, of some 200 bytes each; of later ones only the number is."""

_SEND, _RECEIVE, _WAIT, _PHASE, _CONNECTION = range(5)
_Log = list[tuple[int, float]]
"""Up to which frame everything had arrived, and when."""


class _Counted:
    """Takes the place of a list."""

    number = 0

    def append(self, note: object) -> None:
        self.number += 1


_LANE = ContextVar("mpccomm-lane", default=(0, -1))
"""The recorder, by its `id`, that has noted something of this context, and the lane."""


class Recorder:
    """One record in the making, of the party of that name and incarnation, with those that ``links`` are to, by name."""

    def __init__(self, name: str, incarnation: bytes, links: Callable[[], dict[str, Link]], most: int = MOST) -> None:
        self._name = name
        self._incarnation = incarnation
        self._links = links
        self._most = most
        self._zero = perf_counter()
        self._wall = time.time_ns()
        self._notes: list[tuple[Any, ...]] = []
        self._append = self._notes.append
        self._lost = _Counted()
        self._full = False
        self._lanes: dict[int | str, int] = {}
        """Of threads by their numbers, of tasks by their names."""
        self._lane_names: list[str] = []
        self._parents: list[int] = []
        self._peers: dict[tuple[str, str], int] = {}
        self._current: dict[str, int] = {}
        """The place of each party, as the process that it is now, among `_peers`."""
        self._phases: dict[object, tuple[str, int | str, float]] = {}
        """Of the stays that go on: the path, the lane, and since when."""
        self._logs: dict[str, _Log] = {}
        for party, link in links().items():
            self._meet(party, link)
            self._logs[party] = [(link.receiver.received, -math.inf)]

    def _meet(self, name: str, link: Link | None) -> int:
        """Note which process a party is now."""
        incarnation = "" if link is None else link.peer.hex()
        peer = self._current[name] = self._peers.setdefault((name, incarnation), len(self._peers))
        return peer

    def _peer(self, name: str) -> int:
        peer = self._current.get(name)
        return self._meet(name, self._links().get(name)) if peer is None else peer

    def _lane(self) -> int | str:
        """The number of the thread, or the name of the task in it, that calls."""
        loop = _get_running_loop()
        task = None if loop is None else current_task(loop)
        key = get_ident() if task is None else task.get_name()
        if key not in self._lanes:
            self._new_lane(key)
        return key

    def _new_lane(self, key: int | str) -> None:
        thread = threading.current_thread().name.replace("/", "_")
        self._lane_names.append(f"{thread}/{key}" if isinstance(key, str) else thread)
        lane = self._lanes[key] = len(self._lane_names) - 1
        # A task has a copy of the context of the one that made it.
        recorder, parent = _LANE.get()
        self._parents.append(parent if recorder == id(self) else -1)
        _LANE.set((id(self), lane))

    def _leave_out(self) -> None:
        """Count the notes that come now, no more. It is looked for with each batch, not with each note."""
        if not self._full:
            self._full = True
            self._append = self._lost.append
            log(
                LogEvent.TRACE_FAILED,
                "the trace is full: it has %d notes, and goes on without what comes now; stop it earlier, or trace a part "
                "with pool.trace()",
                len(self._notes),
            )

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def sends(self, party: str, message: Outgoing, begun: float) -> bytes:
        """Note the call."""
        now = perf_counter()
        message.noted = begun or now, now, self._lane()
        return b""

    def sent(self, party: str, message: Outgoing, error: Exception | None) -> None:
        """Note the send."""
        noted = message.noted
        if noted is None:
            return  # from before the record began
        now = perf_counter()
        name = "" if error is None else type(error).__name__
        # One that failed before it was queued has no id.
        key = message.key if error is None else getattr(message, "key", "")
        peer = self._current.get(party)
        if peer is None:
            peer = self._peer(party)
        self._append((_SEND, peer, message.number, key, message.total, noted, now, name))

    def taken(self, party: str, message: Incoming) -> None:
        """Nothing to keep: see `receives`."""

    def receives(self, party: str, message: Incoming, begun: float, asked: float) -> None:
        """Note the receive."""
        now = perf_counter()
        peer = self._current.get(party)
        if peer is None:
            peer = self._peer(party)
        log = self._logs.get(party)
        self._append(
            (_RECEIVE, peer, message.number, message.key, message.total, self._lane(), log, message.seq, begun, now)
        )

    def arrived(self, party: str, position: int) -> None:
        """Note up to which frame everything is here."""
        log = self._logs.get(party)
        if log is None or log[-1][0] > position:
            log = self._logs[party] = [(0, -math.inf)]  # another conversation
        if log[-1][0] != position:
            log.append((position, perf_counter()))
        if len(self._notes) >= self._most:
            self._leave_out()

    def waits(self, involved: Involved) -> Callable[[], None]:
        """Note the time until the function that is returned is called."""
        lane = self._lane()
        append = self._append
        begun = perf_counter()

        def end() -> None:
            append((_WAIT, lane, begun, perf_counter(), involved))

        return end

    def connection(self, party: str, connected: bool) -> None:
        """Note what became of it; it may be another process of that party."""
        if connected:
            self._meet(party, self._links().get(party))
        self._append((_CONNECTION, self._peer(party), perf_counter(), connected))

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """Note when a phase begins and ends. It may end in another lane: a generator is closed where it happens to be."""
        if begins:
            self._phases[stay] = path, self._lane(), perf_counter()
        elif (begun := self._phases.pop(stay, None)) is not None:
            self._append((_PHASE, *begun, perf_counter()))

    # -- the record ------------------------------------------------------------------------------------------------

    def record(self) -> PartyRecord:
        """Return what was noted up to now. From any thread."""
        by_kind: list[list[tuple[Any, ...]]] = [[] for _ in range(5)]
        for kind, *note in list(self._notes):
            by_kind[kind].append(tuple(note))
        current = dict(self._current)
        at, lanes = self._at, self._lanes
        end = at(perf_counter())
        waits = [
            Wait(lanes[lane], at(begun), at(ended), *_split(involved, current))
            for lane, begun, ended, involved in by_kind[_WAIT]
        ]
        phases = [Phase(path, lanes[lane], at(began), at(ended)) for path, lane, began, ended in by_kind[_PHASE]]
        phases += [Phase(path, lanes[lane], at(began), end) for path, lane, began in list(self._phases.values())]
        return PartyRecord(
            self._name,
            self._incarnation.hex(),
            clock_name(),
            round(self._zero * 1e9),
            self._wall,
            end,
            self._lost.number,
            list(self._peers),
            list(self._lane_names),
            list(self._parents),
            _when_waited_for(sorted(self._sends(by_kind[_SEND]), key=lambda send: send.encoded), waits),
            _since_asked_for(sorted(self._receives(by_kind[_RECEIVE]), key=lambda receive: receive.taken), waits),
            sorted(waits, key=lambda wait: wait.began),
            sorted(phases, key=lambda phase: phase.began),
            [
                Connection(peer, at(when), "connected" if connected else "connection lost")
                for peer, when, connected in by_kind[_CONNECTION]
            ],
        )

    def _sends(self, notes: Iterable[tuple[Any, ...]]) -> Iterator[Send]:
        at = self._at
        for peer, number, key, size, (called, encoded, lane), ended, error in notes:
            delivered = -1 if error else at(ended)
            if lane in self._lanes:  # otherwise it is from before the record began
                line = self._lanes[lane]
                yield Send(peer, number, _id(key), size, line, at(called), at(encoded), delivered, at(encoded), error)

    def _receives(self, notes: Iterable[tuple[Any, ...]]) -> Iterator[Receive]:
        at = self._at
        for peer, number, key, size, lane, log, seq, begun, ended in notes:
            place = bisect_left(log, (seq, -math.inf)) if log else 0
            arrived = at(log[place][1]) if 0 < place < len(log) else -1
            yield Receive(peer, number, _id(key), size, self._lanes[lane], at(begun), arrived, at(begun), at(ended))

    def _at(self, when: float) -> int:
        """A time in nanoseconds since the record began, at the earliest then."""
        return max(round((when - self._zero) * 1e9), 0)


def _split(involved: Involved, current: dict[str, int]) -> tuple[list[int], list[int]]:
    known = [(current[name], sends) for name, sends in involved if name in current]
    return [peer for peer, sends in known if sends], [peer for peer, sends in known if not sends]


def _id(key: Key) -> str:
    return describe_key(key) if key else ""


def _when_waited_for(sends: list[Send], waits: Iterable[Wait]) -> list[Send]:
    """Let each send return when the wait ended that followed it: of the last one before it, in its lane and to its party."""
    queued: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, send in enumerate(sends):
        queued.setdefault((send.lane, send.peer), []).append((send.encoded, place))
    for wait in waits:
        for peer in wait.to:
            before = queued.get((wait.lane, peer), [])
            last = bisect_right(before, (wait.began, len(sends))) - 1
            if last >= 0:
                place = before[last][1]
                sends[place] = sends[place]._replace(returned=max(sends[place].returned, wait.ended))
    return sends


def _since_asked_for(receives: list[Receive], waits: Iterable[Wait]) -> list[Receive]:
    """Let each receive begin with the wait that it ended: the last one before it, in its lane and for its party."""
    waited: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for wait in sorted(waits, key=lambda wait: wait.ended):
        for peer in wait.of:
            waited.setdefault((wait.lane, peer), []).append((wait.ended, wait.began))
    used: dict[tuple[int, int], int] = {}
    for place, receive in enumerate(receives):
        key = receive.lane, receive.peer
        before = waited.get(key, [])
        last = bisect_right(before, (receive.taken, receive.taken)) - 1
        # One that came after the wait was not what it ended with: its time was over.
        if last >= used.get(key, 0) and receive.arrived <= before[last][0]:
            used[key] = last + 1
            receives[place] = receive._replace(called=before[last][1])
    return receives


def clock_name() -> str:
    """Return a name for the clock that `time.perf_counter` reads here: another on each machine, and in each time namespace."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/time")
    except OSError:
        text = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
