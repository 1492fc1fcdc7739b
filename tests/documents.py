"""What the documents show, as a reader would do it: their fenced blocks, and a folder in which these are done in order.

Comments, which are not seen when a document is shown, say what a block is where its language does not:

==========================  ==============================================================================================
``<!-- file: name -->``     the block is the file of that name
``<!-- at: name -->``       commands for the machine of one party; blocks in a row that are marked so run at the same time
``<!-- output: name -->``   what the block before has printed, or that of the party; "…" stands for anything
``<!-- command: name -->``  another test runs it
``<!-- every key -->``      a test looks whether it has all that it could have
``<!-- setup ... -->``      Python that belongs to the blocks around it, and would only distract there
==========================  ==============================================================================================

What a shown program uses is made in sight, or told of in the text as `name`: a setup is no place for its imports.

Names of machines and port numbers are replaced by ones on loopback before anything runs.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import pytest

from mpccomm.config import Config
from tests.ports import free_ports
from tests.timing import UNIT

ROOT = Path(__file__).parents[1]
LIMIT = 1200 * UNIT
"""Seconds for a block, or for blocks that run together."""

_PREAMBLE, _END = "from tests import shown\n", "shown.end()\n"
SETUP = "setup"
"""The kind of a block that readers do not see."""
_PRINTED = "printed"
"""The kind of what a program has printed so far; and the line by which it says that it is there."""
_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_ANY_FENCE = re.compile(r"^[ >]*(?:```|~~~)", re.MULTILINE)
_KINDS = {"at", "command", "every key", "file", "output"}
_COMMENT = re.compile(
    r"^<!-- (?P<kind>\w+(?: \w+)?)(?:: (?P<name>\S+))?(?P<text>\n.*?^| )-->$", re.MULTILINE | re.DOTALL
)
HOSTS = {
    "alice.example": "127.0.0.2",
    "bob.example": "127.0.0.3",
    "carol.example": "127.0.0.4",
    "proxy.example": "127.0.0.1",
}
_PORT = re.compile(r"\b(?:80|84)\d\d\b")


@dataclass(frozen=True)
class Block:
    """One block of a document."""

    document: Path
    line: int
    language: str
    kind: str
    """The kind that the comment before it names; empty: there is none."""
    name: str
    text: str

    @property
    def where(self) -> str:
        """The place of the block, for messages."""
        return f"{os.path.relpath(self.document, ROOT)}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Whether it is a part of a program that runs here."""
        return self.language == "python" and self.kind in ("", SETUP, _PRINTED)


def documents() -> list[Path]:
    """Return the documents that are checked: those at the top of the repository, and all of the site."""
    own = [ROOT / "mpccomm" / "protocol" / "PROTOCOL.md"]
    return sorted([*ROOT.glob("*.md"), *own, *(ROOT / "docs").rglob("*.md")])


def blocks(document: Path) -> list[Block]:
    """In order; setups among them, with the language of a program."""
    text = document.read_text(encoding="utf-8")
    found: list[Block] = []
    assert len(_ANY_FENCE.findall(text)) == 2 * len(_FENCE.findall(text)), (
        f"{document}: a fence that is indented or open"
    )
    said: dict[int, tuple[str, str]] = {}
    for comment in _COMMENT.finditer(text):
        if comment["kind"] == "setup":
            found.append(Block(document, _line(text, comment.start()), "python", SETUP, "", comment["text"]))
        else:
            assert comment["kind"] in _KINDS, f"{document}: {comment[0]} means nothing"
            said[comment.end() + 1] = comment["kind"], comment["name"] or ""
            assert text.startswith("```", comment.end() + 1), f"{document}: what is {comment[0]} about?"
    for match in _FENCE.finditer(text):
        kind, name = said.get(match.start(), ("", ""))
        found.append(Block(document, _line(text, match.start()), match["language"].strip(), kind, name, match["text"]))
    return sorted(found, key=lambda block: block.line)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


class Reader:
    """Does what a document says, in a folder of its own.

    :param hosts: what stands for the machines that it names
    :param within: what to put before a command to run it on the machine of a party
    """

    def __init__(
        self, folder: Path, hosts: Mapping[str, str] = HOSTS, within: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        self.folder = folder
        self._hosts = hosts
        self._within = within
        self._files: list[Path] = []
        self._printed: dict[str, str] = {}
        self._ports: dict[str, str] = {}
        self._environment = _environment(folder)

    def read(self, found: Sequence[Block]) -> None:
        """Do all that the blocks say, in order. Adjacent blocks of Python are one program."""
        examples = found[0].document.parent
        if examples.name == "deploy":
            # Its commands are for this folder, or for that of the repository.
            for place in (self.folder, self.folder / "docs" / "deploy"):
                shutil.copytree(examples, place, dirs_exist_ok=True)
        joined: list[Block] = []
        for block in found:
            # A program continues after the block that shows what it has printed.
            shown = block.kind == "output" and joined and joined[-1].is_program
            joined.append(replace(block, language="python", kind=_PRINTED) if shown else block)
        for way, group in groupby(joined, self._way):
            way(list(group))

    def _way(self, block: Block) -> Callable[[list[Block]], None]:
        if block.language.startswith("{") or block.kind == "command":
            return _pass
        for kind, way in (("file", self._write), ("output", self._compare), ("at", self._together)):
            if block.kind == kind:
                return way
        ways: Mapping[str, Callable[[list[Block]], None]] = {
            "python": self._run_python,
            "sh": self._run_commands,
            "toml": self._configure,
            "yaml": _load_yaml,
            "text": _pass,
        }
        assert block.language in ways, f"{block.where}: nothing is known to be done with {block.language!r}"
        return ways[block.language]

    def _local(self, text: str) -> str:
        """Return the text with the addresses of this machine."""
        for host, address in self._hosts.items():
            text = text.replace(host, address).replace(f"DNS:{address}", f"IP:{address}")
        return _PORT.sub(self._port, text)

    def _port(self, match: re.Match[str]) -> str:
        if match[0] not in self._ports:
            (port,) = free_ports(1)
            self._ports[match[0]] = str(port)
        return self._ports[match[0]]

    # -- what can be done with a block ---------------------------------------------------------------------------------

    def _write(self, found: list[Block]) -> None:
        for block in found:
            path = self.folder / block.name
            path.write_text(self._local(block.text), encoding="utf-8")
            # Lines are read by the command that they are for.
            if block.language == "toml" and block.name != "lines.toml":
                Config.load(path, certified=False)
            elif block.language == "python":
                ast.parse(block.text)
            self._files.append(path)

    def _configure(self, found: list[Block]) -> None:
        for block in found:
            data = tomllib.loads(block.text)
            assert data, block.where
            path = self.folder / "checked.toml"
            path.write_text(block.text, encoding="utf-8")
            Config.load(path, certified=False)

    def _run_python(self, found: list[Block]) -> None:
        parts = [
            f"print({_PRINTED!r})" if block.kind == _PRINTED else f"# {block.where}\n{self._local(block.text)}"
            for block in found
        ]
        code = "\n".join([_PREAMBLE, *parts, _END])
        program = self.folder / "shown.py"
        program.write_text(as_program(code), encoding="utf-8")
        self._run({"": ([sys.executable, "-W", "error", str(program)], self.folder)}, found)
        printed = self._printed[""].split(f"{_PRINTED}\n")
        for block, text in zip([block for block in found if block.kind == _PRINTED], printed, strict=False):
            self._check(block, text)

    def _run_commands(self, found: list[Block]) -> None:
        script = "".join(self._local(block.text) for block in found)
        self._run({"": (["bash", "-eu", "-c", script], self.folder)}, found)

    def _together(self, found: list[Block]) -> None:
        commands = {}
        for block in found:
            folder = self.folder / "certificates" / block.name
            for path in self._files:
                # "Copy it to its party"; what is there already was made for that party.
                if not (folder / path.name).exists():
                    shutil.copy(path, folder)
            commands[block.name] = (
                [*self._within.get(block.name, ()), "bash", "-eu", "-c", self._local(block.text)],
                folder,
            )
        self._run(commands, found)

    def _run(self, commands: Mapping[str, tuple[Sequence[str], Path]], found: Sequence[Block]) -> None:
        """Run all commands at the same time; all have to succeed."""
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        running: dict[str, subprocess.Popen[str]] = {}
        try:
            for name, (command, folder) in commands.items():
                running[name] = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=self._environment,
                    text=True,
                    stdin=null,
                    stdout=pipe,
                    stderr=pipe,
                    start_new_session=True,
                )
            self._printed = {}
            for name, process in running.items():
                printed, errors = process.communicate(timeout=LIMIT)
                assert process.returncode == 0, f"{found[0].where}: {printed}{errors}"
                self._printed[name] = printed
        finally:
            for process in running.values():
                with process, suppress(ProcessLookupError):
                    # Together with all that it has started.
                    os.killpg(process.pid, signal.SIGKILL)

    def _compare(self, found: list[Block]) -> None:
        for block in found:
            self._check(block, self._printed[block.name])

    def _check(self, block: Block, printed: str) -> None:
        expected = ".*".join(map(re.escape, self._local(block.text).split("…")))
        assert re.fullmatch(expected, printed), f"{block.where}: printed was\n{printed}"


def as_program(code: str) -> str:
    """Cells of a notebook run inside an event loop that is running already."""
    if not re.search(r"^(?:\w+ = |print\(.*|)(?:await|async with|async for) ", code, re.MULTILINE):
        return code
    return f"import asyncio\nasync def cells():\n{textwrap.indent(code, '    ')}\nasyncio.run(cells())\n"


def _pass(found: list[Block]) -> None:
    """Do nothing: the block is a picture, a directive of the site, or belongs to another test."""


def _load_yaml(found: list[Block]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    for block in found:
        assert list(yaml.safe_load_all(block.text)), block.where


# -- commands of the system --------------------------------------------------------------------------------------------

_STAND_IN = """
import os, pathlib, sys
named = [argument.rpartition("=")[2] for argument in sys.argv[1:] if argument.startswith("--from-file=")]
named += [after for option, after in zip(sys.argv[1:], sys.argv[2:]) if option in ("--file", "--filename")]
if "compose" in sys.argv:
    named.append("compose.yaml")
missing = [name for name in named if not pathlib.Path(name).is_file()]
sys.exit(f"no such file: {missing}" if missing else 0)
"""
"""For docker and kubectl, which would need a machine of their own: at least the files that they are told of are there."""


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has installed mpccomm."""
    tools = folder / "tools"
    tools.mkdir()
    stand_in = tools / "stand_in.py"
    stand_in.write_text(_STAND_IN, encoding="utf-8")
    programs = {"python": [], "mpccomm": ["-m", "mpccomm"], "docker": [str(stand_in)], "kubectl": [str(stand_in)]}
    for name, arguments in programs.items():
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {" ".join([sys.executable, *arguments])} "$@"\n', encoding="utf-8")
        tool.chmod(0o755)
    return {key: value for key, value in os.environ.items() if not key.startswith("MPCCOMM_")} | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        # What is shown has nothing to warn of; other plugins, which are here for our tests, may.
        "PYTEST_ADDOPTS": "-W error -p no:asyncio -p no:anyio",
    }
