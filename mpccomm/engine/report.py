"""Where the time of a protocol goes: phases, waiting, traffic and rounds, as `Pool.phase` and `Pool.report` count them.

*Rounds* are the length of the longest chain of messages of which each was sent after the one before it was received. A message
carries its depth, the length of the longest such chain that it ends, in its annotation; a party's depth is the largest among the
messages that its program has received, and what it sends next is one deeper. That is what papers count, and it is exact, whatever
the parties do at the same time; it covers the parties that count (a party that does not, and one of tno.mpc.communication, ends
every chain). In a phase only messages count that were sent and received in the phase of that name.

Nothing in here waits, and no lock is held: every thread counts for itself, and a report adds up.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import time
from binascii import crc32
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias

from mpccomm.address import unreadable
from mpccomm.display import TOTAL, report_html, report_text
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.observer import ROUNDS, Involved, fields_of, pack_field
from mpccomm.engine.per_thread import PerThread
from mpccomm.engine.rounds import Depths
from mpccomm.engine.scopes import Block, Stay, Stays
from mpccomm.engine.stats import PartyStats, Stats
from mpccomm.errors import missing_library
from mpccomm.files import replace_file
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing

if TYPE_CHECKING:
    from pandas import DataFrame
else:  # an optional library: where it is missing the annotation can be looked up all the same
    DataFrame = Any

MAX_NESTING = 3
"""The phases that may be nested: each has its own rounds, which its messages carry."""
_DEPTH = Struct("!I")
_IN_PHASE = Struct("!II")
_DEEPEST = 2**32 - 1
_WHOLE = Struct("!BBI")
"""The field of an annotation that has a depth alone."""
_pack_whole, _unpack_whole = _WHOLE.pack, _WHOLE.unpack
_LONGEST = 100
"""Characters in the name of a phase."""
_MANY = 4096
"""Stays in one phase that are kept one by one."""
Paths: TypeAlias = tuple[str, ...]
"""Those of phases that go on, from the outermost inwards; the first is the whole."""
_ALL: Paths = ("",)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted in one phase, with one party or with all. Times are in seconds.

    Time is counted once where several threads or tasks are in the same phase. Waiting counts for each thread; the tasks of one
    event loop that wait at the same time count once. CPU time is that of the whole process.
    """

    seconds: float | None = None
    """How long the program was in the phase; None for a single party."""
    receiving: float | None = None
    """The part of it in which calls waited to receive; None where it is not counted."""
    sending: float | None = None
    """The part of it in which calls waited for a send to be delivered."""
    cpu: float | None = None
    messages_sent: int = 0
    messages_received: int = 0
    """By the program: a message counts when a receive returns it."""
    bytes_sent: int = 0
    bytes_received: int = 0
    rounds: int | None = None


class Report(Mapping[str, Figures]):
    """The figures of each phase, all parties together, by the name of the phase; "" is the whole, phases or not.

    Each phase is followed by those that are nested in it, however late those were entered. Print it, show it in a notebook, or turn
    it into a dict or a DataFrame.
    """

    def __init__(self, pool: str, phases: Mapping[str, Figures], parties: Mapping[str, Mapping[str, Figures]]) -> None:
        self.pool = pool
        """The name of this party, if it has one."""
        self.parties: dict[str, dict[str, Figures]] = {phase: dict(figures) for phase, figures in parties.items()}
        """The figures of each phase by party."""
        self._phases = {phase: phases[phase] for phase in _nested(phases)}

    def __getitem__(self, phase: str) -> Figures:
        try:
            return self._phases[phase]
        except KeyError:
            known = ", ".join(map(repr, self._phases))
            whole = f"where '' is the whole, which tables call {TOTAL!r}"
            raise KeyError(f"no phase {phase!r} was entered; there are {known}, {whole}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._phases)

    def __len__(self) -> int:
        return len(self._phases)

    @property
    def rounds(self) -> int | None:
        """The rounds of the whole; None where they are not counted."""
        return self._phases[""].rounds

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts: by phase, the figures, and under "parties" those of each party."""
        return {
            phase: {
                **asdict(figures),
                "parties": {party: asdict(one) for party, one in self.parties.get(phase, {}).items()},
            }
            for phase, figures in self.items()
        }

    def to_frame(self) -> DataFrame:
        """Return a DataFrame with a row per phase and party, the party "" for all together, and a column per figure.

        :raises ImportError: pandas is not installed
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise ImportError(missing_library("this", "pandas", "pandas")) from error
        keys, rows = zip(*self.rows(), strict=True)
        index = pandas.MultiIndex.from_tuples(keys, names=["phase", "party"])
        frame: DataFrame = pandas.DataFrame([asdict(row) for row in rows], index=index)
        return frame

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file: as JSON, or as CSV where the name of the file ends in that; times are in seconds.

        :raises OSError: the file can't be written
        """
        text = io.StringIO(newline="")
        if str(path).lower().endswith(".csv"):
            writer = csv.writer(text)
            writer.writerow(["phase", "party", *(field.name for field in fields(Figures))])
            writer.writerows([*key, *asdict(row).values()] for key, row in self.rows())
        else:
            json.dump({"pool": self.pool, "phases": self.to_dict()}, text, indent=1)
        replace_file(Path(path), text.getvalue().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Return what `save` has written as JSON.

        :raises OSError: the file can't be read
        :raises ValueError: it is no such file
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            by_party = {phase: figures.pop("parties") for phase, figures in data["phases"].items()}
            return cls(
                data["pool"],
                {phase: Figures(**figures) for phase, figures in data["phases"].items()},
                {phase: {name: Figures(**one) for name, one in all_.items()} for phase, all_ in by_party.items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is no report: {error}") from error

    def rows(self) -> Iterator[tuple[tuple[str, str], Figures]]:
        """Yield the figures one by one: of a phase, then of each party in it."""
        for phase, figures in self.items():
            yield (phase, ""), figures
            for party, one in self.parties.get(phase, {}).items():
                yield (phase, party), one

    def __str__(self) -> str:
        return report_text(self.pool, self.to_dict())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return report_html(self.pool, self.to_dict())


def _nested(phases: Iterable[str]) -> list[str]:
    """Return the phases so that each is followed by those inside of it: tables show by the order alone in which one lies."""
    chains = {phase: _around(phase) for phase in phases}
    places: dict[str, int] = {}
    for phase in itertools.chain.from_iterable(chains.values()):
        places.setdefault(phase, len(places))
    return sorted(chains, key=lambda phase: [places[one] for one in chains[phase]])


def _around(phase: str) -> list[str]:
    """Return the paths of the phases that one lies in, from the outermost inwards, and its own."""
    return list(itertools.accumulate(phase.split("/"), "{}/{}".format))


# -- phases ------------------------------------------------------------------------------------------------------------


class Phase(Block["_Stay"]):
    """A part of the program, from `Pool.phase`: entered by ``with`` (or ``async with``), and as often as wanted."""

    def __init__(self, reporter: Reporter, owner: LoopOwner, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a phase is a text, not {type(name).__name__}")
        if shortcoming := _shortcoming(name):
            shown = f"{name!r}" if len(name) <= _LONGEST else f"{name[:40]!r}..."
            raise ValueError(f"a phase can't be called {shown}: {shortcoming}")
        super().__init__(_entered, f"<the phase {name!r}>")
        self.name = name
        self._reporter = reporter
        self._owner = owner

    def _begin(self, outer: _Stay | None) -> _Stay:
        """Count from now, inside of the phases of the same pool that go on."""
        stay = _Stay(self, outer, self._reporter, self._owner, self.name)
        stay.begin()
        return stay


def _shortcoming(name: str) -> str:
    if not name or "/" in name:
        return "its name is a text without '/', and not empty"
    if name == TOTAL:
        return "in a report that is the row of all phases; take another name"
    if len(name) > _LONGEST:
        return f"its name has {len(name):,} characters; up to {_LONGEST} have room in a report"
    return unreadable(name)


class _Stay(Stay):
    """One stay in a phase: where it lies, and since when."""

    __slots__ = ("begun", "code", "owner", "path", "reporter")

    path: str
    """The names of the phases that it was entered in, and its own."""

    def __init__(self, block: Phase, outer: _Stay | None, reporter: Reporter, owner: LoopOwner, name: str) -> None:
        super().__init__(block, outer, owner.clock)
        self.reporter = reporter
        self.owner = owner
        around = _stays_of(reporter)
        if len(around) >= MAX_NESTING:
            raise ValueError(f"phases nest at most {MAX_NESTING} deep: {name!r} within {around[-1].path!r}")
        self.path = f"{around[-1].path}/{name}" if around else name
        self.code = crc32(self.path.encode())
        self.begun = (0.0, 0.0)

    def begin(self) -> None:
        """Count for it from now on."""
        self.reporter.enter(self)
        self._tell(begins=True)

    def end(self) -> None:
        """Stop counting for it; idempotent."""
        super().end()
        self.reporter.leave(self)
        self._tell(begins=False)

    def _tell(self, *, begins: bool) -> None:
        observers = self.owner.observers
        if observers is not None:
            for hook in observers.phase:
                hook(self.path, self, begins)


_entered: Stays[_Stay] = Stays("mpccomm.phase")


def _stays_of(reporter: Reporter, at: float = math.inf) -> list[_Stay]:
    """Return those of this pool that go on here, or did at a time, from the outermost inwards: others may be in between."""
    if _entered.last() is None:
        return []
    return [stay for stay in _entered.at(at) if stay.reporter is reporter][::-1]


# -- counting ----------------------------------------------------------------------------------------------------------


class _Span:
    """Time during which at least one call waited."""

    __slots__ = ("since", "total", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.since = self.total = 0.0

    def until(self, now: float) -> float:
        return self.total + (now - self.since if self.waiting else 0.0)


class _Spans(tuple[_Span, ...]):
    """Those that the wait of one call is part of."""

    clock: Callable[[], float]

    def end(self) -> None:
        """The wait, which was counted in each of them, has ended."""
        now = self.clock()
        for span in self:
            span.waiting -= 1
            if not span.waiting:
                span.total += now - span.since


class _Tally:
    """What one thread has counted, in one phase and with one party (or with all, for waiting)."""

    __slots__ = ("bytes_received", "bytes_sent", "messages_received", "messages_sent", "receiving", "sending")

    def __init__(self) -> None:
        self.messages_sent = self.messages_received = self.bytes_sent = self.bytes_received = 0
        self.receiving = _Span()
        self.sending = _Span()


class _Thread:
    """What one thread has counted."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], _Tally] = {}
        """By phase and party; "" for all."""
        self.spans: dict[Paths, dict[Involved, _Spans]] = {}
        """Those that a wait for one party is part of, in phases."""
        self.whole_spans: dict[Involved, _Spans] = self.spans.setdefault(_ALL, {})
        """The same where no phase goes on."""
        self.whole: dict[str, _Tally] = {}
        """Those that are of no phase, by party."""
        self.depth = 0
        """The largest depth among all messages."""
        self.deepest: dict[str, int] = {}
        """The same in each phase."""

    def tally(self, path: str, party: str) -> _Tally:
        found = self.tallies.get((path, party))
        if found is None:
            found = self.tallies[path, party] = _Tally()
            if not path:
                self.whole[party] = found
        return found

    def deepen(self, path: str, depth: int) -> None:
        if not path:
            self.depth = max(self.depth, depth)
        elif depth > self.deepest.get(path, 0):
            self.deepest[path] = depth


def _merge(total: _Thread, ended: _Thread) -> bool:
    tallies = ended.tallies.values()
    if any(span.waiting for tally in tallies for span in (tally.receiving, tally.sending)):
        return False
    for (path, party), tally in ended.tallies.items():
        found = total.tally(path, party)
        for name in _SUMMED:
            setattr(found, name, getattr(found, name) + getattr(tally, name))
        found.receiving.total += tally.receiving.total
        found.sending.total += tally.sending.total
    for path, depth in ("", ended.depth), *ended.deepest.items():
        total.deepen(path, depth)
    return True


def _deepen(depths: dict[str, int], path: str, depth: int, thread: _Thread) -> None:
    if depth > depths.get(path, 0):
        depths[path] = depth
        thread.deepen(path, depth)


class Reporter:
    """The observer that counts for reports, see `mpccomm.engine.observer`."""

    def __init__(self, owner: LoopOwner) -> None:
        self._threads = PerThread(_Thread, _merge)
        self._own = self._threads.local
        self._depths = Depths(owner)
        self._clock = owner.clock
        self._begun = self._clock(), time.process_time()
        self._ended: tuple[float, float] | None = None
        self._stays: dict[str, deque[tuple[float, float, float, float]]] = {}
        """For each phase, when it was entered and left, by the clock and by CPU time."""
        self._open: dict[int, _Stay] = {}

    def _paths(self, at: float = math.inf) -> Paths:
        if _entered.last() is None:
            return _ALL
        return ("", *(stay.path for stay in _stays_of(self, at)))

    # -- phases ----------------------------------------------------------------------------------------------------

    def enter(self, stay: _Stay) -> None:
        """A phase begins."""
        stay.begun = self._clock(), time.process_time()
        self._open[id(stay)] = stay
        # The tasks that are made in the phase go on from this one.
        self._depths.scope()

    def leave(self, stay: _Stay) -> None:
        """A phase ends; idempotent."""
        if id(stay) not in self._open:
            return
        # Noted first: a stay that is noted twice, where a signal comes in between, counts once.
        stays = self._stays.setdefault(stay.path, deque())
        stays.append((stay.begun[0], self._clock(), stay.begun[1], time.process_time()))
        self._open.pop(id(stay), None)
        if len(stays) > _MANY:
            stays.extend(_merged(_emptied(stays)))

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def sends(self, party: str, message: Outgoing) -> bytes:
        """Count a message, and give it its depth."""
        if message.futile:
            return b""
        try:
            thread: _Thread = self._own.own
        except AttributeError:
            thread = self._threads.here()
        stays = () if _entered.last() is None else _stays_of(self)
        depth = 1 + self._depths.at("")
        if not stays and depth < _DEEPEST:
            # As `_count_sent`: nearly every message.
            tally = thread.whole.get(party) or thread.tally("", party)
            tally.messages_sent += 1
            tally.bytes_sent += message.total
            if depth > thread.depth:
                thread.depth = depth
            return _pack_whole(ROUNDS, _DEPTH.size, depth)
        paths = ("", *(stay.path for stay in stays))
        depths = [min(1 + self._depths.at(path), _DEEPEST) for path in paths]
        for path, depth in zip(paths, depths, strict=True):
            tally = thread.tally(path, party)
            tally.messages_sent += 1
            tally.bytes_sent += message.total
            thread.deepen(path, depth)
        content = _DEPTH.pack(depths[0]) + b"".join(map(_IN_PHASE.pack, (stay.code for stay in stays), depths[1:]))
        return pack_field(ROUNDS, content)

    def receives(self, party: str, message: Incoming, begun: float, asked: float) -> None:
        """Count a message. One that is not for a future is in the hands of the program now."""
        try:
            thread: _Thread = self._own.own
        except AttributeError:
            thread = self._threads.here()
        size = message.total
        tally = thread.whole.get(party) or thread.tally("", party)
        tally.messages_received += 1
        tally.bytes_received += size
        if _entered.last() is not None:
            for path in self._paths(asked)[1:]:
                tally = thread.tally(path, party)
                tally.messages_received += 1
                tally.bytes_received += size
        if asked == math.inf:
            self._be_as_deep(message.annotation, thread)

    def taken(self, party: str, message: Incoming) -> None:
        """Go on from the depth of the message, if it is deeper."""
        self._be_as_deep(message.annotation, self._threads.here())

    def callback(self) -> None:
        """What it receives counts for the calling task."""
        self._depths.scope()

    def _be_as_deep(self, annotation: bytes, thread: _Thread) -> None:
        here = _entered.last() is not None
        if len(annotation) == _WHOLE.size and annotation[0] == ROUNDS and not here:
            depth = _unpack_whole(annotation)[2]
            depths = self._depths.scope().depths
            if depth > depths.get("", 0):
                depths[""] = depth
                if depth > thread.depth:
                    thread.depth = depth
            return
        content = fields_of(annotation).get(ROUNDS, b"")
        if len(content) < _DEPTH.size or (len(content) - _DEPTH.size) % _IN_PHASE.size:
            return
        depths = self._depths.scope().depths
        _deepen(depths, "", _DEPTH.unpack_from(content)[0], thread)
        if here and (stays := _stays_of(self)):
            carried = dict(_IN_PHASE.iter_unpack(content[_DEPTH.size :]))
            for stay in stays:
                _deepen(depths, stay.path, carried.get(stay.code, 0), thread)

    def waits(self, involved: Involved) -> Callable[[], None]:
        """Count the time until the function that is returned is called."""
        try:
            thread: _Thread = self._own.own
        except AttributeError:
            thread = self._threads.here()
        spans = thread.whole_spans.get(involved) if _entered.last() is None else None
        if spans is None:
            spans = self._spans(thread, involved, self._paths())
        now = self._clock()
        for span in spans:
            if not span.waiting:
                span.since = now
            span.waiting += 1
        return spans.end

    def _spans(self, thread: _Thread, involved: Involved, paths: Paths) -> _Spans:
        known = thread.spans.setdefault(paths, {})
        if involved in known:
            return known[involved]
        found = []
        for path in paths:
            sides = [("", sends) for sends in {sends for _, sends in involved}]
            for party, sends in (*sides, *involved):
                tally = thread.tally(path, party)
                found.append(tally.sending if sends else tally.receiving)
        spans = _Spans(found)
        spans.clock = self._clock
        if len(involved) == 1:
            known[involved] = spans
        return spans

    # -- the report ------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let no more time count: the pool is ending, and its program waits for nothing any more."""
        self._ended = self._clock(), time.process_time()

    def report(self, pool: str, parties: Iterable[str]) -> Report:
        """Return what was counted up to now, or up to the end."""
        now, cpu = self._ended or (self._clock(), time.process_time())
        threads = self._threads.all()
        lengths = {"": (now - self._begun[0], cpu - self._begun[1]), **self._lengths(now, cpu)}
        names = list(parties)
        phases, by_party = {}, {}
        for path, (seconds, used) in lengths.items():
            each = {party: _figures(threads, path, party, now) for party in names}
            by_party[path] = each
            together = _figures(threads, path, "", now)
            sums = {name: sum(getattr(one, name) for one in each.values()) for name in _SUMMED}
            rounds = max((thread.deepest.get(path, 0) if path else thread.depth for thread in threads), default=0)
            phases[path] = replace(together, seconds=seconds, cpu=used, rounds=rounds, **sums)
        return Report(pool, phases, by_party)

    def _lengths(self, now: float, cpu: float) -> dict[str, tuple[float, float]]:
        """Return how long each phase has lasted, by the clock and by CPU time, in the order of their beginnings."""
        stays = {path: list(there) for path, there in list(self._stays.items())}
        for stay in list(self._open.values()):
            stay.look()
        for stay in list(self._open.values()):
            stays.setdefault(stay.path, []).append((stay.begun[0], now, stay.begun[1], cpu))
        found = {}
        for path, there in sorted(stays.items(), key=lambda item: min(item[1])):
            merged = _merged(there)
            found[path] = (
                sum(end - begin for begin, end, _, _ in merged),
                sum(end - begin for _, _, begin, end in merged),
            )
        return found


def joint(reports: Sequence[Report]) -> Report:
    """Return the report of all parties together: each phase with the figures of each party in place of those *with* each party.

    The figures of a phase are sums; of times other than CPU time, and of rounds, the largest counts.
    """
    phases: dict[str, dict[str, Figures]] = {}
    for number, report in enumerate(reports):
        for phase, figures in report.items():
            phases.setdefault(phase, {})[report.pool or f"party {number}"] = figures
    return Report("", {phase: _together(list(figures.values())) for phase, figures in phases.items()}, phases)


def _together(figures: Sequence[Figures]) -> Figures:
    def over(combine: Callable[[list[Any]], Any], name: str) -> Any:
        found = [getattr(one, name) for one in figures if getattr(one, name) is not None]
        return combine(found) if found else None

    largest = {name: over(max, name) for name in ("seconds", "receiving", "sending", "rounds")}
    return Figures(**largest, **{name: over(sum, name) for name in ("cpu", *_SUMMED)})


def keep(report: Report, path: Path, log: EventLog) -> None:
    """Write a report at the end of its pool: if it can't be written that is only told."""
    try:
        report.save(path)
    except OSError as error:
        log(LogEvent.TRACE_FAILED, "the report can't be written: %s", error)


_SUMMED = ("messages_sent", "messages_received", "bytes_sent", "bytes_received")


def _figures(threads: Iterable[_Thread], path: str, party: str, now: float) -> Figures:
    tallies = [tally for thread in threads if (tally := thread.tallies.get((path, party))) is not None]
    return Figures(
        receiving=sum(tally.receiving.until(now) for tally in tallies),
        sending=sum(tally.sending.until(now) for tally in tallies),
        **{name: sum(getattr(tally, name) for tally in tallies) for name in _SUMMED},
    )


def _emptied(stays: deque[tuple[float, float, float, float]]) -> Iterator[tuple[float, float, float, float]]:
    """Take out one after the other: another thread may do the same, or add more."""
    while True:
        try:
            yield stays.popleft()
        except IndexError:
            return


def _merged(stays: Iterable[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """Return the stays as ones that don't overlap; of CPU time, from the first beginning to the last end."""
    found: list[tuple[float, float, float, float]] = []
    for begin, end, cpu_begin, cpu_end in sorted(stays):
        if found and begin <= found[-1][1]:
            first, last, cpu_first, cpu_last = found[-1]
            found[-1] = first, max(end, last), min(cpu_first, cpu_begin), max(cpu_last, cpu_end)
        else:
            found.append((begin, end, cpu_begin, cpu_end))
    return _without_gaps(found)


def _without_gaps(stays: list[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """Return them as they are, or, where they are many, one of their length together that ends with the last."""
    if len(stays) <= _MANY // 2:
        return stays
    old, recent = stays[: -_MANY // 4], stays[-_MANY // 4 :]
    end, cpu_end = old[-1][1], old[-1][3]
    length = sum(stay[1] - stay[0] for stay in old)
    used = sum(stay[3] - stay[2] for stay in old)
    return [(end - length, end, cpu_end - used, cpu_end), *recent]


def traffic_alone(pool: str, stats: Stats) -> Report:
    """Return the report of a pool that has counted nothing but its traffic."""
    parties = {party: _traffic(figures) for party, figures in stats.items()}
    return Report(pool, {"": _traffic(stats.total)}, {"": parties})


def _traffic(stats: PartyStats) -> Figures:
    return Figures(**{name: getattr(stats, name) for name in _SUMMED})
