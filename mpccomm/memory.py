"""Memory for the parts of a message that arrives: filled piece by piece, and then given away without a copy.

Nobody knows what a part is for before all of it is here: the bytes of a value, which nothing may change any more, or the memory of
an array, which the program writes to. `io.BytesIO` is the one object of the standard library that can become either.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Final, TypeAlias

from mpccomm.interrupts import is_strike


class Memory(BytesIO):
    """Memory that is written from its beginning to its end, and then taken, once: by ``bytes()``, or by `getbuffer` to write to."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.getbuffer())

    def __bytes__(self) -> bytes:
        return self.getvalue()

    def trim(self) -> None:
        """Return to the system what it was given in advance as it grew, once all is written."""
        self.getvalue()


Buffer: TypeAlias = bytes | bytearray | memoryview
Segment: TypeAlias = Buffer | Memory
"""A part of a message, as it is given to a decoder: a large buffer, or what holds all the rest."""

LARGE: Final = 32 * 1024 * 1024
"""From this size on the C library of Linux has the system map all memory anew, in any thread: what is smaller may be some that was
used before, and takes its room at once, since it has to be cleared."""
_HUGE: Final = range(LARGE, 256 * 1024 * 1024)
"""Memory of these sizes gets huge pages: to make one ready takes a tenth of what 512 small ones take. What is larger is under way
for so long that others notice: to make 2 MiB ready may hold up the loop for some milliseconds."""


def buffer_of(segment: Segment) -> Buffer:
    """Return what a segment holds, in place."""
    return segment.getbuffer() if isinstance(segment, Memory) else segment


def reserve(size: int) -> Memory:
    """Return memory of that size; if it is `LARGE` it costs nothing before it is written, nor does a lie about its size."""
    memory = Memory(bytes(size))
    if size in _HUGE:
        try:
            _ask_for_huge_pages(memory)
        except Exception as error:
            # It is a hint: nothing else depends on it. A program may forbid such calls, by an audit hook.
            if is_strike(error):
                raise
    return memory


def _ask_for_huge_pages(memory: Memory) -> None:
    """Tell Linux that huge pages do for this memory."""
    advise = _madvise()
    if advise is not None:
        from ctypes import addressof, c_char

        with memory.getbuffer() as view:
            begin = addressof(c_char.from_buffer(view))
            before = -begin % mmap.PAGESIZE
            advise(begin + before, (len(view) - before) // mmap.PAGESIZE * mmap.PAGESIZE, mmap.MADV_HUGEPAGE)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return the system's call; `mmap` has it as well, but only for memory that can't become bytes."""
    if sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(ImportError, OSError, AttributeError):
            from ctypes import CDLL, c_int, c_size_t, c_void_p

            advise = CDLL(None).madvise
            advise.argtypes = (c_void_p, c_size_t, c_int)
            return advise
    return None
