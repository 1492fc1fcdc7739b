"""Strangers are few at a time, for a short time, and cost little; a party gets through all the while."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mpccomm.settings import Strangers
from tests.pools import LOCAL, Log
from tests.timing import UNIT
from tests.transport.hostile import (
    EACH,
    SLACK,
    THROUGH,
    Place,
    Watch,
    client_hello,
    dial,
    hear,
    place,
    say,
    stranger,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and the whole of 127.0.0.0/8")

LIMITS = Strangers()
MANY = 300
GIB = 2**30


@contextmanager
def crowd(port: int | None, sources: Callable[[int], str], first: bytes) -> Iterator[list[socket.socket]]:
    """A number of strangers that connect, send the same, and stay."""
    with ExitStack() as stack:
        callers = []
        for number in range(MANY):
            sock = stack.enter_context(dial(port, sources(number)))
            say(sock, first)
            callers.append(sock)
        yield callers


CROWDS = {
    "from one address": (lambda number: stranger(0), LIMITS.per_address),
    "from many addresses": (lambda number: stranger(number // 3), LIMITS.pending),
    "from an address of parties": (lambda number: LOCAL, 3 * LIMITS.per_party),
}


@pytest.mark.parametrize("which", CROWDS)
@pytest.mark.parametrize("first", [b"", client_hello()], ids=["silent", "half-open"])
def test_a_crowd(which: str, first: bytes, tmp_path: Path) -> None:
    sources, limit = CROWDS[which]
    with place(tmp_path) as where, Watch(where) as watch:
        with crowd(where.alice.port, sources, first):
            watch.look()
            # A party at the same address has a few handshakes' time; one elsewhere has all the time in the world.
            assert watch.newcomer() <= THROUGH
            watch.look()
            assert 0 < where.pending <= limit + 2
        watch.assert_calm()
    assert watch.pending <= limit + 2  # Bob or Carol may be on their way in
    assert watch.memory <= limit * EACH + SLACK
    assert watch.handles <= MANY + 2 * limit + 10  # our own ends of the crowd, and theirs with a spare


STAGES = {
    "connected": b"",
    "half a request": b"GET /mpccomm HTTP/1.1\r\n",
    "upgraded": b"\r\n".join(
        (
            b"GET /mpccomm HTTP/1.1",
            b"Host: x",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            b"",
            b"",
        )
    ),
}


@pytest.mark.parametrize("loop", ["asyncio", "private"])
@pytest.mark.parametrize("certified", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("stage", STAGES)
def test_whoever_is_dropped_is_gone(
    stage: str, certified: bool, loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":
        monkeypatch.setattr("mpccomm.sync.loop_thread.new_event_loop", asyncio.new_event_loop)
    limit = 3 * LIMITS.per_party
    with place(tmp_path, certified=certified) as where, ExitStack() as stack:
        before = len(os.listdir("/proc/self/fd"))
        count = limit + 40
        for _ in range(count):
            sock = stack.enter_context(dial(where.alice.port))
            if certified:
                sock = stack.enter_context(where.spoken(sock))
            say(sock, STAGES[stage])
        # Before they would be sent away for their silence.
        end = time.monotonic() + 5 * UNIT
        while (kept := len(os.listdir("/proc/self/fd")) - before - count) > limit + 4 and time.monotonic() < end:
            time.sleep(UNIT / 20)
        # Not only in the log: their sockets are closed.
        assert kept <= limit + 4


def test_a_crowd_disperses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with place(tmp_path) as where, crowd(where.alice.port, stranger, client_hello()) as callers:
        start = time.monotonic()
        for sock in callers:
            assert hear(sock) is not None
        assert time.monotonic() - start <= 60 * UNIT
        while where.pending:
            time.sleep(UNIT / 50)
    assert log.lines("too many callers at once who are no party that we know")
    assert len(log.lines(f"{stranger(7)}: ")) <= 2


# -- what one of them says ---------------------------------------------------------------------------------------------

HEAD = b"GET /mpccomm HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
SAYINGS: dict[str, bytes] = {
    "a million bytes of garbage": b"\xf7\x13garbage" * 111_112,
    "a million zeros": bytes(1_000_000),
    "a million line ends": b"\r\n" * 500_000,
    "100 KB of headers": b"GET / HTTP/1.1\r\n"
    + b"".join(b"X-%d: %b\r\n" % (i, b"v" * 1000) for i in range(100))
    + b"\r\n",
    "one header of 100 KB": b"GET / HTTP/1.1\r\nX: " + b"v" * 100_000 + b"\r\n\r\n",
    "a request line of 100 KB": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a body of 2 GB": HEAD + b"Content-Length: %d\r\n\r\n" % (2 * GIB) + bytes(4_000_000),
    "chunks without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\n",
    "a chunk of 2 GB": HEAD + b"Transfer-Encoding: chunked\r\n\r\n80000000\r\n" + bytes(1_000_000),
    "a compressed body": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + b"\x1f\x8b\x08" + bytes(27),
    "1000 requests at once": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000,
    "both lengths": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(10_000),
    "a handshake of TLS": client_hello() * 100,
}


def talk(where: Place, saying: bytes, source: str) -> bytes:
    heard = b""
    for _ in range(3):
        with dial(where.alice.port, source) as sock:
            say(sock, saying)
            heard += hear(sock)
    return heard


@pytest.mark.parametrize("certified", [True, False], ids=["TLS", "plain"])
@pytest.mark.parametrize("source", [stranger(0), LOCAL], ids=["stranger", "party's address"])
def test_what_one_says(certified: bool, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with place(tmp_path, certified=certified) as where:
        for saying in SAYINGS.values():
            talk(where, saying, source)  # what is needed once and for all is there now
        with Watch(where) as all_of_them:
            for name, saying in SAYINGS.items():
                with Watch(where) as watch:
                    heard = talk(where, saying, source)
                watch.assert_calm(name)
                for banner in (b"aiohttp", b"Python", b"Traceback", b"Error"):
                    assert banner not in heard, name
                if heard.startswith(b"HTTP/"):
                    assert heard.split()[1] in (b"200", b"400", b"403", b"404", b"413", b"415", b"426"), name
        assert all_of_them.memory <= EACH + SLACK
        assert "garbage" not in caplog.text


@pytest.mark.parametrize("certified", [True, False], ids=["TLS", "plain"])
def test_one_byte_at_a_time(certified: bool, tmp_path: Path) -> None:
    saying = client_hello() if certified else HEAD
    with place(tmp_path, certified=certified) as where, Watch(where) as watch:
        with dial(where.alice.port, stranger(0)) as sock:
            start = time.monotonic()
            while say(sock, saying[:1]) and time.monotonic() - start < 100 * UNIT:
                saying = saying[1:] or b"x"
                time.sleep(UNIT / 4)
            assert time.monotonic() - start <= 60 * UNIT
        watch.assert_calm()


def test_one_request_per_connection(tmp_path: Path) -> None:
    with place(tmp_path, certified=False) as where, dial(where.alice.port) as sock:
        say(sock, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        assert hear(sock).count(b"HTTP/1.1 404") == 1
