"""Showing pools and their figures: one line of text, or HTML for notebooks. It renders what it is given, and needs no pool.

The HTML is static: no script, no widget, nothing to load. Colours are those of the page around it, light or dark; only the
dots of the states have their own. (Jupyter aligns tables by rules that only ``!important`` overrides.) Where a viewer strips
the style sheet, a plain table is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import shorten
from typing import Any

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")

_STYLE = """<style>
.mpccomm {font-size: 0.93em; line-height: 1.5; margin: 0.3em 0; overflow-x: auto}
.mpccomm .muted {opacity: 0.7}
div.mpccomm table {border-collapse: collapse; margin: 0.4em 0 0; font-variant-numeric: tabular-nums; border: none}
div.mpccomm table th, div.mpccomm table td {text-align: left !important; vertical-align: top; border: none}
div.mpccomm table th, div.mpccomm table td {padding: 0.25em 1.1em 0.25em 0; white-space: nowrap}
div.mpccomm table th:last-child, div.mpccomm table td:last-child {padding-right: 0}
div.mpccomm table tr, div.mpccomm table tr:nth-child(even), div.mpccomm table tr:hover {background: transparent}
div.mpccomm table thead th {font-weight: 600; opacity: 0.7; border-bottom: 1px solid rgba(128, 128, 128, 0.5)}
div.mpccomm table thead th, div.mpccomm table td.words {white-space: normal}
div.mpccomm table tbody tr + tr td {border-top: 1px solid rgba(128, 128, 128, 0.25)}
div.mpccomm table td.text {white-space: normal; min-width: 8em; max-width: 24em; overflow-wrap: anywhere}
div.mpccomm table td.number {text-align: right !important}
.mpccomm i {display: inline-block; width: 0.6em; height: 0.6em; border-radius: 50%; margin-right: 0.5em; background: #8b949e}
.mpccomm i.good {background: #2da44e}
.mpccomm i.waiting {background: #d4a72c}
.mpccomm i.bad {background: #e5534b}
</style>"""
_GREY = "#808080"
_PLOT_STYLE = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _GREY),
}
"""Values for matplotlib's ``rcParams``, see `plot_style`."""

_LONGEST = 150
_BAR = "width: 16em; max-width: 40%; height: 0.8em; vertical-align: middle; margin-right: 0.8em"


@dataclass(frozen=True, slots=True)
class PartyView:
    """What is shown of one party."""

    name: str
    where: str
    mood: str
    """``good``, ``waiting`` or ``bad``: the colour of the state."""
    state: str
    trust: str
    """By what it is known: its address, or its certificate."""
    sent: tuple[int, int]
    """Messages and bytes, without those that wait to be sent."""
    received: tuple[int, int]
    round_trip: float | None
    """Seconds."""
    waits: Sequence[str]
    """The calls that wait, with a line for each."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """What is shown of a pool."""

    kind: str
    """The name of its class."""
    name: str
    state: str
    """Where it listens, or that it does not (any more)."""
    security: str
    parties: Sequence[PartyView]


def line(view: PoolView) -> str:
    """Return the whole pool in a line."""
    name = f" {view.name if view.name.isprintable() else repr(view.name)}" if view.name else ""
    connected = sum(party.mood == "good" for party in view.parties)
    parties = (
        f"{connected} of {plural(len(view.parties), 'party', 'parties')} connected" if view.parties else "no parties"
    )
    return f"<{view.kind}{name}, {view.state}, {view.security}, {parties}>"


def pool_html(view: PoolView) -> str:
    """Return the whole pool as a table of its parties under a heading."""
    name = f" {escape(view.name)}" if view.name else ""
    heading = (
        f"<b>{escape(view.kind)}{name}</b> <span class='muted'>{escape(view.state)}, {escape(view.security)}</span>"
    )
    if not view.parties:
        return _block(f"{heading}<br>no parties; add one with <code>add_http_client</code>")
    titles = ("party", "state", "waiting", "sent", "received", "round trip", "known by")
    return _block(heading + _table(titles, map(_party_row, view.parties)))


def _party_row(party: PartyView) -> Iterable[str]:
    yield _cell(f"<b>{escape(party.name)}</b><br><span class='muted'>{escape(party.where)}</span>")
    state = shorten(party.state, _LONGEST, placeholder=" ...")
    yield _cell(f"<i class='{party.mood}'></i>{escape(state)}", "text")
    waits = "<br>".join(map(escape, party.waits))
    yield _cell(waits, "text") if waits else _cell("<span class='muted'>nothing</span>")
    for messages, size in (party.sent, party.received):
        yield _cell(f"{plural(messages, 'message')}<br><span class='muted'>{bytes_text(size)}</span>")
    yield _cell("" if party.round_trip is None else seconds_text(party.round_trip))
    yield _cell(escape(party.trust), "words")


def stats_html(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures by party: a table."""
    titles = ("", "sent", "", "received", "", "retries", "reconnects", "round trip")

    def row(name: str, figure: Mapping[str, Any]) -> Iterable[str]:
        yield _cell(f"<b>{escape(name)}</b>")
        for way in ("sent", "received"):
            yield _cell(plural(figure[f"messages_{way}"], "message"), "number")
            yield _cell(bytes_text(figure[f"bytes_{way}"]), "number")
        yield _cell(f"{figure['retries']:,}", "number")
        yield _cell(f"{figure['reconnects']:,}", "number")
        yield _cell("" if figure["round_trip"] is None else seconds_text(figure["round_trip"]), "number")

    return _block(_table(titles, (row(name, figure) for name, figure in figures.items())))


TOTAL = "all"
"""The name of the row in a report that stands for all phases together."""
_REPORT_TITLES = ("phase", "party", "time", "receiving", "sending", "CPU", "sent", "", "received", "", "rounds")


def _report_rows(figures: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    """Return the cells of a report: a row per phase, then, where there are several parties at all, one per party in it.

    A phase that only one of them entered is the one to look at: its name may be misspelt there.
    """
    several = any(len(row["parties"]) > 1 for row in figures.values())
    for phase, row in figures.items():
        depth = phase.count("/") + 1 if phase else 0
        yield _report_row("  " * depth + (phase.rpartition("/")[2] or TOTAL), "", row)
        if several:
            for party, one in row["parties"].items():
                yield _report_row("", party, one)


def _report_row(phase: str, party: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    times = [row[name] for name in ("seconds", "receiving", "sending", "cpu")]
    return (
        phase,
        party,
        *("" if time is None else seconds_text(time) for time in times),
        *_traffic_cells(row, "sent"),
        *_traffic_cells(row, "received"),
        "" if row["rounds"] is None else f"{row['rounds']:,}",
    )


def _traffic_cells(row: Mapping[str, Any], way: str) -> tuple[str, str]:
    return plural(row[f"messages_{way}"], "message"), bytes_text(row[f"bytes_{way}"])


def report_text(pool: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a report as a table of text."""
    rows = [_REPORT_TITLES, *_report_rows(figures)]
    # A column in which nothing stands is left out.
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if at < 2 and column[0] in _REPORT_TITLES[:2] else cell.rjust(width)
            for at, (cell, width, column) in enumerate(zip(row, widths, columns, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
    return "\n".join([f"{pool}:", *lines] if pool else lines)


def report_html(pool: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a report as a table."""

    def cells(row: tuple[str, ...]) -> Iterable[str]:
        indented = "&nbsp;" * (len(row[0]) - len(row[0].lstrip())) * 2 + escape(row[0].lstrip())
        yield _cell(f"<b>{indented}</b>")
        yield _cell(escape(row[1]))
        yield from (_cell(escape(cell), "number") for cell in row[2:])

    heading = f"<b>{escape(pool)}</b>" if pool else ""
    return _block(heading + _table(_REPORT_TITLES, map(cells, _report_rows(figures))))


def progress_html(text: str, done: int, size: int) -> str:
    """Return a bar with a text beside it."""
    # Without the style sheet: it is sent over and over.
    return f"<div><progress value='{done}' max='{max(size, 1)}' style='{_BAR}'></progress>{escape(text)}</div>"


def _block(content: str) -> str:
    return f"{_STYLE}<div class='mpccomm'>{content}</div>"


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(content: str, kind: str = "") -> str:
    return f"<td class='{kind}'>{content}</td>"


def plot_style(matplotlib: Any) -> dict[str, Any]:
    """Return ``rcParams`` by which plots can be read on light and on dark pages, whose background they keep.

    There are none where the program has chosen its colours.
    """
    chosen = matplotlib.rcParams["figure.facecolor"] != matplotlib.rcParamsDefault["figure.facecolor"]
    return {} if chosen else dict(_PLOT_STYLE)


# -- words for numbers -------------------------------------------------------------------------------------------------


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 message``, ``2,000 messages``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number_text(number: float, digits: int = 3, *, padded: bool = False) -> str:
    """Return a number with so many digits, or with all that are before its point: ``0.0421``, ``42.5``, ``6,435``.

    :param padded: keep zeros at its end, for numbers that stand below each other
    """
    if not number or not math.isfinite(number):
        return f"{number:g}"
    places = max(digits - 1 - math.floor(math.log10(abs(number))), 0)
    text = f"{number:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places and not padded else text


def some(names: Sequence[str], most: int = 4) -> str:
    """Return names in words: ``alice``, ``alice and bob``, ``alice, bob, carol, dave and 3 more``."""
    *others, last = names if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return f"{', '.join(others)} and {last}" if others else last


def bytes_text(size: float) -> str:
    """Return a size in words: ``17 bytes``, ``1.5 MiB``."""
    scale, unit = bytes_unit(size)
    return f"{size / scale:.1f} {unit}" if scale > 1 else plural(int(size), "byte")


def bytes_unit(size: float) -> tuple[int, str]:
    """Return how many bytes the unit has in which this size is told, and its name."""
    power = 0
    while size >= 1024 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    return 1024**power, _UNITS[power]


def seconds_text(seconds: float) -> str:
    """Return a duration in words: ``85 µs``, ``1.2 ms``, ``45 s``, ``3 min 20 s``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
