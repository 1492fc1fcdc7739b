"""The README and its first page are true: their commands exist, and their programs, run as processes, print what they say."""

import re
import socket
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import documents

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START = ROOT / "docs" / "start.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(kind: str, document: Path = START) -> dict[str, str]:
    """The fenced blocks that follow a comment of this kind, by what the comment says."""
    return {block.name: block.text for block in documents.blocks(document) if block.kind == kind}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_marked_blocks_are_there() -> None:
    assert blocks("command", README).keys() == {"demo", "tests"}
    assert blocks("output").keys() == {"alice", "bob"}
    assert blocks("file").keys() == {
        f"{way}/{party}.py" for way in ("script", "asyncio", "notebook") for party in ("alice", "bob")
    }


def test_the_first_screen_shows_what_is_run_here() -> None:
    for kind in ("file", "output"):
        shown = blocks(kind, README)
        assert shown
        assert shown == {name: blocks(kind)[name] for name in shown}


def test_what_is_promised_of_types_is_what_their_table_says() -> None:
    table = (ROOT / "docs" / "types.md").read_text(encoding="utf-8")
    others = re.findall(
        r"^\| (.+?) \| (?!the same|arrives as|-+ )(.+?) \|", table.partition("## Types that can't")[0], re.MULTILINE
    )
    assert ("`memoryview`", "`bytes`") in others
    (promise,) = re.findall(
        r"What arrives equals what was sent.+?(?=\n\d\.)", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert "but for the few types that arrive as another" in " ".join(promise.split())
    assert "(docs/types.md)" in promise


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("first", ["alice", "bob"])
@pytest.mark.parametrize("way", ["script", "asyncio", "notebook"])
def test_alice_and_bob(way: str, first: str, tmp_path: Path) -> None:
    """In either order: the second starts when the server of the first is there, or the order would be a matter of luck."""
    ports = {"alice": free_port(), "bob": free_port()}
    programs = blocks("file")
    with ExitStack() as stack:
        running: dict[str, subprocess.Popen[str]] = {}
        for party in sorted(ports, key=lambda name: name != first):
            code = documents.as_program(programs[f"{way}/{party}.py"])
            for documented, port in ((8001, ports["alice"]), (8002, ports["bob"])):
                assert str(documented) in code
                code = code.replace(str(documented), str(port))
            program = tmp_path / f"{party}.py"
            program.write_text(code, encoding="utf-8")
            running[party] = stack.enter_context(start(program))
            stack.callback(running[party].kill)
            if party == first:
                wait_for_server(ports[party], running[party])
        for party, process in running.items():
            output, errors = process.communicate()
            assert (process.returncode, output) == (0, blocks("output")[party]), errors


def start(program: Path) -> subprocess.Popen[str]:
    # From the root of the clone, so that what is tested is what is there, installed or not.
    command = [sys.executable, "-c", f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"]
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=null, stdout=pipe, stderr=pipe)


def wait_for_server(port: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return


def test_the_demo() -> None:
    """Its last step; `.ci/run` takes the first two for the tests."""
    *_, command = blocks("command", README)["demo"].split("&&")
    python, *arguments = command.split()
    assert python == ".venv/bin/python"
    run = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_extras_are_those_of_the_project() -> None:
    table = re.findall(r"^\| `(\w+)` \|", START.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(PROJECT["optional-dependencies"])


def included(extra: str) -> set[str]:
    """The extras that come with this one, itself among them."""
    requirements: list[str] = PROJECT["optional-dependencies"][extra]
    named = [re.fullmatch(r"mpccomm\[([\w,]+)\]", one) for one in requirements]
    return {extra}.union(*(included(other) for match in named if match for other in match[1].split(",")))


def test_the_extra_for_the_tests_has_what_the_table_says() -> None:
    (said,) = re.findall(r"^\| `tests` \| (.*) \|$", START.read_text(encoding="utf-8"), re.MULTILINE)
    assert "`notebooks`, and `all` but `torch`" in said
    assert included("tests") >= {"notebooks"} | included("all") - {"all", "torch"}
    assert "torch" not in included("tests")


def test_no_field_of_the_project_is_given_twice() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert set(setup["metadata"]) == {"version"} == set(PROJECT["dynamic"])
    assert set(setup["options"]) == {"packages"}


def test_the_badges_are_true() -> None:
    text = (ROOT / "docs" / "static" / "badges.svg").read_text(encoding="utf-8")
    shown = re.findall(r"<text[^>]*>([^<]+)</text>", text)
    versions = [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
    ]
    assert shown == ["checks", ".ci/run", "python", f"{versions[0]} to {versions[-1]}", "licence", "Apache 2.0"]
    assert PROJECT["license"] == "Apache-2.0"
    assert (ROOT / ".ci" / "run").is_file()
