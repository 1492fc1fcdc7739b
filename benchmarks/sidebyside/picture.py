"""The figures as one SVG: a panel for each work, a bar for each contender, logarithmic, for light and dark pages."""

from __future__ import annotations

import math
from html import escape
from typing import Any

_WIDTH, _LABEL, _VALUE = 760, 230, 110
_ROW, _TITLE, _GAP = 18, 26, 14
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 }
.title { font-weight: 600; font-size: 13px }
.label { text-anchor: end }
.other { fill: #9aa7b5 } .ours { fill: #2f7d5b } .peer { fill: #c4703f }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .other { fill: #66727f } .ours { fill: #4fb286 } .peer { fill: #d98b5f }
}
"""


def svg(report: dict[str, Any]) -> str:
    """The picture of what `sidebyside.report.as_json` gives."""
    y = _GAP
    parts: list[str] = []
    for name, work in report["works"].items():
        rows = [
            (key, entry["title"], entry["works"][name]["median"])
            for key, entry in report["contenders"].items()
            if name in entry["works"]
        ]
        if rows:
            better = "more is better" if work["unit"] == "/s" else "less is better"
            y = _panel(parts, y, f"{work['title']} [{work['unit']}], logarithmic, {better}", rows) + _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _panel(parts: list[str], y: int, title: str, rows: list[tuple[str, str, float]]) -> int:
    # From half the smallest value on, so that every bar can be seen.
    low = min(value for *_, value in rows) / 2
    span = math.log(max(value for *_, value in rows) / low)
    parts.append(f'<text class="title" x="8" y="{y + 13}">{escape(title)}</text>')
    y += _TITLE
    for key, label, value in rows:
        kind = "peer" if key.startswith("tno") else "ours" if key.startswith(("pool", "sync")) else "other"
        width = (_WIDTH - _LABEL - _VALUE) * math.log(value / low) / span
        parts.append(f'<text class="label" x="{_LABEL - 8}" y="{y + 12}">{escape(label)}</text>')
        parts.append(f'<rect class="{kind}" x="{_LABEL}" y="{y + 2}" width="{width:.1f}" height="{_ROW - 5}" rx="2"/>')
        parts.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + 12}">{value:,.{0 if value >= 100 else 1}f}</text>')
        y += _ROW
    return y
