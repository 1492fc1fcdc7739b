"""Figures per party, together, as tables, and over time."""

import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mpccomm import PartyStats, UnknownPartyError
from mpccomm.engine.party import Party
from mpccomm.engine.stats import History, Stats
from mpccomm.protocol.sender import Counters
from tests.pools import pools

BOB = PartyStats(3, 2, 3000, 200, 1, 1, 0.002, True)
CAROL = PartyStats(1, 0, 5, 0, 0, 0, None, False)


def stats(**parties: PartyStats) -> Stats:
    return Stats(parties, History(), 0.0)


def test_it_is_a_mapping() -> None:
    both = stats(Bob=BOB, Carol=CAROL)
    assert dict(both) == {"Bob": BOB, "Carol": CAROL}
    assert (len(both), both["Carol"], "Zoe" in both) == (2, CAROL, False)
    assert repr(both) == repr(dict(both))
    assert both.get("bob") is None
    with pytest.raises(
        UnknownPartyError, match=r"no party 'bob' .*\(there are: 'Bob', 'Carol'\); did you mean 'Bob'\?"
    ):
        both["bob"]


def test_total() -> None:
    assert stats(Bob=BOB, Carol=CAROL).total == PartyStats(4, 2, 3005, 200, 1, 1, 0.002, False)
    assert stats().total == PartyStats(0, 0, 0, 0, 0, 0, None, True)


def test_as_a_dict() -> None:
    figures = stats(Bob=BOB, Carol=CAROL).to_dict()
    assert list(figures) == ["Bob", "Carol", "total"]
    assert figures["Bob"]["bytes_sent"] == 3000
    assert figures["total"]["bytes_sent"] == 3005


def test_a_party_may_be_called_total() -> None:
    assert stats(total=BOB, Carol=CAROL).to_dict()["total"] == BOB.to_dict()


def test_as_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = stats(Bob=BOB, Carol=CAROL).to_frame()
    assert list(frame.index) == ["Bob", "Carol", "total"]
    assert frame.index.name == "party"
    assert list(frame["bytes_sent"]) == [3000, 5, 3005]
    assert list(frame.columns) == list(BOB.to_dict())


@pytest.mark.parametrize(
    ("method", "library", "extra"), [("to_frame", "pandas", "pandas"), ("plot", "matplotlib", "plot")]
)
def test_without_the_library(method: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"with its extra {extra!r}"):
        getattr(stats(Bob=BOB), method)()


def test_plot() -> None:
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    history = History()
    counters = [Counters(), Counters()]
    history.sample(100.0, parties_of(counters[:1]))
    counters[0].messages_sent, counters[0].bytes_sent = 7, 2048
    history.sample(101.0, parties_of(counters))
    axes = Stats({"Bob": BOB, "Carol": CAROL}, history, 102.0).plot()
    try:
        lines = {line.get_label(): line for line in axes[0].get_lines()}
        assert set(lines) == {"to Bob", "from Bob", "to Carol", "from Carol"}
        assert list(lines["to Bob"].get_xdata()) == [0.0, 1.0, 2.0]
        assert list(lines["to Bob"].get_ydata()) == [0, 7, 3]
        assert list(lines["to Carol"].get_ydata()) == [0, 0, 1]  # it was not there from the start
        assert list(axes[1].get_lines()[0].get_ydata()) == [0, 2, 3000 / 1024]
        assert "KiB" in axes[1].get_ylabel()
        axes[0].figure.draw_without_rendering()
        said = axes[0].figure.legends[0].get_texts()[0].get_color()
        assert said == axes[0].xaxis.label.get_color(), "to be read on light and dark pages"
        legend = axes[0].figure.legends[0].get_window_extent()
        assert not any(legend.overlaps(axis.get_window_extent()) for axis in axes), "it hides no line"
        again = Stats({"Bob": BOB}, history, 102.0).plot(axes)
        assert again is axes
        assert axes[0].get_legend() is not None
    finally:
        pyplot.close("all")


def test_history_is_bounded_and_whole() -> None:
    history = History(most=16)
    counters = Counters()
    for second in range(1000):
        counters.messages_sent = second
        history.sample(50.0 + second, parties_of([counters]))
    rows = history.rows(1049.5, [BOB])
    assert len(rows) <= 17
    assert rows[0].time == 0
    assert rows[-1].time == 999.5
    assert all(row.figures[0].messages_sent == row.time for row in rows[:-1])
    gaps = [later.time - earlier.time for earlier, later in pairwise(rows[:-1])]
    assert max(gaps) <= 2 * min(gaps)


def test_history_keeps_what_has_not_changed_once() -> None:
    history = History()
    busy, idle = Counters(), Counters()
    for time, sent in enumerate((0, 1, 1)):
        busy.messages_sent = sent
        history.sample(float(time), parties_of([busy, idle]))
    history.sample(3.0, parties_of([busy]))
    rows = [row.figures for row in history.rows(4.0, [])]
    first, second, third, last = rows[:-1]
    assert first[0] != second[0]
    assert first[1] is second[1]
    assert third is second
    assert last == second[:1]


def parties_of(counters: list[Counters]) -> list[Party]:
    return [cast(Party, SimpleNamespace(link=SimpleNamespace(counters=one))) for one in counters]


async def test_of_a_pool() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        await alice.send("Bob", b"x" * 1000)
        assert await bob.recv("Alice") == b"x" * 1000
        sent, received = alice.stats, bob.stats
    assert sent.total.messages_sent == received.total.messages_received == 1
    assert sent.total.bytes_sent == received.total.bytes_received >= 1000
    html = cast(Any, sent)._repr_html_()
    assert "<b>Bob</b>" in html
    assert "<b>total</b>" in html
