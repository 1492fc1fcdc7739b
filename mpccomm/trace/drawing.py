"""A record as a picture, with matplotlib: a row per party, what it waited for, and a line for each message.

A figure of its own can be read on light and on dark pages, or has the colours of the style that is set (``plt.style``); what a wait
is has a colour of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from mpccomm.display import number_text, plot_style, plural, some
from mpccomm.errors import missing_library
from mpccomm.trace.record import Message, PartyRecord, Phase, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECEIVING = "#d4a72c"
SENDING = "#8a7fd6"
CODING = "#e5534b"
_HEIGHT = 0.34
_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
_MOST_HEADS = 2000
"""Up to this number, messages get the head of an arrow; of more it would be all that one sees."""
_PHASES = 0.28
"""The part of a row in which phases have their names: as high a band for each that goes on at a time."""
_MOST_LEVELS = 6
"""Bands of a row; phases that would need more share the last one."""
_MOST_LABELS = 40
"""Stays in phases that get their name in the picture."""


class _Bar(NamedTuple):
    begin: int
    end: int


def plot(record: Record, ax: Axes | None = None) -> Axes:
    """Draw a record, and return the axes.

    :param ax: what to draw on; left out: a new figure
    :raises ImportError: matplotlib is not installed
    """
    try:
        pyplot: Any = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(missing_library("this", "matplotlib.pyplot", "plot")) from error
    rows = _rows(record)
    with pyplot.rc_context(plot_style(pyplot.matplotlib) if ax is None else {}):
        axes: Axes = ax or pyplot.subplots(figsize=_size(record), layout="constrained")[1]
        _Picture(record, axes, rows).draw()
    return axes


def _size(record: Record) -> tuple[float, float]:
    """Return the width and the height of a figure, in inches."""
    return 10, 1.3 + (0.7 + 0.2 * max(_levels(record), 1)) * max(len(_rows(record)), 1)


def _levels(record: Record) -> int:
    """Return how many phases of a party go on at a time."""
    return max((level + 1 for party in record.parties for level, _ in _bands(party)), default=0)


def _bands(party: PartyRecord) -> list[tuple[int, Phase]]:
    """Each stay in a phase, together with those in the same that overlap it, and the band for it.

    A phase lies below those around it, and below others that go on at the time: of another task, for one.
    """
    together: dict[str, list[Phase]] = {}
    for phase in sorted(party.phases, key=lambda phase: phase.began):
        stays = together.setdefault(phase.path, [])
        if stays and phase.began <= stays[-1].ended:
            stays[-1] = stays[-1]._replace(ended=max(stays[-1].ended, phase.ended))
        else:
            stays.append(phase)
    free = [0] * _MOST_LEVELS
    """From when on there is nothing in each band."""
    found = []
    for phase in sorted(chain(*together.values()), key=lambda phase: (phase.began, -phase.ended)):
        level = phase.path.count("/")
        while level < _MOST_LEVELS - 1 and free[level] > phase.began:
            level += 1
        free[level] = max(free[level], phase.ended)
        found.append((level, phase))
    return found


def _rows(record: Record) -> dict[str, int]:
    """Return a row for each party, also for those that only the notes of others mention."""
    names = dict.fromkeys(record.names)
    for message in record.messages:
        names.update(dict.fromkeys((message.sender, message.receiver)))
    return {name: row for row, name in enumerate(names)}


class _Picture:
    def __init__(self, record: Record, axis: Any, rows: dict[str, int]) -> None:
        self._record = record
        self._axis = axis
        self._rows = rows
        self._band = _PHASES / max(_levels(record), 1)
        self._origin = 0
        self._origin, end = self._extent()
        self._length = max(end - self._origin, 1)
        self._scale, self._unit = next(((scale, unit) for scale, unit in _UNITS if self._length >= scale), _UNITS[-1])

    def draw(self) -> None:
        from matplotlib.patches import Patch

        axis = self._axis
        used = {}
        for party in self._record.parties:
            row = self._rows[self._record.name_of(party.incarnation)]
            self._draw_phases(party, row)
            axis.hlines(
                row, 0, self._x(min(self._common(party, party.end), self._length)), "0.5", linewidth=1, zorder=1
            )
            for label, colour, bars in self._bars(party):
                if bars:
                    spans = [(self._x(bar.begin), self._x(bar.end) - self._x(bar.begin)) for bar in bars]
                    axis.broken_barh(spans, (row - _HEIGHT / 2, _HEIGHT), facecolors=colour, linewidth=0, zorder=2)
                    used[label] = colour
        self._draw_messages()
        axis.set(
            yticks=range(len(self._rows)),
            yticklabels=list(self._rows),
            ylim=(len(self._rows) - 0.4, -0.7),
            xlim=(0, self._x(self._length) * 1.01),
            xlabel=f"time in {self._unit}",
            title=self._title(),
        )
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
        patches = [Patch(color=colour, label=label) for label, colour in used.items()]
        if patches:
            axis.legend(
                handles=patches,
                frameon=False,
                ncols=3,
                fontsize="small",
                loc="upper center",
                bbox_to_anchor=(0.5, -0.22),
            )

    def _title(self) -> str:
        messages = self._record.messages
        size = sum(message.size for message in messages)
        lost = sum(party.lost for party in self._record.parties)
        depth = self._record.depth
        words = [
            *([] if depth is None else [plural(depth, "round")]),
            plural(len(messages), "message"),
            plural(size, "byte"),
            f"{number_text(self._x(self._length))} {self._unit}",
        ]
        title = ", ".join(words) + (f" ({lost:,} more were not noted)" if lost else "")
        # On a line of its own: there may be many of them.
        return (
            title
            if depth is not None
            else f"{title}\nrounds unknown without the traces of {some(self._record.missing)}"
        )

    def _bars(self, party: PartyRecord) -> Iterator[tuple[str, str, list[_Bar]]]:
        """Yield what a party did, by kind; the later ones are drawn over the earlier.

        Where tasks or threads wait at the same time, a wait for a message that has not come shows over the others.
        """
        waits = list(party.waits_by_kind())
        receiving = [self._bar(party, wait.began, wait.ended) for wait in waits if wait.of]
        sending = [self._bar(party, wait.began, wait.ended) for wait in waits if wait.to]
        yield "waits until the others have what it sent", SENDING, sending
        yield "waits for a message from another party", RECEIVING, receiving
        coding = [(send.called, send.encoded) for send in party.sends]
        coding += [(receive.taken, receive.returned) for receive in party.receives]
        yield "encodes, decodes", CODING, [self._bar(party, *one) for one in coding]

    def _bar(self, party: PartyRecord, begin: int, end: int) -> _Bar:
        return _Bar(self._common(party, begin), self._common(party, end))

    def _draw_phases(self, party: PartyRecord, row: int) -> None:
        from matplotlib.patches import Rectangle

        axis = self._axis
        for place, (level, phase) in enumerate(_bands(party)):
            bar = self._bar(party, phase.began, phase.ended)
            begin, end = self._x(bar.begin), self._x(min(bar.end, self._length))
            top = row - 0.5 + self._band * level
            place_of_it = Rectangle((begin, top), end - begin, row + 0.3 - top)
            place_of_it.set(color=f"C{level % 10}", alpha=0.18, linewidth=0, zorder=0)
            axis.add_patch(place_of_it)
            if place < _MOST_LABELS and end - begin > self._x(self._length) * 0.04:
                label = axis.text(begin, top + self._band / 2, f" {phase.path.rpartition('/')[2]}", fontsize="x-small")
                label.set(verticalalignment="center_baseline", alpha=0.8, zorder=4, clip_on=True)
                label.set_clip_path(place_of_it)

    def _draw_messages(self) -> None:
        from matplotlib.collections import LineCollection

        axis = self._axis
        messages = self._record.messages
        places = {name: place for place, name in enumerate(self._rows)}
        lines, colours, ends = [], [], []
        for message in messages:
            begin, end = self._span(message)
            start = self._x(begin), self._edge(message.sender, message.receiver)
            stop = self._x(end), self._edge(message.receiver, message.sender)
            lines.append((start, stop))
            colours.append(f"C{places[message.sender] % 10}")
            ends.append(stop)
        if not lines:
            return
        alpha = min(1.0, max(0.15, 150 / len(lines)))
        axis.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, alpha=alpha, zorder=3))
        if len(lines) <= _MOST_HEADS:
            for down, marker in ((True, "v"), (False, "^")):
                found = [
                    (stop, colour)
                    for (start, stop), colour in zip(lines, colours, strict=True)
                    if (stop[1] > start[1]) is down
                ]
                if found:
                    axis.scatter(
                        [stop[0] for stop, _ in found],
                        [stop[1] for stop, _ in found],
                        s=9,
                        c=[colour for _, colour in found],
                        marker=marker,
                        linewidths=0,
                        alpha=alpha,
                        zorder=3,
                    )

    def _edge(self, name: str, other: str) -> float:
        """Return where the line of a message meets the row of a party: on the side of the other one."""
        row = self._rows[name]
        return row + (_HEIGHT / 2 if self._rows[other] > row else -_HEIGHT / 2)

    def _span(self, message: Message) -> tuple[int, int]:
        """When a message left, and when it was there; as much of it as was noted."""
        begin = _first(message.called, message.arrived, message.taken)
        end = _first(message.arrived, message.taken, message.delivered, message.encoded, message.called)
        return begin - self._origin, max(end, begin) - self._origin

    def _extent(self) -> tuple[int, int]:
        """From the first message, wait or phase to the last: what was before and comes then is of no interest."""
        times = [at for message in self._record.messages for at in message[4:12] if isinstance(at, int)]
        for party in self._record.parties:
            lasting = [(phase.began, phase.ended) for phase in party.phases]
            lasting += [(wait.began, wait.ended) for wait in party.waits]
            times += [self._common(party, at) for at in chain.from_iterable(lasting)]
        for party in () if times else self._record.parties:
            times += (self._common(party, 0), self._common(party, party.end))
        return min(times, default=0), max(times, default=1)

    def _common(self, party: PartyRecord, at: int) -> int:
        return self._record.clocks[party.incarnation].common(at) - self._origin

    def _x(self, at: int) -> float:
        return at / self._scale


def _first(*times: int | None) -> int:
    return next(at for at in times if at is not None)


def save(record: Record, path: Any, style: Sequence[str] = ()) -> None:
    """Draw a record into a file, whose name says of which kind (.png, .svg, .pdf).

    :param style: styles of matplotlib; left out: to be read on light and dark pages
    :raises ImportError: matplotlib is not installed
    """
    try:
        matplotlib: Any = import_module("matplotlib")
        figures: Any = import_module("matplotlib.figure")
        styles: Any = import_module("matplotlib.style")
    except ImportError as error:
        raise ImportError(missing_library("this", "matplotlib", "plot")) from error
    with styles.context(list(style) or plot_style(matplotlib)):
        # Without pyplot: no window, and no choice of what draws it.
        figure = figures.Figure(figsize=_size(record), layout="constrained", dpi=150)
        plot(record, figure.subplots())
        figure.savefig(path)
