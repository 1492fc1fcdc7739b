"""A connection within one process: how it ends, and what of it arrives."""

import asyncio

import pytest
from aiohttp import WSMsgType

from mpccomm.sync.loop_thread import LoopThread
from mpccomm.transport.memory_stream import Passage, Pipe
from mpccomm.transport.stream import WebSocket


def pipe() -> Pipe:
    loop = asyncio.get_running_loop()
    return Pipe(loop, loop)


async def received(socket: WebSocket) -> list[object]:
    """Batches until the end, and then how it ended."""
    found: list[object] = []
    while (message := await socket.receive()).type is WSMsgType.BINARY:
        found.append(message.data)
    return [*found, message.type, message.data]


async def test_what_was_sent_before_the_end_arrives() -> None:
    ends = pipe()
    await ends.ours.send_bytes(b"1")
    await ends.ours.send_bytes(b"2")
    await ends.ours.close(code=4003)
    assert await received(ends.theirs) == [b"1", b"2", WSMsgType.CLOSE, 4003]
    assert ends.theirs.close_code == ends.ours.close_code == 4003
    for end in (ends.ours, ends.theirs):
        assert await received(end) == [WSMsgType.CLOSED, None]
        with pytest.raises(ConnectionResetError):
            await end.send_bytes(b"3")
        assert await end.close()


async def test_nothing_arrives_after_a_cut() -> None:
    ends = pipe()
    await ends.ours.send_bytes(b"1")
    waiting = asyncio.ensure_future(received(ends.ours))
    await asyncio.sleep(0)
    ends.cut()
    assert await waiting == await received(ends.theirs) == [WSMsgType.CLOSED, None]


@pytest.mark.parametrize("arrives", [True, False])
async def test_it_breaks_with_a_batch(arrives: bool) -> None:
    class Brittle:
        ends = 0

        def passes(self, forth: bool, batch: bytes) -> Passage:
            return Passage(arrives=arrives, breaks=True) if batch == b"2" else Passage()

        def over(self) -> None:
            self.ends += 1

    loop, course = asyncio.get_running_loop(), Brittle()
    ends = Pipe(loop, loop, course)
    await ends.theirs.send_bytes(b"back")
    await ends.ours.send_bytes(b"1")
    with pytest.raises(ConnectionResetError):
        await ends.ours.send_bytes(b"2")
    assert course.ends
    assert await received(ends.ours) == [WSMsgType.CLOSED, None]
    assert await received(ends.theirs) == [b"1", *([b"2"] if arrives else []), WSMsgType.CLOSED, None]


async def test_a_full_pipe_holds_back() -> None:
    ends = pipe()
    sending = asyncio.ensure_future(_send(ends.ours, 100))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sending.done()
    assert len(ends._end.other._arrived) < 20
    assert [(await ends.theirs.receive()).data for _ in range(100)] == [bytes((number,)) for number in range(100)]
    await sending
    sending = asyncio.ensure_future(_send(ends.ours, 100))
    for _ in range(10):
        await asyncio.sleep(0)
    await ends.theirs.close(code=1000)
    with pytest.raises(ConnectionResetError):
        await sending


async def _send(socket: WebSocket, batches: int) -> None:
    for number in range(batches):
        await socket.send_bytes(bytes((number,)))


async def test_between_two_threads() -> None:
    here = asyncio.get_running_loop()
    found: asyncio.Future[list[object]] = here.create_future()
    loops: list[asyncio.AbstractEventLoop] = []
    thread = LoopThread("other")
    thread.start(loops.append)
    (there,) = loops
    ends = Pipe(here, there)

    async def other() -> None:
        everything = await received(ends.theirs)
        here.call_soon_threadsafe(found.set_result, everything)

    running = asyncio.run_coroutine_threadsafe(other(), there)
    batches = [bytes((number,)) for number in range(200)]
    await _send(ends.ours, 200)
    await ends.ours.close(code=1000)
    assert await found == [*batches, WSMsgType.CLOSE, 1000]
    await asyncio.wrap_future(running)
    thread.stop()
    # Whoever was there is gone.
    ends = Pipe(here, there)
    await ends.ours.send_bytes(b"into the void")
    ends.cut()
    assert await received(ends.ours) == [WSMsgType.CLOSED, None]
