"""What programs print is here, whatever it is read by."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.programs import rest, running
from tests.sync.duo import ends, line, program
from tests.timing import UNIT

LIMIT = 100 * UNIT
SEVERAL = """
import sys
print("one\\ntwo\\nthree", flush=True)
sys.stdin.read()
print("four")
print("five", file=sys.stderr)
"""


@pytest.mark.parametrize("read", [0, 1, 2, 3])
def test_what_was_read_ahead_is_not_lost(read: int) -> None:
    with program(SEVERAL, None, preamble="") as process:
        lines = [line(process) for _ in range(read)]
        assert lines == ["one", "two", "three"][:read]
        code, output, errors = ends(process, LIMIT)
    assert (code, errors) == (0, "five\n")
    assert [*lines, *output.splitlines()] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("call", [rest, ends])
def test_one_that_does_not_end_is_told(call: Callable[[subprocess.Popen[str], float], object]) -> None:
    with (
        program("import time\ntime.sleep(1000)", None, preamble="") as process,
        pytest.raises(subprocess.TimeoutExpired),
    ):
        call(process, UNIT)
    assert process.returncode


def test_one_that_still_runs_at_the_end_is_killed() -> None:
    command = [sys.executable, "-c", "import time\ntime.sleep(1000)"]
    with pytest.raises(ValueError, match="the test"), running(subprocess.Popen(command, text=True)) as process:
        raise ValueError("the test")
    assert process.returncode


def test_pipes_that_are_not_there_say_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE, text=True) as process:
        assert rest(process, LIMIT) == ("1\n", "")
