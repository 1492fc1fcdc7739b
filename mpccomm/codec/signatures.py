"""Whether the methods of a user's class fit each other, as far as their annotations tell."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, ForwardRef, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from mpccomm.errors import AnnotationError

_HOW = "annotate it, or pass check_annotations=False"


def check(serialize: Callable[..., object], deserialize: Callable[..., object], kinds: list[type]) -> None:
    """Raise `AnnotationError` unless the two functions are annotated, take ``**kwargs``, and fit each other."""
    names = {kind.__name__: kind for kind in kinds}
    _check_keywords(serialize)
    _check_keywords(deserialize)
    serialized = _hints(serialize, names).get("return", inspect.Parameter.empty)
    if serialized is inspect.Parameter.empty:
        raise AnnotationError(f"{_name(serialize)} has no annotation of what it returns; {_HOW}")
    hints = _hints(deserialize, names)
    parameter = next(iter(inspect.signature(deserialize).parameters.values()))
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        raise AnnotationError(f"{_name(deserialize)} has to take the serialised object as its first argument")
    if parameter.name not in hints:
        raise AnnotationError(f"{_name(deserialize)} has no annotation of its argument {parameter.name!r}; {_HOW}")
    if "return" not in hints:
        raise AnnotationError(f"{_name(deserialize)} has no annotation of what it returns; {_HOW}")
    expected = hints[parameter.name]
    if not compatible(serialized, expected):
        raise AnnotationError(
            f"{_name(serialize)} returns {_show(serialized)}, but {_name(deserialize)} takes {_show(expected)}"
        )
    for kind in kinds:
        if not compatible(hints["return"], kind):
            raise AnnotationError(
                f"{_name(deserialize)} returns {_show(hints['return'])} and is registered for {kind.__qualname__}"
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
        return {name: Any if isinstance(hint, str) else hint for name, hint in annotations.items()}


def compatible(source: Any, target: Any) -> bool:
    """Whether a value annotated *source* can be one annotated *target*; what cannot be told counts as yes."""
    if source == target or _unknown(source) or _unknown(target):
        return True
    for_source, for_target = _alternatives(source), _alternatives(target)
    if len(for_source) > 1 or len(for_target) > 1:
        return any(compatible(one, other) for one in for_source for other in for_target)
    first, second = _origin(source), _origin(target)
    if not (isinstance(first, type) and isinstance(second, type)):
        return True
    try:
        related = issubclass(first, second) or issubclass(second, first) or (first, second) == (int, float)
    except TypeError:
        return True
    inner = zip(_arguments(source), _arguments(target), strict=False)
    return related and all(compatible(one, other) for one, other in inner)


def _unknown(hint: Any) -> bool:
    return hint in (Any, object) or isinstance(hint, TypeVar | ForwardRef | str)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _origin(hint: Any) -> Any:
    if is_typeddict(hint) or is_typeddict(get_origin(hint)):
        return dict
    if hint is None:
        return type(None)
    return get_origin(hint) or hint


def _arguments(hint: Any) -> tuple[Any, ...]:
    return tuple(argument for argument in get_args(hint) if argument is not Ellipsis)


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _show(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)
