"""`mpccomm relay`, as its operator sees it start."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import LOCAL, Folder, root
from tests.programs import running
from tests.timing import UNIT


@pytest.mark.parametrize("certified", [True, False])
def test_without_a_certificate_it_says_what_is_encrypted(certified: bool, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("0123456789" * 4)
    command = [sys.executable, "-m", "mpccomm", "relay", "--listen", f"{LOCAL}:0", "--token-file", str(tokens)]
    if certified:
        own, folder = root().issue("relay", LOCAL), Folder(tmp_path)
        command += ["--cert", str(folder.cert(own)), "--key", str(folder.key(own))]
    pipe = subprocess.PIPE
    with running(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)) as relay:
        assert relay.stdout is not None
        listens = relay.stdout.readline()
        relay.terminate()
        _, said = relay.communicate(timeout=200 * UNIT)
    assert listens.startswith(f"a relay listens at {LOCAL}:")
    assert ("speaks plain HTTP" in said) is not certified
    assert ("by their own TLS nevertheless" in said) is not certified
