"""How programs end that never call `shutdown`, and what a fork inherits."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mpccomm import PartyAbortedError, PartyShutDownError
from tests.pools import LOCAL
from tests.programs import running
from tests.sync.duo import ends, environment, line, peer_of, program
from tests.timing import UNIT

ENDINGS = {
    "falls off the end": ("", 0),
    "an exception": ("raise RuntimeError('boom')", 1),
    "sys.exit": ("sys.exit(7)", 7),
    "made in a thread": (
        "t = threading.Thread(target=lambda: me.send('peer', 'and from a thread')); t.start(); t.join()",
        0,
    ),
    "forgotten": ("del me", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_never_shuts_down_delivers_and_ends(ending: str) -> None:
    how, expected = ENDINGS[ending]
    with peer_of(f"me.asend('peer', 'last words')\n{how}") as (pool, process):
        assert pool.recv("program") == "last words"
        code, output, errors = ends(process, 60 * UNIT)
        assert code == expected
        assert output == ""
        lines = [text for text in errors.splitlines() if "ResourceWarning" in text]
        assert len(lines) == 1
        assert "never shut down" in lines[0]
        assert errors.count("Traceback") == (1 if ending == "an exception" else 0)
        if ending == "made in a thread":
            assert pool.recv("program") == "and from a thread"
        died = ending == "an exception"
        with pytest.raises(PartyAbortedError if died else PartyShutDownError, match="RuntimeError" if died else None):
            pool.recv("program", timeout=50 * UNIT)


def test_nothing_is_printed_where_resource_warnings_are_off() -> None:
    with peer_of("me.send('peer', 1)", "-W", "ignore") as (pool, process):
        pool.recv("program")
        assert ends(process, 60 * UNIT) == (0, "", "")


def test_nobody_to_deliver_to_ends_after_linger() -> None:
    body = """
    me = SyncPool(settings=Settings(linger=0.5))
    me.add_http_client("nobody", "127.0.0.1", 9)
    me.asend("nobody", 1)
    """
    with program(body, None, preamble="from mpccomm import *\n") as process:
        code, _, errors = ends(process, 0.5 + 1 + 40 * UNIT)
        assert code == 0
        assert "could not be delivered" in errors


def test_a_port_already_taken_leaves_nothing_behind() -> None:
    body = """
    try:
        SyncPool().add_http_server(int(sys.argv[1]), "127.0.0.1")
    except PortInUseError as error:
        print(sys.argv[1] in str(error), threading.active_count())
    unused = SyncPool()
    """
    with socket.create_server((LOCAL, 0)) as taken:
        preamble = "import sys, threading\nfrom mpccomm import *\n"
        with program(body, taken.getsockname()[1], preamble=preamble) as process:
            assert ends(process, 60 * UNIT) == (0, "True 1\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork on this system")
def test_a_fork_says_so_and_the_parent_goes_on() -> None:
    body = """
    def say(text):
        os.write(1, f"{text}\\n".encode())  # in one piece: two processes say something

    async def native():
        return me.pool.arecv("peer", "native")

    import asyncio
    loop = asyncio.new_event_loop()
    future = loop.run_until_complete(native())
    me.send("peer", "before")
    received, numbers = me.arecv("peer", "never"), me.as_received(msg_id="number")
    me.add_http_client("missing", "127.0.0.1", 9)
    sent = me.asend("missing", 1)
    child = os.fork()
    if child == 0:
        for call in (
            lambda: me.send("peer", 1), lambda: me.recv("peer"), lambda: me.arecv("peer"),
            lambda: received.result(), lambda: sent.result(), lambda: next(numbers), lambda: loop.run_until_complete(future),
        ):
            try:
                call()
            except PoolClosedError as error:
                say("fork" in str(error))
        me.shutdown()
        sys.stdin.read()
        os._exit(0)
    me.send("peer", "after")
    say(me.recv("peer"))
    del received
    future.cancel()
    loop.close()
    me.shutdown(0.1)
    say("closed")
    again = SyncPool()
    again.add_http_server(me.port, "127.0.0.1")
    again.shutdown()
    say("free")
    """
    with peer_of(body) as (pool, process):
        assert pool.recv("program") == "before"
        pool.send("program", "heard")
        said = sorted(line(process) for _ in range(10))
        assert said == [*["True"] * 7, "closed", "free", "heard"]
        assert pool.recv("program") == "after"
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert ends(process, 60 * UNIT)[0] == 0


SPAWNED = """
import multiprocessing
from mpccomm import SyncPool

def child(pipe):
    with SyncPool() as pool:
        pool.add_http_server(0, "127.0.0.1")
        pipe.send(pool.port)
        pool.add_http_client("parent", "127.0.0.1", pipe.recv())
        pool.send("parent", "from the child")

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with SyncPool() as pool:
        pool.add_http_server(0, "127.0.0.1")
        process = context.Process(target=child, args=(theirs,))
        process.start()
        pool.add_http_client("child", "127.0.0.1", ours.recv())
        ours.send(pool.port)
        print(pool.recv("child"))
        process.join()
        print(process.exitcode)
"""


def test_a_pool_beside_a_spawned_process_with_its_own(tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    command = [sys.executable, str(script)]
    with running(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())) as process:
        assert ends(process, 200 * UNIT)[:2] == (0, "from the child\n0\n")
