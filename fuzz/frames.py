"""An atheris target for the frame parser and the link behind it: `python fuzz/frames.py [libFuzzer options]`.

The input is what arrives on a new connection. Whatever it is, at worst the connection ends, with one of our close codes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["mpccomm.protocol"]):
    from tests.protocol import frames_mutation


def main() -> None:
    """Fuzz until told to stop."""
    mutator = frames_mutation.Mutator(1)
    seeds = ROOT / "fuzz" / ".work" / "frames"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(frames_mutation.SEEDS):
        (seeds / f"seed-{number}").write_bytes(batch)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 4 == 0:
            return bytes(atheris.Mutate(data, max_size))
        mutator.random = random.Random(seed)
        return mutator.mutate(data)[:max_size]

    def test(data: bytes) -> None:
        frames_mutation.attempt(data)

    options = ["-max_len=65536", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={seeds}/crash-"]
    atheris.Setup([sys.argv[0], str(seeds), *options, *sys.argv[1:]], test, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
