"""What arrives: the memory for large segments. How values come of messages is tested with the requests."""

from __future__ import annotations

import mmap
import os

import pytest

from mpccomm.engine.delivery import _HUGE, allocate


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_forked_process_writes_is_its_own() -> None:
    memory = allocate(8192)
    child = os.fork()
    if not child:
        memory[0] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert memory[0] == 0


@pytest.mark.parametrize("size", [100, _HUGE.start, _HUGE.stop])
@pytest.mark.parametrize("missing", [[], ["MADV_HUGEPAGE"], ["MAP_PRIVATE", "MADV_HUGEPAGE"]])
def test_it_is_mapped_on_every_system(missing: list[str], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in missing:
        monkeypatch.delattr(mmap, name, raising=False)
    memory = allocate(size)
    memory[:3] = b"abc"
    assert bytes(memory[:4]) == b"abc\0"
    assert len(memory) == size
    assert isinstance(memory.obj, mmap.mmap)
