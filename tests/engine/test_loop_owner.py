"""Functions on one loop, in the order in which they were posted, whichever thread posted them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

import pytest

from mpccomm import PoolClosedError, WrongThreadError
from mpccomm.engine.loop_owner import _TURN, LoopOwner
from tests.timing import UNIT


def settled() -> LoopOwner:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    return owner


async def test_at_once_on_the_loop_and_soon_from_elsewhere() -> None:
    owner, seen = settled(), []
    owner.post(lambda: seen.append("here"))
    assert seen == ["here"]
    thread = threading.Thread(target=owner.post, args=(lambda: seen.append("there"),))
    thread.start()
    thread.join()
    assert seen == ["here"]
    assert owner.is_busy()
    await asyncio.sleep(0)
    assert seen == ["here", "there"]
    assert not owner.is_busy()


async def test_what_is_posted_here_comes_after_what_was_posted_before() -> None:
    owner, seen = settled(), []
    owner.post_soon(lambda: seen.append(1))
    owner.post(lambda: seen.append(2))
    assert seen == [1, 2]


async def test_what_a_posted_function_posts_comes_after_it() -> None:
    owner, seen = settled(), []

    def outer() -> None:
        owner.post(lambda: seen.append("inner"))
        seen.append("outer")

    owner.post_soon(outer)
    await asyncio.sleep(UNIT / 100)
    assert seen == ["outer", "inner"]


async def test_a_chain_without_end_lets_others_have_their_turn() -> None:
    owner, links = settled(), 0

    def link() -> None:
        nonlocal links
        links += 1
        if links < 5000:
            owner.post_soon(link)

    owner.post_soon(link)
    turns = 0
    while links < 5000:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1000


async def test_what_fails_keeps_nothing_else_from_running() -> None:
    owner, seen, told = settled(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    def fail() -> None:
        raise ZeroDivisionError

    for function in (fail, lambda: seen.append(1)):
        owner.post_soon(function)
    await asyncio.sleep(0)
    assert seen == [1]
    assert [type(error) for error in told] == [ZeroDivisionError]


async def test_the_order_of_each_of_many_threads_is_kept() -> None:
    owner = settled()
    seen: list[tuple[int, int]] = []

    def appending(pair: tuple[int, int]) -> Callable[[], None]:
        return lambda: seen.append(pair)

    def post_all(thread: int) -> None:
        for number in range(500):
            owner.post(appending((thread, number)))

    threads = [threading.Thread(target=post_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while len(seen) < 2000:  # noqa: ASYNC110 - each turn of the loop runs some
        await asyncio.sleep(0)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [at for which, at in seen if which == number] == list(range(500))


async def test_where_much_is_posted_the_loop_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, waiting = settled(), list[int]()
    monkeypatch.setattr("mpccomm.engine.loop_owner.sleep", lambda _: waiting.append(len(owner.posted)))

    def post_many() -> None:
        for _ in range(2 * _TURN + 1):
            owner.post_soon(lambda: None)

    thread = threading.Thread(target=post_many)
    thread.start()
    thread.join()
    assert waiting == [_TURN - 1, 2 * _TURN - 1]
    await asyncio.sleep(0)
    post_many()
    assert len(waiting) == 2, "on the loop's own thread nothing is waited for"


def test_a_closed_loop_takes_nothing() -> None:
    loop = asyncio.new_event_loop()
    owner = LoopOwner()
    owner.check()
    owner.settle_in(loop)
    with pytest.raises(WrongThreadError, match="does not run now"):
        owner.check()
    loop.close()
    assert not owner.here
    with pytest.raises(PoolClosedError, match="is closed; make a new pool"):
        owner.check()
    with pytest.raises(PoolClosedError):
        owner.post_soon(lambda: None)
    assert not owner.is_busy()


async def test_workers_are_threads_of_its_own_and_end() -> None:
    owner, done = settled(), threading.Event()
    names: list[str] = []

    def work() -> None:
        names.append(threading.current_thread().name)
        done.set()

    owner.run_in_worker(work)
    assert await asyncio.to_thread(done.wait, 100 * UNIT)
    owner.close_workers()
    owner.close_workers()
    assert names[0].startswith("mpccomm")


def test_what_strikes_at_the_beginning_comes_out_at_the_end() -> None:
    done: list[str] = []

    def struck() -> None:
        # As by a signal handler, where the loop has called, and before anything else.
        entering.throw(ArithmeticError)

    entering = LoopOwner().entering(lambda: done.append("done")).__self__  # type: ignore[attr-defined]
    with pytest.raises(ArithmeticError):
        struck()
    assert done == ["done"]
    LoopOwner().entering(lambda: done.append("again"))()
    assert done == ["done", "again"]


async def test_what_a_signal_handler_raises_in_the_middle_ends_the_pool() -> None:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    found: list[BaseException] = []
    owner.split = found.append

    def interrupted() -> None:
        signal.default_int_handler(signal.SIGINT, None)

    with pytest.raises(KeyboardInterrupt):
        owner.post(interrupted)
    assert [type(error) for error in found] == [KeyboardInterrupt]


async def test_what_is_left_for_afterwards_runs_once_in_the_same_turn() -> None:
    owner, seen = settled(), list[str]()

    def leave(name: str) -> None:
        seen.append(name)
        if not owner.afterwards:
            owner.afterwards.append(lambda: seen.append("afterwards"))

    owner.post_soon(lambda: leave("first"))
    owner.post_soon(lambda: leave("second"))
    await asyncio.sleep(0)
    assert seen == ["first", "second", "afterwards"]
    owner.afterwards.append(lambda: seen.append("what an interrupt has kept from it"))
    owner.resume()
    assert len(seen) == 4


async def test_what_was_posted_runs_though_the_loop_was_kept_from_it() -> None:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    done: list[int] = []
    # As where an interrupt has lost the call of the loop.
    owner.posted.append(lambda: done.append(1))
    owner._scheduled = True
    owner.resume()
    assert done == [1]
