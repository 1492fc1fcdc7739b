"""A signal before the k-th instruction of a call, for every k. It finds what signals at random times do not.

CPython runs signal handlers at few instructions only (calls, jumps backwards, starts of functions). So the signal is made
pending before the k-th, and the handler runs where it would run in life, the next time that the interpreter looks.
"""

from __future__ import annotations

import _thread
import datetime
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final

from tests.timing import UNIT

NOTHING: Final = object()
LIMIT = 50 * UNIT
"""Seconds after which a call that should have ended hangs."""
LONG = bool(os.environ.get("MPCCOMM_TEST_LONG"))
DAY = int(os.environ.get("MPCCOMM_TEST_OFFSET") or datetime.date.today().toordinal())
"""With which of many places a short form begins: another each day."""
STRIDE = 1 if LONG else 7
"""In the short form a signal comes before every seventh instruction."""


class TimesUpError(Exception):
    """What a program raises in the handler of its timer."""


def _time_is_up(number: int, frame: FrameType | None) -> None:
    raise TimesUpError


@dataclass(frozen=True)
class Kind:
    """One way in which programs are interrupted."""

    number: signal.Signals
    raises: type[BaseException]
    handler: Callable[[int, FrameType | None], Any]


CTRL_C = Kind(signal.SIGINT, KeyboardInterrupt, signal.default_int_handler)
# Not SIGALRM, which ends tests that take too long.
TIMER = Kind(signal.SIGTERM if sys.platform == "win32" else signal.SIGVTALRM, TimesUpError, _time_is_up)


@contextmanager
def handling(kind: Kind) -> Iterator[None]:
    """Have the program handle signals of that kind."""
    before = signal.signal(kind.number, kind.handler)
    try:
        yield
    finally:
        signal.signal(kind.number, before)


@dataclass
class Outcome:
    """The outcome of a call that a signal has struck."""

    at: int
    value: Any = NOTHING
    raised: BaseException | None = None
    place: str = ""
    """Where the signal came; empty: the call was over before."""

    def __str__(self) -> str:
        return f"signal before instruction {self.at}, at {self.place}: {self.raised!r}, {self.value!r}"


class _Gun:
    """Counts the instructions of this thread, and makes a signal pending before one of them."""

    def __init__(self, kind: Kind, at: int) -> None:
        self._left = at
        self.place = ""
        # Called by the iterator, not by an instruction that would run the handler in here.
        self._shot = map(_thread.interrupt_main, (kind.number,))

    if sys.version_info >= (3, 12):

        def __enter__(self) -> None:
            monitoring = sys.monitoring
            if monitoring.get_tool(monitoring.DEBUGGER_ID) is None:
                monitoring.use_tool_id(monitoring.DEBUGGER_ID, "shots")
            monitoring.register_callback(monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION, self._instruction)
            self._thread = _thread.get_ident()
            monitoring.set_events(monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION)

        def __exit__(self, *exception: object) -> None:
            monitoring = sys.monitoring
            monitoring.set_events(monitoring.DEBUGGER_ID, 0)
            monitoring.register_callback(monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION, None)

        def _instruction(self, code: CodeType, offset: int) -> None:
            if self.place or code.co_filename == __file__ or _thread.get_ident() != self._thread:
                return
            self._left -= 1
            if not self._left:
                self.place = f"{code.co_filename}:{code.co_qualname} + {offset}"
                # From here on no function of ours begins before an instruction, where the interpreter would look for signals.
                sys.monitoring.register_callback(sys.monitoring.DEBUGGER_ID, sys.monitoring.events.INSTRUCTION, None)
                for _ in self._shot:
                    return

    else:

        def __enter__(self) -> None:
            sys.settrace(self._call)

        def __exit__(self, *exception: object) -> None:
            sys.settrace(None)

        def _call(self, frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename == __file__:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._instruction

        def _instruction(self, frame: FrameType, event: str, argument: object) -> Any:
            if event != "opcode":
                return self._instruction
            self._left -= 1
            if not self._left:
                code = frame.f_code
                self.place = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname} + {frame.f_lasti}"
                sys.settrace(None)
                for _ in self._shot:
                    return None
            return self._instruction


def shoot(call: Callable[..., Any], at: int, kind: Kind, *, hand_over: bool = False) -> Outcome:
    """Make the call, with a signal before its ``at``-th instruction; or of what it does within the context manager handed over."""
    outcome = Outcome(at)
    gun = _Gun(kind, at)
    gc.disable()  # a finalizer has nobody to raise to
    try:
        try:
            with nullcontext() if hand_over else gun:
                outcome.value = call(gun) if hand_over else call()
        finally:
            _look()  # the last ones
    except kind.raises as error:
        outcome.raised = error
    finally:
        gun.__exit__()  # the first time it may have been what was shot at
        outcome.place = gun.place
        gc.enable()
    return outcome


def _look() -> None:
    """The interpreter looks for signals when a function begins."""


def everywhere(
    call: Callable[..., Any],
    after: Callable[[Outcome], None],
    kind: Kind,
    *,
    hand_over: bool = False,
    stride: int = STRIDE,
    by_turns: bool = False,
) -> int:
    """Shoot at each instruction of the call in turn, until it gets through. How often ``after`` has looked at what is left.

    By turns, for tests with both kinds: of what the short form shoots at, each kind takes every second place, and another day
    the others.
    """
    first, stride = (DAY + stride * (kind is TIMER), 2 * stride) if by_turns and not LONG else (DAY, stride)
    at, count = first % stride + 1, 0
    with handling(kind):
        while True:
            outcome = shoot(call, at, kind, hand_over=hand_over)
            count += 1
            try:
                after(outcome)
            except BaseException as error:
                error.add_note(str(outcome))
                raise
            if not outcome.place:
                return count
            at += stride
