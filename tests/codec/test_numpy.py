"""Arrays: the traps in their dtypes, shapes and memory."""

import random
from typing import Any

import numpy as np
import pytest

from mpccomm.codec import encode, numpy
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, name_of, round_trip


def array(dtype: Any, shape: Any, data: Any, tag: Tag = Tag.NDARRAY) -> Any:
    return call(tag, dtype, shape, False, True, data)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("char", "?bBhHiIlLqQefdgFDG")
def test_the_way_of_short_arrays_of_numbers_ends_where_the_long_one_does(
    monkeypatch: pytest.MonkeyPatch, char: str, shape: tuple[int, ...]
) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(char)
    read_only = values.copy()
    read_only.flags.writeable = False
    arrays = [values, np.asfortranarray(values), values.T, read_only, values[()]]
    if shape:
        arrays += [values[..., ::-1], values[..., :1]]
    nodes = [encode(one).segments for one in arrays]
    short = [round_trip(one) for one in arrays]
    with monkeypatch.context() as patched:
        patched.setattr(numpy, "_TEXTS", {})
        assert [encode(one).segments for one in arrays] == nodes
        long = [round_trip(one) for one in arrays]
    for one, other, sent in zip(short, long, arrays, strict=True):
        assert_same(sent, one)
        assert_same(sent, other)
        assert getattr(one, "flags", None) is None or one.flags.aligned


def test_an_array_whose_dtype_has_metadata_takes_the_long_way() -> None:
    with pytest.raises(EncodingError, match="metadata"):
        encode(np.zeros(3, np.dtype("<i8", metadata={"a": 1})))


STRUCT = ["struct", ["a", "b"], ["<i4", "<i4"], [0, 4], [None, None], 8, False]


def struct(position: int, part: Any) -> list[Any]:
    return [*STRUCT[:position], part, *STRUCT[position + 1 :]]


@pytest.mark.parametrize(
    "node",
    [
        array("<f8", [3], bytes(16)),
        array("<f8", [2**40], bytes(16)),
        array("<f8", [2**62, 4], b""),
        array("<f8", [-1], bytes(8)),
        array("<f8", [1.0], bytes(8)),
        array("<f8", [True], bytes(8)),
        array("<f8", 1, bytes(8)),
        array("<f8", [1] * 100, bytes(8)),
        array("<S0", [2**40], b""),
        array("O", [1], bytes(8)),
        array("f8,f8", [1], bytes(16)),
        array("(2,)f8", [1], bytes(16)),
        array("float64", [1], bytes(8)),
        array("<f3", [1], bytes(3)),
        array("<f8 ", [1], bytes(8)),
        array("<M8[ns]x", [1], bytes(8)),
        array("<M8[99999999999ns]", [1], bytes(8)),
        array("|b1", [2], b"\x00\x02"),
        array("<U1", [1], b"\x00\x00\x11\x00"),
        array("<U1", [1], b"\xff\xff\xff\xff"),
        array(struct(2, ["|b1", "<i4"]), [1], bytes(8)),
        array(struct(2, ["O", "<i4"]), [1], bytes(8)),
        array(struct(2, ["<i4", "<U1"]), [1], b"\xff" * 8),
        array(struct(3, [0, 5]), [1], bytes(8)),
        array(struct(3, [-4, 4]), [1], bytes(8)),
        array(struct(3, [0, 2]), [1], bytes(8)),
        array(struct(3, [0]), [1], bytes(8)),
        array(struct(1, ["a", "a"]), [1], bytes(8)),
        array(struct(1, ["a", 5]), [1], bytes(8)),
        array(struct(4, [[], {}]), [1], bytes(8)),
        array(struct(5, 4), [1], bytes(8)),
        array(struct(5, 2**40), [1], bytes(8)),
        array(["subarray", "<f8", [2**40]], [1], bytes(8)),
        array(["subarray", "<f8", [-2]], [1], bytes(8)),
        array(["unknown"], [1], bytes(8)),
        array("<f8", [1], [1.0], Tag.OBJECTS),
        array("O", [2], [1], Tag.OBJECTS),
        array("O", [2**40], [], Tag.OBJECTS),
        array(["string", True, []], [1], [5], Tag.OBJECTS),
        call(Tag.FIELDS, "<f8", [1], False, True),
        call(Tag.FIELDS, STRUCT, [1], False, True, array("<i4", [1], bytes(4)), array("<i4", [1], bytes(4))),
        call(Tag.FIELDS, struct(5, 2**33), [2**33], False, True),
        call(Tag.FIELDS, struct(5, 12), [2], False, True, array("<i4", [1], bytes(4)), array("<i4", [2], bytes(8))),
        call(Tag.FIELDS, struct(5, 12), [1], False, True, array("<f4", [1], bytes(4)), array("<i4", [1], bytes(4))),
        call(Tag.SCALAR, 5),
        call(Tag.SCALAR, array("<f8", [1], bytes(8))),
        call(Tag.SCALARS, array("<f8", [], bytes(8))),
        call(Tag.SCALARS, array("O", [1], [1], Tag.OBJECTS)),
    ],
    ids=name_of,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_no_text_from_the_wire_reaches_the_parser_of_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(np, "dtype", seen.append)
    with pytest.raises(DecodingError):
        decode_node(array("f8,(2,3)i4", [1], bytes(8)))
    assert not seen


def test_padding_does_not_carry_the_senders_memory() -> None:
    secret = b"secret"
    dtype = np.dtype({"names": ["a"], "formats": ["i1"], "offsets": [0], "itemsize": 8})
    values = np.frombuffer((b"\x01" + secret + b"!") * 1000, dtype)
    sent = b"".join(map(bytes, encode(values).segments))
    assert secret not in sent
    assert_same(values.copy(), round_trip(values.copy()))


def test_extended_precision_does_not_carry_the_senders_memory() -> None:
    if np.finfo(np.longdouble).nmant != 63:
        pytest.skip("no padding in the extended precision of this platform")
    memory = np.frombuffer(b"\xee" * 16 * 500, np.uint8).copy()
    memory.reshape(-1, 16)[:, :10] = np.frombuffer(np.longdouble(1.5).tobytes()[:10], np.uint8)
    sent = encode(memory.view(np.longdouble)).segments
    assert b"\xee" * 6 not in b"".join(map(bytes, sent))
    np.testing.assert_array_equal(round_trip(memory.view(np.longdouble)), memory.view(np.longdouble))


def test_strided_arrays_send_their_elements_and_nothing_else() -> None:
    whole = np.frombuffer(random.Random(1).randbytes(1 << 16), np.uint8)
    (envelope, data) = encode(whole[::4]).segments
    assert len(data) == 1 << 14
    assert len(envelope) < 100


def test_order_is_kept_where_there_is_one() -> None:
    fortran = np.asfortranarray(np.arange(6000).reshape(60, 100))
    (_, data) = encode(fortran).segments
    assert np.shares_memory(np.frombuffer(data, np.uint8), fortran)
    assert round_trip(fortran).flags.f_contiguous


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked_array([1, 2], [True, False]),
        np.array([1]).view(np.recarray),
        np.dtype("f8", metadata={"a": 1}),
        np.array([1], np.dtype("f8", metadata={"a": 1})),
    ],
)
def test_what_would_arrive_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(EncodingError):
        encode(value)


def test_objects_in_arrays_keep_their_types() -> None:
    inner = np.array([1.5])
    value = np.array([None, (1, 2), [3], {4}, 2**100, np.float32(1), "text", b"bytes", inner], object)
    received = round_trip(value)
    assert received[8].tolist() == [1.5]
    assert_same(value[:8], received[:8])


def test_scalars_in_lists_keep_their_class() -> None:
    for values in (
        [np.float32(1)] * 100,
        [np.int8(1), np.int16(1)] * 50,
        [np.longlong(1)] * 100,
        [np.bool_(True)] * 50,
    ):
        assert [type(item) for item in round_trip(values)] == [type(item) for item in values]


def test_received_arrays_can_be_written_to() -> None:
    for value in (np.arange(3), np.arange(5000), np.array([None]), np.zeros(3, [("a", "O")]), np.array(["a"])):
        received = round_trip(value)
        received[0] = received[1] if len(received) > 1 else received[0]


@pytest.mark.parametrize(
    "text", [np.bytes_(b"key\0\0"), np.str_("key\0\0"), np.bytes_(b"\0"), np.bytes_(b"x" * 5000 + b"\0")]
)
def test_scalars_of_text_keep_zeros_at_their_end(text: Any) -> None:
    for sent in (text, [text] * 3, {text: text}, (text, [text]), [text] * 40):
        assert_same(sent, round_trip(sent))
    objects = np.array([text, None], object)
    assert len(round_trip(objects)[0]) == len(text)


def test_scalars_of_text_that_utf_8_cannot_express() -> None:
    assert_same(np.str_("\ud800"), round_trip(np.str_("\ud800")))


def test_booleans_over_other_bytes_arrive_as_what_they_are_for_numpy() -> None:
    sent = np.frombuffer(bytes([0, 1, 2, 255]), bool)
    assert round_trip(sent).tobytes() == bytes([0, 1, 1, 1])
    assert round_trip(np.asfortranarray(sent.reshape(2, 2))).tolist() == [[False, True], [True, True]]
    assert round_trip(sent[2]).tobytes() == b"\1"


@pytest.mark.parametrize(
    "array",
    [
        np.array([0x110000], "u4").view("U1"),
        np.array([0x110000], ">u4").view(">U1"),
        np.array([(0x110000,)], [("a", "u4")]).view([("a", "U1")]),
        np.frombuffer(bytes([2]), [("a", "?")]),
    ],
    ids=lambda value: str(value.dtype),
)
def test_what_the_receiver_would_refuse_is_refused_by_the_sender(array: Any) -> None:
    with pytest.raises(EncodingError, match="repair"):
        encode(array)


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("\ud800", "i4")]),
        np.dtype([(("\ud800", "name"), "i4")]),
        np.dtype((np.record, [("a", "i4"), ("b", "O")])),
        np.dtype([("a", np.dtype((np.record, [("b", "i2")])))]),
        np.dtype([("a", "S0"), ("b", "i1")]),
        np.dtype("S0"),
        np.dtype(">U0"),
        np.dtype("V0"),
    ],
    ids=ascii,
)
def test_unusual_dtypes_are_kept(dtype: Any) -> None:
    sent = np.ndarray((3,), dtype) if not dtype.itemsize else np.zeros(3, dtype)
    received = round_trip(sent)
    assert received.dtype == dtype
    assert received.dtype.type is dtype.type
    assert received.dtype.itemsize == dtype.itemsize
    assert received.tolist() == sent.tolist()
    assert round_trip(dtype) == dtype


@pytest.mark.parametrize(
    "dtype",
    [np.dtype("i4", metadata={"a": 1}), np.dtype((np.int32, {"low": ("i2", 0), "high": ("i2", 2)}))],
    ids=repr,
)
def test_dtypes_that_would_arrive_as_others_are_refused(dtype: Any) -> None:
    for value in (dtype, np.zeros(2, dtype), np.zeros(2, [("a", dtype)])):
        with pytest.raises(EncodingError, match="dtype"):
            encode(value)


def test_the_advice_for_a_masked_array_does_not_show_what_is_masked() -> None:
    with pytest.raises(EncodingError, match="getmaskarray"):
        encode(np.ma.MaskedArray([1, 2], mask=[True, False]))


def random_dtype(own: random.Random, depth: int = 2) -> Any:
    """A dtype of fields with holes between them, that lie over each other, are of no length, or are objects."""
    plain = [
        "u1",
        ">i2",
        "f8",
        "c16",
        "?",
        "M8[s]",
        "O",
        *(f"{kind}{length}" for kind in "USV" for length in (0, 1, 3)),
    ]
    formats = [
        random_dtype(own, depth - 1) if depth and own.random() < 0.2 else own.choice(plain)
        for _ in range(own.randrange(1, 4))
    ]
    names = list("abc")[: len(formats)]
    fields = [
        (name, kind, own.choice([(0,), (2,), (2, 1)])) if own.random() < 0.2 else (name, kind)
        for name, kind in zip(names, formats, strict=True)
    ]
    if own.random() < 0.3 and "O" not in formats:
        sizes = [np.dtype(kind).itemsize for kind in formats]
        offsets = [own.randrange(4) for _ in formats]
        size = max(map(int.__add__, sizes, offsets)) + own.randrange(3)
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
    return np.dtype(fields, align=own.random() < 0.4)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_sent_of_any_dtype_can_be_read(seed: int) -> None:
    own, sent = random.Random(seed), 0
    for _ in range(100):
        try:
            dtype = random_dtype(own)
            value = np.zeros(own.choice([(), (0,), (1,), (3,), (2, 2)]), dtype)
        except (TypeError, ValueError):
            continue  # numpy has none like this
        for one in (value, value[::-1] if value.ndim else value[()], value[..., None][:0]):
            try:
                encode(one)
            except EncodingError:
                continue
            received = round_trip(one)
            assert received.dtype == one.dtype
            assert received.shape == one.shape
            assert repr(received.tolist()) == repr(one.tolist())
            sent += 1
    assert sent > 100
