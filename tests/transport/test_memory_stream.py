"""A connection within one process: how it ends, and what of it arrives."""

import asyncio
from collections.abc import Iterable

import pytest

from mpccomm.sync.loop_thread import LoopThread
from mpccomm.transport.memory_stream import IdealPath, Pipe, Transit
from mpccomm.transport.stream import Stream
from tests.pools import until


def pipe() -> Pipe:
    loop = asyncio.get_running_loop()
    return Pipe(loop, loop)


class End:
    """Sends what it is given, and notes what arrives."""

    def __init__(self, stream: Stream, batches: Iterable[bytes] = (), close: int | None = None) -> None:
        self.stream = stream
        self.batches = list(batches)
        self.received: list[bytes] = []
        self.close = close
        self.ending = asyncio.ensure_future(stream.run(self))

    def batch_received(self, batch: bytes | memoryview) -> None:
        self.received.append(bytes(batch))

    def heard(self) -> None:
        raise AssertionError("everything is whole here")

    def closed(self) -> None:
        raise AssertionError("the end comes at once here")

    @property
    def more(self) -> bool:
        return True

    def batch_to_send(self, budget: int) -> bytes:
        if self.batches:
            return self.batches.pop(0)
        if self.close is not None:
            self.stream.close(self.close)
        return b""

    async def end(self) -> tuple[list[bytes], int | None]:
        """What arrived until the end, and with which code the other side made it."""
        await self.ending
        return self.received, self.stream.ended_with


async def test_what_was_sent_before_the_end_arrives() -> None:
    ends = pipe()
    ours = End(ends.ours, [b"1", b"2"], close=4003)
    theirs = End(ends.theirs)
    assert await theirs.end() == ([b"1", b"2"], 4003)
    assert await ours.end() == ([], None)
    for end in (ends.ours, ends.theirs):
        end.close(4000)
        end.wake()
        await end.ended()
        again = End(end)
        assert (await again.end())[0] == []


async def test_the_first_batch_waits_for_somebody_to_take_it() -> None:
    ends = pipe()
    ours = End(ends.ours, [b"1", b"2", b"3"])
    assert await ends.theirs.first() == b"1"
    assert await ends.theirs.first() == b"1"
    await asyncio.sleep(0)
    theirs = End(ends.theirs)
    await until_received(theirs, 3)
    ours.stream.close(1000)
    assert await theirs.end() == ([b"1", b"2", b"3"], 1000)
    ends = pipe()
    ends.ours.close(4001)
    assert await ends.theirs.first() is None
    assert ends.theirs.ended_with == 4001


async def until_received(end: End, count: int) -> None:
    await until(lambda: len(end.received) >= count)


async def test_nothing_arrives_after_a_cut() -> None:
    ends = pipe()
    ours, theirs = End(ends.ours, [b"1"]), End(ends.theirs)
    await asyncio.sleep(0)
    ends.cut()
    assert await ours.end() == await theirs.end() == ([], None)


@pytest.mark.parametrize("arrives", [True, False])
async def test_it_breaks_with_a_batch(arrives: bool) -> None:
    class Brittle(IdealPath):
        ends = 0

        def transfer(self, forth: bool, batch: bytes, now: float) -> Transit:
            return Transit(arrives=arrives, breaks=True) if batch == b"2" else Transit()

        def closed(self) -> None:
            self.ends += 1

    loop, course = asyncio.get_running_loop(), Brittle()
    ends = Pipe(loop, loop, course)
    ours, theirs = End(ends.ours, [b"1", b"2", b"3"]), End(ends.theirs)
    assert await ours.end() == ([], None)
    assert await theirs.end() == ([b"1", *([b"2"] if arrives else [])], None)
    assert course.ends == 2


async def test_a_full_pipe_holds_back() -> None:
    ends = pipe()
    ours = End(ends.ours, [bytes((number,)) for number in range(100)])
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(ours.batches) > 80
    theirs = End(ends.theirs)
    await until_received(theirs, 100)
    assert theirs.received == [bytes((number,)) for number in range(100)]
    ends.cut()
    await asyncio.gather(ours.end(), theirs.end())


async def test_what_is_on_its_way_keeps_its_order() -> None:
    class Slow(IdealPath):
        def transfer(self, forth: bool, batch: bytes, now: float) -> Transit:
            return Transit(0.02 if batch == b"\0" else 0.001)

        def closed(self) -> None:
            pass

    loop = asyncio.get_running_loop()
    ends = Pipe(loop, loop, Slow())
    batches = [bytes((number % 4,)) for number in range(30)]
    ours, theirs = End(ends.ours, batches, close=1000), End(ends.theirs)
    assert await theirs.end() == (batches, 1000)
    await ours.end()


async def test_an_error_of_whoever_takes_it_ends_it() -> None:
    class Broken(End):
        def batch_received(self, batch: bytes | memoryview) -> None:
            raise RuntimeError("broken")

    ends = pipe()
    ours, theirs = End(ends.ours, [b"1"]), Broken(ends.theirs)
    with pytest.raises(RuntimeError, match="broken"):
        await theirs.end()
    assert await ours.end() == ([], None)


async def test_between_two_threads() -> None:
    here = asyncio.get_running_loop()
    found: asyncio.Future[tuple[list[bytes], int | None]] = here.create_future()
    loops: list[asyncio.AbstractEventLoop] = []
    thread = LoopThread()
    thread.start("other", loops.append)
    (there,) = loops
    ends = Pipe(here, there)

    async def other() -> None:
        everything = await End(ends.theirs).end()
        here.call_soon_threadsafe(found.set_result, everything)

    running = asyncio.run_coroutine_threadsafe(other(), there)
    batches = [number.to_bytes(2, "big") for number in range(500)]
    ours = End(ends.ours, batches, close=1000)
    assert await found == (batches, 1000)
    await ours.end()
    await asyncio.wrap_future(running)
    thread.stop()
    # The other end is gone.
    ends = Pipe(here, there)
    ours = End(ends.ours, [b"into the void"])
    await asyncio.sleep(0)
    ends.cut()
    assert await ours.end() == ([], None)
