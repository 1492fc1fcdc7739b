"""An atheris target for what a party says from HELLO to GOODBYE, in any order: `python fuzz/sequences.py [libFuzzer options]`.

The input is a list of steps; see `tests/protocol/sequences.py`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["mpccomm.protocol"]):
    from tests.protocol import sequences


def main() -> None:
    """Fuzz until told to stop."""
    seeds = ROOT / "fuzz" / ".work" / "sequences"
    seeds.mkdir(parents=True, exist_ok=True)
    source = random.Random(1)
    for number in range(50):
        (seeds / f"seed-{number}").write_bytes(source.randbytes(2 * source.choice((20, 60, sequences.LONGEST))))

    def test(data: bytes) -> None:
        sequences.run(data)

    options = [f"-max_len={2 * sequences.LONGEST}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], str(seeds), *options, f"-artifact_prefix={seeds}/crash-", *sys.argv[1:]], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
