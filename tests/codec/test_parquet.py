"""What a Parquet file takes when it is read is known before."""

import io
from typing import Any

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from mpccomm.codec import parquet  # noqa: E402

ROOM = 1 << 28


def written(columns: dict[str, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("frame", "at_least"),
    [
        (pd.DataFrame({"a": np.arange(10_000)}), 80_000),
        (pd.DataFrame({"a": ["x" * 1000] * 10_000}), 10_000_000),
        (pd.DataFrame({"a": [["x" * 1000] * 10] * 100}), 1_000_000),
        (pd.DataFrame({"a": [{"b": "x" * 1000}] * 100}), 100_000),
        (pd.DataFrame({"a": pd.Categorical(["x", "y"] * 100)}), 200),
        (pd.DataFrame({"a": [None, 2, 3], "b": [b"1", None, b"3"], "c": [True, False, True]}), 9),
        (pd.DataFrame({"a": []}), 0),
        (pd.DataFrame(), 0),
    ],
    ids=["numbers", "texts", "lists", "structures", "categories", "mixed", "no rows", "nothing"],
)
def test_of_honest_files(frame: Any, at_least: int) -> None:
    assert at_least <= parquet.read(frame.to_parquet(), ROOM)[1] < max(20 * at_least, 50_000)


def test_of_files_in_several_row_groups() -> None:
    data = written({"a": list(range(1000)), "b": ["text"] * 1000}, row_group_size=10, data_page_version="2.0")
    assert parquet.read(data, ROOM)[1] > 8000


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"a": pa.array(np.zeros(4_000_000, np.int8))}, {}),
        ({"a": pa.nulls(4_000_000)}, {}),
        ({"a": ["x" * (1 << 20)] * 100}, {"dictionary_pagesize_limit": 1 << 30}),
        ({"a": pa.array([b"x" * (1 << 20)] * 50, pa.binary(1 << 20))}, {"dictionary_pagesize_limit": 1 << 31}),
        ({"a": [["x" * (1 << 20)] * 10] * 10}, {"dictionary_pagesize_limit": 1 << 30}),
        ({"a": [[None] * 1000] * 10_000}, {}),
    ],
    ids=["one number", "nulls", "one text", "one string of bytes", "one text in lists", "lists of nulls"],
)
def test_small_files_that_hold_much(columns: Any, options: dict[str, Any]) -> None:
    data = written(columns, **options)
    assert len(data) < 4_000_000
    with pytest.raises(ValueError, match="more memory"):
        parquet.read(data, 1 << 20)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "brotli"])
def test_other_compressions(compression: str) -> None:
    with pytest.raises(ValueError, match="compressed in another way"):
        parquet.read(written({"a": [1]}, compression=compression), ROOM)[1]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_other_encodings(encoding: str) -> None:
    data = written({"a": ["x" * 1000, "x" * 1001]}, use_dictionary=False, column_encoding={"a": encoding})
    with pytest.raises(ValueError, match="another encoding"):
        parquet.read(data, ROOM)[1]


def test_deep_structures() -> None:
    value: object = 1
    for _ in range(100):
        value = {"a": value}
    with pytest.raises(ValueError, match="nested too deeply"):
        parquet.read(written({"a": [value]}), ROOM)[1]


@pytest.mark.timeout(120)
def test_files_with_a_byte_changed() -> None:
    frame = pd.DataFrame(
        {"n": [1, 2, 2], "s": ["a", "b", None], "l": [[1], [2, 3], None], "c": pd.Categorical(list("xyx"))}
    )
    data = frame.to_parquet()
    refused = 0
    generator = np.random.default_rng(0)
    for position in generator.permutation(len(data))[:300]:
        changed = bytearray(data)
        changed[position] ^= int(generator.integers(1, 256))
        try:
            assert parquet.read(bytes(changed), ROOM)[1] <= ROOM
        except ValueError:
            refused += 1
    assert refused > 30
