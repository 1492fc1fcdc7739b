"""An event loop in a daemon thread. This module does not know of pools."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from _thread import start_new_thread
from collections.abc import Callable
from functools import cache
from typing import Any

from mpccomm.engine.thread_futures import Gate
from mpccomm.logs import EventLog, LogEvent

log = EventLog()

_SETTLE = 1.0
"""Seconds that tasks have to end by themselves when the loop is told to stop."""


@cache
def _loop_class() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop

    class Loop(uvloop.Loop):
        """uvloop's loop, but it connects without a look-up: for that uvloop uses threads of libuv, even if it has an IP address.

        These are no threads of Python's, and a process that was forked when they were there may end in a crash.
        """

        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            if sock.family == socket.AF_INET6 and "%" in address[0]:
                # aiohttp leaves the scope in the text, and 0 in the place that counts.
                host, port, *_ = address
                try:
                    found = socket.getaddrinfo(host, port, sock.family, flags=socket.AI_NUMERICHOST)  # no look-up
                except socket.gaierror:
                    raise OSError(errno.ENODEV, f"no connection to {host}: {os.strerror(errno.ENODEV)}") from None
                address = found[0][4]
            error = sock.connect_ex(address)
            if error == errno.EINPROGRESS:
                ready = asyncio.Event()
                self.add_writer(sock, ready.set)
                try:
                    await ready.wait()
                finally:
                    self.remove_writer(sock)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, f"no connection to {address}: {os.strerror(error)}")

    return Loop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, where that is installed, otherwise of asyncio."""
    return _loop_class()()


class LoopThread:
    """Runs a loop from `start` to `stop`."""

    def __init__(self) -> None:
        self.name = ""
        """The name of the thread, given to `start`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        """The threads that `start` has made, of which the first one is that of this loop."""
        self._process = os.getpid()
        """The process that it was made in: a forked process has the loop, but not the thread."""
        self._begun = Gate()
        self._failure: BaseException | None = None
        self.stopping = False
        """Whether the loop is about to end: a task that begins now may never end."""
        self.ended = Gate()
        """Opened when the loop is closed; the thread is gone a moment later."""

    @property
    def alive(self) -> bool:
        """Whether the loop runs, or is about to end, in this process."""
        # `Thread.is_alive` is not used: if an interrupt strikes in it, Python takes a running thread for one that has ended.
        return bool(self._threads) and not self.ended.opened and self._process == os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the thread."""
        return bool(self._threads) and threading.current_thread() is self._threads[0]

    def start(self, name: str, first: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Start a thread of that name; ``first`` is the first thing that runs in it, before this returns. Later calls do nothing.

        :raises RuntimeError: this process can't start threads any more: its program is over
        """
        if not self._begun.opened:
            # `Thread.start` is Python code, in which an interrupt would leave a thread that may run or not.
            # Signal handlers run in the main thread only, so it is called in another one, which starts at once or not at all.
            self.name = name
            start_new_thread(self._launch, (first,))
            self._begun.wait()
        if self._failure is not None:
            raise RuntimeError(f"the thread {self.name!r} could not be started: {self._failure}") from self._failure

    def _launch(self, first: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        try:
            threading.Thread(target=self._run, args=(first,), name=self.name, daemon=True).start()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._begun.open()
        self.ended.open()

    def stop(self) -> None:
        """Let the loop end, once its tasks have; idempotent. From any thread; takes no lock."""
        self.stopping = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._loop.stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, if it was ever started in this process. Not to be called on the thread itself."""
        if self._threads and self._process == os.getpid() and self.ended.wait(timeout):
            self._threads[0].join(timeout)

    def _run(self, first: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        # An interrupted caller may call `start` again, and several threads may call it at once: the first thread counts.
        thread = threading.current_thread()
        self._threads.append(thread)
        if self._threads[0] is not thread:
            return
        try:
            loop = self._loop = new_event_loop()
        except BaseException as error:
            self._fail(error)
            return

        def begin() -> None:
            try:
                first(loop)
            except Exception as error:
                self._failure = error
                self.stopping = True
                loop.stop()
            self._begun.open()

        asyncio.set_event_loop(loop)
        loop.call_soon(begin)
        # From the last to the first, whatever they raise.
        with contextlib.ExitStack() as then:
            then.callback(self.ended.open)
            then.callback(loop.close)
            then.callback(asyncio.set_event_loop, None)
            then.callback(lambda: loop.run_until_complete(loop.shutdown_default_executor()))
            then.callback(lambda: loop.run_until_complete(loop.shutdown_asyncgens()))
            while not self.stopping:
                self._run_on(loop)
            _end_tasks(loop)

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        except BaseException as error:
            # A callback that raises SystemExit does so in the wrong thread: the program does not end by it.
            log(LogEvent.CALLBACK_FAILED, "a callback on the loop of %s tried to end it", self.name, exc_info=error)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    if tasks := asyncio.all_tasks(loop):
        _, tasks = loop.run_until_complete(asyncio.wait(tasks, timeout=_SETTLE))
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
