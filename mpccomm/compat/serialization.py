"""``tno.mpc.communication.serialization``.

Classes are registered in the one table of the process, and travel between pools as all else does. What differs is how values
are stored: `Serialization.pack` writes, and `Serialization.unpack` reads, the format of 4.x, with the id of a message in it.
"""

from __future__ import annotations

from typing import Any

import mpccomm.codec
from mpccomm.codec import tno
from mpccomm.codec.registry import SupportsSerialization

__all__ = ["Serialization", "SupportsSerialization"]


class Serialization(mpccomm.codec.Serialization):
    """As `mpccomm.Serialization`; ``use_pickle`` is taken everywhere, and no pickle is ever used."""

    @staticmethod
    def serialize(obj: object, use_pickle: bool = False, **kwargs: Any) -> object:
        """*obj* in a form that can be part of what a ``serialize`` method returns."""
        return mpccomm.codec.Serialization.serialize(obj, **kwargs)

    @staticmethod
    def deserialize(obj: object, use_pickle: bool = False, **kwargs: Any) -> Any:
        """The value of such a form."""
        return mpccomm.codec.Serialization.deserialize(obj, **kwargs)

    @staticmethod
    def pack(  # type: ignore[override]  # the id is part of what 4.x packs
        obj: object, msg_id: str | int, use_pickle: bool = False, option: int | None = None, **kwargs: Any
    ) -> bytes:
        """*obj* and an id in the format of 4.x. Raises `EncodingError` (a TypeError)."""
        return tno.pack(obj, msg_id, option, kwargs)

    @staticmethod
    def unpack(  # type: ignore[override]
        obj: bytes | bytearray | memoryview, use_pickle: bool = False, option: int | None = None, **kwargs: Any
    ) -> tuple[str | int, Any]:
        """Id and value of what `pack`, or 4.x itself, has packed. Raises `DecodingError` (a ValueError)."""
        return tno.unpack(obj, kwargs)
