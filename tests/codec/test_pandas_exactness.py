"""What is easily lost of a frame on its way, and what the sender accepts and a receiver might not."""

from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from mpccomm.codec import encode
from mpccomm.errors import EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import round_trip

DAYS = pd.date_range("2020", periods=3)


def test_a_multi_index_with_a_label_twice_in_a_level() -> None:
    frame = pd.DataFrame({"k": ["x", "y", "x"], "v": [1, 2, 3]}).groupby("k").describe()
    assert_same(frame, round_trip(frame))
    index = pd.MultiIndex([["a", "a"]], [[0, 1, 0]], names=["n"], verify_integrity=False)
    received = round_trip(index)
    assert received.levels[0].tolist() == ["a", "a"]
    assert received.codes[0].tolist() == [0, 1, 0]


def test_a_multi_index_with_a_level_that_has_nan() -> None:
    levels: Any = [pd.Index([1.5, np.nan])]
    index: Any = pd.MultiIndex(levels, [[0, 1, -1]], verify_integrity=False)
    received = round_trip(index)
    assert [code.tolist() for code in received.codes] == [code.tolist() for code in index.codes]


def test_the_order_of_a_multi_index() -> None:
    rows = [("a", 1), ("a", 0), ("b", 2)]
    index: Any
    for index in (
        pd.MultiIndex.from_tuples(rows, sortorder=1),
        pd.MultiIndex.from_tuples(rows),
        pd.MultiIndex.from_tuples(sorted(rows), sortorder=2),
        pd.MultiIndex.from_arrays([[], []], sortorder=0),
    ):
        assert round_trip(index).sortorder == index.sortorder
        assert_same(index, round_trip(index))


@pytest.mark.parametrize("zone", ["Europe/Amsterdam", "America/New_York"])
@pytest.mark.parametrize("frequency", ["D", "2h", "B", "ME", "W-SUN", "bh"])
def test_a_range_of_dates_over_the_change_of_clocks(zone: str, frequency: str) -> None:
    for start in ("2018-03-24 12:30", "2018-10-27 00:30", "2018-11-03 12:00"):
        index = pd.date_range(pd.Timestamp(start, tz=ZoneInfo(zone)), periods=5, freq=frequency)
        received = round_trip(index)
        assert_same(index, received)
        assert received.freq == index.freq


def test_frequencies_without_a_name_are_refused_with_a_path() -> None:
    for offset in (pd.DateOffset(months=1), pd.offsets.CustomBusinessDay(holidays=["2020-01-02"])):
        with pytest.raises(EncodingError, match=r'message\["x"\].index has the frequency .*freq = None'):
            encode({"x": pd.Series(range(3), pd.date_range("2020", periods=3, freq=offset))})


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(DAYS),
        pd.Series(DAYS.tz_localize("UTC")),
        pd.Series(DAYS - DAYS[0]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(DAYS.to_period("M")),
        pd.Series([1.5]),
        pd.Series([1, "a"], dtype=object),
        pd.Series(["a"]),
        pd.Series(pd.Categorical(["a"])),
    ],
    ids=lambda series: str(series.dtype),
)
def test_what_is_received_can_be_written_to(series: Any) -> None:
    for received in (round_trip(series), round_trip(series.to_frame()).iloc[:, 0]):
        received.iloc[0] = received.iloc[-1]
        assert received.iloc[0] is received.iloc[-1] or received.iloc[0] == received.iloc[-1]
    if type(series.array) is not pd.arrays.NumpyExtensionArray:
        array = round_trip(series.array)
        array[0] = array[-1]


@pytest.mark.parametrize("texts", [["a", np.str_("b"), None], [np.str_("a\0"), "b", "c"]])
def test_text_of_numpy_in_a_column_of_text(texts: list[Any]) -> None:
    for dtype in ("string[python]", "string[pyarrow]"):
        series = pd.Series(texts, dtype=dtype)
        received = round_trip(pd.DataFrame({"a": series}))["a"]
        pd.testing.assert_series_equal(received, pd.Series([text and text[:] for text in texts], dtype=dtype, name="a"))


def test_labels_of_numpy_text() -> None:
    frame = pd.DataFrame([[1, 2]], columns=pd.Index([np.str_("a"), np.str_("b")], dtype=object))
    assert_same(frame, round_trip(frame))


def test_arrays_of_two_dimensions_are_refused() -> None:
    array: Any = DAYS.tz_localize("UTC").array.reshape(3, 1)
    with pytest.raises(EncodingError, match="more than one dimension"):
        encode(array)


def test_blocks_keep_the_order_of_the_columns() -> None:
    kinds: list[Any] = ["i8", "f8", "i8", "M8[ns]", "?", "f8", "m8[s]", "i8", "M8[ns]", "O", "i2", "S3"]
    columns = {str(number): pd.Series(np.arange(4).astype(kind)) for number, kind in enumerate(kinds[:-1])}
    frame = pd.DataFrame(columns)
    for sent in (frame, frame.iloc[::-1], frame.iloc[1:3], frame[list("7531")], frame.T.T, frame[[]], frame.iloc[:0]):
        assert_same(sent, round_trip(sent))
    assert len(encode(pd.concat([frame] * 400)).segments) < 12
    received = round_trip(frame)
    received.insert(0, "new", 1)
    assert_same(frame, received[list(frame)])


def test_flags_and_duplicates() -> None:
    for index in (
        pd.Index([3, 1, 2]),
        pd.Index([1.5, None, 0]),
        pd.Index(["b", "a", None]),
        pd.Index([True, 2, "x"], dtype=object),
        pd.Index([1, 2, None], dtype="Int64"),
        DAYS[::-1].tz_localize("UTC"),
        pd.interval_range(0, 3),
        DAYS.to_period("D"),
        pd.MultiIndex.from_product([[1], ["a", "b", "c"]]),
        pd.CategoricalIndex(["a", "b", "c"]),
        pd.Index(pd.arrays.SparseArray([1, 0, 2])),
        pd.Index([1j, 2, 3]),
    ):
        series = pd.Series(range(3), index).set_flags(allows_duplicate_labels=False)
        received = round_trip(series)
        assert received.flags.allows_duplicate_labels is False
        assert_same(series, received)


def test_zones_of_pytz() -> None:
    pytz = pytest.importorskip("pytz", reason="not installed: pytz; python -m pip install pytz")
    moments = pd.DatetimeIndex(["1950-01-01", "2020-03-29 00:59:59", "2020-10-25 01:30", None]).tz_localize("UTC")
    for zone, arrives in (
        (pytz.timezone("Europe/Amsterdam"), ZoneInfo("Europe/Amsterdam")),
        (pytz.FixedOffset(90), timezone(timedelta(minutes=90))),
        (pytz.utc, ZoneInfo("UTC")),
    ):
        sent = moments.tz_convert(zone)
        for received in (round_trip(sent), round_trip(pd.Series(sent)).dt, round_trip(sent[1])):
            assert received.tz == arrives
        assert (round_trip(sent).asi8 == moments.asi8).all()
    # pytz has no changes of clocks after 2037.
    with pytest.raises(EncodingError, match="tz_convert"):
        encode(pd.DatetimeIndex(["2050-07-01"]).tz_localize(pytz.timezone("Europe/Amsterdam")))


def test_zones_of_dateutil() -> None:
    dateutil: Any = pytest.importorskip("dateutil.tz")
    if pd.__version__ < "3" and pytest.importorskip("dateutil").__version__ >= "3":
        pytest.skip("this pandas cannot convert to the zones of this dateutil")
    moments = pd.DatetimeIndex(["2020-03-29 00:59:59", "2020-10-25 01:30"]).tz_localize("UTC")
    for zone, arrives in (
        (dateutil.gettz("Europe/Amsterdam"), ZoneInfo("Europe/Amsterdam")),
        (dateutil.tzoffset(None, 5400), timezone(timedelta(minutes=90))),
        (dateutil.tzutc(), timezone.utc),  # noqa: UP017
    ):
        assert round_trip(moments.tz_convert(zone)).tz == arrives
    with pytest.raises(EncodingError, match="tz_convert"):
        encode(pd.Series(moments.tz_convert(dateutil.tzlocal())))


def test_pandas_keeps_a_bounded_number_of_the_frequencies_that_others_send() -> None:
    dtype: Any = pd.PeriodDtype
    array = pd.period_range("2020", periods=2, freq="M").array
    for number in range(1, 3000):
        round_trip(pd.arrays.PeriodArray(array.asi8, dtype=dtype(f"{number}M")))  # type: ignore[attr-defined]
    for number in range(1, 3000):
        # The sender has them all, as it made them.
        dtype.reset_cache()
        round_trip(pd.Period(ordinal=5, freq=f"{number}M"))
    assert len(dtype._cache_dtypes) <= 1001


def test_sparse_objects_stay_what_they_are() -> None:
    for values, fill in (([1, "a", 1], 1), (["a", None, 2.5], None), ([2**70, 0, 2**70], 0)):
        sent = pd.arrays.SparseArray(np.array(values, object), fill_value=fill)
        received = round_trip(sent)
        assert received.dtype == sent.dtype
        assert type(received.fill_value) is type(sent.fill_value)
        assert [*map(type, received.sp_values)] == [*map(type, sent.sp_values)]
        assert received.sp_index.equals(sent.sp_index)
        assert list(received) == list(sent) or None in values
