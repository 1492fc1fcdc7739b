"""One atheris target per codec: `python fuzz/target.py CODEC [libFuzzer options]`.

Needs atheris (see README.md here). The input is what `Serialization.pack` writes. It is damaged with a knowledge of its
structure (tests/codec/mutation.py) as well as byte by byte; whatever it is then, it has to give a value or a
`DecodingError`, and the value has to be one that can be encoded again, and shown.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["mpccomm.codec", "mpccomm.errors", "zoneinfo", "fractions", "decimal"]):
    from mpccomm.codec import archive
    from mpccomm.errors import DecodingError
    from tests.codec import mutation


def read(data: bytes) -> mutation.Segments:
    """The segments in *data*, or all of it as one envelope."""
    try:
        return [bytes(segment) for segment in archive.split(data)]
    except DecodingError:
        return [data]


def main() -> None:
    """Fuzz the codec that the first argument names."""
    codec = sys.argv.pop(1)
    with atheris.instrument_imports(include=["mpccomm.codec"]):
        mutation.import_plugins(codec)
    mutator = mutation.Mutator(codec, 1)
    if codec == "builtin":
        mutator.seeds += mutation.Mutator("columns", 1).seeds
    seeds = ROOT / "fuzz" / ".work" / codec
    seeds.mkdir(parents=True, exist_ok=True)
    for number, segments in enumerate(mutator.seeds):
        (seeds / f"seed-{number}").write_bytes(archive.join(segments))

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 4 == 0:
            return bytes(atheris.Mutate(data, max_size))
        mutator.random = random.Random(seed)
        return archive.join(mutator.mutate(read(data)))[:max_size]

    def test(data: bytes) -> None:
        mutation.attempt(read(data), codec=codec)

    corpus = ROOT / "fuzz" / "corpus" / codec
    corpus.mkdir(parents=True, exist_ok=True)
    options = ["-max_len=8192", "-timeout=10", "-rss_limit_mb=4096", f"-artifact_prefix={seeds}/crash-"]
    atheris.Setup([sys.argv[0], str(seeds), str(corpus), *options, *sys.argv[1:]], test, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
