"""A test must leave nothing behind. What is open is noted before a test and compared after it, in well under a millisecond.

Seen are threads that still run, open sockets, pipes and polling handles (where the system lists them under ``/proc``,
that is, on Linux), and errors that asyncio could only log because no caller was left to raise them to: a task destroyed
while pending, an exception never retrieved, a client session never closed.
"""

import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.timing import UNIT

_HANDLES = "/proc/self/fd"


class LeakError(AssertionError):
    """A test has left something behind."""


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@contextmanager
def no_leaks() -> Iterator[None]:
    """Raise `LeakError` if what runs inside leaves a thread, a socket, a pipe or an unheard asyncio error behind."""
    threads, handles, recorder = set(threading.enumerate()), _handles(), _Recorder()
    logger = logging.getLogger("asyncio")
    logger.addHandler(recorder)
    try:
        yield
        # What is only reachable in a cycle reports its leak when it is collected: now, and not during some later test.
        gc.collect()
        # What is left, perhaps of some large library, then has to be visited by the collector only this once.
        gc.freeze()
    finally:
        logger.removeHandler(recorder)
    found = [f"thread {thread.name!r} still runs" for thread in set(threading.enumerate()) - threads if _runs(thread)]
    found += [f"handle {fd} is open: {kind}" for fd, kind in _handles().items() if handles.get(fd) != kind]
    found += [f"asyncio logged: {message}" for message in recorder.messages]
    if found:
        raise LeakError("\n".join(found))


def _runs(thread: threading.Thread) -> bool:
    # A thread that was told to stop may need a moment to do so.
    thread.join(10 * UNIT)
    return thread.is_alive()


def _handles() -> dict[str, str]:
    """Open sockets, pipes and anonymous inodes (epoll, eventfd) by number, with the name of the object behind it."""
    try:
        numbers = os.listdir(_HANDLES)
    except OSError:
        return {}
    handles = {}
    for number in numbers:
        try:
            kind = os.readlink(f"{_HANDLES}/{number}")
        except OSError:  # the handle of the listing itself
            continue
        if kind.startswith(("socket:", "pipe:", "anon_inode:")) and int(number) != _resource_tracker():
            handles[number] = kind
    return handles


def _resource_tracker() -> int | None:
    # multiprocessing starts a helper process at its first spawn, and keeps the pipe to it until the interpreter exits.
    module = sys.modules.get("multiprocessing.resource_tracker")
    return module._resource_tracker._fd if module else None
