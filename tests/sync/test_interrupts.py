"""Ctrl-C in blocking calls, in processes of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.sync.duo import PREAMBLE, ends, line, peer_of
from tests.timing import UNIT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")

WAITS = {
    "recv": "me.recv('peer')",
    "recv_all": "me.recv_all()",
    "wait_ready": "me.add_http_client('nobody', '127.0.0.1', 9); me.wait_ready()",
    "send": "me.add_http_client('nobody', '127.0.0.1', 9); me.send('nobody', 1)",
    "broadcast": "me.add_http_client('nobody', '127.0.0.1', 9); me.broadcast(1)",
}


@pytest.mark.parametrize("call", WAITS)
def test_it_returns_at_once_and_the_pool_goes_on(call: str) -> None:
    body = f"""
    me.send("peer", "about to wait")
    try:
        {WAITS[call]}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(me.recv("peer"), flush=True)
    me.shutdown(0)
    """
    with peer_of(body) as (pool, process):
        assert pool.recv("program") == "about to wait"
        time.sleep(UNIT)  # it is in the call by now; if not, the interrupt meets it on its way there, which is as good
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted"
        assert time.monotonic() - started < 0.5 + UNIT
        pool.send("program", "still here")
        assert line(process) == "still here"
        pool.shutdown()
        assert ends(process, 100 * UNIT)[0] == 0


def test_only_the_own_traceback_is_printed() -> None:
    with peer_of("me.send('peer', 'about to wait')\nme.recv('peer')") as (pool, process):
        pool.recv("program")
        time.sleep(UNIT)
        process.send_signal(signal.SIGINT)
        code, _, errors = ends(process, 100 * UNIT)
        assert code == -signal.SIGINT
        assert errors.count("Traceback") == 1
        assert errors.rstrip().splitlines()[-1].startswith(("KeyboardInterrupt", "ResourceWarning", "  "))


RECEIVED = """
armed, hits, received = False, 0, []

def handler(number, frame):
    global hits
    if armed:
        hits += 1
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, handler)
"""
STORMS = {
    "recv": """
me.wait_ready()
print("ready", flush=True)
while len(received) < {count}:
    try:
        armed = True
        received.append(me.recv("peer"))
        armed = False
    except KeyboardInterrupt:
        armed = False
me.shutdown()
""",
    "handles": """
me.wait_ready()
print("ready", flush=True)
handle = None
while len(received) < {count}:
    try:
        armed = True
        handle = handle or me.arecv("peer")
        value = handle.result()
        armed = False
        handle = None
        received.append(value)
    except KeyboardInterrupt:
        armed = False
me.shutdown()
""",
    "asyncio": """
import asyncio

async def main():
    global hits
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def cancel(number, frame):
        # As `asyncio.run` does it, at whatever instruction; but any number of times.
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)

    async with Pool(name="native") as native:
        native.add_http_server(0, "127.0.0.1")
        print(native.port, flush=True)
        native.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
        await native.wait_ready()
        signal.signal(signal.SIGINT, cancel)
        print("ready", flush=True)
        while len(received) < {count}:
            try:
                received.append(await native.recv("peer"))
            except asyncio.CancelledError:
                hits += 1
                task.uncancel()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.uncancel()

asyncio.run(main())
""",
}
SHOOTER = """
import os, random, signal, sys, time
rng = random.Random(5)
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    time.sleep(rng.random() * 0.01)
    os.kill(int(sys.argv[1]), signal.SIGINT)
"""


@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_from_another_process_loses_nothing_and_keeps_the_order(storm: str) -> None:
    """A thread would shoot only where the main thread has given up the interpreter."""
    count = 500
    body = (
        RECEIVED
        + STORMS[storm].format(count=count)
        + "print(hits)\nprint(received == list(range(len(received))), flush=True)"
    )
    preamble = "import signal, sys\nfrom mpccomm import Pool\n" if storm == "asyncio" else PREAMBLE
    with peer_of(body, preamble=preamble) as (pool, process):
        assert line(process) == "ready"
        shooter = subprocess.Popen(
            [sys.executable, "-c", SHOOTER, str(process.pid), str(os.getpid())], stdout=subprocess.PIPE, text=True
        )
        try:
            assert line(shooter) == "ready"
            for number in range(count):
                pool.send("program", number)
            pool.shutdown()
            output, errors = process.communicate(timeout=200 * UNIT)
        finally:
            shooter.kill()
            shooter.communicate()
        hits, whole = output.split()
        assert whole == "True", errors
        assert int(hits) > 0


def test_a_second_one_is_not_swallowed() -> None:
    body = """
    me.add_http_client("nobody", "127.0.0.1", 9)
    me.asend("nobody", "never delivered")
    me.send("peer", "about to shut down")
    try:
        me.shutdown(linger=600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        while True: time.sleep(0.1)
    """
    with peer_of(body) as (pool, process):
        pool.recv("program")
        time.sleep(UNIT)
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted"
        process.send_signal(signal.SIGINT)
        assert ends(process, 100 * UNIT)[0] == -signal.SIGINT
