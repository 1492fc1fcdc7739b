"""Ctrl-C in blocking calls, in processes of their own."""

import signal
import sys
import time

import pytest

from tests.sync.duo import ends, line, peer_of
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


STORM = """
import random
count = {count}
armed = ended = False
hits = 0

def storm():
    rng = random.Random(5)
    while not ended:
        time.sleep(rng.random() * 0.002)
        if armed:
            os.kill(os.getpid(), signal.SIGINT)

me.wait_ready()
thread = threading.Thread(target=storm)
thread.start()
received = []
while len(received) < count:
    try:
        armed = True
        received.append(me.recv("peer"))
        armed = False
    except KeyboardInterrupt:
        armed = False
        hits += 1
ended = True
thread.join()
print(hits)
print(received == list(range(count)), flush=True)
me.shutdown()
"""


def test_a_storm_loses_nothing_and_keeps_the_order() -> None:
    count = 3000
    with peer_of(STORM.format(count=count)) as (pool, process):
        for number in range(count):
            pool.send("program", number)
        assert int(line(process)) > 50
        assert line(process) == "True"
        pool.shutdown()
        assert ends(process, 100 * UNIT)[0] == 0


def test_a_second_one_is_not_swallowed() -> None:
    body = """
    me.add_http_client("nobody", "127.0.0.1", 9)
    me.asend("nobody", "never delivered")
    me.send("peer", "about to shut down")
    try:
        me.shutdown(linger=600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        time.sleep(600)
    """
    with peer_of(body) as (pool, process):
        pool.recv("program")
        time.sleep(UNIT)
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted"
        process.send_signal(signal.SIGINT)
        assert ends(process, 100 * UNIT)[0] == -signal.SIGINT
