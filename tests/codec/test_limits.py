"""What any message may cost: a second, 50 MB and 20 times its size; and no message ends the process."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial
from typing import Any

import ormsgpack
import pytest

from mpccomm.codec import decode, encode, tno
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec import dense, limits, mutation
from tests.codec.hostile import SIZE, Grammar, bombs, equal_hashes, tno_bombs
from tests.codec.limits import Cost, measure
from tests.codec.samples import LIBRARIES, SAMPLES

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc, and needs limits that others do not enforce"
)

for library in ("bitarray", *LIBRARIES["pandas"]):
    pytest.importorskip(library)

mpz = pytest.importorskip("gmpy2").mpz

BOMBS = bombs()
TNO_BOMBS = tno_bombs()


def check(cost: Cost, size: int) -> None:
    assert cost.within(size), f"{cost} for {size} bytes"


@pytest.fixture(scope="module")
def clean() -> Iterator[Callable[..., Cost]]:
    with limits.clean() as measure:
        yield measure


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, clean: Callable[..., Cost]) -> None:
    size = sum(map(len, BOMBS[name]))
    assert size < 1.3 * SIZE
    check(clean(partial(decode, BOMBS[name]), size), size)


@pytest.mark.parametrize("name", TNO_BOMBS)
def test_bombs_of_tno(name: str, clean: Callable[..., Cost]) -> None:
    data = TNO_BOMBS[name]
    assert len(data) < 1.3 * SIZE
    check(clean(partial(tno.unpack, data), len(data)), len(data))


DENSE = dense.values()
SHORT = 360_000
"""Bytes; about the most for which nothing looks at what the nodes take."""


@pytest.mark.parametrize("name", DENSE)
def test_dense_values_without_ballast(name: str, clean: Callable[..., Cost], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.codec.encoder._ballasted", lambda envelope, segments, memory: envelope)
    segments = dense.longest(DENSE[name], SIZE if os.environ.get("MPCCOMM_TEST_LONG") else SHORT)
    size = sum(map(len, segments))
    check(clean(partial(decode, segments), size), size)


@pytest.mark.parametrize("element", [-100, (-100,), [-100], {}, {"a": 1}, {1}, Decimal(1), mpz(1)], ids=repr)
def test_dense_values_arrive(element: Any, clean: Callable[..., Cost]) -> None:
    for elements in (1000, 100_000, 300_000):
        segments = list(map(bytes, encode([element] * elements).segments))
        size = sum(map(len, segments))
        cost = clean(partial(decode, segments), size)
        assert cost.outcome == "value"
        if size <= SIZE:
            check(cost, size)


@pytest.mark.parametrize("name", dense.messages(0))
def test_dense_messages(name: str, clean: Callable[..., Cost]) -> None:
    for most in (SHORT, SIZE):
        segments = dense.messages(most)[name]
        size = sum(map(len, segments))
        assert most / 2 < size < 1.1 * most
        check(clean(partial(decode, segments), size), size)


def test_there_is_a_dense_message_with_each_tag() -> None:
    others = {Tag.SEGMENT, Tag.TENSOR, Tag.OBJECT, Tag.EACH, Tag.INSTANCES}
    texts = [bytes(encode(make(size)).segments[0]) for make in DENSE.values() for size in (1, 100)]
    texts += [segments[0] for segments in dense.messages(1000).values()]
    heads = {tag: (b"\xc7\x00%c" % tag, *(b"%c%c" % (0xD4 + power, tag) for power in range(5))) for tag in Tag}
    missing = {tag for tag in Tag if not any(head in text for head in heads[tag] for text in texts)}
    assert missing <= others


def test_the_hashes_are_equal() -> None:
    assert len(set(map(hash, equal_hashes(100)))) == 1


def test_a_few_tuples_as_keys_are_read() -> None:
    value = {(number, (number,)): {number: [number]} for number in range(100)}
    data = ormsgpack.packb({"object": value, "id": 1}, option=ormsgpack.OPT_NON_STR_KEYS)
    assert tno.unpack(data)[1] == value


def _repeated(value: Any, bare: bool) -> list[bytes] | None:
    """A message that is a list of one value, *bare* of what an honest sender adds."""
    segments = encode(value).segments
    if len(segments) > 1 or len(segments[0]) > 1500:
        return None
    data = bytes(segments[0])
    if bare:
        node = ormsgpack.unpackb(data, ext_hook=mutation.Tagged, option=ormsgpack.OPT_NON_STR_KEYS)
        data = mutation.pack(_without_zeros(node))
    count = SIZE // 8 // len(data)
    return [b"\xdd" + count.to_bytes(4, "big") + data * count]


def _without_zeros(node: Any) -> Any:
    if type(node) is list:
        return [_without_zeros(item) for item in node]
    return b"" if type(node) is bytes and not any(node) else node


FIXED = 12 << 20
"""Bytes that the libraries take in a child for the first value of a kind, however large the message is: those that pyarrow's
allocator takes first are 8 MB, if nothing else in this process had it take them before."""


PARTS = 8
"""Of the samples: all of them take longer than a test may on a machine that has other things to do."""


@pytest.mark.parametrize("part", range(PARTS))
def test_many_small_values(part: int) -> None:
    """An eighth of a megabyte of them, in memory for that, and twice the time, as short times are what others disturb."""
    for value in _one_of_each()[part::PARTS]:
        for bare in (True, False):
            message = _repeated(value, bare)
            if message is not None:
                with suppress(DecodingError):
                    decode(message)  # what is needed once and for all is there now
                for _ in range(3):  # what else goes on can only add
                    cost = measure(partial(decode, message), SIZE // 8)
                    memory = FIXED + 8 * max(cost.memory - FIXED, 0)
                    within = cost._replace(seconds=4 * cost.seconds, memory=memory).within(SIZE)
                    if within:
                        break
                assert within, (type(value), str(value)[:100], bare, cost)


@cache
def _one_of_each() -> list[Any]:
    """The smallest sample of each type, dtype and kind of index."""
    smallest: dict[str, tuple[int, Any]] = {}
    for value in SAMPLES["pandas"]():
        name = f"{type(value).__name__} {type(getattr(value, 'dtype', None)).__name__}"
        size = sum(map(len, encode(value).segments))
        if name not in smallest or size < smallest[name][0]:
            smallest[name] = size, value
    return [value for _, value in smallest.values()]


BATCH = 500


@pytest.mark.parametrize("seed", range(12))
def test_generated_messages(seed: int) -> None:
    """What can be decoded, and encoded again, can be decoded again."""

    def decode_all() -> None:
        values = 0
        for _, message in zip(range(BATCH), Grammar(seed).messages(), strict=False):
            values += _use(message)
        assert values > BATCH // 20

    cost = measure(decode_all, 50 * SIZE)
    assert cost.outcome == "value", f"{cost} for seed {seed}"


def _use(message: list[bytes]) -> bool:
    try:
        value = decode([bytearray(part) for part in message])
    except DecodingError:
        return False
    with contextlib.suppress(Exception):
        repr(value)
    with contextlib.suppress(EncodingError):
        segments = encode(value).segments
        decode(segments)
    return True
