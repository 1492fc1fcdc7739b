"""What the site is made with: the picture of the rooms, and links in pages that live elsewhere."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mpccomm.cli import COMMANDS
from tests.documents import ROOT
from tests.needs import missing
from tests.test_house import FLOORS, MODULES, room

EXTENSIONS = ROOT / "docs" / "extensions"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports one."""
    pytest.importorskip("sphinx", reason=missing("sphinx", extra="docs"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return import_module


def test_the_picture_has_every_room_once_and_is_always_the_same(extension: Any) -> None:
    house = extension("house")
    picture = house.draw()
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    names = [text for text in texts if text and " " not in text]
    assert sorted(names) == sorted({room(module) or "mpccomm" for module in MODULES})
    assert picture == house.draw()


def test_the_floors_of_the_picture_are_those_of_the_house(extension: Any) -> None:
    house = extension("house")
    drawn = house.floors(house.graph(house.rooms()))
    laid_down = {name or "mpccomm": number for number, names in enumerate(FLOORS) for name in names}
    assert drawn.keys() == laid_down.keys()
    for upper, lowers in house.graph(house.rooms()).items():
        for lower in lowers:
            assert drawn[upper] > drawn[lower]
            assert laid_down[upper] > laid_down[lower]


STATES = re.findall(
    r"^:::\{states\} mpccomm\.(.+)$", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE
)


def test_each_table_of_states_has_its_picture() -> None:
    tables = {
        f"{module.removeprefix('mpccomm.')}.{name}"
        for module in ("mpccomm.engine.lifecycle", "mpccomm.engine.states", "mpccomm.protocol.states")
        for name, value in vars(import_module(module)).items()
        if isinstance(value, dict)
        and all(isinstance(key, tuple) and isinstance(key[0], Enum) for key in value)
        and value
    }
    assert set(STATES) == tables


@pytest.mark.parametrize("name", STATES)
def test_the_pictures_of_states_have_every_state_and_event(extension: Any, name: str) -> None:
    states = extension("states")
    table = states.table_of(f"mpccomm.{name}")
    texts = [
        element.text or ""
        for element in ElementTree.fromstring(states.draw(table)).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {state.name for state in type(next(iter(table))[0])} <= set(texts)
    drawn = " ".join(texts)
    for events in states.arrows(table).values():
        assert all(word in drawn for event in events for word in event.split())


def test_every_room_is_explained() -> None:
    table = (
        (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| room |")[2].partition("\n\n")[0]
    )
    explained = re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(explained) == sorted({room(module) or "mpccomm" for module in MODULES})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [it](SECURITY.md#with)", "see [it](../security.md#with)"),
        ("[x](https://x.example/a.md) [y](#there)", "[x](https://x.example/a.md) [y](#there)"),
        ("[the licence](LICENSE)", "the licence"),
        ("[`notebooks/`](notebooks)", "`notebooks/`"),
        ("[one](notebooks/1_two_parties.ipynb)", "{doc}`one </notebooks/1_two_parties>`"),
        ("[two](docs/guides/two_machines.md)", "[two](../guides/two_machines.md)"),
        ("[up](../elsewhere)", "up"),
    ],
)
def test_links_of_pages_from_elsewhere(extension: Any, text: str, expected: str) -> None:
    outside = extension("outside")
    assert outside.translated(text, ROOT, ROOT / "docs" / "guides" / "migrating.md") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [it](../../SECURITY.md#with)", "see [it](../security.md#with)"),
        ("[it](../../MIGRATING.md)", "[it](migrating.md)"),
        ("[two](two_machines.md) [x](https://x.example/a.md)", "[two](two_machines.md) [x](https://x.example/a.md)"),
        ("[files](../deploy)", "[files](../deploy)"),
    ],
)
def test_links_to_pages_from_elsewhere(extension: Any, text: str, expected: str) -> None:
    assert extension("outside").led_to_pages(text, ROOT / "docs" / "guides" / "relay.md") == expected


def test_no_link_leads_to_a_page_that_only_includes_another(extension: Any) -> None:
    """In the repository, such a page has no text and no anchors."""
    pages = {ROOT / "docs" / page for source, page in extension("outside").PAGES.items() if source != "README.md"}
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "mpccomm/protocol/PROTOCOL.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).resolve() not in pages, (document, target)


def test_every_page_from_elsewhere_is_there() -> None:
    for page in ("contributing.md", "security.md", "changes.md", "protocol.md", "guides/migrating.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        (source,) = re.findall(r"^```\{include\} (.+)$", text, re.MULTILINE)
        assert Path(ROOT / "docs" / page).parent.joinpath(source).resolve().is_file()


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("install", "start.md"),
        ("debug", "guides/logging.md"),
        ("slurm", "deploy/README.md"),
        ("timeout", "guides/timeouts_and_errors.md"),
        ("docker", "deploy/README.md"),
    ],
)
def test_words_that_people_search_for_are_in_a_heading_of_one_page(word: str, page: str) -> None:
    """What the search of the site ranks first."""
    docs = ROOT / "docs"
    found = {
        path.relative_to(docs).as_posix()
        for path in docs.rglob("*.md")
        if any(word in line.lower() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    }
    assert found == {page}


def test_the_reference_has_every_command() -> None:
    text = (ROOT / "docs" / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## mpccomm (\w+)$", text, re.MULTILINE)) == sorted(COMMANDS)
