"""Damaged batches: some tens of thousands of them, each time others. `fuzz/frames.py` does the same for longer."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

from mpccomm.protocol import frames
from mpccomm.protocol.frames import MAX_FRAMES, ViolationError, parse
from tests.protocol.frames_mutation import SEEDS, VISIT, Mutator, attempt, greeting, resume, start
from tests.protocol.links import batch_of

ROUNDS = 1500


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_undamaged(seed: int) -> None:
    assert attempt(SEEDS[seed]) in ("ALIVE", "LEFT", "ABORTED", "REPLACED", "UNKNOWN" if seed == VISIT else "")


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_damaged(seed: int) -> None:
    number = random.randrange(2**32)
    mutator = Mutator(number)
    ends: Counter[str] = Counter()
    for _ in range(ROUNDS):
        batch = mutator.mutate(SEEDS[seed])
        try:
            ends[attempt(batch)] += 1
        except Exception as error:
            pytest.fail(f"{error!r} from mutation {number}: {batch[:2000].hex()}")
    # Damage shows, but not always: an id may become another one.
    assert ends["VIOLATION"] > ROUNDS // 10
    assert len(ends) > 1


def test_a_damaged_batch_costs_no_more_memory_than_the_bounds_allow() -> None:
    mutator = Mutator(7)
    batches = [mutator.mutate(seed) for seed in SEEDS for _ in range(50)]
    tracemalloc.start()
    try:
        for batch in batches:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            attempt(batch)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < (4 << 20) + 4 * len(batch), batch[:2000].hex()
    finally:
        tracemalloc.stop()


def test_a_batch_holds_a_limited_number_of_frames() -> None:
    assert len(list(parse(batch_of(frames.ping(1) * MAX_FRAMES), max_id_size=0))) == MAX_FRAMES
    with pytest.raises(ViolationError, match="more than 2048 frames in a batch"):
        list(parse(batch_of(frames.ping(1) * (MAX_FRAMES + 1)), max_id_size=0))
    many = b"".join(start(number, "id", b"x") for number in range(1, MAX_FRAMES + 2))
    assert attempt(greeting() + resume() + many) == "VIOLATION"
