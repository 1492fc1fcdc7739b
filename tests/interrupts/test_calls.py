"""Every blocking call, shot at at every instruction: nothing is lost, nothing comes twice, and the pool goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mpccomm import CommunicationError, CommunicationTimeoutError, SyncPool
from mpccomm.sync import loop_thread
from tests.interrupts.shots import CTRL_C, LIMIT, LONG, NOTHING, TIMER, Kind, Outcome, everywhere
from tests.pools import LOCAL, quick
from tests.timing import UNIT

MARK = "mark"

pytestmark = pytest.mark.timeout(900 if LONG else 60)


class Trio:
    """Alice, who is shot at, and two others."""

    def __init__(self, stack: ExitStack) -> None:
        pools = [stack.enter_context(SyncPool(name=name, settings=quick())) for name in ("Alice", "Bob", "Carol")]
        for pool in pools:
            pool.add_http_server(0, LOCAL)
        for pool, other in itertools.permutations(pools, 2):
            assert other.name is not None
            pool.add_http_client(other.name, LOCAL, other.port)
        for pool in pools:
            pool.wait_ready(LIMIT)
        self.alice, self.bob, self.carol = pools
        self.others = (self.bob, self.carol)
        self.numbers = itertools.count()

    def sent(self, *senders: SyncPool) -> int:
        """Something new is on its way to Alice."""
        number = next(self.numbers)
        for sender in senders:
            sender.asend("Alice", number)
        return number

    def arrived(self, number: int, *, certainly: bool) -> None:
        """What Alice sent came once, if at all, and nothing else did."""
        for name, other in (("Bob", self.bob), ("Carol", self.carol)):
            self.alice.send(name, MARK, timeout=LIMIT)
            first = other.recv("Alice", timeout=LIMIT)
            if first == number:
                assert other.recv("Alice", timeout=LIMIT) == MARK
            else:
                assert first == MARK
                assert not certainly

    def here(self, *senders: SyncPool) -> int:
        """Something new is here."""
        number = next(self.numbers)
        for sender in senders:
            sender.send("Alice", number)
        return number


@pytest.fixture(params=["asyncio", "uvloop"])
def trio(request: pytest.FixtureRequest) -> Iterator[Trio]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        if request.param == "asyncio":
            patch.setattr(loop_thread, "new_event_loop", asyncio.new_event_loop)
        else:
            pytest.importorskip("uvloop")
        yield Trio(stack)


@pytest.fixture(params=[CTRL_C, TIMER], ids=["Ctrl-C", "timer"])
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_recv(trio: Trio, kind: Kind) -> None:
    number = -1

    def call() -> Any:
        return trio.alice.recv("Bob", timeout=LIMIT)

    def look(outcome: Outcome) -> None:
        nonlocal number
        value = call() if outcome.value is NOTHING else outcome.value
        assert value == number
        number = trio.sent(trio.bob)

    number = trio.sent(trio.bob)
    everywhere(call, look, kind, by_turns=True)
    assert call() == number


def test_recv_of_what_is_here(trio: Trio, kind: Kind) -> None:
    number = -1

    def call() -> Any:
        return trio.alice.recv("Bob", timeout=LIMIT)

    def look(outcome: Outcome) -> None:
        nonlocal number
        assert (call() if outcome.value is NOTHING else outcome.value) == number
        number = trio.here(trio.bob)

    number = trio.here(trio.bob)
    everywhere(call, look, kind, by_turns=True)
    assert call() == number


def test_a_look_whether_it_is_there(trio: Trio, kind: Kind) -> None:
    def call() -> Any:
        return trio.alice.recv("Bob", timeout=0)

    def look(outcome: Outcome) -> None:
        assert outcome.value is NOTHING
        number = trio.here(trio.bob)
        assert trio.alice.recv("Bob", timeout=LIMIT) == number

    def attempt() -> Any:
        try:
            return call()
        except CommunicationTimeoutError:
            return NOTHING

    everywhere(attempt, look, kind, by_turns=True)


def test_recv_all(trio: Trio, kind: Kind) -> None:
    number = -1

    def call() -> Any:
        return trio.alice.recv_all(timeout=LIMIT)

    def look(outcome: Outcome) -> None:
        nonlocal number
        value = call() if outcome.value is NOTHING else outcome.value
        assert value == [("Bob", number), ("Carol", number)]
        number = trio.sent(*trio.others)

    number = trio.sent(*trio.others)
    everywhere(call, look, kind, by_turns=True)
    assert call() == [("Bob", number), ("Carol", number)]


# -- handles -----------------------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[concurrent.futures.Future[Any]], Any]] = {
    "cancel": lambda handle: handle.cancel(),
    "done": lambda handle: handle.done(),
    "running": lambda handle: handle.running(),
    "cancelled": lambda handle: handle.cancelled(),
    "result": lambda handle: handle.result(),
    "result within a time": lambda handle: handle.result(timeout=LIMIT),
    "exception": lambda handle: handle.exception(timeout=LIMIT),
    "add_done_callback": lambda handle: handle.add_done_callback(lambda handle: None),
    "wait": lambda handle: own(lambda: concurrent.futures.wait([handle], LIMIT)),
    "as_completed": lambda handle: own(lambda: list(concurrent.futures.as_completed([handle], LIMIT))),
    "busy": lambda handle: [handle.done() for _ in range(3)],
}


def own(call: Callable[[], Any]) -> Any:
    """The call of the standard library, whose `threading.Condition` may answer an interrupt with an error of its own."""
    try:
        return call()
    except RuntimeError as error:
        if error.__context__ is not None:
            raise error.__context__ from None
        raise


@pytest.mark.parametrize("method", METHODS)
def test_a_handle(trio: Trio, kind: Kind, method: str) -> None:
    number, handle = -1, trio.alice.arecv("Bob")

    def look(outcome: Outcome) -> None:
        nonlocal number, handle
        outcome.value = outcome.raised = None  # they may hold on to the handle
        if handle.cancelled() or (method == "cancel" and handle.cancel()):
            assert trio.alice.recv("Bob", timeout=LIMIT) == number
        else:
            assert handle.result(timeout=LIMIT) == number
        handle = trio.alice.arecv("Bob")
        number = trio.sent(trio.bob)

    number = trio.sent(trio.bob)
    everywhere(lambda: METHODS[method](handle), look, kind, by_turns=True)
    assert handle.result(LIMIT) == number


@pytest.mark.parametrize("method", ["result", "result within a time", "exception"])
def test_a_handle_that_is_forgotten_then(trio: Trio, kind: Kind, method: str) -> None:
    """Until the program has the result, the next receive gets the message; that there is no error is not the result."""
    number = trio.sent(trio.bob)

    def look(outcome: Outcome) -> None:
        nonlocal number
        outcome.raised = None  # it holds on to the handle
        received = outcome.value
        if received is NOTHING or method == "exception":
            assert received in (NOTHING, None)
            received = trio.alice.recv("Bob", timeout=LIMIT)
        assert received == number
        number = trio.sent(trio.bob)

    everywhere(lambda: METHODS[method](trio.alice.arecv("Bob")), look, kind, by_turns=True)


# -- collectives -------------------------------------------------------------------------------------------------------


class Together:
    """Alice and Bob call the same; it is Alice who is shot at."""

    def __init__(self, trio: Trio, channel: str) -> None:
        names = ("Alice", "Bob")
        self.mine = trio.alice.channel(channel).group(names)
        self.theirs = trio.bob.channel(channel).group(names)

    def bob(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """Bob's part, in a thread of its own."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(call())
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()

        def result() -> Any:
            thread.join(LIMIT)
            (value,) = outcome
            return value

        return result


COLLECTIVES: dict[str, Callable[[Any, int], Any]] = {
    "allgather": lambda group, number: group.allgather((group.me, number), timeout=LIMIT),
    "bcast": lambda group, number: group.bcast(("Alice", number), root="Alice", timeout=LIMIT),
    "bcast from the other": lambda group, number: group.bcast(("Bob", number), root="Bob", timeout=LIMIT),
    "checked bcast": lambda group, number: group.bcast(("Alice", number), root="Alice", checked=True, timeout=LIMIT),
    "gather": lambda group, number: group.gather((group.me, number), root="Bob", timeout=LIMIT),
    "exchange": lambda group, number: group.exchange(
        "Bob" if group.me == "Alice" else "Alice", (group.me, number), timeout=LIMIT
    ),
    "barrier": lambda group, number: group.barrier(timeout=LIMIT),
    "alltoall": lambda group, number: group.alltoall({"Alice": number, "Bob": -number}, timeout=LIMIT),
}


@pytest.mark.parametrize("operation", COLLECTIVES)
def test_a_collective(trio: Trio, kind: Kind, operation: str) -> None:
    call = COLLECTIVES[operation]
    together = Together(trio, f"{operation} {kind.number} {id(trio)}")
    number = next(trio.numbers)
    theirs = together.bob(lambda: call(together.theirs, number))

    def look(outcome: Outcome) -> None:
        nonlocal number, theirs
        value = outcome.value
        if value is NOTHING:
            try:
                value = together.mine.resume(timeout=LIMIT)
            except CommunicationError as error:
                assert "nothing is there to resume" in str(error)  # noqa: PT017 - the other way out is as good
                value = call(together.mine, number)
        right = {
            "allgather": ({"Alice": ("Alice", number), "Bob": ("Bob", number)},) * 2,
            "bcast": (("Alice", number),) * 2,
            "bcast from the other": (("Bob", number),) * 2,
            "checked bcast": (("Alice", number),) * 2,
            "gather": (None, {"Alice": ("Alice", number), "Bob": ("Bob", number)}),
            "exchange": (("Bob", number), ("Alice", number)),
            "barrier": (None, None),
            "alltoall": ({"Alice": number, "Bob": number}, {"Alice": -number, "Bob": -number}),
        }
        assert (value, theirs()) == right[operation]
        number = next(trio.numbers)
        theirs = together.bob(lambda: call(together.theirs, number))

    everywhere(lambda: call(together.mine, number), look, kind, by_turns=True)
    call(together.mine, number)
    theirs()


def test_the_next_of_as_received(trio: Trio, kind: Kind) -> None:
    """What is taken is handed out, or is what `resume` returns."""
    together = Together(trio, f"as_received {kind.number} {id(trio)}")

    number = next(trio.numbers)

    def begin() -> tuple[Iterator[tuple[str, Any]], Callable[[], Any]]:
        theirs = together.bob(lambda: list(together.theirs.as_received(("Bob", number), LIMIT)))
        mine = iter(together.mine.as_received(("Alice", number), LIMIT))
        assert next(mine) == ("Alice", ("Alice", number))
        return mine, theirs

    mine, theirs = begin()

    def look(outcome: Outcome) -> None:
        nonlocal number, mine, theirs
        if outcome.value is NOTHING:
            # The loop over it is left: with the iterator goes all that holds it.
            outcome.raised, mine = None, iter(())
            assert together.mine.resume(LIMIT) == {"Bob": ("Bob", number)}
        else:
            assert outcome.value == ("Bob", ("Bob", number))
            assert not list(mine)
        assert theirs() == [("Bob", ("Bob", number)), ("Alice", ("Alice", number))]
        number = next(trio.numbers)
        mine, theirs = begin()

    def one() -> Any:
        for pair in mine:  # after `next`, which is C code, signals are looked for
            return pair
        raise AssertionError("there is none")

    everywhere(one, look, kind, by_turns=True)
    assert dict(mine) == {"Bob": ("Bob", number)}
    theirs()


def test_arecv(trio: Trio, kind: Kind) -> None:
    number = -1

    def look(outcome: Outcome) -> None:
        nonlocal number
        value = trio.alice.recv("Bob", timeout=LIMIT) if outcome.value is NOTHING else outcome.value.result(LIMIT)
        assert value == number
        number = trio.sent(trio.bob)

    number = trio.sent(trio.bob)
    everywhere(lambda: trio.alice.arecv("Bob"), look, kind, by_turns=True)
    assert trio.alice.recv("Bob", timeout=LIMIT) == number


# -- sending -----------------------------------------------------------------------------------------------------------


def sends(trio: Trio) -> dict[str, Callable[[int], Any]]:
    return {
        "send": lambda number: [trio.alice.send(name, number, timeout=LIMIT) for name in ("Bob", "Carol")],  # type: ignore[func-returns-value]
        "asend": lambda number: [trio.alice.asend(name, number) for name in ("Bob", "Carol")],
        "broadcast": lambda number: trio.alice.broadcast(number, timeout=LIMIT),
        "async_broadcast": lambda number: [trio.alice.async_broadcast(number)],
    }


@pytest.mark.parametrize("name", ["send", "asend", "broadcast", "async_broadcast"])
def test_sending(trio: Trio, kind: Kind, name: str) -> None:
    number = next(trio.numbers)
    send = sends(trio)[name]

    def look(outcome: Outcome) -> None:
        nonlocal number
        whole = outcome.value is not NOTHING
        if whole and name.startswith("a"):
            for handle in outcome.value:
                handle.result(timeout=LIMIT)
        trio.arrived(number, certainly=whole)
        number = next(trio.numbers)

    everywhere(lambda: send(number), look, kind, by_turns=True)


# -- the beginning -----------------------------------------------------------------------------------------------------


def test_wait_ready(trio: Trio, kind: Kind) -> None:
    def look(outcome: Outcome) -> None:
        number = trio.sent(trio.bob)
        assert trio.alice.recv("Bob", timeout=LIMIT) == number

    everywhere(lambda: trio.alice.wait_ready(LIMIT), look, kind, by_turns=True)


def fresh(trio: Trio) -> SyncPool:
    pool = SyncPool(name="Dave", settings=quick())
    pool.add_http_client("Bob", LOCAL, trio.bob.port)
    return pool


def test_the_first_use(trio: Trio, kind: Kind) -> None:
    pool = fresh(trio)

    def look(outcome: Outcome) -> None:
        nonlocal pool
        within(lambda: pool.arecv("Bob").cancel())
        within(lambda: pool.shutdown(0))
        pool = fresh(trio)

    everywhere(lambda: pool.arecv("Bob"), look, kind, by_turns=True)


# -- the end -----------------------------------------------------------------------------------------------------------


ENDS: dict[str, Callable[[SyncPool], Any]] = {
    "shutdown": lambda pool: pool.shutdown(20 * UNIT),
    "abort": lambda pool: pool.abort("why not"),
    "with": lambda pool: pool.__exit__(None, None, None),
    "with, after an error": lambda pool: pool.__exit__(ValueError, ValueError(), None),
}


@pytest.fixture
def swallowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is raised where no code of ours can catch it: the standard library takes threads that end out of sets of its own."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: seen.append(found.exc_traceback.tb_frame.f_code))
    yield
    assert {os.path.basename(code.co_filename) for code in seen} <= {"_weakrefset.py"}


@pytest.mark.usefixtures("swallowed")
@pytest.mark.parametrize("end", ENDS)
def test_the_end(trio: Trio, kind: Kind, end: str) -> None:
    pool = fresh(trio)
    waiting = pool.arecv("Bob")

    def look(outcome: Outcome) -> None:
        nonlocal pool, waiting
        if outcome.raised is not None and under_way(outcome.raised, type(pool)):
            # It ends, whatever was struck: the program knows that it has left the pool.
            assert isinstance(waiting.exception(LIMIT), CommunicationError)
        within(lambda: pool.shutdown(0))
        assert isinstance(waiting.exception(LIMIT), CommunicationError)
        # Where an interrupt strikes in `Thread.join`, Python takes a thread for one that has ended a moment before it does.
        deadline = time.monotonic() + LIMIT
        while any(thread.name.startswith("mpccomm Dave") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
        pool = fresh(trio)
        waiting = pool.arecv("Bob")

    everywhere(lambda: ENDS[end](pool), look, kind, by_turns=True)
    pool.shutdown(0)


def under_way(error: BaseException, owner: type) -> bool:
    """Whether a method of the class had begun when the signal came: it was not only about to be called."""
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_qualname.startswith(f"{owner.__name__}."):
            begins = next(step.offset for step in dis.get_instructions(code) if step.opname.startswith("RESUME"))
            return traceback.tb_lasti > begins
        traceback = traceback.tb_next
    return False


def within(call: Callable[[], Any]) -> None:
    """The call ends."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()
