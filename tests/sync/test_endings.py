"""In which ways programs end: what was sent is delivered, the others hear of it, and the exit status is the program's own."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mpccomm import PartyAbortedError, PartyShutDownError, SyncPool
from mpccomm.engine.thread_futures import Gate
from mpccomm.sync import loop_thread
from mpccomm.sync.pool import lifetime_of
from tests.pools import LOCAL, quick
from tests.sync.duo import ends, peer_of
from tests.timing import UNIT

LIMIT = 200 * UNIT
COUNT = 5
QUIET = ("-W", "ignore")

unix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither forks nor signals that end a program politely"
)


def delivered(pool: SyncPool, *, answered: bool = False, end: type[Exception] = PartyShutDownError) -> None:
    """All of it arrived, and then the end was told."""
    for number in range(COUNT):
        assert pool.recv("program", timeout=LIMIT) == number
        if answered:
            pool.send("program", number, timeout=LIMIT)
    with pytest.raises(end):
        pool.recv("program", timeout=LIMIT)


WITHIN = f"""
with me:
    for number in range({COUNT}):
        me.asend("peer", number)
    """


@pytest.mark.parametrize(
    ("last", "status", "told"),
    [
        ("sys.exit(0)", 0, PartyShutDownError),
        ("sys.exit()", 0, PartyShutDownError),
        ("sys.exit(143)", 143, PartyShutDownError),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1000)", 143, PartyShutDownError, marks=unix),
        pytest.param("os.kill(os.getpid(), signal.SIGHUP); time.sleep(1000)", 129, PartyShutDownError, marks=unix),
        ("sys.exit(1)", 1, PartyAbortedError),
        ("1 / 0", 1, PartyAbortedError),
    ],
)
def test_how_a_with_block_is_left(last: str, status: int, told: type[Exception]) -> None:
    with peer_of(WITHIN + last, *QUIET) as (pool, process):
        if told is PartyShutDownError:
            delivered(pool)
        else:
            # Also where it had not been connected yet.
            with pytest.raises(told):
                for _ in range(COUNT + 1):
                    pool.recv("program", timeout=LIMIT)
        code, output, errors = ends(process, LIMIT)
        assert (code, output) == (status, "")
        assert errors.count("Traceback") == (last == "1 / 0")


@pytest.mark.parametrize("body", ["", "del me"], ids=["at exit", "forgotten"])
def test_where_warnings_are_errors_the_last_messages_arrive(body: str) -> None:
    with peer_of(f"for number in range({COUNT}): me.asend('peer', number)\n{body}", "-W", "error") as (pool, process):
        delivered(pool)
        code, _, errors = ends(process, LIMIT)
        assert code == 0
        assert "never shut down" in errors.splitlines()[-1]


WORK = f"""
over = threading.Event()
def work():
    over.wait()
    for number in range({COUNT}):
        me.send("peer", number)
        me.recv("peer")
"""
EXECUTOR = """
executor = ThreadPoolExecutor()
threading._register_atexit(over.set)  # before executors are waited for
executor.submit(work)
"""
LATE = {
    "a thread": "threading.Thread(target=work).start()\nthreading._register_atexit(over.set)",
    "a handler of atexit": "import atexit\nover.set()\natexit.register(work)",
}


@pytest.mark.parametrize("late", LATE)
def test_what_goes_on_when_the_main_program_is_over_can_use_the_pool(late: str) -> None:
    with peer_of(WORK + LATE[late], *QUIET) as (pool, process):
        delivered(pool, answered=True)
        assert ends(process, LIMIT) == (0, "", "")


IMPORTS = """
import os, sys, threading
{}
me = SyncPool(name="me")
me.add_http_server(0, "127.0.0.1")
me.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
print(me.port, flush=True)
"""
ORDERS = (
    "import concurrent.futures.thread\nfrom mpccomm import *",
    "from mpccomm import *\nimport concurrent.futures.thread",
)


@pytest.mark.parametrize("order", ORDERS, ids=["executors first", "the pool first"])
def test_whatever_was_imported_first(order: str) -> None:
    body = WORK + "from concurrent.futures import ThreadPoolExecutor" + EXECUTOR
    with peer_of(body, *QUIET, preamble=IMPORTS.format(order)) as (pool, process):
        delivered(pool, answered=True)
        assert ends(process, LIMIT) == (0, "", "")


LINGERING = """
import os, signal, sys, threading
from mpccomm import *
me = SyncPool(name="me", settings=Settings(linger={linger}))
me.add_http_server(0, "127.0.0.1")
me.add_http_client("peer", "127.0.0.1", int(sys.argv[1]))
me.add_http_client("nobody", "127.0.0.1", 9)
me.asend("nobody", "never delivered")
print(me.port, flush=True)
"""
THREAD = """
forever = threading.Event()
def work():
    threading.main_thread().join()
    me.send("peer", "over")
    {}
threading.Thread(target=work{}).start()
"""
OVER = {
    "the program is over": "me.asend('peer', 'over')",
    "its threads go on": THREAD.format("forever.wait()", ""),
    "its threads are about to end": THREAD.format("", ""),
}


# What an interrupt means to threads that are waited for is Python's to say.
@unix
@pytest.mark.parametrize(
    ("number", "over"), [*((signal.SIGTERM, over) for over in OVER), (signal.SIGINT, "the program is over")]
)
def test_a_signal_when_the_main_program_is_over(number: signal.Signals, over: str) -> None:
    linger = 10 * UNIT if number is signal.SIGTERM else 1000
    with peer_of(OVER[over], *QUIET, preamble=LINGERING.format(linger=linger)) as (pool, process):
        assert pool.recv("program", timeout=LIMIT) == "over"
        process.send_signal(number)
        with pytest.raises(PartyShutDownError):
            pool.recv("program", timeout=LIMIT)
        code, output, errors = ends(process, LIMIT)
        assert (code, output) == (128 + number, "")
        assert "Traceback" not in errors


@unix
def test_a_terminal_that_is_closed() -> None:
    body = f"for number in range({COUNT}): me.asend('peer', number)\nme.recv('peer')"
    with peer_of(body, *QUIET) as (pool, process):
        for number in range(COUNT):
            assert pool.recv("program", timeout=LIMIT) == number
        process.send_signal(signal.SIGHUP)
        with pytest.raises(PartyShutDownError):
            pool.recv("program", timeout=LIMIT)
        assert ends(process, LIMIT) == (128 + signal.SIGHUP, "", "")


FORKED = """
me.send("peer", 0)
there, here = os.pipe()
child = os.fork()
if child == 0:
    os.write(here, b"x")
    {}
else:
    os.read(there, 1)
    {}
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for number in range(1, 5):
        me.send("peer", number)
"""
CHILDREN = {
    "ends by itself": ("pass", "pass", 0),
    "forgets the pool": ("del me; import gc; gc.collect()", "pass", 0),
    "calls sys.exit": ("sys.exit(3)", "pass", 3),
    "is told to end": ("time.sleep(1000)", "os.kill(child, signal.SIGTERM)", -15),
    "loses its terminal": ("time.sleep(1000)", "os.kill(child, signal.SIGHUP)", -1),
}


@unix
@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("child", CHILDREN)
def test_a_forked_child_ends_as_other_processes_do(child: str) -> None:
    theirs, ours, status = CHILDREN[child]
    with peer_of(FORKED.format(theirs, ours), *QUIET) as (pool, process):
        delivered(pool)
        assert ends(process, LIMIT) == (0, f"{status}\n", "")


@pytest.mark.parametrize("late", ["shutdown", "abort", "__exit__"])
@pytest.mark.parametrize("face", ["asyncio", "uvloop"])
def test_closed_again_in_the_last_moment_of_its_loop(monkeypatch: pytest.MonkeyPatch, late: str, face: str) -> None:
    base: Any = asyncio.SelectorEventLoop if face == "asyncio" else pytest.importorskip("uvloop").Loop
    errors: list[BaseException | None] = []

    class Loop(base):  # type: ignore[misc]
        """In its last turn it is told of one more call."""

        asked: threading.Event | None = None

        def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> Any:
            handle = super().call_soon_threadsafe(*arguments, **options)
            if self.asked is not None:
                self.asked.set()
            return handle

        async def shutdown_default_executor(self, *arguments: Any) -> None:
            await super().shutdown_default_executor(*arguments)
            self.asked = threading.Event()
            second.start()
            assert self.asked.wait(LIMIT)

    def again() -> None:
        try:
            getattr(pool, late)(*([None] * 3 if late == "__exit__" else []))
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    monkeypatch.setattr(loop_thread, "new_event_loop", Loop)
    pool = SyncPool(name="Alice", settings=quick())
    second = threading.Thread(target=again)
    pool.add_http_server(0, LOCAL)
    pool.shutdown()
    second.join(LIMIT)
    assert errors == [None]


@pytest.mark.filterwarnings("ignore:the pool of thread:ResourceWarning")
@pytest.mark.parametrize(
    "end",
    [lambda pool: pool.shutdown(0), lambda pool: lifetime_of(pool).wind_up()],
    ids=["shutdown", "wound up"],
)
def test_one_whose_first_use_was_interrupted_ends(
    end: Callable[[SyncPool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread has begun, and has no loop yet."""
    hold, begun, made = threading.Event(), threading.Event(), loop_thread.new_event_loop

    def later() -> asyncio.AbstractEventLoop:
        begun.set()
        assert hold.wait(LIMIT)
        return made()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop_thread, "new_event_loop", later)
    pool = SyncPool(settings=quick())
    pool.add_http_client("Bob", LOCAL, 9)
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.arecv("Bob")
    assert begun.wait(LIMIT)
    ending = threading.Thread(target=end, args=(pool,))
    ending.start()
    ending.join(UNIT)
    hold.set()
    ending.join(LIMIT)
    assert not ending.is_alive()
    lifetime_of(pool).join(LIMIT)
    assert not lifetime_of(pool).alive
