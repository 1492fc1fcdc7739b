"""``tno.mpc.communication.serialization``.

Classes are registered in the one table of the process, and travel between pools as all else does. What differs is how values
are stored: `Serialization.pack` writes, and `Serialization.unpack` reads, the format of 4.x, with the id of a message in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

import mpccomm.codec
from mpccomm.codec import classes, tno
from mpccomm.codec.registry import SupportsSerialization
from mpccomm.compat import serializer_plugins
from mpccomm.errors import DecodingError, EncodingError

__all__ = [
    "DEFAULT_PACK_OPTION",
    "DESERIALIZER_FUNCS",
    "SERIALIZER_FUNCS",
    "DeserializerFunction",
    "Serialization",
    "SerializerFunction",
    "SupportsSerialization",
]

DEFAULT_PACK_OPTION = tno.OPTIONS
"""What `Serialization.pack` tells ormsgpack, where the call says nothing."""

SerializerFunction: TypeAlias = Callable[..., Any]
DeserializerFunction: TypeAlias = Callable[..., Any]

logger = logging.getLogger("mpccomm")


class Serialization(mpccomm.codec.Serialization):
    """As `mpccomm.Serialization`; ``use_pickle`` is taken everywhere, and no pickle is ever used."""

    @staticmethod
    def serialize(obj: object, use_pickle: bool = False, **kwargs: Any) -> object:
        """*obj* in a form that can be part of what a ``serialize`` method returns."""
        return mpccomm.codec.Serialization.serialize(obj, **kwargs)

    @staticmethod
    def deserialize(obj: object, use_pickle: bool = False, **kwargs: Any) -> Any:
        """Return the value of such a form."""
        return mpccomm.codec.Serialization.deserialize(obj, **kwargs)

    @staticmethod
    def collection_deserialize(collection_obj: Any, use_pickle: bool = False, **kwargs: Any) -> Any:
        """Return the list or dict of the values of such forms."""
        if isinstance(collection_obj, list):
            return [Serialization.deserialize(item, **kwargs) for item in collection_obj]
        if isinstance(collection_obj, dict):
            return {key: Serialization.deserialize(item, **kwargs) for key, item in collection_obj.items()}
        raise ValueError(f"neither a list nor a dict: {type(collection_obj).__qualname__}")

    @staticmethod
    def default_serialize(obj: object, use_pickle: bool = False, **_kwargs: Any) -> NoReturn:
        """What happens to a value that has no form. Raises `EncodingError`."""
        raise EncodingError(f"{type(obj).__qualname__} has no form, and no pickle is ever used; register the class")

    @staticmethod
    def default_deserialize(obj: object, use_pickle: bool = False, **_kwargs: Any) -> NoReturn:
        """What happens to what has no value here. Raises `DecodingError`."""
        raise DecodingError("there is no class for this here, and no pickle is ever used; register the class")

    @staticmethod
    def pack(  # type: ignore[override]  # the id is part of what 4.x packs
        obj: object,
        msg_id: str | int,
        use_pickle: bool = False,
        option: int | None = DEFAULT_PACK_OPTION,
        **kwargs: Any,
    ) -> bytes:
        """*obj* and an id in the format of 4.x. Raises `EncodingError` (a TypeError)."""
        return tno.pack(obj, msg_id, option, kwargs)

    @staticmethod
    def unpack(  # type: ignore[override]
        obj: bytes | bytearray | memoryview, use_pickle: bool = False, option: int | None = None, **kwargs: Any
    ) -> tuple[str | int, Any]:
        """Id and value of what `pack`, or 4.x itself, has packed. Raises `DecodingError` (a ValueError)."""
        return tno.unpack(obj, kwargs)


class Functions(Mapping[str, Callable[..., Any]]):
    """The functions by the name of the class: of those that are registered now, and of those that need not be."""

    def __init__(self, which: str) -> None:
        self._which = which

    def _all(self) -> dict[str, Callable[..., Any]]:
        registered = {entry.name: getattr(entry, self._which) for entry in classes.entries()}
        return {**serializer_plugins.functions(self._which), **registered}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def copy(self) -> dict[str, Callable[..., Any]]:
        """Return what is there now."""
        return self._all()


SERIALIZER_FUNCS = Functions("serialize")
"""What is registered now; to change it, `Serialization.register`."""
DESERIALIZER_FUNCS = Functions("deserialize")
"""The same, for the way back."""
