"""The pace of a connection: how fast it moves what is sent. Sizes of batches and time limits follow from it.

On a slow line little is sent at a time. Whatever waits in the buffers of the system can't be overtaken any more by something
urgent; and where a connection breaks, a frame that takes a minute has to begin anew.

The system is told to take little. It heeds that where it says whether it wants more, and where it begins another packet, which
may have 64 KiB before it is cut: to one that waits it adds whatever it is given. So it is asked, and not just tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable

_LEAST = 4 * 1024
_FIRST = 16 * 1024
_MOST = 256 * 1024
_SECONDS = 1.0
"""Seconds. As much is sent at once as the line moves in this time."""
_SHORT = 0.05
"""Seconds. In less time nothing can be measured, but whether the line is a fast one."""
_RESET = struct.pack("ii", 1, 0)
_BYTES = struct.Struct("i")
_RECORD = 32
"""Bytes of TLS for one that comes out of it, at most: a record of one byte, by any cipher."""
_BUFFERED = 1024 * 1024
"""Bytes of TLS of which nothing needs to have come out: asyncio holds half of that at most, and no handshake has as many."""
_NEAR = 50
"""Microseconds from here to the other end and back: less than that is hardly found between two machines."""
_ARRIVED = 128 * 1024
"""What the system may hold then of what arrived. On one machine a sender is faster than what reads there, and the system would
hold megabytes, which nothing urgent can overtake. So short a line moves gigabytes a second with this; longer ones need more."""
_ROUND_TRIP = struct.Struct("68xI")
"""In Linux's `tcp_info`: smoothed, in microseconds."""
_RECEIVED = struct.Struct("128xQ")
"""In Linux's `tcp_info`: bytes."""
_SIOCOUTQ = 0x5411
"""Asks Linux how much of what was sent the other end has not acknowledged."""
_SIOCOUTQNSD = 0x894B
"""Asks Linux how much of what was written it has not sent."""
_SIOCINQ = 0x541B
"""Asks Linux how much of what has arrived was not read."""


def waiting(transport: asyncio.WriteTransport, sock: socket.socket | None) -> int:
    """Return how many bytes were written to a transport that have not got through, as far as the system tells.

    :param sock: that of the transport
    """
    return transport.get_write_buffer_size() + _unacknowledged(sock)


def unsent(sock: socket.socket | None) -> int:
    """Return how many bytes the system has taken and not sent, not even once, as far as it tells; otherwise 0."""
    return 0 if sock is None or sys.platform != "linux" else _ask(sock, _SIOCOUTQNSD)


def hold_little(sock: socket.socket | None, size: int) -> None:
    """Have the system take no more than about that many bytes beyond what it has sent, where it can be told."""
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError, ValueError):  # it is closed, perhaps by the other side a moment ago
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)


def drop_at_close(sock: socket.socket | None) -> None:
    """Have the system reset the connection when it is closed, and throw away what it has not sent by then."""
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # as above
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def read_from(sock: socket.socket | None) -> int:
    """Return how many bytes have been read from a connection since it was made, as far as the system tells; otherwise 0."""
    if sock is None or sys.platform != "linux":
        return 0
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
    except (OSError, ValueError):  # as above, or it is no TCP
        return 0
    return int(_RECEIVED.unpack(told)[0]) - _ask(sock, _SIOCINQ) if len(told) == _RECEIVED.size else 0


def _unacknowledged(sock: socket.socket | None) -> int:
    return 0 if sock is None or sys.platform != "linux" else _ask(sock, _SIOCOUTQ)


def _ask(sock: socket.socket, what: int) -> int:
    import fcntl  # there is none on Windows

    try:
        return int(_BYTES.unpack(fcntl.ioctl(sock.fileno(), what, bytes(_BYTES.size)))[0])
    except (OSError, ValueError):
        return 0


class Room:
    """Tells when the system wants more than it was given.

    A transport waits for that only while it has something left itself, and neither loop lets others wait with its socket: so
    they wait with a duplicate, which lasts no longer than that.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket | None) -> None:
        self._loop = loop
        self._socket = sock
        self._watched: socket.socket | None = None

    def tell(self, function: Callable[[], object]) -> bool:
        """Have it called when there is room; it has to call `stop`. Return whether that can be told."""
        self.stop()
        sock = self._socket
        if sock is None:
            return False
        try:
            watched = socket.fromfd(sock.fileno(), sock.family, sock.type)
        except (OSError, ValueError):  # it is closed, or there are too many files
            return False
        self._loop.add_writer(watched, function)
        self._watched = watched
        return True

    @property
    def awaited(self) -> bool:
        """Whether it is still to be told."""
        return self._watched is not None

    def stop(self) -> None:
        """Tell nothing any more."""
        watched, self._watched = self._watched, None
        if watched is not None:
            if not self._loop.is_closed():
                self._loop.remove_writer(watched)
            watched.close()


class Yield:
    """What TLS makes of the bytes of a connection: little, where the other end sends records that carry nothing.

    Nothing else sees those. They cost us some 16 us each, and no limit of TLS is on their number.
    """

    def __init__(self, sock: socket.socket | None) -> None:
        self._socket = sock
        self._read = read_from(sock)
        self._taken = 0
        self._idle = 0
        self.partial = False
        """Whether something had arrived when this was asked last, and nothing had come out since the time before that."""

    def is_low(self, taken: int) -> bool:
        """Return whether that is little, for the number of bytes that have come out of it until now."""
        read = read_from(self._socket)
        self.partial = read > self._read and taken == self._taken
        self._idle = max(self._idle + read - self._read - _RECORD * (taken - self._taken), 0)
        self._read, self._taken = read, taken
        return self._idle > _BUFFERED


class Pace:
    """How fast one transport moves what was written to it."""

    def __init__(self, transport: asyncio.WriteTransport, clock: Callable[[], float], room: Room) -> None:
        self.budget = _FIRST
        """Bytes to send at a time."""
        self.mark = 0
        """Bytes since the beginning: what is sent beyond them is looked at."""
        self._room = room
        self._transport = transport
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self._yield = Yield(self._socket)
        self._clock = clock
        self._looked = clock()
        self._paused: float | None = None
        self._waiting = 0
        self._freely = False
        self.written = self.taken = 0
        """Bytes that were sent, and that have arrived, since the beginning."""
        self._through = 0
        self._rest: float | None = None
        self._told = 0
        self._tell()
        self._bound_arrivals()

    def sent(self, size: int) -> int:
        """Take the number of bytes that are about to be sent. Returns the budget for the next ones."""
        self.written += size
        if size * 2 > self.budget:
            if self._freely and self.budget < _MOST and self.waiting() <= self.budget // 2:
                # The last batch was taken at once, and is there: the system alone takes much for a slow line as well.
                self._set(self.budget * 2)
            self._freely = True
        return self.budget

    def hold_back(self, go_on: Callable[[], object]) -> bool:
        """Pause if the system wants nothing more for now, though it would take it; ``go_on`` is called when it does.

        Return whether that is so; on a fast line it is not asked.
        """
        # By the same measure it says when it wants more.
        if self.budget >= _MOST or unsent(self._socket) * 2 < self._told or not self._room.tell(go_on):
            return False
        self._pause()
        return True

    @property
    def holds_back(self) -> bool:
        """Whether it is the system that is waited for, and not the transport."""
        return self._room.awaited

    def pause(self) -> None:
        """Note that the transport did not take all that was sent. From now on it tells when to go on."""
        self._room.stop()
        self._pause()

    def end(self) -> None:
        """Wait for nothing any more."""
        self._room.stop()

    def _pause(self) -> None:
        self._freely = False
        self._paused = self._clock()
        self._waiting = self.waiting()

    def resume(self) -> None:
        """Measure from now on: sending continues."""
        self._room.stop()
        self.mark = 0
        if self._paused is None:
            return
        seconds = self._clock() - self._paused
        self._paused = None
        # What the system has taken meanwhile does not count: it takes more as soon as it may.
        moved = self._waiting - self.waiting()
        if seconds < _SHORT:
            if moved >= self.budget // 2:
                self._set(self.budget * 2)
        elif moved > 0:
            self._set(min(int(moved / seconds * _SECONDS), self.budget * 2))

    def look(self, within: float) -> float | None:
        """Return the seconds that the rest takes, if something got through since the last time, and there is a rest; or None.

        Asked twice in a short time, as by two that look now and then, it gives the same answer.

        :param within: for no longer than these seconds something was on its way
        """
        now = self._clock()
        if now - self._looked >= _SHORT:
            waiting = self.waiting()
            through = self.written - waiting
            moved, seconds = through - self._through, min(now - self._looked, within)
            self._through, self._looked = through, now
            self._rest = waiting * seconds / moved if moved > 0 and waiting > 0 else None
        return self._rest

    def is_barren(self, under_way: int) -> bool:
        """Return whether much has arrived of which little came out.

        :param under_way: bytes that came out, and are not ``taken`` yet
        """
        return self._yield.is_low(self.taken + under_way)

    @property
    def arrives_in_part(self) -> bool:
        """Whether a part of a record of TLS had arrived when `is_barren` was asked last, and nothing else."""
        return self._yield.partial

    def waiting(self) -> int:
        """Return how many bytes were written that have not got through, as far as the system tells."""
        return waiting(self._transport, self._socket)

    def _set(self, budget: int) -> None:
        self.budget = min(max(budget, _LEAST), _MOST)
        if not self._told / 2 < self.budget < self._told * 2:
            self._tell()

    def _tell(self) -> None:
        """Have the system take little beyond what it has sent, where it can be told."""
        self._told = self.budget
        hold_little(self._socket, self.budget)

    def _bound_arrivals(self) -> None:
        """Have the system hold little that arrived and was not read, if the other end is that near."""
        if self._socket is None or sys.platform != "linux":
            return
        with contextlib.suppress(OSError, ValueError):  # as above, or it is no TCP
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP.size)
            if 0 < _ROUND_TRIP.unpack(told)[0] < _NEAR:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ARRIVED)
