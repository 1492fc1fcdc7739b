"""SIGTERM: what was sent is delivered, the others hear of the end, and a program's own handler stays. And the stop button."""

import asyncio
import signal
import sys
import threading
import time
from functools import partial

import pytest

from mpccomm import PartyAbortedError, PartyShutDownError
from mpccomm.sync import signals
from tests.sync.duo import PREAMBLE, ends, line, peer_of, program
from tests.timing import UNIT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process could notice")


def test_what_was_sent_is_delivered_and_the_others_hear_of_it() -> None:
    with peer_of("me.asend('peer', 'last words')\nme.recv('peer')", "-W", "ignore") as (pool, process):
        assert pool.recv("program") == "last words"
        process.send_signal(signal.SIGTERM)
        assert ends(process, 60 * UNIT) == (128 + signal.SIGTERM, "", "")
        with pytest.raises(PartyShutDownError):
            pool.recv("program", timeout=50 * UNIT)


WAITING = {
    # Not in one sleep: a signal that comes at the moment at which it begins would wait for its end.
    "thread": "threading.Thread(target=work).start()\nwhile True: time.sleep(0.1)",
    "executor": """
import concurrent.futures
executor = concurrent.futures.ThreadPoolExecutor()
executor.submit(work)
while True: time.sleep(0.1)
""",
}


@pytest.mark.parametrize("which", WAITING)
def test_a_thread_that_waits_keeps_no_process(which: str) -> None:
    """When the main program is over it has the time that messages have, and the others hear of the end."""
    body = f"""
import atexit
me = SyncPool(name="me", settings=Settings(linger=0.3))
me.add_http_server(0, "127.0.0.1")
me.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
print(me.port, flush=True)

def work():
    me.send("peer", "ready")
    print(me.recv("peer"), flush=True)
    try:
        me.recv("peer")
    except PoolClosedError:
        print("closed", flush=True)

atexit.register(print, "at exit", flush=True)
{WAITING[which]}
"""
    preamble = "import os, signal, sys, threading, time\nfrom mpccomm import *\n"
    with peer_of(body, "-W", "ignore", preamble=preamble) as (pool, process):
        assert pool.recv("program") == "ready"
        process.send_signal(signal.SIGTERM)
        # Until then it is as any thread after sys.exit.
        pool.send("program", "go on")
        assert ends(process, 60 * UNIT) == (128 + signal.SIGTERM, "go on\nclosed\nat exit\n", "")
        with pytest.raises(PartyShutDownError):
            pool.recv("program", timeout=50 * UNIT)


def test_a_main_program_that_waits_for_a_thread_says_so() -> None:
    body = """
me = SyncPool(name="me", settings=Settings(linger=0))
me.add_http_server(0, "127.0.0.1")
me.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
print(me.port, flush=True)
with concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mine") as executor:
    executor.submit(me.recv, "peer")
    me.send("peer", "ready")
    while True: time.sleep(0.1)
"""
    preamble = "import concurrent.futures, sys, time\nfrom mpccomm import *\n"
    with peer_of(body, "-W", "ignore", preamble=preamble) as (pool, process):
        assert pool.recv("program") == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.readline()
        while "told to end" not in said:
            assert said, "it ended"
            said = process.stderr.readline()
        assert "it may wait for mine_0, where" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(60 * UNIT) == -signal.SIGTERM


def test_a_handler_of_the_program_stays() -> None:
    body = """
    signal.signal(signal.SIGTERM, lambda *_: print('handled', flush=True))
    me.send('peer', 'ready')
    print(me.recv('peer'))
    """
    with peer_of(body) as (pool, process):
        assert pool.recv("program") == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "handled"
        pool.send("program", "and on it goes")
        assert ends(process, 60 * UNIT)[:2] == (0, "and on it goes\n")


TOLD_TO_END = """
    me = SyncPool(settings=Settings(linger=1000))
    me.add_http_client("nobody", "127.0.0.1", 9)
    me.asend("nobody", 1)
    try:
        print("ready", flush=True)
        me.recv("nobody")
    finally:
""".strip()
"""What a signal has to say is written behind it."""


def test_the_second_one_does_not_wait() -> None:
    body = f"""
    {TOLD_TO_END}
        atexit.register(print, "lingering", flush=True)
    """
    # Registered before the pools are, it would be called when they have ended: after their lingering.
    preamble = "import atexit\natexit.register(print, 'not reached')\nfrom mpccomm import *\n"
    with program(body, None, preamble=preamble) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "lingering"
        process.send_signal(signal.SIGTERM)
        assert ends(process, 60 * UNIT)[:2] == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    "ends_it",
    ["me.shutdown()", "me.__exit__(None, None, None)", "SyncPool(name='another').add_http_server(0, '127.0.0.1')"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_the_second_one_does_not_wait_for_an_end_that_the_program_asks_for(
    ends_it: str, number: signal.Signals
) -> None:
    body = f"""
    {TOLD_TO_END}
        print("ending", flush=True)
        {ends_it}
        print("waiting", flush=True)
        time.sleep(1000)
    """
    with program(body, None, preamble="import time\nfrom mpccomm import *\n") as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == "ending"
        if ends_it.startswith("SyncPool"):
            assert line(process) == "waiting"
        else:
            assert process.stderr is not None
            assert "is ending, and waits" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60 * UNIT) == -signal.SIGTERM


def test_a_program_that_sets_the_default_again_means_it() -> None:
    body = """
    with SyncPool() as pool:
        pool.add_http_server(0, "127.0.0.1")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    with program(body, None, preamble="import signal\nfrom mpccomm import *\n") as process:
        assert ends(process, 60 * UNIT) == (0, "True\n", "")


@pytest.mark.parametrize("last", ["the end of a with", "shutdown", "abort"])
def test_one_that_comes_while_the_pool_ends_cuts_nothing_short(last: str) -> None:
    """What is under way gets the time that it would have had."""
    size = 40_000_000
    body = f"""
    def tell_of_the_end():
        while not me.pool._engine.ending.asked_for:
            time.sleep(0.001)
        print("ending", flush=True)

    with {"me" if last == "the end of a with" else "nullcontext()"}:
        me.wait_ready()
        me.asend("peer", bytes({size}))
        threading.Thread(target=tell_of_the_end, daemon=True).start()
    {"" if last == "the end of a with" else f"me.{last}()"}
    """
    preamble = f"from contextlib import nullcontext\n{PREAMBLE}"
    with peer_of(body, "-W", "ignore", preamble=preamble) as (pool, process):
        pool.wait_ready()
        # It reads nothing for now.
        held = threading.Event()
        pool.pool._engine.loop_owner.post_soon(partial(held.wait, 60 * UNIT))
        assert line(process) == "ending"
        process.send_signal(signal.SIGTERM)
        time.sleep(10 * UNIT)  # more than an end that is cut short may take
        held.set()
        if last == "abort":
            with pytest.raises(PartyAbortedError):
                pool.recv("program", timeout=60 * UNIT)
        else:
            assert len(pool.recv("program", timeout=60 * UNIT)) == size
        assert ends(process, 60 * UNIT)[0] == 128 + signal.SIGTERM


def test_in_another_thread_nothing_is_changed() -> None:
    body = """
    print("started", flush=True)

    def work():
        with SyncPool() as pool:
            pool.add_http_server(0, "127.0.0.1")

    thread = threading.Thread(target=work); thread.start(); thread.join()
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    with SyncPool() as pool:
        pool.add_http_server(0, "127.0.0.1")
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    with program(body, None, preamble="import signal, threading\nfrom mpccomm import *\n") as process:
        assert line(process) == "started"  # which may take its time
        assert ends(process, 60 * UNIT) == (0, "True\nFalse\n", "")


async def test_a_loop_of_a_notebook_is_kept_awake_while_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(signals, "_PERIOD", UNIT / 100)
    asked = 0
    over = asyncio.Event()

    def needed() -> bool:
        nonlocal asked
        asked += 1
        if asked == 5:
            over.set()
        return asked < 5

    signals.keep_notebook_awake(needed)
    await over.wait()
    assert asked == 5


async def test_a_loop_is_not_kept_awake_in_a_program() -> None:
    assert not hasattr(sys, "ps1")
    signals.keep_notebook_awake(lambda: pytest.fail("there is nothing to ask"))


def test_nothing_is_kept_awake_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    signals.keep_notebook_awake(lambda: pytest.fail("there is nothing to ask"))
