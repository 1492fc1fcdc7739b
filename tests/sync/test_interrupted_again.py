"""A second signal comes while the exception for the first is on its way to the program, or the loop is held up then.

Nothing is lost, nothing is changed, and the order is kept.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mpccomm
from mpccomm import Limits, MemoryNetwork, Serialization, Settings, SyncPool
from mpccomm.engine.loop_owner import LoopOwner
from tests.timing import UNIT

LIMIT = 100 * UNIT
MESSAGES = 3000
PACKAGE = str(Path(mpccomm.__file__).parent)
CALLS: dict[str, Callable[[SyncPool], Any]] = {
    "recv": lambda pool: pool.recv("Bob", timeout=LIMIT),
    "recv_all": lambda pool: dict(pool.recv_all(["Bob"], timeout=LIMIT))["Bob"],
    "recv_any": lambda pool: pool.recv_any(["Bob"], timeout=LIMIT)[1],
    "as_received": lambda pool: next(iter(pool.as_received(["Bob"], timeout=LIMIT)))[1],
}


class TimesUpError(Exception):
    """What the signal handlers raise."""


def inside(frame: FrameType | None) -> bool:
    """Return whether a call of the package is under way there."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


class Struck:
    """A signal comes while it is decoded."""

    def serialize(self, **kwargs: object) -> str:
        return "struck"

    @staticmethod
    def deserialize(obj: str, **kwargs: object) -> str:
        if Struck.signals:
            Struck.signals -= 1
            signal.raise_signal(signal.SIGINT)
        return obj

    signals = 0


@pytest.fixture
def parties() -> Iterator[tuple[SyncPool, SyncPool]]:
    network = MemoryNetwork()
    Serialization.register_class(Struck, check_annotations=False)
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        yield alice, bob
    Serialization.clear_serialization_logic()


@pytest.mark.parametrize("call", CALLS)
def test_before_the_first_step_of_giving_back(
    parties: tuple[SyncPool, SyncPool], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_back(*_: object) -> None:
        raise TimesUpError

    alice, bob = parties
    for value in (Struck(), "next"):
        bob.send("Alice", value, timeout=LIMIT)
    Struck.signals = 1
    with monkeypatch.context() as patch:
        patch.setattr(LoopOwner, "give_back", give_back)
        with pytest.raises(TimesUpError):
            CALLS[call](alice)
    assert [CALLS[call](alice) for _ in range(2)] == ["struck", "next"]


@pytest.mark.parametrize("call", CALLS)
def test_again_and_again(parties: tuple[SyncPool, SyncPool], call: str) -> None:
    alice, bob = parties
    shots, chance = 0, random.Random(call)

    def shoot(number: int, frame: FrameType | None) -> None:
        nonlocal shots
        shots += 1
        # One soon after the other, and then a while of peace.
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 6e-5) if shots % 2 else chance.uniform(5e-4, 3e-3))
        if inside(frame):
            raise TimesUpError

    handles = [bob.asend("Alice", [number, {"a": number}]) for number in range(MESSAGES)]
    handles[-1].result(LIMIT)
    received: list[int] = []
    tries = 0
    before = signal.signal(signal.SIGALRM, shoot)
    timer = signal.setitimer(signal.ITIMER_REAL, 1e-3)
    try:
        while len(received) < MESSAGES and tries < 10 * MESSAGES:
            tries += 1
            try:
                received.append(CALLS[call](alice)[0])
            except TimesUpError:
                continue
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert received == list(range(MESSAGES))
    assert shots


def time_is_up(number: int, frame: FrameType | None) -> None:
    raise TimesUpError


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
@pytest.mark.parametrize(
    "call", [lambda pool, value: pool.send("Bob", value), lambda pool, value: pool.broadcast(value)]
)
def test_what_is_sent_is_the_callers_again_also_where_the_loop_is_held_up(
    call: Callable[[SyncPool, Any], None],
) -> None:
    network, settings, hold, size = MemoryNetwork(), Settings(interrupt_grace=UNIT), threading.Event(), 1_000_000
    with (
        SyncPool(name="Alice", network=network, settings=settings) as alice,
        SyncPool(name="Bob", network=network) as bob,
    ):
        network.connect(alice, bob)
        alice.wait_ready()
        value = bytearray(b"?" * size)
        alice._engine.loop_owner.post_soon(hold.wait)
        before = signal.signal(signal.SIGALRM, time_is_up)
        timer = signal.setitimer(signal.ITIMER_REAL, UNIT)
        with pytest.raises(TimesUpError):
            call(alice, value)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        value[:] = b"!" * size
        hold.set()
        assert bytes(bob.recv("Alice", timeout=100 * UNIT)) == b"?" * size


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
@pytest.mark.parametrize(
    "call", [lambda pool, value: pool.send("Bob", value, "m"), lambda pool, value: pool.broadcast(value, "m")]
)
def test_what_is_sent_is_the_callers_again_where_a_second_signal_comes_soon(
    call: Callable[[SyncPool, Any], None],
) -> None:
    network, size, chance = MemoryNetwork(), 30_000, random.Random(1)
    shots, armed = 0, False

    def shoot(number: int, frame: FrameType | None) -> None:
        nonlocal shots
        if not inside(frame):
            # Too early for the call; where that is over nothing else is struck.
            signal.setitimer(signal.ITIMER_REAL, UNIT / 50 if armed else 0)
        elif armed:
            shots += 1
            if shots == 1:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 6e-5))
            raise TimesUpError

    with (
        SyncPool(name="Alice", network=network) as alice,
        SyncPool(name="Bob", network=network, settings=Settings(limits=Limits(box_messages=1))) as bob,
    ):
        network.connect(alice, bob)
        before = signal.signal(signal.SIGALRM, shoot)
        timer = signal.getitimer(signal.ITIMER_REAL)
        twice = 0
        try:
            for _ in range(100):
                alice.send("Bob", "the only one that the box takes", "before")
                value, shots, sent = bytearray(b"?" * size), 0, alice.stats["Bob"].messages_sent
                armed = True
                signal.setitimer(signal.ITIMER_REAL, UNIT / 50)
                with pytest.raises(TimesUpError):
                    call(alice, value)
                armed = False
                value[:] = b"!" * size
                assert bob.recv("Alice", "before", timeout=LIMIT)
                if alice.stats["Bob"].messages_sent == sent:
                    continue  # struck before it was sent, as on a busy machine
                twice += shots == 2
                assert bytes(bob.recv("Alice", "m", timeout=LIMIT)) == b"?" * size
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)
        assert twice
