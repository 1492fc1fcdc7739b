"""Which annotations fit each other."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Union

import pytest

from mpccomm.codec.signatures import check, compatible
from mpccomm.errors import AnnotationError

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


class Parts(TypedDict):
    value: int


class Shape(Protocol):
    def area(self) -> float: ...


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, int),
        (int, float),
        (int, Any),
        (Any, dict),
        (dict, dict[str, Any]),
        (dict[str, int], dict[str, Any]),
        (dict[str, int], Mapping[str, int]),
        (Mapping[str, int], dict[str, int]),
        (Parts, dict[str, Any]),
        (dict[str, Any], Parts),
        (Parts, Parts),
        (list[int], Sequence[int]),
        (int | None, int),
        (int, int | str),
        (Union[int, str], str),  # noqa: UP007
        (None, None),
        (T, int),
        (tuple[int, ...], tuple[int, int]),
        (Shape, int),
        (bool, int),
    ],
    ids=str,
)
def test_compatible(source: Any, target: Any) -> None:
    assert compatible(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, str),
        (dict[str, int], list[int]),
        (dict[str, int], dict[str, str]),
        (Parts, list[int]),
        (int | None, str),
        (None, int),
        (bytes, str),
        (list[int], dict),
    ],
    ids=str,
)
def test_incompatible(source: Any, target: Any) -> None:
    assert not compatible(source, target)


class Base(abc.ABC):
    @abc.abstractmethod
    def serialize(self, **kwargs: Any) -> Any: ...

    @staticmethod
    def deserialize(obj: "dict[str, Any]", **kwargs: Any) -> "Base":
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Frozen(Base):
    value: int

    def serialize(self, **_kwargs: Any) -> "Parts":
        return {"value": self.value}


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
