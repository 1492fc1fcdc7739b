"""Frames and series: what pyarrow and parquet lose, and lengths that cost nothing to claim."""

import enum
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import pandas as pd
import pytest

from mpccomm.codec import decode, encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, name_of, round_trip
from tests.codec.samples import AMSTERDAM

HUGE = call(Tag.RANGE_INDEX, 0, 2**31, 1, None)
INTS = call(Tag.NDARRAY, "<i8", [2], False, True, bytes(16))
INDEX = call(Tag.RANGE_INDEX, 0, 2, 1, None)
UNHASHABLE = call(Tag.OBJECTS, "O", [2], False, True, [[], {}])


def extension(form: Any, *nodes: Any) -> Any:
    return call(Tag.EXTENSION_ARRAY, form, *nodes)


@pytest.mark.parametrize(
    "node",
    [
        extension("periods", HUGE, "M"),
        extension("periods", INTS, "nonsense"),
        extension("datetimes", HUGE, None),
        extension("datetimes", INTS, None),
        extension("datetimes", call(Tag.NDARRAY, "<M8[D]", [2], False, True, bytes(16)), None),
        extension("datetimes", call(Tag.NDARRAY, "<M8[ns]", [2], False, True, bytes(16)), "UTC"),
        extension("intervals", HUGE, HUGE, "right"),
        extension("intervals", call(Tag.INDEX, INTS, None, None), call(Tag.INDEX, INTS, None, None), "up"),
        extension("categorical", HUGE, INDEX, False),
        extension("categorical", INTS, HUGE, False),
        extension("categorical", INTS, INTS, False),
        extension("categorical", INTS, call(Tag.INDEX, INTS, None, None), False),
        extension("sparse", INTS, INTS, 10, 0, "integer"),
        extension("sparse", HUGE, HUGE, 10, 0, "integer"),
        extension("masked", INTS, INTS),
        extension("text", "python", True, [1, 2]),
        extension("text", "elsewhere", True, ["a"]),
        extension("unknown"),
        extension([]),
        call(Tag.INDEX, INTS, "D", None),
        call(Tag.INDEX, UNHASHABLE, None, None),
        call(Tag.INDEX, INTS, None, []),
        call(Tag.INDEX, call(Tag.NDARRAY, "<i8", [1, 2], False, True, bytes(16)), None, None),
        call(Tag.INDEX, HUGE, None, None),
        call(Tag.MULTI_INDEX, [HUGE], [INTS], [None], None),
        call(Tag.MULTI_INDEX, [INTS], [INTS], [None], None),
        call(Tag.MULTI_INDEX, [INDEX], [call(Tag.NDARRAY, "<i8", [1], False, True, b"\x09" + bytes(7))], [None], None),
        call(Tag.MULTI_INDEX, [INDEX], [INTS], [], None),
        call(Tag.RANGE_INDEX, 0, 1, 0, None),
        call(Tag.RANGE_INDEX, 0, 1.0, 1, None),
        call(Tag.SERIES, INTS, HUGE, None, {}, True),
        call(Tag.SERIES, HUGE, HUGE, None, {}, True),
        call(Tag.SERIES, INTS, INDEX, [], {}, True),
        call(Tag.SERIES, INTS, INDEX, None, [], True),
        call(Tag.SERIES, INTS, INDEX, None, {}, 1),
        call(Tag.SERIES, call(Tag.NDARRAY, "<U1", [2], False, True, bytes(8)), INDEX, None, {}, True),
        call(Tag.DATAFRAME, [INTS], HUGE, INDEX, {}, True),
        call(Tag.DATAFRAME, [INTS], INDEX, HUGE, {}, True),
        call(Tag.DATAFRAME, INTS, INDEX, INDEX, {}, True),
        call(Tag.DATAFRAME, [INTS, 5], INDEX, INDEX, {}, True),
        call(Tag.DATAFRAME, {}, INDEX, INDEX, {}, True),
        call(Tag.TIMESTAMP, 2**63, "ns", None, 0),
        call(Tag.TIMESTAMP, 0, "fortnight", None, 0),
        call(Tag.TIMESTAMP, 0, "ns", "Europe/Amsterdam", 0),
        call(Tag.TIMESTAMP, 0, "ns", None, 7),
        call(Tag.PANDAS_TIMEDELTA, 1.5, "ns"),
        call(Tag.PERIOD, 0, 5),
        call(Tag.PERIOD, 0, "nonsense"),
        call(Tag.INTERVAL, 2, 1, "both"),
        call(Tag.INTERVAL, 1, 2, "none at all"),
        call(Tag.MISSING, "None"),
        call(Tag.MISSING, []),
    ],
    ids=name_of,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_columns_are_sent_without_a_copy() -> None:
    frame = pd.DataFrame({name: np.arange(5000.0) + position for position, name in enumerate("abc")})
    frame["text"] = "x"
    segment = encode(frame).segments[1]
    for name in "abc":
        assert np.shares_memory(np.frombuffer(segment, np.float64), frame[name].to_numpy())


def test_a_block_is_sent_and_received_as_one() -> None:
    frame = pd.DataFrame(np.random.default_rng(1).random((500, 100)))
    envelope, data = encode(frame).segments
    assert np.shares_memory(np.frombuffer(data, np.float64), frame.to_numpy())
    assert len(envelope) < 600
    received: Any = decode([envelope, bytearray(data)])
    assert_same(frame, received)


def test_float32_stays_float32_and_labels_stay_what_they_are() -> None:
    frame = pd.DataFrame({1: np.array([1.5], np.float32), (2, "a"): [2**70], None: [gmpy2.mpz(3)], "x": ["y"]})
    received = round_trip(frame)
    assert_same(frame, received)
    assert [type(label) for label in received.columns] == [int, tuple, type(None), str]


def test_attrs_of_any_kind() -> None:
    series = pd.Series([1], name="name")
    series.attrs = {"source": {"rows": [(1, 2)], "scale": np.float64(2)}}
    assert_same(series, round_trip(series))


@pytest.mark.parametrize(
    "value",
    [
        pd.Index([[1], [2]], dtype=object),
        pd.date_range("2020", periods=3, freq=pd.offsets.CustomBusinessDay(holidays=["2020-01-02"])),
        pd.Series([object()]),
        pd.Series([1], index=[object()]),
        pd.offsets.Day(),
        pd.DataFrame({"a": [1]}).groupby("a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_carried_exactly_is_refused(value: Any) -> None:
    with pytest.raises(EncodingError):
        encode(value)


def test_the_path_leads_into_the_frame() -> None:
    with pytest.raises(EncodingError, match=r"message\[0\]\.iloc\[:, 1\]\[2\] is"):
        encode([pd.DataFrame({"a": [1, 2, 3], "b": [None, "x", object()]})])


def test_a_subclass_is_not_taken_for_a_frame() -> None:
    class Frame(pd.DataFrame):
        pass

    with pytest.raises(EncodingError, match="DataFrame"):
        encode(Frame({"a": [1]}))


def test_a_time_zone_that_repeats_an_hour() -> None:
    hours = pd.date_range("2020-10-24 22:00", periods=8, freq="h", tz="UTC").tz_convert(AMSTERDAM)
    assert_same(pd.Series(hours), round_trip(pd.Series(hours)))
    assert_same(list(hours), round_trip(list(hours)))


def test_a_received_frame_can_be_changed() -> None:
    for frame in (pd.DataFrame({"a": [1.0, 2], "b": [3, 4]}), pd.DataFrame(np.zeros((5000, 2)))):
        received = round_trip(frame)
        received.iloc[0, 0] = 7
        assert received.iloc[0, 0] == 7
        assert frame.iloc[0, 0] != 7


def test_categories_that_are_a_long_range() -> None:
    value = pd.Series(pd.Categorical.from_codes([5, 7], dtype=pd.CategoricalDtype(pd.RangeIndex(1_000_000))))
    assert_same(value, round_trip(value))
    index = pd.MultiIndex([pd.RangeIndex(1_000_000)], [[3, 4]], names=["a"])  # type: ignore[list-item]
    assert_same(index, round_trip(index))


WITHOUT_PYARROW = """
import sys
segments = [bytes.fromhex(line) for line in sys.stdin.read().split()]
sys.modules["pyarrow"] = None
import pandas as pd
from mpccomm.codec import decode, encode
from mpccomm.errors import MissingExtraError
frame = pd.DataFrame({"a": [1.5], "b": ["text"]}, index=["x"])
pd.testing.assert_frame_equal(decode(encode(frame).segments), frame)
try:
    decode(segments)
except MissingExtraError as error:
    print(error)
"""


def test_pandas_without_pyarrow() -> None:
    segments = encode(pd.Series(["text"], dtype=pd.StringDtype("pyarrow"))).segments
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYARROW],
        input="\n".join(bytes(segment).hex() for segment in segments),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "extra 'pandas'" in run.stdout, run.stderr
    assert run.returncode == 0, run.stderr


class Kind(enum.Enum):
    ONE = 1
    LIST = ([1],)
    NONE = None
    NAN = float("nan")


OBJECTS: dict[str, Callable[[list[Any]], Any]] = {
    "labels": lambda labels: pd.Series(range(len(labels)), index=pd.Index(labels, dtype=object, tupleize_cols=False)),
    "columns": lambda labels: pd.DataFrame(
        [range(len(labels))], columns=pd.Index(labels, dtype=object, tupleize_cols=False)
    ),
    "categories": lambda labels: pd.Categorical.from_codes(
        list(range(len(labels))), pd.Index(labels, dtype=object, tupleize_cols=False)
    ),
    "name": lambda labels: pd.Series([1], name=labels[0]),
    "name of an index": lambda labels: pd.Index([1], name=labels[0]),
    "name of a range": lambda labels: pd.RangeIndex(1, name=labels[0]),
    "names": lambda labels: pd.MultiIndex.from_arrays([[1], [2]], names=["a", labels[0]]),
}


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("label", [Kind.LIST, (Kind.LIST, 1), (1, (Kind.LIST,))])
def test_a_member_whose_value_can_not_be_hashed_is_no_label(make: Callable[[list[Any]], Any], label: Any) -> None:
    for value in (make([label]), [make([label])]):
        with pytest.raises(EncodingError, match=r"Enum|cannot be hashed"):
            encode(value)


def test_two_categories_do_not_become_one() -> None:
    labels: list[Any]
    for labels in ([Kind.ONE, 1], [(Kind.ONE, 2), (1, 2)]):
        with pytest.raises(EncodingError, match="two categories"):
            encode(OBJECTS["categories"](labels))
        series = OBJECTS["labels"](labels)
        arrived = round_trip(series)
        assert arrived.index[0] == arrived.index[1]
        with pytest.raises(EncodingError, match="two labels"):
            encode(series.set_flags(allows_duplicate_labels=False))
        one = OBJECTS["labels"](labels[:1]).set_flags(allows_duplicate_labels=False)
        assert round_trip(one).index[0] == labels[1]
    for labels in ([Kind.NONE, "a"], [Kind.NAN, Kind.NONE], [Decimal(1), "a", np.int64(1)]):
        with pytest.raises(EncodingError, match=r"missing|compared"):
            encode(pd.Series(OBJECTS["categories"](labels)))
    categorical = round_trip(OBJECTS["categories"]([Kind.ONE, 2]))
    assert list(categorical.categories) == [1, 2]


@pytest.mark.parametrize(
    "one", [lambda: date(2000, 1, 1), lambda: Decimal("1.5"), lambda: (1, Fraction(1, 3)), lambda: 2**70]
)
def test_an_index_may_have_one_label_many_times(one: Callable[[], Any]) -> None:
    """Such as the date, where there are many rows a day."""
    for labels in (
        [one() for _ in range(3000)],
        [one()] * 3000,
        [label for _ in range(1500) for label in (one(), "a")],
    ):
        series = OBJECTS["labels"](labels)
        assert_same(series, round_trip(series))
