"""Tests may be coroutines, with Hypothesis and with fixtures."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def number() -> int:
    return 3


async def test_a_coroutine(number: int) -> None:
    assert number == 3
    assert asyncio.get_running_loop().is_running()


@given(st.integers())
async def test_a_coroutine_for_every_example(example: int) -> None:
    await asyncio.sleep(0)
    assert isinstance(example, int)


@pytest.mark.parametrize("expected", [1, 2])
class TestMethods:
    async def test_a_method(self, expected: int) -> None:
        assert await asyncio.sleep(0, expected) == expected


async def test_a_coroutine_on_either_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    of_uvloop = loop_factory is not asyncio.new_event_loop
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop") == of_uvloop
