"""Damaged messages by the thousand, in a process with limits of memory and time; and those that once did harm.

`MPCCOMM_TEST_MUTATIONS=1000000 pytest tests/codec/test_mutation.py` is the long form.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpccomm.codec import archive
from mpccomm.errors import DecodingError
from tests.codec.mutation import CODECS, attempt
from tests.codec.samples import EXTRAS, LIBRARIES
from tests.needs import missing

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("MPCCOMM_TEST_MUTATIONS", "20000" if os.environ.get("MPCCOMM_TEST_LONG") else "4000"))
CORPUS = sorted((ROOT / "fuzz" / "corpus").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs limits that others do not enforce")
@pytest.mark.timeout(max(60, COUNT // 200))
@pytest.mark.parametrize("codec", CODECS)
def test_damaged_messages_give_a_value_or_an_error(codec: str, tmp_path: Path) -> None:
    for library in LIBRARIES.get(codec, []):
        pytest.importorskip(library, reason=missing(library, extra=EXTRAS.get(codec, codec)))
    last = tmp_path / "last"
    command = [sys.executable, "-m", "tests.codec.mutation", codec, str(COUNT), "--last", str(last)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        data = last.read_bytes()
        message = data[8 : 8 + int.from_bytes(data[:8], "little")]
        pytest.fail(f"exit code {run.returncode} at {message.hex()}\n{run.stderr[-3000:]}")


@pytest.mark.parametrize("codec", CORPUS, ids=lambda path: path.name)
def test_what_once_did_harm_or_reached_far(codec: Path) -> None:
    for library in LIBRARIES.get(codec.name, []):
        pytest.importorskip(library, reason=missing(library, extra=EXTRAS.get(codec.name, codec.name)))
    for path in codec.iterdir():
        data = path.read_bytes()
        try:
            segments = [bytes(segment) for segment in archive.split(data)]
        except DecodingError:
            segments = [data]
        attempt(segments, thorough=True, codec=codec.name)
