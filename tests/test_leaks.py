"""The suite notices what a test leaves behind."""

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.leaks import LeakError, no_leaks

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="open handles are listed on Linux only")

LEAKY = """
import asyncio, socket, threading

kept = []

async def test_clean():
    await asyncio.sleep(0)

async def test_task():
    kept.append(asyncio.ensure_future(asyncio.sleep(1000)))

async def test_hangs():
    await asyncio.Event().wait()

def test_resource_warning():
    socket.socket()

def test_unawaited():
    asyncio.sleep(0)

def test_destroyed_while_pending():
    async def abandon():
        asyncio.ensure_future(asyncio.Event().wait())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(abandon())
    loop.close()

def test_thread_dies():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""


def test_nothing_left() -> None:
    with no_leaks():
        thread = threading.Thread(target=int)
        thread.start()
        with socket.socket():
            pass
        thread.join()


def test_a_thread() -> None:
    stop = threading.Event()
    with pytest.raises(LeakError, match="thread 'forgotten' still runs"), no_leaks():
        thread = threading.Thread(target=stop.wait, name="forgotten")
        thread.start()
    stop.set()
    thread.join()


def test_a_thread_that_is_about_to_stop_is_none() -> None:
    stop = threading.Event()
    with no_leaks():
        threading.Thread(target=stop.wait).start()
        stop.set()


@on_linux
def test_a_socket() -> None:
    with pytest.raises(LeakError, match=r"handle \d+ is open: socket"), no_leaks():
        kept = socket.socket()
    kept.close()


@on_linux
def test_a_socket_in_the_slot_of_another() -> None:
    before = socket.socket()
    slot = before.fileno()
    with pytest.raises(LeakError, match=f"handle {slot} is open: socket"), no_leaks():
        before.close()
        after = socket.socket()
        assert after.fileno() == slot
    after.close()


def test_the_suite_fails_for_each(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    root = Path(__file__).parents[1]
    options = f"-p tests.conftest -p no:cacheprovider -c {root}/pyproject.toml -o timeout=1 --tb=no".split()
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    run = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) .*::(\w+)", run.stdout, re.MULTILINE)
    assert set(failed) == set(re.findall(r"def (test_\w+)", LEAKY)) - {"test_clean"}, run.stdout
