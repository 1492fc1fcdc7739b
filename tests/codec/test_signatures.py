"""Which annotations fit each other."""

import abc
import dataclasses
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, TypeVar, Union

import pytest

from mpccomm.codec.signatures import check, is_instance_of, same
from mpccomm.errors import AnnotationError

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


class Parts(TypedDict):
    value: int


class Shape(Protocol):
    def area(self) -> float: ...


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (int, int),
        (Any, Any),
        (dict[str, Any], typing.Dict[str, Any]),  # noqa: UP006
        (list[dict[str, int]], typing.List[typing.Dict[str, int]]),  # noqa: UP006
        (int | str, Union[str, int]),  # noqa: UP007
        (int | None, typing.Optional[int]),  # noqa: UP045
        (int | list[int], typing.List[int] | int),  # noqa: UP006
        (tuple[int, ...], tuple[int, ...]),
        (Parts, Parts),
        (T, int),
        ("Unknown", int),
    ],
    ids=str,
)
def test_same(one: Any, other: Any) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (int, str),
        (int, float),
        (bool, int),
        (int, Any),
        (dict, dict[str, Any]),
        (dict[str, int], dict[str, Any]),
        (dict[str, int], Mapping[str, int]),
        (Parts, dict[str, Any]),
        (int | None, int),
        (int | str, int | bytes),
        (int | str | None, int | str),
        (tuple[int, ...], tuple[int, int]),
        (tuple[int], tuple[int, int]),
        (list[int], dict),
        (Shape, int),
    ],
    ids=str,
)
def test_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)


class Animal:
    pass


class Dog(Animal):
    pass


def test_instances() -> None:
    for hint in (Dog, Dog | None, Any, T, "Unknown", Self):
        assert is_instance_of(hint, Dog)
    assert is_instance_of(Dog, Animal)
    for other in (Animal, int, type(None), Animal | int, list[Dog]):
        assert not is_instance_of(other, Dog)


class Base(abc.ABC):
    @abc.abstractmethod
    def serialize(self, **kwargs: Any) -> "Parts": ...

    @staticmethod
    def deserialize(obj: "Parts", **kwargs: Any) -> "Base":
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Frozen(Base):
    value: int

    def serialize(self, **_kwargs: Any) -> "Parts":
        return {"value": self.value}

    @staticmethod
    def deserialize(obj: "Parts", **_kwargs: Any) -> "Frozen":
        return Frozen(obj["value"])


class Heir(Frozen):
    pass


class Typed:
    def serialize(self, **_kwargs: "Unknown") -> "Unknown":
        return 1

    @staticmethod
    def deserialize(obj: "Unknown", **_kwargs: Any) -> "Typed":
        return Typed()


class WithProtocol(Shape):
    def area(self) -> float:
        return 1.0

    def serialize(self, **kwargs: object) -> Parts:
        return {"value": 1}

    @classmethod
    def deserialize(cls, obj: Parts, **kwargs: object) -> "WithProtocol":
        return cls()


@pytest.mark.parametrize("kind", [Frozen, Typed, WithProtocol, Base])
def test_classes_as_people_write_them(kind: Any) -> None:
    from mpccomm.codec import Serialization

    try:
        Serialization.register_class(kind)
    finally:
        Serialization.clear_serialization_logic()


def test_an_inherited_deserialize_makes_instances_of_the_base() -> None:
    from mpccomm.codec import Serialization

    with pytest.raises(AnnotationError, match=r"returns Frozen and is registered for Heir; give Heir a deserialize"):
        Serialization.register_class(Heir)


def functions(namespace: dict[str, Any]) -> Any:
    return namespace["serialize"], namespace["deserialize"]


def good_serialize(obj: Any, **kwargs: Any) -> int:
    return 1


def good_deserialize(obj: int, **kwargs: Any) -> "Typed":
    return Typed()


def no_return(obj: Any, **kwargs: Any):  # type: ignore[no-untyped-def]
    return 1


def no_keywords(obj: Any) -> int:
    return 1


def no_argument_hint(obj, **kwargs: Any) -> "Typed":  # type: ignore[no-untyped-def]
    return Typed()


def takes_text(obj: str, **kwargs: Any) -> "Typed":
    return Typed()


def returns_text(obj: int, **kwargs: Any) -> str:
    return ""


def another_name(thing: int, **kwargs: Any) -> "Typed":
    return Typed()


def only_keywords(**kwargs: Any) -> "Typed":
    return Typed()


@pytest.mark.parametrize(
    ("serialize", "deserialize", "complaint"),
    [
        (no_return, good_deserialize, "no annotation of what it returns"),
        (no_keywords, good_deserialize, r"\*\*kwargs"),
        (good_serialize, no_keywords, r"\*\*kwargs"),
        (good_serialize, no_return, "no annotation"),
        (good_serialize, no_argument_hint, "no annotation of its argument 'obj'"),
        (good_serialize, takes_text, "returns int, but takes_text takes str"),
        (good_serialize, returns_text, "returns str and is registered for Typed"),
        (good_serialize, only_keywords, "first argument"),
        (good_serialize, another_name, "first argument, obj"),
    ],
)
def test_complaints(serialize: Any, deserialize: Any, complaint: str) -> None:
    check(good_serialize, good_deserialize, [Typed])
    with pytest.raises(AnnotationError, match=complaint) as caught:
        check(serialize, deserialize, [Typed])
    assert isinstance(caught.value, TypeError)


def test_deserialize_has_to_be_static() -> None:
    from mpccomm.codec import Serialization

    class Bound:
        def serialize(self, **_kwargs: Any) -> int:
            return 1

        def deserialize(self, obj: int, **_kwargs: Any) -> "Bound":
            return self

    with pytest.raises(AnnotationError, match="staticmethod"):
        Serialization.register_class(Bound)
