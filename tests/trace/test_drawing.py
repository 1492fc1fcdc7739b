"""Timelines as pictures, light and dark."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba

from mpccomm.cli.trace import PICTURES
from mpccomm.trace.drawing import RECEIVING, SENDING, plot, save
from mpccomm.trace.record import Phase, Receive, Record, Send, Wait
from tests.trace.records import message, party, ping_pong


def lines(axes: Any) -> list[Any]:
    return [one for one in axes.collections if isinstance(one, LineCollection) and len(one.get_segments()) > 1]


def test_the_title_has_no_rounds_where_they_can_t_be_known() -> None:
    axes = plot(Record([ping_pong(3)[0]]))
    try:
        first, second = axes.get_title().splitlines()
        assert first.startswith("6 messages, 600 bytes, ")
        assert second == "rounds unknown without the traces of Bob"
    finally:
        pyplot.close(axes.figure)


def test_a_row_per_party_and_a_line_per_message() -> None:
    axes = plot(Record([*ping_pong(3)]))
    try:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["Alice", "Bob"]
        assert len(lines(axes)[0].get_segments()) == 6
        assert axes.get_title().startswith("6 rounds, 6 messages, 600 bytes, ")
        assert axes.get_legend() is not None
        assert "online" in axes.texts[0].get_text()
    finally:
        pyplot.close(axes.figure)


def test_messages_begin_and_end_where_they_did() -> None:
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    message(alice, bob, 10_000, 2000)
    message(alice, bob, 50_000, 2000)
    figure, axes = pyplot.subplots()
    try:
        assert plot(Record([alice, bob]), axes) is axes
        (begin, end), _ = lines(axes)[0].get_segments()
        assert end[0] - begin[0] == pytest.approx(2.0)
        assert axes.get_xlabel() == "time in µs"
        assert begin[1] < end[1]
    finally:
        pyplot.close(figure)


def test_a_wait_that_came_to_nothing_is_in_the_picture() -> None:
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    message(alice, bob, 10_000, 2000)
    bob.waits.append(Wait(0, 20_000, 10_000_000, [], [0]))
    axes = plot(Record([alice, bob]))
    try:
        assert axes.get_xlim()[1] >= 9.9
        assert axes.get_xlabel() == "time in ms"
    finally:
        pyplot.close(axes.figure)


def test_where_tasks_wait_at_the_same_time_a_wait_for_a_message_shows() -> None:
    """Also that of a collective, which waits for a delivery from then on."""
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    alice.lanes.append("MainThread/task")
    second = 10**9
    alice.waits += [
        Wait(0, 0, 6 * second, [0], [0]),
        Wait(1, 1 * second, 3 * second, [0], []),
        Wait(1, 4 * second, 5 * second, [], [0]),
    ]
    alice.receives.append(Receive(0, 0, "0", 1, 0, 0, 2 * second, 6 * second, 6 * second))
    bob.sends.append(Send(0, 0, "0", 1, 0, 0, 0, -1, 0))
    axes = plot(Record([alice, bob]))
    try:
        bars = [one for one in axes.collections if one.get_zorder() == 2]

        def colour_at(time: float) -> str:
            there = [bar for bar in bars for path in bar.get_paths() if path.get_extents().containsx(time)]
            return str(to_hex(there[-1].get_facecolor()))

        assert [colour_at(half + 0.5) for half in range(6)] == [*[RECEIVING] * 2, *[SENDING] * 2, RECEIVING, SENDING]
    finally:
        pyplot.close(axes.figure)


def test_phases_that_go_on_together_have_bands_of_their_own() -> None:
    """Nested ones from the outermost down, those of tasks side by side too; the same phase twice is one."""
    alice = party("Alice")
    second = 10**9
    alice.phases += [
        Phase("a", 0, 0, second),
        Phase("a/b", 0, 0, second // 2),
        Phase("a/b/c", 0, 0, second // 2),
        Phase("a/d", 0, second // 2, second),
        Phase("a/e", 0, second // 2, second),
        Phase("a/e", 0, second // 2, second),
    ]
    axes = plot(Record([alice]))
    try:
        heights = {label.get_text().strip(): round(label.get_position()[1], 3) for label in axes.texts}
        assert len(axes.texts) == 5
        assert heights["a"] < heights["b"] < heights["c"] < -0.17
        assert heights["b"] == heights["d"]
        assert heights["c"] == heights["e"]
    finally:
        pyplot.close(axes.figure)


def test_one_party_alone_and_none_at_all() -> None:
    alice, _ = ping_pong(1)
    for record, rows in ((Record([alice]), 2), (Record([party("Alice")]), 1), (Record([]), 0)):
        axes = plot(record)
        assert len(axes.get_yticklabels()) == rows
        pyplot.close(axes.figure)


def test_the_legend_says_what_each_wait_is_for() -> None:
    alice, bob = party("Alice", "Bob"), party("Bob", "Alice")
    message(alice, bob, 10_000, 2000)
    alice.waits += [Wait(0, 10_000, 20_000, [0], []), Wait(0, 20_000, 30_000, [], [0])]
    axes = plot(Record([alice, bob]))
    try:
        legend = axes.get_legend()
        assert legend is not None
        told = [text.get_text() for text in legend.get_texts()]
        assert told[:2] == ["waits until the others have what it sent", "waits for a message from another party"]
    finally:
        pyplot.close(axes.figure)


def test_a_figure_of_its_own_keeps_the_background_of_the_page() -> None:
    axes = plot(Record([*ping_pong(2)]))
    try:
        assert to_rgba(axes.figure.get_facecolor())[3] == to_rgba(axes.get_facecolor())[3] == 0
        legend = axes.get_legend()
        assert legend is not None
        texts = [axes.title, axes.xaxis.label, *axes.get_yticklabels(), *axes.get_xticklabels(), *legend.get_texts()]
        assert {to_hex(text.get_color()) for text in [*texts, *axes.texts]} == {"#808080"}
    finally:
        pyplot.close(axes.figure)


def test_colours_that_the_program_has_chosen_stay() -> None:
    with pyplot.style.context("dark_background"):
        axes = plot(Record([*ping_pong(2)]))
    with pyplot.rc_context({}):
        on = pyplot.subplots()[1]
        plot(Record([*ping_pong(2)]), on)
    try:
        assert to_hex(axes.figure.get_facecolor()) == "#000000"
        assert to_hex(on.title.get_color()) == "#000000"
    finally:
        pyplot.close("all")


@pytest.mark.parametrize(("style", "opaque"), [([], 0), (["dark_background"], 1)])
def test_into_a_file(tmp_path: Path, style: list[str], opaque: int) -> None:
    for suffix in PICTURES:
        save(Record([*ping_pong(2)]), tmp_path / f"timeline{suffix}", style)
    assert "<svg" in (tmp_path / "timeline.svg").read_text()
    # Red, green, blue and alpha of the first pixel.
    assert pyplot.imread(tmp_path / "timeline.png")[0, 0][3] == opaque
