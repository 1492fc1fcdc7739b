"""What a receive may be told to expect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpccomm import UnexpectedTypeError
from mpccomm.engine.expect import Array, check, check_expect

CUBE = np.zeros((2, 3, 4), np.uint64)


@pytest.mark.parametrize("expect", [int, (int, str), int | None, Array(), Array("u8", (None, 3)), None])
def test_what_can_be_expected(expect: Any) -> None:
    check_expect(expect)


@pytest.mark.parametrize("expect", [list[int], 3, "int", (int, 3)])
def test_what_can_not(expect: Any) -> None:
    with pytest.raises(TypeError, match="expect= takes a class"):
        check_expect(expect)


@pytest.mark.parametrize(
    ("dtype", "shape", "error", "why"),
    [
        ("flot64", None, TypeError, "flot64"),
        ("float64", 3, TypeError, "a shape is a tuple of lengths"),
        ("float64", "3", TypeError, "a shape is a tuple of lengths"),
        ("float64", [3], TypeError, "a shape is a tuple of lengths"),
        ("float64", (1.5,), TypeError, "integer"),
        ("float64", (-1, 3), ValueError, r"no array has the shape \(-1, 3\); None stands for any length"),
    ],
)
def test_an_array_that_can_not_be_is_refused_as_it_is_made(
    dtype: Any, shape: Any, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        Array(dtype, shape)


@pytest.mark.parametrize(
    ("value", "expect"),
    [
        (1, int),
        (True, int),
        ("x", (int, str)),
        (None, int | None),
        (CUBE, np.ndarray),
        (CUBE, Array()),
        (CUBE, Array(np.uint64)),
        (CUBE, Array("u8", (2, None, 4))),
        (np.float64(1), float),
    ],
)
def test_what_is_as_expected(value: object, expect: Any) -> None:
    check(value, expect, "it")


@pytest.mark.parametrize(
    ("value", "expect", "found", "expected"),
    [
        ("x", int, "str", "int"),
        (1.5, (int, str), "float", "int or str"),
        ([1], Array(), "list", "an array of any dtype and any shape"),
        (CUBE, Array("f4"), "an array of uint64 and shape (2, 3, 4)", "an array of float32 and any shape"),
        (
            CUBE,
            Array(None, (2, None)),
            "an array of uint64 and shape (2, 3, 4)",
            "an array of any dtype and shape (2, any)",
        ),
        (1, np.ndarray, "int", "numpy.ndarray"),
    ],
)
def test_what_is_not_is_named(value: object, expect: Any, found: str, expected: str) -> None:
    with pytest.raises(UnexpectedTypeError) as caught:
        check(value, expect, "#0 from bob (127.0.0.1:1)")
    assert str(caught.value).startswith(f"#0 from bob (127.0.0.1:1) is {found}, where {expected} was expected")
    assert isinstance(caught.value, TypeError)
