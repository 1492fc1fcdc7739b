"""How long the import takes beside that of aiohttp, and that nothing optional comes along.

    python benchmarks/imports.py [--repeat N] [--smoke]

Each in a fresh interpreter, in turn, and both from compiled bytecode, as ``pip install`` leaves it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1.4
OPTIONAL = (
    "bitarray",
    "cryptography",
    "gmpy2",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "torch",
    "tqdm",
)

_TIMED = "import sys, time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
AIOHTTP = _TIMED.format("import aiohttp")
OURS = _TIMED.format("from mpccomm import Pool, SyncPool")
_LISTED = "from mpccomm import Pool, SyncPool; import sys; print(*sys.modules)"


def run(code: str, bytecode: str) -> str:
    """What a fresh interpreter prints, with its compiled modules in that folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="twice")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        # The first two compile.
        along = sorted(set(OPTIONAL) & set(run(_LISTED, bytecode).split()))
        run(AIOHTTP, bytecode)
        repeat = 2 if arguments.smoke else arguments.repeat
        pairs = [(float(run(AIOHTTP, bytecode)), float(run(OURS, bytecode))) for _ in range(repeat)]
    print(f"imported along: {', '.join(along) or 'nothing optional'}")
    for name, times in zip(
        ("import aiohttp", "from mpccomm import Pool, SyncPool"), zip(*pairs, strict=True), strict=True
    ):
        print(f"  {name:36} {median(times) * 1e3:8.1f} ms")
    ratio = median(ours / theirs for theirs, ours in pairs)
    print(f"  {'ratio, median of pairs':36} {ratio:8.2f} <= {BOUND:g}  {'yes' if ratio <= BOUND else 'NO'}")
    return 1 if along else 0


if __name__ == "__main__":
    sys.exit(main())
