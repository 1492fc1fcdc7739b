"""Thrift's compact protocol, as far as it takes to read the metadata of a Parquet file.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any, Final

_DEEPEST: Final = 12
_TRUE, _FALSE, _BYTE, _SHORT, _INT, _LONG, _DOUBLE, _STRING, _LIST, _SET, _MAP, _STRUCTURE = range(1, 13)


class Reader:
    """Reads structures, from ``at`` on, and not beyond ``end``: as dicts of their fields' numbers. ValueError: there is none.

    What is read takes a few hundred times its size: an empty structure of one byte becomes an object.
    """

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.at = at
        self._data = data
        self._end = end

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Return the structure that begins here."""
        if depth > _DEEPEST:
            raise ValueError("a structure that is nested too deeply")
        fields: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else self._signed()
            fields[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in (_SHORT, _INT, _LONG):
            return self._signed()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _STRING:
            return self._bytes(self._number())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head < 0xF0 else self._number()
            return [self._value(head & 15, depth) for _ in range(count)]
        if kind == _STRUCTURE:
            return self.structure(depth)
        # Nothing in Parquet's metadata is a map.
        raise ValueError("a value of another type")

    def _byte(self) -> int:
        if self.at >= self._end:
            raise ValueError("a structure that is cut off")
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        start = self.at
        self.at += size
        if self.at > self._end:
            raise ValueError("a structure that is cut off")
        return self._data[start : self.at]

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number that is too long")

    def _signed(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)
