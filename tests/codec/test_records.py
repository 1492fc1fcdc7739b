"""Classes that need no methods: what arrives of them, and what is refused because their fields do not tell it."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from mpccomm.codec import Serialization, decode, encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import AnnotationError, DecodingError, EncodingError
from tests.codec.raw import call, decode_node, round_trip


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    Serialization.clear_serialization_logic()
    yield
    Serialization.clear_serialization_logic()


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


@dataclasses.dataclass
class Celsius:
    degrees: float
    scale: dataclasses.InitVar[float] = 1.0
    note: str = dataclasses.field(default="", init=False)

    def __post_init__(self, scale: float) -> None:
        self.degrees = self.degrees * scale

    @functools.cached_property
    def kelvin(self) -> float:
        return self.degrees + 273.15


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = None


class _Base:
    __slots__ = ("extra",)


@dataclasses.dataclass(slots=True)
class SlottedHeir(_Base):
    x: Any


@dataclasses.dataclass
class DictLike(dict[str, int]):
    x: int = 0


@dataclasses.dataclass
class Failure(Exception):  # noqa: N818
    code: int


class Loose(NamedTuple):
    x: int


class LooseHeir(Loose):
    pass


@dataclasses.dataclass
class Parent:
    x: int


@dataclasses.dataclass
class Child(Parent):
    y: Any = None


@pytest.mark.parametrize("many", [False, True])
def test_a_dataclass_arrives_with_the_values_that_it_had(many: bool) -> None:
    for kind in (Celsius, Slotted, Child, Parent, Pair):
        Serialization.register_class(kind)
    celsius = Celsius(3.14, 57.3)
    celsius.note = "hot"
    assert celsius.kelvin > 273
    for value in (celsius, Slotted({1}, (2,)), Child(1, [Child(2)]), Pair([1], 2)):
        values = [value] * (40 if many else 1)
        encoded = encode(values)
        received: Any = decode(encoded.segments)
        assert received == values
        assert {type(item) for item in received} == {type(value)}
        assert received[0] is not received[-1] or not many
        # No code of the user's takes part.
        assert not encoded.ordered
    assert round_trip([celsius] * 40)[5].kelvin == celsius.kelvin
    assert "kelvin" not in vars(round_trip(celsius))


@pytest.mark.parametrize("many", [False, True])
def test_what_fields_do_not_tell_is_refused_with_the_remedy(many: bool) -> None:
    for kind in (Parent, SlottedHeir, LooseHeir, Pair):
        Serialization.register_class(kind)
    parent = Parent(1)
    parent.other = 5  # type: ignore[attr-defined]
    slotted = SlottedHeir(1)
    slotted.extra = 5  # type: ignore[attr-defined]
    loose = LooseHeir(1)
    loose.other = 5  # type: ignore[attr-defined]
    for value, kind in ((parent, Parent), (slotted, SlottedHeir), (loose, LooseHeir)):
        others = [round_trip(kind(1))] * (40 if many else 0)
        with pytest.raises(EncodingError, match=r"no field of .*serialize and deserialize") as caught:
            encode([*others, value])
        assert str(caught.value).startswith(f"message[{len(others)}]")
    incomplete = Pair(1, 2)
    del incomplete.right
    with pytest.raises(EncodingError, match="no value for its field 'right'"):
        encode([incomplete] * (40 if many else 1))


@pytest.mark.parametrize("kind", [DictLike, Failure])
def test_a_dataclass_that_is_a_builtin_type_needs_methods(kind: type) -> None:
    with pytest.raises(AnnotationError, match="builtin type"):
        Serialization.register_class(kind)


def test_columns_of_instances_have_to_fit_the_class() -> None:
    Serialization.register_class(Parent)
    for node in (
        call(Tag.INSTANCES, "Parent", ["x"]),
        call(Tag.INSTANCES, "Parent", ["y"], [1]),
        call(Tag.INSTANCES, "Parent", ["x", "x"], [1], [1]),
        call(Tag.INSTANCES, "Parent", []),
        call(Tag.INSTANCES, "Parent", ["x"], 5),
        call(Tag.INSTANCES, "Parent", ["__class__"], [1]),
        call(Tag.INSTANCES, "Nobody", ["x"], [1]),
        call(Tag.INSTANCES, [], ["x"], [1]),
        call(Tag.OBJECT, "Parent", {"x": 1, "y": 2}),
        call(Tag.OBJECT, "Parent", {"__dict__": {}}),
        call(Tag.OBJECT, "Parent", 5),
    ):
        with pytest.raises(DecodingError):
            decode_node(node)
    assert decode_node(call(Tag.INSTANCES, "Parent", ["x"], [1, 2])) == [Parent(1), Parent(2)]
