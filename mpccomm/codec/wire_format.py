"""The formats in which values travel between two parties: ours, and those of tno.mpc.communication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mpccomm.codec.decoder import NOT_PLAIN, decode, decode_plain
from mpccomm.codec.encoder import Encoded, encode, encode_plain
from mpccomm.errors import DecodingError
from mpccomm.memory import Segment, buffer_of


class Encode(Protocol):
    """As `mpccomm.codec.encode`."""

    def __call__(
        self, value: object, *, snapshot: bool, context: Mapping[str, object], begin: Callable[[], None]
    ) -> Encoded:
        """Return the bytes of *value*."""


class Decode(Protocol):
    """As `mpccomm.codec.decode`."""

    def __call__(self, segments: Sequence[Segment], *, context: Mapping[str, object]) -> Any:
        """Return the value."""


def _never_plain(value: object) -> None:
    """No value is that simple."""


def _not_plain(segments: Sequence[Segment]) -> object:
    return NOT_PLAIN


@dataclass(frozen=True, eq=False)
class WireFormat:
    """How values become bytes and come back, under the name that ``wire=`` gives it."""

    name: str
    encode: Encode
    decode: Decode
    encode_plain: Callable[[object], bytes | None] = field(default_factory=lambda: _never_plain)
    """The one envelope of a value for which nothing has to be known, at once; None: it is not that simple."""
    decode_plain: Callable[[Sequence[Segment]], Any] = field(default_factory=lambda: _not_plain)
    """The value of such an envelope; `NOT_PLAIN`: it is not that simple."""


def _encode_tno(value: object, *, snapshot: bool, context: Mapping[str, object], begin: Callable[[], None]) -> Encoded:
    from mpccomm.codec import tno

    packed, ordered = tno.pack_exactly(value, context, begin)
    return Encoded((packed,), ordered)


def _decode_tno(segments: Sequence[Segment], *, context: Mapping[str, object]) -> Any:
    from mpccomm.codec import tno

    if len(segments) != 1:
        raise DecodingError("the message is malformed")
    return tno.unpack_object(buffer_of(segments[0]), context)


OURS = WireFormat("mpccomm", encode, decode, encode_plain, decode_plain)
WIRE_FORMATS = {
    wire_format.name: wire_format
    for wire_format in (OURS, *(WireFormat(f"tno{n}", _encode_tno, _decode_tno) for n in (4, 5)))
}
"""By the name that the user gives as ``wire=``."""
