"""Records of TLS made by hand: what no library sends, and the holder of a trusted certificate can."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import os
import socket
import ssl
import struct
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpccomm import Pool
from mpccomm.protocol import frames
from mpccomm.protocol.frames import PROTOCOL_VERSION, Bounds, Hello
from mpccomm.transport import pace
from tests.certificates import Folder, self_signed
from tests.pools import LOCAL, Log, quick
from tests.timing import UNIT

_HANDSHAKE, _DATA = 22, 23
_KEY_UPDATE = bytes([24, 0, 0, 1, 0])


def expanded(secret: bytes, label: bytes, size: int) -> bytes:
    """Return what TLS 1.3 derives from a secret (RFC 8446, 7.1)."""
    label = b"tls13 " + label
    info = struct.pack("!H", size) + bytes([len(label)]) + label + b"\0"
    return hmac.new(secret, info + b"\1", "sha384").digest()[:size]


class Records:
    """One end of a connection that writes its records by itself, once the handshake is over."""

    def __init__(self, port: int, context: ssl.SSLContext, key_log: Path) -> None:
        self._socket = socket.create_connection((LOCAL, port))
        self._incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, outgoing)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(outgoing.read())
                self._incoming.write(self._socket.recv(65536))
        self._socket.sendall(outgoing.read())
        (secret,) = (
            line.split()[2] for line in key_log.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0")
        )
        self._begin(bytes.fromhex(secret))

    def _begin(self, secret: bytes) -> None:
        self._secret, self._number = secret, 0
        self._cipher, self._start = AESGCM(expanded(secret, b"key", 32)), expanded(secret, b"iv", 12)

    def _record(self, kind: int, data: bytes) -> bytes:
        head = bytes([_DATA, 3, 3]) + struct.pack("!H", len(data) + 17)
        nonce = (int.from_bytes(self._start, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, data + bytes([kind]), head)

    def say(self, data: bytes) -> None:
        self._socket.sendall(self._record(_DATA, data))

    def hear(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(self._socket.recv(65536))

    def key_updates(self, number: int) -> bytes:
        found = bytearray()
        for _ in range(number):
            found += self._record(_HANDSHAKE, _KEY_UPDATE)
            self._begin(expanded(self._secret, b"traffic upd", 48))
        return bytes(found)

    def flood(self, what: bytes) -> None:
        self._socket.sendall(what)

    def is_over(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass  # reset
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much was read")
@pytest.mark.usefixtures("both_loops")
async def test_one_that_sends_nothing_but_new_keys_is_cut_off(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace, "_BUFFERED", 64 * 1024)
    log = Log(caplog)
    bob, mallory = self_signed("Bob"), self_signed("Mallory")
    context = ssl.create_default_context(cadata=bob.pem().decode())
    context.check_hostname = False
    context.load_cert_chain(folder.cert(mallory), folder.key(mallory))
    context.keylog_filename = str(tmp_path / "keys")
    hello = Hello(PROTOCOL_VERSION, os.urandom(16), os.urandom(16), 0, 0, Bounds(1 << 30, 1000, 1 << 20, 1000, 1000))
    batch = frames.NO_POSITIONS + frames.hello(hello)

    def talk(port: int) -> bool:
        records = Records(port, context, tmp_path / "keys")
        try:
            records.say(
                b"GET /mpccomm HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n"
            )
            assert b" 101 " in records.hear()
            records.say(bytes([0x82, 0x80 | len(batch)]) + bytes(4) + batch)
            assert records.hear()
            records.flood(records.key_updates(3000))
            return records.is_over(100 * UNIT)
        finally:
            records.close()

    async with Pool(folder.key(bob), folder.cert(bob), settings=quick()) as pool:
        pool.add_http_server(0, LOCAL)
        pool.add_http_client("Mallory", LOCAL, 1, folder.cert(mallory))
        await asyncio.sleep(0)
        assert pool.port is not None
        assert await asyncio.to_thread(talk, pool.port)
        await log.seen("records of TLS that carry nothing", logging.WARNING)
