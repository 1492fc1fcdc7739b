"""Calls that meet no event loop, or hold one up: the error or the log says what to do."""

import asyncio
import importlib.util
import logging
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpccomm import CommunicationError, Pool, SyncPool
from mpccomm.engine import engine, thread_futures
from mpccomm.errors import WrongThreadError
from mpccomm.sync import blocking
from tests.pools import LOCAL, Log, quick, until
from tests.sync.duo import ends, program
from tests.timing import UNIT

CALLS: dict[str, Callable[[Pool], Any]] = {
    "asend": lambda pool: pool.asend("Bob", 1),
    "arecv": lambda pool: pool.arecv("Bob"),
    "send": lambda pool: pool.send("Bob", 1).send(None),
    "recv": lambda pool: pool.recv("Bob").send(None),
    "recv_all": lambda pool: pool.recv_all().send(None),
    "wait_ready": lambda pool: pool.wait_ready().send(None),
    "enter": lambda pool: pool.__aenter__().send(None),
}


@pytest.mark.parametrize("call", CALLS)
def test_where_no_event_loop_runs(call: str) -> None:
    pool = Pool(settings=quick())
    pool.add_http_client("Bob", LOCAL, 9)
    with pytest.raises(WrongThreadError, match=r"asyncio\.run.*SyncPool.*trio\.to_thread"):
        CALLS[call](pool)
    pool._engine.close_unused()


@pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="pip install trio")
def test_in_trio() -> None:
    body = """
    import trio

    async def main():
        native = Pool()
        native.add_http_client("nobody", "127.0.0.1", 9)
        for call in (native.send("nobody", 1), native.recv("nobody"), native.wait_ready()):
            try:
                await call
            except WrongThreadError as error:
                print("trio.to_thread" in str(error))
        with SyncPool() as here, SyncPool() as there:
            for pool in (here, there):
                pool.add_http_server(0, "127.0.0.1")
            here.add_http_client("there", "127.0.0.1", there.port)
            there.add_http_client("here", "127.0.0.1", here.port)
            here.asend("there", "as the error says")
            print(await trio.to_thread.run_sync(there.recv, "here"))

    trio.run(main)
    """
    with program(textwrap.dedent(body), None, preamble="from mpccomm import *\n") as process:
        assert ends(process, 100 * UNIT)[:2] == (0, "True\n" * 3 + "as the error says\n")


@pytest.mark.parametrize("handle", [False, True], ids=["a call", "a handle"])
async def test_a_blocking_call_on_the_loop_of_a_pool(
    handle: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_POLL", UNIT / 2)
    monkeypatch.setattr(thread_futures, "_LONG", UNIT)
    monkeypatch.setattr(engine, "_STANDSTILL", UNIT)
    log = Log(caplog)
    settings = quick()
    async with Pool(name="Bob", settings=settings) as bob:
        bob.add_http_server(0, LOCAL)
        with SyncPool(name="Alice", settings=settings) as alice:
            alice.add_http_server(0, LOCAL)
            alice.add_http_client("Bob", LOCAL, bob.port)
            bob.add_http_client("Alice", LOCAL, alice.port)
            with pytest.raises(CommunicationError):
                if handle:
                    alice.asend("Bob", 1).result(timeout=5 * UNIT)
                else:
                    alice.send("Bob", 1, timeout=5 * UNIT)
            (line,) = log.lines("holds up the event loop", logging.WARNING)
            assert "on which mpccomm Bob lives" in line
            assert "asyncio.to_thread" in line
            assert await bob.recv("Alice") == 1
            # And what else holds it up is told when it is over.
            time.sleep(4 * UNIT)  # noqa: ASYNC251
            await until(lambda: bool(log.lines("stood still for", logging.WARNING)))


async def test_a_short_one_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(settings=quick()) as bob:
        bob.add_http_server(0, LOCAL)
        with SyncPool(settings=quick()) as alice, pytest.raises(CommunicationError):
            alice.add_http_client("nobody", LOCAL, 9)
            await asyncio.sleep(0)
            alice.recv("nobody", timeout=UNIT)
    assert not Log(caplog).lines("event loop", logging.WARNING)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_coroutines_of_a_pool_end_with_a_loop_that_is_closed_before_it(loop: str) -> None:
    pytest.importorskip(loop)
    body = f"""
    import asyncio, {loop}
    from itertools import permutations

    async def main():
        global pools
        pools = [Pool(name=name) for name in ("Alice", "Bob")]
        for pool in pools:
            pool.add_http_server(0, "127.0.0.1")
        for pool, other in permutations(pools):
            pool.add_http_client(other.name, "127.0.0.1", other.port)
        await asyncio.gather(*(pool.wait_ready() for pool in pools))

    loop = {loop}.new_event_loop()
    loop.run_until_complete(main())
    loop.create_task(pools[0].shutdown())  # one of them in the middle of its end
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    """
    with program(textwrap.dedent(body), None, preamble="from mpccomm import *\n") as process:
        code, _, errors = ends(process, 100 * UNIT)
    assert code == 0
    # What asyncio and aiohttp say of their tasks and transports they say all the same.
    assert "GeneratorExit" not in errors
