"""What a signal handler raises in a program of asyncio strikes the caller, the loop, or the pool on it.

In the caller, and where the loop waits, nothing comes of it. In the middle of what the pool does on the loop it ends the pool, for
nobody knows what was done: every call is told why, the other party hears of it, and nothing is lost in silence.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest

from mpccomm import CommunicationError, PoolClosedError, SyncPool
from mpccomm.engine import ending
from tests.interrupts.shots import LIMIT, LONG, NOTHING, TIMER, Outcome, TimesUpError, everywhere, handling
from tests.interrupts.test_native import MARK, RECEIVES, SENDS, Duo, both_have, broadcast
from tests.pools import LOCAL, quick
from tests.timing import UNIT

STRIDE = 1 if LONG else 197
"""Where the pool ends a new one has to be made."""

pytestmark = [
    pytest.mark.timeout(3600 if LONG else 60),
    # Of tasks that asyncio has lost; and what is raised in a finalizer or the callback of a weak reference nobody hears.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def held(duo: Duo) -> Any:
    duo.handle = duo.alice.arecv("Bob")
    return await duo.handle


CALLS = {**{name: RECEIVES[name] for name in ("recv", "recv_any", "recv_all")}, "arecv": held}


class Pair:
    """A `Duo`, and further ones where its pool has ended."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.factory = factory
        self.task: asyncio.Task[Any] | None = None
        self.failed: BaseException | None = None
        self.noted: BaseException | None = None
        self.begin()

    def begin(self) -> None:
        self.runner = asyncio.Runner(loop_factory=self.factory)
        self.runner.get_loop().set_exception_handler(self.note)
        self.bob = SyncPool(name="Bob", settings=quick())
        self.bob.add_http_server(0, LOCAL)
        self.duo = Duo(self.runner, self.bob)

    def note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop keeps to itself: asyncio's way with what its callbacks raise."""
        error = context.get("exception")
        assert error is None or isinstance(error, TimesUpError | asyncio.InvalidStateError | PoolClosedError), context
        self.noted = error

    def end(self) -> None:
        # Within the time even where a part of it is gone.
        with suppress(TimesUpError):  # it may have struck the end itself
            self.duo.run(lambda: asyncio.wait_for(self.duo.alice.shutdown(0), 3 * LIMIT))
        self.bob.shutdown(0)
        # Not `asyncio.Runner.close`, which waits for ever for a task that asyncio has lost.
        loop = self.runner.get_loop()
        self.runner.run(others(""))
        self.runner.run(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()

    def call(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[AbstractContextManager[Any]], Any]:
        """Make the call, of which one error of ours may come: the pool has ended."""

        def run(gun: AbstractContextManager[Any]) -> Any:
            self.failed, self.noted, self.duo.got = None, None, NOTHING

            async def main() -> None:
                self.task = asyncio.current_task()
                with gun:
                    try:
                        self.duo.got = await function()
                    except PoolClosedError as error:
                        self.failed = error

            loop = self.runner.get_loop()
            watchdog = loop.call_later(10 * UNIT, loop.stop)
            try:
                self.runner.run(main())
            except RuntimeError:
                assert loop.time() > watchdog.when() - UNIT / 10  # it was stopped
            finally:
                watchdog.cancel()

        return run

    def goes_on(self, outcome: Outcome) -> bool:
        """Whether the pool does; otherwise it has ended as it should, and there is another pair."""
        task = self.task
        assert task is not None
        if not task.done():
            # As `asyncio.run` does, where something came out of the loop itself.
            task.cancel()
        left = self.runner.run(others())
        ended = self.runner.run(self.why_ended())
        if left:
            # A task that asyncio itself has lost: it does not know any more whom to wake.
            struck = outcome.raised or self.noted or ended
            assert struck is not None
            assert is_of_asyncio(struck), outcome
        elif ended is None:
            assert self.failed is None
            return True
        else:
            assert isinstance(ended, TimesUpError)
            self.hears_of_it()
        self.end()
        self.begin()
        return False

    async def why_ended(self) -> BaseException | None:
        """What the pool says has ended it; None: it goes on."""
        try:
            self.duo.alice.arecv("Bob", "another").cancel()
        except PoolClosedError as error:
            return error if error.__cause__ is None else error.__cause__
        return None

    def hears_of_it(self) -> None:
        def bob() -> None:
            with pytest.raises(CommunicationError, match="aborted: TimesUpError"):
                while True:
                    self.bob.recv("Alice", timeout=LIMIT)

        self.duo.beside(bob)


async def others(part: str = "Pair.call") -> bool:
    """Cancel the tasks whose coroutines are called so, as `asyncio.run` does at its end. Whether any of them does not end."""
    tasks = [task for task in asyncio.all_tasks() - {asyncio.current_task()} if part in str(task.get_coro())]
    for task in tasks:
        task.cancel()
    return bool(tasks) and bool((await asyncio.wait(tasks, timeout=20 * UNIT))[1])


def is_of_asyncio(error: BaseException) -> bool:
    """Whether the handler of the signal ran in asyncio, or within what a task calls to begin to wait for a future of ours."""
    *codes, _ = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    waits = any(code.co_name == "add_done_callback" for code in codes)
    return f"{os.sep}asyncio{os.sep}" in codes[-1].co_filename or waits


@pytest.fixture(params=["asyncio", "uvloop"])
def factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    made: Callable[[], asyncio.AbstractEventLoop] = (
        asyncio.new_event_loop if request.param == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    )
    return made


@pytest.fixture
def pair(factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(ending, "_LAST", 1)
    made = Pair(factory)
    yield made
    made.end()


def shots(call: Callable[..., Any], look: Callable[[Outcome], None], stride: int = STRIDE) -> None:
    everywhere(call, look, TIMER, hand_over=True, stride=stride)


@pytest.mark.parametrize("here", [False, True], ids=["on its way", "here"])
@pytest.mark.parametrize("receive", CALLS)
def test_receiving(pair: Pair, receive: str, here: bool) -> None:
    number = -1

    def send() -> int:
        return pair.duo.here() if here else pair.duo.sent()

    def look(outcome: Outcome) -> None:
        nonlocal number
        if pair.goes_on(outcome):
            got, handle = pair.duo.got, pair.duo.handle
            if got is NOTHING and handle is not None and not handle.cancel():
                # The program has the future, and what came into it.
                with suppress(asyncio.CancelledError, TimesUpError):
                    got = handle.result()
            if got is NOTHING:
                got = pair.duo.run(lambda: pair.duo.alice.recv("Bob", timeout=LIMIT))
            assert got == number
        pair.duo.handle = None
        number = send()

    number = send()
    shots(pair.call(lambda: CALLS[receive](pair.duo)), look)


@pytest.mark.parametrize("send", SENDS)
def test_sending(pair: Pair, send: str) -> None:
    number = 0

    def look(outcome: Outcome) -> None:
        nonlocal number
        whole = pair.duo.got is not NOTHING
        if pair.goes_on(outcome):
            duo = pair.duo
            duo.run(lambda: duo.alice.send("Bob", MARK, timeout=LIMIT))
            arrived = duo.beside(lambda: duo.bob.recv("Alice", timeout=LIMIT))
            if arrived == number:
                assert duo.beside(lambda: duo.bob.recv("Alice", timeout=LIMIT)) == MARK
            else:
                assert arrived == MARK
                assert not whole
        number += 1

    shots(pair.call(lambda: SENDS[send](pair.duo, number)), look)


def test_a_collective(pair: Pair) -> None:
    number = 0

    def look(outcome: Outcome) -> None:
        nonlocal number
        if pair.goes_on(outcome):
            both_have(pair.duo, number)
        number += 1

    shots(pair.call(lambda: broadcast(pair.duo, number)), look)


def test_the_end(pair: Pair) -> None:
    """However it was struck, asking for it once more ends the pool, in a bounded time."""

    def look(outcome: Outcome) -> None:
        assert pair.task is not None
        pair.task.cancel()
        pair.runner.run(others())
        pair.end()
        pair.begin()

    shots(pair.call(lambda: pair.duo.alice.shutdown(LIMIT)), look, 12 * STRIDE)


# -- a timer in life ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to a thread")
def test_a_timer_while_the_loop_waits_does_no_harm(pair: Pair) -> None:
    """On uvloop its handler runs at the beginning of whatever the loop calls next: mostly the tick of the pool."""
    for _ in range(5):
        if fires_as_often(pair, 5):
            break
        # Whether the loop waits just then no test can know: it was in the middle of what the pool does.
        pair.hears_of_it()
        pair.end()
        pair.begin()
    duo = pair.duo
    # Its clock still goes: it notices what waits for long.
    number = duo.sent()
    duo.run(lambda: asyncio.sleep(3 * UNIT))
    assert duo.run(lambda: asyncio.wait_for(duo.alice.recv("Bob"), LIMIT)) == number


def fires_as_often(pair: Pair, times: int) -> bool:
    """Whether the pool still goes on after so many."""
    duo = pair.duo

    async def receive() -> None:
        with suppress(CommunicationError):
            await duo.alice.recv("Bob", timeout=UNIT)

    with handling(TIMER):
        for _ in range(times):
            timer = threading.Timer(UNIT / 5, signal.pthread_kill, (threading.get_ident(), TIMER.number))
            with suppress(TimesUpError):
                timer.start()  # which waits until it runs
                duo.run(receive)
            with suppress(TimesUpError):  # where it ended earlier
                timer.join()
            assert not duo.run(lambda: others("Duo."))
    return duo.run(pair.why_ended) is None
