"""Files that are written as a whole, or not at all; and TOML, whatever it holds."""

from __future__ import annotations

import os
import shutil
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def replace_file(path: Path, content: bytes) -> None:
    """Write to a file beside it, which takes its place: an interrupt leaves no half of it, and two that write don't mix.

    :raises OSError: it can't be written
    """
    target = Path(os.path.realpath(path))  # a link stays one
    beside = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        if not _try_to_make(beside, target):
            path.write_bytes(content)
            return
        beside.write_bytes(content)
        with suppress(OSError):
            shutil.copymode(target, beside)
        beside.replace(target)
    finally:
        with suppress(OSError):
            beside.unlink()


def _try_to_make(beside: Path, target: Path) -> bool:
    """Make a file that may take the place of another. False: that is a device or a pipe, or the folder takes no more files."""
    try:
        if target.exists() and not target.is_file():
            return False
        beside.open("xb").close()
    except OSError:
        return False
    return True


def read_toml(text: str) -> dict[str, Any]:
    """Return what TOML says.

    :raises ValueError: it is none, or is nested too deeply, or has numbers that nobody writes
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def try_to_write(path: str | Path) -> None:
    """Find out whether a file could be written now, before there is anything to write. It is left as it was found.

    :raises OSError: it can't be
    :raises ValueError: it can't be called that
    """
    found = Path(path)
    if found.exists() and not (found.is_file() or found.is_dir()):
        return  # a pipe or a device: to open it is to use it
    try:
        found.open("xb").close()
    except FileExistsError:
        found.open("ab").close()
    else:
        found.unlink()
