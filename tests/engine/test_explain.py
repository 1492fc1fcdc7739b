"""What a pool says of itself when a program hangs."""

import asyncio
import io
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType

import pytest

from mpccomm import ConfigurationError, Limits, MemoryNetwork, Pool, SyncPool, explain_on_signal
from mpccomm.engine.explain import explain_if_asked
from mpccomm.settings import EXPLAIN
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, pools, quick, until
from tests.programs import running
from tests.timing import UNIT


def explained(pool: Pool | SyncPool) -> str:
    text = io.StringIO()
    pool.explain(text)
    return text.getvalue()


@pytest.mark.parametrize("kind", FACES)
async def test_who_waits_for_what(kind: str) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        await bob.send("Alice", 1, "gradient")
        receive = asyncio.ensure_future(call("recv", "Bob", "gradients"))

        async def explanation() -> str:
            text = io.StringIO()
            called: object = call("explain", text)
            if isinstance(called, Awaitable):
                await called
            return text.getvalue()

        while "receive of" not in await explanation():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)
        lines = (await explanation()).splitlines()
        assert lines[0].startswith("Alice, listening at 127.0.0.1:")
        assert lines[1].startswith("  Bob (127.0.0.1:")
        assert ": connected" in lines[1]
        assert lines[2].startswith("    receive of 'gradients' has waited for ")
        assert lines[3] == "    here from it are 'gradient'; no receive has asked for that"
        await bob.send("Alice", 2, "gradients")
        assert await receive == 2
        assert "no call waits: the program computes" in await explanation()
        await call("recv", "Bob", "gradient")


async def test_parties_that_are_not_there() -> None:
    async with pools("Alice") as (alice,):
        alice.add_http_client("Bob", LOCAL, 1)
        handle = alice.asend("Bob", 1, "shares")
        waiting = asyncio.ensure_future(alice.wait_ready())
        party = alice._engine.party("Bob")
        await until(lambda: party.oldest[0] is not None and party.failed_dials and party.expected)
        text = explained(alice)
        assert "Bob (127.0.0.1:1): not connected yet: connection refused" in text
        assert "    not delivered yet: 'shares', the first for about " in text
        assert "    wait_ready waits for it" in text
        waiting.cancel()
        await alice.shutdown(0)
        assert isinstance(handle.exception(), Exception)


async def test_a_full_box() -> None:
    async with pools("Alice", "Bob", settings=quick(limits=Limits(box_messages=2))) as (alice, bob):
        handles = [alice.asend("Bob", number) for number in range(20)]
        party = alice._engine.party("Bob")
        await until(lambda: party.link.sender.held_back and party.oldest[0] is not None)
        text = explained(alice)
        assert "its box is full: " in text
        assert "#9, ..." in text
        for number in range(20):
            assert await bob.recv("Alice") == number
        await asyncio.gather(*handles)
        await until(lambda: "not delivered" not in explained(alice))


async def test_where_tasks_of_the_program_stand() -> None:
    async def waits_here(pool: Pool) -> object:
        async with asyncio.timeout(100 * UNIT):
            return await pool.recv("Bob")

    async with pools("Alice", "Bob") as (alice, bob):
        task = asyncio.create_task(waits_here(alice), name="worker")
        await until(lambda: list(alice._engine.party("Bob").link.mailbox.receives()))
        line = waits_here.__code__.co_firstlineno + 2
        assert f"worker is at {__file__}:{line} in {waits_here.__qualname__}, in a call of mpccomm" in explained(alice)
        assert "aiohttp" not in explained(alice)
        await bob.send("Alice", 1)
        assert await task == 1


def test_where_threads_of_the_program_stand() -> None:
    network = MemoryNetwork()
    with SyncPool(name="Alice", network=network) as alice, SyncPool(name="Bob", network=network) as bob:
        network.connect(alice, bob)
        thread = threading.Thread(target=lambda: alice.recv("Bob"), name="worker")
        thread.start()
        party = alice._engine.party("Bob")
        while not list(party.link.mailbox.receives()):
            pass
        text = explained(alice)
        assert f"worker is at {__file__}:" in text
        assert "in a call of mpccomm" in text
        assert f"{threading.current_thread().name} is at {__file__}:" in text
        assert "mpccomm Alice is at" not in text
        bob.send("Alice", 1)
        thread.join()


def test_threads_without_a_line_of_the_program_are_left_out() -> None:
    """As those of a notebook's kernel, and the idle ones of an executor."""
    place = Path(sysconfig.get_paths()["purelib"]) / "ipykernel" / "heartbeat.py"
    begun, end = threading.Event(), threading.Event()
    code = compile("begun.set(), end.wait()", str(place), "eval")
    run = FunctionType(code, {"begun": begun, "end": end})
    thread = threading.Thread(target=run, name="of the kernel")
    thread.start()
    begun.wait()
    try:
        with ThreadPoolExecutor(1, "idle") as executor, SyncPool(name="Alice") as alice:
            executor.submit(int).result()
            text = explained(alice)
    finally:
        end.set()
        thread.join()
    assert f"{threading.current_thread().name} is at {__file__}:" in text
    assert "of the kernel" not in text
    assert "idle" not in text


def test_a_pool_without_anything() -> None:
    with SyncPool() as pool:
        assert explained(pool).splitlines()[:2] == [
            "a pool without a name, without a server, plain HTTP, not encrypted",
            "  no parties; add one with add_http_client",
        ]
    assert "shut down" in explained(pool)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
@pytest.mark.parametrize("face", ["blocking", "asyncio", "uvloop"])
def test_on_a_signal_of_a_program_that_hangs(face: str, tmp_path: Path) -> None:
    if face == "uvloop":
        pytest.importorskip("uvloop")
    script = tmp_path / "program.py"
    blocking = "pool.recv('Bob', 'x')"
    others = f"import {face}\nasync def main():\n    await pool.pool.recv('Bob', 'x')\n{face}.run(main())"
    body = textwrap.dedent(f"""
        import threading
        from mpccomm import SyncPool, explain_on_signal
        explain_on_signal()
        pool = SyncPool(name="Alice")
        pool.add_http_client("Bob", "{LOCAL}", 1)
        print("ready", flush=True)
    """)
    script.write_text(body + (blocking if face == "blocking" else others), encoding="utf-8")
    command = [sys.executable, str(script)]
    with (
        running(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process,
        said(process) as lines,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        explained = ""
        while "receive of 'x' has waited for" not in explained:
            # One signal for each answer: a program that is asked all the time comes to nothing else.
            process.send_signal(signal.SIGUSR1)
            explained = ""
            while "MainThread is at" not in explained:
                try:
                    line = lines.get(timeout=20 * UNIT)
                except queue.Empty:
                    # It came when Python had looked for signals, and had not gone to sleep yet: nothing wakes it.
                    process.send_signal(signal.SIGUSR1)
                    continue
                assert line, f"it ended after {explained!r}"
                explained += line


@contextmanager
def said(process: subprocess.Popen[str]) -> Iterator[queue.SimpleQueue[str]]:
    """The lines that a process prints on stderr, as they come, and an empty one at its end. At the end of this it is killed."""
    lines = queue.SimpleQueue[str]()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.put(line)
        lines.put("")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lines
    finally:
        process.kill()
        reader.join()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        monkeypatch.delenv(EXPLAIN, raising=False)
        explain_if_asked()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        monkeypatch.setenv(EXPLAIN, "1")
        thread = threading.Thread(target=explain_if_asked)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        explain_if_asked()
        own = signal.getsignal(signal.SIGUSR1)
        assert own not in (signal.SIG_DFL, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        explain_if_asked()
        assert signal.getsignal(signal.SIGUSR1) is not own
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_where_the_system_has_no_such_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    with pytest.raises(ConfigurationError, match="name another signal"):
        explain_on_signal()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_what_goes_wrong_in_it_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        explain_on_signal()
        monkeypatch.setattr("mpccomm.engine.explain.explain", lambda *engines: 1 / 0)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert "mpccomm can't explain itself: ZeroDivisionError" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_threads_of_one_name_are_told_of_each() -> None:
    go_on = threading.Event()

    def work() -> None:
        go_on.wait()

    threads = [threading.Thread(target=work, name="worker") for _ in range(2)]
    async with Pool() as pool:
        for thread in threads:
            thread.start()
        try:
            await until(lambda: explained(pool).count("worker is at") == 2)
        finally:
            go_on.set()
            for thread in threads:
                thread.join()
