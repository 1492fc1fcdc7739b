"""The msgpack conventions of tno.mpc.communication 4.x and 5.x: a message is a map of its id and its object, and what
msgpack has no type for is a map with the keys "type" and "data".

That can't be told from a dict of the user with these two keys, and most arrays arrive as lists: far from everything can be
carried. `pack_exactly` refuses the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, NoReturn

import ormsgpack

from mpccomm.codec import classes
from mpccomm.codec.abc import Refusal
from mpccomm.codec.scan import count_array_keys, count_elements
from mpccomm.codec.wire import EXPANSION, MAX_ELEMENTS
from mpccomm.errors import DecodingError, EncodingError, MissingExtraError
from mpccomm.interrupts import is_interrupt

_NOTHING: Final[Mapping[str, object]] = {}
OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_SERIALIZE_NUMPY
)
"""What their packages set."""
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
_SMALL: Final = range(-(1 << 63), 1 << 64)
_GMPY: Final = frozenset({"mpz", "xmpz", "mpq", "mpfr", "mpc"})
_PANDAS: Final = frozenset({"DataFrame", "Series", "Timestamp"})
_DEPTH: Final = 100
_FRAMES: Final = 1 << 28
"""Bytes that the frames in one message may take, beside `EXPANSION` times its size: files can be small for what they hold."""
_ARRAY_KEYS: Final = 4096
_MEMORY: Final = 16 << 20
"""Bytes for the precision of numbers that need no digits (zero, infinity, NaN), all those of a message."""

Id = str | int


# Packing


def pack(value: object, msg_id: Id, option: int | None = OPTIONS, context: Mapping[str, object] = _NOTHING) -> bytes:
    """Return what 4.x would make of it, with what gets lost on the way: for bytes that 4.x reads.

    Raises `EncodingError`.
    """
    try:
        _check_times(value)
    except Refusal as refusal:
        raise EncodingError(f"message cannot be packed in the format of tno.mpc.communication: {refusal}") from None
    failures: list[Exception] = []

    def default(obj: Any) -> object:
        try:
            node = tagged(obj, context)
            _check_times(node)
            return node
        except Exception as error:
            # ormsgpack would swallow it.
            failures.append(error)
            raise

    try:
        return ormsgpack.packb({"object": value, "id": msg_id}, default, option)
    except TypeError as error:
        reason = failures[0] if failures else error
        text = f"{error} ({reason})" if failures else error
        raise EncodingError(f"message cannot be packed in the format of tno.mpc.communication: {text}") from reason


_YEARS: Final = ("0001", "9999-12-31T23:59:59")


def _check_times(value: Any) -> None:
    """Refuse points in time of numpy that would end the process in ormsgpack: multiples of a unit, and far away years."""
    kind = type(value)
    if kind is list or kind is tuple:
        if not _PLAIN.issuperset(map(type, value)):
            for item in value:
                _check_times(item)
    elif kind is dict:
        _check_times(list(value.values()))
    elif kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") == "M":
        import numpy as np

        unit, count = np.datetime_data(value.dtype)
        seconds = np.asarray(value).astype("M8[s]")
        first, last = (np.datetime64(year, "s") for year in _YEARS)
        if count != 1 or not (np.isnat(seconds) | ((seconds >= first) & (seconds <= last))).all():
            raise Refusal(f"holds numpy.datetime64 of {count} {unit}, or of years beyond 9999; send value.astype(str)")


def pack_exactly(value: object, context: Mapping[str, object], begin: Callable[[], None]) -> tuple[bytes, bool]:
    """Return the object alone, and whether classes of the user took part; before the first of these, *begin* is called.

    Raises `EncodingError` for what would not arrive as it is.
    """
    lowering = _Lowering(context, begin)
    try:
        return ormsgpack.packb(lowering.node(value)), lowering.ordered
    except Refusal as refusal:
        raise EncodingError(str(refusal)) from refusal.__cause__
    except ormsgpack.MsgpackEncodeError as error:
        raise EncodingError(f"message cannot be packed: {error}") from None


def tagged(value: Any, context: Mapping[str, object]) -> dict[str, object]:
    """Return what stands on the wire for a value that msgpack has no type for; what is in it is not looked into.

    Raises `Refusal` where there is no form for it.
    """
    kind = type(value)
    if isinstance(value, classes.Serialized):
        return {"type": value.name, "data": value.payload}
    entry = classes.of(value)
    if entry is not None:
        return {"type": entry.name, "data": entry.serialize(value, **context)}
    if kind is int:
        return {"type": "int", "data": value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True)}
    if kind is tuple:
        return {"type": "tuple", "data": list(value)}
    library = kind.__module__.partition(".")[0]
    # Before 2.2.2 gmpy2 says of one of its types that it is Python's own.
    if library in ("gmpy2", "builtins") and kind.__name__ in _GMPY:
        import gmpy2

        return {"type": kind.__name__, "data": gmpy2.to_binary(value)}
    if library == "bitarray" and kind.__name__ == "bitarray":
        from bitarray.util import serialize

        return {"type": "bitarray", "data": serialize(value)}
    if library == "numpy" and kind.__name__ == "ndarray":
        return {"type": "ndarray", "data": {"values": value.tolist(), "shape": value.shape}}
    if library == "pandas" and kind.__name__ in _PANDAS:
        from mpccomm.codec import tno_pandas

        return {"type": kind.__name__, "data": tno_pandas.form(value, partial(_loosely, context))}
    if library == "torch" and kind.__name__ == "Tensor":
        from mpccomm.codec import tno_torch

        return {"type": "Tensor", "data": tno_torch.form(value)}
    raise Refusal(f"is of type {kind.__module__}.{kind.__qualname__}, for which that format has no form")


def _loosely(context: Mapping[str, object], cell: object) -> object:
    try:
        return tagged(cell, context)
    except Refusal:
        # Then it is for ormsgpack, which may know it.
        return cell


class _Lowering:
    """From a value to what msgpack packs, where it arrives as it is."""

    def __init__(self, context: Mapping[str, object], begin: Callable[[], None]) -> None:
        self.ordered = False
        self._context = context
        self._begin = begin
        self._depth = 0

    def node(self, value: object) -> object:
        kind = type(value)
        if kind in _PLAIN and (kind is not int or value in _SMALL):
            return value
        self._depth += 1
        if self._depth > _DEPTH:
            raise Refusal(f"is nested more than {_DEPTH} levels deep; send it in parts")
        node = self._other(value, kind)
        self._depth -= 1
        return node

    def _other(self, value: Any, kind: type) -> object:
        if kind is list:
            return self._items(value)
        if kind is dict:
            return self._dict(value)
        if isinstance(value, classes.Serialized) or classes.of(value) is not None:
            if not self.ordered:
                self.ordered = True
                self._begin()
            return self._tagged(value)
        if isinstance(value, Enum):
            return self.node(value.value)
        if kind.__module__ == "numpy" and (kind.__name__ != "ndarray" or value.dtype != object):
            _refuse_numpy(value)
        library = kind.__module__.partition(".")[0]
        if library == "pandas" and kind.__name__ in _PANDAS:
            from mpccomm.codec import tno_pandas

            return {"type": kind.__name__, "data": tno_pandas.exact_form(value, self.node)}
        if library == "torch" and kind.__name__ == "Tensor":
            from mpccomm.codec import tno_torch

            return {"type": "Tensor", "data": self.node(tno_torch.exact_form(value))}
        return self._tagged(value)

    def _tagged(self, value: object) -> object:
        form = tagged(value, self._context)
        return {"type": form["type"], "data": self.node(form["data"])}

    def _items(self, values: list[object]) -> list[object]:
        nodes: list[object] = []
        try:
            for value in values:
                nodes.append(self.node(value))
        except Refusal as refusal:
            refusal.steps.append(f"[{len(nodes)}]")
            raise
        return nodes

    def _dict(self, values: dict[Any, object]) -> dict[str, object]:
        if "type" in values and "data" in values:
            raise Refusal('has the keys "type" and "data", which that format takes for its own; rename one')
        nodes: dict[str, object] = {}
        for key, value in values.items():
            if type(key) is not str:
                raise Refusal("has a key that is not a string, for which that format has no form")
            try:
                nodes[key] = self.node(value)
            except Refusal as refusal:
                refusal.steps.append(f"[{key!r}]")
                raise
        return nodes


def _refuse_numpy(value: Any) -> NoReturn:
    if hasattr(value, "shape") and value.shape:
        remedy = "would arrive as a list, or as an array of objects; send array.tolist(), or array.astype(object)"
    else:
        remedy = "would arrive as a Python number; send value.item()"
    raise Refusal(f"is of numpy type {value.dtype}, and {remedy}")


# Unpacking


def unpack(data: bytes | bytearray | memoryview, context: Mapping[str, object] = _NOTHING) -> tuple[Id, Any]:
    """Id and object of what 4.x or 5.x packed. Raises `DecodingError`."""
    msg_id, node = unpack_message(data)
    return msg_id, _raise(node, context, len(data))


def unpack_message(data: bytes | bytearray | memoryview) -> tuple[Id, object]:
    """Id and object, the latter as it is on the wire. Raises `DecodingError`."""
    message = _unpack(data)
    if type(message) is not dict or message.keys() != {"object", "id"} or type(message["id"]) not in (str, int):
        raise DecodingError("these bytes hold no message: neither of this library nor of tno.mpc.communication")
    return message["id"], message["object"]


def pack_node(node: object) -> bytes:
    """Return an object of `unpack_message` packed on its own. Raises `DecodingError` for one that is nested too deeply for that."""
    try:
        return ormsgpack.packb(node, option=ormsgpack.OPT_NON_STR_KEYS)
    except ormsgpack.MsgpackEncodeError as error:
        raise DecodingError(f"the message can't be kept ({error})") from None


def unpack_object(data: bytes | bytearray | memoryview, context: Mapping[str, object]) -> Any:
    """Return the value of an object that was packed on its own. Raises `DecodingError`."""
    return _raise(_unpack(data), context, len(data))


def _unpack(data: bytes | bytearray | memoryview) -> Any:
    if len(data) > MAX_ELEMENTS and count_elements(data, MAX_ELEMENTS) > MAX_ELEMENTS:
        raise DecodingError("the message has more elements than the limit")
    try:
        return ormsgpack.unpackb(data)
    except ValueError as error:
        if is_interrupt(error):
            raise
        # Keys other than text, or nothing that can be read. Keys with equal hashes would take quadratic time.
        if count_array_keys(data, _ARRAY_KEYS) > _ARRAY_KEYS:
            raise DecodingError(f"the message has more than {_ARRAY_KEYS} tuples as keys of dicts") from None
    try:
        return ormsgpack.unpackb(data, option=ormsgpack.OPT_NON_STR_KEYS)
    except ValueError as error:
        if is_interrupt(error):
            raise
        raise DecodingError(f"the message is malformed ({type(error).__name__})") from None


def untagged(name: str, data: object, context: Mapping[str, object]) -> Any:
    """Return the value of what `tagged` made: its name, and its data. Raises `DecodingError`."""
    return _raise({"type": name, "data": data}, context, len(data) if isinstance(data, bytes) else 0)


def _raise(node: object, context: Mapping[str, object], size: int) -> Any:
    try:
        return _Raising(context, size).value(node)
    except RecursionError:
        raise DecodingError("the message is nested too deeply") from None


class _Raising:
    """From what stands on the wire to a value."""

    def __init__(self, context: Mapping[str, object], size: int) -> None:
        self._context = context
        self._memory = _MEMORY
        self._for_frames = _FRAMES + EXPANSION * size

    def value(self, node: object) -> Any:
        if type(node) is list:
            return [self.value(item) for item in node]
        if type(node) is not dict:
            return node
        if "type" not in node or "data" not in node:
            return {key: self.value(item) for key, item in node.items()}
        name = node["type"]
        payload = self.value(node["data"])
        entry = classes.named(name) if type(name) is str else None
        if entry is not None:
            return classes.entry_deserialize(entry, payload, self._context)
        if type(name) is not str or (name not in _BUILD and name not in ("DataFrame", "Series")):
            raise DecodingError(
                "the message holds a value of a class that is not registered here; register it with "
                "Serialization.register_class before the message is received"
            )
        try:
            return _BUILD[name](payload, self._charge) if name in _BUILD else self._frame(name, payload)
        except DecodingError:
            raise
        except ImportError as error:
            text = f"the message holds a value that needs {error.name}, which is not installed here"
            raise MissingExtraError(text) from error
        except Exception as error:
            if isinstance(error, RecursionError) or is_interrupt(error):
                raise
            raise DecodingError(f"the message holds a malformed {name} ({type(error).__name__})") from None

    def _charge(self, size: int) -> None:
        self._memory -= size
        if self._memory < 0:
            raise DecodingError("the message holds numbers whose precision takes far more memory than the message")

    def _frame(self, name: str, payload: object) -> object:
        from mpccomm.codec import tno_pandas

        build = tno_pandas.frame if name == "DataFrame" else tno_pandas.series
        return build(payload, self.value, self._read)

    def _read(self, file: bytes) -> object:
        from mpccomm.codec import parquet

        table, needed = parquet.read(file, self._for_frames)
        self._for_frames -= needed
        return table


Charge = Callable[[int], None]
"""Accounts for memory, in bytes, that is about to be taken beyond the size of the input."""


def _int(data: Any, charge: Charge) -> int:
    return int.from_bytes(_bytes(data), "little", signed=True)


def _bytes(data: object) -> bytes:
    if type(data) is not bytes:
        raise TypeError("no bytes")
    return data


def _tuple(data: object, charge: Charge) -> tuple[object, ...]:
    if type(data) is not list:
        raise TypeError("no list")
    return tuple(data)


def _bitarray(data: object, charge: Charge) -> object:
    from bitarray.util import deserialize

    return deserialize(_bytes(data))


def _ndarray(data: Any, charge: Charge) -> object:
    import numpy as np

    elements, shape = [data["values"]], data["shape"]
    for size in shape:
        if any(type(row) is not list or len(row) != size for row in elements):
            raise ValueError("not of that shape")
        elements = [item for row in elements for item in row]
    # Filled rather than converted: numpy would look into lists that are elements.
    array = np.empty(len(elements), dtype=object)
    for at, element in enumerate(elements):
        array[at] = element
    return array.reshape(shape)


def _gmpy(data: object, charge: Charge) -> object:
    from mpccomm.codec import tno_gmpy

    return tno_gmpy.number(_bytes(data), charge)


def _timestamp(data: object, charge: Charge) -> object:
    from mpccomm.codec import tno_pandas

    return tno_pandas.timestamp(data)


def _tensor(data: object, charge: Charge) -> object:
    from mpccomm.codec import tno_torch

    return tno_torch.tensor(data)


_BUILD: Final[dict[str, Callable[[Any, Charge], object]]] = {
    "int": _int,
    "tuple": _tuple,
    "bitarray": _bitarray,
    "ndarray": _ndarray,
    "Timestamp": _timestamp,
    "Tensor": _tensor,
    **dict.fromkeys(_GMPY, _gmpy),
}
