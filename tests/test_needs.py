"""The reason of a skipped test says how to get what it needs."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.needs import missing

TESTS = Path(__file__).parent
NOT_BROUGHT = {"pytz", "safetensors", "sphinx", "torch", "yaml"}
"""What the README's command does not install."""


def test_a_skip_for_a_library_that_the_command_does_not_bring_has_a_reason() -> None:
    bare = re.compile(r"""importorskip\("([\w.]+)"\)""")
    for path in sorted(TESTS.rglob("*.py")):
        found = {name.partition(".")[0] for name in bare.findall(path.read_text(encoding="utf-8"))}
        assert not found & NOT_BROUGHT, path


@pytest.mark.parametrize("extra", ["torch", "deploy", "docs"])
def test_the_reason_names_an_extra_that_there_is(extra: str) -> None:
    assert any(f'extra == "{extra}"' in one or f"extra == '{extra}'" in one for one in requires("mpccomm") or ())
    assert missing("x", extra=extra) == f"not installed: x; python -m pip install --editable '.[{extra}]'"
