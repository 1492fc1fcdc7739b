"""gmpy2's numbers.

They are built from integers and from bytes of checked length, never with ``gmpy2.from_binary``, which brings the whole
process down for some malformed input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gmpy2
from gmpy2 import mpz

from mpccomm.codec import columns
from mpccomm.codec.wire import Tag

if TYPE_CHECKING:
    from mpccomm.codec.decoder import Decoder
    from mpccomm.codec.encoder import Encoder
    from mpccomm.codec.plugins import Lower

import ormsgpack


def _lower_mpz(encoder: Encoder, value: Any) -> object:
    return ormsgpack.Ext(Tag.MPZ, _to_bytes(value))


def _to_bytes(value: Any) -> bytes:
    return value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True)  # type: ignore[no-any-return]


def _mpz(data: bytes) -> Any:
    return mpz.from_bytes(data, "little", signed=True)


def _lower_mpzs(encoder: Encoder, values: list[Any]) -> object:
    return columns.lower_big(encoder, values, mpz, Tag.MPZS, Tag.MIXED_MPZS)


def _mpzs(decoder: Decoder, width: object, signed: object, node: object) -> list[Any]:
    return columns.big(decoder, width, signed, node, mpz)


def _mixed_mpzs(decoder: Decoder, widths: object, node: object) -> list[Any]:
    return columns.mixed(decoder, widths, node, mpz)


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {mpz: _lower_mpz}
COLUMNS: Final = {mpz: _lower_mpzs}
CALLS: Final[dict[Tag, Callable[..., object]]] = {Tag.MPZS: _mpzs, Tag.MIXED_MPZS: _mixed_mpzs}
LEAVES: Final[dict[Tag, Callable[[bytes], object]]] = {Tag.MPZ: _mpz}


def find(kind: type) -> Lower | None:
    """Nothing beyond the tables."""
    return None
