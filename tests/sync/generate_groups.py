"""Make `mpccomm/sync/groups.py`, the blocking face of groups, of `mpccomm/pool/groups.py`, the asyncio one.

``python -m tests.sync.generate_groups`` writes it; with ``--check`` it only says whether what is there is up to date.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mpccomm"
SOURCE, TARGET = PACKAGE / "pool" / "groups.py", PACKAGE / "sync" / "groups.py"

REPLACEMENTS = (
    ("what their members do together.", "what their members do together, blocking; made of mpccomm/pool/groups.py."),
    ("import asyncio\n", ""),
    ("import AsyncIterator, Awaitable, Callable, Mapping", "import Callable, Iterator, Mapping"),
    ("Awaitable[None]", "None"),
    ("Awaitable[tuple[str, Any]]", "tuple[str, Any]"),
    ("AsyncIterator[", "Iterator["),
    (", for ``async for``", ""),
    ("class Group:", "class SyncGroup:"),
    ("group: Group,", "group: SyncGroup,"),
    ("`Group.", "`SyncGroup."),
    ("`Pool.", "`SyncPool."),
    (
        "Several can be under way at once, if they are begun in the same order everywhere; or take a channel for each.",
        "For protocols side by side, in several threads, take a group of a channel for each.",
    ),
    ("time limit, cancellation or an error", "time limit, Ctrl-C or an error"),
    ("__aiter__", "__iter__"),
    ("__anext__", "__next__"),
    ("StopAsyncIteration", "StopIteration"),
    ("await asyncio.sleep(0)", "pass"),
    ("async def ", "def "),
    ("await ", ""),
)


def generated() -> str:
    """The text that the blocking face should have."""
    text = SOURCE.read_text(encoding="utf-8")
    for old, new in REPLACEMENTS:
        if old not in text:
            raise ValueError(f"{SOURCE.name} has no {old!r} any more: change tests/sync/generate_groups.py with it")
        text = text.replace(old, new)
    return text


def main() -> int:
    """Write it, or check it."""
    if "--check" in sys.argv:
        return 0 if TARGET.read_text(encoding="utf-8") == generated() else 1
    TARGET.write_text(generated(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
