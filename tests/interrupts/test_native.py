"""Ctrl-C in a program of asyncio: the main task is cancelled, at whatever instruction the loop, or the pool on it, is just then."""

import asyncio
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from mpccomm import CommunicationError, Pool, SyncPool
from mpccomm.engine.base_pool import engine_of
from tests.interrupts.shots import CTRL_C, LIMIT, LONG, NOTHING, Outcome, everywhere
from tests.pools import LOCAL, quick

MARK = "mark"

pytestmark = pytest.mark.timeout(900 if LONG else 60)


class Duo:
    """Alice on the main thread, where she is shot at, and Bob on another."""

    def __init__(self, runner: asyncio.Runner, bob: SyncPool) -> None:
        self.runner = runner
        self.bob = bob
        self.numbers = itertools.count()
        self.got: Any = NOTHING
        self.handle: asyncio.Future[Any] | None = None
        # What is struck may have to connect once more, on a busy machine, to say so.
        self.alice = Pool(name="Alice", settings=replace(quick(), linger=LIMIT))
        self.run(self.begin)

    async def begin(self) -> None:
        self.alice.add_http_server(0, LOCAL)
        self.alice.add_http_client("Bob", LOCAL, self.bob.port)
        self.bob.add_http_client("Alice", LOCAL, self.alice.port)
        await self.alice.wait_ready(LIMIT)

    def run(
        self, function: Callable[[], Coroutine[Any, Any, Any]], gun: AbstractContextManager[Any] | None = None
    ) -> Any:
        """What it returned is kept: a task that is cancelled in its last step has no result."""
        self.got = NOTHING

        async def main() -> Any:
            with gun or nullcontext():
                self.got = await function()
            return self.got

        return self.runner.run(main())

    def sent(self) -> int:
        number = next(self.numbers)
        self.bob.asend("Alice", number)
        return number

    def here(self) -> int:
        number = next(self.numbers)
        self.beside(lambda: self.bob.send("Alice", number))
        return number

    def beside(self, call: Callable[[], Any]) -> Any:
        """A call of Bob, with Alice's loop running."""
        return self.run(lambda: asyncio.to_thread(call))


def but_its_own(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What Ctrl-C splits in asyncio itself ends a wait that was to end anyway."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


@pytest.fixture(params=["asyncio", "uvloop"])
def duo(request: pytest.FixtureRequest) -> Iterator[Duo]:
    factory = asyncio.new_event_loop if request.param == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner, SyncPool(name="Bob", settings=quick()) as bob:
        runner.get_loop().set_exception_handler(but_its_own)
        bob.add_http_server(0, LOCAL)
        made = Duo(runner, bob)
        yield made
        made.run(made.alice.shutdown)


RECEIVES: dict[str, Callable[[Duo], Coroutine[Any, Any, Any]]] = {
    "recv": lambda duo: duo.alice.recv("Bob", timeout=LIMIT),
    "recv_any": lambda duo: first(duo),
    "recv_all": lambda duo: all_of(duo),
    "arecv": lambda duo: held(duo),
    "arecv, forgotten": lambda duo: forgotten(duo),
    "wait_for": lambda duo: asyncio.wait_for(duo.alice.recv("Bob"), LIMIT),
}


async def first(duo: Duo) -> Any:
    return (await duo.alice.recv_any(timeout=LIMIT))[1]


async def all_of(duo: Duo) -> Any:
    return (await duo.alice.recv_all(timeout=LIMIT))[0][1]


async def held(duo: Duo) -> Any:
    duo.handle = duo.alice.arecv("Bob")
    return await asyncio.wait_for(duo.handle, LIMIT)


async def forgotten(duo: Duo) -> Any:
    return await duo.alice.arecv("Bob")


@pytest.mark.parametrize("here", [False, True], ids=["on its way", "here"])
@pytest.mark.parametrize("receive", RECEIVES)
def test_receiving(duo: Duo, receive: str, here: bool) -> None:
    number = duo.here() if here else duo.sent()

    def call(gun: AbstractContextManager[Any] | None = None) -> Any:
        return duo.run(lambda: RECEIVES[receive](duo), gun)

    def look(outcome: Outcome) -> None:
        nonlocal number
        outcome.raised = None  # it holds on to what the program has forgotten
        if receive == "arecv, forgotten":
            gc.collect()  # as does asyncio's task, in a cycle with what was raised in it
        if duo.got is NOTHING and duo.handle is not None and duo.handle.done() and not duo.handle.cancelled():
            # The program has the future, and what came into it.
            duo.got = duo.handle.result()
        assert (call() if duo.got is NOTHING else duo.got) == number
        duo.handle = None
        number = duo.here() if here else duo.sent()

    everywhere(call, look, CTRL_C, hand_over=True)
    assert call() == number


def watch(pool: Pool, how: str) -> None:
    """Have somebody observe the pool."""
    if how == "trace":
        pool.trace()
    elif how == "count":
        engine_of(pool).count()


@pytest.mark.parametrize("how", ["nothing", "trace", "count"])
def test_receiving_the_short_way(duo: Duo, how: str) -> None:
    """No time limit, and no id: then what is here needs no request."""
    watch(duo.alice, how)
    number = duo.here()

    def look(outcome: Outcome) -> None:
        nonlocal number
        assert (duo.run(lambda: duo.alice.recv("Bob", timeout=LIMIT)) if duo.got is NOTHING else duo.got) == number
        number = duo.here()

    everywhere(lambda gun: duo.run(lambda: duo.alice.recv("Bob"), gun), look, CTRL_C, hand_over=True)


@pytest.mark.parametrize("how", ["trace", "count"])
def test_sending_the_short_way(duo: Duo, how: str) -> None:
    watch(duo.alice, how)
    test_sending(duo, "the short way")


SENDS: dict[str, Callable[[Duo, int], Coroutine[Any, Any, Any]]] = {
    "send": lambda duo, number: duo.alice.send("Bob", number, timeout=LIMIT),
    "broadcast": lambda duo, number: duo.alice.broadcast(number, timeout=LIMIT),
    "asend": lambda duo, number: handed_over(duo, number),
    "the short way": lambda duo, number: duo.alice.send("Bob", number),
}


async def handed_over(duo: Duo, number: int) -> None:
    await duo.alice.asend("Bob", number)


@pytest.mark.parametrize("send", SENDS)
def test_sending(duo: Duo, send: str) -> None:
    number = next(duo.numbers)

    def look(outcome: Outcome) -> None:
        nonlocal number
        whole = duo.got is not NOTHING
        duo.run(lambda: duo.alice.send("Bob", MARK, timeout=LIMIT))
        arrived = duo.beside(lambda: duo.bob.recv("Alice", timeout=LIMIT))
        if arrived == number:
            assert duo.beside(lambda: duo.bob.recv("Alice", timeout=LIMIT)) == MARK
        else:
            assert arrived == MARK
            assert not whole
        number = next(duo.numbers)

    everywhere(lambda gun: duo.run(lambda: SENDS[send](duo, number), gun), look, CTRL_C, hand_over=True)


def broadcast(duo: Duo, number: int) -> Coroutine[Any, Any, Any]:
    """Alice's part in a broadcast to her group."""
    return duo.alice.group(["Alice", "Bob"]).bcast(number, root="Alice", timeout=LIMIT)


def both_have(duo: Duo, number: int) -> None:
    """However far Alice's part came, it is resumed or made anew, and Bob gets the same."""
    value = duo.got
    if value is NOTHING:
        try:
            value = duo.run(lambda: duo.alice.group(["Alice", "Bob"]).resume(LIMIT))
        except CommunicationError as error:
            assert "nothing is there to resume" in str(error)  # noqa: PT017 - the other way out is as good
            value = duo.run(lambda: broadcast(duo, number))
    assert value == number
    assert duo.beside(lambda: duo.bob.group(["Alice", "Bob"]).bcast(root="Alice", timeout=LIMIT)) == number


def test_a_collective(duo: Duo) -> None:
    number = 0

    def look(outcome: Outcome) -> None:
        nonlocal number
        both_have(duo, number)
        number += 1

    everywhere(lambda gun: duo.run(lambda: broadcast(duo, number), gun), look, CTRL_C, hand_over=True)


def test_the_end(duo: Duo) -> None:
    pool: Pool

    async def begin() -> None:
        nonlocal pool
        pool = Pool(name="Dave", settings=quick())
        pool.add_http_server(0, LOCAL)

    def look(outcome: Outcome) -> None:
        duo.run(lambda: pool.shutdown(0))
        duo.run(begin)

    duo.run(begin)
    everywhere(lambda gun: duo.run(lambda: pool.shutdown(LIMIT), gun), look, CTRL_C, hand_over=True)
    duo.run(lambda: pool.shutdown(0))
