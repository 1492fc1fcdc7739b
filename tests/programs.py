"""Programs that run as processes of their own: no longer than their test, and what they print."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that is killed at the end, if it still runs: `subprocess.Popen` would wait for it without end."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def rest(process: subprocess.Popen[str], limit: float) -> tuple[str, str]:
    """Wait for the end of a program, and return the rest of its output, and its errors.

    `subprocess.Popen.communicate` would lose what a ``readline`` before has read ahead.

    :raises subprocess.TimeoutExpired: it does not end within ``limit`` seconds; it is killed then
    """
    if process.stdin is not None:
        process.stdin.close()
    with ThreadPoolExecutor(2) as readers:
        output, errors = (readers.submit(_all_of, pipe) for pipe in (process.stdout, process.stderr))
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return output.result(limit), errors.result(limit)


def _all_of(pipe: IO[str] | None) -> str:
    return "" if pipe is None else pipe.read()
