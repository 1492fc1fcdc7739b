"""What is refused at the sender, and what travels beside the envelope."""

import enum
from collections import defaultdict
from typing import Any

import numpy as np
import ormsgpack
import pytest
from gmpy2 import mpz

from mpccomm.codec import decode, encode
from mpccomm.codec.wire import INLINE, MAX_DEPTH
from mpccomm.errors import CommunicationError, DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import round_trip


class Text(str):
    __slots__ = ()


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
        (defaultdict(int), "dict"),
        (np.array([1]).view(np.recarray), "ndarray"),
        ([Text("x")], "str"),
    ],
)
def test_error_for_a_subclass_names_its_base(value: object, base: str) -> None:
    with pytest.raises(EncodingError, match=f"base class {base}"):
        encode(value)


@pytest.mark.parametrize("value", [print, len, int, encode, lambda: None, iter([1]), memoryview(b"x"), ...])
def test_what_cannot_be_sent_is_refused(value: object) -> None:
    with pytest.raises(EncodingError):
        encode({"value": [value]})


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
    assert_same(nested(MAX_DEPTH), round_trip(nested(MAX_DEPTH)))
    with pytest.raises(EncodingError, match="levels deep"):
        encode(nested(MAX_DEPTH + 2))


@pytest.mark.parametrize(
    "wrap", [lambda x: (x,), lambda x: {1: x}, lambda x: {"a": x}, lambda x: {1: (x, frozenset())}]
)
def test_what_is_not_too_deep_can_be_sent_in_any_containers(wrap: Any) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH // 2):
        value = wrap(value)
    assert_same(value, round_trip(value))


def test_value_that_contains_itself() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises(EncodingError, match="contains itself") as caught:
        encode(value)
    assert len(str(caught.value)) < 1000


def test_deep_stack_of_the_caller_is_an_encoding_error() -> None:
    def descend(depth: int) -> object:
        if depth:
            return descend(depth - 1)
        return encode([[{"a": [object]}]])

    with pytest.raises((EncodingError, RecursionError)):
        descend(990)


def test_large_buffers_travel_beside_the_envelope_without_a_copy() -> None:
    data, array = b"x" * INLINE, np.arange(INLINE)
    segments = encode([data, b"y" * (INLINE - 1), array]).segments
    assert len(segments) == 3
    assert segments[1] is data
    assert np.shares_memory(np.frombuffer(segments[2], np.int64), array)


def test_snapshot_copies_what_can_change_and_nothing_else() -> None:
    data, array, mutable = b"x" * INLINE, np.arange(INLINE), bytearray(INLINE)
    encoded = encode([data, array, mutable], snapshot=True)
    array[:] = 0
    mutable[:] = b"y" * INLINE
    assert encoded.segments[1] is data
    received: Any = decode(encoded.segments)
    assert received[1][5] == 5
    assert received[2] == bytearray(INLINE)


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
