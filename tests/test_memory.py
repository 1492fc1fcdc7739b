"""Memory that arrives: bytes and what can be written to come of it without a copy, and what was announced costs nothing."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
import textwrap

import pytest

from mpccomm import memory
from mpccomm.memory import LARGE, Memory, buffer_of, reserve


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.parametrize("made", [Memory(), Memory(bytes(7)), reserve(7)], ids=["grown", "given", "reserved"])
def test_it_holds_what_was_written(made: Memory) -> None:
    made.write(b"abc")
    made.write(memoryview(b"defg"))
    made.trim()
    assert len(made) == 7
    assert bytes(made) == b"abcdefg"
    assert bytes(buffer_of(made)) == b"abcdefg"


def test_without_a_copy() -> None:
    made = reserve(1_000_000)
    before = address(made.getbuffer())
    made.write(b"x" * 1_000_000)
    assert address(made.getbuffer()) == before
    taken = bytes(made)
    assert taken is bytes(made)
    assert id(taken) < before < id(taken) + 100  # it lies behind the head of the object


def test_what_became_bytes_does_not_change() -> None:
    made = Memory(bytes(5))
    taken = bytes(made)
    view = buffer_of(made)
    assert isinstance(view, memoryview)
    view[:] = b"12345"
    assert taken == bytes(5)


def test_nothing_is_kept_of_what_it_was_given_in_advance() -> None:
    made = Memory()
    for _ in range(1000):
        made.write(b"x" * 1000)
    made.trim()
    assert sys.getsizeof(bytes(made)) <= 1_000_000 + 64


def test_other_buffers_are_what_they_are() -> None:
    for segment in (b"1", bytearray(b"1"), memoryview(b"1")):
        assert buffer_of(segment) is segment


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 256 * 1024 * 1024])
@pytest.mark.parametrize("missing", ["nothing", "the page size", "the call", "ctypes", "Linux"])
def test_it_works_on_every_system(missing: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: None) -> object:
        raise OSError("no such library")

    memory._madvise.cache_clear()
    if missing == "the page size":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    elif missing == "the call":
        monkeypatch.setattr(ctypes, "CDLL", no_library)
    elif missing == "ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    elif missing == "Linux":
        monkeypatch.setattr(sys, "platform", "win32")
    try:
        made = reserve(size)
    finally:
        monkeypatch.undo()
        memory._madvise.cache_clear()
    made.write(b"abc")
    made.seek(-1, 2)
    made.write(b"\1")
    view = made.getbuffer()
    assert bytes(view[:4]) == b"abc\0"
    assert bytes(view[-2:]) == b"\0\1"
    assert len(made) == size


def test_a_program_may_forbid_such_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(memory: Memory) -> None:
        raise RuntimeError("of an audit hook")

    monkeypatch.setattr(memory, "_ask_for_huge_pages", forbidden)
    assert len(reserve(LARGE)) == LARGE


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
@pytest.mark.parametrize("thread", [False, True])
def test_what_is_announced_costs_nothing(thread: bool) -> None:
    """The C library keeps memory that was freed, and clears it before it gives it away again: not where it is large."""
    program = f"""
        import sys, threading
        from mpccomm.memory import LARGE, reserve

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        def work():
            for size in (LARGE // 2, LARGE - 100, LARGE):
                used = [bytearray(size) for _ in range(2)]
                del used
            before = resident()
            kept = [reserve(LARGE + extra) for extra in (0, 1, 4095, LARGE, 7 * LARGE) for _ in range(4)]
            print(resident() - before)

        if {thread}:
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
        else:
            work()
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert int(run.stdout) < 2_000_000, run.stderr
