"""What a message costs to decode, measured in a process of its own: time, memory, and whether the process survives."""

import gc
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple

from mpccomm.codec import decode, encode
from mpccomm.errors import DecodingError
from tests.timing import slowness

SECONDS = 1.0
MEMORY = 50 << 20
EXPANSION = 20
"""The bound: seconds of processor time, bytes, and how many times the size of the message may come on top."""


class Cost(NamedTuple):
    """What became of one message."""

    outcome: str
    seconds: float
    memory: int

    def within(self, size: int) -> bool:
        """Whether that is allowed for a message of *size* bytes."""
        if self.outcome not in ("value", "error") or self.memory > MEMORY + EXPANSION * size:
            return False
        return self.seconds <= SECONDS or self.seconds <= SECONDS * slowness()


def measure(decode: Callable[[], object], size: int) -> Cost:
    """Call *decode*, for a message of *size* bytes, in a child of this process, which may not survive it."""
    gc.collect()
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        _decode(decode, size, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        report = pipe.read().split()
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        return Cost(signal.Signals(os.WTERMSIG(status)).name, usage.ru_utime + usage.ru_stime, 0)
    if len(report) != 3:
        return Cost(f"exit {os.WEXITSTATUS(status)}", usage.ru_utime, 0)
    outcome, seconds, before = report
    return Cost(outcome.decode(), float(seconds), (usage.ru_maxrss << 10) - int(before))


@contextmanager
def clean() -> Iterator[Callable[..., Cost]]:
    """Yield `measure` in a process that has decoded nothing of any size: no memory is taken again unseen."""
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare) as process:
        process.submit(int).result()  # it starts, and all that belongs to it
        yield lambda decode, size: process.submit(measure, decode, size).result()


def _prepare() -> None:
    import pandas as pd
    import pyarrow as pa

    for value in (pd.DataFrame({"a": [1], "b": ["x"]}), pa.table({"a": [1]})):
        decode(encode(value).segments)


def _decode(decode: Callable[[], object], size: int, write_end: int) -> None:
    status = 1
    try:
        gc.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        warnings.simplefilter("ignore")
        before, reserved = _memory()
        limit = reserved + MEMORY + EXPANSION * size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        began = time.process_time()
        try:
            decode()
            outcome = "value"
        except DecodingError:
            outcome = "error"
        except BaseException:
            traceback.print_exc()
            raise
        os.write(write_end, f"{outcome} {time.process_time() - began} {before}".encode())
        status = 0
    finally:
        os._exit(status)


def _memory() -> tuple[int, int]:
    """Return the bytes that this process has in memory, and those that it has reserved."""
    with open("/proc/self/statm") as statm:
        reserved, resident, *_ = (int(pages) * resource.getpagesize() for pages in statm.read().split())
    return resident, reserved
