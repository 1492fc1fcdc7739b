"""The observers of a pool, and the fields of an annotation."""

from __future__ import annotations

import asyncio
import inspect
import signal
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.observer import EVENTS, Careful, Observers, fields_of, joined, pack_field, without
from mpccomm.engine.recorder import Recorder
from mpccomm.engine.report import Reporter
from mpccomm.logs import EventLog
from tests.interrupts.shots import TIMER, TimesUpError, handling
from tests.pools import Log, pools


class Watch:
    """Notes what it is told, of some events or all."""

    def __init__(self, name: bytes, *events: str) -> None:
        self.told: list[tuple[Any, ...]] = []
        for event in events or EVENTS:
            setattr(self, event, partial(self._note, name, event))

    def _note(self, name: bytes, event: str, *of: Any) -> Any:
        self.told.append((event, *of))
        return name if event == "sends" else lambda: self.told.append(("end",))


CALLS: dict[str, tuple[Any, ...]] = {
    "sends": ("Bob", "message"),
    "delivered": ("Bob", "message"),
    "failed": ("Bob", "message", "error"),
    "receives": ("Bob", "message", 2.0, 3.0),
    "taken": ("Bob", "message"),
    "callback": (),
    "waits": ((("Bob", True),),),
    "further_waits": ((("Bob", True),),),
    "vain": ((("Bob", False),), 1.0),
    "missed": ("Bob", "id", 1.0, "error"),
    "connection": ("Bob", True),
    "phase": ("setup", "a stay", True),
}


def test_all_events_are_told_of_here() -> None:
    assert set(CALLS) == set(EVENTS)


@pytest.mark.parametrize("event", CALLS)
def test_an_observer_hears_of_what_it_has_a_hook_for(event: str) -> None:
    first, second = Watch(b"1", event), Watch(b"2")
    other = Watch(b"3", *(name for name in EVENTS if name != event))
    observers = Observers([first, other, second])
    found = [hook(*CALLS[event]) for hook in getattr(observers, event)]
    assert [watch.told for watch in (first, other, second)] == [[(event, *CALLS[event])], [], [(event, *CALLS[event])]]
    if event == "sends":
        assert found == [b"1", b"2"], "the fields of all"


@pytest.mark.parametrize("traced", [False, True])
async def test_who_comes_before_a_message_is_delivered_is_told_if_somebody_was_there_when_it_was_sent(
    traced: bool,
) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        if traced:
            alice.trace()
        sending = asyncio.create_task(alice.send("Bob", 1))
        await asyncio.sleep(0)
        watch = Watch(b"", "delivered")
        engine_of(alice).observe(watch)
        assert await bob.recv("Alice") == 1
        await sending
        assert [event for event, *_ in watch.told] == ["delivered"] * traced


@pytest.mark.parametrize("traced", [False, True])
async def test_who_has_left_before_a_message_is_delivered_is_not_told(traced: bool) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        if traced:
            alice.trace()
        watch, owner = Watch(b"", "delivered"), engine_of(alice).loop_owner
        engine_of(alice).observe(watch)
        sending = asyncio.create_task(alice.send("Bob", 1))
        await asyncio.sleep(0)
        owner.observers = without(owner.observers, watch)
        assert await bob.recv("Alice") == 1
        await sending
        assert watch.told == []


@pytest.mark.parametrize("observer", [Recorder, Reporter])
def test_the_hooks_of_an_observer_take_what_they_are_told(observer: type) -> None:
    hooks = {event: getattr(observer, event) for event in EVENTS if hasattr(observer, event)}
    assert hooks
    for event, hook in hooks.items():
        inspect.signature(hook).bind("self", *CALLS[event])


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_all_are_told_of_a_wait_and_of_its_end(number: int, further: bool) -> None:
    watches = [Watch(b"", "waits") for _ in range(number)]
    several = Watch(b"", "further_waits")
    end = Observers([several, *watches]).begin_wait((), further=further)
    assert (end is None) is (not number and not further)
    if end is not None:
        end()
    assert [watch.told for watch in watches] == [[("waits", ()), ("end",)]] * number
    assert several.told == ([("further_waits", ()), ("end",)] if further else [])


class Waits:
    """Has the hooks for waits alone."""

    def waits(self, *of: Any) -> Any:
        return self.end

    def end(self) -> None:
        raise ZeroDivisionError


class Struck:
    """Its hook is struck."""

    def sends(self, *of: Any) -> Any:
        signal.raise_signal(TIMER.number)


def hook_of(observer: object, event: str) -> Any:
    (hook,) = getattr(Observers([Careful(observer, EventLog())]), event)
    return hook


@pytest.mark.parametrize("event", CALLS)
def test_what_a_hook_raises_is_told_once_and_costs_nothing(event: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    watch = Watch(b"!", event)
    assert (hook_of(watch, event)(*CALLS[event]) == b"!") is (event == "sends")
    assert watch.told == [(event, *CALLS[event])]
    broken = type("Broken", (), {event: lambda self, *of: raising(self.error), "error": ZeroDivisionError})()
    hook = hook_of(broken, event)
    for broken.error in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        found = hook(*CALLS[event])
        assert found == b"" if event == "sends" else found is None or found() is None
    assert len(log.lines("what observes the pool raised")) == 1
    struck = type("Struck", (), {event: lambda self, *of: signal.raise_signal(signal.SIGINT)})()
    with pytest.raises(KeyboardInterrupt):
        hook_of(struck, event)(*CALLS[event])


def raising(error: type[BaseException]) -> None:
    raise error


def test_a_careful_one_has_no_more_hooks_than_what_it_stands_for() -> None:
    observers = Observers([Careful(Waits(), EventLog())])
    assert [event for event in EVENTS if getattr(observers, event)] == ["waits"]


def test_the_end_of_a_wait_may_raise_too(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    hook_of(Waits(), "waits")(())()
    assert log.lines("what observes the pool raised")


def test_what_a_signal_handler_raises_in_a_hook_comes_out() -> None:
    with handling(TIMER), pytest.raises(TimesUpError):
        hook_of(Struck(), "sends")("Bob", cast(Any, "message"))


def test_the_observers_there_are_stay_as_they_are() -> None:
    first, second, third = (Watch(b"") for _ in range(3))
    one = joined(None, first)
    both = joined(one, second)
    all_three = joined(both, third)
    assert [observers.all for observers in (one, both, all_three)] == [
        (first,), (first, second), (first, second, third)
    ], "a pool may look at it from another thread meanwhile"  # fmt: skip
    left = without(all_three, second)
    assert left is not None
    assert left.all == (first, third)
    assert [without(one, first), without(None, first)] == [None, None]
    assert (without(one, second) or both).all == (first,)


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=255), max_size=5))
def test_fields_come_back(fields: dict[int, bytes]) -> None:
    packed = b"".join(pack_field(kind, content) for kind, content in fields.items())
    assert fields_of(packed) == fields


@given(st.binary(max_size=40))
def test_what_does_not_add_up_has_no_fields(annotation: bytes) -> None:
    found = fields_of(annotation)
    assert not found or sum(2 + len(content) for content in found.values()) <= len(annotation)


@pytest.mark.parametrize("annotation", [b"\x01", b"\x01\x02a", b"\x01\x01ab"])
def test_a_field_that_is_cut_off_spoils_all(annotation: bytes) -> None:
    assert fields_of(annotation) == {}
    assert fields_of(pack_field(1, b"a") + annotation) == {}
