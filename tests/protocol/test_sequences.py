"""Whatever a party says, in whatever order: at worst it is sent away. Some hundreds of sequences, each time others.

`MPCCOMM_TEST_LONG=1` makes it a hundred times as many; `fuzz/sequences.py` goes on as long as one likes.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from mpccomm.protocol.frames import Kind
from tests.protocol.sequences import LONGEST, run

COUNT = 30_000 if os.environ.get("MPCCOMM_TEST_LONG") else 300


@pytest.mark.timeout(max(60, COUNT // 20))
def test_sequences() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    codes: Counter[str] = Counter()
    kinds: set[Kind] = set()
    taken = 0
    for number in range(COUNT):
        data = source.randbytes(2 * source.choice((20, 60, LONGEST)))
        try:
            course = run(data)
        except Exception as error:
            pytest.fail(f"{error!r} from sequence {number} of seed {seed}: {data.hex()}")
        codes += course.codes
        kinds |= course.kinds
        taken += len(course.taken)
    assert kinds == set(Kind)
    assert codes["VIOLATION"]
    assert len(codes) > 2
    assert taken
