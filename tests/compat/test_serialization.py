"""Bytes that 4.x packed are read, and bytes that it reads are written."""

import importlib
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
from mpccomm.compat.serialization import DEFAULT_PACK_OPTION, DESERIALIZER_FUNCS, SERIALIZER_FUNCS
from tests.needs import library

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


def test_frames_and_tensors_that_it_packed_are_read() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    value = {
        name: Serialization.unpack(bytes.fromhex(text))[1]
        for name, text in json.loads((Path(__file__).parent / "data/frames_packed_by_4_12.json").read_text()).items()
        if "tensor" not in name
    }
    frame = value["frame"]
    assert list(frame.index) == ["x", "y", "z"]
    assert list(frame["big"]) == [2**128, 1, -2]
    assert list(frame["s"].isna()) == [False, True, False]
    assert frame["t"].iloc[2] == pd.Timestamp("2020-01-03")
    assert list(value["frame_gmpy"]["m"]) == [gmpy2.mpz(1), gmpy2.mpz(2), gmpy2.mpz(3)]
    assert list(value["frame_mixed"]["m"]) == [gmpy2.mpz(5), (1, 2), "text"]
    assert list(value["frame_mixed"].columns) == ["m", 3]
    pd.testing.assert_series_equal(value["series"], pd.Series([1, 2, 3], index=["a", "b", "c"]))
    pd.testing.assert_series_equal(value["series_named"], pd.Series([1.5, 2.5], name="values"))
    assert value["timestamp"] == pd.Timestamp("2020-01-02 03:04:05.678901+00:00")


def test_tensors_that_it_packed_are_read() -> None:
    torch = library("torch", extra="torch")
    packed = json.loads((Path(__file__).parent / "data/frames_packed_by_4_12.json").read_text())
    assert torch.equal(
        Serialization.unpack(bytes.fromhex(packed["tensor"]))[1], torch.tensor([[1.5, 2.0], [3.0, -1.0]])
    )
    assert Serialization.unpack(bytes.fromhex(packed["tensor_empty"]))[1].shape == (2, 0, 3)


def test_the_functions_that_are_registered() -> None:
    assert SERIALIZER_FUNCS["Point"] is Point.serialize
    assert DESERIALIZER_FUNCS["Point"] is Point.deserialize
    assert {"int", "tuple", "mpz", "bitarray", "ndarray", "Point"} <= set(SERIALIZER_FUNCS)
    assert set(SERIALIZER_FUNCS) == set(DESERIALIZER_FUNCS)
    assert len(SERIALIZER_FUNCS) == len(SERIALIZER_FUNCS.copy())
    assert DESERIALIZER_FUNCS["mpz"](SERIALIZER_FUNCS["mpz"](gmpy2.mpz(5), use_pickle=False)) == 5
    Serialization.clear_serialization_logic()
    assert "Point" not in SERIALIZER_FUNCS


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("int", "int", 2**70),
        ("tuple", "tuple", (1, 2)),
        ("gmpy", "gmpy", gmpy2.mpq(1, 3)),
        ("bitarray", "bitarray", bitarray("101")),
        ("pandas", "pandas_{}_timestamp", None),
        ("pandas", "pandas_{}_series", None),
        ("pandas", "pandas_{}_dataframe", None),
        ("torch", "torch_{}_tensor", None),
    ],
)
def test_the_plug_ins(module: str, name: str, value: Any) -> None:
    if module == "torch":
        library("torch", extra="torch")
    plugin = importlib.import_module(f"mpccomm.compat.serializer_plugins.{module}")
    plugin.register()
    assert {*plugin.__all__} >= {"register"}
    serialize, deserialize = (
        getattr(plugin, (name if "{}" in name else f"{name}_{{}}").format(way)) for way in ("serialize", "deserialize")
    )
    if value is not None:
        assert deserialize(serialize(value, use_pickle=False), use_pickle=False) == value


def test_missing_forms() -> None:
    with pytest.raises(TypeError, match="set has no form"):
        Serialization.default_serialize({1}, use_pickle=True)
    with pytest.raises(DecodingError, match="no pickle"):
        Serialization.default_deserialize(b"", use_pickle=True)
    assert Serialization.collection_deserialize([1, 2]) == [1, 2]
    assert Serialization.collection_deserialize({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="neither"):
        Serialization.collection_deserialize(1)
    with pytest.raises(TypeError, match="64-bit"):
        Serialization.pack(2**100, "x", option=None)
    assert Serialization.unpack(Serialization.pack(2**100, "x", option=DEFAULT_PACK_OPTION)) == ("x", 2**100)
    with pytest.raises(TypeError, match="Type is not msgpack serializable: Refusing"):
        Serialization.pack(Refusing(), "x")
