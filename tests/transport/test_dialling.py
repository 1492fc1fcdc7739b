"""A connection that is reset at its first write: what has the number of its file descriptor next must stay open."""

import asyncio
import gc
import os
import socket
import ssl
import sys
from collections.abc import Iterator

import pytest

from mpccomm import Pool, Proxy, Relay
from mpccomm.transport.dialling import DialledSocket, new_socket
from tests.certificates import LOCAL, Folder, Identity, root
from tests.pools import until

CA = root()
ALICE, BOB = (CA.issue(name, LOCAL) for name in ("Alice", "Bob"))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that takes connections, and never looks at them."""
    with socket.create_server((LOCAL, 0)) as server:
        yield server


async def _reset_at_first_write(listener: socket.socket, sock: socket.socket) -> None:
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, listener.getsockname())
    listener.close()
    with pytest.raises(ConnectionError):
        await loop.create_connection(
            asyncio.Protocol, sock=sock, ssl=ssl.create_default_context(), server_hostname=LOCAL
        )


@pytest.mark.parametrize("closed", [False, True], ids=["collected", "closed"])
@pytest.mark.usefixtures("loop_factory")
async def test_does_not_close_what_belongs_to_others(listener: socket.socket, closed: bool) -> None:
    sock = new_socket((socket.AF_INET, socket.SOCK_STREAM, 0))
    number = sock.fileno()
    await _reset_at_first_write(listener, sock)
    opened = []
    try:
        while number not in opened:
            opened.append(os.open(os.devnull, os.O_RDONLY))
            assert opened[-1] <= number, "the loop has not closed it"
        if closed:
            sock.close()
        del sock
        gc.collect()
        os.fstat(number)
    finally:
        for one in opened:
            os.close(one)


def test_one_that_was_interrupted_as_it_was_made_is_closed() -> None:
    """By what a signal handler has raised."""
    sock = DialledSocket.__new__(DialledSocket)
    socket.socket.__init__(sock)
    number = sock.fileno()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del sock
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


def test_closes_its_own() -> None:
    sock = new_socket((socket.AF_INET, socket.SOCK_STREAM, 0))
    number, other = sock.fileno(), sock.dup()
    sock.close()
    with pytest.raises(OSError):
        os.fstat(number)
    assert isinstance(other, DialledSocket)
    number = other.fileno()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del other
    with pytest.raises(OSError):
        os.fstat(number)


def _identified(tmp_path_factory: pytest.TempPathFactory, one: Identity) -> tuple[str, str, str]:
    folder = Folder(tmp_path_factory.mktemp("party"))
    return folder.key(one), folder.cert(one), folder.cert(CA)


@pytest.mark.parametrize("way", ["party", "tno", "relay", "proxy", "relay by a proxy"])
async def test_every_dial_is_by_such_a_socket(
    way: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    key, cert, ca_cert = _identified(tmp_path_factory, ALICE)
    there = _identified(tmp_path_factory, BOB)[1]
    dialled: list[object] = []

    async def refuse(*_: object, sock: object = None, **__: object) -> None:
        dialled.append(sock)
        assert isinstance(sock, socket.socket)
        sock.close()
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
    relay = Relay(f"https://{LOCAL}:{port}", ca_cert=ca_cert) if "relay" in way else None
    proxy = Proxy(f"http://{LOCAL}:{port}") if "proxy" in way else None
    async with Pool(key, cert, ca_cert, name="Alice", relay=relay, proxy=proxy) as pool:
        pool.add_http_server(0, LOCAL)
        if relay is not None:
            pool.add_http_client("Bob", cert=there)
        elif way == "tno":
            pool.add_http_client("Bob", LOCAL, port, cert=there, wire="tno4")
        else:
            pool.add_http_client("Bob", LOCAL, port, cert=there)
        await until(lambda: dialled)
    assert {type(sock) for sock in dialled} == {DialledSocket}
