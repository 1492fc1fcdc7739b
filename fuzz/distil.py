"""Keep what a fuzzing run found: `python fuzz/distil.py CODEC`.

Takes the shortest inputs first, and adds to the corpus each that takes a step in the code (from one line to the next)
that none before it took.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mpccomm import codec as package  # noqa: E402
from mpccomm.codec import archive  # noqa: E402
from mpccomm.errors import DecodingError  # noqa: E402
from tests.codec import mutation  # noqa: E402

SOURCE = str(Path(package.__file__).parent)
LARGEST = 48 << 10
"""Bytes of corpus for each codec."""

Step = tuple[str, int, int]


def steps(data: bytes, codec: str) -> set[Step]:
    """The steps in the codec's code that decoding *data* takes."""
    taken: set[Step] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(SOURCE):
            return None
        before = frame.f_lineno

        def line(frame: FrameType, event: str, _: object) -> Any:
            nonlocal before
            taken.add((name, before, frame.f_lineno if event == "line" else -1))
            before = frame.f_lineno
            return line

        return line

    try:
        segments = [bytes(segment) for segment in archive.split(data)]
    except DecodingError:
        segments = [data]
    sys.settrace(trace)
    try:
        mutation.attempt(segments, codec=codec)
    finally:
        sys.settrace(None)
    return taken


def main() -> None:
    """Add to the corpus of the codec that the first argument names."""
    codec = sys.argv[1]
    warnings.simplefilter("ignore")
    mutation.import_plugins(codec)
    corpus = ROOT / "fuzz" / "corpus" / codec
    corpus.mkdir(parents=True, exist_ok=True)
    kept = list(corpus.iterdir())
    known = set().union(*(steps(path.read_bytes(), codec) for path in kept))
    size = sum(path.stat().st_size for path in kept)
    found = [path for path in (ROOT / "fuzz" / ".work" / codec).iterdir() if not path.name.startswith("crash-")]
    for path in sorted(found, key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        new = steps(data, codec) - known
        if new and size + len(data) <= LARGEST:
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            known |= new
            size += len(data)


if __name__ == "__main__":
    main()
