"""``house``: the rooms of the package as a picture, drawn from the imports in the source each time the site is built.

A room is a module or folder of the package. It stands on the lowest floor from which it needs to look down only: one above
the highest of those that it imports. A line is drawn where no way over other rooms says the same.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[2] / "mpccomm"
NAME = PACKAGE.name

Graph = dict[str, set[str]]

WIDTH, HEIGHT, GAP, RISE, MARGIN = 140, 46, 28, 44, 12
"""Pixels: of a room, between rooms, between floors, around the whole."""

_SWEEPS = 8

STYLE = (
    ".house {display: block; margin: 1em auto}"
    ".house rect {fill: var(--color-background-secondary, #f4f4f4); stroke: currentColor; stroke-opacity: .5}"
    ".house text {fill: currentColor; text-anchor: middle; font: 14px sans-serif}"
    ".house .size {font-size: 11px; opacity: .7}"
    ".house path {fill: none; stroke: currentColor; stroke-opacity: .35}"
)


def rooms() -> dict[str, list[Path]]:
    """The modules of each room, by its name; that of the package's own ``__init__`` is the package's."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.setdefault(NAME if parts[0] == "__init__" else parts[0], []).append(path)
    return found


def imports(path: Path) -> Iterator[str]:
    """The rooms that a module names in its imports, also those within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names]
        else:
            continue
        for name in whole:
            first, _, rest = name.partition(".")
            if first == NAME:
                yield rest.partition(".")[0]


def graph(modules: Mapping[str, list[Path]]) -> Graph:
    """Which rooms each room imports."""
    found: Graph = {}
    for room, paths in modules.items():
        named = {name if name in modules else NAME for path in paths for name in imports(path)}
        # The package's own __init__ imports what it hands out when it is asked for it.
        found[room] = named - {room}
    return found


def floors(below: Graph) -> dict[str, int]:
    """The floor of each room, from 0."""
    at: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        at[room] = max((at[one] + 1 for one in below[room]), default=0)
    return at


def lines(below: Graph) -> list[tuple[str, str]]:
    """Who imports whom, without what follows from the others."""

    def reach(room: str) -> set[str]:
        return below[room].union(*map(reach, below[room]))

    return sorted(
        (room, one) for room in below for one in below[room] if not any(one in reach(other) for other in below[room])
    )


def chains(at: Mapping[str, int], below: Graph) -> list[list[str]]:
    """Each line as the places that it goes through, from above: a room, a gap on each floor between, a room."""
    return [
        [upper, *(f"{upper} {floor} {lower}" for floor in range(at[upper] - 1, at[lower], -1)), lower]
        for upper, lower in lines(below)
    ]


def arranged(at: Mapping[str, int], ways: Sequence[Sequence[str]]) -> list[list[str]]:
    """The places of each floor from left to right, so that lines cross little (Sugiyama's method, with barycentres)."""
    rows: list[list[str]] = [[] for _ in range(max(at.values()) + 1)]
    above: dict[str, list[str]] = {}
    under: dict[str, list[str]] = {}
    for way in ways:
        for upper, lower in pairwise(way):
            under.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    places = {place: at[way[0]] - step for way in ways for step, place in enumerate(way)} | dict(at)
    for place in sorted(places):
        rows[places[place]].append(place)
    for _ in range(_SWEEPS):
        for order, neighbours in ((rows[::-1], above), (rows, under)):
            for there, row in pairwise(order):
                row.sort(key=partial(_barycentre, neighbours, list(there), list(row)))
    return rows


def _barycentre(neighbours: Mapping[str, list[str]], there: list[str], here: list[str], place: str) -> float:
    """Where a place wants to be, as a part of the width: in the middle of its neighbours; where there are none, where it is."""
    wanted = [there.index(one) for one in neighbours.get(place, ()) if one in there]
    if not wanted:
        return (here.index(place) + 0.5) / len(here)
    return (sum(wanted) / len(wanted) + 0.5) / len(there)


def draw() -> str:
    """The picture, as SVG."""
    modules = rooms()
    below = graph(modules)
    at = floors(below)
    ways = chains(at, below)
    rows = arranged(at, ways)
    widths = [[WIDTH if place in modules else 0 for place in row] for row in rows]
    width = max(sum(row) + GAP * (len(row) - 1) for row in widths) + 2 * MARGIN
    height = len(rows) * (HEIGHT + RISE) - RISE + 2 * MARGIN
    middle = {}
    for floor, row in enumerate(rows):
        left = (width - sum(widths[floor]) - GAP * (len(row) - 1)) / 2
        for place, wide in zip(row, widths[floor], strict=True):
            middle[place] = left + wide / 2, MARGIN + (len(rows) - 1 - floor) * (HEIGHT + RISE)
            left += wide + GAP
    parts = [_line([middle[place] for place in way]) for way in ways]
    parts += [_room(room, *middle[room], modules[room]) for row in rows for room in row if room in modules]
    return (
        f'<svg class="house" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="max-width: {width:g}px" aria-label="The rooms of the package, and which imports which">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _line(places: list[tuple[float, float]]) -> str:
    """From below the first to above the last, straight down through those between."""
    (x, y), *further = places
    y += HEIGHT
    path = f"M{x:g} {y:g}"
    for at, top in further:
        bend = (top - y) / 2
        path += f" C{x:g} {y + bend:g} {at:g} {top - bend:g} {at:g} {top:g}"
        if (at, top) != further[-1]:
            path += f" V{top + HEIGHT:g}"
        x, y = at, top + HEIGHT
    return f'<path d="{path}"/>'


def _room(name: str, middle: float, top: float, paths: list[Path]) -> str:
    count = sum(path.read_text(encoding="utf-8").count("\n") for path in paths)
    size = f"{count} lines" if len(paths) == 1 else f"{len(paths)} modules, {count} lines"
    return (
        f'<rect x="{middle - WIDTH / 2:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle:g}" y="{top + 20:g}">{escape(name)}</text>'
        f'<text class="size" x="{middle:g}" y="{top + 37:g}">{size}</text>'
    )


class House(Directive):
    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", draw(), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("house", House)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    print(draw())
