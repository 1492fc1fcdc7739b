"""What the functions of all plug-ins do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpccomm.codec import tno
from mpccomm.codec.abc import Refusal
from mpccomm.errors import EncodingError


def serialize(obj: Any, use_pickle: bool = False, **kwargs: Any) -> Any:
    """What stands for the object in the format of 4.x. Raises `EncodingError`."""
    try:
        return tno.tagged(obj, kwargs)["data"]
    except Refusal as refusal:
        raise EncodingError(str(refusal)) from refusal.__cause__


def deserializer(name: str) -> Callable[..., Any]:
    """A function that makes a value of the type with that name of it; that raises `DecodingError`."""

    def deserialize(obj: Any, use_pickle: bool = False, **kwargs: Any) -> Any:
        return tno.untagged(name, obj, kwargs)

    return deserialize
