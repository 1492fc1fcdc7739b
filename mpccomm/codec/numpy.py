"""numpy: arrays of every dtype, and scalars.

An array of numbers is its dtype, its shape and its memory, in C or Fortran order. What has no memory of its own worth
sending goes element by element (objects, variable strings), or field by field (structures with objects or with padding:
the padding holds whatever the sender's memory held before).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from mpccomm.codec.abc import Decoder, Encoder, Lower, Refusal
from mpccomm.codec.scan import ELEMENTS, Holds
from mpccomm.codec.wire import ARGUMENT, HEADS, INLINE, Tag

Array = NDArray[Any]

_SIMPLE: Final = re.compile(
    r"[<>|](?:[biufcSUV]\d{1,9}|[qQ]|[mM]8(?:\[\d{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic)(?:/\d{1,9})?\])?)"
)
_STRUCTS: Final[dict[type, str]] = {np.void: "struct", np.record: "record"}
_MOST_DIMENSIONS: Final = 64
_LARGEST_CHARACTER: Final = 0x10FFFF
_ARRAY: Final = 512
_FIELD: Final = 1024
_ELEMENT: Final = 24
_SCALAR_SIZE: Final = 64
"""Bytes of memory that an array takes, whatever its size, a field of a dtype, an element that is an object, and a scalar."""


# Dtypes


def _text(dtype: np.dtype[Any]) -> str:
    # Two C types may have 64 bits, and numpy gives each a class; the text of their dtypes is the same.
    return dtype.str[0] + dtype.char if dtype.char in "qQ" else dtype.str


_NUMBERS: Final = {_text(dtype): dtype for dtype in map(np.dtype, "bBhHiIlLqQefdFD")}
"""The dtypes of which any memory is a value, by their texts: no bytes of it are padding, and none are wrong."""
_TEXTS: Final = {id(dtype): text for text, dtype in _NUMBERS.items()}
"""Their texts. There is one object of each, which nearly all arrays have; one that is equal may have metadata."""


def lower_dtype(encoder: Encoder, dtype: np.dtype[Any]) -> object:
    """Return the node of a dtype: text for a simple one, a list for a structure or a subarray."""
    if dtype.metadata:
        raise Refusal(".dtype has metadata, which cannot be sent; remove it")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        encoder.charge(_FIELD)
        return ["subarray", lower_dtype(encoder, base), list(shape)]
    if dtype.fields is not None:
        names = list(dtype.names or ())
        fields = [dtype.fields[name] for name in names]
        titles = [field[2] if len(field) > 2 else None for field in fields]
        if not set(map(type, titles)) <= {str, type(None)}:
            raise Refusal("has a field whose title is not text; remove the title")
        encoder.charge(_FIELD * (1 + len(names)))
        dtypes = [lower_dtype(encoder, field[0]) for field in fields]
        form = _STRUCTS.get(dtype.type)
        if form is None:
            raise Refusal(f".dtype is {dtype!r}, fields over a number; convert the array to one of the two")
        return [form, names, dtypes, [field[1] for field in fields], titles, dtype.itemsize, dtype.isalignedstruct]
    if dtype.kind == "O":
        return "O"
    if dtype.kind == "T":
        encoder.charge(_FIELD)
        missing = [encoder.lower(dtype.na_object)] if hasattr(dtype, "na_object") else []
        return ["string", dtype.coerce, missing]  # type: ignore[attr-defined]
    text = _text(dtype)
    if not _SIMPLE.fullmatch(text) or np.dtype(text) != dtype:
        raise Refusal(f".dtype is {dtype!r}, which cannot be sent; convert the array to another dtype")
    return text


def read_dtype(decoder: Decoder, node: object) -> np.dtype[Any]:
    """Return the dtype of a node. Only known forms reach numpy, whose parser understands far more than dtypes."""
    if type(node) is str:
        number = _NUMBERS.get(node)
        if number is not None:
            return number
        if node != "O" and not _SIMPLE.fullmatch(node):
            raise ValueError("not a dtype")
        return np.dtype(node)
    if type(node) is not list:
        raise TypeError("not a dtype")
    form, *rest = node
    decoder.charge(_FIELD)
    if form == "subarray":
        base, shape = rest
        return np.dtype((read_dtype(decoder, base), _shape(shape)))
    if form == "string":
        coerce, missing = rest
        keywords = {"na_object": decoder.value(missing[0])} if missing else {}
        return np.dtypes.StringDType(coerce=decoder.typed(coerce, bool), **keywords)
    if form not in _STRUCTS.values():
        raise ValueError("not a dtype")
    names, nodes, offsets, titles, itemsize, aligned = rest
    decoder.charge(_FIELD * len(names))
    names, titles = list(map(decoder.value, names)), list(map(decoder.value, titles))
    formats = [read_dtype(decoder, item) for item in nodes]
    ends = [offset + item.itemsize for offset, item in zip(offsets, formats, strict=True)]
    texts = {type(text) for text in (*names, *titles)}
    if not texts <= {str, type(None)} or not set(map(type, (*offsets, itemsize))) <= {int}:
        raise TypeError("not a field")
    if not len(names) == len(formats) == len(titles) or max(ends, default=0) > itemsize or min(offsets, default=0) < 0:
        raise ValueError("fields that do not fit")
    specification = {"names": names, "formats": formats, "offsets": offsets, "titles": titles, "itemsize": itemsize}
    struct: np.dtype[Any] = np.dtype(specification, align=decoder.typed(aligned, bool))  # type: ignore[call-overload]
    return struct if form == "struct" else np.dtype((np.record, struct))


def _shape(node: object) -> tuple[int, ...]:
    # The product of very many sizes would take quadratic time.
    if type(node) is not list or len(node) > _MOST_DIMENSIONS:
        raise TypeError("not a shape")
    for size in node:
        if type(size) is not int or size < 0:
            raise TypeError("not a shape")
    return tuple(node)


def _has_holes(dtype: np.dtype[Any]) -> bool:
    """Return whether the memory of *dtype* holds anything but its values: padding, pointers."""
    if dtype.subdtype is not None:
        return _has_holes(dtype.subdtype[0])
    if dtype.fields is None:
        return dtype.hasobject or dtype.kind == "T"
    end = 0
    for field, offset, *_ in sorted((dtype.fields[name] for name in dtype.names or ()), key=lambda field: field[1]):
        if offset != end or _has_holes(field):
            return True
        end = offset + field.itemsize
    return end != dtype.itemsize


# Arrays


def lower_array(encoder: Encoder, array: Array, writable: bool | None = None) -> object:
    """Return the node of an array; the tag says how its elements travel. *writable* overrules whether it will be."""
    encoder.charge(_ARRAY)
    dtype, flags = array.dtype, array.flags
    fortran = flags.f_contiguous and not flags.c_contiguous
    if writable is None:
        writable = flags.writeable
    text = _TEXTS.get(id(dtype))
    if text is not None and array.nbytes < INLINE:
        # As below, in fewer steps: most are like this.
        memory = array.tobytes("F" if fortran else "C")
        return [HEADS[Tag.NDARRAY], text, list(array.shape), fortran, writable, memory]
    try:
        header = [lower_dtype(encoder, dtype), list(array.shape), fortran, writable]
    except Refusal as refusal:
        refusal.args = (f"has a dtype that cannot be sent: {refusal.args[0]}",)
        raise
    if dtype.names is not None and _has_holes(dtype):
        encoder.charge(array.nbytes + ARGUMENT * (len(header) + len(dtype.names)))
        return [HEADS[Tag.FIELDS], *header, *_lower_fields(encoder, array, dtype.names)]
    if dtype.kind in "OT":
        encoder.charge(_ELEMENT * array.size)
        node = encoder.sequence(array.ravel(order="F" if fortran else "C").tolist(), array)
        return [HEADS[Tag.OBJECTS], *header, node]
    return [HEADS[Tag.NDARRAY], *header, _memory(encoder, array.T if fortran else array)]


def _lower_fields(encoder: Encoder, array: Array, names: tuple[str, ...]) -> list[object]:
    nodes: list[object] = []
    encoder.enter()
    try:
        for name in names:
            nodes.append(lower_array(encoder, array[name], writable=True))
    except Refusal as refusal:
        refusal.steps.append(f'["{names[len(nodes)]}"]')
        raise
    encoder.depth -= 1
    return nodes


def _memory(encoder: Encoder, array: Array) -> object:
    if not array.nbytes:
        # First of all: numpy gives a copy of text of length 0 a length of 1.
        encoder.charge(0 if array.itemsize else array.size)
        return b""
    fresh = not array.flags.c_contiguous
    if fresh:
        array = np.ascontiguousarray(array)
    array = array.reshape(-1)
    data = array.view(np.uint8)
    wrong = _wrong_element(array)
    if wrong and array.dtype.kind != "b":
        raise Refusal(f"is an array that holds {wrong}; repair it")
    if wrong:
        # For numpy, whatever is not 0 is true.
        data = (data != 0).view(np.uint8)
        fresh = True
    if array.dtype.kind in "fc" and array.dtype.itemsize in (16, 32) and array.dtype.char in "gG":
        data = _without_padding(data)
        fresh = True
    return encoder.buffer(memoryview(data), mutable=not fresh)  # type: ignore[arg-type]


def _without_padding(data: Array) -> Array:
    """Extended precision has 10 bytes of each 16 (on x86); the others hold what the memory held before."""
    if np.finfo(np.longdouble).nmant != 63:
        return data
    data = data.copy()
    data.reshape(-1, 16)[:, 10:] = 0
    return data


def _header(decoder: Decoder, nodes: tuple[object, ...]) -> tuple[np.dtype[Any], tuple[int, ...], str, bool]:
    dtype_node, shape_node, fortran, writable = nodes
    dtype = read_dtype(decoder, dtype_node)
    shape = _shape(shape_node)
    if type(fortran) is not bool or type(writable) is not bool:
        raise TypeError("flags that are none")
    decoder.charge(_ARRAY)
    return dtype, shape, "F" if fortran else "C", writable


def _ndarray(decoder: Decoder, *nodes: object) -> Array:
    memory = nodes[-1]
    dtype, shape, order, writable = _header(decoder, nodes[:-1])
    if id(dtype) in _TEXTS and type(memory) is bytes and memory:
        # As below, in fewer steps: most are like this.
        if math.prod(shape) * dtype.itemsize != len(memory):
            raise ValueError("memory that does not fit the shape")
        return _finished(np.ndarray(shape, dtype, bytearray(memory), order=order), writable)  # type: ignore[arg-type]
    if _has_holes(dtype):
        raise ValueError("memory of a dtype that has holes")
    data = decoder.buffer(memory)
    count = math.prod(shape)
    if count * dtype.itemsize != len(data):
        raise ValueError("memory that does not fit the shape")
    if not data or not dtype.itemsize:
        decoder.charge(0 if dtype.itemsize else count)
        # np.empty would make the size of text 1 where it is 0.
        return _finished(np.ndarray(shape, dtype, order=order), writable)  # type: ignore[arg-type]
    array: Array = np.frombuffer(data, np.uint8)
    if not array.flags.writeable or array.ctypes.data % dtype.alignment:
        array = array.copy()
    array = array.view(dtype)
    if wrong := _wrong_element(array):
        raise ValueError(wrong)
    return _finished(array.reshape(shape, order=order), writable)  # type: ignore[call-overload]


def _finished(array: Array, writable: bool) -> Array:
    if not writable:
        array.flags.writeable = False
    return array


def _wrong_element(array: Array) -> str:
    """Return what is in there that numpy would trust, and should not: booleans and characters that are none. Empty: nothing."""
    dtype = array.dtype
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        return "a boolean that is none"
    if dtype.kind == "U" and array.view(f"{dtype.byteorder}u4").max() > _LARGEST_CHARACTER:
        return "a character that is none"
    for name in dtype.names or ():
        field = array[name]
        if field.nbytes and (wrong := _wrong_element(np.ascontiguousarray(field).reshape(-1))):
            return wrong
    return ""


def _objects(decoder: Decoder, *nodes: object) -> Array:
    dtype, shape, order, writable = _header(decoder, nodes[:-1])
    if dtype.kind not in "OT":
        raise ValueError("elements of a dtype that has none")
    values = decoder.typed(nodes[-1], list)
    if math.prod(shape) != len(values):
        raise ValueError("elements that do not fit the shape")
    decoder.charge(_ELEMENT * len(values))
    if dtype.kind == "O":
        array = np.fromiter(values, object, len(values))
    else:
        if not set(map(type, values)) <= {str, type(getattr(dtype, "na_object", ""))}:
            raise TypeError("text that is none")
        array = np.array(values, dtype)
    return _finished(array.reshape(shape, order=order), writable)  # type: ignore[call-overload]


def _fields(decoder: Decoder, *nodes: object) -> Array:
    dtype, shape, order, writable = _header(decoder, nodes[:4])
    fields = [decoder.typed(node, np.ndarray) for node in nodes[4:]]
    if dtype.names is None or not _has_holes(dtype) or len(fields) != len(dtype.names):
        raise ValueError("fields of a dtype that has none")
    for name, field in zip(dtype.names, fields, strict=True):
        base, inner = dtype[name].subdtype or (dtype[name], ())
        if field.dtype != base or field.shape != shape + inner:
            raise ValueError("a field of another type")
    decoder.charge(math.prod(shape) * dtype.itemsize)
    array: Array = np.zeros(shape, dtype, order)  # type: ignore[call-overload]
    for name, field in zip(dtype.names, fields, strict=True):
        array[name] = field
    return _finished(array, writable)


# Scalars


def _lower_scalar(encoder: Encoder, value: np.generic) -> object:
    return [HEADS[Tag.SCALAR], lower_array(encoder, np.asarray(value))]


def _lower_text(encoder: Encoder, value: np.bytes_ | np.str_) -> object:
    # An array would lose the zeros at its end, and so does str().
    return [HEADS[Tag.SCALAR], encoder.lower(value[:])]


_SCALAR_TEXTS: Final[dict[type, Callable[[Any], object]]] = {bytes: np.bytes_, str: np.str_}


def _scalar(decoder: Decoder, node: object) -> object:
    array = decoder.value(node)
    if type(array) in _SCALAR_TEXTS:
        return _SCALAR_TEXTS[type(array)](array)
    if type(array) is not np.ndarray:
        raise TypeError("a scalar that is none")
    if array.shape != () or array.dtype.kind == "O":
        raise ValueError("a scalar that is none")
    return array[()]


def _lower_scalars(encoder: Encoder, values: list[Any]) -> object:
    encoder.count(len(values), _SCALAR_SIZE)
    return [HEADS[Tag.SCALARS], lower_array(encoder, np.array(values, values[0].dtype))]


def _scalars(decoder: Decoder, node: object) -> list[Any]:
    array = decoder.typed(node, np.ndarray)
    if array.ndim != 1 or array.dtype.kind not in "biufc":
        raise ValueError("scalars that are none")
    decoder.count(len(array), _SCALAR_SIZE)
    return list(array)


def _lower_dtype_value(encoder: Encoder, dtype: np.dtype[Any]) -> object:
    return [HEADS[Tag.DTYPE], lower_dtype(encoder, dtype)]


_SCALARS: Final = tuple(np.dtype(char).type for char in "?bBhHiIlLqQefdgFDGVMm")
_IN_COLUMNS: Final = tuple(np.dtype(char).type for char in "?bBhHiIlLqQefdgFDG")

LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {np.ndarray: lower_array} | dict.fromkeys(
    _SCALARS, _lower_scalar
)
LOWER.update(dict.fromkeys((np.bytes_, np.str_), _lower_text))
COLUMNS: Final = dict.fromkeys(_IN_COLUMNS, _lower_scalars)
CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.NDARRAY: _ndarray,
    Tag.OBJECTS: _objects,
    Tag.FIELDS: _fields,
    Tag.SCALAR: _scalar,
    Tag.SCALARS: _scalars,
    Tag.DTYPE: read_dtype,
}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {}


def _refuse_masked(encoder: Encoder, array: object) -> NoReturn:
    raise Refusal("is a masked array, which cannot be sent; send array.filled(...) and numpy.ma.getmaskarray(array)")


def find(kind: type) -> Lower | None:
    """Dtypes, each of which has a class of its own; and masked arrays, whose base class would show what is masked."""
    if issubclass(kind, np.ma.MaskedArray):
        return _refuse_masked
    return _lower_dtype_value if issubclass(kind, np.dtype) else None


def _elements(array: Any) -> Iterator[object]:
    """The objects in an array, or in a scalar with fields."""
    array = np.asarray(array)
    dtype = array.dtype
    if dtype.kind == "O":
        return iter(array.flat)
    if dtype.names is not None and _has_holes(dtype):
        return chain.from_iterable(_elements(array[name]) for name in dtype.names if _has_holes(dtype[name]))
    return iter(())


ELEMENTS.update({np.ndarray: Holds(_elements, 6), np.void: Holds(_elements, 20)})
