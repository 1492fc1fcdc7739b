"""Certificates that are nearly right: of one that is, bytes and parts are changed, doubled, cut out, put elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator

_CONSTRUCTED = 0x20
_STRINGS = (0x0C, 0x13, 0x16, 0x1E, 0x1C, 0x03, 0x04, 0x17, 0x18, 0x02, 0x05, 0x06, 0x01, 0x30, 0x31, 0x82, 0x87, 0x86)
_TEXTS = (
    *(
        b"",
        b"\0",
        b"\xff" * 20,
        b"\xd8\x00",
        b"99991231235959Z",
        b"000000000000Z",
        b"20250230000000Z",
        b"490101000000Z",
    ),
    *(b"\x7f\0\0\1", b"*.example", b"127.0.0.1", b"a\0b", "faß".encode(), b"\x80", b"\x00" * 300, b"\x1b[31m"),
)


class Part:
    """A value of DER: bytes, or parts."""

    def __init__(self, tag: int, data: bytes, parts: list[Part] | None) -> None:
        self.tag = tag
        self.data = data
        self.parts = parts

    def der(self) -> bytes:
        """Return its bytes."""
        data = self.data if self.parts is None else b"".join(part.der() for part in self.parts)
        size = len(data)
        if size < 0x80:
            return bytes((self.tag, size)) + data
        width = (size.bit_length() + 7) // 8
        return bytes((self.tag, 0x80 | width)) + size.to_bytes(width, "big") + data

    def everything(self) -> Iterator[Part]:
        """Return it, and all that is in it."""
        yield self
        for part in self.parts or ():
            yield from part.everything()


def read(data: bytes) -> list[Part]:
    """Return the parts of well-formed DER."""
    parts = []
    while data:
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        content, data = data[start : start + size], data[start + size :]
        parts.append(Part(tag, content, read(content) if tag & _CONSTRUCTED else None))
    return parts


class Mutator:
    """A source of such certificates."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutate(self, der: bytes) -> bytes:
        """Return *der* with one fault, or a few."""
        if self.random.random() < 0.3:
            return self._bytes(der)
        (whole,) = read(der)
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self._part(whole)
        der = whole.der()
        return self._bytes(der) if self.random.random() < 0.1 else der

    def _bytes(self, der: bytes) -> bytes:
        data = bytearray(der)
        at = self.random.randrange(len(data))
        match self.random.randrange(4):
            case 0:
                del data[at : at + self.random.choice((1, 2, 50))]
            case 1:
                data[at:at] = self.random.randbytes(self.random.choice((1, 4)))
            case _:
                data[at] = self.random.choice((0, 0x7F, 0x80, 0xFF, data[at] ^ 1, self.random.randrange(256)))
        return bytes(data)

    def _part(self, whole: Part) -> None:
        every = list(whole.everything())
        part, other = self.random.choice(every), self.random.choice(every)
        what = self.random.randrange(7)
        if what == 0:
            part.tag = self.random.choice(_STRINGS)
        elif what == 1 and part.parts is None:
            part.data = self.random.choice(_TEXTS)
        elif what == 2 and part.parts is None and part.data:
            part.data = self._bytes(part.data)
        elif part.parts:
            at = self.random.randrange(len(part.parts))
            if what == 3:
                del part.parts[at]
            elif what == 4:
                part.parts.insert(at, part.parts[self.random.randrange(len(part.parts))])
            elif what == 5:
                self.random.shuffle(part.parts)
            elif part not in other.everything():
                part.parts[at] = other
