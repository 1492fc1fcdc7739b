"""Values that go through a process with other releases of the libraries, and come back as they were.

Or an error says that it is the version, and what to do. The other process runs an interpreter that an environment variable
names; .ci/run makes them.
"""

import os
import subprocess
from pathlib import Path

import pytest

from mpccomm.codec import Serialization
from tests.codec.exactness import assert_same
from tests.codec.samples import EXTRAS, LIBRARIES, SAMPLES
from tests.needs import missing

ROOT = Path(__file__).parents[2]
RELEASES = ("OLDEST", "PANDAS2", "NEWEST")

ECHO = """
import sys
from mpccomm.codec import Serialization
from mpccomm.errors import CommunicationError

source, target = sys.stdin.buffer, sys.stdout.buffer
while size := int.from_bytes(source.read(8), "big"):
    try:
        answer = b"=" + Serialization.pack(Serialization.unpack(source.read(size)))
    except CommunicationError as error:
        answer = b"!" + str(error).encode()
    target.write(len(answer).to_bytes(8, "big") + answer)
"""


def through(python: str, messages: list[bytes]) -> list[bytes]:
    """What the other process makes of *messages*: "=" and the same value again, or "!" and an error."""
    sent = b"".join(len(message).to_bytes(8, "big") + message for message in messages)
    run = subprocess.run([python, "-c", ECHO], input=sent, capture_output=True, check=False, timeout=50, cwd=ROOT)
    assert run.returncode == 0, run.stderr.decode()
    answers = []
    rest = memoryview(run.stdout)
    while rest:
        size = int.from_bytes(rest[:8], "big")
        answers.append(bytes(rest[8 : 8 + size]))
        rest = rest[8 + size :]
    return answers


@pytest.mark.parametrize("releases", RELEASES)
@pytest.mark.parametrize("codec", [name for name in SAMPLES if name != "torch"])
def test_values_come_back_from_other_releases(codec: str, releases: str) -> None:
    variable = f"MPCCOMM_{releases}_PYTHON"
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no interpreter with other releases of the libraries; .ci/run makes one")
    for library in LIBRARIES.get(codec, []):
        pytest.importorskip(library, reason=missing(library, extra=EXTRAS.get(codec, codec)))
    values = SAMPLES[codec]()
    answers = through(python, [Serialization.pack(value) for value in values])
    assert len(answers) == len(values)
    for value, answer in zip(values, answers, strict=True):
        if answer[:1] == b"=":
            assert_same(value, Serialization.unpack(answer[1:]))
        else:
            assert b"upgrade it" in answer or b"a later version" in answer, answer
