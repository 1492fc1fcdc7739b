"""A virtual environment for each library that is compared, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

_VALUES = ("numpy", "gmpy2")
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "mpccomm": ("aiohttp", "ormsgpack", "uvloop; sys_platform != 'win32'", "cryptography", *_VALUES),
    "tno-4.12.0": ("tno.mpc.communication[gmpy,numpy]==4.12.0",),
    "tno-5.0.4": ("tno.mpc.communication[gmpy,numpy]==5.0.4",),
    "pyzmq": ("pyzmq", *_VALUES),
    "grpcio": ("grpcio", *_VALUES),
}
"""What each is made from. mpccomm itself is always that of this checkout."""
_IMPORTED = ("aiohttp", "ormsgpack", "cryptography", *_VALUES)


def default_cache() -> Path:
    """Where environments are kept unless somebody says otherwise."""
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mpccomm-benchmarks"


def python_of(name: str, cache: Path) -> str:
    """The interpreter of an environment, which is made where it does not exist yet.

    :raises subprocess.CalledProcessError: it can't be made; what pip said is on ``stderr``
    """
    if name == "mpccomm" and all(find_spec(module) for module in _IMPORTED):
        return sys.executable
    requirements = REQUIREMENTS[name]
    mark = hashlib.sha256(repr((requirements, sys.version)).encode()).hexdigest()[:12]
    directory = cache / f"{name}-{mark}"
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (directory / "complete").exists():
        print(f"making an environment for {name}: {directory}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *requirements], check=True, capture_output=True, text=True
        )
        (directory / "complete").touch()
    return str(python)
