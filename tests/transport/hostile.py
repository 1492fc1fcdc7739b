"""Callers that mean no good, with bare sockets, and eyes on what they cost."""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpccomm import Settings, SyncPool, Timing
from mpccomm.transport.server import Server
from tests.certificates import LOCAL, Folder, root
from tests.timing import UNIT, slowness

CA = root()
IDENTITIES = {name: CA.issue(name, LOCAL) for name in ("Alice", "Bob", "Carol", "Mallory")}
SETTINGS = Settings(timing=Timing(greeting=15 * UNIT, tick=UNIT / 2), linger=0)
STALL = UNIT / 2
THROUGH = 20 * UNIT
NOBODY = 1
"""A port at which no server listens."""
EACH = 512 * 1024
"""What may a caller cost in memory before it is known."""
SLACK = 4 * 1024 * 1024


def stranger(number: int) -> str:
    """An address at which no party is."""
    return f"127.0.{1 + number // 200}.{2 + number % 200}"


def dial(port: int | None, source: str = LOCAL) -> socket.socket:
    """A bare connection."""
    return socket.create_connection((LOCAL, port or 0), timeout=20 * UNIT, source_address=(source, 0))


def client_hello() -> bytes:
    """The beginning of a handshake."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def say(sock: socket.socket, data: bytes) -> bool:
    """Send as much as is taken. False: the other end has closed."""
    try:
        sock.sendall(data)
    except (ConnectionError, TimeoutError):
        return False
    return True


def hear(sock: socket.socket) -> bytes:
    """Everything that comes until the other end closes."""
    heard = b""
    with suppress(ConnectionError, TimeoutError):
        while piece := sock.recv(65536):
            heard += piece
    return heard


class Place:
    """Alice, with Bob connected, and what it takes to have others call."""

    def __init__(self, path: Path, *, certified: bool) -> None:
        self.files = Folder(path)
        self.certified = certified
        self.certs = {name: self.files.cert(identity) for name, identity in IDENTITIES.items()}
        self.alice, self.bob, self.carol = (self.pool(name) for name in ("Alice", "Bob", "Carol"))
        for pool in (self.alice, self.bob, self.carol):
            pool.add_http_server(0, LOCAL)
        self.know(self.alice, "Bob", self.bob)
        self.know(self.alice, "Carol", self.carol)
        self.alice.add_http_client("Mallory", LOCAL, NOBODY, self.certs["Mallory"] if certified else None)
        self.know(self.bob, "Alice", self.alice)
        self.bob.wait_ready(100 * UNIT)

    def pool(self, name: str) -> SyncPool:
        if not self.certified:
            return SyncPool(name=name, settings=SETTINGS)
        return SyncPool(self.files.key(IDENTITIES[name]), self.certs[name], name=name, settings=SETTINGS)

    def know(self, pool: SyncPool, name: str, other: SyncPool) -> None:
        pool.add_http_client(name, LOCAL, other.port, self.certs[name] if self.certified else None)

    def spoken(self, sock: socket.socket) -> ssl.SSLSocket:
        """TLS on a connection to Alice, as Mallory."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_cert_chain(self.certs["Mallory"], self.files.key(IDENTITIES["Mallory"]))
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(sock)

    @property
    def pending(self) -> int:
        """How many callers Alice does not know yet."""
        server = self.alice._engine.server._running
        assert isinstance(server, Server)
        return len(server.admission)

    def close(self) -> None:
        for pool in (self.carol, self.bob, self.alice):
            pool.shutdown(0)


@contextmanager
def place(path: Path, *, certified: bool = True) -> Iterator[Place]:
    made = Place(path, certified=certified)
    try:
        yield made
    finally:
        made.close()


class Watch:
    """What the pool goes through meanwhile: the longest stall of its loop, memory, handles, and an honest party's wait.

    A stall is counted in processor time of the loop's thread: that others keep the machine busy is no fault of the loop.
    """

    def __init__(self, where: Place) -> None:
        self.where = where
        self.stall = 0.0
        self.pending = 0
        self.memory = 0
        self.handles = 0
        self.longest = 0.0
        self._stop = threading.Event()

    def __enter__(self) -> Watch:
        gc.collect()
        self._memory, self._handles = resident(), len(os.listdir("/proc/self/fd"))
        self._talk = threading.Thread(target=self._honest)
        self._talk.start()
        self._loop = self.where.alice._engine.loop_owner.loop
        self._loop.call_soon_threadsafe(self._beat)
        return self

    def _beat(self, before: float | None = None) -> None:
        now = time.thread_time()
        if before is not None:
            self.stall = max(self.stall, now - before)
        self.pending = max(self.pending, self.where.pending)
        if not self._stop.is_set():
            self._loop.call_later(0.005, self._beat, now)

    def _honest(self) -> None:
        alice, bob = self.where.alice, self.where.bob
        while not self._stop.is_set():
            start = time.monotonic()
            bob.send("Alice", b"honest", timeout=100 * UNIT)
            assert alice.recv("Bob", timeout=100 * UNIT) == b"honest"
            self.longest = max(self.longest, time.monotonic() - start)
            self._stop.wait(UNIT / 10)

    def look(self) -> None:
        """Note what is in use now."""
        self.memory = max(self.memory, resident() - self._memory)
        self.handles = max(self.handles, len(os.listdir("/proc/self/fd")) - self._handles)

    def newcomer(self) -> float:
        """Seconds that a party which has not been there yet takes to get through."""
        where = self.where
        start = time.monotonic()
        where.know(where.carol, "Alice", where.alice)
        where.carol.wait_ready(100 * UNIT)
        return time.monotonic() - start

    def __exit__(self, *_: object) -> None:
        self.look()
        self._stop.set()
        self._talk.join()
        done = threading.Event()
        self._loop.call_soon_threadsafe(done.set)
        done.wait(10 * UNIT)

    def assert_calm(self, what: str = "") -> None:
        assert self.stall <= STALL * slowness(), f"{what}: the loop stood still for {self.stall * 1000:.0f} ms"
        assert self.longest <= THROUGH, f"{what}: an honest party waited for {self.longest * 1000:.0f} ms"


def resident() -> int:
    """Bytes of memory in use by this process."""
    # What was freed is not in use. After large values, those of other tests too, glibc keeps tens of megabytes of it.
    with suppress(AttributeError, OSError):  # another library, or another system
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
