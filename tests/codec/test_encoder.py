"""What is refused at the sender, and what travels beside the envelope."""

import enum
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ormsgpack
import pandas as pd
import pytest
from gmpy2 import mpz

from mpccomm.codec import Serialization, decode, encode, encoder
from mpccomm.codec.columns import BULK
from mpccomm.codec.wire import INLINE, MAX_DEPTH, ROOM, Tag
from mpccomm.errors import CommunicationError, DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, leaf, round_trip
from tests.timing import slowness


class Counted(Counter[str]):
    pass


class Text(str):
    __slots__ = ()


@dataclass
class Point:
    x: Any


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "message is"),
        ([1, object()], "message[1] is"),
        ({"rows": [0, 1, 2, {"rate": object()}]}, 'message["rows"][3]["rate"] is'),
        ((1, (2, object())), "message[1][1] is"),
        ({5: object()}, "message[5] is"),
        ({(1, 2): object()}, "message[<tuple>] is"),
        ({object(): 1}, "message.keys()[0] is"),
        ({1, object()}, "message.pop() is"),
        ([(1, object())] * 40, "message[0][1] is"),
        ([[[1, 2], [3, object()]]] * 40, "message[0][1][1] is"),
        ({"snow\N{SNOWMAN}": object()}, 'message["snow\N{SNOWMAN}"] is'),
        (np.array([1, object()], object), "message[1] is"),
        (np.array([(1, object())], [("a", "i4"), ("b", "O")]), 'message["b"][0] is'),
    ],
)
def test_error_names_path_type_and_remedy(value: object, path: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert str(caught.value).startswith(path)
    assert "object" in str(caught.value)
    assert "register" in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, CommunicationError)


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (Text("x"), "str"),
        (Counted(), "Counter"),
        (np.array([1]).view(np.recarray), "ndarray"),
        ([Text("x")], "str"),
    ],
)
def test_error_for_a_subclass_names_its_base(value: object, base: str) -> None:
    with pytest.raises(EncodingError, match=f"base class {base}"):
        encode(value)


@pytest.mark.parametrize("value", [print, len, int, encode, lambda: None, iter([1]), ...])
def test_what_cannot_be_sent_is_refused(value: object) -> None:
    with pytest.raises(EncodingError):
        encode({"value": [value]})


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("polars.dataframe.frame", r"send value\.to_arrow\(\).*polars\.from_arrow"),
        ("scipy.sparse._csr", r"send \(m\.data, m\.indices, m\.indptr, m\.shape\).*tocsr"),
        ("dateutil.tz._tzfile", r"use the zoneinfo\.ZoneInfo of that name"),
        ("pytz.tzfile", r"use the zoneinfo\.ZoneInfo of that name"),
        ("polarsteps", "register the class"),
    ],
)
def test_what_to_do_instead_with_types_of_other_libraries(module: str, advice: str) -> None:
    kind = type("Matrix", (), {"__module__": module})
    with pytest.raises(EncodingError, match=advice):
        encode([kind()])


def test_enum_member_arrives_as_its_value() -> None:
    assert_same([1, "green", (1, 2), 1], round_trip([*Colour, Level.LOW]))
    assert_same({"green": 1}, round_trip({Colour.GREEN: 1}))
    assert_same({1, "green"}, round_trip({Colour.RED, Colour.GREEN}))
    assert_same([1] * 40, round_trip([Level.LOW] * 40))


@pytest.mark.parametrize("value", [{Colour.RED: "a", 1: "b"}, {Colour.RED, 1}, frozenset({Colour.GREEN, "green"})])
def test_enum_member_as_a_key_must_not_replace_another(value: object) -> None:
    with pytest.raises(EncodingError, match="Enum"):
        encode(value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_at_the_sender() -> None:
    assert depth_of(round_trip(nested(MAX_DEPTH))) == MAX_DEPTH
    with pytest.raises(EncodingError, match="levels deep"):
        encode(nested(MAX_DEPTH + 2))


def depth_of(value: Any) -> int:
    depth = 0
    while type(value) is list:
        (value,) = value
        depth += 1
    return depth


WRAPS: list[Callable[[Any], Any]] = [
    lambda x: (x,),
    lambda x: {1: x},
    lambda x: {"a": x},
    lambda x: [1, (x, frozenset()), b"x" * 5000],
    lambda x: deque([x, OrderedDict(a=2**70)]),
    lambda x: Point(x),
    lambda x: np.array([x, None], object),
    lambda x: [(x, 1)] + [(2, 3)] * 40,
    lambda x: {str(number): [number or x] for number in range(40)},
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_not_too_deep_can_be_sent_in_any_containers(wrap: Callable[[Any], Any]) -> None:
    Serialization.register_class(Point, overwrite=True)
    for limit in (1, 39, 40, 41, 85, 300):
        value: Any = 1
        for _ in range(limit):
            value = wrap(value)
        received = round_trip(value)
        # Comparing goes as deep as the stack does.
        assert encode(received).segments == encode(value).segments
        if limit == 39:
            assert_same(value, received)
    Serialization.clear_serialization_logic()


def test_parts_are_referred_to_once_each_by_one_before_them() -> None:
    part = [leaf(Tag.PART, number.to_bytes(4, "little")) for number in range(5)]
    assert decode_node(call(Tag.PARTS, [part[2]], [part[3]], 5)) == [[5]]
    for node in (
        call(Tag.PARTS, [part[2]], [part[2]], 5),
        call(Tag.PARTS, [part[2], part[2]], 5),
        call(Tag.PARTS, [part[2]], 5, 6),
        call(Tag.PARTS, [part[1]], 5),
        call(Tag.PARTS, [part[3]], [part[1]], 5),
        call(Tag.PARTS, [part[4]], 5),
        call(Tag.PARTS, [part[0]], 5),
        call(Tag.PARTS),
        [call(Tag.PARTS, 1)],
        part[1],
    ):
        with pytest.raises(DecodingError):
            decode_node(node)


def test_parts_are_limited_in_depth_together() -> None:
    for count in (10, 1000):
        parts: list[Any] = [
            [[[[[[[[[leaf(Tag.PART, (number + 2).to_bytes(4, "little"))]]]]]]]]] for number in range(count)
        ]
        node = call(Tag.PARTS, *parts, 5)
        if count == 10:
            assert depth_of(decode_node(node)) == 90
        else:
            with pytest.raises(DecodingError, match="too deeply"):
                decode_node(node)


def test_value_that_contains_itself() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises(EncodingError, match="contains itself") as caught:
        encode(value)
    assert len(str(caught.value)) < 1000


def test_a_long_way_back_to_itself() -> None:
    value: list[Any] = []
    value += [nested(100), (value,) * 2]
    inner: Any = value
    for _ in range(60):
        inner = [inner, 1]
    value.append(inner)
    with pytest.raises(EncodingError, match="contains itself"):
        encode(value)


@dataclass
class Node:
    left: Any
    right: Any


class Branch(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize(
    "double",
    [
        lambda x: [x, x],
        lambda x: (x, x),
        lambda x: {"a": x, "b": x},
        lambda x: {1: x, 2: [x]},
        lambda x: deque([x, x]),
        lambda x: OrderedDict(a=x, b=x),
        lambda x: Node(x, x),
        lambda x: Branch(x, (x,)),
        lambda x: np.fromiter([x, x], object),
    ],
)
@pytest.mark.parametrize("end", [1, b"x" * 5000])
def test_shared_references_are_counted_before_they_are_written_out(double: Callable[[Any], Any], end: Any) -> None:
    Serialization.register_class(Node, overwrite=True)
    Serialization.register_class(Branch, overwrite=True)
    value: Any = [end, (2,)]
    for _ in range(8):
        value = double(value)
    assert_same(value, round_trip(value))
    for _ in range(3):
        value = double(value)
    with pytest.raises(EncodingError, match="more elements"):
        encode(value, max_elements=1000)
    if end == 1:
        for _ in range(30):
            value = double(value)
        began = time.process_time()
        with pytest.raises(EncodingError, match="more elements"):
            encode(value)
        assert time.process_time() - began < 0.5 * slowness()


@pytest.mark.parametrize(
    "repeat",
    [
        lambda x: [[x]] * BULK,
        lambda x: [(x, 1)] * BULK,
        lambda x: [(x, x)] * (BULK // 2) + [(x, x)] * (BULK // 2),
        lambda x: [{"a": x}] * BULK,
        lambda x: [x] * BULK + [()],
        lambda x: [(x,), (x, x)] * BULK,
        lambda x: [[x], (x,), {"a": x}] * BULK,
        lambda x: {str(number): (x,) for number in range(BULK)},
        lambda x: [Node(x, 1)] * BULK,
        lambda x: [Branch(x, 1)] * BULK,
    ],
)
def test_shared_references_in_columns_are_counted_before_they_are_written_out(repeat: Callable[[Any], Any]) -> None:
    Serialization.register_class(Node, overwrite=True)
    Serialization.register_class(Branch, overwrite=True)
    value: Any = (1,)
    for level in range(30):
        if level == 2:
            assert_same(value, round_trip(value))
        value = repeat(value)
    began = time.process_time()
    with pytest.raises(EncodingError, match="more elements"):
        encode(value)
    assert time.process_time() - began < 0.5 * slowness()


class Holder:
    """An instance of a class with methods, which become something else each time, as far as anything can tell."""

    calls = 0

    def __init__(self, form: str, *items: Any) -> None:
        self.form = form
        self.items = items

    def serialize(self, **_kwargs: Any) -> Any:
        Holder.calls += 1
        return [self.form, FORMS[self.form](*self.items)]

    @staticmethod
    def deserialize(obj: Any, **_kwargs: Any) -> "Holder":
        return Holder(obj[0], obj[1])


@dataclass
class Anew:
    """What it holds is made anew each time it is asked for."""

    kept: Any

    @property
    def made(self) -> list[Any]:
        return [self.kept, self.kept]


FORMS: dict[str, Callable[..., Any]] = {
    "list": lambda x, y: [x, y],
    "tuple": lambda x, y: (x, y),
    "dict": lambda x, y: {"children": [x, y], "n": 1},
    "three": lambda x, y: {"a": x, "b": y, "c": x},
    "deep": lambda x, y: [[[[[x]]], [y]]],
    "set": lambda x, y: frozenset([x, (y,)]),
    "keys": lambda x, y: {x: 1, (y, 1): 2},
    "objects": lambda x, y: np.fromiter([x, y], object),
    "serialized": lambda x, y: Serialization.serialize(Point([x, y])),
    "column": lambda x, y: [x, y] * BULK,
    "columns": lambda x, y: {"a": [{"b": x, "c": (y,)}] * BULK},
    "instances": lambda x, y: [Holder("list", x, y) for _ in range(BULK)],
    "fields": lambda x, y: [Node(x, y), Branch(y, x)],
    "made": lambda x, y: [Anew(x).made, Anew(y).made],
}


def written_out(form: str, depth: int, end: Any) -> Any:
    """The same as with shared references, without one."""
    if not depth:
        return end
    return Holder(form, written_out(form, depth - 1, end), written_out(form, depth - 1, end))


def shared(form: str, depth: int, end: Any) -> Any:
    value = end
    for _ in range(depth):
        value = Holder(form, value, value)
    return value


@pytest.fixture
def _holders() -> Iterator[None]:
    for kind in (Node, Branch, Point):
        Serialization.register_class(kind, overwrite=True)
    Serialization.register_class(Holder, overwrite=True, check_annotations=False)
    Holder.calls = 0
    yield
    Serialization.clear_serialization_logic()


@pytest.mark.usefixtures("_holders")
@pytest.mark.parametrize("end", [1, b"x" * 5000])
@pytest.mark.parametrize("form", FORMS)
def test_shared_instances_are_counted_before_they_are_written_out(form: str, end: Any) -> None:
    for depth in (24, 60):
        began = time.process_time()
        with pytest.raises(EncodingError, match="more elements"):
            encode(shared(form, depth, end))
        assert time.process_time() - began < slowness()
    assert Holder.calls < 40_000


@pytest.mark.usefixtures("_holders")
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("column", "columns", "instances")])
def test_sharing_does_not_change_what_is_accepted(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.codec.encoder._MANY", 1)
    for limit in range(400, 3000, 200):
        for depth in range(4, 8):
            outcomes = []
            for make in (shared, written_out):
                try:
                    segments = encode([make(form, depth, 1)] * 2, max_elements=limit).segments
                except EncodingError as error:
                    assert "more elements" in str(error)  # noqa: PT017
                    outcomes.append(0)
                else:
                    assert decode(segments, max_elements=limit)
                    outcomes.append(sum(map(len, segments)))
            assert outcomes[0] == outcomes[1], (limit, depth)


def _objects(*items: Any) -> Any:
    return np.fromiter(items, object)


def _with_attrs(x: Any) -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"x": x, "y": x}
    return frame


def _structure(x: Any) -> Any:
    return np.array([(x, 1)] * 2, [("a", "O"), ("b", "i4")])


def _member(x: Any) -> Any:
    return enum.Enum("Member", {"A": (x, x)}).A  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_holders")
@pytest.mark.parametrize(
    "double",
    [
        lambda x: pd.Series(_objects(x, x)),
        lambda x: pd.DataFrame({"a": _objects(x, x)}),
        _with_attrs,
        lambda x: pd.Series([1], name=("a", x, x)),
        lambda x: pd.Index(_objects((x, x, 1)), tupleize_cols=False)[0],
        lambda x: pd.arrays.NumpyExtensionArray(_objects(x, x)),
        _structure,
        lambda x: list(_structure(x)),
        _member,
    ],
)
def test_what_other_libraries_share_is_counted_before_it_is_written_out(double: Callable[[Any], Any]) -> None:
    for end in (1, Holder("list", 1, 1)):
        value: Any = end
        for _ in range(26):
            try:
                value = double(value)
            except (TypeError, ValueError):
                value = [value, value]
        began = time.process_time()
        with pytest.raises(EncodingError, match="more elements"):
            encode(value)
        assert time.process_time() - began < slowness()


def test_elements_of_an_index_that_are_too_many_are_not_hashed() -> None:
    value: Any = 1
    for _ in range(28):
        value = (value, value)
    index = pd.Index(_objects(value), tupleize_cols=False)
    began = time.process_time()
    with pytest.raises(EncodingError, match="more elements"):
        encode(index)
    assert time.process_time() - began < 0.5 * slowness()


def test_elements_of_shared_references_are_counted_before_they_are_packed() -> None:
    value: Any = 1
    for _ in range(25):
        value = (value, value)
    began = time.process_time()
    with pytest.raises(EncodingError, match="more elements"):
        encode(value)
    assert time.process_time() - began < 0.2 * slowness()
    for limit in range(3000, 3200):
        value = 1
        for _ in range(9):
            value = (value, value, 2, limit)
        try:
            segments = encode(value, max_elements=limit).segments
        except EncodingError:
            continue
        decode(segments, max_elements=limit)


def test_too_little_memory_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match="memory") as caught:
        encode([np.broadcast_to(np.float64(1), (1 << 58,))])
    assert isinstance(caught.value.__cause__, MemoryError)


def test_deep_stack_of_the_caller_is_an_encoding_error() -> None:
    def descend(depth: int) -> object:
        if depth:
            return descend(depth - 1)
        return encode([[{"a": [object]}]])

    with pytest.raises((EncodingError, RecursionError)):
        descend(990)


def test_large_buffers_travel_beside_the_envelope_without_a_copy() -> None:
    data, array = b"x" * (ROOM + 1), np.arange(ROOM)
    segments = encode([data, b"y" * (INLINE - 1), array]).segments
    assert len(segments) == 3
    assert segments[1] is data
    assert np.shares_memory(np.frombuffer(segments[2], np.int64), array)


@pytest.mark.parametrize("size", [INLINE - 1, INLINE, ROOM])
@pytest.mark.parametrize("make", [bytes, bytearray, lambda size: np.zeros(size, np.uint8)])
def test_a_message_that_is_not_large_is_one_segment(make: Callable[[int], object], size: int) -> None:
    value = make(size)
    assert len(encode(value).segments) == len(encode([value]).segments) == 1
    assert_same(value, round_trip(value))


def test_an_envelope_has_room_for_some_longer_buffers() -> None:
    third = ROOM // 3
    values = [bytes([number]) * third for number in range(5)]
    segments = encode(values).segments
    assert len(segments) == 3
    assert segments[1:] == (values[3], values[4])
    assert len(segments[0]) < ROOM + 100
    assert_same(values, round_trip(values))


def test_elements_are_not_counted_where_nothing_is_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(encoder, "count_written_out")
    for value in (np.arange(3), np.float64(1), [np.arange(3)], (1, 2), 1j, {1: 2}):
        assert_same(value, round_trip(value))


def test_snapshot_copies_what_can_change_and_nothing_else() -> None:
    size = ROOM + 1
    data, array, mutable = b"x" * size, np.arange(size), bytearray(size)
    encoded = encode([data, array, mutable], snapshot=True)
    array[:] = 0
    mutable[:] = b"y" * size
    assert encoded.segments[1] is data
    received: Any = decode(encoded.segments)
    assert received[1][5] == 5
    assert received[2] == bytearray(size)


def test_decoding_in_the_senders_process_does_not_hand_out_the_senders_memory() -> None:
    array = np.zeros(INLINE)
    received: Any = round_trip(array)
    received[:] = 1
    assert not array.any()


def test_option_is_handed_to_ormsgpack() -> None:
    encoded = encode({"b": 1, "a": 2}, option=ormsgpack.OPT_SORT_KEYS)
    assert list(decode(encoded.segments)) == ["a", "b"]  # type: ignore[call-overload]
    assert_same([(1, 2**70)], decode(encode([(1, 2**70)], option=ormsgpack.OPT_NON_STR_KEYS).segments))


def test_plain_values_need_no_order() -> None:
    assert not encode([1, (2, {3})]).ordered


def test_bytearray_and_memoryview_are_not_taken_for_bytes() -> None:
    # ormsgpack packs both as bytes, whatever its options.
    assert_same([bytearray(b"x"), {"a": bytearray(b"y")}], round_trip([bytearray(b"x"), {"a": bytearray(b"y")}]))


def test_dict_keys_are_not_changed() -> None:
    # With its option for other keys, ormsgpack makes text of dates, and values of Enum members.
    import datetime
    import uuid

    value = {
        datetime.date(2020, 1, 1): 1,
        uuid.UUID(int=1): 2,
        datetime.datetime(2020, 1, 1): 3,
        2**70: 4,
        1: 5,
        1.5: 6,
    }
    assert_same(value, round_trip(value))


def test_users_data_is_never_taken_for_tags() -> None:
    value = [{"type": "tuple", "data": [1]}, {"type": "set", "data": []}, ["tuple", 1], {"__ext__": 9}]
    assert_same(value, round_trip(value))


@pytest.mark.parametrize(
    "value",
    [[None], [1.5], [5], [2**70], [(1, 2)], [2**70, 2**900], [np.float64(1)], [mpz(2) ** 70], ["text"], [{}]],
    ids=str,
)
def test_too_many_elements_are_refused_as_the_receiver_would(value: list[Any]) -> None:
    many = value * 600
    for limit in range(0, 3000, 100):
        try:
            segments = encode([many], max_elements=limit).segments
        except EncodingError as error:
            assert "more elements than a message may have" in str(error)  # noqa: PT017 - up to where is the question
            segments = encode([many]).segments
            with pytest.raises(DecodingError, match="more elements"):
                decode(segments, max_elements=limit)
        else:
            assert decode(segments, max_elements=limit) == [many]
    assert limit > 600


def test_small_dicts_without_number_arrive_with_ballast() -> None:
    value = [{} if number % 2 else {chr(48 + number % 40): [number % 5]} for number in range(400_000)]
    segments = encode(value).segments
    assert 0 < sum(map(len, segments[1:])) < len(segments[0]) // 4
    assert decode(segments) == value
    with pytest.raises(DecodingError, match="more memory than its size"):
        decode([segments[0][8:]])
    with pytest.raises(DecodingError):
        decode_node(call(Tag.PADDED, 7, []))
    assert decode_node(call(Tag.PADDED, b"", [7])) == [7]
    with pytest.raises(DecodingError):
        decode_node([call(Tag.PADDED, b"", [7])])
