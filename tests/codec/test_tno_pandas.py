"""Frames in the format of tno.mpc.communication: what arrives is what was sent, or it is refused."""

from typing import Any

import gmpy2
import numpy as np
import ormsgpack
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

from mpccomm import DecodingError, EncodingError, Serialization  # noqa: E402
from mpccomm.codec import tno  # noqa: E402


class Counted:
    """Knows how often it was asked for its parts."""

    def __init__(self, x: int) -> None:
        self.x = x
        self.asked = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counted) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]

    def serialize(self, **_kwargs: Any) -> dict[str, Any]:
        self.asked += 1
        return {"x": self.x, "of": [self.x]}

    @staticmethod
    def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Counted":
        return Counted(obj["x"])


def through(value: object) -> Any:
    packed, _ = tno.pack_exactly(value, {}, lambda: None)
    return tno.unpack_object(packed, {})


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    compare = pd.testing.assert_series_equal if isinstance(one, pd.Series) else pd.testing.assert_frame_equal
    compare(one, other, check_freq=False)


TIMES = pd.to_datetime(["2020-01-01", None, "2020-01-03"])
FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 1.0], "c": [True, False, True]}),
    "texts": pd.DataFrame({"a": ["x", None, "y"]}, index=["k", "l", "m"]),
    "bytes": pd.DataFrame({"a": [b"x", None, b"y"]}),
    "times": pd.DataFrame({"a": TIMES, "b": TIMES.tz_localize("Europe/Amsterdam"), "c": TIMES - TIMES[0]}),
    "named axes": pd.DataFrame({"a": [1, 2]}, index=pd.Index([3, 4], name="key")),
    "levels": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "x"), (1, "y")], names=["i", "j"])),
    "number names": pd.DataFrame({1: [1, 2], 2: ["x", "y"]}),
    "big": pd.DataFrame({"a": [2**100, 3]}, dtype=object),
    "gmpy": pd.DataFrame({"a": [gmpy2.mpz(2**100), gmpy2.mpz(3)], "b": "text"}),
    "anything": pd.DataFrame({"a": [gmpy2.mpz(5), (1, 2), [3], "text", None]}),
    "names of a kind": pd.DataFrame({("a", "b"): [gmpy2.mpz(1)]}, index=pd.Index(["x"], name="named")),
    "attrs": pd.DataFrame({"a": [1]}),
    "nothing": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": np.array([], float)}),
    "series": pd.Series([1, 2], index=["x", "y"], name="values"),
    "no name": pd.Series([1.5, None]),
    "number name": pd.Series([1, 2], name=7),
}
FRAMES["attrs"].attrs["unit"] = "kg"


@pytest.mark.parametrize("name", FRAMES)
def test_what_arrives_is_what_was_sent(name: str) -> None:
    same(through(FRAMES[name]), FRAMES[name])
    same(through([{"a": FRAMES[name]}])[0]["a"], FRAMES[name])


REFUSED = {
    "small numbers": pd.DataFrame({"a": np.array([1, 2, 3], np.int8)}),
    "numpy in cells": pd.DataFrame({"a": [np.int64(1), "x"]}, dtype=object),
    "sets in cells": pd.DataFrame({"a": [{1}]}),
    "their own": pd.DataFrame({"a": [{"type": "int", "data": b"1"}]}),
    "complex": pd.DataFrame({"a": [1j]}),
}


def test_nullable_numbers_arrive_or_are_refused() -> None:
    # Releases of pandas differ in what they make of these when they look into each cell.
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64")})
    try:
        back = through(frame)
    except EncodingError:
        return
    same(back, frame)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_arrive_changed_is_refused(name: str) -> None:
    with pytest.raises(EncodingError, match=r"message\[0\]"):
        through([REFUSED[name]])


def test_timestamps() -> None:
    for text in ("2020-01-02", "2020-01-02 03:04:05.678901", "2020-01-02 03:04+00:00", "2020-01-02 03:04+01:00"):
        back = through(pd.Timestamp(text))
        assert (back, str(back.tz)) == (pd.Timestamp(text), str(pd.Timestamp(text).tz))
    for value in (pd.Timestamp(1), pd.Timestamp("2020-07-01", tz="Europe/Amsterdam")):
        with pytest.raises(EncodingError, match="nanoseconds or a time zone"):
            through(value)
        assert tno.unpack(tno.pack(value, "x"))[1] == value.floor("us"), (
            "for bytes that 4.x reads it is what 4.x makes of it"
        )


def test_a_class_is_asked_once_for_each_instance() -> None:
    Serialization.register_class(Counted)
    try:
        for others in ([], [gmpy2.mpz(1)], [(1, 2)]):
            sent = Counted(3)
            assert through(pd.Series([sent, *others], dtype=object))[0] == sent
            assert sent.asked == 1
    finally:
        Serialization.clear_serialization_logic()


COLLIDING = [{"type": "int", "data": (n * (2**61 - 1)).to_bytes(16, "little")} for n in range(3000)]


def packed(name: str, data: object) -> bytes:
    return ormsgpack.packb({"type": name, "data": data}, option=ormsgpack.OPT_NON_STR_KEYS)


def tuples(*items: object) -> list[object]:
    return [{"type": "tuple", "data": item} for item in items]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("DataFrame", b""),
        ("DataFrame", b"PAR1" + bytes(20) + b"PAR1"),
        ("DataFrame", pd.DataFrame({"a": [1]}).to_parquet()[:-1]),
        ("DataFrame", pd.DataFrame({"a": [1]}).to_parquet(compression="gzip")),
        ("DataFrame", [1]),
        ("DataFrame", {"index": [1], "columns": ["a"]}),
        ("DataFrame", {"index": [1], "columns": ["a"], "data": [[1]], "copy": True}),
        ("DataFrame", {"index": [1], "columns": ["a"], "data": [[1, 2]]}),
        ("DataFrame", {"index": [1, 2], "columns": ["a"], "data": [[1]]}),
        ("DataFrame", {"index": [[1]], "columns": ["a"], "data": [[1]]}),
        ("DataFrame", {"index": tuples(*([[]] * 1000), list(range(1000))), "columns": [], "data": [[]] * 1001}),
        ("DataFrame", {"index": COLLIDING, "columns": [], "data": [[]] * len(COLLIDING)}),
        ("Series", pd.DataFrame({"a": [1], "b": [2]}).to_parquet()),
        ("Series", {"index": [1], "columns": [], "data": [[]]}),
        ("Timestamp", 5),
        ("Timestamp", "nat"),
        ("Timestamp", "9" * 100),
        ("Timestamp", "yesterday, or so"),
    ],
)
def test_what_is_malformed_is_refused(name: str, data: object) -> None:
    with pytest.raises(DecodingError):
        tno.unpack_object(packed(name, data), {})


def test_frames_that_are_small_for_what_they_hold() -> None:
    frame = pd.DataFrame({"a": ["x" * 100_000] * 2000})
    data = frame.to_parquet()
    assert len(data) < 200_000
    assert len(tno.unpack_object(packed("DataFrame", data), {})) == 2000
    with pytest.raises(DecodingError):
        # Each for itself would do.
        tno.unpack_object(ormsgpack.packb([{"type": "DataFrame", "data": data}] * 3), {})
