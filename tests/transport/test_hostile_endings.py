"""However the connection of a stranger ends, nothing of it is left a second later: no task, no protocol, no place."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mpccomm.settings import Strangers
from mpccomm.transport.admission import PendingConnection
from mpccomm.transport.listener import _Handshake
from mpccomm.transport.server import _Protocol
from mpccomm.transport.websocket import WebSocket
from tests.hostile.attacks import message
from tests.pools import LOCAL
from tests.timing import UNIT
from tests.transport import hostile
from tests.transport.hostile import Place, client_hello, dial, hear, place, say, stranger
from tests.transport.test_hostile_strangers import SAYINGS, STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the whole of 127.0.0.0/8")

CALLERS = 4
UPGRADE = STAGES["upgraded"]
SHAPES: dict[str, bytes] = {
    **STAGES,
    **{name: saying[:200_000] for name, saying in SAYINGS.items()},
    "an upgrade at the wrong path, and 100 KB": UPGRADE.replace(b"/mpccomm", b"/") + bytes(100_000),
    "an upgrade, and 100 KB": UPGRADE + bytes(100_000),
    "an upgrade, and a frame of 2 GB": UPGRADE + b"\x82\xff" + struct.pack(">Q", 2**31) + bytes(30_000),
    "an upgrade, and no HELLO": UPGRADE + message(b"garbage") + bytes(30_000),
    "an upgrade, and its end": UPGRADE + message(b"\x03\xe8", 8),
    "a posted message": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + bytes(200_000),
    "5000 requests": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5000,
    "half a handshake of TLS": client_hello()[:50],
}
KINDS = (PendingConnection, _Handshake, _Protocol, WebSocket)


def closes(sock: socket.socket) -> None:
    """Go with all that came unread, which resets the connection."""
    time.sleep(UNIT / 20)
    sock.close()


def resets(sock: socket.socket) -> None:
    """Reset the connection at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def half_closes(sock: socket.socket) -> None:
    """Say that this is all, and wait for the end."""
    with suppress(OSError):
        # Not by TLS: it is the connection itself that is closed half.
        socket.socket.shutdown(sock, socket.SHUT_WR)
    hear(sock)


def listens(sock: socket.socket) -> None:
    """Wait for the end."""
    hear(sock)


def stays(sock: socket.socket) -> None:
    """Neither read nor close until long after the other end wants no more of this."""
    time.sleep(UNIT / 20)


Ending = Callable[[socket.socket], None]
ENDINGS: tuple[Ending, ...] = (closes, resets, half_closes, listens, stays)


def alive(where: Place) -> Counter[str]:
    """What is there of connections that have come in, and the tasks of Alice's loop, by where they are at work."""
    gc.collect()
    found = Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KINDS))
    loop = where.alice._engine.loop_owner.loop
    for task in asyncio.all_tasks(loop):
        found[task.get_coro().__qualname__] += 1  # type: ignore[union-attr]
    return found


@pytest.fixture(params=["asyncio", "private"])
def _loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # Silence is soon too long: that is waited for often.
    timing = replace(hostile.SETTINGS.timing, greeting=4 * UNIT)
    settings = replace(hostile.SETTINGS, timing=timing, strangers=Strangers(courtesy=UNIT))
    monkeypatch.setattr(hostile, "SETTINGS", settings)
    if request.param == "asyncio":
        monkeypatch.setattr("mpccomm.sync.loop_thread.new_event_loop", asyncio.new_event_loop)


def talk(where: Place, saying: bytes, ends: Ending, speaks_tls: bool, number: int) -> socket.socket:
    """Say it as one stranger, and end; return the connection, so that it stays as long as it may."""
    # Half of them from where a party is, which go further where there is no certificate.
    sock = dial(where.alice.port, LOCAL if number % 2 else stranger(number))
    with suppress(OSError):
        if speaks_tls:
            sock = where.spoken(sock)
        sock.settimeout(UNIT if ends is stays else 20 * UNIT)
        say(sock, saying)
        ends(sock)
    return sock


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("_loops")
@pytest.mark.parametrize("certified", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("ends", ENDINGS, ids=lambda ends: ends.__name__)
def test_nothing_is_left(ends: Ending, certified: bool, tmp_path: Path) -> None:
    left = {}
    with place(tmp_path, certified=certified) as where, ThreadPoolExecutor(CALLERS) as threads:
        talk(where, b"GET / HTTP/1.1\r\n\r\n", listens, certified, 0).close()
        before = alive(where)
        for name, saying in SHAPES.items():
            one = partial(talk, where, saying, ends, certified and "TLS" not in name)
            callers = list(threads.map(one, range(CALLERS)))
            # Those that say nothing are sent away after a while.
            until(lambda: not where.pending, 60 * UNIT)
            if not until(lambda: not alive(where) - before, 10 * UNIT):
                left[name] = dict(alive(where) - before)
            for sock in callers:
                sock.close()
    assert not left


def until(condition: Callable[[], object], limit: float) -> bool:
    """Wait for that; False: in vain."""
    end = time.monotonic() + limit
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(UNIT / 5)
    return bool(true)
