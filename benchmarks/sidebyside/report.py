"""What a comparison has measured, as text and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sidebyside.contenders import CONTENDERS
from sidebyside.figures import Figure, figures
from sidebyside.run import Comparison
from sidebyside.works import Work

PEER = "tno4"
LIMITS = ("ws-uv", "socket")
_BUSY = 0.7


def times_better(work: Work, one: Figure, other: Figure) -> float:
    """How many times one is faster than the other."""
    return one.median / other.median if work.unit == "/s" else other.median / one.median


def text(comparison: Comparison, works: dict[str, Work], scale: float) -> str:
    """One table for each work, then what each contender promises, then who could not take part."""
    lines = [machine(), f"{comparison.rounds} rounds; median (quartiles) of all samples"]
    if comparison.load > _BUSY:
        lines.append(
            f"Other programs were running (load {comparison.load:.1f} before the start): measure again without them."
        )
    if scale != 1.0:
        lines.append(f"Everything is {1 / scale:g} times smaller than it says: these figures mean nothing.")
    found = figures(comparison)
    for name, work in works.items():
        rows = {contender: by_work[name] for contender, by_work in found.items() if name in by_work}
        if rows:
            lines += ["", *_table(comparison, name, work, rows)]
    lines += ["", "what each of them promises:"]
    lines += [f"  {CONTENDERS[contender].title:32} {CONTENDERS[contender].guarantees}" for contender in found]
    if comparison.troubles:
        lines += ["", "could not take part:"]
        lines += [f"  {CONTENDERS[name].title:32} {trouble}" for name, trouble in comparison.troubles.items()]
    return "\n".join(lines)


def machine() -> str:
    """Where this was measured."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores, loopback"


def rows(comparison: Comparison, name: str, work: Work) -> Iterator[str]:
    """One work alone, without what others are to be measured by."""
    yield f"\n{work.title} [{work.unit}]: median (quartiles)"
    for contender, by_work in figures(comparison).items():
        if name in by_work:
            figure = by_work[name]
            yield f"  {CONTENDERS[contender].title:32} {figure.median:12,.1f}  ({figure.low:,.1f} to {figure.high:,.1f})"


def _table(comparison: Comparison, name: str, work: Work, rows: dict[str, Figure]) -> list[str]:
    against = [(rival, f"x {CONTENDERS[rival].title}") for rival in (PEER, *LIMITS) if rival in rows]
    heads = "".join(f"  {title:>28}" for _, title in against)
    lines = [f"{f'{work.title} [{work.unit}]':34}{'median':>12} {'(quartiles)':>22}{heads}"]
    for contender, figure in rows.items():
        ratios = "".join(f"  {times_better(work, figure, rows[rival]):28.2f}" for rival, _ in against)
        remark = comparison.results[contender][name].remark
        spread = f"({figure.low:,.1f} to {figure.high:,.1f})"
        lines.append(
            f"  {CONTENDERS[contender].title:32}{figure.median:12,.1f} {spread:>22}{ratios}"
            + (f"  ({remark})" if remark else "")
        )
    return lines


def as_json(comparison: Comparison, works: dict[str, Work], scale: float) -> dict[str, Any]:
    """Everything, every sample included."""
    found = figures(comparison)
    return {
        "machine": machine(),
        "rounds": comparison.rounds,
        "load": comparison.load,
        "scale": scale,
        "works": {name: {"title": work.title, "unit": work.unit} for name, work in works.items()},
        "contenders": {
            contender: {
                "title": CONTENDERS[contender].title,
                "guarantees": CONTENDERS[contender].guarantees,
                "trouble": comparison.troubles.get(contender),
                "works": {
                    name: {**asdict(figure), "remark": results[name].remark, "rounds": results[name].rounds}
                    for name, figure in found[contender].items()
                },
            }
            for contender, results in comparison.results.items()
        },
    }


def write_json(report: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n")
