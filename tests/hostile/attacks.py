"""Attacks, each a function that goes on until its time is up: ``attack(target)``. They run in a process of their own.

A stranger has a bare socket. A party has come as far as any honest one, and from there on says what it likes.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path

from mpccomm.protocol import frames
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.link import Link
from mpccomm.settings import Limits, Timing
from tests.protocol.links import batch_of

LOCAL = "127.0.0.1"
HOSTILE_PORT = 2
HEAD = b"GET /mpccomm HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n"


@dataclass
class Target:
    """Whom to attack, how, and until when."""

    port: int
    tls: bool
    folder: str
    deadline: float

    @property
    def going_on(self) -> bool:
        return time.monotonic() < self.deadline

    def dial(self, *, tls: bool | None = None, source: str = LOCAL) -> socket.socket:
        """A connection; with TLS by default where the target speaks it."""
        sock = socket.create_connection((LOCAL, self.port), timeout=5, source_address=(source, 0))
        return self.secured(sock) if (self.tls if tls is None else tls) else sock

    def secured(self, sock: socket.socket) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(Path(self.folder, "hostile.pem"), Path(self.folder, "hostile.key"))
        return context.wrap_socket(sock)


ATTACKS: dict[str, Callable[[Target], None]] = {}


def attack(name: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    def note(function: Callable[[Target], None]) -> Callable[[Target], None]:
        ATTACKS[name] = function
        return function

    return note


@attack("nothing, to compare with")
def nothing(target: Target) -> None:
    while target.going_on:
        time.sleep(0.05)


# -- strangers ---------------------------------------------------------------------------------------------------------


def crowd(target: Target, first: bytes, *, tls: bool | None = None, source: Callable[[int], str]) -> None:
    """Connect, say the same, stay; as many as there is time for, the oldest of a thousand giving way."""
    callers: list[socket.socket] = []
    number = 0
    while target.going_on:
        number += 1
        with suppress(OSError):
            sock = target.dial(tls=tls, source=source(number))
            callers.append(sock)
            sock.sendall(first)
        if len(callers) > 800:
            callers.pop(0).close()
    for sock in callers:
        sock.close()


def elsewhere(number: int) -> str:
    return f"127.0.{1 + number // 200 % 200}.{2 + number % 200}"


@attack("connections before anything, one address")
def silent(target: Target) -> None:
    crowd(target, b"", tls=False, source=lambda number: "127.0.9.9")


@attack("connections before anything, many addresses")
def silent_everywhere(target: Target) -> None:
    crowd(target, b"", tls=False, source=elsewhere)


@attack("connections after TLS")
def after_tls(target: Target) -> None:
    crowd(target, b"", source=elsewhere)


@attack("connections after half a request")
def half_a_request(target: Target) -> None:
    crowd(target, HEAD, source=elsewhere)


@attack("connections after the upgrade, from a party's address")
def after_upgrade(target: Target) -> None:
    crowd(target, HEAD + KEY + b"\r\n", source=lambda number: LOCAL)


@attack("malformed upgrades")
def malformed(target: Target) -> None:
    while target.going_on:
        with suppress(OSError), target.dial() as sock:
            sock.sendall(HEAD + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff\xfe\r\n\r\n")
            sock.recv(1000)


@attack("upgrades at a wrong path, and what is too much")
def too_much(target: Target) -> None:
    while target.going_on:
        with suppress(OSError), target.dial() as sock:
            sock.sendall(HEAD.replace(b"/mpccomm", b"/") + KEY + b"\r\n" + bytes(100_000))
            sock.recv(1000)


@attack("a web page's upgrade")
def web_page(target: Target) -> None:
    while target.going_on:
        with suppress(OSError), target.dial() as sock:
            sock.sendall(HEAD + KEY + b"Origin: https://evil.example\r\n\r\n")
            answer = sock.recv(1000)
            assert not answer.startswith(b"HTTP/1.1 101"), "a web page was let in"


@attack("handshakes in large finite fields")
def large_fields(target: Target) -> None:
    command = ["openssl", "s_client", "-connect", f"{LOCAL}:{target.port}", "-groups", "ffdhe8192", "-quiet"]
    while target.going_on and target.tls:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, input=b"", capture_output=True, timeout=2, check=False)


# -- a party -----------------------------------------------------------------------------------------------------------


class Party:
    """A connection that has been greeted by a link of ours; from then on it is bytes."""

    def __init__(self, target: Target) -> None:
        self.sock = target.dial()
        self.sock.settimeout(5)
        self.sock.sendall(HEAD + KEY + b"\r\n")
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode(errors="replace"))
        self.link = Link(
            incarnation=os.urandom(16),
            nonce=lambda: os.urandom(16),
            limits=Limits(),
            timing=Timing(),
            now=time.monotonic(),
        )
        self.link.port = HOSTILE_PORT
        self.end: Connection = self.link.open(dialled=True, now=time.monotonic())
        while not self.link.connected:
            self._send_what_is_due()
            self.link.received(self.end, self._message(), time.monotonic())
        self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        while batch := self.link.to_send(self.end, time.monotonic()):
            self.sock.sendall(message(bytes(batch)))

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("closed")
        return data

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _message(self) -> bytes:
        while True:
            first, second = self._take(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", self._take(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._take(8))
            data = self._take(size)
            if first & 15 == 2:
                return data


def message(data: bytes, opcode: int = 2, *, final: bool = True) -> bytes:
    """A message of a WebSocket client, masked with zeros."""
    head = bytes((opcode | (128 if final else 0),))
    if len(data) < 126:
        head += bytes((128 | len(data),))
    elif len(data) < 65536:
        head += b"\xfe" + struct.pack("!H", len(data))
    else:
        head += b"\xff" + struct.pack("!Q", len(data))
    return head + bytes(4) + data


def flood(target: Target, pieces: Callable[[], Iterator[bytes]] | bytes, first: bytes = b"") -> None:
    """As a party, say the same without end, or what comes out of there on each connection; come again when sent away."""
    while target.going_on:
        with suppress(OSError):
            party = Party(target)
            with party.sock as sock:
                sock.sendall(first)
                for piece in repeat(pieces) if isinstance(pieces, bytes) else pieces():
                    if not target.going_on:
                        break
                    sock.sendall(piece)
        time.sleep(0.02)


@attack("a party: empty messages")
def empty_messages(target: Target) -> None:
    flood(target, message(b"") * 2000)


@attack("a party: empty continuation frames")
def empty_continuations(target: Target) -> None:
    flood(target, message(b"", 0, final=False) * 2000, first=message(b"", 2, final=False))


@attack("a party: pings of the WebSocket")
def websocket_pings(target: Target) -> None:
    flood(target, message(b"x", 9) * 2000)


@attack("a party: pongs of the WebSocket")
def websocket_pongs(target: Target) -> None:
    flood(target, message(b"", 10) * 2000)


@attack("a party: PING frames, many in a message")
def pings(target: Target) -> None:
    flood(target, message(batch_of(frames.ping(1) * 1000)) * 20)


@attack("a party: PING frames, one in a message")
def single_pings(target: Target) -> None:
    flood(target, message(batch_of(frames.ping(1))) * 1000)


@attack("a party: DEADLOCK frames")
def deadlocks(target: Target) -> None:
    flood(target, message(batch_of(frames.deadlock(True, True) * 1000)) * 20)


@attack("a party: GOODBYE frames")
def goodbyes(target: Target) -> None:
    flood(target, message(batch_of(frames.goodbye(frames.Goodbye(0, 0, 0, ())) * 500)) * 20)


@attack("a party: BLOCKED frames")
def blocked(target: Target) -> None:
    frame = frames.blocked(frames.Blocked(9, 9, 0, 0, True, True, tuple(f"id {number}" for number in range(8))))
    flood(target, message(batch_of(frame * 200)) * 20)


@attack("a party: the same message over and over")
def duplicates(target: Target) -> None:
    frame = frames.message_head(1, frames.encode_key("x"), False, 1) + b"\xc0"
    flood(target, message(batch_of(frame * 500)) * 20)


@attack("a party: messages that nobody asks for, until the box is full")
def unasked(target: Target) -> None:
    def messages() -> Iterator[bytes]:
        for number in count(1):
            head = frames.message_head(number, frames.encode_key(f"\N{GRINNING FACE}{number}"), False, 1)
            yield message(batch_of(head + b"\xc0"))

    flood(target, messages)


@attack("a party: messages of 2 MiB of which a byte comes")
def begun(target: Target) -> None:
    def starts() -> Iterator[bytes]:
        for number in count(1):
            head = frames.start_head(number, frames.encode_key(str(number)), False, 1, 2**21, 1)
            yield message(batch_of(head + b"x"))

    flood(target, starts)


@attack("a party: messages of very many empty segments")
def segments(target: Target) -> None:
    def starts() -> Iterator[bytes]:
        for number in count(1):
            sizes = bytes(8 * 30_000)
            head = frames.start_head(number, frames.encode_key(str(number)), False, 30_000, len(sizes), len(sizes))
            yield message(batch_of(head + sizes))

    flood(target, starts)


@attack("a party: ever more connections")
def connections(target: Target) -> None:
    parties = []
    while target.going_on:
        with suppress(OSError):
            parties.append(Party(target))
            # A link would close them: this one is another process each time.
            if len(parties) > 800:
                parties.pop(0).sock.close()
    for party in parties:
        party.sock.close()
