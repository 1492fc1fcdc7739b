"""Ports of this machine: bound, and passed on to another pool, so that each descriptor has one owner."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from mpccomm.transport.http import WEB
from mpccomm.transport.network import BoundPort
from mpccomm.transport.port import bind
from tests.pools import LOCAL

handed_over = pytest.mark.skipif(sys.platform == "win32", reason="there a socket can't be handed over")


@pytest.fixture
def port() -> Iterator[BoundPort]:
    bound = WEB.bind("Alice", LOCAL, 0)
    yield bound
    bound.close()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_socket_that_listens(host: str, family: socket.AddressFamily) -> None:
    with bind(host, 0) as sock:
        assert sock.family == family
        with pytest.raises(OSError, match="in use"):
            bind(host, sock.getsockname()[1])


def test_one_socket_for_both_families() -> None:
    with bind("::", 0) as sock:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, sock.getsockname()[1]), timeout=5).close()


@handed_over
def test_what_is_passed_on_outlives_it(port: BoundPort) -> None:
    for _ in range(5):
        other = port.pass_on()
        assert (port.open, other.open, other.port) == (False, True, port.port)
        port.close()
        socket.create_connection((LOCAL, other.port)).close()
        port = other
    port.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOCAL, port.port))


@handed_over
def test_it_is_passed_on_once(port: BoundPort) -> None:
    other = port.pass_on()
    with pytest.raises(OSError, match="file descriptor"):
        port.pass_on()
    other.close()


@handed_over
def test_a_closed_one_is_not_passed_on(port: BoundPort) -> None:
    port.close()
    assert not port.open
    with pytest.raises(OSError, match="file descriptor"):
        port.pass_on()
    # And the place is free.
    WEB.bind("Alice", LOCAL, port.port).close()


@handed_over
def test_one_thread_closes_what_another_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question for the descriptor and its duplicate another socket may have it."""
    duplicate = socket.dup
    foreign: list[socket.socket] = []
    old = WEB.bind("Alice", LOCAL, 0)

    def later(descriptor: int) -> int:
        closing = threading.Thread(target=old.close)
        closing.start()
        closing.join()
        foreign.extend(socket.create_server((LOCAL, 0)) for _ in range(3))
        return duplicate(descriptor)

    monkeypatch.setattr(socket, "dup", later)
    new = old.pass_on()
    monkeypatch.undo()
    assert new.port == old.port
    socket.create_connection((LOCAL, old.port)).close()
    new.close()
    for sock in foreign:
        sock.close()
