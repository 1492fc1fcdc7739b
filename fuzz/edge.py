"""An atheris target for the edge, HTTP and WebSocket, of a pool that listens: `python fuzz/edge.py [libFuzzer options]`.

The input is what a caller sends. If it begins with an even byte, the upgrade to WebSocket has been granted before. Whatever it
is, the pool logs no failure of its own, and takes the next caller.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["mpccomm.transport", "mpccomm.protocol", "aiohttp.http_parser"]):
    from mpccomm import Pool
    from tests.protocol import frames_mutation

LOCAL = "127.0.0.1"
KEY = base64.b64encode(bytes(16))
UPGRADE = (
    b"GET /mpccomm HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
TURNS = 8


class Failures(logging.Handler):
    """What is logged as a failure of our own is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage() + str(record.exc_info))


class Edge:
    """A pool that listens, and a caller in the same loop."""

    def __init__(self) -> None:
        self.failures = Failures()
        logging.getLogger().addHandler(self.failures)
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.failures.found.append(str(context)))
        self.port = self.loop.run_until_complete(self._listen())
        self.calls = 0

    async def _listen(self) -> int:
        self.pool = Pool(name="Alice")
        self.pool.add_http_server(0, LOCAL)
        self.pool.add_http_client("Bob", LOCAL, 1)
        assert self.pool.port is not None
        await asyncio.sleep(0.01)
        return self.pool.port

    def call(self, data: bytes) -> None:
        """Have it said."""
        self.loop.run_until_complete(self._call(data))
        self.calls += 1
        if self.calls % 500 == 0:
            assert b" 101 " in self.loop.run_until_complete(self._call(b"\0"))
        assert not self.failures.found, self.failures.found

    async def _call(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(LOCAL, self.port)
        answer = b""
        try:
            if data[:1] and not data[0] & 1:
                writer.write(UPGRADE)
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.write(data[1:])
            for _ in range(TURNS):
                await asyncio.sleep(0)
        finally:
            transport: Any = writer.transport
            transport.abort()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return answer


def websocket(payload: bytes, opcode: int = 2) -> bytes:
    """A message as a client sends it."""
    return bytes((0x80 | opcode, 0xFE)) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def main() -> None:
    """Fuzz until told to stop."""
    seeds = ROOT / "fuzz" / ".work" / "edge"
    seeds.mkdir(parents=True, exist_ok=True)
    head = bytes(24)
    valid = [
        b"\1" + UPGRADE,
        b"\1POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]
    valid += [b"\0" + websocket(head + batch) for batch in frames_mutation.SEEDS]
    valid += [b"\0" + websocket(b"x", 9) + websocket(b"\x03\xe8", 8), b"\0" + bytes((2, 0x81)) + bytes(5)]
    for number, data in enumerate(valid):
        (seeds / f"seed-{number}").write_bytes(data)
    edge = Edge()

    def test(data: bytes) -> None:
        edge.call(data)

    options = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={seeds}/crash-"]
    atheris.Setup([sys.argv[0], str(seeds), *options, *sys.argv[1:]], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
