"""Parquet files from others: how much memory one takes when it is read, found out before it is read.

A few bytes of a page can stand for billions of values, and what the footer says of that is not to be trusted; nor is pyarrow's
own view of the footer of any use, which ends the process for some that are malformed. So footer and heads of pages are read
here, and only what pyarrow itself writes by default is let through: there, size follows from what they say.

Source: https://github.com/apache/parquet-format, ``src/main/thrift/parquet.thrift``. The numbers of fields are from there.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpccomm.codec.thrift import Reader

_MAGIC: Final = b"PAR1"
_TAIL: Final = 8
_WRITER: Final = b"parquet-cpp"
_DEEPEST: Final = 16
"""Levels of structures and lists in a column."""
_BOOLEAN, _INT32, _INT64, _INT96, _FLOAT, _DOUBLE, _BYTE_ARRAY, _FIXED = range(8)
_VALUE: Final = {_BOOLEAN: 16, _INT32: 16, _FLOAT: 16, _INT64: 24, _DOUBLE: 24}
"""Bytes for one value, in what Arrow and pandas make of it, and meanwhile."""
_OTHER: Final = 48
_NESTED: Final = 160
"""The same within structures and lists, which become objects of Python."""
_PAGE: Final = 4096
_COMPRESSIONS: Final = (0, 1)
"""None, and Snappy: that makes data at most some twenty times smaller."""
_ENCODINGS: Final = (0, 2, 3, 8)
"""Plain, dictionary (both names of it), and runs. In the others, one text may build on the one before."""
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_INNER: Final = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""The field with what matters, for each kind of page."""


class _Column(NamedTuple):
    path: tuple[bytes, ...]
    kind: int
    each: int
    """Bytes for one value."""
    repeated: bool


def read(data: bytes, limit: int) -> tuple[Any, int]:
    """Return the table in a file, and the bytes that it takes at most to make a frame of it.

    :raises ValueError: they are more than ``limit``, or it is no such file, or not one as pyarrow writes it by default
    """
    columns, needed = _needed(data)
    if needed > limit:
        raise ValueError("more memory than its size allows for")
    try:
        texts = [b".".join(column.path).decode() for column in columns if column.kind == _BYTE_ARRAY]
        needed += _needed_for_texts(data, texts)
        if needed > limit:
            raise ValueError("more memory than its size allows for")
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError("no file that can be read") from error
    return table, needed


def _needed(data: bytes) -> tuple[list[_Column], int]:
    start, end = len(data), len(data) - _TAIL
    if end > 0 and data[-4:] == data[:4] == _MAGIC:
        start = end - int.from_bytes(data[end : end + 4], "little")
    if not 0 < start < end:
        raise ValueError("no Parquet file")
    try:
        footer = Reader(data, start, end).structure()
        if not footer[6].startswith(_WRITER) or 8 in footer:
            raise ValueError("written by another library, or encrypted")
        columns = _columns(footer[2])
        groups = footer[4]
        rows = sum(_size(group[3]) for group in groups)
        if rows != footer[3]:
            raise ValueError("not the rows that it says")
        # Where there are no columns, there is an index of that length.
        needed = rows * _OTHER
        for group in groups:
            needed += sum(
                _needed_for_column(data[:start], column, chunk, group[3])
                for column, chunk in zip(columns, group[1], strict=True)
            )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("metadata without what has to be there") from error
    return columns, needed


def _columns(elements: list[dict[int, Any]]) -> list[_Column]:
    """Return the leaves of the tree that the schema's elements are in depth-first order."""
    columns = []
    # How many elements each level, from the outermost, still lacks; and what one in it is called.
    missing, repeated = [_size(elements[0][5])], [False]
    path: list[bytes] = []
    for element in elements[1:]:
        while not missing[-1]:
            missing.pop()
            repeated.pop()
            path.pop()
        missing[-1] -= 1
        repeats = repeated[-1] or element[3] == 2
        if element[3] not in (0, 1, 2):
            raise ValueError("an element of another kind")
        if element.get(5) is not None:
            path.append(element[4])
            missing.append(_size(element[5]))
            repeated.append(repeats)
            if not element[5] or len(path) > _DEEPEST:
                raise ValueError("nested too deeply, or nothing in it")
            continue
        kind = element[1]
        each = _VALUE.get(kind, _OTHER) + (_NESTED if path or repeats else 0)
        if kind not in range(8):
            raise ValueError("a column of another type")
        if kind == _FIXED:
            each += _size(element[2])
        columns.append(_Column((*path, element[4]), kind, each, repeats))
    if any(missing):
        raise ValueError("a schema that is cut off")
    return columns


def _needed_for_column(data: bytes, column: _Column, chunk: dict[int, Any], rows: int) -> int:
    about = chunk[3]
    if 1 in chunk or 8 in chunk or about[1] != column.kind or tuple(about[3]) != column.path:
        raise ValueError("a column that is elsewhere, encrypted or another")
    if about[4] not in _COMPRESSIONS:
        raise ValueError("compressed in another way")
    if any(encoding not in range(10) for encoding in about[2]):
        raise ValueError("another encoding")
    claimed, start = _size(about[5]), _size(about[9])
    if not rows and not claimed:
        # Its pages are not read.
        return 0
    if 0 < about.get(11, 0) < start:
        start = about[11]
    end = start + _size(about[7])
    if not len(_MAGIC) <= start < end <= len(data):
        raise ValueError("a column that lies elsewhere")
    needed = values = 0
    while start < end:
        dictionary, number, size, start = _page(data, start, end)
        needed += _PAGE + size + number * column.each
        values += 0 if dictionary else number
    if values != claimed or (not column.repeated and values != rows):
        raise ValueError("not the values that it says")
    return needed


def _page(data: bytes, start: int, end: int) -> tuple[bool, int, int, int]:
    """Return whether it is a dictionary, how many values it holds, its size as it will be, and where it ends."""
    reader = Reader(data, start, end)
    fields = reader.structure()
    kind = fields[1]
    inner = fields[_INNER[kind]]
    if inner[4 if kind == _DATA_V2 else 2] not in _ENCODINGS:
        raise ValueError("another encoding")
    after = reader.at + _size(fields[3])
    if after > end:
        raise ValueError("a page that is cut off")
    return kind == _DICTIONARY, _size(inner[1]), _size(fields[2]), after


def _size(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("no size")
    return number


def _needed_for_texts(data: bytes, paths: list[str]) -> int:
    """Return what texts take that are in the file once, and in the columns as often as they are referred to."""
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=paths)
    needed = 0
    for path in paths:
        for column in file.read(columns=[path], use_threads=False).itercolumns():
            needed += sum(map(_expanded, column.chunks))
    return needed


def _expanded(array: Any) -> int:
    kind = array.type
    types = pa.types
    if types.is_dictionary(kind):
        array.validate(full=True)
        lengths = pc.binary_length(array.dictionary)
        return pc.sum(pc.take(lengths, array.indices)).as_py() or 0
    if types.is_struct(kind):
        return sum(_expanded(array.field(number)) for number in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _expanded(array.values)
    if types.is_map(kind):
        return _expanded(array.keys) + _expanded(array.items)
    return array.nbytes  # type: ignore[no-any-return]
