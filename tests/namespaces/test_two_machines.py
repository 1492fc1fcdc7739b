"""What a new user does: from nothing to two parties on two hosts, as the guide says, word for word."""

from pathlib import Path

import pytest

from tests.documents import ROOT, Reader, blocks
from tests.namespaces.conftest import Machine


@pytest.mark.timeout(180)
def test_from_nothing_to_two_parties(star: tuple[Machine, Machine, Machine, Machine], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    alice, _, bob, _ = star
    guide = blocks(ROOT / "docs" / "guides" / "two_machines.md")
    assert {block.name for block in guide if block.kind == "at"} == {"alice", "bob"}
    Reader(
        tmp_path,
        {"alice.example": alice.address, "bob.example": bob.address},
        {"alice": alice.within, "bob": bob.within},
    ).read(guide)
    # Each had its own key and nobody else's.
    for name in ("alice", "bob"):
        assert [path.name for path in (tmp_path / "certificates" / name).glob("*.key.pem")] == [f"{name}.key.pem"]
