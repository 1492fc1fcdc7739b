"""Coroutines as tests, and a failure for whatever a test leaves behind."""

import asyncio
import functools
import gc
import inspect
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from mpccomm.engine.states import Table
from mpccomm.sync import loop_thread
from tests.leaks import LeakError, no_leaks

ROOT = Path(__file__).parent

# The tests start a thousand processes: what one has compiled the next ones read, also where containers are set to compile anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Each of them would load the machine's certificate authorities twice, since aiohttp does that when it is imported: a tenth of its
# start. No test needs any.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)
# What a script starts in the background ignores Ctrl-C, and so would all programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of the machine than of the code; each test as a whole has its time limit.
hypothesis.settings.register_profile("mpccomm", hypothesis.settings(deadline=None))
hypothesis.settings.load_profile("mpccomm")

LONG_FILES = (
    "compat/",
    "pytest_plugin/",
    "sync/",
    "cli/",
    "test_documents.py",
    "processes/",
    "transport/test_hostile_endings.py",
    "test_benchmarks.py",
    "notebooks/",
    "test_readme.py",
    "properties/",
    "namespaces/",
    "faults/",
    "codec/",
)
"""The files that take long, some of them with few tests. They come first, so that no process waits for another at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; otherwise the order stays."""
    items.sort(key=lambda item: _place(item.path))


@functools.cache
def _place(file: Path) -> int:
    path = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
    return next((place for place, start in enumerate(LONG_FILES) if path.startswith(start)), len(LONG_FILES))


def pytest_collection_finish() -> None:
    """Open now what a process opens only once, and freeze all that is imported, so that the collector need not visit it."""
    loop_thread.new_event_loop().close()  # libuv's own pipe for signals stays
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    # Automatic fixtures come after those of wider scope and before the others of a test: what a module-wide fixture
    # holds open is no leak, and a test's own fixtures have been taken down when this one looks.
    with no_leaks():
        yield


@pytest.fixture(autouse=True)
def misplaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AssertionError]]:
    """Events that came in a state where they have no place: also those on a loop, which tells no caller, fail the test."""
    found: list[AssertionError] = []
    original = Table.__missing__

    def missing(table: Table[Any, Any], change: tuple[Any, Any]) -> None:
        try:
            original(table, change)
        except AssertionError as error:
            found.append(error)
            raise

    monkeypatch.setattr(Table, "__missing__", missing)
    yield found
    if found:
        raise found[0]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Run the coroutine functions of a test on each kind of event loop."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture
def both_loops(monkeypatch: pytest.MonkeyPatch, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Run the tests of both faces on each kind of event loop: private loops are of the same kind as that of the test."""
    if loop_factory is asyncio.new_event_loop:  # otherwise it is uvloop's anyway
        monkeypatch.setattr(loop_thread, "new_event_loop", loop_factory)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Give a coroutine function an event loop of its own (with Hypothesis: one per example); pytest then calls it."""
    marker = pyfuncitem.get_closest_marker("timeout")
    # A little less than pytest-timeout allows: this one's traceback shows what the test was waiting for.
    limit = 0.9 * float(marker.args[0] if marker else pyfuncitem.config.getini("timeout"))
    factory: Any = pyfuncitem.funcargs.get("loop_factory")
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _blocking(pyfuncitem.obj, limit, factory)
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = _blocking(given.inner_test, limit, factory)


def _blocking(
    test: Callable[..., Awaitable[None]], limit: float, factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(limit):
                await test(*args, **kwargs)
            await _all_tasks_done()

        with asyncio.Runner(debug=False, loop_factory=factory) as runner:
            runner.run(main())

    return run


async def _all_tasks_done() -> None:
    for _ in range(3):  # a task that has been cancelled, or has just got its result, needs a turn of the loop to end
        await asyncio.sleep(0)
    if pending := asyncio.all_tasks() - {asyncio.current_task()}:
        raise LeakError("\n".join(f"task still runs: {task!r}" for task in pending))
