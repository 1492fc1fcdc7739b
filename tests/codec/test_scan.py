"""The count of elements, and of their memory, against msgpack that was built."""

import tracemalloc
from collections import deque
from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpccomm.codec.scan import ESTIMATES, count_elements, count_written_out

# What is in a text or in bytes is passed over; only how long they are matters, and that is quickly drawn.
text = st.integers(0, 300).map("x".__mul__)
data = st.integers(0, 300).map(b"\xc1".__mul__)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    text,
    data,
    st.builds(ormsgpack.Ext, st.integers(0, 127), data),
)
trees = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(text, inner))


def count(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(count, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(count, value.values()))
    return 1


@given(trees)
def test_counts_every_element(value: Any) -> None:
    assert count_elements(ormsgpack.packb(value), 10**6) == count(value)


def test_counts_long_ones() -> None:
    for value in ([0] * 70_000, ["x" * 300] * 20, [b"x" * 70_000], {str(key): None for key in range(70_000)}):
        assert count_elements(ormsgpack.packb(value), 10**6) == count(value)
    for size in (1, 2, 4, 8, 16, 17, 300, 70_000):
        assert count_elements(ormsgpack.packb([ormsgpack.Ext(5, bytes(size)), 1]), 10**6) == 3


@given(st.binary(max_size=200))
def test_ends_whatever_the_bytes(data: bytes) -> None:
    assert 0 <= count_elements(data, 1000) <= len(data)


def test_counts_no_further_than_it_has_to() -> None:
    assert count_elements(b"\xc0" * 1000, 10) == 11


def test_counts_what_a_value_comes_to() -> None:
    assert count_written_out(5, 10) == 0
    assert count_written_out([1, [2, 3], {4: [5], "a": [6]}], 100) == 3 + 2 + 4 + 1 + 1
    # A tag and a list come before the elements of the others, and a length after those of a deque.
    assert count_written_out([1, (2, 3), {4: {5}, "a": deque([6])}], 100) == 3 + (2 + 2) + 4 + (2 + 1) + (3 + 1)
    assert count_written_out([(1, 2)] * 100, 1000) == 100 + 200
    assert count_written_out([[1], [[2]]], 100, steps=3) == 0
    value: Any = [1]
    for _ in range(1000):
        value = [value, value]
    assert count_written_out(value, 10**6) > 10**6  # type: ignore[operator]
    assert count_written_out(value, 2**2000) == 3 * 2**1000 - 2
    inner: list[Any] = [1]
    inner.append({"again": (inner,)})
    assert count_written_out([inner], 100) is None


SIZE = 500_000


@pytest.mark.parametrize(
    "item",
    [
        *({}, [], {"": None}, {"a": {"b": {}}}, [[[[[]]]]], [1000, 2**40], [-6] * 9, {"key": [1.5]}),
        *(dict.fromkeys("abcdefg"), dict.fromkeys(map(str, range(23)))),
        *("t\u00ebxt", "\u2603\u2603", "x" * 27 + "\U0001f40c", "x" * 100 + "\U0001f40c", b"xy"),
    ],
    ids=repr,
)
def test_memory_is_not_more_than_is_said(item: Any) -> None:
    data = ormsgpack.packb([item])[1:]
    count = SIZE // len(data)
    data = b"\xdd" + count.to_bytes(4, "big") + data * count
    tracemalloc.start()
    value = ormsgpack.unpackb(data)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    said = [estimate(data) for estimate in ESTIMATES]
    assert len(value) == count
    assert said[-1] / 8 < taken <= 1.03 * said[-1]
    assert said[-1] <= min(said)


@pytest.mark.parametrize(
    "item",
    [
        *(
            b"\x80",
            b"\x81\xa0\xc0",
            b"\x91\xc0",
            b"\xa1x",
            b"\xe0",
            b"\xd4\x40\x00",
            b"\x92\xc7\x00\x08\x90",
            b"\xc7\x00\x08",
        ),
        *(
            b"\x92\xc8\x00\x00\x08\x90",
            b"\x92\xc9\x00\x00\x00\x00\x08\x90",
            b"\x86" + b"\xa1x\xc0" * 6,
            b"\x8f" + b"\xa1x\xe0" * 15,
            b"\xde\x00\x63" + b"\xa1x\xe0" * 99,
            b"\xde\x00\x00",
        ),
    ],
    ids=bytes.hex,
)
def test_no_estimate_says_less_than_a_later_one(item: bytes) -> None:
    *others, exactly = (estimate(item * 1000) for estimate in ESTIMATES)
    assert exactly <= min(others)
