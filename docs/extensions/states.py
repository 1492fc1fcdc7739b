"""``states``: a state machine as a picture, drawn from its table each time the site is built.

The argument is the dotted name of a table ``{(state, event): state after}``. The states stand below each other in the order of
their class. An arrow on the right leads down, one on the left leads up; an event that changes nothing is not drawn.
"""

from enum import Enum
from html import escape
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

Table = dict[tuple[Enum, Enum], Enum]

WIDTH, HEIGHT, RISE, MARGIN = 250, 44, 64, 12
"""Pixels: of a state, from the bottom of one to the top of the next, around the whole."""
REACH, SPREAD, CHARACTER = 46, 34, 6.4
"""Pixels: how far an arrow goes to the side for each state that it leads over, how far arrows end from each other, of a letter."""

STYLE = (
    ".states {display: block; margin: 1em auto}"
    ".states rect {fill: var(--color-background-secondary, #f4f4f4); stroke: currentColor; stroke-opacity: .5}"
    ".states text {fill: currentColor; font: 13px sans-serif}"
    ".states .name {text-anchor: middle; font-weight: bold}"
    ".states .meaning {text-anchor: middle; font-size: 11px; opacity: .7}"
    ".states .event {font-size: 11px; paint-order: stroke; stroke: var(--color-background-primary, #fff); stroke-width: 4px}"
    ".states path {fill: none; stroke: currentColor; stroke-opacity: .45}"
    ".states .head {fill: currentColor; stroke: none; fill-opacity: .6}"
)


def table_of(name: str) -> Table:
    """Return the table of that dotted name."""
    module, _, attribute = name.rpartition(".")
    table: Table = getattr(import_module(module), attribute)
    return table


def arrows(table: Table) -> dict[tuple[Enum, Enum], list[str]]:
    """Return the changes of state, each with the events that bring it about."""
    found: dict[tuple[Enum, Enum], list[str]] = {}
    for (before, event), after in table.items():
        if before is not after:
            found.setdefault((before, after), []).append(
                str(event.value) if isinstance(event.value, str) else event.name
            )
    return found


def draw(table: Table) -> str:
    """Return the picture, as SVG."""
    states = list(type(next(iter(table))[0]))
    row = {state: number for number, state in enumerate(states)}
    changes = sorted(arrows(table).items(), key=lambda change: abs(row[change[0][0]] - row[change[0][1]]))
    sides = {True: 0.0, False: 0.0}
    drawn = []
    for (before, after), events in changes:
        down = row[after] > row[before]
        over = abs(row[after] - row[before])
        lines = [text for event in events for text in _wrapped(event)]
        wide = REACH * over + 12 + CHARACTER * max(map(len, lines))
        sides[down] = max(sides[down], wide)
        drawn.append((row[before], row[after], over, lines))
    left, right = sides[False] + MARGIN, sides[True] + MARGIN
    width = left + WIDTH + right
    height = len(states) * (HEIGHT + RISE) - RISE + 2 * MARGIN
    parts = [_arrow(left, *arrow) for arrow in drawn]
    parts += [_state(left, number, state) for state, number in row.items()]
    return (
        f'<svg class="states" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="max-width: {width:g}px" aria-label="The states, and what leads from one to another">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _wrapped(text: str, most: int = 30) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _top(number: int) -> float:
    return MARGIN + number * (HEIGHT + RISE)


def _state(left: float, number: int, state: Enum) -> str:
    middle, top = left + WIDTH / 2, _top(number)
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text class="name" x="{middle:g}" y="{top + 19:g}">{escape(state.name)}</text>'
        f'<text class="meaning" x="{middle:g}" y="{top + 35:g}">{escape(str(state.value))}</text>'
    )


def _arrow(left: float, before: int, after: int, over: int, lines: list[str]) -> str:
    """Draw one from the side of a state to the side of another, with its events where it is farthest out."""
    down = after > before
    side, sign = (left + WIDTH, 1) if down else (left, -1)
    # Arrows that begin or end at one state do so at places of their own.
    shift = min(over - 1, 3) * 5
    start = _top(before) + HEIGHT / 2 + sign * (8 + shift)
    end = _top(after) + HEIGHT / 2 - sign * (8 + shift)
    out = side + sign * REACH * over * 4 / 3
    label = side + sign * (REACH * over + 6)
    anchor = "start" if down else "end"
    middle = (start + end) / 2 + (over - 1) * SPREAD / 2 - 6 * (len(lines) - 1) + 4
    texts = "".join(
        f'<text class="event" text-anchor="{anchor}" x="{label:g}" y="{middle + 13 * number:g}">{escape(text)}</text>'
        for number, text in enumerate(lines)
    )
    head = f"M{side:g} {end:g} l{sign * 9:g} -4 v8 z"
    return (
        f'<path d="M{side:g} {start:g} C{out:g} {start:g} {out:g} {end:g} {side + sign * 8:g} {end:g}"/>'
        f'<path class="head" d="{head}"/>{texts}'
    )


class States(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", draw(table_of(self.arguments[0])), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("states", States)
    return {"parallel_read_safe": True}
