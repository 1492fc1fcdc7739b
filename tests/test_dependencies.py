"""What the project says that it needs, and runs on, is what it is tested with, and no release with known faults."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FAULTS = re.findall(
    r"^\| ([\w-]+) \| ([\d.]+) \| .+ \| ([\d.]+) \|$", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE
)


def release(text: str) -> tuple[int, ...]:
    """A version that can be compared; 50 and 50.0.0 are the same."""
    return (*map(int, text.split(".")), 0, 0, 0)[:4]


def lower_bounds() -> dict[str, str]:
    found = re.findall(r"([\w.-]+)>=([\d.]+)", "\n".join(chain(PROJECT["dependencies"], *EXTRAS.values())))
    assert len(dict(found)) == len(set(found)), "each has one lower bound"
    return dict(found)


def test_what_reads_from_the_network_is_in_the_list() -> None:
    assert {name for name, _, _ in FAULTS} == {"aiohttp", "cryptography", "ormsgpack"}


@pytest.mark.parametrize(("name", "told", "mended"), FAULTS)
def test_no_release_with_known_faults_is_allowed(name: str, told: str, mended: str) -> None:
    assert lower_bounds()[name] == told
    assert release(told) >= release(mended)


def test_every_requirement_has_a_lower_bound_that_can_be_tested_with() -> None:
    """`.ci/run` installs exactly these releases for one of its runs; what is pinned needs none."""
    for requirement in chain(PROJECT["dependencies"], *EXTRAS.values()):
        assert re.match(r"mpccomm\[|[\w.-]+(>=|==)[\d.]+( *;.*)?$", requirement), requirement


def test_the_pythons_of_the_readme_are_those_of_the_project() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (row,) = re.findall(
        r"^\| Linux, x86-64 \| ([^|]*)\|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert re.findall(r"3\.\d+", row) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
