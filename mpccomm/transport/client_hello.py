"""The host name that a caller asks for in its first bytes: by SNI in TLS, by ``Host`` in HTTP. It proves nothing."""

from __future__ import annotations

import re

from mpccomm.address import ascii_name

MOST = 16 * 1024
"""Bytes that are looked at."""
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 0x16, 1, 0, 0
_HOST = re.compile(rb"\r\nhost:[ \t]*\[?([^\]\r\n]*?)\]?(?::\d+)?[ \t]*\r\n", re.IGNORECASE)


class IncompleteError(Exception):
    """Raised where more bytes have to arrive."""


def asked_for(data: bytes) -> str:
    """Return the host name that a caller asks for, by what it has said first; empty: none.

    :raises IncompleteError: it can't be told yet
    """
    if not data:
        raise IncompleteError
    try:
        name = _by_sni(data) if data[0] == _HANDSHAKE else _by_host(data)
    except IncompleteError:
        if len(data) >= MOST:
            return ""
        raise
    except IndexError:
        # This is no valid ClientHello: its handshake will fail, whichever pool gets it.
        return ""
    try:
        return ascii_name(name.decode("ascii"))
    except UnicodeError:
        return ""


def _by_host(data: bytes) -> bytes:
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        raise IncompleteError
    found = _HOST.search(head + b"\r\n")
    return found.group(1) if found else b""


def _by_sni(data: bytes) -> bytes:
    hello = _Reader(_handshake(data))
    hello.take(2 + 32)
    for width in (1, 2, 1):  # session, cipher suites, compression
        hello.take(hello.number(width))
    if not hello.left:
        return b""
    extensions = _Reader(hello.take(hello.number(2)))
    while extensions.left:
        kind, content = extensions.number(2), extensions.take(extensions.number(2))
        if kind == _SERVER_NAME:
            names = _Reader(_Reader(content).rest(2))
            while names.left:
                kind, name = names.number(1), names.take(names.number(2))
                if kind == _HOST_NAME:
                    return name
    return b""


def _handshake(data: bytes) -> bytes:
    """Return the ClientHello, out of as many records as it takes."""
    message = b""
    at = 0
    while True:
        if len(data) < at + 5:
            raise IncompleteError
        if data[at] != _HANDSHAKE:
            raise IndexError
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if not size:
            raise IndexError
        message += data[at + 5 : at + 5 + size]
        if message[0:1] and message[0] != _CLIENT_HELLO:
            raise IndexError
        if len(message) >= 4 and len(message) - 4 >= (length := int.from_bytes(message[1:4], "big")):
            return message[4 : 4 + length]
        if len(data) < at + 5 + size:
            raise IncompleteError
        at += 5 + size


class _Reader:
    """Reads numbers and pieces one after the other; `IndexError` where there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def rest(self, width: int) -> bytes:
        return self.take(self.number(width))
