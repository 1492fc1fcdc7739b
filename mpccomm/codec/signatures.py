"""Whether the methods of a user's class fit each other, as far as their annotations tell."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, ForwardRef, TypeVar, Union, get_args, get_origin, get_type_hints

from mpccomm.errors import AnnotationError

_UNREADABLE = object()
_HOW = "annotate it, or pass check_annotations=False"


def check(serialize: Callable[..., object], deserialize: Callable[..., object], kinds: list[type]) -> None:
    """Raise `AnnotationError` unless the two functions are annotated, take ``**kwargs``, and fit each other.

    As in tno.mpc.communication, *serialize* has to return just what *deserialize* takes as its first parameter ``obj``, and
    *deserialize* has to return an instance of *kinds*.
    """
    names = {kind.__name__: kind for kind in kinds}
    _check_keywords(serialize)
    _check_keywords(deserialize)
    serialized = _hints(serialize, names).get("return", inspect.Parameter.empty)
    if serialized is inspect.Parameter.empty:
        raise AnnotationError(f"{_name(serialize)} has no annotation of what it returns; {_HOW}")
    hints = _hints(deserialize, names)
    parameter = next(iter(inspect.signature(deserialize).parameters.values()))
    if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.name != "obj":
        raise AnnotationError(f"{_name(deserialize)} has to take the serialised object as its first argument, obj")
    if parameter.name not in hints:
        raise AnnotationError(f"{_name(deserialize)} has no annotation of its argument {parameter.name!r}; {_HOW}")
    if "return" not in hints:
        raise AnnotationError(f"{_name(deserialize)} has no annotation of what it returns; {_HOW}")
    expected = hints[parameter.name]
    if not same(serialized, expected):
        raise AnnotationError(
            f"{_name(serialize)} returns {_show(serialized)}, but {_name(deserialize)} takes {_show(expected)}; "
            "annotate both alike, or pass check_annotations=False"
        )
    for kind in kinds:
        if not is_instance_of(hints["return"], kind):
            raise AnnotationError(
                f"{_name(deserialize)} returns {_show(hints['return'])} and is registered for {kind.__qualname__}; "
                f"give {kind.__qualname__} a deserialize of its own, or pass check_annotations=False"
            )


def _check_keywords(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise AnnotationError(
            f"{_name(function)} takes no **kwargs, with which it is told about the message; add **_kwargs: Any, "
            "or pass check_annotations=False"
        )


def _hints(function: Callable[..., object], names: dict[str, type]) -> dict[str, Any]:
    try:
        return get_type_hints(function, localns=names)
    except Exception:
        # Names that exist for the type checker only, or not yet. What cannot be read is taken to fit.
        annotations = inspect.get_annotations(inspect.unwrap(getattr(function, "__func__", function)))
        return {name: _UNREADABLE if isinstance(hint, str) else hint for name, hint in annotations.items()}


def same(one: Any, other: Any) -> bool:
    """Return whether two annotations say the same; one that can't be read here is taken to."""
    if one == other or _unknown(one) or _unknown(other):
        return True
    if _is_union(one) and _is_union(other):
        return all(any(same(item, its) for its in get_args(other)) for item in get_args(one)) and len(
            get_args(one)
        ) == len(get_args(other))
    arguments = get_args(one), get_args(other)
    return (
        get_origin(one) is get_origin(other) is not None
        and len(arguments[0]) == len(arguments[1])
        and all(map(same, *arguments))
    )


def is_instance_of(hint: Any, kind: type) -> bool:
    """Return whether what is annotated *hint* is an instance of *kind*, and not just of a base of it."""
    if hint is Any or _unknown(hint):
        return True
    if _is_union(hint):
        return any(is_instance_of(item, kind) for item in get_args(hint))
    origin = get_origin(hint) or hint
    return not isinstance(origin, type) or issubclass(origin, kind)


def _unknown(hint: Any) -> bool:
    return hint is _UNREADABLE or isinstance(hint, TypeVar | ForwardRef | str)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _show(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)
