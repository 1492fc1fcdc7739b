"""Which messages have their progress told, when, and to whom."""

import logging
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mpccomm import Limits, Progress, Settings, SyncPool, Timing
from mpccomm.engine.progress_tracker import ProgressTracker
from mpccomm.engine.states import GivenUp
from mpccomm.logs import EventLog
from mpccomm.memory import Buffer
from mpccomm.progress import Transfer
from mpccomm.protocol.frames import Part, Start, parse
from mpccomm.protocol.link import Link
from mpccomm.protocol.receiver import Receiver
from mpccomm.protocol.sender import Counters, Outgoing, Sender
from mpccomm.protocol.states import Cause, Ending
from tests.pools import LOCAL, Log
from tests.protocol.links import batch_of
from tests.timing import UNIT

KiB = 1024
SIZE = 100 * KiB


class Recorder:
    """A callback that remembers what it is told."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.size: int | None = None
        self.updates: list[int] = []
        self.closed = 0

    def set_size(self, size: int) -> None:
        assert self.size is None
        self.size = size

    def relative_update(self, inc: int) -> None:
        assert inc > 0
        assert not self.closed
        self.updates.append(inc)

    def close(self) -> None:
        self.closed += 1

    @property
    def done(self) -> int:
        return sum(self.updates)


class Wire:
    """The sending half of one link and the receiving half of another, each with a tracker that looks at it."""

    def __init__(
        self, above: int = 10 * KiB, after: float = 1.0, make: Callable[[Transfer], Any] | None = None
    ) -> None:
        self.sender = Sender(Limits(), Counters())
        self.receiver = Receiver(Limits())
        self.now = 100.0
        self.recorders: list[Recorder] = []
        progress = Progress(above, after, make or self.record)
        self._sending = ProgressTracker("Bob", progress, EventLog())
        self._receiving = ProgressTracker("Alice", progress, EventLog())
        self._parts: list[Buffer] = []

    def record(self, transfer: Transfer) -> Recorder:
        self.recorders.append(Recorder(transfer))
        return self.recorders[-1]

    def send(self, size: int) -> Outgoing:
        message = Outgoing([bytes(size)], ordered=False, awaited=True)
        message.address("x")
        self.sender.add(message)
        return message

    def carry(self, budget: int) -> None:
        parts: list[Buffer] = []
        self.sender.fill(parts, budget)
        for frame in parse(batch_of(*map(bytes, parts)), max_id_size=1024):
            if isinstance(frame, Start):
                self.receiver.start(frame)
            elif isinstance(frame, Part):
                self.receiver.part(frame)

    def acknowledge(self) -> None:
        self.sender.acknowledge(self.receiver.received, 0, 0, deque())

    def look(self, after: float = 0.5) -> None:
        self.now += after
        nothing = Receiver(Limits()), Sender(Limits(), Counters())
        self._sending.look(cast(Link, SimpleNamespace(sender=self.sender, receiver=nothing[0])), self.now)
        self._receiving.look(cast(Link, SimpleNamespace(sender=nothing[1], receiver=self.receiver)), self.now)


def test_from_the_first_byte_to_the_last() -> None:
    wire = Wire()
    wire.send(SIZE)
    for _ in range(4):
        wire.carry(20 * KiB)
        wire.look()
    receiving, sending = sorted(wire.recorders, key=lambda recorder: recorder.transfer.sending)
    assert sending.transfer == Transfer(True, "Bob", "'x'", SIZE)
    assert receiving.transfer == Transfer(False, "Alice", "'x'", SIZE)
    assert sending.size == receiving.size == SIZE
    assert sending.done == 0, "nothing is acknowledged yet"
    assert 70 * KiB < receiving.done < 80 * KiB
    wire.acknowledge()
    wire.look()
    assert sending.done == receiving.done
    wire.carry(SIZE)
    wire.look()
    assert (receiving.done, receiving.closed) == (SIZE, 1)
    assert (sending.done < SIZE, sending.closed) == (True, 0), "all is sent, and the end is not acknowledged"
    wire.acknowledge()
    wire.look()
    assert (sending.done, sending.closed) == (SIZE, 1)
    wire.look()
    assert len(wire.recorders) == 2


def test_small_ones_are_not_shown() -> None:
    wire = Wire(above=SIZE)
    wire.send(SIZE)
    for _ in range(4):
        wire.carry(20 * KiB)
        wire.look()
    assert not wire.recorders


def test_quick_ones_are_not_shown() -> None:
    wire = Wire(after=5.0)
    wire.send(SIZE)
    for _ in range(4):
        wire.carry(20 * KiB)
        wire.look()
    wire.carry(SIZE)
    wire.acknowledge()
    wire.look(10.0)
    assert not wire.recorders


def test_one_that_will_never_arrive() -> None:
    wire = Wire(after=0)
    message = wire.send(SIZE)
    wire.carry(20 * KiB)
    wire.look()
    wire.receiver.forget_partial()
    message.failure = Cause(Ending.SHUT_DOWN)
    wire.sender = Sender(Limits(), Counters())
    wire.look()
    assert [recorder.closed for recorder in wire.recorders] == [1, 1]
    assert all(recorder.done < SIZE for recorder in wire.recorders)


def test_one_whose_sender_does_not_wait_any_more_goes_on() -> None:
    wire = Wire(after=0)
    message = wire.send(SIZE)
    wire.carry(20 * KiB)
    wire.look()
    message.failure = Cause(GivenUp.TIMED_OUT)
    wire.carry(20 * KiB)
    wire.acknowledge()
    wire.look()
    assert all(recorder.done > 30 * KiB and not recorder.closed for recorder in wire.recorders)


def test_a_callback_that_fails_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    made = []

    def make(transfer: Transfer) -> SimpleNamespace:
        made.append(transfer)
        return SimpleNamespace(set_size=lambda size: None)  # and nothing else

    wire = Wire(after=0, make=make)
    wire.send(SIZE)
    for _ in range(3):
        wire.carry(20 * KiB)
        wire.acknowledge()
        wire.look()
    wire.carry(SIZE)
    wire.acknowledge()
    wire.look()
    assert len(made) == 2
    assert len(log.lines("progress of a message can't be shown", logging.ERROR)) == 2


def test_none_need_be_made() -> None:
    wire = Wire(after=0, make=lambda transfer: None)
    wire.send(SIZE)
    for _ in range(2):
        wire.carry(SIZE)
        wire.acknowledge()
        wire.look()


def test_between_two_pools() -> None:
    recorders: list[Recorder] = []

    def record(transfer: Transfer) -> Recorder:
        recorders.append(Recorder(transfer))
        return recorders[-1]

    shown = Settings(progress=Progress(KiB, 0, record), timing=Timing(tick=UNIT / 50))
    with SyncPool(settings=shown) as alice, SyncPool(settings=Settings(progress=None)) as bob:
        alice.add_http_server(0, LOCAL)
        bob.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        value = bytes(128 * KiB * KiB)
        for _ in range(3):
            alice.send("Bob", value)
            assert all(recorder.closed for recorder in recorders), "complete before the call returns"
            assert bob.recv("Alice") == value
            handle = bob.asend("Alice", value)
            assert alice.recv("Bob") == value
            assert all(recorder.closed for recorder in recorders), "complete before the call returns"
            handle.result()
    assert {recorder.transfer.sending for recorder in recorders} == {True, False}
    for recorder in recorders:
        assert recorder.size == recorder.transfer.size >= len(value)
        assert (recorder.done, recorder.closed) == (recorder.size, 1)
