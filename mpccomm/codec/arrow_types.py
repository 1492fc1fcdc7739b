"""Arrow's types, described in the words of this library.

Arrow's own description, the IPC schema, is not made for what no one vouches for: its reader takes memory without bounds,
and trusts what an extension type says of the values that it stores. So a type is a name, or a list of a name and its
parameters, and only the types that stand here are ever built.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from mpccomm.codec.abc import Decoder, Encoder, Refusal
from mpccomm.errors import DecodingError
from mpccomm.interrupts import is_interrupt

DEEPEST: Final = 16
"""Levels of types within types."""
MEMORY: Final = 1024
"""Bytes that a type, or an array of it, takes at most beside its buffers."""
_UNITS: Final = ("s", "ms", "us", "ns")
_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d", re.ASCII)
_WIDEST: Final = 1 << 24
"""Bytes, or elements, of a value of fixed size."""

_PLAIN: Final[dict[str, Any]] = {
    name: getattr(pa, name)()
    for name in (
        *("null", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "date32", "date64", "month_day_nano_interval"),
        *("string", "large_string", "binary", "large_binary"),
    )
}
_PLAIN.update({f"time32[{unit}]": pa.time32(unit) for unit in _UNITS[:2]})
_PLAIN.update({f"time64[{unit}]": pa.time64(unit) for unit in _UNITS[2:]})
_PLAIN.update({f"duration[{unit}]": pa.duration(unit) for unit in _UNITS})
_NAMES: Final = {kind: name for name, kind in _PLAIN.items()}

_DECIMALS: Final = {
    f"decimal{bits}": getattr(pa, f"decimal{bits}") for bits in (32, 64, 128, 256) if hasattr(pa, f"decimal{bits}")
}
_LISTS: Final[dict[str, Callable[..., Any]]] = {"list": pa.list_, "large_list": pa.large_list}
_EXTENSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "arrow.uuid": lambda storage: pa.uuid(),
    "arrow.bool8": lambda storage: pa.bool8(),
    "arrow.json": lambda storage: pa.json_(storage),
}
"""Extension types that are no more than a name for how their values are stored."""


def lower_type(encoder: Encoder, kind: Any, depth: int = 0) -> object:
    """Return the node of a type; refuse those that have none."""
    encoder.charge(MEMORY)
    name = _NAMES.get(kind)
    if name is not None:
        return name
    types = pa.types
    if depth < DEEPEST:
        if isinstance(kind, pa.BaseExtensionType):
            if _is_known_extension(kind):
                return ["extension", kind.extension_name, lower_type(encoder, kind.storage_type, depth + 1)]
        elif types.is_timestamp(kind):
            return ["timestamp", kind.unit, _lower_zone(encoder, kind)]
        elif types.is_decimal(kind):
            return [f"decimal{kind.bit_width}", kind.precision, kind.scale]
        elif types.is_fixed_size_binary(kind):
            return ["fixed_size_binary", kind.byte_width]
        elif types.is_list(kind) or types.is_large_list(kind):
            name = "list" if types.is_list(kind) else "large_list"
            return [name, _lower_field(encoder, kind.value_field, depth)]
        elif types.is_fixed_size_list(kind):
            return ["fixed_size_list", kind.list_size, _lower_field(encoder, kind.value_field, depth)]
        elif types.is_struct(kind):
            return ["struct", *(_lower_field(encoder, field, depth) for field in kind)]
    raise Refusal(f"is an Arrow array of {kind}, which cannot be sent; cast it to another type")


def _is_known_extension(kind: Any) -> bool:
    build = _EXTENSIONS.get(kind.extension_name)
    return build is not None and type(kind).__module__ == "pyarrow.lib" and bool(build(kind.storage_type) == kind)


def _lower_zone(encoder: Encoder, kind: Any) -> object:
    if kind.tz is None or _OFFSET.fullmatch(kind.tz):
        return kind.tz
    try:
        return encoder.lower(ZoneInfo(kind.tz))
    except (ValueError, KeyError, OSError) as error:
        if is_interrupt(error):
            raise
        raise Refusal(f"is an Arrow array of {kind}, a time zone without a known name; cast it to another") from None


def _lower_field(encoder: Encoder, field: Any, depth: int) -> list[object]:
    try:
        kind = lower_type(encoder, field.type, depth + 1)
    except Refusal as refusal:
        refusal.steps.append(f'.field("{field.name}")')
        raise
    return [field.name, field.nullable, kind, *lower_metadata(field.metadata)]


def lower_metadata(metadata: Any) -> list[bytes]:
    """Return what a schema or a field says beside its types, keys and values in turn."""
    return [part for pair in (metadata or {}).items() for part in pair]


def read_type(decoder: Decoder, node: object, depth: int = 0) -> Any:
    """Return the type of a node."""
    decoder.charge(MEMORY)
    if type(node) is str:
        node = [node]
    if type(node) is not list or depth > DEEPEST:
        raise TypeError("not a type of Arrow")
    name, *rest = node
    if name in _PLAIN and not rest:
        return _PLAIN[name]
    if name in _DECIMALS:
        precision, scale = rest
        return _DECIMALS[name](decoder.typed(precision, int), decoder.typed(scale, int))
    if name in _LISTS:
        return _LISTS[name](*(_read_field(decoder, field, depth) for field in rest))
    if name not in _READ:
        raise DecodingError("the message holds an Arrow type that the pyarrow installed here lacks; upgrade it")
    return _READ[name](decoder, depth, *rest)


def _read_timestamp(decoder: Decoder, depth: int, unit: object, zone_node: object) -> Any:
    zone = decoder.value(zone_node)
    if type(zone) is ZoneInfo:
        zone = zone.key
    elif zone is not None and not _OFFSET.fullmatch(zone):
        raise ValueError("not a time zone")
    if unit not in _UNITS:
        raise ValueError("not a unit of time")
    return pa.timestamp(unit, zone)


def _size(node: object) -> int:
    if type(node) is not int or not 0 <= node <= _WIDEST:
        raise ValueError("not a size")
    return node


def _read_binary(decoder: Decoder, depth: int, size: object) -> Any:
    return pa.binary(_size(size))


def _read_fixed_size_list(decoder: Decoder, depth: int, size: object, field: object) -> Any:
    return pa.list_(_read_field(decoder, field, depth), _size(size))


def _read_struct(decoder: Decoder, depth: int, *fields: object) -> Any:
    return pa.struct([_read_field(decoder, field, depth) for field in fields])


def _read_extension(decoder: Decoder, depth: int, name: Any, storage_node: object) -> Any:
    storage = read_type(decoder, storage_node, depth + 1)
    kind = _EXTENSIONS[name](storage)
    if kind.storage_type != storage:
        raise ValueError("an extension type of other values")
    return kind


_READ: Final[dict[object, Callable[..., Any]]] = {
    "timestamp": _read_timestamp,
    "fixed_size_binary": _read_binary,
    "fixed_size_list": _read_fixed_size_list,
    "struct": _read_struct,
    "extension": _read_extension,
}


def _read_field(decoder: Decoder, node: Any, depth: int) -> Any:
    name, nullable, kind, *metadata = node
    field_type = read_type(decoder, kind, depth + 1)
    return pa.field(decoder.typed(name, str), field_type, decoder.typed(nullable, bool), read_metadata(metadata))


def read_metadata(parts: Any) -> dict[bytes, bytes] | None:
    """Return what `lower_metadata` made *parts* of."""
    if not set(map(type, parts)) <= {bytes}:
        raise TypeError("not what a schema says")
    return dict(zip(parts[::2], parts[1::2], strict=True)) or None
