"""What a signal handler raised is told from errors of our own."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mpccomm.interrupts import is_interrupt, is_strike
from tests.interrupts.shots import Kind, handling


class LikeAnErrorOfOurs(ValueError):  # noqa: N818
    pass


class ByName:
    """A handler that is an object, as some libraries have them."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        raise LikeAnErrorOfOurs(number)


def wrapped(*arguments: object) -> None:
    raise LikeAnErrorOfOurs(len(arguments))


class WithoutItsFrame:
    """Handlers that let go of the frame they get, as one does that walks over the stack."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        raise LikeAnErrorOfOurs(number)

    def method(self, number: int, frame: FrameType | None) -> None:
        del frame
        raise LikeAnErrorOfOurs(number)


def without_its_frame(number: int, frame: FrameType | None) -> None:
    del frame
    raise LikeAnErrorOfOurs(number)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal for programs")
@pytest.mark.parametrize(
    "handler",
    [
        ByName(),
        wrapped,
        lambda number, frame: wrapped(number, frame),
        without_its_frame,
        WithoutItsFrame(),
        WithoutItsFrame().method,
    ],
)
def test_handlers_of_signals_are_told_by_the_frame_they_get_or_by_their_code(handler: Any) -> None:
    with handling(Kind(signal.SIGUSR1, LikeAnErrorOfOurs, handler)):
        with pytest.raises(LikeAnErrorOfOurs) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert is_interrupt(caught.value)


def test_errors_of_ones_own_are_no_interrupts() -> None:
    works: list[Callable[[], object]] = [lambda: int("x"), lambda: wrapped(1, sys)]
    for work in works:
        with pytest.raises(ValueError) as caught:
            work()
        assert not is_interrupt(caught.value)
        assert not is_strike(caught.value)


def test_ctrl_c_strikes_from_outside_though_its_handler_leaves_no_frame() -> None:
    assert is_strike(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        signal.default_int_handler(signal.SIGINT, None)
    assert is_strike(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal for programs")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_handler_of_the_program_may_raise_the_same(kind: type[BaseException]) -> None:
    def handler(*_: object) -> None:
        raise kind

    with handling(Kind(signal.SIGUSR1, kind, handler)):
        with pytest.raises(kind) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert is_strike(caught.value)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_other_code_raises_by_itself_is_no_strike(kind: type[BaseException]) -> None:
    def raises() -> None:
        raise kind

    def again() -> None:
        try:
            raises()
        except BaseException:
            raise

    for work in (raises, again, *([sys.exit] if kind is SystemExit else [])):
        with pytest.raises(kind) as caught:
            work()
        assert not is_strike(caught.value)


def test_signals_strike_the_main_thread_only() -> None:
    found: list[bool] = []

    def work() -> None:
        try:
            signal.default_int_handler(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            found.append(is_strike(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
