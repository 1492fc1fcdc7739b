"""Accepting connections, and beginning TLS on them if it is used. How many there may be is decided before TLS costs anything.

``loop.create_server`` would start a handshake for every connection, at some 300 KB each. And it would not tell a caller
why its handshake failed: asyncio drops the alert.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from mpccomm.address import IPAddress, of_socket
from mpccomm.logs import EventLog, LogEvent
from mpccomm.transport.admission import Admission, PendingConnection
from mpccomm.transport.client_hello import MOST, IncompleteError, asked_for
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.stream import CLOSE_TIMEOUT
from mpccomm.transport.tls import judge, send_alert

log = EventLog()

_OUT_OF_HANDLES = 0.5
"""Seconds until the next attempt, where the system has no file handle left for a connection."""
_MORE = 0.02
"""Seconds until the next look at what a caller has said, where it was not all."""
_BUSY = "the pool at this port that it is for has not taken it: its event loop is busy"


class Acceptor:
    """Accepts connections at one socket until it is closed. ``refused`` is told who was sent away, and why.

    :param choose: where several accept at one socket: whose a connection is, by the host name that its caller asks for and the
        address that it comes from; None: there is nothing to choose
    """

    def __init__(
        self,
        sock: socket.socket,
        room: Admission,
        protocol: Callable[[PendingConnection], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext | None],
        handshake_time: float,
        refused: Callable[[IPAddress, str], None],
        choose: Choice | None = None,
    ) -> None:
        self._socket = sock
        self._admission = room
        self._protocol = protocol
        self._context = context
        self._handshake_time = handshake_time
        self._refused = refused
        self._choose = choose
        self.log_throttle = LogThrottle(log)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._closing = False
        self._handed: dict[_Handshake, socket.socket] = {}
        """What other acceptors have for this one, until its loop takes it. Each step with it is one that no thread can divide."""
        self._woken = False
        """Whether the loop has been told that there is something."""

    def start(self) -> None:
        """Begin to accept."""
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())

    def take(self, caller: _Handshake, sock: socket.socket) -> None:
        """Take a connection that another acceptor has accepted at the same socket, as soon as the loop gets to it.

        Any thread may call. Until the caller is told that it is taken, it keeps its place there, and can be withdrawn.
        """
        self._handed[caller] = sock
        loop = self._loop
        try:
            if self._closing or loop is None or loop.is_closed():
                raise RuntimeError("not to be reached")
            # One word to the loop for all: a busy one would keep those for callers that were withdrawn long ago.
            if not self._woken:
                self._woken = True
                loop.call_soon_threadsafe(self._take_handed)
        except RuntimeError:
            # Its loop does not run yet, or not any more: the caller tries again.
            if self.withdraw(caller) is not None:
                sock.close()
                caller.be_taken()

    def withdraw(self, caller: _Handshake) -> socket.socket | None:
        """Return the connection of a caller, which is not to be taken any more. None: it has been. Any thread may call."""
        return self._handed.pop(caller, None)

    def _take_handed(self) -> None:
        self._woken = False
        taken = []
        with suppress(KeyError):
            while True:
                taken.append(self._handed.popitem())
        for caller, sock in reversed(taken):
            if self._closing:
                sock.close()
            else:
                self._admit(_Handshake(self, sock, caller.address, chosen=True))
            caller.be_taken()

    async def _accept(self) -> None:
        while True:
            try:
                sock, where = await _next_caller(self._socket)
            except OSError as error:
                self.log_throttle.log(f"can't accept a connection: {error}", LogEvent.ACCEPT_FAILED)
                await asyncio.sleep(_OUT_OF_HANDLES)
                continue
            self._admit(_Handshake(self, sock, of_socket(where)))
            # Many callers at once must not keep the loop from everything else.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Accept no more callers, and drop those that are not known yet."""
        self._closing = True
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait((self._accepting,))
        self._take_handed()
        self._admission.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _admit(self, handshake: _Handshake) -> None:
        pending = handshake.pending = self._admission.enter(handshake.address, handshake.drop)
        task = asyncio.get_running_loop().create_task(handshake.run(pending))
        handshake.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(handshake.done)


class Choice(Protocol):
    """What knows all pools that accept at one socket."""

    def __call__(self, name: str, address: IPAddress) -> Acceptor:
        """Return the one that a caller means, by the host name that it asks for (empty: none) and where it calls from.

        :raises LookupError: it can't be told; the text says why
        """


class Sharing(Protocol):
    """The part that a pool has in a port of several."""

    acceptor: Acceptor | None
    """What takes the pool's connections, once it runs."""

    def parties_at(self, address: IPAddress) -> int:
        """Return how many parties call from there, of all pools: any of them may accept a connection."""

    def choose(self, name: str, address: IPAddress) -> Acceptor:
        """Return whose a connection is, as a `Choice`."""

    def leave(self) -> None:
        """Leave the shared port."""


class _Handshake:
    """The steps from a bare socket to a protocol that reads from it."""

    def __init__(self, listener: Acceptor, sock: socket.socket, address: IPAddress, *, chosen: bool = False) -> None:
        self.address = address
        self._chosen = chosen
        self.pending: PendingConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self._listener = listener
        self._socket: socket.socket | None = sock
        self._spare: socket.socket | None = None
        self._meant: Acceptor | None = None
        """Whom it was handed to."""
        self._taken: asyncio.Future[None] | None = None

    async def run(self, pending: PendingConnection) -> None:
        listener = self._listener
        choose = None if self._chosen else listener._choose
        if choose is not None and not await self._is_ours(choose, pending):
            return
        context = listener._context()
        sock = self._socket
        assert sock is not None
        if context is not None:
            self._spare = sock.dup()
        times = {"ssl_handshake_timeout": listener._handshake_time, "ssl_shutdown_timeout": CLOSE_TIMEOUT}
        try:
            protocol = listener._protocol(pending)
            # From here on the loop closes it.
            self._socket = None
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, sock, ssl=context, **(times if context else {})
            )
            # The class can't be asked for: those of uvloop have nothing in common with those of asyncio.
            pending.transport = cast(asyncio.WriteTransport, transport)
        except (OSError, TimeoutError) as error:
            if pending.end():
                self._explain(error)
        except BaseException:
            pending.end()
            raise

    async def _is_ours(self, choose: Choice, pending: PendingConnection) -> bool:
        """Return whether the caller means this one; otherwise the connection is handed on, or ended."""
        sock = self._socket
        assert sock is not None
        try:
            meant = choose(await _peek(sock), self.address)
        except (LookupError, ConnectionError) as error:
            if pending.end():
                self._listener._refused(self.address, str(error))
            return False
        if meant is self._listener:
            return True
        # The loop of the other pool may be busy for long. Until it takes the connection, its caller keeps its place here.
        self._taken = asyncio.get_running_loop().create_future()
        self._meant, self._socket = meant, None
        meant.take(self, sock)
        await self._taken
        pending.end()
        return False

    def be_taken(self) -> None:
        """Note that the pool that is meant has taken the connection, or does not want it. Any thread may call."""
        assert self._taken is not None
        with suppress(RuntimeError):  # the loop is closed, and nothing waits there any more
            self._taken.get_loop().call_soon_threadsafe(self._note_taken, self._taken)

    @staticmethod
    def _note_taken(taken: asyncio.Future[None]) -> None:
        if not taken.done():
            taken.set_result(None)

    def _withdraw(self) -> None:
        """Have the connection back if the pool that is meant has not taken it."""
        if self._meant is not None and self._socket is None:
            self._socket = self._meant.withdraw(self)

    def _explain(self, error: Exception) -> None:
        verdict = judge(error)
        if self._spare is not None:
            send_alert(self._spare, error)
        self._listener._refused(self.address, verdict.advice if verdict else "it hung up during the TLS handshake")

    def drop(self, reason: str) -> None:
        """End the connection, at whichever step it is; what another pool has taken meanwhile is that one's."""
        self._withdraw()
        if self._meant is None:
            self._listener._refused(self.address, reason)
        elif self._socket is not None:
            self._listener._refused(self.address, f"{reason} ({_BUSY})")
        if self.pending is not None and self.pending.transport is not None:
            # Also where the task has not heard of it yet: cancelled now, uvloop would close the socket and not tell the protocol,
            # which would wait for ever.
            self.pending.transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def done(self, task: asyncio.Task[None]) -> None:
        """Clean up, when the task has ended or was cancelled before it began."""
        self._withdraw()
        for sock in (self._socket, self._spare):
            if sock is not None:
                sock.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._listener.log_throttle.failure("accepting a connection failed", error)


async def _next_caller(listening: socket.socket) -> tuple[socket.socket, tuple[object, ...]]:
    """Return the next connection, and where it comes from. Nothing is accepted where the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        return await loop.sock_accept(listening)  # its loop tells of no sockets that are ready
    # Not the loop's sock_accept: what that has accepted when the waiting for it is cancelled is lost. And to shut the socket
    # down instead would also end what a duplicate of it is for: Linux then takes away the port if the system had chosen it.
    while True:
        try:
            sock, where = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            await _readable(loop, listening)
        else:
            sock.setblocking(False)
            return sock, where


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    descriptor = sock.fileno()
    loop.add_reader(descriptor, tell)
    try:
        await ready
    finally:
        # It may be closed already, and its descriptor belong to another socket.
        if sock.fileno() == descriptor:
            loop.remove_reader(descriptor)


async def _peek(sock: socket.socket) -> str:
    """Return the host name that a caller asks for, leaving all that it has sent in the socket."""
    while True:
        try:
            said = sock.recv(MOST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            said = None
        if said == b"":
            raise ConnectionError("it hung up before it said anything")
        try:
            return asked_for(said or b"")
        except IncompleteError:
            # The loop is not asked for readiness: the bytes that are left in the socket would wake it again and again.
            await asyncio.sleep(_MORE if said else _MORE / 4)
