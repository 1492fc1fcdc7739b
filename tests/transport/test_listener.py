"""What accepts connections: how many, whose they are, and what becomes of those that don't get as far as a protocol."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest

from mpccomm.address import IPAddress
from mpccomm.settings import Strangers
from mpccomm.transport import listener as module
from mpccomm.transport.admission import Admission, PendingConnection
from mpccomm.transport.listener import Acceptor, Choice
from tests.certificates import Folder, self_signed
from tests.pools import LOCAL, Log, until
from tests.timing import UNIT

pytestmark = pytest.mark.usefixtures("loop_factory")

HERE = ip_address(LOCAL)
GET = b"GET / HTTP/1.1\r\nHost: alice.example\r\n\r\n"


class Door:
    """One acceptor, those that reached a protocol, and those that were sent away."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        places: int = 10,
        context: ssl.SSLContext | None = None,
        choose: Callable[[str, IPAddress], Acceptor] | None = None,
    ) -> None:
        self.refused: list[str] = []
        self.greeted: list[PendingConnection] = []
        self.transports: list[asyncio.BaseTransport] = []
        self.admission = Admission(Strangers(per_address=places), 100.0, lambda _: 0)
        self.acceptor = Acceptor(
            sock,
            self.admission,
            self.protocol,
            lambda: context,
            100.0,
            lambda address, why: self.refused.append(f"{address}: {why}"),
            cast("Choice | None", choose),
        )

    def protocol(self, pending: PendingConnection) -> asyncio.Protocol:
        door = self

        class Greeter(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                door.greeted.append(pending)
                door.transports.append(transport)

        return Greeter()

    async def close(self) -> None:
        for transport in self.transports:
            cast(asyncio.Transport, transport).abort()
        await self.acceptor.close()


def listening() -> socket.socket:
    sock = socket.create_server((LOCAL, 0))
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def opened(**options: object) -> AsyncIterator[tuple[Door, tuple[str, int]]]:
    with listening() as sock:
        door = Door(sock, **options)  # type: ignore[arg-type]
        door.acceptor.start()
        try:
            yield door, sock.getsockname()
        finally:
            await door.close()


async def test_a_caller_meets_the_protocol_as_one_that_is_not_known_yet() -> None:
    async with opened() as (door, where):
        with socket.create_connection(where):
            await until(lambda: door.greeted)
            assert len(door.admission) == 1
            assert door.greeted[0].address == HERE
    assert not door.admission
    assert door.refused == [f"{LOCAL}: the pool is shut down"]


async def test_where_there_is_no_room_the_one_that_has_been_there_longest_goes() -> None:
    async with opened(places=1) as (door, where):
        with socket.create_connection(where) as first:
            await until(lambda: door.greeted)
            with socket.create_connection(where):
                await until(lambda: len(door.greeted) == 2)
                assert door.refused == [f"{LOCAL}: too many callers at once from that address"]
                first.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    assert first.recv(1) == b""


async def test_one_that_speaks_no_tls_is_refused_and_leaves_its_place(tmp_path: Path) -> None:
    folder, identity = Folder(tmp_path), self_signed("alice.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.cert(identity), folder.key(identity))
    async with opened(context=context) as (door, where):
        with socket.create_connection(where) as caller:
            caller.sendall(GET)
            await until(lambda: door.refused)
        assert not door.greeted
        assert not door.admission
    assert len(door.refused) == 1


async def test_one_that_hangs_up_in_the_handshake_is_told_of(tmp_path: Path) -> None:
    folder, identity = Folder(tmp_path), self_signed("alice.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.cert(identity), folder.key(identity))
    async with opened(context=context) as (door, where):
        socket.create_connection(where).close()
        await until(lambda: door.refused)
    assert door.refused == [f"{LOCAL}: it hung up during the TLS handshake"]


async def test_those_in_the_handshake_are_sent_away_at_the_end(tmp_path: Path) -> None:
    folder, identity = Folder(tmp_path), self_signed("alice.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.cert(identity), folder.key(identity))
    async with opened(context=context) as (door, where):
        with socket.create_connection(where):
            await until(lambda: len(door.admission))
            await door.acceptor.close()
            assert door.refused == [f"{LOCAL}: the pool is shut down"]


@pytest.mark.parametrize("turns", range(5))
async def test_one_that_calls_when_it_closes_is_for_the_one_that_follows(turns: int) -> None:
    """At whatever turn of the loop that is; a connection that nobody had any more would be told of as a warning, too."""
    with listening() as sock, sock.dup() as duplicate:
        first, second = Door(sock), Door(duplicate)
        first.acceptor.start()
        await asyncio.sleep(0)
        with socket.create_connection(sock.getsockname()):
            for _ in range(turns):
                await asyncio.sleep(0)
            await first.close()
            sock.close()
            second.acceptor.start()
            if not (first.greeted or first.refused):
                await until(lambda: second.greeted)
        await second.close()
        gc.collect()


# -- several at one socket -------------------------------------------------------------------------------------------------


async def test_a_connection_goes_to_the_one_that_is_meant_with_all_that_was_said() -> None:
    with listening() as sock:
        names: list[tuple[str, IPAddress]] = []
        there = Door(sock)
        there.acceptor._loop = asyncio.get_running_loop()

        def choose(name: str, address: IPAddress) -> Acceptor:
            names.append((name, address))
            return there.acceptor

        here = Door(sock, choose=choose)
        here.acceptor.start()
        with socket.create_connection(sock.getsockname()) as caller:
            caller.sendall(GET[:20])
            await asyncio.sleep(0.01)
            assert not there.greeted, "it has not said yet whom it means"
            caller.sendall(GET[20:])
            await until(lambda: there.greeted)
            assert names == [("alice.example", HERE)]
            await until(lambda: not here.admission)
            assert (here.refused, here.greeted) == ([], [])
        await there.close()
        await here.close()


async def test_one_that_means_this_one_stays() -> None:
    acceptors: list[Acceptor] = []
    async with opened(choose=lambda *_: acceptors[0]) as (door, where):
        acceptors.append(door.acceptor)
        with socket.create_connection(where) as caller:
            caller.sendall(GET)
            await until(lambda: door.greeted)


async def test_one_of_which_it_can_not_be_told_whom_it_means_is_refused() -> None:
    def choose(name: str, address: IPAddress) -> Acceptor:
        raise LookupError(f"there is no {name} here")

    async with opened(choose=choose) as (door, where):
        with socket.create_connection(where) as caller:
            caller.sendall(GET)
            await until(lambda: door.refused)
        socket.create_connection(where).close()
        await until(lambda: len(door.refused) == 2)
        assert not door.admission
    assert door.refused == [
        f"{LOCAL}: there is no alice.example here",
        f"{LOCAL}: it hung up before it said anything",
    ]


@contextlib.contextmanager
def stopped() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that something else computes on: it takes what it is told, and does nothing."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def said(callers: Iterable[socket.socket]) -> None:
    for caller in callers:
        caller.sendall(GET)


def is_over(caller: socket.socket) -> bool:
    caller.setblocking(False)
    try:
        return caller.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@contextlib.asynccontextmanager
async def handing_over(**options: Any) -> AsyncIterator[tuple[Door, Door, contextlib.ExitStack, socket.socket]]:
    """One that accepts for another one, whose loop stands still; what is to be closed in the end; and their socket."""
    with contextlib.ExitStack() as stack:
        sock, loop = stack.enter_context(listening()), stack.enter_context(stopped())
        there = Door(sock)
        there.acceptor._loop = loop
        here = Door(sock, choose=lambda *_: there.acceptor, **options)
        here.acceptor.start()
        yield here, there, stack, sock


@pytest.mark.parametrize("state", ["closed", "not started", "its loop is closed"])
async def test_one_that_does_not_run_takes_nothing(state: str) -> None:
    with listening() as sock:
        there = Door(sock)
        if state == "closed":
            there.acceptor.start()
            await there.acceptor.close()
        elif state == "its loop is closed":
            with stopped() as loop:
                there.acceptor._loop = loop
        here = Door(sock, choose=lambda *_: there.acceptor)
        here.acceptor.start()
        with socket.create_connection(sock.getsockname()) as caller:
            caller.sendall(GET)
            await until(lambda: is_over(caller))  # the caller tries again
        await until(lambda: not here.admission)
        assert (there.greeted, here.refused) == ([], [])
        await here.close()


async def test_callers_for_one_whose_loop_is_busy_keep_their_places() -> None:
    """However many call meanwhile: no more are there than places, and nothing is kept for those that had to go."""
    async with handing_over(places=4) as (here, there, stack, sock):
        callers = [stack.enter_context(socket.create_connection(sock.getsockname())) for _ in range(30)]
        said(callers)
        await until(lambda: sum(map(is_over, callers)) == 26)
        await until(lambda: len(there.acceptor._handed) == 4)
        assert len(here.admission) == 4
        assert "its event loop is busy" in here.refused[-1]
        assert not any(map(is_over, callers[26:]))
        # It goes on, on this loop in place of that one.
        there.acceptor._loop = asyncio.get_running_loop()
        there.acceptor._take_handed()
        await until(lambda: len(there.greeted) == 4)
        await until(lambda: not here.admission)
        assert not there.refused
        await there.close()
        await here.close()
        assert all(map(is_over, callers))


@pytest.mark.parametrize("which", ["the one that accepted", "the one that is meant"])
async def test_what_is_handed_over_and_not_taken_ends_with_either(which: str) -> None:
    async with handing_over() as (here, there, stack, sock):
        callers = [stack.enter_context(socket.create_connection(sock.getsockname())) for _ in range(3)]
        said(callers)
        await until(lambda: len(there.acceptor._handed) == 3)
        await (here if which == "the one that accepted" else there).close()
        await until(lambda: all(map(is_over, callers)))
        await until(lambda: not here.admission)
        assert not there.acceptor._handed
        assert not there.greeted
        await here.close()


async def test_what_was_taken_is_not_refused_by_the_one_that_accepted() -> None:
    """Also where that one has not heard of it yet, and needs the place."""
    async with handing_over() as (here, there, stack, sock):
        caller = stack.enter_context(socket.create_connection(sock.getsockname()))
        caller.sendall(GET)
        await until(lambda: there.acceptor._handed)
        there.acceptor._take_handed()
        here.admission.close()
        await until(lambda: there.greeted)
        assert (here.refused, there.refused) == ([], [])
        assert not is_over(caller)
        await here.close()
        await there.close()


# -- what goes wrong -------------------------------------------------------------------------------------------------------


async def test_a_system_without_handles_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(caplog)
    monkeypatch.setattr(module, "_OUT_OF_HANDLES", 0.001)
    failures = iter([OSError(errno.EMFILE, "too many open files")])
    with listening() as sock:
        door = Door(sock)
        next_caller = module._next_caller

        async def fails_once(sock: socket.socket) -> tuple[socket.socket, tuple[object, ...]]:
            for failure in failures:
                raise failure
            return await next_caller(sock)

        monkeypatch.setattr(module, "_next_caller", fails_once)
        door.acceptor.start()
        await log.seen("can't accept a connection")
        with socket.create_connection(sock.getsockname()):
            await until(lambda: door.greeted)
        await door.close()


class Changed:
    """Something, with other attributes in some places."""

    def __init__(self, original: object, **changes: object) -> None:
        self._original = original
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@pytest.mark.skipif(sys.platform == "win32", reason="its loop tells of no sockets that are ready")
async def test_one_that_ends_when_its_socket_is_closed_leaves_another_at_that_descriptor_alone() -> None:
    loop = asyncio.get_running_loop()
    door = Door(sock := listening())
    door.acceptor.start()
    await asyncio.sleep(0)
    descriptor = sock.fileno()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.remove_reader(descriptor)
        sock.close()
        os.dup2(ours.fileno(), descriptor)
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        await door.acceptor.close()
        theirs.send(b"!")
        await asyncio.wait_for(readable.wait(), 50 * UNIT)
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_what_fails_in_a_protocol_is_logged_and_its_place_is_free(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with opened() as (door, where):

        def broken(pending: PendingConnection) -> asyncio.Protocol:
            raise ZeroDivisionError("broken")

        door.acceptor._protocol = broken
        with socket.create_connection(where):
            line = await log.seen("accepting a connection failed", logging.ERROR)
            assert line
            assert not door.admission


async def test_one_that_hands_its_socket_over_leaves_it_listening() -> None:
    with listening() as sock:
        first = Door(sock)
        first.acceptor.start()
        await first.acceptor.close()
        second = Door(sock)
        second.acceptor.start()
        with socket.create_connection(sock.getsockname()):
            await until(lambda: second.greeted)
        await second.close()
