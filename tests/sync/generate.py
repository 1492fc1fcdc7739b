"""Make the blocking face of channels and groups, in `mpccomm/sync/`, of the asyncio one, in `mpccomm/pool/`.

``python -m tests.sync.generate`` writes it; with ``--check`` it only says whether what is there is up to date. How calls wait is
not in these modules, but in `waiting.py` of each face, which is written by hand.
"""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mpccomm"

BOTH = (
    ("__aiter__", "__iter__"),
    ("__anext__", "__next__"),
    ("StopAsyncIteration", "StopIteration"),
    ("AsyncIterator", "Iterator"),
    (r"await asyncio\.sleep\(0\)", "pass"),
    ("async def ", "def "),
    ("await ", ""),
    (r"mpccomm\.pool\.", "mpccomm.sync."),
    (r"`Pool\.", "`SyncPool."),
    ("Messages", "SyncMessages"),
    ("Waiting", "SyncWaiting"),
    (r"Channel\b", "SyncChannel"),
    (r"Group\b", "SyncGroup"),
)
"""What differs wherever it stands."""

OWN = {
    "channel": (
        (r"import asyncio\n(from collections.abc .*\n)", r"\1from concurrent.futures import Future" + "\n"),
        (r"asyncio\.Future", "Future"),
        (
            r"(?s)        # The wait is written out: .*?\n\n",
            "        self._deliver(party, message, msg_id, limits)\n\n",
        ),
        (
            r"(?s)        value = self\._receive_now\(.*?\n\n",
            "        return self._receive(name, msg_id, timeout, expect)\n\n",
        ),
        (r"from threading import get_ident\n", ""),
        (r"from mpccomm.engine.futures import raise_error, taken, withdraw_forgotten\n", ""),
        (r"import NOT_HERE, Waiting", "import Waiting"),
        (r"`mpccomm/sync/channel.py` is made of this module.", "Made of `mpccomm/pool/channel.py`."),
    ),
    "groups": (
        ("import AsyncIterator, Awaitable, Callable, Mapping", "import Callable, Iterator, Mapping"),
        (r"Awaitable\[Any\]", "Any"),
        ("`mpccomm/sync/groups.py` is made of this module.", "Made of `mpccomm/pool/groups.py`."),
        (", for ``async for``", ""),
        (
            "Several can be under way at once, if they are begun in the same order everywhere; or take a channel for each.",
            "For protocols side by side, in several threads, take a group of a channel for each.",
        ),
        ("time limit, cancellation or an error", "time limit, Ctrl-C or an error"),
    ),
}
"""What differs in one module. These come first."""


def source(name: str) -> Path:
    """The module of the asyncio face."""
    return PACKAGE / "pool" / f"{name}.py"


def target(name: str) -> Path:
    """The module that is made of it."""
    return PACKAGE / "sync" / f"{name}.py"


def generated(name: str) -> str:
    """The text that the module of the blocking face should have."""
    text = source(name).read_text(encoding="utf-8")
    for old, new in OWN[name]:
        text, number = re.subn(old, new, text)
        if not number:
            raise ValueError(f"pool/{name}.py has no {old!r} any more: change tests/sync/generate.py with it")
    for old, new in BOTH:
        text = re.sub(rf"(?<!\w){old}", new, text)
    return text


def main() -> int:
    """Write them, or check them."""
    texts = {target(name): generated(name) for name in OWN}
    if "--check" in sys.argv:
        return int(any(path.read_text(encoding="utf-8") != text for path, text in texts.items()))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
