"""What the sender accepts arrives as it was, and what no sender made is a value or an error: by the hundred, of any shape.

`MPCCOMM_TEST_GRAMMAR=100000 pytest tests/codec/test_grammar.py` is the long form.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("MPCCOMM_TEST_GRAMMAR", "400"))


@pytest.mark.timeout(max(60, COUNT // 10))
def test_values_and_messages_by_a_grammar() -> None:
    for library in ("bitarray", "gmpy2", "numpy"):
        pytest.importorskip(library)
    command = [sys.executable, "-m", "tests.codec.grammar", str(COUNT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    accepted = int(run.stdout.split()[1])
    assert accepted > COUNT * 0.9
