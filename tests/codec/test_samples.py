"""Every sample arrives as it was sent, whatever memory the segments arrive in."""

import importlib
from typing import Any

import pytest

from mpccomm.codec import Serialization, decode, encode
from mpccomm.codec.decoder import MessageDecoder
from mpccomm.codec.wire import MAX_ELEMENTS, unpack_envelope
from tests.codec.exactness import assert_same
from tests.codec.samples import EXTRAS, LIBRARIES, SAMPLES
from tests.needs import missing


def samples(codec: str) -> list[Any]:
    for library in LIBRARIES.get(codec, []):
        pytest.importorskip(library, reason=missing(library, extra=EXTRAS.get(codec, codec)))
    return SAMPLES[codec]()


@pytest.mark.parametrize("codec", SAMPLES)
def test_arrives_as_it_was_sent(codec: str) -> None:
    for value in samples(codec):
        assert_same(value, decode(encode(value).segments))


@pytest.mark.parametrize("codec", SAMPLES)
def test_arrives_in_memory_of_the_decoders_own(codec: str) -> None:
    for value in samples(codec):
        assert_same(value, decode([bytearray(segment) for segment in encode(value).segments]))
        assert_same(value, decode([memoryview(bytearray(segment)) for segment in encode(value).segments]))


@pytest.mark.parametrize("codec", SAMPLES)
def test_arrives_unaligned(codec: str) -> None:
    for value in samples(codec):
        segments = [memoryview(bytearray(b"x") + segment)[1:] for segment in encode(value).segments]
        assert_same(value, decode(segments))


@pytest.mark.parametrize("codec", SAMPLES)
def test_arrives_from_a_snapshot_and_within_other_values(codec: str) -> None:
    for value in samples(codec):
        outer = {"values": [(value,), {1: value}]}
        assert_same(outer, decode(encode(outer, snapshot=True).segments))


@pytest.mark.parametrize("codec", SAMPLES)
def test_is_unpacked_as_it_was_packed(codec: str) -> None:
    for value in samples(codec):
        assert_same(value, Serialization.unpack(Serialization.pack(value)))


@pytest.mark.parametrize("codec", SAMPLES)
def test_segments_are_bytes_that_nobody_can_change(codec: str) -> None:
    for value in samples(codec):
        envelope, *rest = encode(value).segments
        assert type(envelope) is bytes
        for segment in rest:
            view = memoryview(segment)
            assert (view.ndim, view.format, view.c_contiguous, view.readonly) == (1, "B", True, True)
            assert len(view) >= 4096


@pytest.mark.parametrize("codec", SAMPLES)
def test_both_sides_keep_the_same_account(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the decoder charges, the encoder has charged: so no message that it makes exceeds what its size allows."""
    charged = 0

    def ballasted(envelope: bytes, segments: object, memory: int) -> bytes:
        nonlocal charged
        charged = memory
        return envelope

    monkeypatch.setattr("mpccomm.codec.encoder._ballasted", ballasted)
    for value in samples(codec):
        charged = 0
        segments = encode(value).segments
        node, _ = unpack_envelope(segments[0])
        decoder = MessageDecoder(segments, {}, MAX_ELEMENTS)
        before = decoder.memory = 1 << 62
        decoder.message(node)
        assert before - decoder.memory <= charged, repr(value)[:1000]


def test_every_plugin_has_samples() -> None:
    from mpccomm.codec.plugins import _EXTRAS

    assert set(SAMPLES) == {*(module for _, module in _EXTRAS.values()), "builtin", "columns"}
    for name in SAMPLES:
        assert importlib.util.find_spec(f"mpccomm.codec.{name}")
