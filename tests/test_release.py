"""A release can be made, as docs/releasing.md says, and works where nothing else is installed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks
from tests.needs import libraries

COMMANDS = {block.name: block.text for block in blocks(ROOT / "docs" / "releasing.md") if block.kind == "command"}
NEEDED = ("build", "setuptools", "twine")
SOURCES = ("mpccomm", "LICENSE", "README.md", "pyproject.toml", "setup.cfg")


def run(name: str, folder: Path) -> str:
    """Do what is shown under that name; what it prints."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    python = tools / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "MPCCOMM_")) and (key, value) != ("SSL_CERT_FILE", os.devnull)
    }
    environment["SOURCE_DATE_EPOCH"] = "1700000000"  # a copy has no commits
    environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        ["bash", "-eu", "-c", COMMANDS[name]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the sources and what was built from it, in dist/."""
    libraries(NEEDED, extra="dev")
    if sys.platform == "win32":
        pytest.skip("the commands are for a POSIX shell")
    folder = tmp_path_factory.mktemp("release")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    run("release", folder)
    return folder


def tracked(names: list[str]) -> set[str]:
    """Those that are part of the package."""
    return {name for name in names if name.startswith("mpccomm/") and not name.endswith("/")}


@pytest.mark.timeout(180)
def test_the_wheel_has_the_whole_package_and_nothing_else(release: Path) -> None:
    (wheel,) = (release / "dist").glob("*.whl")
    source = release / "mpccomm"
    expected = {path.relative_to(release).as_posix() for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert tracked(names) == expected
    assert {name.partition("/")[0] for name in names} <= {"mpccomm", wheel.name.rpartition("-py3")[0] + ".dist-info"}


@pytest.mark.timeout(180)
def test_the_source_distribution_can_be_built_from(release: Path) -> None:
    (sdist,) = (release / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", "mpccomm/protocol/PROTOCOL.md"} <= names


@pytest.mark.timeout(300)
def test_it_works_where_nothing_else_is_installed(release: Path) -> None:
    shown = run("bare", release)
    assert "usage: mpccomm [-h] [--version] command" in shown
    python = release / "bare" / "bin" / "python"
    listing = "from importlib.metadata import distributions as d; print(*(it.name for it in d()))"
    listed = subprocess.run([python, "-c", listing], capture_output=True, text=True, check=True)
    assert {"mpccomm", "aiohttp"} <= set(listed.stdout.split())
    assert not {"numpy", "pip"} & set(listed.stdout.split())
    # Two parties in one process, from a folder where no source is.
    talk = (
        "from mpccomm import SyncPool\n"
        "with SyncPool() as a, SyncPool() as b:\n"
        "    a.add_http_server(0, '127.0.0.1'); b.add_http_server(0, '127.0.0.1')\n"
        "    a.add_http_client('b', '127.0.0.1', b.port); b.add_http_client('a', '127.0.0.1', a.port)\n"
        "    a.send('b', {1: 2**100}, timeout=20)\n"
        "    assert b.recv('a', timeout=20) == {1: 2**100}\n"
    )
    subprocess.run([python, "-I", "-W", "error", "-c", talk], cwd=release / "dist", timeout=60, check=True)


@pytest.mark.timeout(300)
def test_what_is_published_is_told_with_its_hashes(release: Path) -> None:
    if not (release / "bare").exists():
        run("bare", release)
    run("sbom", release)
    bill = json.loads((release / "dist" / "mpccomm.cdx.json").read_text(encoding="utf-8"))
    assert bill["metadata"]["component"]["name"] == "mpccomm"
    components = {component["name"]: component for component in bill["components"]}
    assert {"aiohttp", "ormsgpack"} <= components.keys()
    assert not {"numpy", "pip", "cyclonedx-bom"} & components.keys()
    assert all(component["version"] and component["licenses"] for component in components.values())
    assert str(release) not in json.dumps(bill)
    sums = (release / "dist" / "SHA256SUMS").read_text(encoding="utf-8").split()
    told = dict(zip(sums[1::2], sums[::2], strict=True))
    assert {name.rpartition(".")[2] for name in told} == {"whl", "gz", "json"}
    for name, digest in told.items():
        assert hashlib.sha256((release / "dist" / name).read_bytes()).hexdigest() == digest
