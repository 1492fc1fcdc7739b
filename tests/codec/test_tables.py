"""Arrays and tables of pyarrow: what no sender made, and what can't be sent. (What can is in the samples.)"""

from functools import partial
from typing import Any

import pytest

from mpccomm.codec import decode, encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.limits import measure
from tests.codec.raw import call, message

pa = pytest.importorskip("pyarrow")

NONE: list[Any] = []
NUMBERS = [2, [None, bytes(16)], NONE]
"""Two integers."""
ONE = [1, [None, bytes(8)], NONE]


def column(
    name: Any = "a", nullable: Any = True, metadata: Any = NONE, kind: Any = "int64", tree: Any = NUMBERS
) -> Any:
    return [name, nullable, metadata, kind, tree]


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.ARROW_ARRAY, 1, "int64", NUMBERS),
        call(Tag.ARROW_ARRAY, True, "int64"),
        call(Tag.ARROW_ARRAY, True, "map", NUMBERS),
        call(Tag.ARROW_TABLE, 1, NONE, [column()]),
        call(Tag.ARROW_TABLE, True, NONE, 7),
        call(Tag.ARROW_TABLE, True, NONE, [[]]),
        call(Tag.ARROW_TABLE, True, 7, NONE, [column()]),
        call(Tag.ARROW_TABLE, True, [b"key"], [column()]),
        call(Tag.ARROW_TABLE, True, ["key", "value"], [column()]),
        call(Tag.ARROW_TABLE, True, NONE, [column(name=1)]),
        call(Tag.ARROW_TABLE, True, NONE, [column(nullable=1)]),
        call(Tag.ARROW_TABLE, True, NONE, [column(metadata=[1, 2])]),
        *(call(Tag.ARROW_TABLE, batch, NONE, [column(), column("b", tree=ONE)]) for batch in (True, False)),
    ],
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode(message(node))


def test_what_is_well_formed() -> None:
    node = call(Tag.ARROW_TABLE, False, [b"key", b"value"], [column(), column("b")])
    assert decode(message(node)).equals(pa.table({"a": [0, 0], "b": [0, 0]}))  # type: ignore[attr-defined]


def test_many_empty_columns() -> None:
    """What a column costs is paid for: a megabyte of them is refused, or takes no more than it may."""
    empty = column("", kind="null", tree=[0, [None], NONE])
    data = message(call(Tag.ARROW_TABLE, False, NONE, [empty] * 70_000))
    size = sum(map(len, data))
    assert measure(partial(decode, data), size).within(size)


def test_a_slice_leaves_without_the_rest() -> None:
    table = pa.table({"name": [f"secret {number}" for number in range(2000)]})
    assert b"secret 7" in b"".join(encode(table).segments)
    assert b"secret 7" not in b"".join(encode(table[:3]).segments)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (pa.scalar(1), r"send value\.as_py\(\)"),
        (pa.table({"a": [1]}).select([]), "send num_rows"),
        (pa.table({"a": pa.array(["x"]).dictionary_encode()}), r'message\["a"\] is an Arrow array .*cast it'),
        (pa.schema([]), "cannot be sent as it is"),
    ],
    ids=["scalar", "rows without columns", "dictionary", "schema"],
)
def test_what_cannot_be_sent_is_refused_with_advice(value: Any, advice: str) -> None:
    with pytest.raises(EncodingError, match=advice):
        encode(value)
