"""Whatever the segments are, the outcome is a value or a DecodingError."""

import contextlib
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import ormsgpack
import pytest

from mpccomm.codec import decode, encode
from mpccomm.codec.decoder import NOT_PLAIN, decode_plain
from mpccomm.codec.wire import HEADS, INLINE, ROOM, Tag
from mpccomm.errors import CommunicationError, DecodingError
from mpccomm.memory import Memory
from tests.codec.raw import call, decode_node, leaf, message, name_of, segment

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "segments",
    [
        [],
        [b""],
        [b"\xc1"],
        [b"\x92\x01"],
        [b"\x01\x02"],
        [b"\x01" + bytes(16)],
        [b"\xdd\xff\xff\xff\xff"],
        [b"\xdf\xff\xff\xff\xff"],
        [b"\xc6\xff\xff\xff\xff"],
        [b"\xc9\xff\xff\xff\xff\x01"],
        [b"\xa2\xff\xff"],
        [b"\x81\x01\x02"],
        [b"\x01", b"unused"],
        [b"\x91" * 5000 + b"\x01"],
        [b"\xd4\xffx"],
    ],
    ids=str,
)
def test_malformed(segments: list[bytes]) -> None:
    with pytest.raises(DecodingError) as caught:
        decode(segments)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CommunicationError)


@pytest.mark.parametrize("value", [1, "x", [1, 2], (1, 2), {"a": 2**70}])
def test_bytes_after_the_value_are_refused(value: object) -> None:
    # ormsgpack ignores them.
    envelope = encode(value).segments[0]
    for rest in (b"\x00", b"\xc0", bytes(envelope), b"\xc4\x10" + bytes(16), b"\x92\x01\x02"):
        with pytest.raises(DecodingError):
            decode([bytes(envelope) + rest])


@pytest.mark.parametrize(
    "node",
    [
        segment(0),
        segment(2),
        segment(2**31),
        [segment(1), segment(1)],
        leaf(Tag.SEGMENT, b""),
        leaf(Tag.SEGMENT, bytes(1000)),
        None,
    ],
    ids=name_of,
)
def test_each_segment_belongs_to_one_place(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node, b"x" * 5000)


@pytest.mark.parametrize("tag", [0, 7, 63, 100, 111, 127])
def test_unknown_tags(tag: int) -> None:
    with pytest.raises(DecodingError, match="unknown kind"):
        decode_node(leaf(tag, b"data"))
    with pytest.raises(DecodingError, match="unknown kind"):
        decode_node([leaf(tag, b""), 1])


@pytest.mark.parametrize("nodes", [(), (None,), ([],), (b"",), (1, 2), ([], [], []), ("x",) * 7], ids=repr)
def test_wrong_arguments(nodes: tuple[Any, ...]) -> None:
    for tag in Tag:
        with contextlib.suppress(DecodingError):
            decode_node(call(tag, *nodes))


def test_wrong_leaves() -> None:
    for tag in Tag:
        for data in (b"", b"x", bytes(100)):
            with contextlib.suppress(DecodingError):
                decode_node(leaf(tag, data))


def test_nesting_of_calls_is_limited() -> None:
    node: Any = []
    for _ in range(130):
        node = call(Tag.TUPLE, [node])
    with pytest.raises(DecodingError, match="too deeply"):
        decode([_pack_deep(node)])


def _pack_deep(node: Any) -> bytes:
    """Msgpack of lists nested beyond what ormsgpack packs."""
    if isinstance(node, list):
        return bytes([0x90 + len(node)]) + b"".join(map(_pack_deep, node))
    return ormsgpack.packb(node)


def test_elements_are_counted_before_they_are_built() -> None:
    assert decode([b"\xdc\x03\xe8" + b"\xc0" * 1000], max_elements=1001) == [None] * 1000
    with pytest.raises(DecodingError, match="more elements"):
        decode([b"\xdc\x03\xe8" + b"\xc0" * 1000], max_elements=1000)
    assert decode([ormsgpack.packb("x" * 10_000)], max_elements=10) == "x" * 10_000


@pytest.mark.parametrize("value", [[1.5] * 1000, [5] * 1000, [2**70] * 1000, [(1, 2)] * 500, [2**70, 2**900] * 500])
def test_elements_of_columns_count(value: list[Any]) -> None:
    segments = encode(value).segments
    assert decode(segments, max_elements=3000) == value
    with pytest.raises(DecodingError, match="more elements"):
        decode(segments, max_elements=900)


def test_memory_beyond_the_input_is_accounted_for() -> None:
    node = [call(Tag.DEQUE, [], None)] * 20_000
    with pytest.raises(DecodingError, match="more memory than its size"):
        decode(message(node))


@pytest.mark.parametrize("tag", [Tag.SET, Tag.FROZENSET, Tag.DICT, Tag.COUNTER])
def test_keys_of_equal_hashes_do_not_cost_quadratic_time(tag: Tag) -> None:
    # Integers hash to their remainder by this prime.
    keys = [
        HEADS[Tag.BIG_INTS],
        16,
        False,
        b"".join((i * (2**61 - 1)).to_bytes(16, "little") for i in range(1, 50_000)),
    ]
    nodes = [keys] if tag in (Tag.SET, Tag.FROZENSET) else [keys, [None] * 49_999]
    began = time.process_time()
    with pytest.raises(DecodingError):
        decode_node(call(tag, *nodes))
    assert time.process_time() - began < 2


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(bytearray(data)), bytes, Memory])
def test_segments_of_any_kind(kind: Any) -> None:
    value = [b"x" * 5000, np.arange(5000), bytearray(5000), [2**2000 + i for i in range(100)]]
    received: Any = decode([kind(bytes(part)) for part in encode(value).segments])
    assert received[0] == value[0]
    assert type(received[0]) is bytes
    np.testing.assert_array_equal(received[1], value[1])
    assert received[1].flags.writeable
    assert (received[2], type(received[2])) == (value[2], bytearray)
    assert received[3] == value[3]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 100, 255, 256, 257, 1000, INLINE - 1])
@pytest.mark.parametrize("one", [b"\0", b"\xc7", b"\xd4", "a", "\u00e4"])
def test_bytes_and_text_that_are_short_are_plain(one: bytes | str, size: int) -> None:
    value = one * size
    (envelope,) = encode(value).segments
    assert decode_plain((envelope,)) == value
    assert decode_plain((bytearray(envelope),)) == value
    for wrong in (bytes(envelope) + b"\0", bytes(envelope[:-1])):
        assert decode_plain((wrong,)) is NOT_PLAIN
        with pytest.raises(DecodingError):
            decode((wrong,))


def test_longer_bytes_are_plain_too() -> None:
    (envelope,) = encode(bytes(ROOM)).segments
    assert decode_plain((envelope,)) == bytes(ROOM)


def test_text_that_is_none_is_not_plain() -> None:
    for head, size in ((b"\xd9\x40", 0x40), (b"\xda\x01\x00", 0x100)):
        envelope = head + b"\xff" * size
        assert decode_plain((envelope,)) is NOT_PLAIN
        with pytest.raises(DecodingError):
            decode((envelope,))


def test_writable_segments_become_the_memory_of_the_value() -> None:
    array = np.arange(5000)
    segments = [bytearray(part) for part in encode(array).segments]
    received: Any = decode([segments[0], memoryview(segments[1])])
    assert np.shares_memory(received, np.frombuffer(segments[1], np.uint8))
    blob = bytearray(b"x" * (ROOM + 1))
    segments = [bytearray(part) for part in encode(blob).segments]
    assert decode(segments) is segments[1]


def test_memory_that_has_arrived_becomes_the_value() -> None:
    array, blob = np.arange(5000), b"x" * (ROOM + 1)
    envelope, *parts = encode([array, blob]).segments
    memories = [Memory(bytes(part)) for part in parts]
    received: Any = decode([envelope, *memories])
    np.testing.assert_array_equal(received[0], array)
    assert np.shares_memory(received[0], np.frombuffer(memories[0].getbuffer(), np.uint8))
    assert received[1] == blob
    assert received[1] is bytes(memories[1])


def test_no_payload_in_the_error() -> None:
    secret = "a secret that nobody should log"
    for node in (
        call(Tag.DECIMAL, secret),
        call(Tag.ZONEINFO, secret),
        call(Tag.NDARRAY, secret, [], False, True, b""),
    ):
        with pytest.raises(DecodingError) as caught:
            decode_node(node)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_missing_library_is_named_with_its_extra() -> None:
    script = textwrap.dedent("""
        import sys
        for name in ("numpy", "gmpy2", "bitarray", "pandas", "torch", "pyarrow", "safetensors"):
            sys.modules[name] = None
        from mpccomm.codec import decode, encode
        from mpccomm.errors import DecodingError, MissingExtraError
        import ormsgpack
        assert decode(encode([1, (2.5, {3: {4}}), 2**70]).segments) == [1, (2.5, {3: {4}}), 2**70]
        for tag, extra in ((48, "numpy"), (65, "gmpy"), (72, "bitarray"), (80, "pandas"), (112, "torch")):
            try:
                decode([ormsgpack.packb([ormsgpack.Ext(tag, b""), 1])])
            except MissingExtraError as error:
                assert f"extra {extra!r}" in str(error), error
                assert isinstance(error, DecodingError)
            else:
                raise AssertionError(extra)
        try:
            decode([ormsgpack.packb(ormsgpack.Ext(64, b"x"))])
        except MissingExtraError as error:
            assert "extra 'gmpy'" in str(error), error
    """)
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_deep_stack_of_the_caller() -> None:
    envelope = _pack_deep([[call(Tag.TUPLE, [call(Tag.TUPLE, [1])])]])

    def descend(depth: int) -> object:
        return descend(depth - 1) if depth else decode([envelope])

    with pytest.raises((DecodingError, RecursionError)):
        descend(985)


SINGLE = [
    None,
    False,
    0,
    127,
    128,
    300,
    70_000,
    2**40,
    -1,
    -32,
    -33,
    -300,
    -70_000,
    -(2**40),
    1.5,
    "",
    "a" * 31,
    "a" * 32,
    b"",
    b"b",
]


@pytest.mark.parametrize("value", [*SINGLE, b"b" * 255, b"b" * 256, [], {}])
def test_what_is_cut_or_followed_is_no_value(value: object) -> None:
    (envelope,) = encode(value).segments
    assert decode([envelope]) == value
    for wrong in (envelope[:-1], bytes(envelope) + b"\0", bytes(envelope) + envelope):
        with pytest.raises(DecodingError):
            decode([wrong])
