"""A loop that is kept awake, where that is asked for. The reason is in the tests of the notebooks."""

import asyncio
import sys

import pytest

from mpccomm.sync import notebook_wakeup as awake
from tests.timing import UNIT


async def test_while_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(awake, "_PERIOD", UNIT / 100)
    asked = 0
    over = asyncio.Event()

    def needed() -> bool:
        nonlocal asked
        asked += 1
        if asked == 5:
            over.set()
        return asked < 5

    awake.keep_notebook_awake(needed)
    await over.wait()
    assert asked == 5


async def test_not_in_a_program() -> None:
    assert not hasattr(sys, "ps1")
    awake.keep_notebook_awake(lambda: pytest.fail("nobody has to ask"))


def test_not_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    awake.keep_notebook_awake(lambda: pytest.fail("nobody has to ask"))
