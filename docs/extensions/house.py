"""``house``: the rooms of the package as a picture, drawn from the imports in the source each time the site is built.

A room is a module or folder of the package. It stands on the lowest floor from which it needs to look down only: one above
the highest of those that it imports. A line is drawn where no way over other rooms says the same.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[2] / "mpccomm"
NAME = PACKAGE.name

Graph = dict[str, set[str]]

WIDTH, HEIGHT, GAP, RISE, MARGIN = 128, 46, 20, 52, 12
"""Pixels: of a room, between rooms, between floors, around the whole."""

STYLE = (
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


def draw() -> str:
    """The picture, as SVG."""
    modules = rooms()
    below = graph(modules)
    at = floors(below)
    rows = [sorted(room for room in at if at[room] == floor) for floor in range(max(at.values()) + 1)]
    width = max(map(len, rows)) * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * (HEIGHT + RISE) - RISE + 2 * MARGIN
    corner = {}
    for floor, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for place, room in enumerate(row):
            corner[room] = left + place * (WIDTH + GAP), MARGIN + (len(rows) - 1 - floor) * (HEIGHT + RISE)
    parts = [_line(corner[upper], corner[lower]) for upper, lower in lines(below)]
    parts += [_room(room, *corner[room], modules[room]) for row in rows for room in row]
    return (
        f'<svg class="house" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="max-width: {width:g}px" aria-label="The rooms of the package, and which imports which">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _line(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    start, end = (upper[0] + WIDTH / 2, upper[1] + HEIGHT), (lower[0] + WIDTH / 2, lower[1])
    bend = RISE / 2
    return (
        f'<path d="M{start[0]:g} {start[1]:g} C{start[0]:g} {start[1] + bend:g} {end[0]:g} {end[1] - bend:g} '
        f'{end[0]:g} {end[1]:g}"/>'
    )


def _room(name: str, left: float, top: float, paths: list[Path]) -> str:
    count = sum(path.read_text(encoding="utf-8").count("\n") for path in paths)
    size = f"{count} lines" if len(paths) == 1 else f"{len(paths)} modules, {count} lines"
    middle = left + WIDTH / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
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
