"""Several observers as one, and the fields of an annotation."""

from __future__ import annotations

import signal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpccomm.engine.observer import Careful, Observer, Observers, fields_of, joined, pack_field, without
from mpccomm.logs import EventLog
from tests.interrupts.shots import TIMER, TimesUpError, handling
from tests.pools import Log


class Watch:
    """Notes what it is told."""

    counting = False
    tell_from = 0.0

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, hook: str) -> Any:
        def note(*of: Any) -> Any:
            self.told.append((hook, *of))
            return self.name if hook == "sends" else lambda: self.told.append(("end",))

        return note


def watches(number: int) -> list[Any]:
    return [Watch(b"%d" % each) for each in range(number)]


CALLS: dict[str, tuple[Any, ...]] = {
    "sends": ("Bob", "message"),
    "sent": ("Bob", "message", None, 2.0),
    "vain": ((("Bob", False),), 1.0),
    "receives": ("Bob", "message", 1.0, 2.0, 3.0),
    "taken": ("Bob", "message"),
    "waits": ((("Bob", True),), True),
    "connection": ("Bob", True),
    "phase": ("setup", "a stay", True),
}


def test_all_hooks_are_called_here() -> None:
    assert set(CALLS) == {name for name in vars(Observer) if not name.startswith("_")}


@pytest.mark.parametrize("hook", CALLS)
def test_each_hook_tells_all_what_it_was_told(hook: str) -> None:
    those = watches(3)
    found = getattr(Observers(those), hook)(*CALLS[hook])
    assert [watch.told for watch in those] == [[(hook, *CALLS[hook])]] * 3
    if hook == "sends":
        assert found == b"012", "the fields of all"
    if hook == "waits":
        found()
        assert [watch.told[-1] for watch in those] == [("end",)] * 3


class Broken(Watch):
    """Its hooks raise."""

    error: type[BaseException] = ZeroDivisionError

    def __getattr__(self, hook: str) -> Any:
        def broken(*of: Any) -> Any:
            raise self.error

        return broken


@pytest.mark.parametrize("hook", CALLS)
def test_what_a_hook_raises_is_told_once_and_costs_nothing(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    watch, broken = Watch(b"!"), Broken(b"")
    careful = Careful(cast(Observer, watch), EventLog())
    assert (careful.counting, careful.tell_from) == (False, 0.0)
    assert (getattr(careful, hook)(*CALLS[hook]) == b"!") is (hook == "sends")
    assert watch.told == [(hook, *CALLS[hook])]
    careful = Careful(cast(Observer, broken), EventLog())
    for _ in range(2):
        assert not getattr(careful, hook)(*CALLS[hook])
    assert len(log.lines("what observes the pool raised")) == 1
    broken.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        getattr(careful, hook)(*CALLS[hook])


def test_the_end_of_a_wait_may_raise_too(caplog: pytest.LogCaptureFixture) -> None:
    class Waits(Watch):
        def waits(self, *of: Any) -> Any:
            return lambda: 1 / 0

    log = Log(caplog)
    end = Careful(cast(Observer, Waits(b"")), EventLog()).waits((), False)
    assert end is not None
    end()
    assert log.lines("what observes the pool raised")


def test_what_a_signal_handler_raises_in_a_hook_comes_out() -> None:
    class Struck(Watch):
        def sends(self, *of: Any) -> Any:
            signal.raise_signal(TIMER.number)

    with handling(TIMER), pytest.raises(TimesUpError):
        Careful(cast(Observer, Struck(b"")), EventLog()).sends("Bob", cast(Any, "message"))


def test_one_is_itself_and_several_are_one_that_is_not_nested() -> None:
    first, second, third = watches(3)
    assert [joined(None, first)] == [first]
    both: Any = joined(first, second)
    all_three: Any = joined(both, third)
    assert isinstance(both, Observers)
    assert isinstance(all_three, Observers)
    assert list(both.observers) == [first, second], "a pool may look at it from another thread meanwhile"
    assert list(all_three.observers) == [first, second, third]
    assert [without(both, first)] == [second]
    left: Any = without(all_three, second)
    assert isinstance(left, Observers)
    assert list(left.observers) == [first, third]
    assert without(left, first) is third
    assert [without(first, first), without(None, first), without(first, second)] == [None, None, first]


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
