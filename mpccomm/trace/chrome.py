"""A record as a trace in the Trace Event Format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing show.

Each party is a process. Its tracks are the threads of its program, with phases, waits, sends and receives; what is on its way to
each other party; and what has arrived from each before it was asked for. Arrows go from sends to receives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mpccomm.files import replace_file
from mpccomm.trace.record import FORMAT, PartyRecord, Receive, Record, Send, Wait

_MOST_ROWS = 8
"""Rows that a track has for slices that overlap; what would need more is left out of the picture."""


class Slice(NamedTuple):
    """Something that lasted."""

    began: int
    ended: int
    name: str
    category: str
    arguments: dict[str, Any]
    flow_out: int = 0
    """The number of the arrow that begins here; 0: none."""
    flow_in: int = 0
    """That of the arrow that ends here."""


def write(record: Record, path: str | Path) -> None:
    """Write a record to a file: all of it, or the file is as it was before.

    :raises OSError: it can't be written
    """
    text = json.dumps(document(record), ensure_ascii=False, separators=(",", ":"))
    # A thread may be called anything: half of a surrogate pair becomes the escape that JSON has for it.
    replace_file(Path(path), text.encode("utf-8", "backslashreplace"))


def document(record: Record) -> dict[str, Any]:
    """Return what stands in the file: the events, and the notes that they are made from."""
    return {
        "displayTimeUnit": "ms",
        "traceEvents": list(events(record)),
        "mpccomm": {"format": FORMAT, "parties": [party.to_json() for party in record.parties]},
    }


def events(record: Record) -> Iterator[dict[str, Any]]:
    """Draw a record: the events of all parties, times in microseconds since the first of them began."""
    # Only whole numbers will do for Perfetto. An arrow has both ends.
    whole = (key for key, pair in record.pairs.items() if None not in pair)
    arrows = {key: number for number, key in enumerate(whole, 1)}
    for process, party in enumerate(record.parties, 1):
        yield from _Process(record, party, process, arrows).events()


class _Process:
    """What is drawn of one party."""

    def __init__(
        self, record: Record, party: PartyRecord, number: int, arrows: dict[tuple[str, str, int], int]
    ) -> None:
        self._arrows = arrows
        self._record = record
        self._party = party
        self._number = number
        self._clock = record.clocks[party.incarnation]
        self._threads = 0

    def events(self) -> Iterator[dict[str, Any]]:
        party = self._party
        yield self._metadata("process_name", 0, name=self._record.name_of(party.incarnation))
        yield self._metadata("process_sort_index", 0, sort_index=self._number)
        for name, rows in self._tracks():
            for row, content in enumerate(rows):
                self._threads += 1
                thread = self._threads
                yield self._metadata("thread_name", thread, name=name if len(rows) == 1 else f"{name} ({row + 1})")
                yield self._metadata("thread_sort_index", thread, sort_index=thread)
                for one in content:
                    yield from self._slice(one, thread)
        self._threads += 1
        for connection in party.connections:
            text = f"{self._peer(connection.peer)}: {connection.what}"
            yield self._event("i", self._threads, connection.at, name=text, cat="connection", s="p")
        if party.connections:
            yield self._metadata("thread_name", self._threads, name="connections")

    def _peer(self, peer: int) -> str:
        name, incarnation = self._party.peers[peer]
        return self._record.name_of(incarnation) if incarnation else name

    def _tracks(self) -> Iterator[tuple[str, list[list[Slice]]]]:
        """Yield the name of each track, and what is on it, in rows."""
        party = self._party
        end = max(party.end, 0)
        lanes: dict[str, list[Slice]] = {}
        for lane, slices in enumerate(self._lanes()):
            # The tasks of one thread take turns there.
            lanes.setdefault(party.lanes[lane].partition("/")[0], []).extend(slices)
        for name, slices in lanes.items():
            # Nothing is left out of these: arrows end there.
            yield name, pack(slices, len(slices))
        for peer in range(len(party.peers)):
            name = self._peer(peer)
            under_way = [
                Slice(send.encoded, send.delivered if send.delivered >= 0 else end, send.id, "delivery", _facts(send))
                for send in party.sends
                if send.peer == peer and send.number >= 0
            ]
            if under_way:
                yield f"on the way to {name}", pack(under_way)
            unread = [
                Slice(receive.arrived, receive.taken, receive.id, "unread", _facts(receive))
                for receive in party.receives
                if receive.peer == peer and 0 <= receive.arrived < receive.called
            ]
            if unread:
                yield f"here from {name}, not asked for yet", pack(unread)

    def _lanes(self) -> list[list[Slice]]:
        """Return what each lane of the program did."""
        party = self._party
        lanes: list[list[Slice]] = [[] for _ in party.lanes]
        for phase in party.phases:
            name = phase.path.rpartition("/")[2]
            ended = phase.ended if phase.ended >= 0 else party.end
            lanes[phase.lane].append(Slice(phase.began, ended, name, "phase", {"phase": phase.path}))
        for send in party.sends:
            flow = self._arrows.get((party.incarnation, party.peers[send.peer][1], send.number), 0)
            name = f"send to {self._peer(send.peer)}"
            lanes[send.lane].append(
                Slice(send.called, max(send.encoded, send.called + 1), name, "send", _facts(send), flow_out=flow)
            )
        for receive in party.receives:
            flow = self._arrows.get((party.peers[receive.peer][1], party.incarnation, receive.number), 0)
            name = f"receive from {self._peer(receive.peer)}"
            lanes[receive.lane].append(
                Slice(receive.taken, receive.returned, name, "receive", _facts(receive), flow_in=flow)
            )
        for wait in party.waits_by_kind():
            lanes[wait.lane].append(Slice(wait.began, wait.ended, self._waiting_for(wait), "wait", {}))
        return lanes

    def _waiting_for(self, wait: Wait) -> str:
        of = ", ".join(map(self._peer, wait.of))
        to = ", ".join(map(self._peer, wait.to))
        parts = [f"for {of}" if of else "", f"until {to} {'has' if len(wait.to) == 1 else 'have'} it" if to else ""]
        return " ".join(["wait", *filter(None, parts)]) + (", and that goes on" if wait.goes_on else "")

    def _slice(self, one: Slice, thread: int) -> Iterator[dict[str, Any]]:
        duration = self._time(one.ended) - self._time(one.began)
        common = {"name": one.name, "cat": one.category}
        yield self._event("X", thread, one.began, **common, dur=round(max(duration, 0.001), 3), args=one.arguments)
        arrow = {"name": "message", "cat": "message"}
        # Where two slices meet, an arrow might be taken for one of the other: all are well inside.
        inside = one.began + (one.ended - one.began) // 2
        if one.flow_out:
            yield self._event("s", thread, inside, **arrow, id=one.flow_out)
        if one.flow_in:
            yield self._event("f", thread, inside, **arrow, id=one.flow_in, bp="e")

    def _time(self, at: int) -> float:
        return (self._clock.common(at) - self._record.origin) / 1000

    def _event(self, kind: str, thread: int, at: int, **more: Any) -> dict[str, Any]:
        return {"ph": kind, "pid": self._number, "tid": thread, "ts": round(self._time(at), 3), **more}

    def _metadata(self, what: str, thread: int, **arguments: Any) -> dict[str, Any]:
        return {"ph": "M", "pid": self._number, "tid": thread, "name": what, "args": arguments}


def _facts(note: Send | Receive) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": note.id, "bytes": note.size}
    if isinstance(note, Send) and note.error:
        facts["error"] = note.error
    return facts


def pack(slices: Iterable[Slice], most: int = _MOST_ROWS) -> list[list[Slice]]:
    """Distribute slices to rows, so that in a row each two follow each other or one holds the other."""
    rows: list[list[Slice]] = []
    open_in: list[list[int]] = []
    for one in sorted(slices, key=lambda found: (found.began, -found.ended)):
        for row, ends in zip(rows, open_in, strict=True):
            while ends and ends[-1] <= one.began:
                ends.pop()
            if not ends or one.ended <= ends[-1]:
                row.append(one)
                ends.append(one.ended)
                break
        else:
            if len(rows) < most:
                rows.append([one])
                open_in.append([one.ended])
    return rows
