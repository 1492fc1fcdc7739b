"""What a pool counts, per party and over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from mpccomm.display import bytes_unit, plot_style, stats_html
from mpccomm.engine.error_messages import ByName
from mpccomm.errors import missing_library

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy import ndarray
    from pandas import DataFrame

    from mpccomm.engine.party import Party
    from mpccomm.protocol.sender import Counters
else:  # optional libraries: where one is missing the annotations can be looked up all the same
    Axes = DataFrame = Any
    ndarray = dict  # takes two parameters as well


@dataclass(frozen=True, slots=True)
class PartyStats:
    """Traffic with one party since the pool was made.

    A message counts as sent once the program has handed it over, and as received once it is here, asked for or not. Bytes are
    those of encoded messages, without framing and repetitions.
    """

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    retries: int
    """Frames that were sent again after a connection was lost."""
    reconnects: int
    round_trip: float | None
    """Seconds, smoothed over the last heartbeats; None as long as none was measured."""
    connected: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def stats_of(party: Party) -> PartyStats:
    """Return the figures of this moment."""
    counters = party.link.counters
    return PartyStats(
        counters.messages_sent,
        counters.messages_received,
        counters.bytes_sent,
        counters.bytes_received,
        counters.resent,
        max(counters.connections - 1, 0),
        party.link.round_trip,
        party.link.connected,
    )


class Stats(Mapping[str, PartyStats]):
    """The figures of all parties at one moment, by name; `total` of them together, and how they came about over time."""

    def __init__(self, parties: Mapping[str, PartyStats], history: History, now: float) -> None:
        self._parties = ByName(parties)
        self._history = history
        self._now = now

    def __getitem__(self, name: str) -> PartyStats:
        return self._parties[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parties)

    def __len__(self) -> int:
        return len(self._parties)

    def __repr__(self) -> str:
        return repr(self._parties)

    def _repr_html_(self) -> str:
        return stats_html(self.to_dict())

    @property
    def total(self) -> PartyStats:
        """All parties together: sums; the round trip of the slowest; connected if all are."""
        parties = list(self._parties.values())
        sums = {name: sum(getattr(party, name) for party in parties) for name in _SUMMED}
        round_trip = max((party.round_trip for party in parties if party.round_trip is not None), default=None)
        return PartyStats(**sums, round_trip=round_trip, connected=all(party.connected for party in parties))

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain dicts by the names of the parties, and `total` under "total", unless that is the name of a party."""
        figures = {name: party.to_dict() for name, party in self.items()}
        figures.setdefault("total", self.total.to_dict())
        return figures

    def to_frame(self) -> DataFrame:
        """Return a DataFrame with a row per party, the last one "total", and a column per figure.

        :raises ImportError: pandas is not installed
        """
        pandas: Any = _library("pandas", "pandas")
        rows = [*self._parties.values(), self.total]
        index = pandas.Index([*self._parties, "total"], name="party")
        frame: DataFrame = pandas.DataFrame([row.to_dict() for row in rows], index=index)
        return frame

    def plot(self, axes: Iterable[Axes] | None = None) -> ndarray[Any, Any]:
        """Draw messages and bytes over time, sent and received, per party; the time is in seconds since the pool started.

        :param axes: two to draw on, for messages and bytes; left out: those of a new figure, to be read on light and dark pages
        :returns: the two
        :raises ImportError: matplotlib is not installed
        """
        pyplot: Any = _library("matplotlib.pyplot", "plot")
        with pyplot.rc_context(plot_style(pyplot.matplotlib) if axes is None else {}):
            drawn: Any = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")[1] if axes is None else axes
            self._draw(drawn)
            if self._parties and axes is None:
                # Beside the panels: names may be long.
                drawn[0].figure.legend(*drawn[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
            elif self._parties:
                drawn[0].legend(frameon=False)
        result: ndarray[Any, Any] = drawn
        return result

    def _draw(self, drawn: Any) -> None:
        rows = self._history.rows(self._now, self._parties.values())
        times = [row.time for row in rows]
        most = max((max(figures[2:]) for figures in rows[-1].figures), default=0)
        units = (1, "messages"), bytes_unit(most)
        for (axis, sent, received), (scale, unit) in zip(_panels(drawn), units, strict=True):
            for at, name in enumerate(self._parties):
                # There are no figures of the time before the party was added.
                counted = [row.figures[at] if at < len(row.figures) else _NOTHING for row in rows]
                color = f"C{at % 10}"
                for figure, style, verb in ((sent, "-", "to"), (received, "--", "from")):
                    values = [figures[figure] / scale for figures in counted]
                    axis.plot(times, values, style, color=color, label=f"{verb} {name}")
            axis.set(xlabel="seconds", ylabel=f"{unit}, sent and received", ylim=(0, None))
            axis.grid(alpha=0.3)
        drawn[0].yaxis.get_major_locator().set_params(integer=True)


_SUMMED = [field.name for field in fields(PartyStats) if field.name not in ("round_trip", "connected")]


def _panels(axes: Any) -> Iterator[tuple[Any, int, int]]:
    """Yield each of the two axes with the indices of the figures that belong there: sent, received."""
    messages, size = axes
    yield messages, 0, 1
    yield size, 2, 3


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(missing_library("this", name, extra)) from error


# -- over time ---------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """What was counted for one party up to some moment."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int


_NOTHING = Counts(0, 0, 0, 0)


class Row(NamedTuple):
    """The figures of all parties at one time, in the order in which they were added; later rows may have more of them."""

    time: float
    """Seconds since the first."""
    figures: tuple[Counts, ...]


class History:
    """How the figures grew, from the first moment to the last, in bounded memory: when it is full every second row goes."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._rows: list[Row] = []
        self._began: float | None = None
        self._pause = 0.0

    def rows(self, now: float, parties: Iterable[PartyStats]) -> list[Row]:
        """Return the rows that there are, and as the last one the figures of now. Any thread may call."""
        began = now if self._began is None else self._began
        rows = [row for row in list(self._rows) if row.time < now - began]
        return [*rows, Row(now - began, tuple(map(_figures, parties)))]

    def sample(self, now: float, parties: Iterable[Party]) -> None:
        """Add a row, unless the last one is recent enough."""
        if self._began is None:
            self._began = now
        time = now - self._began
        if self._rows and time - self._rows[-1].time < self._pause:
            return
        last = self._rows[-1].figures if self._rows else ()
        now_counted = [_figures(party.link.counters) for party in parties]
        # Rows share the figures that have not changed: a pool with many parties that is idle for long needs little memory.
        same = (old if old == new else new for old, new in zip(last, now_counted, strict=False))
        figures = (*same, *now_counted[len(last) :])
        self._rows.append(Row(time, last if figures == last else figures))
        if len(self._rows) >= self._most:
            # A new list: another thread may be looking at the old one.
            self._rows = self._rows[::2]
            self._pause = 0.9 * self._rows[-1].time / (len(self._rows) - 1)


def _figures(counted: PartyStats | Counters) -> Counts:
    return Counts(counted.messages_sent, counted.messages_received, counted.bytes_sent, counted.bytes_received)
