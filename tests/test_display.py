"""Words for numbers, and what HTML is made of."""

import math
from html.parser import HTMLParser

import pytest

from mpccomm.display import (
    PartyView,
    PoolView,
    bytes_text,
    line,
    number_text,
    plural,
    pool_html,
    progress_html,
    seconds_text,
    some,
    stats_html,
)
from mpccomm.engine.stats import PartyStats

NASTY = "<script>alert('&\"')</script>\n"
ELEMENTS = {"style", "div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "i", "br", "code", "progress"}
PARTY = PartyView("Bob", "10.0.0.2:8001", "good", "connected", "its address", (1, 5), (2000, 3 << 20), 0.0012, [])
POOL = PoolView("SyncPool", "Alice", "listening at 0.0.0.0:8001", "plain HTTP, not encrypted", [PARTY])


class Parser(HTMLParser):
    """Which elements there are, and whether each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {name for name, _ in attrs} - {"class", "value", "max", "style"}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data + " "


@pytest.mark.parametrize(
    ("number", "text", "padded"),
    [
        (0, "0", "0"),
        (0.0421, "0.0421", "0.0421"),
        (0.1, "0.1", "0.100"),
        (42.454, "42.5", "42.5"),
        (61, "61", "61.0"),
        (999.96, "1,000", "1,000"),
        (6435.2, "6,435", "6,435"),
        (10_000, "10,000", "10,000"),
        (-3600, "-3,600", "-3,600"),
        (math.inf, "inf", "inf"),
    ],
)
def test_numbers_have_no_exponent(number: float, text: str, padded: str) -> None:
    assert number_text(number) == text
    assert number_text(number, padded=True) == padded


def check(html: str) -> str:
    parser = Parser(html)
    assert not parser.open
    assert parser.seen <= ELEMENTS
    assert "url(" not in html
    return parser.text


def test_the_line() -> None:
    assert line(POOL) == (
        "<SyncPool Alice, listening at 0.0.0.0:8001, plain HTTP, not encrypted, 1 of 1 party connected>"
    )
    assert len(line(POOL)) < 120
    assert "\n" not in line(PoolView("Pool", NASTY, "shut down", "plain HTTP", []))


def test_the_table() -> None:
    text = check(pool_html(POOL))
    for part in ("Alice", "10.0.0.2:8001", "connected", "1 message ", "5 bytes", "2,000 messages", "3.0 MiB", "1.2 ms"):
        assert part in text


def test_names_are_only_text() -> None:
    party = PartyView(NASTY, NASTY, "bad", NASTY, NASTY, (0, 0), (0, 0), None, [NASTY, NASTY])
    text = check(pool_html(PoolView("Pool", NASTY, NASTY, NASTY, [party])))
    assert text.count("<script>") == 9
    assert "<script>" in check(stats_html({NASTY: PartyStats(0, 0, 0, 0, 0, 0, None, False).to_dict()}))
    assert "<script>" in check(progress_html(NASTY, 1, 2))


def test_a_long_state_ends_with_a_whole_word() -> None:
    party = PartyView("Bob", "", "bad", "word " * 40, "", (0, 0), (0, 0), None, [])
    text = check(pool_html(PoolView("Pool", "", "", "", [party])))
    assert "word word ..." in text
    assert text.count("word") < 40


def test_without_parties() -> None:
    empty = PoolView("Pool", "", "without a server", "plain HTTP", [])
    assert line(empty) == "<Pool, without a server, plain HTTP, no parties>"
    assert "add_http_client" in check(pool_html(empty))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 70, "1048576.0 PiB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000085, "85 µs"),
        (0.0123, "12.3 ms"),
        (1.25, "1.2 s"),
        (45.4, "45 s"),
        (200.2, "3 min 20 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_plural() -> None:
    assert [plural(1, "party", "parties"), plural(2, "party", "parties"), plural(1000, "byte")] == [
        "1 party",
        "2 parties",
        "1,000 bytes",
    ]


@pytest.mark.parametrize(
    ("names", "text"), [("a", "a"), ("ab", "a and b"), ("abcd", "a, b, c and d"), ("abcdefg", "a, b, c, d and 3 more")]
)
def test_some(names: str, text: str) -> None:
    assert some(list(names)) == text
