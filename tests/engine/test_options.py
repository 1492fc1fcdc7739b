"""What callers may say about a message, checked at the call."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import aiohttp
import numpy as np
import pytest

from mpccomm import PartyAbortedError
from mpccomm.engine import options
from mpccomm.engine.options import NO_LIMIT, UNSET, SendLimits
from tests.engine.faces import FACES, faces
from tests.timing import UNIT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (1, 1),
        (0.5, 0.5),
        (np.float64(2), 2.0),
        (Fraction(1, 2), 0.5),
        (aiohttp.ClientTimeout(total=3), 3),
        (aiohttp.ClientTimeout(total=0), None),
        (aiohttp.ClientTimeout(total=None), None),
    ],
)
def test_seconds(given: Any, expected: float | None) -> None:
    assert options.seconds(given) == expected


@pytest.mark.parametrize("given", ["1", b"1", True, timedelta(seconds=1), [1], Decimal(1)])
def test_what_is_no_number_of_seconds(given: Any) -> None:
    with pytest.raises(TypeError, match="a time limit is a number of seconds"):
        options.seconds(given)


def test_a_receive_may_look_and_not_wait_less() -> None:
    assert options.receive_limit(UNSET) is options.receive_limit(None) is None
    assert options.receive_limit(0) == 0
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="0 polls"):
            options.receive_limit(wrong)


def test_a_pool_lingers_for_a_finite_time() -> None:
    assert options.linger_limit(UNSET, 5.0) == 5.0
    assert options.linger_limit(0, 5.0) == 0
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="can't linger for"):
            options.linger_limit(wrong, 5.0)
    with pytest.raises(TypeError, match="linger is a number of seconds"):
        options.linger_limit(None, 5.0)  # type: ignore[arg-type]


def test_the_limits_of_a_send_are_the_pools_unless_said() -> None:
    pool = SendLimits(5.0, 3)
    assert options.send_limits(UNSET, None, pool) is pool
    assert options.send_limits(1, None, pool) == (1, 3)
    assert options.send_limits(UNSET, 7, pool) == (5.0, 7)
    # Known by identity, since nearly every send has none.
    assert options.send_limits(None, -1, pool) is NO_LIMIT
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="None waits without limit"):
            options.send_limits(wrong, None, pool)
    for odd in (True, 1.5, "3"):
        with pytest.raises(TypeError, match="max_retries is a whole number"):
            options.send_limits(UNSET, odd, pool)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="None waits without limit"):
        options.seconds(10**400)
    with pytest.raises(ValueError, match="-1 for no limit; not -2"):
        options.send_limits(UNSET, -2, pool)


@pytest.mark.parametrize("given", [0, False, b"", 1.5])
def test_a_message_id_is_a_text(given: Any) -> None:
    with pytest.raises(TypeError, match="str\\(i\\)"):
        options.check_id_type(given)


def test_an_id_fits_into_its_bytes() -> None:
    options.check_id("x" * 10, 10)
    options.check_id("ü" * 5, 10)
    for wrong in ("x" * 11, "ü" * 6):
        with pytest.raises(ValueError, match="10 are the limit"):
            options.check_id(wrong, 10)
    with pytest.raises(ValueError, match="no valid Unicode"):
        options.check_id("\ud800", 10)


@pytest.mark.parametrize("check", [options.check_id_type, options.seconds])
def test_names_in_the_place_of_something_else(check: Any) -> None:
    with pytest.raises(TypeError, match=r"not list; names of parties are given as handler_names=$"):
        check(["Bob"])


def test_names_are_a_list() -> None:
    assert options.names_of(None) is None
    assert options.names_of(["b", "a", "b"]) == options.names_of(iter(["b", "a", "b"])) == ("b", "a", "b")
    with pytest.raises(TypeError, match=r"did you mean \['alice'\]"):
        options.names_of("alice")
    # The time limit is first at other calls.
    with pytest.raises(TypeError, match=r"did you mean timeout=1.5\?"):
        options.names_of(1.5)  # type: ignore[arg-type]
    for odd, kind in (
        (1j, "complex"),
        (True, r"True \(bool\)"),
        (len, "builtin_function_or_method"),
        (..., "ellipsis"),
    ):
        with pytest.raises(TypeError, match=f"^handler_names takes a list of names; not {kind}$"):
            options.names_of(odd)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^names takes a list of names; not 1 \(int\)$"):
        options.names_of(1, "names")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("wrong", [1, None, b"bytes", ValueError("of the program")])
async def test_a_reason_that_is_no_text_ends_nothing(kind: str, wrong: Any) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        for arguments, options_ in (((wrong,), {}), ((), {"reason": wrong}), ((wrong, 0), {})):
            with pytest.raises(TypeError, match="the reason of an abort is a text"):
                await call("abort", *arguments, **options_)
        await call("send", "Bob", "goes on", timeout=100 * UNIT)
        await call("abort", reason="half of a pair: \ud800", linger=20 * UNIT)
        assert await bob.recv("Alice") == "goes on"
        with pytest.raises(PartyAbortedError, match="half of a pair: "):
            await bob.recv("Alice", timeout=100 * UNIT)
