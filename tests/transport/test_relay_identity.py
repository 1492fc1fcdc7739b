"""Files that say who may use a relay."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from mpccomm import ConfigurationError
from mpccomm.transport.relay_identity import AccessList

BYTES = [f"{number:02X}" for number in range(32)]
WHOLE = ":".join(BYTES)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.lower(),
        "".join(BYTES),
        f"# Alice\n{WHOLE}  # hers\n",
        f"SHA-256         {':'.join(BYTES[:16])}\n                {':'.join(BYTES[16:])}\n",
        f"{':'.join(BYTES[:16])}:\n{':'.join(BYTES[16:])}\n",
    ],
)
def test_a_fingerprint_as_it_is_written_or_shown(text: str, tmp_path: Path) -> None:
    file = tmp_path / "fingerprints.txt"
    file.write_text(f"{text}\n{'AB' * 32}\n")
    assert AccessList(fingerprints=file)._fingerprints == {WHOLE, ":".join(["AB"] * 32)}


@pytest.mark.parametrize("text", ["nothing of the kind", ":".join(BYTES[:16]), WHOLE[:-3], f"{WHOLE}:00"])
def test_what_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "fingerprints.txt"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"^{file}: .* is no fingerprint"):
        AccessList(fingerprints=file)
