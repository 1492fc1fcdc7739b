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
    ("NoReturn, Self, SupportsIndex", "NoReturn, SupportsIndex"),
    ("Awaitable[None]", "None"),
    ("Awaitable[tuple[str, Any]]", "tuple[str, Any]"),
    ("AsyncIterator[", "Iterator["),
    (", for ``async for``", ""),
    ("return _Arrivals(self, ", "return self._each("),
    ("class Group:", "class SyncGroup:"),
    ("`Pool.", "`SyncPool."),
    (
        "Several can be under way at once, if they are begun in the same order everywhere; or take a channel for each.",
        "For protocols side by side, in several threads, take a group of a channel for each.",
    ),
    ("time limit, cancellation or an error", "time limit, Ctrl-C or an error"),
    ("await asyncio.sleep(0)", "pass"),
    ("async def ", "def "),
    ("await ", ""),
)

EACH = """
    def _each(self, call: GroupCall[Any], value: object, limit: Deadline) -> Iterator[tuple[str, Any]]:
        call.running = True
        try:
            for _ in iter(call.send_next, False):
                pass
            yield self.me, value
            while call.to_come:
                pair = self._first_of(call, limit)
                try:
                    yield pair
                finally:
                    call.arrived(pair[0])
            self._go_on(call, limit)
        except BaseException:
            self._calls.interrupted(call)
            raise
        finally:
            call.running = False

"""
"""What a generator is enough for where nothing is awaited: it ends when its loop is left."""


def generated() -> str:
    """The text that the blocking face should have."""
    text, arrivals, _ = SOURCE.read_text(encoding="utf-8").partition("\n\nclass _Arrivals:")
    assert arrivals, "the iterator of the asyncio face has another name now"
    for old, new in REPLACEMENTS:
        if old not in text:
            raise ValueError(f"{SOURCE.name} has no {old!r} any more: change tests/sync/generate_groups.py with it")
        text = text.replace(old, new)
    return text.replace("\n    def _go_on(", f"{EACH}    def _go_on(")


def main() -> int:
    """Write it, or check it."""
    if "--check" in sys.argv:
        return 0 if TARGET.read_text(encoding="utf-8") == generated() else 1
    TARGET.write_text(generated(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
