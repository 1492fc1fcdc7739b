"""The documents are true: what they show is done here, and does what they say."""

import ast
import builtins
import importlib.util
import re
import shutil
import socket
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import mpccomm
from mpccomm import ConfigurationError
from mpccomm.config import _CALLBACKS, _COMMON, _PARTY
from mpccomm.protocol.frames import PROTOCOL_VERSION
from mpccomm.settings import DEFAULTS
from tests.documents import ROOT, SETUP, Reader, blocks, documents

SHOWING = [document for document in documents() if blocks(document)]


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def test_what_those_who_work_on_it_are_told_to_run_and_to_touch_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+(?:/|\.py|\.md))`", text)
    missing = [name for name in named if not any((place / name).exists() for place in (ROOT, ROOT / "mpccomm"))]
    assert not missing
    modules = re.findall(r"python -m ((?:tests|mpccomm)\.[\w.]+)", text)
    assert modules
    assert not [name for name in modules if importlib.util.find_spec(name) is None]
    scripts = re.findall(r"python (benchmarks/\w+\.py)", text)
    assert scripts
    assert all((ROOT / script).exists() for script in scripts)
    ((path, word),) = re.findall(r"pytest (tests/\S+) -k (\w+)", text)
    assert re.search(rf"^def test_\w*{word}", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.skipif(sys.platform != "linux", reason="needs bash, and more than one address on loopback")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("document", SHOWING, ids=name_of)
def test_what_is_shown_works(document: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    found = blocks(document)
    if document in (ROOT / "README.md", ROOT / "docs" / "start.md"):
        # Their programs are started in every order, by a test of their own.
        found = [block for block in found if block.kind not in ("file", "output")]
    if any("mpccomm.dask" in block.text for block in found):
        pytest.importorskip("distributed", reason="dask.distributed is not installed")
    if any("openssl" in block.text for block in found) and not shutil.which("openssl"):
        pytest.skip("needs the command openssl: install OpenSSL")
    Reader(tmp_path).read(found)


def test_commands_that_are_left_to_others() -> None:
    names = [block.name for document in SHOWING for block in blocks(document) if block.kind == "command"]
    # test_readme.py and .ci/run; test_release.py; .ci/run
    assert sorted(names) == sorted(["demo", "tests", "release", "sbom", "bare", "site"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs bash")
@pytest.mark.parametrize(
    "text",
    [
        "```python\nraise ValueError\n```",
        "```python\nimport warnings\nwarnings.warn('here')\n```",
        "<!-- setup\nraise ValueError\n-->\n```text\n```",
        "```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```",
        "```python\nprint(1)\n```\n\n<!-- output -->\n```text\n```",
        "```sh\nfalse\necho\n```",
        "```sh\nmpccomm certs show none.pem\n```",
        "```sh\nkubectl apply --filename none.yaml\n```",
        "```sh\necho 1\n```\n\n<!-- output -->\n```text\n2\n```",
        "```toml\n[parties.a]\nadr = 'a'\n```",
        "<!-- file: x.py -->\n```python\nx = (\n```",
        "```ruby\nputs 1\n```",
        "```\nwhat is this\n```",
        "<!-- outpt -->\n```text\n```",
        "<!-- file: x.py -->\n\n```python\n```",
        "1. a list\n\n   ```python\n   raise ValueError\n   ```",
        "~~~python\nraise ValueError\n~~~",
    ],
)
def test_what_is_wrong_is_found(text: str, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"{text}\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises((AssertionError, ConfigurationError, SyntaxError)):
        Reader(tmp_path / "folder").read(blocks(document))


@pytest.mark.skipif(sys.platform != "linux", reason="needs bash")
def test_what_is_right_is_not(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "<!-- setup\nx = 1\n-->\n```python\nprint(x, object())\n```\n\n<!-- output -->\n```text\n1 <…>\n```\n\n"
        "```python\nprint(x + 1)\n```\n\n<!-- output -->\n```text\n2\n```\n\n```sh\necho 3\n```\n",
        encoding="utf-8",
    )
    (tmp_path / "folder").mkdir()
    Reader(tmp_path / "folder").read(blocks(document))


# -- what a reader sees is enough --------------------------------------------------------------------------------------


def unseen(document: Path) -> Iterator[str]:
    """The names that a shown program uses, and that nothing before it on the page makes, or tells of as `name`.

    What is of this library has to be imported: that the text tells of it is not enough.
    """
    text = document.read_text(encoding="utf-8").splitlines()
    made = {*dir(builtins), "__name__"}
    for block in blocks(document):
        if not block.is_program or block.kind == SETUP:
            continue
        tree = ast.parse(block.text)
        made |= set(names_made(tree))
        told = set(re.findall(r"`(\w+)`", "\n".join(text[: block.line]))) - set(mpccomm.__all__)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        yield from (f"{block.where}: {name}" for name in sorted(used - made - told))


def names_made(tree: ast.AST) -> Iterator[str]:
    """Wherever in it, and however."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]


@pytest.mark.parametrize("document", SHOWING, ids=name_of)
def test_what_a_reader_sees_is_enough(document: Path) -> None:
    assert list(unseen(document)) == []


NEEDED = {
    "dask": r"from mpccomm\.dask",
    "gmpy": r"import gmpy2",
    "metrics": r"from mpccomm\.metrics",
    "numpy": r"import numpy",
    "pandas": r"import pandas",
    "plot": r"mpccomm trace draw|\.(?:plot|timeline)\(",
    "tls": r"mpccomm certs",
}
"""What of a program, or of commands, needs an extra."""


@pytest.mark.parametrize("document", [path for path in SHOWING if path.parent.name == "guides"], ids=name_of)
def test_a_guide_says_which_extras_it_needs(document: Path) -> None:
    shown = "\n".join(block.text for block in blocks(document) if block.kind != SETUP)
    first = document.read_text(encoding="utf-8").partition("```")[0]
    needed = {extra for extra, use in NEEDED.items() if re.search(use, shown)}
    assert {extra for extra in needed if f"`{extra}`" not in first} == set()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("<!-- setup\npool = 1\n-->\n```python\nprint(pool)\n```", ["pool"]),
        ("With `pool`, a pool:\n\n<!-- setup\npool = 1\n-->\n```python\nprint(pool)\n```", []),
        ("With `pool.send`:\n\n<!-- setup\npool = 1\n-->\n```python\nprint(pool)\n```", ["pool"]),
        ("A `SyncPool`:\n\n<!-- setup\nfrom mpccomm import *\n-->\n```python\nSyncPool()\n```", ["SyncPool"]),
        ("```python\nfrom mpccomm import SyncPool\n```\n\n```python\nSyncPool()\n```", []),
        ("```python\nx = [y for y in ()]\n```\n\n```python\nprint(x, z)\n```\n\nand `z`", ["z"]),
    ],
)
def test_what_a_reader_does_not_see_is_found(text: str, missing: list[str], tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"{text}\n", encoding="utf-8")
    assert [line.rpartition(" ")[2] for line in unseen(document)] == missing


def test_other_addresses_on_loopback_can_be_bound() -> None:
    if sys.platform == "linux":
        socket.create_server(("127.0.0.2", 0)).close()


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (document.parent / target).exists(), target
    for target in re.findall(r"\{doc\}`[^`<]*</([^`>]+)>`", text):
        assert list((ROOT / "docs").glob(f"{target}.*")), target


# -- messages ----------------------------------------------------------------------------------------------------------

MESSAGES = re.findall(r"^> (.+)$", (ROOT / "docs" / "messages.md").read_text(encoding="utf-8"), re.MULTILINE)


def texts() -> Iterator[str]:
    """Every text in the source, with … for what differs."""
    for path in (ROOT / "mpccomm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[\d.]*[a-z]", "…", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_messages_are_those_of_the_source() -> None:
    assert len(MESSAGES) > 30
    source = "\n".join(texts())
    # What begins or ends with something that differs may be put together from several texts.
    assert [message for message in MESSAGES if message.strip("… ") not in source] == []


# -- the configuration file --------------------------------------------------------------------------------------------


def keys_of(default: object, prefix: str = "") -> Iterator[str]:
    """The keys of the settings; an inner table is its keys."""
    for one in fields(default):  # type: ignore[arg-type]
        value = getattr(default, one.name)
        if is_dataclass(value):
            yield from keys_of(value, f"{prefix}{one.name}.")
        elif one.name not in _CALLBACKS:
            yield f"{prefix}{one.name}"


def leaves(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in table.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_the_version_of_the_protocol_is_that_of_the_source() -> None:
    for name in ("docs/compatibility.md", "mpccomm/protocol/PROTOCOL.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"(?:a version of its own, now|between two pools, version) (\d+)", text) == [
            str(PROTOCOL_VERSION)
        ]


def test_every_key_of_the_configuration_is_shown() -> None:
    (shown,) = [block for block in blocks(ROOT / "docs/reference/configuration.md") if block.kind == "every key"]
    data = tomllib.loads(shown.text)
    settings = leaves(data["settings"])
    assert set(settings) == set(keys_of(DEFAULTS))
    assert set(data) == set(_COMMON)
    assert set(data["parties"]["alice"]) == set(_PARTY)
    for key, value in settings.items():
        default: object = DEFAULTS
        for part in key.split("."):
            default = getattr(default, part)
        assert default in (value, None), f"{key} is {default!r} by default"
    table = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    for key in {*_COMMON, *_PARTY} - {"parties"}:
        assert f"\n| `{key}` |" in table
