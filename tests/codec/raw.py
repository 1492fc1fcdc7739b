"""Messages made by hand, as an attacker would make them."""

import re
from collections.abc import Sequence
from typing import Any

import ormsgpack

from mpccomm.codec import decode
from mpccomm.codec.wire import HEADS, Tag


def call(tag: Tag, *nodes: Any) -> list[Any]:
    """A call of a constructor, with nodes as its arguments."""
    return [HEADS[tag], *nodes]


def leaf(tag: int, data: bytes) -> ormsgpack.Ext:
    return ormsgpack.Ext(tag, data)


def segment(index: int) -> ormsgpack.Ext:
    return leaf(Tag.SEGMENT, index.to_bytes(4, "little"))


def message(node: Any, *segments: bytes) -> list[bytes]:
    """The segments of a message with this node as its value."""
    return [ormsgpack.packb(node), *segments]


def decode_node(node: Any, *segments: bytes) -> Any:
    return decode(message(node, *segments))


def round_trip(value: Any, segments: Sequence[Any] | None = None) -> Any:
    from mpccomm.codec import encode

    return decode(encode(value).segments if segments is None else segments)


def name_of(node: object) -> str:
    """The name of a test with this node: the same in every run, without the addresses of extension objects."""
    return re.sub(r" object at 0x[0-9a-f]+", "", ascii(node))[:120]
