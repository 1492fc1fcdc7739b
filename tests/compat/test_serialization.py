"""Bytes that 4.x packed are read, and bytes that it reads are written."""

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import ormsgpack
import pytest
from bitarray import bitarray

import mpccomm
from mpccomm import DecodingError, EncodingError
from mpccomm.compat import Serialization

PACKED = {
    name: bytes.fromhex(text)
    for name, text in json.loads((Path(__file__).parent / "data/packed_by_4_12.json").read_text()).items()
}
"""Made by tno.mpc.communication 4.12.0."""


class Point:
    """Serialised in the way of 4.x: its parts one by one."""

    def __init__(self, x: object, y: object) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]

    def serialize(self, **kwargs: Any) -> dict[str, Any]:
        return {"x": Serialization.serialize(self.x, **kwargs), "y": self.y}

    @staticmethod
    def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Point":
        return Point(obj["x"], obj["y"])


class Colour(Enum):
    RED = 3


VALUES: dict[str, Any] = {
    "plain": [None, True, -5, 2**64 - 1, 1.5, "text", b"bytes", {"a": [1]}],
    "big": [2**64, -(2**63) - 1, 2**200],
    "tuple": (1, (2,), []),
    "gmpy": [
        gmpy2.mpz(-2) ** 99,
        gmpy2.xmpz(6),
        gmpy2.mpq(-1, 3),
        gmpy2.mpfr("1.5"),
        gmpy2.mpfr("-inf"),
        gmpy2.mpc(1, 2),
    ],
    "bitarray": bitarray("10110"),
    "registered": [Point(2**100, (1, 2))],
}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    Serialization.register_class(Point)
    yield
    Serialization.clear_serialization_logic()


@pytest.mark.parametrize("name", VALUES)
def test_what_it_packed_is_read(name: str) -> None:
    msg_id, value = Serialization.unpack(PACKED[name])
    assert msg_id == (7 if name == "big" else "an id")
    assert value == VALUES[name]
    assert str(list(map(type, value))) == str(list(map(type, VALUES[name])))
    assert mpccomm.Serialization.unpack(PACKED[name]) == VALUES[name], "and without the id where there are no ids"


def test_arrays_that_it_packed_are_read() -> None:
    array = Serialization.unpack(PACKED["objects"])[1]
    assert array.dtype == object
    assert array.tolist() == [[2**70, 1], [2, 3]]
    assert Serialization.unpack(PACKED["scalar"])[1].shape == ()
    assert Serialization.unpack(PACKED["array"])[1] == [0, 1, 2], "which is what it made of arrays of numbers"


@pytest.mark.parametrize("name", [name for name in PACKED if name not in ("gmpy", "bitarray")])
def test_the_same_bytes_are_written(name: str) -> None:
    arrays = {"objects": np.array([[2**70, 1], [2, 3]], dtype=object), "scalar": np.array(2), "array": np.arange(3)}
    value = VALUES[name] if name in VALUES else arrays[name]
    assert Serialization.pack(value, 7 if name == "big" else "an id", use_pickle=False) == PACKED[name]


@pytest.mark.parametrize("name", ["gmpy", "bitarray"])
def test_what_is_written_is_read(name: str) -> None:
    assert Serialization.unpack(Serialization.pack(VALUES[name], "x", use_pickle=True)) == ("x", VALUES[name])


def test_options_are_those_of_ormsgpack() -> None:
    with pytest.raises(EncodingError, match="Dict key must be str"):
        Serialization.pack({1: 2}, "x")
    option = ormsgpack.OPT_NON_STR_KEYS | ormsgpack.OPT_SERIALIZE_NUMPY
    assert Serialization.unpack(Serialization.pack({1: (2,)}, "x", option=option)) == ("x", {1: [2]})
    assert Serialization.unpack(Serialization.pack(Colour.RED, "x")) == ("x", 3)


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"builtins\.set"):
        Serialization.pack({1}, "x")


class Refusing:
    def serialize(self, **_kwargs: Any) -> int:
        raise RuntimeError("not this one")

    @staticmethod
    def deserialize(obj: int, **_kwargs: Any) -> "Refusing":
        raise RuntimeError("nor this one")


def test_what_the_methods_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    Serialization.register_class(Refusing)
    with pytest.raises(EncodingError, match="not this one"):
        Serialization.pack([Refusing()], "x")
    with pytest.raises(DecodingError, match="deserialize of Refusing raised RuntimeError"):
        Serialization.unpack(ormsgpack.packb({"object": {"type": "Refusing", "data": 1}, "id": "x"}))


@pytest.mark.parametrize(
    "object_",
    [
        {"type": "int", "data": "text"},
        {"type": "tuple", "data": 1},
        {"type": "mpz", "data": b"\x01"},
        {"type": "mpz", "data": bytes.fromhex("032e281f9bddf853369b")},
        {"type": "mpfr", "data": b"\x04\x41\0\0\xff\xff\xff\xff\1\0\0\0"},
        {"type": "ndarray", "data": {"values": [], "shape": [1 << 40]}},
        {"type": "ndarray", "data": {"values": [[1], [2, 3]], "shape": [2, 2]}},
        {"type": "ndarray", "data": [1]},
        {"type": "bitarray", "data": b"\xff\xff"},
        {"type": "Unknown", "data": 1},
        {"type": 3, "data": 1},
    ],
    ids=str,
)
def test_what_is_malformed_is_refused(object_: object) -> None:
    with pytest.raises(DecodingError):
        Serialization.unpack(ormsgpack.packb({"object": object_, "id": "x"}))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x80", b"\x91" * 2000 + b"\x90", b"\x82\xa6object\x01", PACKED["big"][:-1]]
)
def test_bytes_of_nobody(data: bytes) -> None:
    with pytest.raises(DecodingError):
        Serialization.unpack(data)
    with pytest.raises(DecodingError):
        mpccomm.Serialization.unpack(data)


def test_forms_of_parts() -> None:
    form = Serialization.serialize(Point(1, 2), use_pickle=False)
    assert Serialization.deserialize(form, use_pickle=False) == Point(1, 2)
    assert Serialization.serialize((1, 2), False) == (1, 2)
