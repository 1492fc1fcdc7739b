"""A future that the program has forgotten or given up leaves its message; one that anything waits for is not forgotten."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, as_completed, wait
from random import Random
from types import FrameType
from typing import Any

import pytest

from mpccomm import MemoryNetwork, Pool, Serialization, SyncPool
from mpccomm.engine import futures, thread_futures
from mpccomm.engine.requests import FutureCall
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, Log, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

LIMIT = 100 * UNIT

pytestmark = pytest.mark.usefixtures("loop_factory")


class Counted:
    """How often it was read."""

    read = 0

    def serialize(self, **kwargs: object) -> int:
        return 5

    @staticmethod
    def deserialize(obj: int, **kwargs: object) -> int:
        Counted.read += 1
        return obj


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("msg_id", [None, "named"])
@pytest.mark.parametrize("arrives", ["before the call", "after the call"])
async def test_one_that_is_done_and_was_not_looked_at_leaves_its_message_to_the_next_in_order(
    face: str, msg_id: str | None, arrives: str
) -> None:
    Serialization.register_class(Counted, check_annotations=False)
    Counted.read = 0
    try:
        async with faces(face, "Bob") as (alice, (bob,)):
            if arrives == "before the call":
                await bob.send("Alice", Counted(), msg_id)
                ((_, future),) = await alice("arecv_all", ["Bob"], msg_id)
            else:
                ((_, future),) = await alice("arecv_all", ["Bob"], msg_id)
                await bob.send("Alice", Counted(), msg_id)
            await bob.send("Alice", 2, msg_id)
            await until(future.done)
            del future
            gc.collect()
            assert [await alice("recv", "Bob", msg_id, LIMIT) for _ in range(2)] == [5, 2]
            assert Counted.read == 1, "what was read once is not read again"
    finally:
        Serialization.clear_serialization_logic()


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: future,
        lambda future: asyncio.gather(future),
        lambda future: asyncio.shield(future),
        lambda future: asyncio.wait_for(future, LIMIT),
        lambda future: asyncio.wait((future,)),
    ],
    ids=["await", "gather", "shield", "wait_for", "wait"],
)
@pytest.mark.parametrize("face", ["asyncio", "another loop"])
async def test_a_task_that_is_cancelled_before_it_can_go_on_leaves_the_message(
    face: str, wait: Callable[[Any], Any]
) -> None:
    async with faces(face, "Bob") as (alice, (bob,)):
        ((_, future),) = await alice("arecv_all")

        async def waits(future: asyncio.Future[Any]) -> Any:
            # Called first, before whatever wakes the task.
            this = asyncio.current_task()
            assert this is not None
            future.add_done_callback(lambda _: this.cancel())
            return await wait(future)

        task = asyncio.ensure_future(waits(future))
        await asyncio.sleep(0)
        del future
        await bob.send("Alice", 1)
        await asyncio.wait((task,), timeout=LIMIT)
        # The `wait_for` of Python 3.11 rather returns what is there.
        left = task.cancelled()
        assert left or task.result() == 1
        del task, waits
        gc.collect()
        await bob.send("Alice", 2)
        assert await alice("recv", "Bob", timeout=LIMIT) == (1 if left else 2)


@pytest.mark.parametrize("msg_id", [None, "named"])
@pytest.mark.parametrize("arrives_first", [True, False])
async def test_it_is_there_for_the_next_receive(msg_id: str | None, arrives_first: bool) -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        future = alice.arecv("Bob", msg_id)
        await asyncio.sleep(0)
        if arrives_first:
            del future
            gc.collect()
            await bob.send("Alice", 1, msg_id)
        else:
            sending = asyncio.ensure_future(bob.send("Alice", 1, msg_id))
            del future
            gc.collect()
            await sending
        assert await alice.recv("Bob", msg_id, timeout=LIMIT) == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: asyncio.gather(future),
        lambda future: asyncio.shield(future),
        lambda future: asyncio.wait_for(future, LIMIT),
        lambda future: asyncio.wait((future,)),
    ],
    ids=["gather", "shield", "wait_for", "wait"],
)
async def test_what_a_task_waits_for_is_kept_by_that(wait: Callable[[object], object]) -> None:
    """Also where the program has the task alone, or not even that."""
    async with pools("Alice", "Bob") as (alice, bob):
        done = asyncio.Event()

        async def waits() -> None:
            await wait(alice.arecv("Bob"))  # type: ignore[misc]
            done.set()

        async def plainly() -> None:
            assert await alice.arecv("Bob", "plain") == 2
            done.set()

        for make, sent in ((waits, (1, None)), (plainly, (2, "plain"))):
            done.clear()
            task = asyncio.ensure_future(make())
            await asyncio.sleep(0)
            del task
            gc.collect()
            await bob.send("Alice", *sent)
            await asyncio.wait_for(done.wait(), LIMIT)


async def test_one_of_another_loop_than_the_pool_is_on() -> None:
    async with pools("Bob") as (bob,):
        alice = Pool(name="Alice", settings=quick())
        alice.add_http_server(0, LOCAL)
        assert bob.port is not None
        assert alice.port is not None
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        await alice.wait_ready(LIMIT)

        async def forget() -> None:
            alice.arecv("Bob")
            gc.collect()

        await asyncio.to_thread(lambda: asyncio.run(forget()))
        await bob.send("Alice", 1)
        assert await alice.recv("Bob", timeout=LIMIT) == 1
        await alice.shutdown()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", ["forgotten", "cancelled"])
async def test_what_comes_together_with_its_message_arrives(
    face: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It gives its message back while the calls of the batch end, of which some end by that."""
    log = Log(caplog)
    async with faces(face, "Bob") as (alice, (bob,)):
        await alice("wait_ready", LIMIT)
        first = await alice("arecv", "Bob", "first") if face == "blocking" else alice("arecv", "Bob", "first")
        others = [
            await alice("arecv", "Bob", name) if face == "blocking" else alice("arecv", "Bob", name) for name in "xyz"
        ]
        await asyncio.sleep(0)
        if how == "cancelled":
            first.cancel()  # type: ignore[union-attr]
        del first
        gc.collect()
        for name in ("first", *"xyz"):
            bob.asend("Alice", name, name)
        if face == "blocking":
            others = [asyncio.wrap_future(other) for other in others]  # type: ignore[arg-type]
        assert await asyncio.gather(*others) == ["x", "y", "z"]
        assert await alice("recv", "Bob", "first", LIMIT) == "first"
        await bob.send("Alice", "goes on")
        assert await alice("recv", "Bob", None, LIMIT) == "goes on"
    assert not log.lines("closed a connection")
    assert not log.lines("lost")


async def test_reading_its_message_for_another_may_use_the_pool() -> None:
    """A cancelled receive gives its message to the next one, whose class calls the pool, which looks for such receives."""

    class Confirmed:
        def serialize(self, **kwargs: object) -> int:
            return 1

        @staticmethod
        def deserialize(obj: int, **kwargs: object) -> int:
            alice.asend("Bob", "seen")
            return obj

    Serialization.register_class(Confirmed, check_annotations=False)
    try:
        async with pools("Alice", "Bob") as (alice, bob):

            async def cancel() -> None:
                await alice.recv("Bob", "first")
                receiving.cancel()

            cancelling = asyncio.ensure_future(cancel())
            receiving = asyncio.ensure_future(alice.recv("Bob", "x"))
            await asyncio.sleep(0)
            future = alice.arecv("Bob", "x")
            await asyncio.sleep(0)
            bob.asend("Alice", 0, "first")
            bob.asend("Alice", Confirmed(), "x")
            await cancelling
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await asyncio.wait_for(future, LIMIT) == 1
            assert await bob.recv("Alice", timeout=LIMIT) == "seen"
    finally:
        Serialization.clear_serialization_logic()


# -- forgotten while the pool's loop gives it its message -------------------------------------------------------------------


def test_one_that_a_thread_forgets_just_then_is_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MemoryNetwork()
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        alice.wait_ready(LIMIT)
        owner, here, over = alice.pool._engine.loop_owner, threading.Event(), threading.Event()
        original = thread_futures._resolve

        def resolve(outcomes: list[Any], value: Any, error: Exception | None) -> bool:
            taken = original(outcomes, value, error)
            if value is not None:  # it is a receive
                here.set()
                deadline = time.monotonic() + LIMIT
                while not (over.is_set() or owner.posted) and time.monotonic() < deadline:
                    time.sleep(0.001)  # until the receive below has got as far as it gets
            return taken

        monkeypatch.setattr(thread_futures, "_resolve", resolve)
        handle = alice.arecv("Bob")
        sent = [bob.asend("Alice", number) for number in range(3)]
        assert here.wait(LIMIT)
        del handle
        got = alice.recv("Bob", timeout=LIMIT)
        over.set()
        assert [got, alice.recv("Bob", timeout=LIMIT), alice.recv("Bob", timeout=LIMIT)] == [0, 1, 2]
        wait(sent)


async def test_one_of_another_loop_that_is_forgotten_before_it_has_arrived_there_is_not_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = threading.Event()
    original = FutureCall._give

    def give(call: FutureCall, value: Any, error: BaseException | None) -> None:
        original(call, value, error)
        given.set()

    monkeypatch.setattr(FutureCall, "_give", give)

    async def elsewhere(alice: Pool) -> list[int]:
        future = alice.arecv("Bob")
        assert given.wait(LIMIT)  # this loop stands still
        del future
        return [await alice.recv("Bob", timeout=LIMIT) for _ in range(3)]

    async with pools("Alice", "Bob") as (alice, bob):
        receiving = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere(alice)))
        for number in range(3):
            await bob.send("Alice", number)
        assert await receiving == [0, 1, 2]


@pytest.mark.parametrize("end", ["cancel", "forget"])
@pytest.mark.parametrize("face", ["blocking", "another loop"])
def test_one_that_ends_before_it_has_begun_leaves_the_others_their_numbers(end: str, face: str) -> None:
    """However busy the pool's loop is, and whatever it still has to withdraw."""
    with duo() as (alice, bob):
        bob.send("Alice", 0)
        bob.send("Alice", 1)
        owner, over, begun = alice.pool._engine.loop_owner, threading.Event(), threading.Event()

        def stand_still() -> None:
            begun.set()
            over.wait(LIMIT)

        def ask(arecv: Callable[[str], Any]) -> Any:
            owner.post_soon(stand_still)
            assert begun.wait(LIMIT)
            owner.withdraw_forgotten()
            first, second = arecv("Bob"), arecv("Bob")
            if end == "cancel":
                first.cancel()
            del first
            over.set()
            return second

        async def elsewhere() -> int:
            return int(await asyncio.wait_for(ask(alice.pool.arecv), LIMIT))

        got = ask(alice.arecv).result(LIMIT) if face == "blocking" else asyncio.run(elsewhere())
        assert (got, alice.recv("Bob", timeout=LIMIT)) == (1, 0)


@pytest.mark.parametrize("end", ["cancel", "forget"])
@pytest.mark.parametrize("face", ["blocking", "another loop"])
def test_one_asked_for_before_the_end_of_another_keeps_its_number(end: str, face: str) -> None:
    """However many others have ended before, which the pool's loop may be about to withdraw."""
    with duo() as (alice, bob):

        def give_up(handle: Any) -> None:
            if end == "cancel":
                handle.cancel()

        def ask(channel: Any, before: int) -> tuple[Any, Any]:
            for _ in range(before):
                give_up(channel.arecv("Bob"))
            first, second = channel.arecv("Bob"), channel.arecv("Bob")
            give_up(first)
            del first
            return second, channel.arecv("Bob")

        async def elsewhere(name: str, before: int) -> list[int]:
            handles = ask(alice.pool.channel(name), before)
            for number in range(2):
                bob.channel(name).asend("Alice", number)
            return [await asyncio.wait_for(handle, LIMIT) for handle in handles]

        for turn in range(60):
            name, before = f"turn {turn}", turn % 4
            if face == "blocking":
                handles = ask(alice.channel(name), before)
                for number in range(2):
                    bob.channel(name).asend("Alice", number)
                got = [handle.result(LIMIT) for handle in handles]
            else:
                got = asyncio.run(elsewhere(name, before))
            assert got == [1, 0]


def test_one_that_is_forgotten_before_it_has_begun_is_not_passed_by() -> None:
    """Whoever looks for such receives while it is about to begin."""
    with duo() as (alice, bob):
        owner, begun = alice.pool._engine.loop_owner, threading.Event()
        for number in range(3):
            begun.clear()
            bob.send("Alice", number)

            def stand_still() -> None:
                begun.set()
                deadline = time.monotonic() + LIMIT
                while len(owner.posted) < 4 and time.monotonic() < deadline:
                    time.sleep(0.001)  # the receive below has begun to wait

            owner.post_soon(stand_still)
            assert begun.wait(LIMIT)
            owner.withdraw_forgotten()
            alice.arecv("Bob")
            assert alice.recv("Bob", timeout=LIMIT) == number
        assert not owner.forgotten


@pytest.mark.parametrize("how", ["awaited", "with a callback", "with a callback that came late"])
def test_one_whose_loop_is_closed_as_its_message_comes_is_not_passed_by(
    how: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with duo() as (alice, bob):
        futures: list[asyncio.Future[int]] = []

        async def ask() -> None:
            futures.append(alice.pool.arecv("Bob"))
            if how == "with a callback":
                futures[0].add_done_callback(print)
            if how == "awaited":
                await futures.pop()

        loop = loop_factory()
        task: Any = loop.create_task(ask())
        task._log_destroy_pending = False
        loop.run_until_complete(asyncio.sleep(UNIT / 10))
        waiting = alice.pool._engine.party("Bob").link.mailbox
        deadline = time.monotonic() + LIMIT
        while next(waiting.receives(), None) is None and time.monotonic() < deadline:
            time.sleep(0.001)
        bob.send("Alice", 0)  # while the loop stands still
        if how == "with a callback that came late":
            futures[0].add_done_callback(print)
        loop.close()
        futures.clear()
        del task, loop
        gc.collect()
        bob.send("Alice", 1)
        assert [alice.recv("Bob", timeout=LIMIT) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("face", ["blocking", "another loop"])
def test_one_that_is_done_and_forgotten_in_a_cycle_is_not_passed_by(face: str) -> None:
    """The collector tells of such a one only what is referred to from elsewhere."""

    class Job:
        def __init__(self, handle: Any) -> None:
            self.handle, self.me = handle, self

    with duo() as (alice, bob):
        unread = alice.pool._engine.loop_owner.unread

        def forget(job: Job) -> None:
            bob.send("Alice", 0)
            deadline = time.monotonic() + LIMIT
            while not unread and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(unread) == 1
            del job
            gc.collect()

        async def elsewhere() -> None:
            forget(Job(alice.pool.arecv("Bob")))

        for _ in range(3):
            if face == "blocking":
                forget(Job(alice.arecv("Bob")))
            else:
                asyncio.run(elsewhere())
            bob.send("Alice", 1)
            assert [alice.recv("Bob", timeout=LIMIT) for _ in range(2)] == [0, 1]
            assert not unread
        handle = alice.arecv("Bob")
        bob.send("Alice", 2)
        assert handle.result(LIMIT) == 2
        assert not unread


def test_one_whose_callback_does_not_look_at_the_message_is_not_passed_by() -> None:
    with duo() as (alice, bob):
        called = threading.Event()
        handle = alice.arecv("Bob")
        handle.add_done_callback(lambda handle: called.set())
        end = weakref.ref(handle)
        del handle
        bob.send("Alice", 0)
        bob.send("Alice", 1)
        assert called.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while end() is not None and time.monotonic() < deadline:
            time.sleep(0.001)  # the thread of the callbacks lets go of it
        assert [alice.recv("Bob", timeout=LIMIT) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("begun", [False, True])
def test_one_whose_caller_is_interrupted_twice_is_not_passed_by(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its handle is kept, as by a profiler that looks at the frames."""
    kept = []

    def cancel(handle: Future[int]) -> bool:
        kept.append(handle)
        raise KeyboardInterrupt

    with duo() as (alice, bob):
        post = alice._post

        def interrupted(function: Callable[[], None]) -> None:
            if begun:
                post(function)
            raise KeyboardInterrupt

        for number in range(2):
            bob.send("Alice", number)
        with monkeypatch.context() as patch:
            patch.setattr(alice, "_post", interrupted)
            patch.setattr(thread_futures.ThreadFuture, "cancel", cancel)
            with pytest.raises(KeyboardInterrupt):
                alice.arecv("Bob")
        assert [alice.recv("Bob", timeout=LIMIT) for _ in range(2)] == [0, 1]
        assert len(kept) == 1


@pytest.mark.parametrize("outcome", ["message", "error"])
async def test_one_of_another_loop_that_has_a_callback_is_not_forgotten_on_the_way_there(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = threading.Event()
    original = futures.WeakWaiter.resolve

    def resolve(waiter: futures.WeakWaiter, value: Any, error: Exception | None) -> bool | None:
        taken = original(waiter, value, error)
        given.set()
        return taken

    monkeypatch.setattr(futures.WeakWaiter, "resolve", resolve)

    async def elsewhere(alice: Pool) -> object:
        heard = asyncio.get_running_loop().create_future()
        future = alice.arecv("Bob", expect=int)
        assert given.wait(LIMIT)  # this loop stands still
        future.add_done_callback(lambda done: heard.set_result(done.exception() or done.result()))
        del future
        gc.collect()
        return await asyncio.wait_for(heard, LIMIT)

    async with pools("Alice", "Bob") as (alice, bob):
        hearing = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere(alice)))
        await bob.send("Alice", 5 if outcome == "message" else "no number")
        assert await hearing == 5 if outcome == "message" else isinstance(await hearing, Exception)


@pytest.mark.parametrize("look", ["wait", "first exception", "exception", "as_completed", "wait for one more"])
def test_those_that_a_thread_has_waited_for_at_once_and_then_forgets_are_not_passed_by(look: str) -> None:
    interval = sys.getswitchinterval()
    with duo() as (alice, bob):
        try:
            for turn in range(100):
                sys.setswitchinterval((1e-6, 1e-5, 1e-4)[turn % 3])
                handles = [alice.arecv("Bob") for _ in range(3)]
                sent = [bob.asend("Alice", number) for number in range(3)]
                if look == "wait":
                    wait(handles, LIMIT, FIRST_COMPLETED)
                elif look == "first exception":
                    handles[0].exception(LIMIT)
                    wait(handles, LIMIT, FIRST_EXCEPTION)  # this asks those that are done for their errors
                elif look == "exception":
                    assert [handle.exception(LIMIT) for handle in handles] == [None] * 3
                elif look == "as_completed":
                    next(as_completed(handles, LIMIT))
                else:
                    with pytest.raises(TimeoutError):
                        list(as_completed([*handles, Future[int]()], UNIT / 100))
                del handles
                gc.collect()  # the error, and with it the frames of those who waited, are in a cycle
                assert [alice.recv("Bob", timeout=LIMIT) for _ in range(3)] == [0, 1, 2]
                wait(sent)
        finally:
            sys.setswitchinterval(interval)


def look_at_frames(over: threading.Event) -> None:
    """Keep the frames of all threads for a moment, again and again, as a profiler does."""
    while not over.is_set():
        kept = []
        for frame in sys._current_frames().values():
            outer: FrameType | None = frame
            # Of a coroutine that has been suspended since, Python 3.11 may return anything at all as the frame outside.
            while isinstance(outer, FrameType):
                kept.append(outer)
                outer = outer.f_back
        time.sleep(0.0005)


@pytest.mark.parametrize("profiled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_order_holds_whatever_is_forgotten(seed: int, profiled: bool) -> None:
    """Messages stream in, and a thread forgets receives, cancels them, and receives, in any order."""
    random, network, count = Random(seed), MemoryNetwork(seed), 1500
    interval = sys.getswitchinterval()
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        alice.wait_ready(LIMIT)

        def stream() -> None:
            pace = Random(seed)
            for number in range(count):
                bob.asend("Alice", (number, bytes(pace.choice((0, 10, 5000)))))
                if not pace.randrange(4):
                    time.sleep(pace.random() * 0.001)

        sending, over = threading.Thread(target=stream), threading.Event()
        profiler = threading.Thread(target=look_at_frames, args=(over,))
        sys.setswitchinterval(random.choice((1e-6, 1e-5, 1e-4)))
        try:
            sending.start()
            if profiled:
                profiler.start()
            got: list[int] = []
            while len(got) < count:
                handle = alice.arecv("Bob") if random.random() < 0.5 else None
                if handle is not None and random.random() < 0.5:
                    time.sleep(random.random() * 0.001)
                if handle is not None and random.random() < 0.3 and not handle.cancel():
                    got.append(handle.result(LIMIT)[0])
                del handle
                if len(got) < count:
                    got.append(alice.recv("Bob", timeout=LIMIT)[0])
        finally:
            sys.setswitchinterval(interval)
            sending.join()
            over.set()
            if profiled:
                profiler.join()
    assert got == list(range(count))


@pytest.mark.parametrize("face", FACES)
async def test_no_frame_keeps_one(face: str) -> None:
    """Frames may be kept when they are over, as `explain` and profilers do that look at those of all threads."""
    frames: list[FrameType] = []

    def keep(frame: FrameType, event: str, argument: object) -> None:
        frames.append(frame)

    async with Pool(name="Alice") as native:
        with SyncPool(name="Alice") as blocking:
            pool: Any = {"asyncio": native, "blocking": blocking, "another loop": blocking.pool}[face]
            pool.add_http_client("Bob", LOCAL, 1)
            await asyncio.sleep(0)
            sys.setprofile(keep)
            try:
                future = pool.arecv("Bob")
            finally:
                sys.setprofile(None)
            end = weakref.ref(future)
            del future
            assert end() is None
            assert {frame.f_code.co_name for frame in frames} >= {"arecv", "_future_of"}
            frames.clear()
