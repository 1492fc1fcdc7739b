"""Since Python 3.12 what a signal raises where a loop goes back is not caught by a `try` around the loop in the same function.

The jump back is not in the table of what the `try` covers. So where a `finally`, an `except` or the end of a `with` is needed after
Ctrl-C, the loop is in a function of its own.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import mpccomm

PACKAGE = Path(mpccomm.__file__).parent
ROOMS = ("codec", "engine", "pool", "protocol", "sync")
HARMLESS = {
    # On the loops of pools, to which no signal comes; or what is left undone is a note for a report, or a lock that is not taken.
    "engine/explain.py _outwards",
    "engine/party.py Party.until",
    "engine/scopes.py Stays.at",
    "engine/thread_futures.py Gate.wait",
    "engine/tno_bridge.py TnoBridge._post_all",
    "sync/blocking.py BlockingCall.wait",
    "sync/loop_thread.py LoopThread._run",
    # Nothing comes after it but the end of a generator or a coroutine.
    "engine/ending.py PoolEnding._in_time",
    "engine/party.py Party.disconnected",
    "pool/channel.py Messages._as_received",
    "pool/groups.py Group._all_rounds",
    "protocol/frames.py split",
    "sync/channel.py SyncMessages._as_received",
}


def codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def gaps_in(code: CodeType) -> bool:
    """Whether a loop of it goes back outside of what is covered before and after."""
    found = dis.Bytecode(code)
    covered = [(entry.start, entry.end, entry.target) for entry in found.exception_entries]  # type: ignore[attr-defined]
    for instruction in found:
        at, to = instruction.offset, instruction.argval
        if instruction.opname == "JUMP_BACKWARD" and not any(start <= at < end for start, end, _ in covered):
            before = {target for _, end, target in covered if end == at}
            if before & {target for start, end, target in covered if start <= to < end}:
                return True
    return False


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.11 has no such gaps, 3.12 shows more than there are")
def test_no_loop_is_in_a_block_that_has_to_end_after_a_signal() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} {code.co_qualname}"
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        for code in codes_of(compile(path.read_text(encoding="utf-8"), str(path), "exec"))
        if gaps_in(code)
    }
    assert found <= HARMLESS
