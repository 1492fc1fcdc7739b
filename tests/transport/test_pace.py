"""How much is sent at a time, on lines of all speeds: a clock and a transport played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import cast

import pytest

from mpccomm.sync.loop_thread import new_event_loop
from mpccomm.transport.pace import (
    _ARRIVED,
    _BUFFERED,
    _NEAR,
    _RECORD,
    _ROUND_TRIP,
    Pace,
    Room,
    Yield,
    hold_little,
    read_from,
    unsent,
)
from tests.timing import UNIT

KiB = 1024
LIMIT = 100 * UNIT
LEAST, FIRST, MOST = 4 * KiB, 16 * KiB, 256 * KiB


class Line:
    """A clock, and a transport that holds what the line has not moved yet."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.now = 0.0
        self.waiting = 0
        self._socket = sock
        self.pace = Pace(
            cast(asyncio.WriteTransport, self), lambda: self.now, Room(cast(asyncio.AbstractEventLoop, None), None)
        )

    def get_extra_info(self, name: str) -> socket.socket | None:
        assert name == "socket"
        return self._socket

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def held_up(self, waiting: int, seconds: float) -> None:
        """Not all was taken; it was after some time."""
        self.waiting = waiting
        self.pace.pause()
        self.now += seconds
        self.waiting = 0
        self.pace.resume()


def test_what_is_taken_at_once_doubles_what_is_sent_up_to_a_bound() -> None:
    line = Line()
    budgets = []
    for _ in range(7):
        line.pace.sent(line.pace.budget)
        budgets.append(line.pace.budget)
    assert budgets == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, MOST, MOST, MOST]


def test_what_the_system_has_taken_and_the_line_has_not_doubles_nothing() -> None:
    line = Line()
    line.pace.sent(FIRST)
    line.waiting = FIRST
    for _ in range(10):
        line.pace.sent(FIRST)
        assert line.pace.budget == FIRST
    line.waiting = FIRST // 2
    line.pace.sent(FIRST)
    assert line.pace.budget == 2 * FIRST


def test_what_the_system_takes_while_the_line_stands_still_is_no_measure() -> None:
    """It takes more as soon as batches are larger, and they would be larger for that."""
    line = Line()
    for seconds in (0.0, 0.001, 0.3):
        line.waiting = 50_000
        line.pace.pause()
        line.now += seconds
        line.pace.resume()
        assert line.pace.budget == FIRST


def test_small_messages_say_nothing_of_the_line() -> None:
    line = Line()
    for _ in range(100):
        line.pace.sent(FIRST // 2)
    assert line.pace.budget == FIRST


def test_a_slow_line_gets_what_it_moves_in_a_second_and_never_less_than_the_least() -> None:
    line = Line()
    line.held_up(20 * KiB, 2.0)
    assert line.pace.budget == 10 * KiB
    line.held_up(10 * KiB, 100.0)
    assert line.pace.budget == LEAST


def test_one_measurement_at_most_doubles_it() -> None:
    line = Line()
    line.held_up(1000 * KiB, 0.1)
    assert line.pace.budget == 2 * FIRST


def test_a_moment_is_too_short_to_measure_anything() -> None:
    line = Line()
    line.held_up(FIRST // 2 - 1, 0.01)
    assert line.pace.budget == FIRST
    line.held_up(FIRST // 2, 0.01)
    assert line.pace.budget == 2 * FIRST, "but it is a fast line where as much gets through"


def test_after_a_pause_one_that_was_taken_at_once_is_not_enough() -> None:
    line = Line()
    line.pace.sent(FIRST)
    line.held_up(FIRST, 1.0)
    assert line.pace.budget == FIRST
    line.pace.sent(FIRST)
    assert line.pace.budget == FIRST, "whether this one is taken at once is not known yet"
    line.pace.sent(FIRST)
    assert line.pace.budget == 2 * FIRST


def test_resumed_without_a_pause_nothing_changes() -> None:
    line = Line()
    line.pace.resume()
    assert line.pace.budget == FIRST
    line.held_up(8 * KiB, 1.0)
    line.now += 100.0
    line.pace.resume()
    assert line.pace.budget == 8 * KiB


def test_the_rest_takes_as_long_as_what_went_before() -> None:
    line = Line()
    line.pace.sent(100)
    line.waiting, line.now = 75, 5.0
    assert line.pace.look(10.0) == 75 * 5 / 25
    line.now = 7.0
    assert line.pace.look(10.0) is None, "nothing moved"
    line.waiting, line.now = 0, 8.0
    assert line.pace.look(10.0) is None, "nothing is left"


def test_what_went_before_took_no_longer_than_it_was_on_its_way() -> None:
    line = Line()
    line.now = 100.0
    line.pace.sent(100)
    line.waiting = 75
    assert line.pace.look(0.5) == 75 * 0.5 / 25


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the other end has not acknowledged")
def test_what_the_system_still_holds_is_not_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
        with ours, theirs:
            line = Line(ours)
            ours.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += ours.send(bytes(64 * KiB))
                except BlockingIOError:
                    break
            line.pace.sent(sent)
            line.now = 1.0
            left = line.pace.look(1.0)
            assert left is not None, "they don't read, and more was sent than they have room for"
            assert left > 0


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system can't be told")
def test_the_system_is_told_to_take_little_beyond_what_it_has_sent() -> None:
    with socket.socket() as sock:
        line = Line(sock)

        def told() -> int:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

        assert told() == FIRST
        line.held_up(8 * KiB + 1, 1.0)
        assert line.pace.budget == 8 * KiB + 1
        assert told() == FIRST, "not for every little change"
        line.held_up(8 * KiB, 1.0)
        assert told() == 8 * KiB


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        ours.setblocking(False)
        return ours, listening.accept()[0]


def fill(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(KiB))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much it has not sent")
def test_the_system_has_enough_while_half_of_what_it_was_told_to_take_is_unsent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pair()
    with ours, theirs:
        line = Line(ours)
        monkeypatch.setattr(Room, "tell", lambda room, function: True)
        assert not line.pace.hold_back(print)
        told = FIRST
        for held, enough in ((told // 2 - 1, False), (told // 2, True), (100 * told, True)):
            monkeypatch.setattr("mpccomm.transport.pace.unsent", lambda sock, held=held: held)
            assert line.pace.hold_back(print) == enough
            line.pace.resume()
        while line.pace.budget < MOST:
            line.pace.sent(line.pace.budget)
        assert not line.pace.hold_back(print), "a fast line isn't asked"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much it has not sent")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_event_loop], ids=["asyncio", "private"])
def test_room_is_told_of_where_a_transport_has_nothing_left(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        hold_little(ours, FIRST)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        sock = transport.get_extra_info("socket")
        with theirs:
            fill(ours)
            assert unsent(sock) * 2 >= FIRST
            room, told = Room(loop, sock), asyncio.Event()
            assert room.tell(told.set)
            assert room.tell(told.set), "the one before is forgotten"
            for _ in range(10):
                await asyncio.sleep(0)
            assert not told.is_set()
            theirs.setblocking(False)
            while not told.is_set():
                with contextlib.suppress(BlockingIOError):
                    theirs.recv(64 * KiB)
                await asyncio.sleep(0)
            assert unsent(sock) * 2 < FIRST
            room.stop()
            told.clear()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not told.is_set(), "it is told of once"
            transport.abort()
            with contextlib.suppress(ConnectionResetError):
                while await loop.sock_recv(theirs, 64 * KiB):
                    """Until the end: what was watched does not keep the connection."""

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), LIMIT))


def test_where_room_can_not_be_told_of() -> None:
    here, there = socket.socketpair()
    with there:
        here.close()
        with asyncio.Runner() as runner:
            for sock in (here, None):
                room = Room(runner.get_loop(), sock)
                assert not room.tell(lambda: None)
                room.stop()


class Socket:
    """One that says how far away the other end is, and notes what it is told to hold."""

    def __init__(self, round_trip: int) -> None:
        self.round_trip = round_trip
        self.held: int | None = None

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        return _ROUND_TRIP.pack(self.round_trip)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        if (level, name) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            self.held = value


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how far away the other end is")
@pytest.mark.parametrize(("round_trip", "held"), [(0, None), (1, _ARRIVED), (_NEAR - 1, _ARRIVED), (_NEAR, None)])
def test_where_the_other_end_is_near_little_that_arrived_waits_in_the_system(round_trip: int, held: int | None) -> None:
    sock = Socket(round_trip)
    Line(cast(socket.socket, sock))
    assert sock.held == held


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how far away the other end is")
def test_within_one_machine_the_other_end_is_near() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
        with ours, theirs:
            for one in (ours, theirs):
                Line(one)
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * _ARRIVED


# -- what TLS makes of it --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much was read")
def test_what_yields_little_is_told_from_what_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as there:
        here = server.accept()[0]
        with here:

            def arrive(size: int, *, read: bool = True) -> None:
                there.sendall(bytes(size))
                while read and size:
                    size -= len(here.recv(size))

            arrive(1000)
            barren = Yield(here)
            arrive(_BUFFERED // 2)
            arrive(10_000, read=False)
            assert read_from(here) == 1000 + _BUFFERED // 2
            assert not barren.is_low(0)
            assert barren.partial, "it may be a part of a record"
            assert here.recv(10_000, socket.MSG_WAITALL)
            arrive(_BUFFERED // 2)
            assert barren.is_low(0)
            assert not barren.is_low(_BUFFERED // _RECORD)
            assert not barren.partial, "something has come out"
            # What came out of it before does not count for what comes later.
            assert not barren.is_low(_BUFFERED * 10)
            arrive(_BUFFERED + 1)
            assert barren.is_low(_BUFFERED * 10)
        assert read_from(here) == 0


def test_where_the_system_does_not_tell_nothing_is_low() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert (read_from(here), read_from(None)) == (0, 0)
        assert not Yield(here).is_low(0)
