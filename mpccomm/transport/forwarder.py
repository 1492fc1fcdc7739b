"""Emulated lines between processes of one machine: real connections, forwarded byte by byte, but late and in good order.

A party that wants to reach another one dials the forwarder instead, which dials the other and then passes on what either says,
as `Line` has it. It needs no rights and reads nothing: TLS is between the parties.

    python -m mpccomm.transport.forwarder < routes.json

What stands in for what on a real line:

* A connection is usable after a round trip, and the one that is dialled sees it after half of that.
* A line takes in no more than it sends in 20 ms (`QUEUE`). What is beyond that stays with the sender, whose writes then wait.
* A line that breaks resets all its connections, at both ends.

Not emulated: lost packets (TCP repeats them, which looks like jitter), and the slow start of TCP on a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import math
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from select import select
from typing import Any, Self

from mpccomm.line import QUEUE, SEGMENT, Direction, Line
from mpccomm.transport.pace import drop_at_close

_WINDOW = 16 * 1024 * 1024
"""Bytes of one connection that are on their way at once, at least."""
_SMALL_BUFFER, _LARGE_BUFFER = 16 * 1024, 1024 * 1024
"""The least that the system is told to keep of what a line hasn't taken in yet, and from where on it is not told."""
_SEED = 0
_PAUSE = 0.1
"""Seconds until the next attempt to accept a caller, where one has failed."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way from one party to another."""

    line: int
    """Which line; two routes, there and back, have the same one."""
    forth: bool
    """In which direction of it."""
    listen: tuple[str, int]
    """Where the one that dials finds the other; port 0: any that is free."""
    source: str
    """The address from which the other one is dialled."""
    target: tuple[str, int]
    """Where the other one listens."""


def description(lines: Sequence[Line], routes: Sequence[Route]) -> str:
    """Return what a forwarder has to know, as `main` reads it."""
    described = [asdict(line) | {"rate": line.rate if line.rate < math.inf else None} for line in lines]
    return json.dumps({"lines": described, "routes": [asdict(route) for route in routes]})


def _read(text: str) -> tuple[list[Line], list[Route]]:
    data: Mapping[str, Any] = json.loads(text)
    lines = [Line(**one | {"rate": one["rate"] or math.inf}) for one in data["lines"]]
    return lines, [
        Route(**one | {"listen": tuple(one["listen"]), "target": tuple(one["target"])}) for one in data["routes"]
    ]


# -- time --------------------------------------------------------------------------------------------------------------


class _PreciseSelector(selectors.DefaultSelector):
    """Waits for microseconds, where epoll and with it asyncio know milliseconds only."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what is registered, or a part of the time: the loop then asks again."""
        if timeout is not None and 0 < timeout < _LONG_WAIT and hasattr(self, "fileno"):
            # The longer a wait, the later Linux lets it end; so what matters is a short one.
            select([self.fileno()], [], [], timeout - _SHORT_WAIT if timeout > 2 * _SHORT_WAIT else timeout)
            timeout = 0
        return super().select(timeout)


_SHORT_WAIT, _LONG_WAIT = 0.001, 1.0
_PR_SET_TIMERSLACK, _MICROSECOND = 29, 1000


def _be_punctual() -> None:
    """Ask Linux not to put off the end of a wait, by 50 microseconds as it is, in order to save power."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _MICROSECOND, 0, 0, 0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are as exact as the system allows."""
    return asyncio.SelectorEventLoop(_PreciseSelector())


# -- lines and connections ---------------------------------------------------------------------------------------------


class _SharedLine:
    """A line with the connections on it."""

    def __init__(self, line: Line, number: int) -> None:
        self.line = line
        random = Random(f"{_SEED} {number}")
        self.directions = Direction(line, random), Direction(line, random)
        """Back and forth."""
        self.connections: set[_Connection] = set()
        self._random = random

    async def break_now_and_then(self) -> None:
        """Reset all connections as often as the line says."""
        while True:
            await asyncio.sleep(self._random.expovariate(self.line.loss_of_connection))
            for connection in list(self.connections):
                connection.reset()


class Forwarder:
    """Listens at the beginning of every route.

    :raises OSError: a route can't begin or end at its address
    """

    def __init__(self, lines: Sequence[Line], routes: Sequence[Route]) -> None:
        self._lines = [_SharedLine(line, number) for number, line in enumerate(lines)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: set[asyncio.TimerHandle] = set()
        """The timers after which listening goes on."""
        self._sockets: list[tuple[Route, socket.socket]] = []
        with contextlib.ExitStack() as bound:
            for route in routes:
                sock = bound.enter_context(_bound(*route.listen))
                _bound(route.source, 0).close()
                _limit(sock, self._lines[route.line].line)
                sock.listen(128)
                self._sockets.append((route, sock))
            bound.pop_all()

    @property
    def ports(self) -> list[int]:
        """Where each route begins."""
        return [sock.getsockname()[1] for _, sock in self._sockets]

    async def __aenter__(self) -> Self:
        for route, sock in self._sockets:
            self._listen(route, sock)
        for line in self._lines:
            if line.line.loss_of_connection:
                self._start(line.break_now_and_then())
        return self

    async def __aexit__(self, *exception: object) -> None:
        loop = asyncio.get_running_loop()
        for paused in self._paused:
            paused.cancel()
        for _, sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self._lines:
            for connection in list(line.connections):
                connection.reset()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _listen(self, route: Route, sock: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(sock, self._accept, route, sock)

    def _accept(self, route: Route, sock: socket.socket) -> None:
        # Not `sock_accept`: cancelled, it can lose a connection that it has just accepted.
        loop = asyncio.get_running_loop()
        try:
            caller, _ = sock.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # out of file handles, or the caller has gone
            loop.remove_reader(sock)
            self._paused = {paused for paused in self._paused if paused.when() > loop.time()}
            self._paused.add(loop.call_later(_PAUSE, self._listen, route, sock))
            return
        caller.setblocking(False)
        connecting = self._start(self._connect(route, caller, loop.time()))
        # Also where it is cancelled before it has begun.
        connecting.add_done_callback(lambda task: _reset(caller) if task.cancelled() else None)

    async def _connect(self, route: Route, caller: socket.socket, now: float) -> None:
        line = self._lines[route.line]
        back, forth = line.directions if route.forth else reversed(line.directions)
        there = now + forth.travel()
        usable = there + back.travel()
        await _until(there)
        try:
            callee = await self._dial(route, line.line)
        except OSError:
            await _until(usable)
            _reset(caller)
            return
        _Connection(line, (caller, callee), (forth, back), usable).start()

    async def _dial(self, route: Route, line: Line) -> socket.socket:
        callee = _bound(route.source, 0)
        try:
            _limit(callee, line)
            await asyncio.get_running_loop().sock_connect(callee, route.target)
        except BaseException:
            callee.close()
            raise
        return callee


async def _until(when: float) -> None:
    await asyncio.sleep(max(when - asyncio.get_running_loop().time(), 0))


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if port and sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _limit(sock: socket.socket, line: Line) -> None:
    """Have the system take in no more than the queue of the line, about, of what is sent to this end."""
    if (size := line.rate * QUEUE) < _LARGE_BUFFER:
        # Packets as of Ethernet: loopback's, of 64 KiB, don't fit into a small buffer, and TCP then waits.
        if hasattr(socket, "TCP_MAXSEG"):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(int(size), _SMALL_BUFFER))


def _reset(sock: socket.socket) -> None:
    drop_at_close(sock)
    sock.close()


class _Connection:
    """Two sockets, and a stream either way between them."""

    def __init__(
        self,
        line: _SharedLine,
        ends: tuple[socket.socket, socket.socket],
        directions: tuple[Direction, Direction],
        usable: float,
    ) -> None:
        self._line = line
        self._ends = ends
        for sock in ends:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        caller, callee = ends
        self._streams = (
            _Stream(loop, caller, callee, directions[0], self._over),
            _Stream(loop, callee, caller, directions[1], self._over),
        )
        self._usable = usable

    def start(self) -> None:
        """Begin to pass on: what the caller says from when it would know that it is connected."""
        self._line.connections.add(self)
        there, back = self._streams
        there.start(self._usable)
        back.start(0.0)

    def _over(self, orderly: bool) -> None:
        """Note that one stream has ended."""
        if not orderly or all(stream.ended for stream in self._streams):
            self._close(_reset if not orderly else socket.socket.close)

    def reset(self) -> None:
        """End it at once at both ends, as when a machine in between has forgotten it."""
        self._close(_reset)

    def _close(self, close: Callable[[socket.socket], None]) -> None:
        self._line.connections.discard(self)
        for stream in self._streams:
            stream.stop()
        for sock in self._ends:
            close(sock)


_END, _BROKEN = True, False
"""In place of bytes: the sender has closed its direction, or has reset the connection."""


class _Stream:
    """One direction of a connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
        over: Callable[[bool], None],
    ) -> None:
        self.ended = False
        self._loop = loop
        self._source = source
        self._sink = sink
        self._direction = direction
        self._over = over
        self._chunk = direction.chunk
        rate = direction.line.rate
        needed = 0 if rate == math.inf else int(rate * (direction.line.rtt + 2 * QUEUE)) + 2 * self._chunk
        self._window = max(_WINDOW, needed)
        self._under_way: deque[tuple[float, memoryview | bool]] = deque()
        self._size = 0
        """Bytes of that."""
        self._latest = 0.0
        """When the last of that arrives."""
        self._timer: asyncio.TimerHandle | None = None
        """For the next arrival."""
        self._pause: asyncio.TimerHandle | None = None
        """Until the line takes in something again."""
        self._reading = False
        self._writing = False
        self._heard_all = False
        """The source says nothing any more; that may still be under way."""
        self._stopped = False

    def start(self, when: float) -> None:
        """Read from the source, not before that time."""
        self._pause = self._loop.call_at(when, self._resume)

    def stop(self) -> None:
        """Stop passing on."""
        self._stopped = self.ended = True
        for handle in (self._timer, self._pause):
            if handle is not None:
                handle.cancel()
        self._hold()
        if self._writing:
            self._loop.remove_writer(self._sink)
        self._under_way.clear()

    def _resume(self) -> None:
        self._pause = None
        if not self._reading and not self._stopped:
            self._reading = True
            self._loop.add_reader(self._source, self._read)

    def _hold(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._source)

    def _read(self) -> None:
        now = time.monotonic()
        if hold := self._direction.hold(now):
            self._hold()
            self._pause = self._loop.call_at(now + hold, self._resume)
            return
        if self._size >= self._window:
            self._hold()  # until something has arrived
            return
        what: bytes | bool
        try:
            what = self._source.recv(self._chunk) or _END
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            what = _BROKEN
        if isinstance(what, bool):
            self._hold()
            self._heard_all = True
            due = self._direction.send(0, now)
        else:
            due = self._direction.send(len(what), now)
            self._size += len(what)
        self._latest = max(self._latest, due)
        self._under_way.append((self._latest, what if isinstance(what, bool) else memoryview(what)))
        if self._timer is None and not self._writing:
            self._timer = self._loop.call_at(self._latest, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        under_way = self._under_way
        while under_way and not self._stopped:
            due, what = under_way[0]
            if due > time.monotonic():
                self._timer = self._loop.call_at(due, self._arrive)
                break
            if isinstance(what, bool):
                under_way.popleft()
                self._finish(what)
                return
            if (rest := self._send(what)) is None:
                return
            if len(rest):
                under_way[0] = due, rest
                self._writing = True
                self._loop.add_writer(self._sink, self._writable)
                break
            under_way.popleft()
        if self._size < self._window and self._pause is None and not self._heard_all:
            self._resume()

    def _send(self, what: memoryview) -> memoryview | None:
        """Return what the receiver has no room for; None: it is gone."""
        try:
            sent = self._sink.send(what)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            # Reading from it will tell as well, but that takes its time to come back.
            self._over(False)
            return None
        self._size -= sent
        return what[sent:]

    def _writable(self) -> None:
        self._writing = False
        self._loop.remove_writer(self._sink)
        self._arrive()

    def _finish(self, orderly: bool) -> None:
        self.ended = True
        if orderly:
            try:
                self._sink.shutdown(socket.SHUT_WR)
            except OSError as error:
                orderly = error.errno == errno.ENOTCONN
        self._over(orderly)


# -- the process -------------------------------------------------------------------------------------------------------


async def _serve(lines: Sequence[Line], routes: Sequence[Route]) -> None:
    async with Forwarder(lines, routes) as forwarder:
        _say(forwarder.ports)
        await asyncio.to_thread(sys.stdin.read)


def _say(what: list[int] | str) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Forward what the first line of standard input describes, until standard input ends; say at which ports, or why not."""
    _be_punctual()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(*_read(sys.stdin.readline())))
    except OSError as error:
        _say(str(error))


if __name__ == "__main__":
    main()
