"""What strikes while a value is encoded or decoded comes out as itself, wherever it strikes."""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import mpccomm.codec
import mpccomm.interrupts
from mpccomm.codec import Serialization, decode, encode
from mpccomm.errors import DecodingError, EncodingError
from tests.interrupts.shots import DAY

CODEC = str(Path(mpccomm.codec.__file__).parent)
OURS = CODEC, mpccomm.interrupts.__file__, __file__
"""Where it strikes."""
STEPS = 150
"""Instructions at which a call is interrupted, spread evenly over all of them: others each day, and each by another error."""


class TimesUp(Exception):  # noqa: N818 -- as programs name it
    pass


class LikeAnErrorOfOurs(ValueError):  # noqa: N818
    pass


ERRORS = (KeyboardInterrupt, TimesUp, LikeAnErrorOfOurs)


@dataclass
class Point:
    x: int
    y: float


class Shifted:
    def __init__(self, number: int) -> None:
        self.number = number

    def serialize(self, **_kwargs: Any) -> int:
        return sum(bit << 1 for bit in (self.number,))

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Shifted":
        return Shifted(sum(bit >> 1 for bit in (obj,)))


def _raise(error: BaseException) -> None:
    raise error


def interrupted(work: Callable[[], object], at: int, error: BaseException) -> int:
    """Run *work*, and raise *error* before the instruction of that number; return how many there were before the end."""
    instructions = count()

    def instruction(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "opcode" and next(instructions) == at:
            _raise(error)
        return instruction

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return instruction

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return next(instructions)


def builtin_values() -> list[Any]:
    return [
        {"round": 3, "party": "Alice", "inner": {"a": [1, 2.5, None]}},
        [1j, 2j],
        {1: "a", (2, 3): 2**70},
        [2**70, -(2**90), "\ud800"],
        {5, frozenset({"x"})},
        [OrderedDict(a=1), deque([1], 5)],
        [Decimal("1.5"), Fraction(1, 3)],
        [datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=ZoneInfo("Europe/Amsterdam"))],
        [2**70 + number for number in range(40)],
        [(number, str(number)) for number in range(40)],
        [b"x" * 5000, bytearray(5000)],
        [Point(1, 2.5), Shifted(5)],
    ]


def library_values() -> list[Any]:
    numpy = pytest.importorskip("numpy")
    gmpy2 = pytest.importorskip("gmpy2")
    bitarray = pytest.importorskip("bitarray")
    return [
        [numpy.arange(5), numpy.float64(1.5), numpy.array([1, "x"], object)],
        numpy.zeros(2, numpy.dtype([("a", "i1"), ("b", "O")])),
        [gmpy2.mpz(5), gmpy2.mpq(1, 3), gmpy2.mpfr("1.5"), gmpy2.mpc(1, 2)],
        [gmpy2.mpz(number) for number in range(40)],
        bitarray.bitarray("0101"),
        *frames(),
    ]


def frames() -> list[Any]:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    days = pandas.date_range("2020", periods=3, freq="B", tz="Europe/Amsterdam")
    lists = pandas.ArrowDtype(pyarrow.list_(pyarrow.timestamp("ns", "Europe/Amsterdam")))
    return [
        pandas.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": [1, None, 3]}, days),
        pandas.MultiIndex.from_product([["a", "b"], days]),
        pandas.Series([[days[0]], None], dtype=lists),
        pandas.Series(pandas.period_range("2020", periods=3, freq="M"), dtype="category"),
    ]


VALUES = [*builtin_values(), *library_values()]


@pytest.fixture(autouse=True)
def registered() -> Any:
    Serialization.register_class(Point)
    Serialization.register_class(Shifted)
    yield
    Serialization.clear_serialization_logic()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(type(value).__name__))
def test_an_interrupt_comes_out_as_itself(value: Any) -> None:
    segments = encode(value).segments
    malformed = [segments[0][:-1], *segments[1:]]

    def refused() -> None:
        with pytest.raises(EncodingError):
            encode([value, object()])

    def unreadable() -> None:
        with pytest.raises(DecodingError):
            decode(malformed)

    works: list[Callable[[], object]] = [lambda: encode(value), lambda: decode(segments), refused, unreadable]
    for work in works:
        work()
        total = interrupted(work, -1, AssertionError())
        stride = max(1, total // STEPS)
        turn, first = divmod(DAY, stride)
        for number, at in enumerate(range(first, total, stride), turn):
            error = ERRORS[number % len(ERRORS)]
            struck = error()
            with pytest.raises(error) as caught:
                interrupted(work, at, struck)
            assert caught.value is struck
            assert struck.__cause__ is None
            assert not struck.__suppress_context__
        work()
