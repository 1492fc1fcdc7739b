"""The memory that large segments of messages arrive in."""

from __future__ import annotations

import mmap
from contextlib import suppress

_HUGE = range(32 * 1024 * 1024, 256 * 1024 * 1024)
"""Of these sizes memory comes in huge pages: a byte in it costs 2 MiB at once, which is little of what was announced. What is
larger is under way for so long that others notice: to make 2 MiB ready may hold up the loop for some milliseconds."""


def allocate(size: int) -> memoryview:
    """Return memory for a large segment: mapped, so that it costs nothing before it is written, nor does a lie about its size."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return memoryview(mmap.mmap(-1, size))
    # Shared memory, the default, would be written by a forked process for both; and it takes far longer to come into being.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size in _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
