"""Tests may be coroutines, with Hypothesis and with fixtures."""

import asyncio

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
